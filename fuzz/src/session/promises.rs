//! What must hold of the order of events, whatever a client sends.

use std::sync::Arc;

use smtp::server::{Config, Decision, Event, Offer, OfferTbr, Role};

/// What is known of a session by its events and by what was answered.
pub(super) struct Promises {
    config: Arc<Config>,
    tls: bool,
    greeted: bool,
    authenticated: bool,
    mail: Option<Mail>,
    over: bool,
}

/// A transaction that is open.
#[derive(Default)]
struct Mail {
    tried: usize,
    accepted: usize,
    content: Option<Vec<u8>>,
    /// Nothing more of the content may come.
    dropped: bool,
}

impl Promises {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { config, tls: false, greeted: false, authenticated: false, mail: None, over: false }
    }

    /// A handshake is done: all begins anew.
    pub(super) fn inside_tls(&mut self) {
        assert!(!self.tls && !self.authenticated && self.is_between());
        (self.tls, self.greeted) = (true, false);
    }

    /// What came of the content that is on its way or at its end.
    pub(super) fn content(&self) -> &[u8] {
        self.mail.as_ref().and_then(|mail| mail.content.as_deref()).unwrap_or_default()
    }

    /// The driver has refused it.
    pub(super) fn content_refused(&mut self) {
        self.open().dropped = true;
    }

    pub(super) fn note(&mut self, event: &Event) {
        assert!(!self.over, "{event:?} behind the end");
        match event {
            Event::Connect | Event::Hello { .. } => assert!(self.is_between()),
            Event::Auth(_) | Event::AuthCancelled => {
                assert!(self.tls && self.greeted && !self.authenticated && self.is_between());
            }
            Event::Mail(mail) => {
                assert!(self.greeted && self.is_between() && self.config.role != Role::OnDemand);
                assert!(self.config.role == Role::Relay || self.tls && self.authenticated, "mail of anybody");
                assert!(!mail.params.requiretls || self.tls && self.config.requiretls);
            }
            Event::Rcpt(_) => {
                let mail = self.open();
                mail.tried += 1;
                assert!(mail.content.is_none());
            }
            Event::ContentStart => {
                let mail = self.open();
                assert!(mail.accepted > 0 && mail.content.is_none(), "content for nobody");
            }
            Event::Content(octets) => {
                let mail = self.open();
                assert!(!mail.dropped && !octets.is_empty());
                mail.content.as_mut().expect("content has begun").extend_from_slice(octets);
            }
            Event::ContentDropped(_) => {
                let mail = self.open();
                assert!(mail.content.is_some() && !mail.dropped);
                mail.dropped = true;
            }
            Event::ContentEnd { octets } => self.content_end(*octets),
            Event::Offer(offer) => self.offer(offer),
            Event::Etrn(_) => assert!(self.greeted && self.is_between() && self.config.etrn),
            Event::Atrn(_) => assert!(self.tls && self.authenticated && self.config.role == Role::OnDemand),
            Event::Reset => assert!(self.mail.take().is_some(), "nothing was open"),
            Event::Quit => self.over = true,
        }
    }

    /// A content is whole, within limits, and holds no line end but CR LF.
    fn content_end(&mut self, octets: u64) {
        let limit = self.config.limits.message;
        let mail = self.open();
        let content = mail.content.as_deref().expect("content has begun");
        assert!(!mail.dropped && octets == content.len() as u64 && octets <= limit);
        assert!(has_whole_line_ends(content));
    }

    /// An offer comes where it was invited, for somebody, and what it holds is lines.
    fn offer(&mut self, offer: &Offer) {
        assert!(self.config.role == Role::Relay && (self.tls || self.config.tbr == OfferTbr::Always));
        let limit = self.config.limits.block;
        let mail = self.open();
        let accepted = offer.recipients.iter().filter(|recipient| recipient.accepted).count();
        assert!(accepted == mail.accepted && accepted > 0 && offer.recipients.len() >= mail.tried);
        assert!(mail.content.is_none() && offer.block.len() <= limit && has_whole_line_ends(&offer.block));
        let mut lines = offer.block.split_inclusive(|octet| *octet == b'\n');
        assert!(lines.all(|line| line.len() <= 1000 && line.ends_with(b"\r\n") && !line.starts_with(b".")));
    }

    pub(super) fn answered(&mut self, event: &Event, decision: &Decision) {
        let yes = matches!(decision, Decision::Accept | Decision::Queued(_));
        match event {
            Event::Hello { .. } => self.greeted |= yes,
            Event::Auth(_) => self.authenticated |= yes,
            Event::Mail(_) if yes => self.mail = Some(Mail::default()),
            Event::Rcpt(_) if yes => self.open().accepted += 1,
            Event::ContentStart if yes => self.open().content = Some(Vec::new()),
            Event::ContentEnd { .. } | Event::Offer(_) => self.mail = None,
            Event::Atrn(_) => self.over = yes,
            _ => {}
        }
    }

    /// No transaction is open. One whose content was dropped ends with it, and no event says so.
    fn is_between(&self) -> bool {
        self.mail.as_ref().is_none_or(|mail| mail.dropped)
    }

    fn open(&mut self) -> &mut Mail {
        self.mail.as_mut().expect("a transaction is open")
    }
}

fn has_whole_line_ends(octets: &[u8]) -> bool {
    let text = octets.strip_suffix(b"\r\n").unwrap_or(octets);
    let cr = text.iter().filter(|octet| **octet == b'\r').count();
    let lf = text.iter().filter(|octet| **octet == b'\n').count();
    let pairs = text.windows(2).filter(|pair| pair == b"\r\n").count();
    cr == pairs && lf == pairs
}

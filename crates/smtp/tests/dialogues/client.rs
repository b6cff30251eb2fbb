//! Plays a dialogue against a client session.

use std::time::Duration;

use bytes::Bytes;
use mail::{Address, Body, Domain, Envelope, MailParams, Recipient, Timestamp};
use smtp::client::{Action, CannotSend, Client, Config, End, Event, Fate, Outcome, Protocol, Transfer};
use smtp::command::{Etrn, HelloName, Tbr};
use smtp::secret::Secret;

use super::script::{Script, compare, escape};

struct Player<'a> {
    script: &'a Script,
    session: Client,
    now: Timestamp,
    written: Vec<u8>,
    events: Vec<String>,
    recipients: Vec<Recipient>,
    message: Option<Vec<u8>>,
    /// `idle`, `tls`, `ready`, `turned` or `closed`.
    rest: &'static str,
}

pub(crate) fn play(script: &Script, step: usize) -> Result<(), String> {
    let now = Timestamp::from_secs(1_000_000);
    let protocol = if script.setting("protocol") == Some("lmtp") { Protocol::Lmtp } else { Protocol::Smtp };
    let name = HelloName::from(&Domain::parse("a.example").unwrap());
    let session = Client::new(Config::new(name, protocol), script.is_on("tls"), now);
    let mut player = Player {
        script,
        session,
        now,
        written: Vec::new(),
        events: Vec::new(),
        recipients: Vec::new(),
        message: None,
        rest: "",
    };
    player.run(step);
    let mut steps = script.steps.iter().peekable();
    while let Some(first) = steps.peek() {
        let line = first.line;
        let (mut written, mut events) = (Vec::new(), Vec::new());
        while let Some(order) = steps.next_if(|s| matches!(s.kind, 'S' | 'O' | 'T' | '!')) {
            player.act(order.kind, &order.octets, &order.text, step);
        }
        while let Some(step) = steps.next_if(|s| matches!(s.kind, 'C' | 'E')) {
            if step.kind == 'C' { written.extend_from_slice(&step.octets) } else { events.push(step.text.clone()) }
        }
        let lines = |wire: &[u8]| escape(wire).replace("\\r\\n", "\n");
        compare(line, "commands", &lines(&player.written), &lines(&written))?;
        if script.with_events {
            compare(line, "events", &player.events.join("\n"), &events.join("\n"))?;
        }
        player.written.clear();
        player.events.clear();
        while let Some(step) = steps.next_if(|s| s.kind == '=') {
            compare(step.line, "state", player.rest, &step.text)?;
        }
    }
    Ok(())
}

impl Player<'_> {
    fn act(&mut self, kind: char, octets: &[u8], text: &str, step: usize) {
        let result = match kind {
            'S' => {
                octets.chunks(step).for_each(|piece| {
                    self.session.feed(self.now, piece);
                    self.run(step);
                });
                Ok(())
            }
            'T' => {
                self.now = self.now.after(Duration::from_secs(text.parse().expect("seconds")));
                Ok(())
            }
            '!' => {
                self.session.lost();
                Ok(())
            }
            _ => self.order(text),
        };
        if let Err(error) = result {
            self.events.push(format!("cannot {error:?}"));
        }
        self.run(step);
    }

    /// `send`, `offer`, `starttls`, `tls`, `auth`, `etrn`, `atrn`, `quit`.
    fn order(&mut self, text: &str) -> Result<(), CannotSend> {
        let now = self.now;
        match text {
            "starttls" => self.session.start_tls(now),
            "tls" => self.session.tls_established(now),
            "auth" => self.session.authenticate(now, "user", &Secret::new(self.password())),
            "quit" => self.session.quit(now),
            "atrn" => {
                let names = self.script.setting("domains").unwrap_or_default();
                let domains: Vec<_> = names.split(' ').filter_map(|name| Domain::parse(name).ok()).collect();
                self.session.atrn(now, &domains)
            }
            "etrn" => self.session.etrn(now, &Etrn::Subdomains(Domain::parse("site.example").unwrap())),
            "send" => {
                let message = unescaped(self.script.setting("message").unwrap_or("Subject: x\\r\\n\\r\\ntext\\r\\n"));
                let octets = message.len() as u64;
                self.message = Some(message);
                self.begin(Transfer::Value { octets })
            }
            "offer" => {
                let line = Tbr::parse("0 https://tbr.a.example/.well-known/tbr/m?XUID=x&RCPT=y").unwrap();
                let block = unescaped(self.script.setting("block").unwrap_or("TBR-Reference: v=1\\r\\n"));
                self.begin(Transfer::Offer { line, block: Bytes::from(block) })
            }
            other => panic!("unknown order {other}"),
        }
    }

    fn password(&self) -> Vec<u8> {
        b"pass".repeat(self.script.number("password-times").unwrap_or(1))
    }

    fn begin(&mut self, transfer: Transfer) -> Result<(), CannotSend> {
        let script = self.script;
        let address = |text: &str| Address::parse(text).unwrap();
        let to = script.setting("to").unwrap_or("b@b.example");
        self.recipients =
            if to == "-" { Vec::new() } else { to.split(' ').map(address).map(Recipient::plain).collect() };
        if let Some(recipient) = self.recipients.first_mut() {
            recipient.orcpt = script.setting("orcpt").map(str::to_owned);
        }
        let params = MailParams {
            body: if script.is_on("8bit") { Body::EightBit } else { Body::SevenBit },
            smtputf8: script.is_on("smtputf8"),
            requiretls: script.is_on("requiretls"),
            envid: script.setting("envid").map(|e| String::from_utf8(unescaped(e)).unwrap()),
            ..MailParams::default()
        };
        let mail_from = match script.setting("from").unwrap_or("x@a.example") {
            "<>" => None,
            sender => Some(address(sender)),
        };
        let envelope = Envelope { mail_from, params, recipients: self.recipients.clone() };
        self.session.begin(self.now, &envelope, transfer)
    }

    fn run(&mut self, step: usize) {
        loop {
            match self.session.next_action(self.now) {
                Action::Write(octets) => self.written.extend_from_slice(&octets),
                Action::Event(event) => self.event(&event),
                Action::Content if self.script.is_on("stall") => return self.rest = "content",
                Action::Content => {
                    for chunk in self.message.take().unwrap_or_default().chunks(step) {
                        self.session.content(Bytes::copy_from_slice(chunk));
                    }
                    self.session.content_end(self.now);
                }
                Action::Ready => return self.rest = "ready",
                Action::StartTls => return self.rest = "tls",
                Action::Idle { .. } => return self.rest = "idle",
                Action::Turn => return self.rest = "turned",
                Action::Close => return self.rest = "closed",
            }
        }
    }

    fn event(&mut self, event: &Event) {
        let text = match event {
            Event::Hello(capabilities) => {
                let reply = capabilities.to_reply(&Domain::parse("hello").unwrap());
                reply.lines().collect::<Vec<_>>().join(", ")
            }
            Event::TlsRefused(reply) => format!("tls refused: {reply}"),
            Event::Authenticated(reply) => format!("authenticated: {reply}"),
            Event::AuthRefused(reply) => format!("auth refused: {reply}"),
            Event::Atrn(reply) => format!("atrn: {reply}"),
            Event::Etrn(reply) => format!("etrn: {reply}"),
            Event::Done(outcome) => return self.done(outcome),
            Event::Ended(End::Quit) => "ended: quit".to_owned(),
            Event::Ended(End::Refused(reply)) => format!("ended: refused: {reply}"),
            Event::Ended(End::Closing(reply)) => format!("ended: closing: {reply}"),
            Event::Ended(End::Lost(lost)) => format!("ended: {lost}"),
        };
        self.events.push(text);
    }

    fn done(&mut self, outcome: &Outcome) {
        assert_eq!(outcome.fates.len(), self.recipients.len());
        for (recipient, fate) in self.recipients.iter().zip(&outcome.fates) {
            let fate = match fate {
                Fate::Accepted(reply) => format!("accepted: {reply}"),
                Fate::Temporary(refusal) => format!("temporary at {:?}: {}", refusal.stage, refusal.reply),
                Fate::Permanent(refusal) => format!("permanent at {:?}: {}", refusal.stage, refusal.reply),
                Fate::NotSent(lost) => format!("not sent: {lost}"),
                Fate::Unknown(lost) => format!("unknown: {lost}"),
            };
            self.events.push(format!("{} {fate}", recipient.address));
        }
    }
}

/// Escapes in a setting.
fn unescaped(text: &str) -> Vec<u8> {
    Script::parse(&format!("C~ {text}")).steps.remove(0).octets
}

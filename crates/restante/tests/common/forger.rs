//! Who makes references up, and somebody innocent whom they could lead to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mail::{Address, Domain, Grant, ReferenceId, Xuid};
use reference::{RecipientsHash, SigningKey, Statement, Uri};
use testbed::peers::Restante;
use testbed::{Host, Record, Sandbox};

use super::now::{now, rand};
use super::talk::say;

/// Somebody who has nothing to do with any of it, and counts who knocks.
pub(crate) struct Innocent {
    pub(crate) host: Host,
    knocks: Arc<AtomicUsize>,
}

impl Innocent {
    /// At ports 25 and 443 of a host of its own.
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let host = sandbox.host("innocent.example", &[]).unwrap();
        let knocks = Arc::new(AtomicUsize::new(0));
        for port in [25, 443] {
            let (listener, knocks) = (host.listen(port).unwrap(), Arc::clone(&knocks));
            thread::spawn(move || {
                for _ in listener.incoming() {
                    knocks.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { host, knocks }
    }

    /// Makes a name lead here.
    pub(crate) fn answers_to(&self, sandbox: &Sandbox, name: &str) {
        sandbox.publish(&[Record::Host(name.to_owned(), self.host.ipv4(), self.host.ipv6())]).unwrap();
    }

    /// Nobody has knocked.
    pub(crate) fn assert_left_alone(&self) {
        assert_eq!(self.knocks.load(Ordering::SeqCst), 0, "connections to somebody who has not consented");
    }
}

/// Who makes references up: what they say, and whose key signs.
pub(crate) struct Forger<'a> {
    pub(crate) host: Host,
    pub(crate) server: &'a Restante,
}

/// One made-up reference.
#[derive(Clone, Copy)]
pub(crate) struct Forgery<'a> {
    pub(crate) domain: &'a str,
    pub(crate) selector: &'a str,
    pub(crate) key: &'a SigningKey,
    pub(crate) host: &'a str,
    /// Whom it was signed for.
    pub(crate) signed_for: &'a str,
    /// Whom it is sent to.
    pub(crate) sent_to: &'a str,
    /// When it was signed, before now.
    pub(crate) age: Duration,
    /// How long it counts from then on.
    pub(crate) lifetime: Duration,
}

impl Forger<'_> {
    /// The reply to the offer.
    pub(crate) fn offer(&self, forgery: &Forgery<'_>) -> String {
        let (sender, block) = (format!("alice@{}", forgery.domain), offer(forgery));
        let rcpt = format!("RCPT TO:<{}>\r\n", forgery.sent_to);
        say(&self.host, self.server, &["EHLO mx.x.example\r\n", &format!("MAIL FROM:<{sender}>\r\n"), &rcpt, &block])
    }
}

/// The TBR line with its block.
fn offer(forgery: &Forgery<'_>) -> String {
    let (id, grant) = (ReferenceId(rand()), Grant::new(&rand()).unwrap());
    let issued = now().before(forgery.age);
    let recipient: Address = forgery.signed_for.parse().unwrap();
    let xuid = Xuid::of(b"From: x\r\n\r\nforged\r\n");
    let statement = Statement {
        domain: forgery.domain.parse().unwrap(),
        selector: forgery.selector.parse().unwrap(),
        algorithm: forgery.key.algorithm(),
        id,
        xuid,
        size: 19,
        issued,
        expires: issued.after(forgery.lifetime),
        to: recipient.domain().unwrap(),
        mail_from: Some(format!("alice@{}", forgery.domain).parse().unwrap()),
        recipients: RecipientsHash::compute(&grant, &id, &[recipient]),
    };
    let uri = Uri { host: Domain::parse(forgery.host).unwrap(), xuid, grant };
    format!("TBR 0 {}\r\n{}.\r\n", uri.reveal(), statement.sign(forgery.key).unwrap().encode())
}

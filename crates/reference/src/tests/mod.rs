//! Tests that need more than one module, and the small world they play in: a.example sends to b.example, which relays
//! to c.example. Keys come from fixed seeds, so that every octet is the same in every run.

mod chain;
mod claims;
mod grammar;
mod keys;
mod message_signature;
mod offer;
mod properties;
mod reference;
mod stored;
mod vectors;

use mail::{Address, Domain, Grant, ReferenceId, Timestamp, Xuid};

use crate::hop::{Chain, HopMode, HopStatement, Link};
use crate::keys::{Assurance, DomainFacts, KeyRecord, MIN_MAX_AGE};
use crate::recipients::RecipientsHash;
use crate::reference::{Reference, Statement};
use crate::sign::{Algorithm, SigningKey};
use crate::uri::Uri;
use crate::verify::{Outcome, Parsed, Receiver, Refusal, Session, Verified};

/// When everything happens: 2027-01-15T08:00:00Z.
const NOW: u64 = 1_800_000_000;

const OBJECT: &str = "From: Alice <alice@a.example>\r\n\
To: Bob <bob@b.example>\r\n\
Subject: Poste restante\r\n\
Date: Fri, 15 Jan 2027 07:43:20 +0000\r\n\
Message-ID: <1@a.example>\r\n\
\r\n\
Collect it at the counter.\r\n\
.A line that begins with a dot.\r\n";

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().map(|t| address(t)).collect()
}

fn secs(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// The signing key of a domain: its seed repeats the domain's first letter 32 times.
fn key_of(name: &str) -> SigningKey {
    SigningKey::from_seed(&[name.as_bytes()[0]; 32]).unwrap()
}

/// What a domain publishes: one key `k1`, good from a day before to a year after, and its default host.
fn facts_of(name: &str) -> DomainFacts {
    let key = key_of(name).verifying_key();
    DomainFacts {
        domain: domain(name),
        repo: vec![domain(&format!("tbr.{name}"))],
        sub: false,
        keys: vec![KeyRecord::active("k1".parse().unwrap(), key, secs(NOW - 86_400), secs(NOW + 31_536_000))],
        max_age: MIN_MAX_AGE,
    }
}

fn grant() -> Grant {
    Grant::new(&[0x47; 16]).unwrap()
}

fn uri_at(host: &str) -> Uri {
    Uri { host: domain(host), xuid: Xuid::of(OBJECT.as_bytes()), grant: grant() }
}

/// alice@a.example's message for these recipients in b.example, issued 1000 s ago for five days.
fn statement_for(recipients: &[Address]) -> Statement {
    let id = ReferenceId([0x49; 16]);
    Statement {
        domain: domain("a.example"),
        selector: "k1".parse().unwrap(),
        algorithm: Algorithm::Ed25519,
        id,
        xuid: Xuid::of(OBJECT.as_bytes()),
        size: OBJECT.len() as u64,
        issued: secs(NOW - 1000),
        expires: secs(NOW - 1000 + 432_000),
        to: domain("b.example"),
        mail_from: Some(address("alice@a.example")),
        recipients: RecipientsHash::compute(&grant(), &id, recipients),
    }
}

fn reference_for(recipients: &[Address]) -> Reference {
    statement_for(recipients).sign(&key_of("a.example")).unwrap()
}

fn reference() -> Reference {
    reference_for(&addresses(&["bob@b.example"]))
}

/// The statement of a relay at the domain that `below` names, passing on to another.
fn hop_over(below: Link<'_>, number: u16, to: &str, mode: HopMode, recipients: &[Address]) -> HopStatement {
    let id = ReferenceId([0x50 + number as u8; 16]);
    let hash = match &mode {
        HopMode::Value(opener) => RecipientsHash::compute_opened(opener, &id, recipients),
        _ => RecipientsHash::compute(&grant(), &id, recipients),
    };
    HopStatement {
        number,
        domain: below.to().clone(),
        selector: "k1".parse().unwrap(),
        algorithm: Algorithm::Ed25519,
        id,
        previous: below.signature_hash(),
        to: domain(to),
        mail_from: below.mail_from().cloned(),
        recipients: hash,
        mode,
        issued: secs(NOW - 1000 + u64::from(number) * 100),
        expires: secs(NOW - 1000 + 432_000 + u64::from(number) * 100),
    }
}

/// a.example's reference for b.example, passed on by b.example to carol@c.example.
fn relayed(mode: HopMode) -> Chain {
    let reference = reference();
    let recipients = addresses(&["carol@c.example"]);
    let hop = hop_over(Link::Reference(&reference), 1, "c.example", mode, &recipients);
    let hop = hop.sign(&key_of("b.example")).unwrap();
    Chain::new(vec![hop], reference).unwrap()
}

/// One offer as it comes in, and everything that it is judged by. Tests change one thing of it.
#[derive(Clone)]
struct Offer {
    line: String,
    block: String,
    mail_from: Option<Address>,
    recipients: Vec<Address>,
    now: u64,
    max_size: u64,
    ours: String,
    facts: Vec<DomainFacts>,
    consents: bool,
}

impl Offer {
    fn good() -> Self {
        Self::of(reference(), &uri_at("tbr.a.example"), &["bob@b.example"])
    }

    fn of(reference: Reference, uri: &Uri, recipients: &[&str]) -> Self {
        Self {
            line: format!("0 {}", uri.reveal()),
            block: reference.encode(),
            mail_from: reference.statement().mail_from.clone(),
            recipients: addresses(recipients),
            now: NOW,
            max_size: 10_000_000,
            ours: reference.statement().to.to_string(),
            facts: vec![facts_of("a.example")],
            consents: false,
        }
    }

    /// With another statement, signed anew.
    fn stating(change: impl FnOnce(&mut Statement)) -> Self {
        let mut statement = statement_for(&addresses(&["bob@b.example"]));
        change(&mut statement);
        Self::of(statement.sign(&key_of("a.example")).unwrap(), &uri_at("tbr.a.example"), &["bob@b.example"])
    }

    fn relayed(mode: HopMode, host: &str) -> Self {
        let chain = relayed(mode);
        Self {
            line: format!("1 {}", uri_at(host).reveal()),
            block: chain.encode(),
            ours: "c.example".to_owned(),
            recipients: addresses(&["carol@c.example"]),
            facts: vec![facts_of("b.example"), facts_of("a.example")],
            ..Self::good()
        }
    }

    /// By custody, in a hop that was made shortly before `now` and lives for a day more.
    fn renewed(now: u64) -> Self {
        let mut statement = statement_for(&addresses(&["bob@b.example"]));
        statement.expires = secs(NOW - 1000 + 30 * 86_400);
        let reference = statement.sign(&key_of("a.example")).unwrap();
        let (host, carol) = (domain("tbr.b.example"), addresses(&["carol@c.example"]));
        let mode = HopMode::Custody(host.clone());
        let mut hop = hop_over(Link::Reference(&reference), 1, "c.example", mode.clone(), &carol);
        (hop.issued, hop.expires) = (secs(now - 1000), secs(now + 86_400));
        let chain = Chain::new(vec![hop.sign(&key_of("b.example")).unwrap()], reference).unwrap();
        Self { block: chain.encode(), now, ..Self::relayed(mode, host.as_str()) }
    }

    fn judge(&self) -> Result<Verified, Refusal> {
        let ours = domain(&self.ours);
        let is_ours = |d: &Domain| *d == ours;
        let receiver = Receiver { now: secs(self.now), max_size: self.max_size, is_ours: &is_ours };
        let session = Session { mail_from: self.mail_from.as_ref(), recipients: &self.recipients };
        let matched = Parsed::new(&self.line, self.block.as_bytes())?.match_session(&session, &receiver)?;
        let known = |d: &Domain| self.facts.iter().find(|f| f.domain == *d).map(|f| (f, Assurance::Webpki));
        match matched.verify_with(&known)? {
            Outcome::Verified(verified) => Ok(verified),
            Outcome::NeedsConsent(consent) => consent.answer(self.consents),
        }
    }

    fn refusal(&self) -> Refusal {
        self.judge().unwrap_err()
    }
}

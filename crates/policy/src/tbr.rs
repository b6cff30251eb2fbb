//! The method `tbr` of Authentication-Results (TBR §9): what a reference, or a field under which a message came by value,
//! says of who sent it.
//!
//! `pass` always means: this session, unexpired, never accepted before. A copy that came otherwise is `none (object
//! intact)` at best, so that a genuine message replayed to strangers is not authenticated mail, and a spammer's relay does
//! not launder it. Signatures, sessions and the memory of what was accepted come in as facts.

use std::fmt;

use mail::Domain;
use reference::{Assurance, Chain, Hop, HopMode, HopStatement, SignatureVerdict};
use serde::{Deserialize, Serialize};

/// What is said of an object whose origin, or whose way, is not vouched for.
pub const OBJECT_INTACT: &str = "object intact";

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TbrResult {
    /// In a word.
    pub verdict: TbrVerdict,
    /// Whom it is about (`header.d`); nothing where the field could not be read.
    pub domain: Option<Domain>,
    /// How sure it is that the keys are that domain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<Assurance>,
    /// A few words, for the comment; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Others brought it here, each of whom this origin has let pass it on by reference: SPF cannot know their servers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delegated: bool,
}

/// The results that TBR §9.1 names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TbrVerdict {
    /// The domain sent this message to these recipients.
    Pass,
    /// It did not.
    Fail,
    /// Its keys were not to be had.
    TempError,
    /// The fields cannot be read.
    PermError,
    /// Nothing follows.
    None,
}

impl fmt::Display for TbrVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
            Self::None => "none",
        })
    }
}

impl TbrResult {
    fn new(verdict: TbrVerdict, domain: &Domain, assurance: Option<Assurance>, comment: &str) -> Self {
        Self { verdict, domain: Some(domain.clone()), assurance, comment: comment.to_owned(), delegated: false }
    }

    /// The recipient domain's own custodian took it by value, and says so with the domain's key (TBR §7.4): whose it is, its
    /// own results tell.
    pub fn by_value_before(domain: &Domain) -> Self {
        Self::new(TbrVerdict::None, domain, None, "by value to its custodian")
    }

    /// Fields that cannot be read.
    pub fn unreadable(comment: impl Into<String>) -> Self {
        let comment = comment.into();
        Self { verdict: TbrVerdict::PermError, domain: None, assurance: None, comment, delegated: false }
    }
}

/// Results for a verified offer whose object has been checked. It came to these recipients, unexpired, and the ledger knows
/// it by (`d`, `i`), so it is accepted once.
///
/// The origin is named where it delegated every hop; under a custodian it is the custodian who vouches, and the origin passes only
/// where local policy trusts every relay. `origin`: what the origin's signature was found to be, if it was looked at.
pub fn by_reference(
    chain: &Chain,
    assurance: Assurance,
    origin: SignatureVerdict,
    trusted: &[Domain],
) -> Vec<TbrResult> {
    let level = Some(assurance);
    let from = &chain.reference().statement().domain;
    if chain.only_delegated() {
        let delegated = !chain.hops().is_empty();
        return vec![TbrResult { delegated, ..TbrResult::new(TbrVerdict::Pass, from, level, "") }];
    }
    let origin = match origin {
        SignatureVerdict::Valid if are_trusted(chain, trusted) => through_trusted(from),
        other => of_origin(from, other),
    };
    vec![TbrResult::new(TbrVerdict::Pass, chain.topmost().domain(), level, ""), origin]
}

/// Does local policy trust every relay on the way (TBR §9)? A domain always trusts itself: its backup exchanger passes on what came while
/// the others were away.
fn are_trusted(chain: &Chain, trusted: &[Domain]) -> bool {
    let is_trusted = |hop: &Hop| {
        let HopStatement { domain, to, .. } = hop.statement();
        domain == to || trusted.contains(domain)
    };
    !chain.hops().is_empty() && chain.hops().iter().all(is_trusted)
}

fn through_trusted(origin: &Domain) -> TbrResult {
    TbrResult::new(TbrVerdict::Pass, origin, None, "through trusted relays")
}

/// What is known of a message that came by value with a reference on top of it.
#[derive(Debug, Clone, Copy)]
pub struct ByValue<'a> {
    /// The topmost fields.
    pub chain: &'a Chain,
    /// Is what stands below them what the origin named?
    pub object_intact: bool,
    /// Does the topmost field cover this sender and recipient, unexpired (`reference::judge::sent_by_value_to`)?
    pub matches_session: bool,
    /// Was (topmost `d`, `i`, recipient) accepted before? `true` where nobody remembers.
    pub accepted_before: bool,
    /// The topmost field's signature.
    pub topmost: SignatureVerdict,
    /// The origin's; the same where no hop stands above.
    pub origin: SignatureVerdict,
    /// How sure the topmost field's keys are.
    pub assurance: Option<Assurance>,
    /// The relays that local policy trusts.
    pub trusted: &'a [Domain],
}

/// Results for a message that came by value under a reference.
pub fn by_value(facts: &ByValue<'_>) -> Vec<TbrResult> {
    let from = &facts.chain.reference().statement().domain;
    if !facts.object_intact {
        return vec![TbrResult::new(TbrVerdict::Fail, from, None, "object changed")];
    }
    let topmost = facts.chain.topmost();
    let Some(HopMode::Value(_)) = topmost.mode() else {
        return vec![of_origin(from, facts.origin)];
    };
    let relay = match facts.topmost {
        SignatureVerdict::Valid if facts.matches_session && !facts.accepted_before => {
            TbrResult::new(TbrVerdict::Pass, topmost.domain(), facts.assurance, "")
        }
        other => of_origin(topmost.domain(), other),
    };
    let vouched = relay.verdict == TbrVerdict::Pass && are_trusted(facts.chain, facts.trusted);
    let origin = match facts.origin {
        SignatureVerdict::Valid if vouched => through_trusted(from),
        other => of_origin(from, other),
    };
    vec![relay, origin]
}

/// A field that is not this session's: good at most for saying that the object is what it was.
fn of_origin(domain: &Domain, signature: SignatureVerdict) -> TbrResult {
    match signature {
        SignatureVerdict::Valid => TbrResult::new(TbrVerdict::None, domain, None, OBJECT_INTACT),
        SignatureVerdict::Unknown => TbrResult::new(TbrVerdict::TempError, domain, None, "no key to be had"),
        SignatureVerdict::Invalid => TbrResult::new(TbrVerdict::Fail, domain, None, "bad signature"),
        SignatureVerdict::OutsideWindow => TbrResult::new(TbrVerdict::Fail, domain, None, "key not valid then"),
        SignatureVerdict::Revoked => TbrResult::new(TbrVerdict::Fail, domain, None, "key revoked"),
    }
}

#[cfg(test)]
mod tests {
    use mail::{Address, Grant, ReferenceId, Timestamp, Xuid};
    use reference::judge::sent_by_value_to;
    use reference::{Algorithm, RecipientsHash, Reference, Session, SigningKey, Statement};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const OPENER: [u8; 16] = [9; 16];

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::from_seed(&[1; 32]).unwrap()
    }

    fn reference() -> Reference {
        let (id, grant) = (ReferenceId([1; 16]), Grant::new(&[2; 16]).unwrap());
        let statement = Statement {
            domain: domain("a.example"),
            selector: "k1".parse().unwrap(),
            algorithm: Algorithm::Ed25519,
            id,
            xuid: Xuid::of(b"A: b\r\n"),
            size: 6,
            issued: Timestamp::from_secs(NOW),
            expires: Timestamp::from_secs(NOW + 1000),
            to: domain("b.example"),
            mail_from: Some(address("alice@a.example")),
            recipients: RecipientsHash::compute(&grant, &id, &[address("bob@b.example")]),
        };
        statement.sign(&key()).unwrap()
    }

    /// b.example passes it on to carol@c.example.
    fn relayed(mode: HopMode) -> Chain {
        let below = reference();
        let id = ReferenceId([3; 16]);
        let recipients = match &mode {
            HopMode::Value(opener) => RecipientsHash::compute_opened(opener, &id, &[address("carol@c.example")]),
            _ => RecipientsHash::compute(&Grant::new(&[4; 16]).unwrap(), &id, &[address("carol@c.example")]),
        };
        let statement = HopStatement {
            number: 1,
            domain: domain("b.example"),
            selector: "k1".parse().unwrap(),
            algorithm: Algorithm::Ed25519,
            id,
            previous: reference::Link::Reference(&below).signature_hash(),
            to: domain("c.example"),
            mail_from: below.statement().mail_from.clone(),
            recipients,
            mode,
            issued: Timestamp::from_secs(NOW + 10),
            expires: Timestamp::from_secs(NOW + 1000),
        };
        Chain::new(vec![statement.sign(&key()).unwrap()], below).unwrap()
    }

    fn said(results: &[TbrResult]) -> Vec<String> {
        let text = |r: &TbrResult| {
            let domain = r.domain.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{} {domain} {}", r.verdict, r.comment).trim_end().to_owned()
        };
        results.iter().map(text).collect()
    }

    #[test]
    fn the_origin_is_named_where_it_delegated_every_hop() {
        let direct = Chain::new(Vec::new(), reference()).unwrap();
        let valid = SignatureVerdict::Valid;
        let by_reference = |chain: &Chain, level, origin| by_reference(chain, level, origin, &[]);
        assert_eq!(said(&by_reference(&direct, Assurance::Webpki, valid)), ["pass a.example"]);
        assert!(!by_reference(&direct, Assurance::Webpki, valid)[0].delegated);
        let delegated = relayed(HopMode::Reference);
        assert_eq!(said(&by_reference(&delegated, Assurance::Webpki, valid)), ["pass a.example"]);
        assert!(by_reference(&delegated, Assurance::Webpki, valid)[0].delegated);
        let custody = relayed(HopMode::Custody(domain("tbr.b.example")));
        let results = by_reference(&custody, Assurance::Dnssec, valid);
        assert_eq!(said(&results), ["pass b.example", "none a.example object intact"]);
        // The origin may be gone: that is no reason to refuse.
        let results = by_reference(&custody, Assurance::Dnssec, SignatureVerdict::Unknown);
        assert_eq!(said(&results), ["pass b.example", "temperror a.example no key to be had"]);
    }

    fn judged(chain: &Chain, recipients: &[&str], now: u64, change: impl FnOnce(&mut ByValue<'_>)) -> Vec<String> {
        let sender = address("alice@a.example");
        let recipients: Vec<Address> = recipients.iter().map(|text| address(text)).collect();
        let session = Session { mail_from: Some(&sender), recipients: &recipients };
        let mut facts = ByValue {
            chain,
            object_intact: true,
            matches_session: sent_by_value_to(chain, &session, Timestamp::from_secs(now)),
            accepted_before: false,
            topmost: SignatureVerdict::Valid,
            origin: SignatureVerdict::Valid,
            assurance: Some(Assurance::Webpki),
            trusted: &[],
        };
        change(&mut facts);
        said(&by_value(&facts))
    }

    #[test]
    fn a_genuine_message_replayed_to_strangers_is_never_pass() {
        let intact = ["none b.example object intact", "none a.example object intact"];
        let chain = relayed(HopMode::Value(OPENER));
        let pass = ["pass b.example", "none a.example object intact"];
        assert_eq!(judged(&chain, &["carol@c.example"], NOW + 20, |_| {}), pass);
        assert_eq!(judged(&chain, &["stranger@c.example"], NOW + 20, |_| {}), intact);
        assert_eq!(judged(&chain, &["carol@c.example", "stranger@c.example"], NOW + 20, |_| {}), intact);
        assert_eq!(judged(&chain, &["carol@c.example"], NOW + 1000, |_| {}), intact, "expired");
        assert_eq!(judged(&chain, &["carol@c.example"], NOW + 20, |facts| facts.accepted_before = true), intact);
        // The fields of a mailbox copy, or of an offer, say nothing of this session at all.
        let direct = Chain::new(Vec::new(), reference()).unwrap();
        assert_eq!(judged(&direct, &["bob@b.example"], NOW + 20, |_| {}), ["none a.example object intact"]);
        let custody = relayed(HopMode::Custody(domain("tbr.b.example")));
        assert_eq!(judged(&custody, &["carol@c.example"], NOW + 20, |_| {}), ["none a.example object intact"]);
        let delegated = relayed(HopMode::Reference);
        for to in ["carol@c.example", "stranger@c.example"] {
            assert_eq!(judged(&delegated, &[to], NOW + 20, |_| {}), ["none a.example object intact"], "{to}");
        }
    }

    #[test]
    fn the_origin_passes_under_relays_that_are_all_trusted_and_under_no_others() {
        let (trusts, others) = ([domain("b.example")], [domain("c.example")]);
        let custody = relayed(HopMode::Custody(domain("tbr.b.example")));
        let by = |origin, trusted: &[Domain]| said(&by_reference(&custody, Assurance::Webpki, origin, trusted));
        let through = "pass a.example through trusted relays";
        assert_eq!(by(SignatureVerdict::Valid, &trusts), ["pass b.example", through]);
        assert_eq!(by(SignatureVerdict::Valid, &others)[1], "none a.example object intact");
        assert_eq!(by(SignatureVerdict::Unknown, &trusts)[1], "temperror a.example no key to be had");
        assert_eq!(by(SignatureVerdict::Invalid, &trusts)[1], "fail a.example bad signature");
        let value = relayed(HopMode::Value(OPENER));
        let by_value = |trusted: &'static [Domain], to: &str, before| {
            judged(&value, &[to], NOW + 20, |facts| (facts.trusted, facts.accepted_before) = (trusted, before))
        };
        let trusts: &'static [Domain] = Vec::leak(trusts.to_vec());
        assert_eq!(by_value(trusts, "carol@c.example", false), ["pass b.example", through]);
        // A copy that a trusted relay once sent to others is theirs.
        assert_eq!(by_value(trusts, "stranger@c.example", false)[1], "none a.example object intact");
        assert_eq!(by_value(trusts, "carol@c.example", true)[1], "none a.example object intact");
    }

    #[test]
    fn what_was_changed_or_made_up_fails() {
        let chain = relayed(HopMode::Value(OPENER));
        let with = |change: fn(&mut ByValue<'_>)| judged(&chain, &["carol@c.example"], NOW + 20, change);
        assert_eq!(with(|facts| facts.object_intact = false), ["fail a.example object changed"]);
        assert_eq!(with(|facts| facts.topmost = SignatureVerdict::Invalid)[0], "fail b.example bad signature");
        assert_eq!(with(|facts| facts.topmost = SignatureVerdict::Unknown)[0], "temperror b.example no key to be had");
        assert_eq!(with(|facts| facts.origin = SignatureVerdict::Invalid)[1], "fail a.example bad signature");
    }
}

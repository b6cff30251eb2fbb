//! The one decision: take, take with a mark, defer or refuse, and why.
//!
//! Asked twice for each message with the same rules: when the session is known (at RCPT), and when the content is. The
//! order of the checks is the order of the lines of [`decide`]; the first that objects is the reason. What evidence means by
//! itself is in `evidence`; who carries the decision out is `restante`.

use std::fmt;

use mail::{Domain, EnhancedStatus};

use crate::evidence::{
    ContentEvidence, DmarcPolicy, Evidence, ListKind, NoAuthor, SessionEvidence, SpfVerdict, Verdict, are_aligned,
};
use crate::tbr::{TbrResult, TbrVerdict};

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// SPF says `fail`.
    pub spf_fail: Response,
    /// The client has no name that leads back to it.
    pub no_reverse_name: Response,
    /// Nobody can say who wrote it.
    pub no_author: Response,
    /// DMARC fails and the domain asks for refusal.
    pub dmarc_reject: Response,
    /// DMARC fails and the domain asks for quarantine.
    pub dmarc_quarantine: Response,
    /// Domains that are believed where DMARC fails: mailing lists and forwarders, by their ARC seals and their hops (TBR §9).
    pub trusted_sealers: Vec<Domain>,
    /// Senders below this are refused; nothing: nobody is.
    pub least_reputation: Option<i32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            spf_fail: Response::Mark,
            no_reverse_name: Response::Mark,
            no_author: Response::Refuse,
            dmarc_reject: Response::Refuse,
            dmarc_quarantine: Response::Mark,
            trusted_sealers: Vec::new(),
            least_reputation: None,
        }
    }
}

/// What to do about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// Take the message; the finding stands in its Authentication-Results.
    Mark,
    /// Refuse it.
    Refuse,
}

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is taken.
    Accept,
    /// It is taken and marked as suspicious.
    Mark,
    /// It is refused for good.
    Refuse,
}

/// A decision, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the message.
    pub disposition: Disposition,
    /// Why. Displays as one plain sentence.
    pub reason: Reason,
}

impl Decision {
    fn new(disposition: Disposition, reason: Reason) -> Self {
        Self { disposition, reason }
    }

    /// Is it refused?
    pub fn is_refusal(&self) -> bool {
        self.disposition == Disposition::Refuse
    }
}

/// Why a message fared as it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nothing speaks against it.
    Clean,
    /// A list vouches for the client.
    AllowListed(Domain),
    /// A list names the client.
    BlockListed(Domain),
    /// SPF.
    SpfFail(String),
    /// Reverse DNS.
    NoReverseName,
    /// Reputation.
    Reputation(i32),
    /// From is missing, doubled, or cannot be read, so that no domain can be asked about the message.
    NoAuthor(NoAuthor),
    /// DMARC fails, and the domain of From asks for refusal.
    DmarcReject(String),
    /// DMARC fails, and the domain of From asks for quarantine.
    DmarcQuarantine(String),
    /// DMARC fails, but a trusted domain has sealed what it was before.
    TrustedSealer(Domain),
    /// DMARC fails, but the domain of From has signed the message, and only trusted domains passed it on.
    TrustedRelays(Domain),
    /// DMARC fails, but the domain of From has signed the message, and has let those who passed it on do so.
    Delegated(Domain),
}

impl Reason {
    /// Its name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::AllowListed(_) => "allow-listed",
            Self::BlockListed(_) => "block-listed",
            Self::SpfFail(_) => "spf-fail",
            Self::NoReverseName => "no-reverse-name",
            Self::Reputation(_) => "reputation",
            Self::NoAuthor(_) => "no-author",
            Self::DmarcReject(_) => "dmarc-reject",
            Self::DmarcQuarantine(_) => "dmarc-quarantine",
            Self::TrustedSealer(_) => "trusted-sealer",
            Self::TrustedRelays(_) => "trusted-relays",
            Self::Delegated(_) => "delegated",
        }
    }

    /// The enhanced status of a refusal (RFC 3463, RFC 7372).
    pub fn status(&self) -> EnhancedStatus {
        match self {
            Self::SpfFail(_) => EnhancedStatus::permanent(7, 23),
            Self::NoReverseName => EnhancedStatus::permanent(7, 25),
            _ => EnhancedStatus::permanent(7, 1),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("nothing speaks against it"),
            Self::AllowListed(zone) => write!(f, "{zone} vouches for this server"),
            Self::BlockListed(zone) => write!(f, "this server's address is listed by {zone}"),
            Self::SpfFail(domain) => write!(f, "{domain} does not let this server send its mail (SPF)"),
            Self::NoReverseName => f.write_str("this server's address has no name that leads back to it"),
            Self::Reputation(_) => f.write_str("mail of this sender has not been welcome here"),
            Self::NoAuthor(why) => write!(f, "nobody can say who wrote this: {why}"),
            Self::DmarcReject(domain) => {
                write!(
                    f,
                    "neither SPF nor DKIM shows that this is from {domain}, which asks to refuse such mail (DMARC)"
                )
            }
            Self::DmarcQuarantine(domain) => {
                write!(
                    f,
                    "neither SPF nor DKIM shows that this is from {domain}, which asks to suspect such mail (DMARC)"
                )
            }
            Self::TrustedSealer(domain) => write!(f, "{domain}, which is trusted, has sealed what it was before (ARC)"),
            Self::TrustedRelays(domain) => write!(f, "{domain} signed it, and trusted relays passed it on (TBR)"),
            Self::Delegated(domain) => write!(f, "{domain} signed it, and let others pass it on (TBR)"),
        }
    }
}

/// Decides on what is known so far.
pub fn decide(evidence: &Evidence, rules: &Rules) -> Decision {
    let client = judge_client(&evidence.session, rules);
    if client.is_refusal() {
        return client;
    }
    let content = evidence.content.as_ref().and_then(|content| judge_content(content, evidence, rules));
    content.unwrap_or(client)
}

fn judge_client(session: &SessionEvidence, rules: &Rules) -> Decision {
    let on = |kind: ListKind| session.listings.iter().find(|listing| listing.kind == kind);
    let spf = session.spf.as_ref().filter(|spf| spf.verdict == SpfVerdict::Fail);
    if let Some(spf) = spf.filter(|_| rules.spf_fail == Response::Refuse) {
        return Decision::new(Disposition::Refuse, Reason::SpfFail(spf.domain.clone()));
    }
    // From here on it is about the client as such, for which a list may vouch.
    if let Some(listing) = on(ListKind::Allow) {
        return Decision::new(Disposition::Accept, Reason::AllowListed(listing.zone.clone()));
    }
    if let Some(listing) = on(ListKind::Block) {
        return Decision::new(Disposition::Refuse, Reason::BlockListed(listing.zone.clone()));
    }
    let nameless = matches!(session.reverse.verdict, Verdict::Fail | Verdict::PermError);
    if nameless && rules.no_reverse_name == Response::Refuse {
        return Decision::new(Disposition::Refuse, Reason::NoReverseName);
    }
    match (session.reputation, rules.least_reputation) {
        (Some(found), Some(least)) if found < least => Decision::new(Disposition::Refuse, Reason::Reputation(found)),
        _ => Decision::new(Disposition::Accept, Reason::Clean),
    }
}

/// A message without an author is nobody's: the domain that its readers take it for is not asked (RFC 7489 §6.6.1).
fn judge_content(content: &ContentEvidence, evidence: &Evidence, rules: &Rules) -> Option<Decision> {
    let Some(why) = content.no_author else { return judge_author(content, evidence, rules) };
    let reason = Reason::NoAuthor(why);
    match rules.no_author {
        Response::Refuse => Some(Decision::new(Disposition::Refuse, reason)),
        // Of several From one may still be of a domain that objects.
        Response::Mark => judge_author(content, evidence, rules)
            .filter(Decision::is_refusal)
            .or_else(|| Some(Decision::new(Disposition::Mark, reason))),
    }
}

/// Of an author only DMARC objects. It is judged by its own specification: a `tbr=pass` says who sent the message, and is no
/// substitute for SPF or DKIM that the domain of From asks for. Forwarding breaks SPF, so forwarders can be trusted, and are where the
/// domain of From has let them pass its message on.
fn judge_author(content: &ContentEvidence, evidence: &Evidence, rules: &Rules) -> Option<Decision> {
    let dmarc = &content.dmarc;
    if dmarc.verdict != Verdict::Fail {
        return None;
    }
    let domain = dmarc.domain.clone();
    let (response, reason) = match dmarc.policy {
        DmarcPolicy::None => return None,
        DmarcPolicy::Quarantine => (rules.dmarc_quarantine, Reason::DmarcQuarantine(domain)),
        DmarcPolicy::Reject => (rules.dmarc_reject, Reason::DmarcReject(domain)),
    };
    if let Some(sealer) = trusted_sealer(content, &evidence.session, rules) {
        return Some(Decision::new(Disposition::Accept, Reason::TrustedSealer(sealer.clone())));
    }
    if let Some(reason) = passed_on(content, &evidence.tbr) {
        return Some(Decision::new(Disposition::Accept, reason));
    }
    Some(match response {
        Response::Mark => Decision::new(Disposition::Mark, reason),
        Response::Refuse => Decision::new(Disposition::Refuse, reason),
    })
}

/// The seal must hold, say that DMARC passed there, and come from the sealer itself: a sealed message that somebody sends on to
/// strangers is sealed as before.
fn trusted_sealer<'e>(content: &'e ContentEvidence, session: &SessionEvidence, rules: &Rules) -> Option<&'e Domain> {
    let holds = content.arc.verdict == Verdict::Pass && content.arc.dmarc_passed;
    let sealer = content.arc.sealer.as_ref().filter(|_| holds)?;
    (rules.trusted_sealers.contains(sealer) && is_server_of(session, sealer)).then_some(sealer)
}

/// Is the client a server of this domain's owner: by its name, or because the owner lets it send (SPF)?
fn is_server_of(session: &SessionEvidence, owner: &Domain) -> bool {
    let named = session.reverse.name.as_ref().filter(|_| session.reverse.verdict == Verdict::Pass);
    let spf = session.spf.as_ref().filter(|spf| spf.verdict == SpfVerdict::Pass);
    let sent_for = spf.and_then(|spf| Domain::parse(&spf.domain).ok());
    named.into_iter().chain(sent_for.as_ref()).any(|domain| are_aligned(domain, owner))
}

/// Others than the domain of From brought the message, and are believed: it let them itself, or, under custodians, it is only ever
/// `pass` where all of them are trusted (TBR §9). What it brings itself SPF and DKIM can tell.
fn passed_on(content: &ContentEvidence, tbr: &[TbrResult]) -> Option<Reason> {
    let (origin, reason): (_, fn(Domain) -> Reason) = match tbr {
        [origin] if origin.delegated => (origin, Reason::Delegated),
        [_, .., origin] => (origin, Reason::TrustedRelays),
        _ => return None,
    };
    let domain = origin.domain.as_ref().filter(|_| origin.verdict == TbrVerdict::Pass)?;
    content.from.as_ref().is_some_and(|from| are_aligned(from, domain)).then(|| reason(domain.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Arc, Dmarc, Identity, Listing, Reverse, Spf};

    fn session() -> SessionEvidence {
        SessionEvidence {
            client: [192, 0, 2, 1].into(),
            reverse: Reverse { verdict: Verdict::Pass, name: None },
            listings: Vec::new(),
            spf: None,
            reputation: None,
        }
    }

    fn decide_session(session: SessionEvidence, rules: &Rules) -> (Disposition, &'static str) {
        let decision = decide(&Evidence { session, content: None, tbr: Vec::new() }, rules);
        (decision.disposition, decision.reason.name())
    }

    fn decide_dmarc(policy: DmarcPolicy, arc: Arc, rules: &Rules) -> (Disposition, &'static str) {
        let dmarc = Dmarc { verdict: Verdict::Fail, policy, domain: "a.example".to_owned(), ..Dmarc::default() };
        let content = ContentEvidence { arc, dmarc, ..ContentEvidence::default() };
        let decision = decide(&Evidence { session: session(), content: Some(content), tbr: Vec::new() }, rules);
        (decision.disposition, decision.reason.name())
    }

    #[test]
    fn a_message_that_names_no_author_is_refused_unless_the_operator_only_marks_it() {
        let decide_author = |no_author, dmarc: Dmarc, rules: &Rules| {
            let content = Some(ContentEvidence { no_author, dmarc, ..ContentEvidence::default() });
            let decision = decide(&Evidence { session: session(), content, tbr: Vec::new() }, rules);
            (decision.disposition, decision.reason.name(), decision.reason.to_string())
        };
        let marks = Rules { no_author: Response::Mark, ..Rules::default() };
        for (why, text) in [
            (NoAuthor::Missing, "it has no From"),
            (NoAuthor::Doubled, "it has more than one From"),
            (NoAuthor::Unreadable, "From names no domain that can be read"),
        ] {
            let sentence = format!("nobody can say who wrote this: {text}");
            let found = decide_author(Some(why), Dmarc::default(), &Rules::default());
            assert_eq!(found, (Disposition::Refuse, "no-author", sentence.clone()));
            let found = decide_author(Some(why), Dmarc::default(), &marks);
            assert_eq!(found, (Disposition::Mark, "no-author", sentence));
        }
        assert_eq!(decide_author(None, Dmarc::default(), &Rules::default()).1, "clean");
        let failed = Dmarc { verdict: Verdict::Fail, policy: DmarcPolicy::Reject, ..Dmarc::default() };
        let found = decide_author(Some(NoAuthor::Doubled), failed, &marks);
        assert_eq!((found.0, found.1), (Disposition::Refuse, "dmarc-reject"), "one of several that objects");
    }

    fn listing(kind: ListKind) -> Listing {
        Listing { zone: "list.example".parse().unwrap(), kind, code: [127, 0, 0, 2].into() }
    }

    fn strict() -> Rules {
        Rules {
            spf_fail: Response::Refuse,
            no_reverse_name: Response::Refuse,
            dmarc_quarantine: Response::Refuse,
            trusted_sealers: vec!["list.example".parse().unwrap()],
            least_reputation: Some(-10),
            ..Rules::default()
        }
    }

    #[test]
    fn every_finding_about_a_client_has_its_reason() {
        let (mild, strict) = (Rules::default(), strict());
        assert_eq!(decide_session(session(), &strict), (Disposition::Accept, "clean"));
        let spf = Spf { verdict: SpfVerdict::Fail, identity: Identity::MailFrom, domain: "a.example".to_owned() };
        let failed = SessionEvidence { spf: Some(spf.clone()), ..session() };
        assert_eq!(decide_session(failed.clone(), &mild), (Disposition::Accept, "clean"));
        assert_eq!(decide_session(failed.clone(), &strict), (Disposition::Refuse, "spf-fail"));
        let soft = SessionEvidence { spf: Some(Spf { verdict: SpfVerdict::SoftFail, ..spf }), ..session() };
        assert_eq!(decide_session(soft, &strict), (Disposition::Accept, "clean"));
        for verdict in [Verdict::Fail, Verdict::PermError] {
            let nameless = SessionEvidence { reverse: Reverse { verdict, name: None }, ..session() };
            assert_eq!(decide_session(nameless.clone(), &mild), (Disposition::Accept, "clean"));
            assert_eq!(decide_session(nameless, &strict), (Disposition::Refuse, "no-reverse-name"));
        }
        let unknown = SessionEvidence { reverse: Reverse { verdict: Verdict::TempError, name: None }, ..session() };
        assert_eq!(decide_session(unknown, &strict), (Disposition::Accept, "clean"));
        let bad = SessionEvidence { reputation: Some(-11), ..session() };
        assert_eq!(decide_session(bad.clone(), &mild), (Disposition::Accept, "clean"));
        assert_eq!(decide_session(bad, &strict), (Disposition::Refuse, "reputation"));
        // An allow list spares a client what is said of it as such, not what its sender's domain says.
        let blocked = SessionEvidence { listings: vec![listing(ListKind::Block)], ..session() };
        assert_eq!(decide_session(blocked, &mild), (Disposition::Refuse, "block-listed"));
        let both = vec![listing(ListKind::Block), listing(ListKind::Allow)];
        let spared = SessionEvidence { listings: both.clone(), ..session() };
        assert_eq!(decide_session(spared, &strict), (Disposition::Accept, "allow-listed"));
        let not_spared = SessionEvidence { listings: both, ..failed };
        assert_eq!(decide_session(not_spared, &strict), (Disposition::Refuse, "spf-fail"));
    }

    #[test]
    fn the_wish_of_the_domain_of_from_is_carried_out_as_configured() {
        let (mild, strict) = (Rules::default(), strict());
        let decide = |policy, rules| decide_dmarc(policy, Arc::default(), rules);
        assert_eq!(decide(DmarcPolicy::None, &strict), (Disposition::Accept, "clean"));
        assert_eq!(decide(DmarcPolicy::Quarantine, &mild), (Disposition::Mark, "dmarc-quarantine"));
        assert_eq!(decide(DmarcPolicy::Quarantine, &strict), (Disposition::Refuse, "dmarc-quarantine"));
        assert_eq!(decide(DmarcPolicy::Reject, &mild), (Disposition::Refuse, "dmarc-reject"));
        let lax = Rules { dmarc_reject: Response::Mark, ..Rules::default() };
        assert_eq!(decide(DmarcPolicy::Reject, &lax), (Disposition::Mark, "dmarc-reject"));
    }

    #[test]
    fn only_a_trusted_and_valid_seal_helps_against_dmarc() {
        let rules = Rules { trusted_sealers: strict().trusted_sealers, ..Rules::default() };
        let arc = |verdict, sealer: &str| Arc { verdict, sealer: Some(sealer.parse().unwrap()), dmarc_passed: true };
        let decide = |arc, session: SessionEvidence| {
            let dmarc = Dmarc {
                verdict: Verdict::Fail,
                policy: DmarcPolicy::Reject,
                domain: "a.example".to_owned(),
                ..Dmarc::default()
            };
            let content = Some(ContentEvidence { arc, dmarc, ..ContentEvidence::default() });
            let decision = decide(&Evidence { session, content, tbr: Vec::new() }, &rules);
            (decision.disposition, decision.reason.name())
        };
        let named = |name: &str| SessionEvidence {
            reverse: Reverse { verdict: Verdict::Pass, name: Some(name.parse().unwrap()) },
            ..session()
        };
        let (trusted, refused) = ((Disposition::Accept, "trusted-sealer"), (Disposition::Refuse, "dmarc-reject"));
        let good = || arc(Verdict::Pass, "list.example");
        assert_eq!(decide(good(), named("mx.list.example")), trusted);
        assert_eq!(decide(arc(Verdict::Fail, "list.example"), named("mx.list.example")), refused);
        assert_eq!(decide(arc(Verdict::Pass, "other.example"), named("mx.other.example")), refused);
        // What was no better when the sealer got it.
        assert_eq!(decide(Arc { dmarc_passed: false, ..good() }, named("mx.list.example")), refused);
        // A sealed message replayed by somebody else.
        assert_eq!(decide(good(), named("mx.stranger.example")), refused);
        assert_eq!(decide(good(), session()), refused);
        let mut pretends = named("mx.list.example");
        pretends.reverse.verdict = Verdict::Fail;
        assert_eq!(decide(good(), pretends.clone()), refused);
        let spf = |verdict| Spf { verdict, identity: Identity::MailFrom, domain: "bounces.list.example".to_owned() };
        pretends.spf = Some(spf(SpfVerdict::SoftFail));
        assert_eq!(decide(good(), pretends.clone()), refused);
        pretends.spf = Some(spf(SpfVerdict::Pass));
        assert_eq!(decide(good(), pretends), trusted);
    }

    #[test]
    fn an_origin_under_relays_helps_against_dmarc_only_where_it_passes_and_is_the_author() {
        let result = |verdict, domain: &str| TbrResult {
            verdict,
            domain: Some(domain.parse().unwrap()),
            assurance: None,
            comment: String::new(),
            delegated: false,
        };
        let decide = |from: &str, tbr: Vec<TbrResult>| {
            let dmarc = Dmarc {
                verdict: Verdict::Fail,
                policy: DmarcPolicy::Reject,
                domain: "a.example".to_owned(),
                ..Dmarc::default()
            };
            let from = Some(from.parse().unwrap());
            let content = Some(ContentEvidence { from, dmarc, ..ContentEvidence::default() });
            let decision = decide(&Evidence { session: session(), content, tbr }, &Rules::default());
            (decision.disposition, decision.reason.name())
        };
        let (pass, none) = (TbrVerdict::Pass, TbrVerdict::None);
        let both = |origin| vec![result(pass, "f.example"), result(origin, "a.example")];
        assert_eq!(decide("a.example", both(pass)), (Disposition::Accept, "trusted-relays"));
        assert_eq!(decide("bank.example", both(pass)), (Disposition::Refuse, "dmarc-reject"));
        assert_eq!(decide("a.example", both(none)), (Disposition::Refuse, "dmarc-reject"));
        // Without relays DMARC is judged by its own rules.
        assert_eq!(decide("a.example", vec![result(pass, "a.example")]), (Disposition::Refuse, "dmarc-reject"));
        let delegated = |verdict| vec![TbrResult { delegated: true, ..result(verdict, "a.example") }];
        assert_eq!(decide("a.example", delegated(pass)), (Disposition::Accept, "delegated"));
        assert_eq!(decide("bank.example", delegated(pass)), (Disposition::Refuse, "dmarc-reject"));
        assert_eq!(decide("a.example", delegated(TbrVerdict::Fail)), (Disposition::Refuse, "dmarc-reject"));
    }

    #[test]
    fn a_reason_is_one_plain_sentence_that_breaks_no_line() {
        let text = Reason::DmarcReject("a.example".to_owned()).to_string();
        assert_eq!(
            text,
            "neither SPF nor DKIM shows that this is from a.example, which asks to refuse such mail (DMARC)"
        );
        assert!(Reason::SpfFail("a.example".to_owned()).status().to_string() == "5.7.23");
    }
}

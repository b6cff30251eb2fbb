//! The Authentication-Results field (RFC 8601): what this server found out, for filters and mail programs behind it.
//!
//! One field, one result a line. Everything that a stranger chose is reduced to what may stand there; nothing in it can
//! begin another field. Older fields in this server's name are `scrub`'s.

use std::fmt::Write as _;

use mail::{Domain, EnhancedStatus};

use crate::evidence::{Dkim, Evidence, Identity, ListKind, SessionEvidence, Verdict, are_aligned};
use crate::tbr::TbrResult;
use crate::{ContentEvidence, Decision, Disposition};

/// The field's name.
pub const FIELD: &str = "Authentication-Results";
/// Most DKIM signatures that are reported.
const MAX_SIGNATURES: usize = 10;

/// Writes the field, with its CRLF. `authserv` is this server's name.
pub fn field(authserv: &Domain, evidence: &Evidence, decision: &Decision) -> String {
    let mut results = Vec::new();
    let from = evidence.content.as_ref().and_then(|content| content.from.as_ref());
    results.extend(evidence.tbr.iter().map(|result| tbr(result, from)));
    session(&mut results, &evidence.session);
    if let Some(found) = &evidence.content {
        content(&mut results, found, decision);
    }
    if results.is_empty() {
        return format!("{FIELD}: {authserv}; none\r\n");
    }
    format!("{FIELD}: {authserv};\r\n\t{}\r\n", results.join(";\r\n\t"))
}

fn tbr(result: &TbrResult, from: Option<&Domain>) -> String {
    let mut text = format!("tbr={}", result.verdict);
    if !result.comment.is_empty() {
        let _ = write!(text, " ({})", comment(&result.comment));
    }
    if let Some(domain) = &result.domain {
        let _ = write!(text, " header.d={domain}");
    }
    if let Some(level) = result.assurance {
        let _ = write!(text, " policy.assurance={level}");
    }
    if let (Some(from), Some(domain)) = (from, &result.domain) {
        let _ = write!(text, " policy.aligned={}", if are_aligned(from, domain) { "yes" } else { "no" });
    }
    text
}

fn session(results: &mut Vec<String>, session: &SessionEvidence) {
    if let Some(spf) = &session.spf {
        let property = match spf.identity {
            Identity::MailFrom => "smtp.mailfrom",
            Identity::Helo => "smtp.helo",
        };
        results.push(format!("spf={} {property}={}", spf.verdict, value(&spf.domain)));
    }
    if session.reverse.verdict != Verdict::None {
        let name = session.reverse.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let (verdict, client) = (session.reverse.verdict, value(&session.client.to_string()));
        results.push(format!("iprev={verdict}{name} policy.iprev={client}"));
    }
    for listing in session.listings.iter().filter(|listing| listing.kind == ListKind::Allow) {
        results.push(format!("dnswl=pass dns.zone={} policy.ip={}", listing.zone, value(&listing.code.to_string())));
    }
}

fn content(results: &mut Vec<String>, content: &ContentEvidence, decision: &Decision) {
    if content.dkim.is_empty() {
        results.push("dkim=none".to_owned());
    }
    results.extend(content.dkim.iter().take(MAX_SIGNATURES).map(dkim));
    if content.arc.verdict != Verdict::None {
        let sealer = content.arc.sealer.as_ref().map(|d| format!(" (sealed by {d})")).unwrap_or_default();
        results.push(format!("arc={}{sealer}", content.arc.verdict));
    }
    let dmarc = &content.dmarc;
    let mut text = format!("dmarc={}", dmarc.verdict);
    if let (Verdict::None, Some(why)) = (dmarc.verdict, content.no_author) {
        // Of nobody nothing can be said, which is no good word for it.
        text = format!("dmarc=permerror ({})", comment(&why.to_string()));
    }
    if matches!(dmarc.verdict, Verdict::Fail) {
        let done = match decision.disposition {
            Disposition::Accept => "none",
            Disposition::Mark => "quarantine",
            Disposition::Refuse => "reject",
        };
        let _ = write!(text, " (p={}; done: {done})", dmarc.policy);
    }
    if !dmarc.domain.is_empty() {
        let _ = write!(text, " header.from={}", value(&dmarc.domain));
    }
    results.push(text);
}

fn dkim(signature: &Dkim) -> String {
    let mut text = format!("dkim={}", signature.verdict);
    if !signature.reason.is_empty() {
        let _ = write!(text, " ({})", comment(&signature.reason));
    }
    if !signature.domain.is_empty() {
        let _ = write!(text, " header.d={} header.s={}", value(&signature.domain), value(&signature.selector));
    }
    text
}

/// A `pvalue`: a token where it is one, else a quoted string. At most 255 octets.
fn value(text: &str) -> String {
    let kept: String = text.chars().filter(|c| matches!(c, '!'..='~') && !matches!(c, '"' | '\\')).take(255).collect();
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '+');
    if !kept.is_empty() && kept.chars().all(is_token) { kept } else { format!("\"{kept}\"") }
}

/// The text of a comment. At most 100 octets.
fn comment(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '(' | ')' | '\\')).take(100).collect()
}

/// The reply to what is refused: code, enhanced status, one sentence.
pub fn reply(decision: &Decision) -> (u16, EnhancedStatus, String) {
    (550, decision.reason.status(), decision.reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Arc, Dmarc, DmarcPolicy, Listing, NoAuthor, Reverse, Spf, SpfVerdict};
    use reference::Assurance;

    use crate::tbr::TbrVerdict;
    use crate::{Rules, decide};

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn full() -> Evidence {
        let spf = Spf { verdict: SpfVerdict::Pass, identity: Identity::MailFrom, domain: "a.example".to_owned() };
        let session = SessionEvidence {
            client: "2001:db8::1".parse().unwrap(),
            reverse: Reverse { verdict: Verdict::Pass, name: Some(domain("mx.a.example")) },
            listings: vec![Listing { zone: domain("wl.example"), kind: ListKind::Allow, code: [127, 0, 5, 1].into() }],
            spf: Some(spf),
            reputation: None,
        };
        let dkim = |verdict, domain: &str, reason: &str| Dkim {
            verdict,
            domain: domain.to_owned(),
            selector: "s1".to_owned(),
            reason: reason.to_owned(),
        };
        let content = ContentEvidence {
            from: Some(domain("news.a.example")),
            no_author: None,
            dkim: vec![dkim(Verdict::Pass, "a.example", ""), dkim(Verdict::Neutral, "c.example", "body changed")],
            arc: Arc { verdict: Verdict::Pass, sealer: Some(domain("list.example")), dmarc_passed: false },
            dmarc: Dmarc {
                verdict: Verdict::Fail,
                policy: DmarcPolicy::Quarantine,
                domain: "a.example".to_owned(),
                ..Dmarc::default()
            },
        };
        let result = TbrResult {
            verdict: TbrVerdict::Pass,
            domain: Some(domain("a.example")),
            assurance: Some(Assurance::Webpki),
            comment: String::new(),
            delegated: false,
        };
        Evidence { session, content: Some(content), tbr: vec![result] }
    }

    #[test]
    fn the_field_says_everything_that_was_found_out() {
        let evidence = full();
        let decision = decide(&evidence, &Rules::default());
        assert_eq!(
            field(&domain("mx.b.example"), &evidence, &decision),
            "Authentication-Results: mx.b.example;\r\n\
             \ttbr=pass header.d=a.example policy.assurance=webpki policy.aligned=yes;\r\n\
             \tspf=pass smtp.mailfrom=a.example;\r\n\
             \tiprev=pass (mx.a.example) policy.iprev=\"2001:db8::1\";\r\n\
             \tdnswl=pass dns.zone=wl.example policy.ip=127.0.5.1;\r\n\
             \tdkim=pass header.d=a.example header.s=s1;\r\n\
             \tdkim=neutral (body changed) header.d=c.example header.s=s1;\r\n\
             \tarc=pass (sealed by list.example);\r\n\
             \tdmarc=fail (p=quarantine; done: quarantine) header.from=a.example\r\n"
        );
    }

    #[test]
    fn of_a_message_without_an_author_dmarc_says_nothing_good() {
        let mut evidence = full();
        if let Some(content) = &mut evidence.content {
            (content.from, content.no_author) = (None, Some(NoAuthor::Unreadable));
            content.dmarc = Dmarc::default();
        }
        let decision = decide(&evidence, &Rules::default());
        let text = field(&domain("mx.b.example"), &evidence, &decision);
        assert!(text.ends_with("\tdmarc=permerror (From names no domain that can be read)\r\n"), "{text}");
    }

    #[test]
    fn strangers_words_stay_in_their_place() {
        let mut evidence = full();
        if let Some(content) = &mut evidence.content {
            content.dkim[0].selector = "x; spf=pass\r\nBcc: \"y\\".to_owned();
            content.dkim[0].reason = "a) b\r\n\tc(".to_owned();
        }
        let decision = decide(&evidence, &Rules::default());
        let text = field(&domain("mx.b.example"), &evidence, &decision);
        let line = "dkim=pass (a bc) header.d=a.example header.s=\"x;spf=passBcc:y\";\r\n";
        assert!(text.contains(line), "{text}");
        assert_eq!(text.lines().skip(1).filter(|line| !line.starts_with('\t')).count(), 0, "{text}");
    }

    #[test]
    fn nothing_found_out_is_said_too() {
        let session = SessionEvidence {
            client: [192, 0, 2, 1].into(),
            reverse: Reverse::default(),
            listings: Vec::new(),
            spf: None,
            reputation: None,
        };
        let evidence = Evidence { session, content: None, tbr: Vec::new() };
        let decision = decide(&evidence, &Rules::default());
        let text = field(&domain("mx.b.example"), &evidence, &decision);
        assert_eq!(text, "Authentication-Results: mx.b.example; none\r\n");
    }
}

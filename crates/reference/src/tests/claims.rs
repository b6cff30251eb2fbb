//! Claims and receipts: what is read, what is refused, what limits hold.

use mail::ledger::Action;
use mail::{EnhancedStatus, InstanceId};

use super::*;
use crate::body::*;
use crate::claims::*;

fn claim(n: &[u16]) -> ClaimEntry {
    let id = ReferenceId([0x49; 16]);
    ClaimEntry { to: domain("b.example"), i: id, grant: grant(), n: n.to_vec(), failed: vec![], acted: false }
}

fn claims(entries: Vec<ClaimEntry>) -> ClaimsRequest {
    ClaimsRequest { v: Revision1, instance: InstanceId([1; 16]), claims: entries }
}

fn outcome(n: u16, action: Action, status: EnhancedStatus) -> WireOutcome {
    WireOutcome { n, action, status, text: Text::new("x"), at: NOW, reported: false }
}

fn receipts(outcomes: Vec<WireOutcome>) -> ReceiptsRequest {
    let entry = ReceiptEntry { to: domain("b.example"), i: ReferenceId([0x49; 16]), grant: grant(), outcomes };
    ReceiptsRequest { v: Revision1, instance: InstanceId([1; 16]), receipts: vec![entry] }
}

#[test]
fn claims_survive() {
    let mut entry = claim(&[0, 2]);
    entry.failed = vec![FailedIndex { n: 2, status: EnhancedStatus::permanent(7, 1), text: Text::new("no") }];
    entry.acted = true;
    let request = claims(vec![entry, claim(&[999])]);
    assert_eq!(ClaimsRequest::parse(&request.encode().unwrap()), Ok(request));
}

#[test]
fn the_plain_claim_is_as_short_as_it_can_be() {
    let body = String::from_utf8(claims(vec![claim(&[0])]).encode().unwrap()).unwrap();
    assert!(!body.contains("failed") && !body.contains("acted"), "{body}");
}

#[test]
fn indexes_ascend_and_failures_are_among_them() {
    let bad = |entry: ClaimEntry| claims(vec![entry]).encode().unwrap_err();
    for n in [&[][..], &[1, 1], &[2, 1], &[1000]] {
        assert_eq!(bad(claim(n)), BodyError::Indexes, "{n:?}");
    }
    let failed = |n: u16, status: EnhancedStatus| {
        let failed = vec![FailedIndex { n, status, text: Text::default() }];
        bad(ClaimEntry { failed, ..claim(&[0]) })
    };
    assert_eq!(failed(1, EnhancedStatus::permanent(7, 1)), BodyError::Indexes);
    assert_eq!(failed(0, EnhancedStatus::temporary(7, 1)), BodyError::Status);
}

#[test]
fn bodies_and_batches_are_limited() {
    assert_eq!(ClaimsRequest::parse(&vec![b' '; MAX_BODY + 1]), Err(BodyError::TooLong));
    assert_eq!(claims(vec![claim(&[0]); 1001]).encode(), Err(BodyError::TooMany));
    assert!(claims(vec![claim(&[0]); 1000]).encode().is_ok());
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(matches!(ClaimsRequest::parse(deep.as_bytes()), Err(BodyError::Json(_))));
}

#[test]
fn another_revision_is_refused_and_more_members_are_not() {
    let body = String::from_utf8(claims(vec![claim(&[0])]).encode().unwrap()).unwrap();
    assert!(matches!(ClaimsRequest::parse(body.replace("\"v\":1", "\"v\":2").as_bytes()), Err(BodyError::Json(_))));
    assert!(ClaimsRequest::parse(body.replace("\"v\":1", "\"v\":1,\"new\":[{}]").as_bytes()).is_ok());
    let twice = body.replace("\"v\":1", "\"v\":1,\"v\":1");
    assert!(matches!(ClaimsRequest::parse(twice.as_bytes()), Err(BodyError::Json(_))));
}

#[test]
fn an_error_never_quotes_the_grant() {
    let body = format!("{{\"v\":1,\"instance\":\"{}\",\"claims\":0}}", grant().reveal());
    let error = ClaimsRequest::parse(body.as_bytes()).unwrap_err().to_string();
    assert!(!error.contains(&grant().reveal()), "{error}");
    // Where something else is expected than a text, the parser's own words would quote it.
    let misplaced = format!(r#"{{"v":1,"instance":"{}","claims":"{}"}}"#, InstanceId([1; 16]), grant().reveal());
    let error = ClaimsRequest::parse(misplaced.as_bytes()).unwrap_err();
    assert!(!error.to_string().contains(&grant().reveal()), "{error}");
}

#[test]
fn a_word_of_a_later_revision_is_no_answer() {
    let id = ReferenceId([0x49; 16]);
    let text = format!(
        "{{\"v\":1,\"claims\":[{{\"i\":\"{id}\",\"answers\":[{{\"n\":0,\"is\":\"granted\"}},{{\"n\":1,\"is\":\"soon\"}}]}}]}}"
    );
    let answer = ClaimsAnswer::parse(text.as_bytes()).unwrap();
    assert_eq!(answer.claims[0].answers, [IndexAnswer { n: 0, is: Word::Granted }]);
    assert_eq!(ClaimsAnswer::parse(&answer.encode().unwrap()), Ok(answer));
    let unknown = AnsweredClaim { i: id, answers: vec![IndexAnswer { n: 0, is: Word::Unknown }] };
    assert!(ClaimsAnswer { v: Revision1, claims: vec![unknown] }.encode().is_err());
}

#[test]
fn receipts_survive_and_their_status_fits() {
    let (good, late) = (EnhancedStatus::success(0, 0), EnhancedStatus::temporary(4, 7));
    let request = receipts(vec![outcome(0, Action::Delivered, good), outcome(3, Action::Failed, late)]);
    assert_eq!(ReceiptsRequest::parse(&request.encode().unwrap()), Ok(request));
    for (action, status) in [
        (Action::Delivered, late),
        (Action::Relayed, late),
        (Action::Expanded, late),
        (Action::Delayed, good),
        (Action::Failed, good),
    ] {
        assert_eq!(receipts(vec![outcome(0, action, status)]).encode(), Err(BodyError::Status), "{action}");
    }
    assert_eq!(receipts(vec![]).encode(), Err(BodyError::Indexes));
    let answer =
        ReceiptsAnswer { v: Revision1, receipts: vec![RecordedReceipt { i: ReferenceId([2; 16]), recorded: vec![0] }] };
    assert_eq!(ReceiptsAnswer::parse(&answer.encode().unwrap()), Ok(answer));
}

#[test]
fn texts_are_one_printable_line() {
    assert_eq!(Text::new("a\r\nBcc: x\0\u{202e}b ").as_str(), "a  Bcc: x  b");
    assert_eq!(Text::new(&"ä".repeat(600)).as_str().chars().count(), MAX_TEXT);
}

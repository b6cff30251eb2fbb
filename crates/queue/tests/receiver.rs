//! A reference at the receiver: offer, retrieval, claim, handover, receipts, and every way in which the origin may be silent.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::time::Duration;

use mail::Timestamp;
use mail::ledger::{Action, ContentFacts, Inbound, IndexState, Key, Phase, Row, RowBody};
use queue::bundle::owed;
use queue::port::ClaimAnswer::{self, Gone, Granted, Taken};
use queue::port::{
    ClaimEntry, HeardEntry, Input, JobEvent, JobId, Judged, OfferAnswer, ReceiptEntry, RecipientEnd, Reply, Request,
    Retrieval, RetrieveFailure, Work,
};
use support::{DAY, FACTS, HOUR, MINUTE, Server, domain, done, inbound_of, later, never, object, secs, taken};

const BOB: &[&str] = &["bob@b.example"];
const BOB_AND_CAROL: &[&str] = &["bob@b.example", "carol@b.example"];
const CONTENT: &[u8] = b"A: b\r\n\r\nc\r\n";

/// A reference of a.example as the session at b.example hands it over.
fn reference(seed: u8, to: &[&str]) -> Inbound {
    let mut a = Server::new("a.example", seed);
    let (_, _, issued) = a.offer(to);
    inbound_of(&issued.uri, &issued.block, to, &format!("in{seed}"), a.now)
}

fn offer(b: &mut Server, inbound: &Inbound) -> OfferAnswer {
    match b.ask(Request::Offer(Box::new(inbound.clone()))) {
        Reply::Offer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// A server at b.example that has taken a reference.
fn offered(to: &[&str]) -> (Server, Inbound) {
    let mut b = Server::new("b.example", 2);
    let inbound = reference(1, to);
    let answer = offer(&mut b, &inbound);
    assert!(matches!(answer, OfferAnswer::Pending(_)), "{answer:?}");
    (b, inbound)
}

fn retrieval(b: &mut Server) -> (JobId, Retrieval) {
    match b.jobs.pop_front() {
        Some((job, Work::Retrieve(retrieval))) => (job, *retrieval),
        other => panic!("no retrieval: {other:?}"),
    }
}

fn retrieved(b: &mut Server) {
    let (job, _) = retrieval(b);
    b.event(job, JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 });
}

/// Its object has these Received fields.
fn retrieved_after(b: &mut Server, received_fields: u32) {
    let (job, _) = retrieval(b);
    let facts = ContentFacts { received_fields, ..FACTS };
    b.event(job, JobEvent::Retrieved { object: object(CONTENT), facts, octets: 12 });
}

fn not_retrieved(b: &mut Server, failure: RetrieveFailure) {
    let (job, _) = retrieval(b);
    b.event(job, JobEvent::RetrieveFailed { failure, text: "no".into() });
}

/// The claims that are posted.
fn claims(b: &mut Server) -> (JobId, Vec<ClaimEntry>) {
    match b.jobs.pop_front() {
        Some((job, Work::PostClaims(post))) => (job, post.entries),
        other => panic!("no claims: {other:?}"),
    }
}

fn receipts(b: &mut Server) -> (JobId, Vec<ReceiptEntry>) {
    match b.jobs.pop_front() {
        Some((job, Work::PostReceipts(post))) => (job, post.entries),
        other => panic!("no receipts: {other:?}"),
    }
}

fn answer(b: &mut Server, job: JobId, answers: &[ClaimAnswer]) {
    let answers = (0..).zip(answers.iter().copied()).collect();
    b.event(job, JobEvent::Claimed(vec![Some(answers)]));
}

fn unanswered(b: &mut Server, job: JobId) {
    b.event(job, JobEvent::PostFailed { text: "503".into() });
}

fn states(b: &Server) -> Vec<IndexState> {
    b.inbound().recipients.iter().map(|recipient| recipient.state.clone()).collect()
}

fn is_final(state: &IndexState, action: Action) -> bool {
    matches!(state, IndexState::Final { outcome, .. } if outcome.action == action)
}

/// Reference, object and custody of everything are here; the delivery is about to begin.
fn granted(to: &[&str]) -> (Server, Inbound) {
    let (mut b, inbound) = offered(to);
    retrieved(&mut b);
    let (job, _) = claims(&mut b);
    answer(&mut b, job, &vec![Granted; to.len()]);
    (b, inbound)
}

/// And it is in the mailbox: the receipt is about to be posted.
fn delivered() -> (Server, Inbound) {
    let (mut b, inbound) = granted(BOB);
    let (job, _) = b.delivery();
    b.finish(job, false, vec![(0, done())]);
    (b, inbound)
}

/// A stranger's reference, that policy lets be retrieved in half an hour.
fn delayed() -> (Server, Inbound) {
    let mut b = Server::new("b.example", 2);
    let client = "192.0.2.7".parse().ok();
    let inbound = Inbound { client, not_before: Some(b.now.after(MINUTE * 30)), ..reference(1, BOB) };
    let answer = offer(&mut b, &inbound);
    assert!(matches!(answer, OfferAnswer::Pending(_)), "{answer:?}");
    (b, inbound)
}

#[test]
fn a_strangers_retrieval_waits_however_often_it_is_offered() {
    let (mut b, inbound) = delayed();
    b.pass(MINUTE * 20);
    assert!(matches!(offer(&mut b, &inbound), OfferAnswer::StillPending(_)));
    b.pass(MINUTE * 9);
    assert!(b.jobs.is_empty(), "{:?}", b.jobs);
    b.pass(MINUTE * 2);
    let (_, work) = retrieval(&mut b);
    assert_eq!(work.recheck, inbound.client, "the client is looked at once more");
}

#[test]
fn what_policy_does_not_want_any_more_is_claimed_as_failed_and_nothing_is_fetched() {
    let (mut b, _) = delayed();
    b.pass(MINUTE * 31);
    not_retrieved(&mut b, RetrieveFailure::Refused);
    let (job, entries) = claims(&mut b);
    assert_eq!(entries[0].failed[0].1.status.to_string(), "5.7.1");
    answer(&mut b, job, &[Granted]);
    assert!(is_final(&states(&b)[0], Action::Failed));
}

#[test]
fn a_trusted_reference_is_retrieved_at_once_and_without_a_second_look() {
    let (mut b, _) = offered(BOB);
    assert_eq!(retrieval(&mut b).1.recheck, None);
}

#[test]
fn the_same_offer_twice_is_one_reference_that_is_still_pending() {
    let (mut b, inbound) = offered(BOB);
    let again = Inbound { queue_id: "in7".parse().unwrap(), ..inbound.clone() };
    assert_eq!(offer(&mut b, &again), OfferAnswer::StillPending(inbound.queue_id.clone()), "under its first name");
    assert_eq!(b.jobs.len(), 1, "fetched once");
    retrieved(&mut b);
    assert_eq!(offer(&mut b, &again), OfferAnswer::StillPending(inbound.queue_id.clone()));
    let (job, _) = claims(&mut b);
    answer(&mut b, job, &[Granted]);
    assert_eq!(offer(&mut b, &again), OfferAnswer::Claimed(inbound.queue_id));
}

#[test]
fn the_same_name_with_another_content_is_a_mismatch() {
    let (mut b, inbound) = offered(BOB);
    let other = Inbound { fingerprint: "another".into(), ..inbound.clone() };
    assert_eq!(offer(&mut b, &other), OfferAnswer::Mismatch);
    assert_eq!(b.inbound().fingerprint, inbound.fingerprint);
}

#[test]
fn done_is_never_said_of_what_is_taken_or_gone() {
    for word in [Taken, Gone] {
        let (mut b, inbound) = offered(BOB_AND_CAROL);
        retrieved(&mut b);
        let (job, _) = claims(&mut b);
        answer(&mut b, job, &[Granted, word]);
        assert_eq!(offer(&mut b, &inbound), OfferAnswer::StillPending(inbound.queue_id.clone()), "{word:?}");
    }
}

#[test]
fn two_references_to_one_object_make_one_retrieval() {
    let mut b = Server::new("b.example", 2);
    let (first, second, third) = (reference(1, BOB), reference(3, BOB), reference(4, BOB));
    offer(&mut b, &first);
    offer(&mut b, &second);
    retrieved(&mut b);
    let (job, posted) = claims(&mut b);
    let more = b.jobs.iter().filter(|(_, work)| matches!(work, Work::Retrieve(_))).count();
    assert_eq!(more, 0);
    assert!(!posted.is_empty());
    assert!(matches!(offer(&mut b, &third), OfferAnswer::Pending(_)));
    assert!(b.jobs.iter().all(|(_, work)| !matches!(work, Work::Retrieve(_))), "it is held already");
    unanswered(&mut b, job);
}

#[test]
fn whoever_lends_an_object_is_not_written_for_it_and_what_it_lets_go_of_is_retrieved() {
    let (mut b, first) = offered(BOB);
    retrieved(&mut b);
    let (job, _) = claims(&mut b);
    let lender = |b: &Server| b.ledger.rows.values().find(|row| is_of(row, &first)).map(|row| row.version);
    let before = lender(&b);
    offer(&mut b, &reference(3, BOB));
    assert_eq!(lender(&b), before, "others may borrow it at the same time");

    let call = b.next_call();
    b.hold = true;
    b.input(Input::Call { call, request: Request::Offer(Box::new(reference(4, BOB))) });
    while !(b.replies.contains_key(&call) && b.wants_to_commit()) {
        b.answer_the_last();
    }
    // Meanwhile nobody has it any more, and the commit is refused for that.
    b.ledger.rows.retain(|_, row| row.object().is_none());
    b.ledger.conflict = 1;
    while !b.held.is_empty() {
        b.answer_the_last();
    }
    b.hold = false;
    unanswered(&mut b, job);
    let wanted = b.jobs.iter().filter(|(_, work)| matches!(work, Work::Retrieve(_))).count();
    assert_eq!(wanted, 1);
}

fn is_of(row: &Row, inbound: &Inbound) -> bool {
    matches!(&row.body, RowBody::Inbound(other) if other.i == inbound.i)
}

#[test]
fn a_claim_names_every_index_that_was_accepted_and_no_other() {
    let mut b = Server::new("b.example", 2);
    let mut inbound = reference(1, &["bob@b.example", "nobody@b.example", "carol@b.example"]);
    inbound.recipients[1].state = IndexState::Refused;
    inbound.recipients[1].targets.clear();
    offer(&mut b, &inbound);
    retrieved(&mut b);
    let (_, posted) = claims(&mut b);
    assert_eq!(posted.len(), 1);
    assert_eq!((&posted[0].indexes, posted[0].acted, posted[0].failed.len()), (&vec![0, 2], false, 0));
    assert_eq!((posted[0].id, &posted[0].grant), (inbound.i, &inbound.grant));
}

#[test]
fn nothing_is_delivered_before_custody_is_granted() {
    let (mut b, _) = offered(BOB_AND_CAROL);
    retrieved(&mut b);
    assert_eq!(b.ledger.rows.len(), 1, "no leg yet");
    let (job, _) = claims(&mut b);
    assert!(b.jobs.is_empty());
    answer(&mut b, job, &[Taken, Granted]);
    let (_, delivery) = b.delivery();
    assert_eq!(delivery.leg.recipients.len(), 1);
    assert_eq!(delivery.leg.recipients[0].recipient.address.to_string(), "carol@b.example");
    assert!(b.jobs.is_empty());
}

#[test]
fn taken_and_gone_end_it_without_a_delivery_or_a_receipt() {
    let (mut b, _) = offered(BOB_AND_CAROL);
    retrieved(&mut b);
    let (job, _) = claims(&mut b);
    answer(&mut b, job, &[Taken, Gone]);
    assert_eq!(states(&b), [IndexState::Taken, IndexState::Gone]);
    assert_eq!(b.inbound().phase, Phase::Closed);
    assert!(b.inbound().object.is_none());
    b.pass(DAY);
    assert!(b.jobs.is_empty());
}

#[test]
fn no_claim_is_first_sent_after_e() {
    let (mut b, inbound) = offered(BOB);
    let (job, _) = retrieval(&mut b);
    b.now = inbound.expires.after(secs(1));
    b.event(job, JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 });
    assert!(b.jobs.is_empty(), "{:?}", b.jobs);
    assert_eq!(states(&b), [IndexState::Gone]);
}

#[test]
fn a_retrieval_that_never_succeeds_ends_at_e() {
    let (mut b, inbound) = offered(BOB);
    let left = inbound.expires.since(b.now);
    b.pass_unreachable(left - MINUTE);
    assert_eq!(states(&b), [IndexState::Open]);
    b.pass_unreachable(2 * MINUTE);
    assert_eq!(states(&b), [IndexState::Gone]);
    assert!(b.report_texts().is_empty(), "the origin reports");
}

#[test]
fn a_retrieval_that_fails_for_now_is_repeated_and_410_ends_it() {
    let (mut b, _) = offered(BOB);
    for failure in [RetrieveFailure::Temporary, RetrieveFailure::NotFound] {
        not_retrieved(&mut b, failure);
        assert!(b.jobs.is_empty());
        b.pass(HOUR);
        assert_eq!(b.jobs.len(), 1);
    }
    not_retrieved(&mut b, RetrieveFailure::Gone);
    assert_eq!(states(&b), [IndexState::Gone]);
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn a_410_ends_the_reference_whose_grant_was_used_and_none_that_shared_its_retrieval() {
    let (mut b, first) = offered(BOB);
    let second = reference(3, &["carol@b.example"]);
    assert!(matches!(offer(&mut b, &second), OfferAnswer::Pending(_)));
    assert_eq!(b.jobs.len(), 1, "one retrieval serves both");
    not_retrieved(&mut b, RetrieveFailure::Gone);
    let phase = |b: &Server, of: &Inbound| match &b.ledger.rows[&Key::Inbound(of.i, of.d.clone())].body {
        RowBody::Inbound(inbound) => inbound.phase.clone(),
        RowBody::Leg(leg) => panic!("{leg:?}"),
    };
    assert_eq!((phase(&b, &first), phase(&b, &second)), (Phase::Closed, Phase::Waiting));
    b.pass(HOUR);
    let (job, work) = retrieval(&mut b);
    assert_eq!(work.uri, second.uri);
    b.event(job, JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 });
    assert_eq!(claims(&mut b).1[0].id, second.i);
}

#[test]
fn one_host_s_wrong_octets_say_nothing_of_another_host_of_the_domain() {
    let (mut b, first) = offered(BOB);
    let second = Inbound { host: domain("store.provider.example"), ..reference(3, &["carol@b.example"]) };
    assert!(matches!(offer(&mut b, &second), OfferAnswer::Pending(_)));
    let (job, work) = retrieval(&mut b);
    assert_eq!(work.host, first.host);
    let (other, work) = retrieval(&mut b);
    assert_eq!(work.host, second.host, "a retrieval of its own");
    b.event(job, JobEvent::RetrieveFailed { failure: RetrieveFailure::Corrupt, text: "no".into() });
    assert!(!claims(&mut b).1[0].failed.is_empty());
    b.event(other, JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 });
    let posted = claims(&mut b).1;
    assert_eq!((posted[0].id, posted[0].failed.len()), (second.i, 0));
}

/// Whoever came onto a list while he waited is not helped by others who have sent the same: neither by their retrieval nor by what is
/// here already.
#[test]
fn a_client_that_is_looked_at_again_is_so_whoever_else_fetches_the_object() {
    for is_here_before in [false, true] {
        let (mut b, waiting) = delayed();
        b.pass(MINUTE * 29);
        let trusted = reference(3, &["carol@b.example"]);
        assert!(matches!(offer(&mut b, &trusted), OfferAnswer::Pending(_)));
        let (job, work) = retrieval(&mut b);
        assert_eq!((work.uri, work.recheck), (trusted.uri.clone(), None));
        let came = || JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 };
        // Whatever else is to be done meanwhile.
        let claimed = |b: &mut Server| {
            let posted = std::iter::from_fn(|| b.jobs.pop_front()).find_map(|(job, work)| match work {
                Work::PostClaims(post) => Some((job, post.entries)),
                _ => None,
            });
            let (job, entries) = posted.unwrap();
            answer(b, job, &[Granted]);
            (entries[0].id, entries[0].failed.first().map(|(_, outcome)| outcome.status.to_string()))
        };
        if is_here_before {
            b.event(job, came());
            assert_eq!(claimed(&mut b), (trusted.i, None));
            b.jobs.clear();
        }
        b.pass(MINUTE * 2);
        let (looked, work) = retrieval(&mut b);
        assert_eq!((work.uri, work.recheck), (waiting.uri.clone(), waiting.client));
        b.event(looked, JobEvent::RetrieveFailed { failure: RetrieveFailure::Refused, text: "listed".into() });
        assert_eq!(claimed(&mut b), (waiting.i, Some("5.7.1".to_owned())));
        if !is_here_before {
            b.event(job, came());
            assert_eq!(claimed(&mut b), (trusted.i, None));
        }
    }
}

#[test]
fn a_corrupt_object_is_claimed_as_failed_and_never_delivered() {
    let (mut b, _) = offered(BOB_AND_CAROL);
    not_retrieved(&mut b, RetrieveFailure::Corrupt);
    let (job, posted) = claims(&mut b);
    assert_eq!(posted[0].indexes, [0, 1]);
    let failed: Vec<_> = posted[0].failed.iter().map(|(n, outcome)| (*n, outcome.action)).collect();
    assert_eq!(failed, [(0, Action::Failed), (1, Action::Failed)]);
    answer(&mut b, job, &[Granted, Taken]);
    assert!(b.jobs.is_empty(), "neither a delivery nor a receipt: the claim said it all");
    assert!(is_final(&states(&b)[0], Action::Failed) && states(&b)[1] == IndexState::Taken);
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn a_loop_found_after_retrieval_is_claimed_as_failed_and_not_even_judged() {
    let mut b = Server::new("b.example", 2);
    let inbound = Inbound { evidence: Some("of the session".into()), ..reference(1, BOB) };
    assert!(matches!(offer(&mut b, &inbound), OfferAnswer::Pending(_)));
    retrieved_after(&mut b, 101);
    let (job, posted) = claims(&mut b);
    let failed: Vec<_> = posted[0].failed.iter().map(|(n, outcome)| (*n, outcome.status.to_string())).collect();
    assert_eq!(failed, [(0, "5.4.6".to_owned())]);
    answer(&mut b, job, &[Granted]);
    assert!(b.jobs.is_empty(), "neither a delivery nor a receipt: the claim said it all");
    assert!(b.inbound().object.is_none() && b.inbound().phase == Phase::Closed);

    let (mut b, _) = offered(BOB);
    retrieved_after(&mut b, 100);
    assert!(claims(&mut b).1[0].failed.is_empty(), "as many as there may be");
}

#[test]
fn a_repeated_offer_of_what_was_refused_before_a_claim_is_told_so() {
    let (mut b, inbound) = offered(BOB);
    not_retrieved(&mut b, RetrieveFailure::Corrupt);
    let (job, _) = claims(&mut b);
    b.event(job, JobEvent::PostFailed { text: "silence".into() });
    assert_eq!(offer(&mut b, &inbound), OfferAnswer::Refused(inbound.queue_id.clone()));
    let (job, _) = claims(&mut b);
    answer(&mut b, job, &[Granted]);
    assert_eq!(offer(&mut b, &inbound), OfferAnswer::Done(inbound.queue_id), "the claim has said it");
}

#[test]
fn a_corrupt_object_is_not_acted_on_without_an_answer() {
    let (mut b, _) = offered(BOB);
    not_retrieved(&mut b, RetrieveFailure::Corrupt);
    b.pass_unreachable(DAY);
    assert_eq!(states(&b), [IndexState::Open]);
    b.pass_unreachable(5 * DAY);
    assert!(b.report_texts().is_empty(), "custody never came here");
    assert!(b.ledger.rows.is_empty(), "nor is anything to be delivered: {:?}", b.ledger.rows.keys());
}

/// A reference whose content is to be judged, its object retrieved.
fn held(to: &[&str]) -> Server {
    let mut b = Server::new("b.example", 2);
    let inbound = Inbound { evidence: Some("of the session".into()), ..reference(1, to) };
    assert!(matches!(offer(&mut b, &inbound), OfferAnswer::Pending(_)));
    retrieved(&mut b);
    b
}

fn judgement(b: &mut Server) -> JobId {
    match b.jobs.pop_front() {
        Some((job, Work::Judge(judgement))) => {
            assert_eq!(judgement.inbound.evidence.as_deref(), Some("of the session"));
            assert!(judgement.inbound.object.is_some());
            job
        }
        other => panic!("no judgement: {other:?}"),
    }
}

fn decide(b: &mut Server, refusal: Option<(&str, &str)>) {
    let job = judgement(b);
    let refusal = refusal.map(|(status, text)| (status.parse().unwrap(), text.to_owned()));
    let results = "Authentication-Results: x\r\n".into();
    b.event(job, JobEvent::Judged(Judged { results, verdict: "clean".into(), refusal, ..Judged::default() }));
}

#[test]
fn what_was_judged_well_is_claimed_and_its_results_stand_on_top() {
    let mut b = held(BOB);
    assert_eq!((&b.inbound().phase, b.jobs.len()), (&Phase::Held, 1), "nothing is claimed before");
    decide(&mut b, None);
    assert_eq!(b.inbound().evidence, None);
    let (job, posted) = claims(&mut b);
    assert!(posted[0].failed.is_empty());
    let judged = b.inbound().steps.iter().any(|step| (step.what.as_str(), step.detail.as_str()) == ("judged", "clean"));
    assert!(judged, "{:?}", b.inbound().steps);
    answer(&mut b, job, &[Granted]);
    let (_, delivery) = b.delivery();
    assert!(delivery.leg.prefix.starts_with("Authentication-Results: x\r\nReceived: x\r\nTBR-Reference:"));
}

#[test]
fn refused_content_is_claimed_as_failed_with_the_reason_and_never_delivered() {
    let mut b = held(BOB_AND_CAROL);
    decide(&mut b, Some(("5.7.1", "not from a.example")));
    let (job, posted) = claims(&mut b);
    assert_eq!(posted[0].indexes, [0, 1]);
    for (_, outcome) in &posted[0].failed {
        assert_eq!((outcome.action, outcome.text.as_str()), (Action::Failed, "not from a.example"));
        assert_eq!(outcome.status.to_string(), "5.7.1");
    }
    assert_eq!(posted[0].failed.len(), 2);
    answer(&mut b, job, &[Granted, Granted]);
    assert!(b.jobs.is_empty(), "neither a delivery nor a receipt: the claim said it all");
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn without_a_decision_nothing_is_claimed_and_it_is_asked_again_until_the_reference_expires() {
    let mut b = held(BOB);
    let job = judgement(&mut b);
    b.event(job, JobEvent::JudgeFailed { text: "the object cannot be read now".into() });
    assert!(b.jobs.is_empty(), "there is a pause");
    b.pass(HOUR);
    let job = judgement(&mut b);
    b.event(job, JobEvent::JudgeFailed { text: "the object cannot be read now".into() });
    b.pass_unreachable(6 * DAY);
    assert!(b.ledger.rows.is_empty(), "it was let go of, and forgotten");
    assert!(b.report_texts().is_empty(), "custody never came here");
}

#[test]
fn a_judgement_that_a_crash_broke_off_begins_again() {
    let mut b = held(BOB);
    b.restart();
    decide(&mut b, None);
    assert_eq!(claims(&mut b).1.len(), 1);
}

#[test]
fn an_hour_without_an_answer_and_custody_is_taken() {
    let (mut b, _) = offered(BOB);
    retrieved(&mut b);
    let Phase::Claiming { first_sent } = b.inbound().phase else { panic!() };
    assert_eq!(first_sent, b.now);
    while b.now.since(first_sent) < HOUR - MINUTE {
        let posts = b.jobs.len();
        assert!(posts <= 1);
        while let Some((job, work)) = b.jobs.pop_front() {
            assert!(matches!(&work, Work::PostClaims(post) if !post.entries[0].acted), "{work:?}");
            unanswered(&mut b, job);
        }
        b.pass(MINUTE);
    }
    assert_eq!(states(&b), [IndexState::Open]);
    b.fail_jobs();
    b.pass(2 * MINUTE);
    assert_eq!(states(&b), [IndexState::Mine { acted: true }]);
    let (mut delivery, mut acted) = (None, None);
    for (job, work) in std::mem::take(&mut b.jobs) {
        match work {
            Work::Deliver(_) => delivery = Some(job),
            Work::PostClaims(post) => acted = Some((job, post.entries[0].clone())),
            work => panic!("{work:?}"),
        }
    }
    let (job, entry) = acted.expect("it is told to the origin");
    assert!(entry.acted && entry.indexes == [0]);
    b.finish(delivery.expect("a delivery"), false, vec![(0, done())]);
    b.event(job, JobEvent::Claimed(vec![Some(vec![(0, Taken)])]));
    let (job, posted) = receipts(&mut b);
    assert_eq!(posted[0].outcomes[0].1.action, Action::Delivered);
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn acted_is_posted_until_it_is_acknowledged() {
    let (mut b, _) = offered(BOB);
    retrieved(&mut b);
    b.pass_unreachable(HOUR + MINUTE);
    for _ in 0..3 {
        while b.jobs.is_empty() {
            b.pass(MINUTE);
        }
        let (job, posted) = claims(&mut b);
        assert!(posted[0].acted);
        unanswered(&mut b, job);
        assert!(b.jobs.is_empty());
    }
}

#[test]
fn a_receipt_is_repeated_until_it_is_acknowledged() {
    let (mut b, inbound) = delivered();
    for _ in 0..3 {
        let (job, posted) = receipts(&mut b);
        let outcomes: Vec<_> = posted[0].outcomes.iter().map(|(n, outcome)| (*n, outcome.action)).collect();
        assert_eq!((posted[0].id, outcomes), (inbound.i, vec![(0, Action::Delivered)]));
        unanswered(&mut b, job);
        assert!(b.jobs.is_empty(), "after a pause");
        while b.jobs.is_empty() {
            b.pass(MINUTE);
        }
    }
    let (job, _) = receipts(&mut b);
    b.event(job, JobEvent::Reported(vec![None]));
    assert_eq!(b.inbound().phase, Phase::Working, "left out is no answer");
    b.pass(5 * HOUR);
    let (job, _) = receipts(&mut b);
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    assert_eq!(b.inbound().phase, Phase::Closed);
    b.pass(DAY);
    assert!(b.jobs.is_empty());
}

#[test]
fn an_offer_of_something_done_sends_the_receipt_again() {
    let (mut b, inbound) = delivered();
    let (job, _) = receipts(&mut b);
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    assert!(b.jobs.is_empty());
    assert_eq!(offer(&mut b, &inbound), OfferAnswer::Done(inbound.queue_id.clone()));
    let (_, posted) = receipts(&mut b);
    assert_eq!(posted[0].outcomes[0].1.action, Action::Delivered);
}

#[test]
fn a_failure_that_nobody_hears_for_a_day_is_reported_to_the_verified_sender() {
    let (mut b, _) = granted(BOB);
    let (job, _) = b.delivery();
    b.finish(job, false, vec![(0, never(false))]);
    assert!(b.report_texts().is_empty(), "the origin reports");
    b.pass_unreachable(DAY - MINUTE);
    assert!(b.report_texts().is_empty());
    b.pass_unreachable(2 * MINUTE);
    let reports = b.report_texts();
    assert_eq!(reports.len(), 1);
    for part in ["To: <alice@a.example>", "Action: failed", "bob@b.example"] {
        assert!(reports[0].contains(part), "{part}: {}", reports[0]);
    }
    assert_eq!(b.inbound().phase, Phase::Working, "the origin is still to know");
    b.pass_unreachable(2 * DAY);
    assert_eq!(b.report_texts().len(), 1);
    b.pass(5 * HOUR);
    b.jobs.retain(|(_, work)| matches!(work, Work::PostReceipts(_)));
    let (job, posted) = receipts(&mut b);
    assert!(posted[0].outcomes[0].1.reported, "and to tell nobody twice");
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn a_recipient_that_was_refused_first_is_not_done_because_the_others_are() {
    let mut b = Server::new("b.example", 2);
    let both = reference(1, BOB_AND_CAROL);
    let mut without_carol = both.clone();
    without_carol.recipients[1].state = IndexState::Refused;
    without_carol.recipients[1].targets.clear();
    assert!(matches!(offer(&mut b, &without_carol), OfferAnswer::Pending(_)));
    retrieved(&mut b);
    let (job, _) = claims(&mut b);
    answer(&mut b, job, &[Granted]);
    assert!(matches!(offer(&mut b, &without_carol), OfferAnswer::Claimed(_)), "everybody it accepts");
    // Now Carol is accepted: an origin would take "claimed" for a claim of her index too.
    assert!(matches!(offer(&mut b, &both), OfferAnswer::StillPending(_)));
}

#[test]
fn a_delivery_that_nobody_hears_of_is_no_report() {
    let (mut b, _) = delivered();
    b.pass_unreachable(60 * DAY);
    assert!(b.report_texts().is_empty());
    assert!(b.ledger.rows.is_empty(), "{:?}", b.ledger.rows.keys());
}

#[test]
fn a_failure_goes_back_as_a_receipt_and_not_as_a_report() {
    let (mut b, _) = granted(BOB);
    let (job, _) = b.delivery();
    b.finish(job, false, vec![(0, never(false))]);
    let (job, posted) = receipts(&mut b);
    let (_, outcome) = &posted[0].outcomes[0];
    assert_eq!((outcome.action, outcome.status.to_string().as_str()), (Action::Failed, "5.1.1"));
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    assert!(b.report_texts().is_empty());
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn a_delay_is_told_once_and_ends_nothing() {
    let (mut b, _) = granted(BOB);
    let (mut told, end) = (0, b.now.after(10 * HOUR));
    while b.now < end {
        for (job, work) in std::mem::take(&mut b.jobs) {
            match work {
                Work::Deliver(_) => b.finish(job, false, vec![(0, later(false))]),
                Work::PostReceipts(post) => {
                    assert_eq!(post.entries[0].outcomes[0].1.action, Action::Delayed);
                    told += 1;
                    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
                }
                work => panic!("{work:?}"),
            }
        }
        b.pass(MINUTE);
    }
    assert_eq!(told, 1);
    assert_eq!(states(&b), [IndexState::Mine { acted: false }]);
}

#[test]
fn a_closed_reference_is_forgotten_300_seconds_after_e() {
    let (mut b, inbound) = delivered();
    let (job, _) = receipts(&mut b);
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    let is_known = |b: &Server| b.ledger.rows.keys().any(|key| matches!(key, mail::ledger::Key::Inbound(..)));
    let until = |b: &Server, at: Timestamp| at.since(b.now);
    let left = until(&b, inbound.expires.after(secs(300)));
    b.pass(left - secs(1));
    assert!(is_known(&b));
    b.pass(secs(2));
    assert!(!is_known(&b));
}

/// Bob's mail goes on to another domain: custody is here, and the session there is open.
fn forwarding() -> (Server, JobId) {
    let mut b = Server::new("b.example", 2);
    let mut inbound = reference(1, BOB);
    let target = support::address("robert@c.example");
    inbound.recipients[0].targets =
        vec![mail::ledger::Target { route: mail::ledger::Route::Mx(target.domain().unwrap()), address: target }];
    offer(&mut b, &inbound);
    retrieved(&mut b);
    let (job, _) = claims(&mut b);
    answer(&mut b, job, &[Granted]);
    let (job, _) = b.connect(false);
    (b, job)
}

#[test]
fn an_alias_to_another_domain_relays_and_the_receipt_does_not_name_the_target() {
    let (mut b, job) = forwarding();
    b.finish(job, false, vec![(0, taken())]);
    let (_, posted) = receipts(&mut b);
    let (_, outcome) = &posted[0].outcomes[0];
    assert_eq!(outcome.action, Action::Relayed);
    assert!(!outcome.text.contains("c.example"), "{outcome:?}");
}

#[test]
fn what_an_alias_leads_to_is_not_told_by_the_words_of_its_mail_server() {
    for failed in [false, true] {
        let (mut b, job) = forwarding();
        let said = "mx.c.example: robert@c.example".to_owned();
        let end = match failed {
            false => RecipientEnd::Accepted { final_delivery: false, text: said },
            true => RecipientEnd::Permanent { status: "5.1.1".parse().unwrap(), text: said, to_offer: false },
        };
        b.finish(job, false, vec![(0, end)]);
        let (_, posted) = receipts(&mut b);
        let (_, outcome) = &posted[0].outcomes[0];
        let status = if failed { "5.1.1" } else { "2.0.0" };
        assert_eq!(outcome.status.to_string(), status);
        assert!(!outcome.text.is_empty() && !outcome.text.contains("c.example"), "{outcome:?}");
    }
}

#[test]
fn an_object_of_another_domain_is_never_lent() {
    let (mut b, first) = offered(BOB);
    retrieved(&mut b);
    let (job, _) = claims(&mut b);
    unanswered(&mut b, job);
    let stranger = Inbound { d: support::domain("z.example"), ..reference(3, BOB) };
    assert_eq!(stranger.xuid, first.xuid);
    offer(&mut b, &stranger);
    assert_eq!(retrieval(&mut b).1.d, stranger.d);
}

#[test]
fn a_grant_that_comes_twice_makes_one_delivery() {
    let (mut b, _) = offered(BOB);
    retrieved(&mut b);
    let (job, _) = claims(&mut b);
    b.event(job, JobEvent::Claimed(vec![Some(vec![(0, Granted), (0, Granted)])]));
    assert_eq!(b.delivery().1.leg.recipients.len(), 1);
    assert!(b.jobs.is_empty());
}

#[test]
fn a_receipt_is_acknowledged_for_the_indexes_that_are_named() {
    let (mut b, _) = granted(BOB_AND_CAROL);
    for (job, _) in [b.delivery(), b.delivery()] {
        b.finish(job, false, vec![(0, done())]);
    }
    let (job, _) = receipts(&mut b);
    unanswered(&mut b, job);
    b.pass(5 * HOUR);
    let (job, posted) = receipts(&mut b);
    let said = posted[0].outcomes.iter().map(|(n, _)| *n).collect::<Vec<_>>();
    assert_eq!(said, [0, 1]);
    b.event(job, JobEvent::Reported(vec![Some(vec![1])]));
    assert_eq!(b.inbound().phase, Phase::Working);
    b.pass(5 * HOUR);
    let (_, posted) = receipts(&mut b);
    assert_eq!(posted[0].outcomes.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_full_mailbox_is_told_to_the_origin_in_its_own_code() {
    let (mut b, _) = granted(BOB);
    let (job, _) = b.delivery();
    let full = RecipientEnd::Permanent { status: "5.2.2".parse().unwrap(), text: "over quota".into(), to_offer: false };
    b.finish(job, false, vec![(0, full)]);
    let (_, posted) = receipts(&mut b);
    let (_, outcome) = &posted[0].outcomes[0];
    let said = (outcome.action, outcome.status.to_string(), outcome.text.as_str());
    assert_eq!(said, (Action::Failed, "5.2.2".to_owned(), "over quota"));
}

fn carry(b: &mut Server, inbound: &Inbound, content: &[u8]) -> u64 {
    let keys = vec![Key::Inbound(inbound.i, inbound.d.clone())];
    match b.ask(Request::Carried { keys, object: object(content), facts: FACTS }) {
        Reply::Carried(taken) => taken,
        other => panic!("{other:?}"),
    }
}

/// A reference whose object has come in a bundle before anything was fetched.
fn carried() -> (Server, Inbound) {
    let mut b = Server::new("b.example", 2);
    let inbound = Inbound { not_before: Some(b.now.after(MINUTE)), ..reference(1, BOB) };
    assert!(matches!(offer(&mut b, &inbound), OfferAnswer::Pending(_)));
    assert_eq!(carry(&mut b, &inbound, CONTENT), 1);
    (b, inbound)
}

#[test]
fn what_was_carried_here_is_delivered_though_nobody_answers_the_claim() {
    let (mut b, inbound) = carried();
    assert_eq!(carry(&mut b, &inbound, CONTENT), 0, "it has come already");
    let (job, _) = claims(&mut b);
    unanswered(&mut b, job);
    assert_eq!(states(&b), [IndexState::Mine { acted: true }]);
    let (job, _) = b.delivery();
    b.finish(job, false, vec![(0, done())]);
    // A bundle says both at once: that it was taken, and what became of it.
    let (claim, receipt) = owed(b.inbound());
    let (claim, receipt) = (claim.unwrap(), receipt.unwrap());
    assert!(claim.acted && claim.indexes == [0], "{claim:?}");
    assert_eq!(receipt.outcomes[0].1.action, Action::Delivered);
    let key = Key::Inbound(inbound.i, inbound.d.clone());
    let heard = HeardEntry { key, claimed: vec![0], recorded: vec![(0, Action::Delivered)] };
    assert!(matches!(b.ask(Request::Heard { entries: vec![heard.clone()] }), Reply::Heard(1)));
    assert!(matches!(b.ask(Request::Heard { entries: vec![heard] }), Reply::Heard(0)), "no news");
    assert!(matches!(owed(b.inbound()), (None, None)));
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn what_was_carried_here_is_claimed_as_always_where_there_is_a_link() {
    let (mut b, _) = carried();
    let (job, entries) = claims(&mut b);
    assert!(!entries[0].acted);
    answer(&mut b, job, &[Gone]);
    assert_eq!(states(&b), [IndexState::Gone]);
    assert!(b.jobs.is_empty(), "{:?}", b.jobs);
}

#[test]
fn another_object_than_the_reference_names_is_not_taken() {
    let mut b = Server::new("b.example", 2);
    let inbound = Inbound { not_before: Some(b.now.after(MINUTE)), ..reference(1, BOB) };
    offer(&mut b, &inbound);
    assert_eq!(carry(&mut b, &inbound, b"A: b\r\n\r\nx\r\n"), 0);
    assert_eq!((b.inbound().phase.clone(), b.inbound().object.clone()), (Phase::Waiting, None));
    b.pass(MINUTE * 2);
    retrieval(&mut b);
}

#[test]
fn retrievals_that_brought_much_before_they_broke_do_not_make_the_pauses_grow() {
    let (mut b, _) = offered(BOB);
    let mut pauses = |failure, count: usize| -> Vec<Duration> {
        let one = |_| {
            let before = b.now;
            not_retrieved(&mut b, failure);
            b.pass(b.inbound().next_attempt.since(before));
            b.now.since(before)
        };
        (0..count).map(one).collect()
    };
    let failed = pauses(RetrieveFailure::Temporary, 4);
    assert!(failed[3] > failed[0] * 4, "{failed:?}");
    let interrupted = pauses(RetrieveFailure::Interrupted, 4);
    assert!(interrupted.iter().all(|pause| *pause < failed[1]), "{interrupted:?} after {failed:?}");
}

#[test]
fn a_retrieval_that_a_bundle_overtook_changes_nothing() {
    let (mut b, inbound) = offered(BOB);
    let (job, _) = retrieval(&mut b);
    assert_eq!(carry(&mut b, &inbound, CONTENT), 1);
    b.event(job, JobEvent::RetrieveFailed { failure: RetrieveFailure::Corrupt, text: "no".into() });
    let (job, entries) = claims(&mut b);
    assert!(entries[0].failed.is_empty());
    answer(&mut b, job, &[Granted]);
    b.delivery();
}

#[test]
fn what_a_bundle_brought_is_not_fetched_when_its_turn_comes() {
    let mut config = support::config("b.example");
    config.limits.per_origin = 1;
    let mut b = Server::with(config, 2);
    let of = |seed, content| Inbound { xuid: object(content).xuid, ..reference(seed, BOB) };
    offer(&mut b, &reference(1, BOB));
    retrieved(&mut b);
    let (posted, _) = claims(&mut b);
    offer(&mut b, &of(3, b"A: b\r\n\r\nd\r\n"));
    let (under_way, _) = retrieval(&mut b);
    let content = b"A: b\r\n\r\ne\r\n";
    let last = of(4, content);
    offer(&mut b, &last);
    assert_eq!(carry(&mut b, &last, content), 1);
    // It waits for its claim now, behind the one that is posted.
    b.event(under_way, JobEvent::RetrieveFailed { failure: RetrieveFailure::Temporary, text: "no".into() });
    assert!(b.jobs.is_empty(), "{:?}", b.jobs);
    answer(&mut b, posted, &[Granted]);
    let entries = [b.jobs.pop_front(), b.jobs.pop_front()].into_iter().find_map(|job| match job {
        Some((_, Work::PostClaims(post))) => Some(post.entries),
        _ => None,
    });
    assert_eq!(entries.unwrap()[0].id, last.i);
}

#[test]
fn the_word_of_a_bundle_claims_nothing_that_was_not_acted_upon() {
    let (mut b, inbound) = carried();
    let key = Key::Inbound(inbound.i, inbound.d.clone());
    let heard = HeardEntry { key, claimed: vec![0, 7], recorded: vec![(0, Action::Delivered)] };
    assert!(matches!(b.ask(Request::Heard { entries: vec![heard] }), Reply::Heard(0)));
    assert_eq!(states(&b), [IndexState::Open]);
}

#[test]
fn a_failure_of_what_was_carried_here_is_reported_by_mail_only_when_no_bundle_can_tell_it() {
    let (mut b, inbound) = carried();
    let (job, _) = claims(&mut b);
    unanswered(&mut b, job);
    let (job, _) = b.delivery();
    b.finish(job, false, vec![(0, never(false))]);
    b.pass_unreachable(DAY * 2);
    let reported = |b: &Server| matches!(&states(b)[0], IndexState::Final { outcome, .. } if outcome.reported);
    assert!(!reported(&b), "the bundle may be on its way");
    b.pass_unreachable(inbound.expires.since(b.now) + HOUR);
    assert!(reported(&b));
}

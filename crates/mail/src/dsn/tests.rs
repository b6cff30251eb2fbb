use std::sync::LazyLock;

use mail_parser::{MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;

use super::*;
use crate::ledger::Action;
use crate::object::Checker;
use crate::status::EnhancedStatus;

const HEADER: &[u8] = b"Received: from x by y\r\nSubject: Lunch on\r\n Friday?\r\nMessage-ID: <1@a.example>\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn outcome(action: Action, status: &str, text: &str) -> Outcome {
    Outcome {
        action,
        status: status.parse().unwrap(),
        text: text.into(),
        at: Timestamp::from_secs(1_795_475_694),
        reported: false,
        withdrawn: false,
    }
}

struct Sample {
    from: Address,
    to: Address,
    bob: Address,
    outcome: Outcome,
    params: MailParams,
    id: QueueId,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| Sample {
    from: address("MAILER-DAEMON@mx.a.example"),
    to: address("alice@a.example"),
    bob: address("bob@b.example"),
    outcome: outcome(Action::Failed, "5.1.1", "550 5.1.1 <bob@b.example>: no such user here"),
    params: MailParams::default(),
    id: "01abc".parse().unwrap(),
});

/// A report with changes made to it, which must be an object in any case.
fn written<'a>(change: impl FnOnce(&mut Report<'a>)) -> Vec<u8> {
    let Sample { from, to, bob, outcome, params, id } = &*SAMPLE;
    let recipient = RecipientReport { address: bob, orcpt: None, outcome, remote_mta: Some("mx.b.example") };
    let mut report = Report {
        kind: ReportKind::Failed,
        reporting_mta: "mx.a.example",
        from,
        to,
        at: Timestamp::from_secs(1_795_475_700),
        unique: [0xa5; 16],
        queue_id: Some(id),
        params,
        arrived: Timestamp::from_secs(1_795_475_000),
        retry_until: None,
        recipients: vec![recipient],
        original: Some(Original { octets: HEADER, complete: false }),
    };
    change(&mut report);
    let message = report.to_message();
    let mut checker = Checker::default();
    checker.update(&message);
    assert_eq!(checker.finish().verdict, Ok(()), "{}", String::from_utf8_lossy(&message));
    message
}

fn text(message: &[u8]) -> String {
    String::from_utf8(message.to_vec()).unwrap()
}

#[test]
fn a_failure_report_to_the_octet() {
    let expected = "\
From: Mail Delivery System <MAILER-DAEMON@mx.a.example>
To: <alice@a.example>
Subject: Your message could not be delivered
Date: Mon, 23 Nov 2026 23:15:00 +0000
Message-ID: <a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5@mx.a.example>
In-Reply-To: <1@a.example>
References: <1@a.example>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
 boundary=\"=_a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\"

--=_a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
Content-Type: text/plain; charset=us-ascii

This is the mail system at mx.a.example.

I am sorry: your message of Mon, 23 Nov 2026 23:03:20 +0000 could not be
delivered to this recipient, and will not be tried again.

    Subject: Lunch on Friday?

    bob@b.example
        There is no mailbox of this name.
        mx.b.example said: 550 5.1.1 <bob@b.example>: no such user here

Please check the spelling of the address, and send the message again.
The details below help whoever looks into it.


--=_a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.a.example
X-Queue-Id: 01abc
Arrival-Date: Mon, 23 Nov 2026 23:03:20 +0000

Final-Recipient: rfc822; bob@b.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.b.example
Diagnostic-Code: smtp; 550 5.1.1 <bob@b.example>: no such user here
Last-Attempt-Date: Mon, 23 Nov 2026 23:14:54 +0000

--=_a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 7bit

Received: from x by y
Subject: Lunch on
 Friday?
Message-ID: <1@a.example>

--=_a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5--
";
    assert_eq!(text(&written(|_| ())), expected.replace('\n', "\r\n"));
}

#[test]
fn parsers_understand_it() {
    let message = written(|_| ());
    let parsed = MessageParser::default().parse(&message).unwrap();
    let kind = parsed.content_type().unwrap();
    assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    assert_eq!(parsed.parts.len(), 4);
    let kinds = parsed.parts[1..].iter().map(|part| part.content_type().unwrap().subtype().unwrap().to_owned());
    assert_eq!(kinds.collect::<Vec<_>>(), ["plain", "delivery-status", "rfc822-headers"]);
    assert!(parsed.body_text(0).unwrap().contains("There is no mailbox of this name."));
    assert_eq!(parsed.to().unwrap().first().unwrap().address(), Some("alice@a.example"));
}

#[test]
fn each_kind_says_what_it_is() {
    let bob = address("bob@b.example");
    let until = Some(Timestamp::from_secs(1_795_900_000));
    for (kind, action, status, said, subject, sentence, action_line) in [
        (
            ReportKind::Delayed,
            Action::Delayed,
            "4.4.1",
            "421 busy",
            "Your message is delayed",
            "could not be reached",
            "delayed",
        ),
        (ReportKind::Held, Action::Delayed, "4.4.0", "", "No word yet", "ask the recipient in another way", "delayed"),
        (
            ReportKind::Succeeded,
            Action::Delivered,
            "2.0.0",
            "250 ok",
            "has been delivered",
            "It is in the mailbox",
            "delivered",
        ),
        (ReportKind::Succeeded, Action::Relayed, "2.0.0", "", "has been passed on", "sends no further", "relayed"),
        (ReportKind::Succeeded, Action::Expanded, "2.0.0", "", "has been delivered", "several recipients", "expanded"),
    ] {
        let outcome = outcome(action, status, said);
        let message = text(&written(|report| {
            report.kind = kind;
            report.retry_until = until;
            report.recipients =
                vec![RecipientReport { address: &bob, orcpt: None, outcome: &outcome, remote_mta: None }];
        }));
        let unwrapped = message.replace("\r\n ", " ").replace("\r\n", " ").replace("        ", " ");
        for part in [subject, sentence, &format!("Action: {action_line} "), &format!("Status: {status} ")] {
            assert!(unwrapped.contains(part), "{part} not in\n{message}");
        }
        let retries = message.contains("Will-Retry-Until: Sat, 28 Nov 2026 21:06:40 +0000\r\n");
        assert_eq!(retries, kind == ReportKind::Delayed);
    }
}

#[test]
fn the_words_of_the_envelope_are_decoded() {
    let params = MailParams { envid: Some("QQ+2B314+20x".into()), ..MailParams::default() };
    for (orcpt, expected) in [
        ("rfc822;Bob+2Bx@b.example", Some("Original-Recipient: rfc822; Bob+x@b.example\r\n")),
        ("utf-8;b\\x{FC}b@b.example", Some("Original-Recipient: utf-8; b\\x{FC}b@b.example\r\n")),
        ("utf-8;büb@b.example", Some("Original-Recipient: utf-8; b\\x{FC}b@b.example\r\n")),
        ("rfc822;a+0D+0AX-Evil:+20yes", None),
        ("rfc822;a+ZZ", None),
        ("rfc822;a+2", None),
        ("rf c;a", None),
        ("rfc822", None),
        ("rfc822;", None),
    ] {
        let message = text(&written(|report| {
            report.params = &params;
            report.recipients[0].orcpt = Some(orcpt);
        }));
        assert!(message.contains("Original-Envelope-Id: QQ+314 x\r\n"));
        match expected {
            Some(line) => assert!(message.contains(line), "{orcpt}: {message}"),
            None => assert!(!message.contains("Original-Recipient"), "{orcpt}: {message}"),
        }
    }
}

#[test]
fn what_peers_say_stays_in_its_place() {
    let outcome = outcome(Action::Failed, "5.0.0", "550-no\r\n550 way\r\nX-Evil: yes\r\n\r\n--=_x \u{1b}[31m é");
    let message = text(&written(|report| {
        report.recipients[0].outcome = &outcome;
        report.recipients[0].remote_mta = Some("mx.b.example\r\nX-Evil: yes");
        report.reporting_mta = "mx.a.example>\r\nX-Evil: yes";
    }));
    assert!(!message.contains("\nX-Evil"), "{message}");
    assert!(message.contains("Diagnostic-Code: smtp; 550-no 550 way X-Evil: yes --=_x [31m ?\r\n"), "{message}");
}

#[test]
fn what_peers_say_has_an_end() {
    let outcome = outcome(Action::Failed, "5.0.0", &"y".repeat(3000));
    let message = text(&written(|report| report.recipients[0].outcome = &outcome));
    assert!(message.contains(&"y".repeat(500)) && !message.contains(&"y".repeat(501)));
}

#[test]
fn a_header_without_end_is_cut() {
    let octets = "X-Long: yes\r\n".repeat(10_000).into_bytes();
    let message = written(|report| report.original = Some(Original { octets: &octets, complete: false }));
    assert!((MAX_RETURNED_HEADER..MAX_RETURNED_HEADER + 8000).contains(&message.len()), "{}", message.len());
}

#[test]
fn a_strange_message_id_is_not_repeated() {
    let message_of = |id: &str| {
        let octets = format!("Message-ID: {id}\r\n").into_bytes();
        text(&written(|report| report.original = Some(Original { octets: &octets, complete: false })))
    };
    assert!(message_of("<1@a.example>").contains("\r\nIn-Reply-To: <1@a.example>\r\n"));
    for strange in ["<1;2@a.example>", "<1> <2@a.example>", "<(1)@a.example>", "<1,2@a.example>", "1@a.example"] {
        assert!(!message_of(strange).contains("In-Reply-To"), "{strange}");
    }
}

#[test]
fn an_own_sentence_is_no_smtp_reply() {
    let outcome = outcome(Action::Failed, "4.4.7", "no claim came in time");
    let message = text(&written(|report| report.recipients[0].outcome = &outcome));
    assert!(message.contains("Diagnostic-Code: x-restante; no claim came in time\r\n"));
    assert!(message.contains("in the time there was for it"));
}

fn third_part(message: &[u8]) -> (String, Vec<u8>) {
    let parsed = MessageParser::default().parse(message).unwrap();
    let part = parsed.parts.get(3).unwrap();
    let kind = part.content_type().unwrap();
    let octets = match &part.body {
        PartType::Text(text) => text.as_bytes().to_vec(),
        PartType::Binary(octets) => octets.to_vec(),
        PartType::Message(_) => message[part.offset_body as usize..part.offset_end as usize].to_vec(),
        other => panic!("{other:?}"),
    };
    (format!("{}/{}", kind.ctype(), kind.subtype().unwrap()), octets)
}

#[test]
fn headers_of_any_octets_come_back_in_seven_bits() {
    let utf8 = "Subject: grüße\r\nX-Long: ".to_owned() + &"y".repeat(1200) + "\r\n";
    for smtputf8 in [false, true] {
        let params = MailParams { smtputf8, ..MailParams::default() };
        let octets = [utf8.as_bytes(), b"\r\nbody\r\n"].concat();
        let message = written(|report| {
            report.params = &params;
            report.original = Some(Original { octets: &octets, complete: true });
        });
        assert!(message.is_ascii());
        let (kind, returned) = third_part(&message);
        assert_eq!(kind, if smtputf8 { "message/global-headers" } else { "text/rfc822-headers" });
        assert_eq!(String::from_utf8(returned).unwrap().trim_end(), utf8.trim_end());
    }
    // Not even UTF-8, bare line ends, no header at all: still a report.
    for octets in [b"Subject: \xff\xfe\r\n\r\n".as_slice(), b"A: b\rc\nD: e\0\n\nf", b"\r\n\r\nx", b"", b" a\r\n"] {
        assert!(written(|report| report.original = Some(Original { octets, complete: true })).is_ascii());
    }
    written(|report| report.original = None);
}

#[test]
fn the_whole_message_comes_back_only_when_asked_for() {
    let whole = [HEADER, "\r\nbody é\r\n--=_x\r\n".as_bytes()].concat();
    let full = MailParams { ret: Some(DsnReturn::Full), ..MailParams::default() };
    let returned = |params: &MailParams, complete, kind, octets: &[u8]| {
        let message = written(|report| {
            (report.params, report.kind) = (params, kind);
            report.original = Some(Original { octets, complete });
        });
        (
            third_part(&message),
            String::from_utf8_lossy(&message).contains("\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--="),
        )
    };
    let ((kind, octets), eight_bit) = returned(&full, true, ReportKind::Failed, &whole);
    assert_eq!((kind.as_str(), eight_bit), ("message/rfc822", true));
    assert_eq!(String::from_utf8_lossy(&octets).trim_end(), String::from_utf8_lossy(&whole).trim_end());
    for (params, complete, kind) in [
        (&MailParams::default(), true, ReportKind::Failed),
        (&full, false, ReportKind::Failed),
        (&full, true, ReportKind::Delayed),
        // RFC 8689 §5: what travelled protected does not come back in full.
        (&MailParams { requiretls: true, ..full.clone() }, true, ReportKind::Failed),
    ] {
        let ((kind, octets), eight_bit) = returned(params, complete, kind, &whole);
        assert_eq!((kind.as_str(), eight_bit), ("text/rfc822-headers", false));
        assert_eq!(String::from_utf8_lossy(&octets).trim_end(), String::from_utf8_lossy(HEADER).trim_end());
    }
    // What is no object cannot stand inside one.
    assert_eq!(returned(&full, true, ReportKind::Failed, b"A: b\n\nc\n").0.0, "text/rfc822-headers");
}

#[test]
fn international_addresses() {
    let (to, bob) = (address("jürgen@bücher.example"), address("bøb@b.example"));
    let message = written(|report| report.recipients[0].address = &bob);
    assert!(message.is_ascii(), "only the author's own address needs SMTPUTF8");
    assert!(text(&message).contains("Final-Recipient: utf-8; b\\x{F8}b@b.example\r\n"));
    let parsed = MessageParser::default().parse(&message).unwrap();
    assert!(parsed.body_text(0).unwrap().contains("    bøb@b.example"));
    let message = text(&written(|report| report.to = &to));
    assert!(message.contains("To: <jürgen@xn--bcher-kva.example>\r\n"));
}

#[test]
fn a_bare_postmaster_gets_this_servers_name() {
    let postmaster = address("postmaster");
    let message = text(&written(|report| (report.from, report.recipients[0].address) = (&postmaster, &postmaster)));
    assert!(message.contains("<postmaster@mx.a.example>"));
    assert!(message.contains("Final-Recipient: rfc822; postmaster@mx.a.example\r\n"));
}

#[test]
fn quoted_local_parts_keep_their_spaces() {
    let bob = address("\"a  b\"@b.example");
    let message = text(&written(|report| report.recipients[0].address = &bob));
    assert!(message.contains("Final-Recipient: rfc822; \"a  b\"@b.example\r\n"));
}

fn any_address() -> impl Strategy<Value = Address> {
    let local = prop_oneof!["[a-z+=.ü-ž]{1,60}", "\"[ -!#-Z]{0,100}\"", "[+ü]{120}"];
    let made = (local, "[a-z]{1,60}(\\.[a-z]{1,60}){0,3}")
        .prop_map(|(local, domain)| Address::parse(&format!("{local}@{domain}")));
    made.prop_filter_map("no address", Result::ok)
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let actions = [Action::Delivered, Action::Relayed, Action::Expanded, Action::Failed, Action::Delayed];
    let text = prop_oneof![any::<String>(), "\\PC{0,2000}", "[0-9]{3}[ -][ -~\r\n]{0,900}"];
    (prop::sample::select(actions.to_vec()), 0u16..8, 0u16..30, text).prop_map(|(action, subject, detail, text)| {
        Outcome {
            action,
            status: EnhancedStatus::permanent(subject, detail),
            text,
            at: Timestamp::from_secs(1),
            reported: false,
            withdrawn: false,
        }
    })
}

proptest! {
    #[test]
    fn every_report_is_an_object(
        addresses in proptest::collection::vec(any_address(), 3..6),
        outcome in any_outcome(),
        kind in prop::sample::select(vec![ReportKind::Failed, ReportKind::Delayed, ReportKind::Held, ReportKind::Succeeded]),
        host in any::<String>(),
        orcpt in prop_oneof![any::<String>(), "(utf-8|rfc822);\\PC{0,500}"],
        envid in any::<String>(),
        original in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3000),
            "(Subject|Message-ID|X): \\PC{0,300}\r\n( \\PC{0,90}\r\n)?\r\n\\PC{0,50}\r\n".prop_map(String::into_bytes),
        ],
        (complete, smtputf8) in any::<(bool, bool)>(),
    ) {
        let params = MailParams { envid: Some(envid), ret: Some(DsnReturn::Full), smtputf8, ..MailParams::default() };
        let seven_bit = addresses[1].as_str().is_ascii() && addresses[0].as_str().is_ascii();
        let message = written(|report| {
            (report.from, report.to, report.kind, report.params) = (&addresses[0], &addresses[1], kind, &params);
            report.reporting_mta = &host;
            report.original = Some(Original { octets: &original, complete });
            let recipient = |address| RecipientReport { address, orcpt: Some(&orcpt), outcome: &outcome, remote_mta: Some(&host) };
            report.recipients = addresses[2..].iter().map(recipient).collect();
        });
        let whole = complete && kind == ReportKind::Failed;
        prop_assert!(message.is_ascii() || !seven_bit || whole);
        let parsed = MessageParser::default().parse(&message).unwrap();
        prop_assert_eq!(parsed.parts[0].sub_parts().map_or(0, <[_]>::len) >= 2, true);
    }

    #[test]
    fn quoted_printable_comes_back(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        let coded = quoted_printable(&octets);
        prop_assert!(coded.is_ascii());
        for line in coded.split(|o| *o == b'\n') {
            prop_assert!(line.len() <= 77 && !line.ends_with(b" \r"));
        }
        let decoded = mail_parser::decoders::quoted_printable::quoted_printable_decode(&coded).unwrap();
        let lines = octets.split_inclusive(|o| *o == b'\n').map(|line| {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            [line.strip_suffix(b"\r").unwrap_or(line), b"\r\n"].concat()
        });
        prop_assert_eq!(decoded, lines.collect::<Vec<_>>().concat());
    }
}

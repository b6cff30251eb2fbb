//! Points of RFC 7208 that matter most; the suite of its authors is run over real zones by `net`.

use super::*;

/// `name TYPE value` lines; `TXT` values may hold spaces, `TIMEOUT` has none.
fn answer(zone: &[&str], question: &Question) -> Answer {
    let lines = |name: &str, kind: &str| -> Vec<String> {
        let prefix = format!("{name} {kind} ");
        zone.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    if let Question::Txt(name) = question
        && zone.contains(&format!("{name} TIMEOUT").as_str())
    {
        return Answer::Temporary;
    }
    let found = match question {
        Question::Txt(name) => Answer::Texts(lines(name, "TXT").into_iter().map(String::into_bytes).collect()),
        Question::Addresses(name, family) => {
            let kind = if *family == Family::V4 { "A" } else { "AAAA" };
            Answer::Addresses(lines(name, kind).iter().map(|text| text.parse().unwrap()).collect())
        }
        Question::Exchanges(name) => Answer::Names(lines(name, "MX")),
        Question::Names(address) => Answer::Names(lines(&address.to_string(), "PTR")),
    };
    match found {
        Answer::Texts(list) if list.is_empty() => Answer::Nothing,
        Answer::Addresses(list) if list.is_empty() => Answer::Nothing,
        Answer::Names(list) if list.is_empty() => Answer::Nothing,
        found => found,
    }
}

fn run(zone: &[&str], client: &str, mail_from: &str) -> Outcome {
    let query = Query {
        client: client.parse().unwrap(),
        helo: "mx.a.example",
        mail_from,
        receiver: "mx.b.example",
        now: Timestamp::from_secs(1_800_000_000),
    };
    let mut answers = Answers::new();
    loop {
        match check(&query, &answers) {
            Step::Done(outcome) => return outcome,
            Step::Ask(question) => {
                let found = answer(zone, &question);
                assert!(answers.insert(question, found).is_none(), "nothing is asked twice");
                assert!(answers.len() <= 200, "there is an end to questions");
            }
        }
    }
}

fn verdict(zone: &[&str], client: &str) -> Verdict {
    run(zone, client, "alice@a.example").verdict
}

#[test]
fn mechanisms_match_and_qualifiers_decide() {
    let zone = [
        "a.example TXT v=spf1 a:h.a.example/24 mx ip6:2001:db8::/32 ?ip4:203.0.113.0/24 ~exists:%{i}.x.example -all",
        "h.a.example A 192.0.2.7",
        "a.example MX mx.a.example",
        "mx.a.example A 198.51.100.1",
        "198.51.100.9.x.example A 127.0.0.2",
    ];
    for (client, expected) in [
        ("192.0.2.200", Verdict::Pass),
        ("198.51.100.1", Verdict::Pass),
        ("::ffff:198.51.100.1", Verdict::Pass),
        ("203.0.113.5", Verdict::Neutral),
        ("198.51.100.9", Verdict::SoftFail),
        ("192.0.3.1", Verdict::Fail),
    ] {
        assert_eq!(verdict(&zone, client), expected, "{client}");
    }
    let v6 = ["a.example TXT v=spf1 ip6:2001:db8::/32 -all"];
    assert_eq!(verdict(&v6, "2001:db8:1::5"), Verdict::Pass);
}

#[test]
fn what_is_not_known_or_wrong_has_its_own_verdict() {
    assert_eq!(verdict(&[], "192.0.2.1"), Verdict::None);
    assert_eq!(verdict(&["a.example TIMEOUT"], "192.0.2.1"), Verdict::TempError);
    assert_eq!(verdict(&["a.example TXT v=spf10 -all"], "192.0.2.1"), Verdict::None);
    assert_eq!(verdict(&["a.example TXT v=spf1"], "192.0.2.1"), Verdict::Neutral);
    let two = ["a.example TXT v=spf1 +all", "a.example TXT v=spf1 -all"];
    assert_eq!(verdict(&two, "192.0.2.1"), Verdict::PermError);
    for bad in [
        "+al",
        "a:",
        "ip4:1.2.3",
        "ip4:192.0.2.0/33",
        "ip6:2001::/129",
        "include",
        "redirect=",
        "a:x.123",
        "all:x",
        "exists:%{z}.x.example",
        "redirect=x.example redirect=x.example",
        "a//129",
        "a/032",
        "é",
    ] {
        let record = format!("a.example TXT v=spf1 +all {bad}");
        assert_eq!(verdict(&[&record], "192.0.2.1"), Verdict::PermError, "{bad}");
    }
    for good in ["foo=bar", "a/0", "mx//0", "exp=x.example", "a:x.example./24", "exists:%{l1r-}.%{d2}", "FOO.b-r=%%"] {
        let record = format!("a.example TXT v=spf1 +all {good}");
        assert_eq!(verdict(&[&record], "192.0.2.1"), Verdict::Pass, "{good}");
    }
}

#[test]
fn a_record_cannot_make_us_ask_without_end() {
    let endless = ["a.example TXT v=spf1 include:a.example -all"];
    assert_eq!(verdict(&endless, "192.0.2.1"), Verdict::PermError);
    let eleven = format!("a.example TXT v=spf1 {}", "a:h.a.example ".repeat(11));
    assert_eq!(verdict(&[&eleven, "h.a.example A 192.0.2.1"], "192.0.2.2"), Verdict::PermError);
    let ten = format!("a.example TXT v=spf1 {}+all", "a:h.a.example ".repeat(10));
    assert_eq!(verdict(&[&ten, "h.a.example A 192.0.2.1"], "192.0.2.2"), Verdict::Pass);
    let void = ["a.example TXT v=spf1 a:x.a.example a:y.a.example a:z.a.example +all"];
    assert_eq!(verdict(&void, "192.0.2.1"), Verdict::PermError);
    let mut many = vec!["a.example TXT v=spf1 mx -all".to_owned()];
    many.extend((0..11).map(|n| format!("a.example MX h{n}.a.example")));
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(verdict(&many, "192.0.2.1"), Verdict::PermError);
}

#[test]
fn redirect_and_include_differ() {
    let zone = [
        "a.example TXT v=spf1 include:b.example ?all",
        "b.example TXT v=spf1 -all",
        "c.example TXT v=spf1 redirect=b.example",
        "d.example TXT v=spf1 redirect=none.example",
        "e.example TXT v=spf1 include:none.example",
    ];
    let of = |domain: &str| run(&zone, "192.0.2.1", &format!("x@{domain}")).verdict;
    assert_eq!([of("a.example"), of("c.example")], [Verdict::Neutral, Verdict::Fail]);
    assert_eq!([of("d.example"), of("e.example")], [Verdict::PermError, Verdict::PermError]);
}

#[test]
fn the_null_sender_is_judged_by_the_name_in_helo() {
    let zone =
        ["mx.a.example TXT v=spf1 exists:%{l}.%{o}.x.example -all", "postmaster.mx.a.example.x.example A 127.0.0.2"];
    assert_eq!(run(&zone, "192.0.2.1", "").verdict, Verdict::Pass);
}

#[test]
fn an_explanation_is_one_ascii_line() {
    let with = |text: &str| {
        let explanation = format!("e.a.example TXT {text}");
        let zone = ["a.example TXT v=spf1 -all exp=e.a.example", &explanation];
        run(&zone, "192.0.2.1", "alice@a.example").explanation
    };
    assert_eq!(
        with("%{i} is not one of %{d}'s, said %{r}").as_deref(),
        Some("192.0.2.1 is not one of a.example's, said mx.b.example")
    );
    assert_eq!(with("%{x}"), None);
    assert_eq!(with("é"), None);
    assert_eq!(with(&"x".repeat(2000)).map(|text| text.len()), Some(512));
}

#[test]
fn validated_names_lead_back_to_the_client() {
    let zone = [
        "a.example TXT v=spf1 ptr -all",
        "192.0.2.1 PTR h.a.example",
        "h.a.example A 192.0.2.1",
        "192.0.2.2 PTR forged.a.example",
        "forged.a.example A 192.0.2.99",
        "192.0.2.3 PTR nota.example",
        "nota.example A 192.0.2.3",
    ];
    assert_eq!(verdict(&zone, "192.0.2.1"), Verdict::Pass);
    assert_eq!(verdict(&zone, "192.0.2.2"), Verdict::Fail);
    assert_eq!(verdict(&zone, "192.0.2.3"), Verdict::Fail);
}

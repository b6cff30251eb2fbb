//! The test suite of RFC 7208 by the authors of SPF (openspf.org, release 2014.04), run over its own zones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::net::IpAddr;

use mail::Timestamp;
use policy::spf::{self, Answer, Answers, Family, Outcome, Query, Question, Step};
use testbed::Sdist;
use yaml_rust2::{Yaml, YamlLoader};

#[test]
fn the_suite_passes() {
    let path = Sdist::Pyspf.unpacked().unwrap().join("test/rfc7208-tests.yml");
    let suite = YamlLoader::load_from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let (mut passed, mut failed) = (0, Vec::new());
    for scenario in &suite {
        for (name, test) in scenario["tests"].as_hash().unwrap() {
            match run(scenario, test) {
                Ok(()) => passed += 1,
                Err(why) => failed.push(format!("{}: {why}", name.as_str().unwrap())),
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), failed.len() + passed, failed.join("\n"));
    assert_eq!(passed, 203, "the whole suite");
}

fn run(scenario: &Yaml, test: &Yaml) -> Result<(), String> {
    let outcome = check(&scenario["zonedata"], test);
    let verdict = outcome.verdict.to_string();
    let expected: Vec<&str> = match &test["result"] {
        Yaml::Array(several) => several.iter().filter_map(Yaml::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if !expected.contains(&verdict.as_str()) {
        return Err(format!("{verdict} instead of {expected:?}"));
    }
    match (test["explanation"].as_str(), outcome.explanation.as_deref()) {
        (None, _) | (Some("DEFAULT"), None) => Ok(()),
        (Some(wanted), Some(found)) if wanted == found => Ok(()),
        (wanted, found) => Err(format!("explained by {found:?} instead of {wanted:?}")),
    }
}

fn check(zone: &Yaml, test: &Yaml) -> Outcome {
    let query = Query {
        client: test["host"].as_str().unwrap().parse().unwrap(),
        helo: test["helo"].as_str().unwrap_or_default(),
        mail_from: test["mailfrom"].as_str().unwrap_or_default(),
        // What the suite expects of %{r}: the name that an implementation without one gives.
        receiver: test["receiver"].as_str().unwrap_or("unknown"),
        now: Timestamp::from_secs(1_800_000_000),
    };
    let mut answers = Answers::new();
    loop {
        match spf::check(&query, &answers) {
            Step::Done(outcome) => return outcome,
            Step::Ask(question) => {
                let answer = answer(zone, &question);
                answers.insert(question, answer);
            }
        }
    }
}

fn answer(zone: &Yaml, question: &Question) -> Answer {
    match question {
        Question::Txt(name) => texts(zone, name),
        Question::Addresses(name, family) => {
            let kind = if *family == Family::V4 { "A" } else { "AAAA" };
            let parse = |value: &Yaml| value.as_str().unwrap().parse::<IpAddr>().unwrap();
            of_kind(zone, name, kind).map_or(Answer::Temporary, |found| {
                if found.is_empty() { Answer::Nothing } else { Answer::Addresses(found.iter().map(parse).collect()) }
            })
        }
        Question::Exchanges(name) => {
            let host = |value: &Yaml| value[1].as_str().unwrap().to_owned();
            names(of_kind(zone, name, "MX"), host)
        }
        Question::Names(address) => {
            let name = reverse(*address);
            names(of_kind(zone, &name, "PTR"), |value| value.as_str().unwrap().to_owned())
        }
    }
}

fn names(found: Option<Vec<Yaml>>, name: impl Fn(&Yaml) -> String) -> Answer {
    match found {
        None => Answer::Temporary,
        Some(found) if found.is_empty() => Answer::Nothing,
        Some(found) => Answer::Names(found.iter().map(name).collect()),
    }
}

/// SPF records stand for TXT records where there are none (a convention of the suite).
fn texts(zone: &Yaml, name: &str) -> Answer {
    let own = of_kind(zone, name, "TXT");
    let has_own = entries(zone, name).iter().any(|entry| !entry["TXT"].is_badvalue());
    let is_aliased = own.as_ref().is_some_and(|found| !found.is_empty());
    let found = if has_own || is_aliased { own } else { of_kind(zone, name, "SPF") };
    let text = |value: &Yaml| match value {
        Yaml::Array(parts) => parts.iter().filter_map(Yaml::as_str).collect::<String>().into_bytes(),
        one => one.as_str().unwrap().as_bytes().to_vec(),
    };
    match found {
        None => Answer::Temporary,
        Some(found) => {
            if found.is_empty() {
                Answer::Nothing
            } else {
                Answer::Texts(found.iter().map(text).collect())
            }
        }
    }
}

/// Records of a kind, aliases followed; nothing where the name server does not answer.
fn of_kind(zone: &Yaml, name: &str, kind: &str) -> Option<Vec<Yaml>> {
    follow(zone, name, kind, 2)
}

/// One alias, as the suite's own driver does: some of its zones have aliases in a circle.
fn follow(zone: &Yaml, name: &str, kind: &str, depth: u8) -> Option<Vec<Yaml>> {
    if name.split('.').any(|label| label.len() > 63) {
        return None;
    }
    let mut found = Vec::new();
    for entry in entries(zone, name) {
        match &entry {
            Yaml::String(word) if word == "TIMEOUT" => return (!found.is_empty()).then_some(found),
            entry if entry[kind].as_str() == Some("TIMEOUT") => return None,
            entry if entry[kind].as_str() == Some("NONE") => {}
            entry if !entry[kind].is_badvalue() => found.push(entry[kind].clone()),
            entry if !entry["CNAME"].is_badvalue() && depth > 1 => {
                found.extend(follow(zone, entry["CNAME"].as_str().unwrap(), kind, depth - 1)?);
            }
            _ => {}
        }
    }
    // A set of records has none twice (RFC 2181 §5).
    let mut once: Vec<Yaml> = Vec::new();
    found.into_iter().for_each(|value| {
        if !once.contains(&value) {
            once.push(value)
        }
    });
    Some(once)
}

fn entries(zone: &Yaml, name: &str) -> Vec<Yaml> {
    let wanted = name.trim_end_matches('.');
    let all = zone.as_hash().into_iter().flatten();
    let of_name = all.filter(|(owner, _)| {
        owner.as_str().is_some_and(|owner| owner.trim_end_matches('.').eq_ignore_ascii_case(wanted))
    });
    of_name.flat_map(|(_, entries)| entries.as_vec().cloned().unwrap_or_default()).collect()
}

fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits: Vec<String> = format!("{:032x}", v6.to_bits()).chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

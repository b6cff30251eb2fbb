//! The collected syntax of the specification (TBR §17) against the golden vectors: what is valid has the form that stands there,
//! what is malformed has not, and every member of a JSON body has its row.
//!
//! A text is matched by following every way through a rule at once, so that the order of alternatives does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use abnf::types::{Node, Rule, TerminalValues};
use serde_json::{Value, json};

use crate::body::{JsonBody as _, Revision1};
use crate::bundle::{Heard, HeardEntry, RecordedIndex};
use crate::pending::{Cursor, PendingList, PendingOffer};

/// What prose says and the rules cannot.
const IN_PROSE: [&str; 17] = [
    // A signature is no matter of form.
    "signed by another key",
    "signature with one bit changed",
    "size changed",
    "recipient domain changed",
    "sender changed",
    "number changed",
    "host changed",
    // Lengths, and numbers that are not of a power of ten.
    "selector too long",
    "size over 2^53-1",
    "time after the year 9999",
    // A last label of digits only.
    "address as domain",
    "IPv4 address",
    // What the octets of `f` are.
    "sender without domain",
    "sender is bare postmaster",
    "sender at an address literal",
    "sender domain in capitals",
    "sender with a line end",
];

struct Grammar {
    rules: BTreeMap<String, Node>,
}

type Ends = BTreeSet<usize>;

impl Grammar {
    fn collected() -> Self {
        let section =
            specification().split_once("\n### 17.1.").unwrap().1.split_once("\n### 17.2.").unwrap().0.to_owned();
        let lines = section.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n"));
        let rules = abnf::rulelist(&lines.collect::<String>()).unwrap();
        let rules: BTreeMap<String, Node> = rules.iter().map(named).collect();
        Self { rules }
    }

    fn matches(&self, rule: &str, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.rule(rule, &text, 0).contains(&text.len())
    }

    /// Where what has this name can end that begins at `at`.
    fn rule(&self, name: &str, text: &[char], at: usize) -> Ends {
        let one =
            |fits: &dyn Fn(char) -> bool| text.get(at).filter(|c| fits(**c)).map(|_| at + 1).into_iter().collect();
        match (self.rules.get(&name.to_ascii_lowercase()), name) {
            (Some(node), _) => self.node(node, text, at),
            // The core rules of RFC 5234, appendix B.1, that are used.
            (None, "ALPHA") => one(&|c| c.is_ascii_alphabetic()),
            (None, "DIGIT") => one(&|c| c.is_ascii_digit()),
            (None, "DQUOTE") => one(&|c| c == '"'),
            (None, "SP") => one(&|c| c == ' '),
            (None, "WSP") => one(&|c| matches!(c, ' ' | '\t')),
            (None, "CRLF") => text[at..].starts_with(&['\r', '\n']).then_some(at + 2).into_iter().collect(),
            (None, unknown) => panic!("no rule {unknown}"),
        }
    }

    fn node(&self, node: &Node, text: &[char], at: usize) -> Ends {
        match node {
            Node::Alternatives(nodes) => nodes.iter().flat_map(|node| self.node(node, text, at)).collect(),
            Node::Concatenation(nodes) => nodes.iter().fold([at].into(), |from, node| self.each(node, text, &from)),
            Node::Repetition { repeat, node } => {
                let (least, most) = (repeat.min().unwrap_or(0), repeat.max().unwrap_or(usize::MAX));
                self.repeated(node, text, at, least, most)
            }
            Node::Rulename(name) => self.rule(name, text, at),
            Node::Group(node) => self.node(node, text, at),
            Node::Optional(node) => self.repeated(node, text, at, 0, 1),
            Node::String(literal) => {
                let wanted: Vec<char> = literal.value().chars().collect();
                let end = at + wanted.len();
                let same = |found: &[char]| match literal.is_case_sensitive() {
                    true => found == wanted,
                    false => found.iter().zip(&wanted).all(|(a, b)| a.eq_ignore_ascii_case(b)),
                };
                text.get(at..end).filter(|found| same(found)).map(|_| end).into_iter().collect()
            }
            Node::TerminalValues(TerminalValues::Range(from, to)) => {
                let within = |c: &&char| (*from..=*to).contains(&u32::from(**c));
                text.get(at).filter(within).map(|_| at + 1).into_iter().collect()
            }
            Node::TerminalValues(TerminalValues::Concatenation(values)) => {
                let found = text.get(at..at + values.len()).unwrap_or_default();
                let same = found.len() == values.len() && found.iter().zip(values).all(|(c, v)| u32::from(*c) == *v);
                same.then_some(at + values.len()).into_iter().collect()
            }
            Node::Prose(prose) => panic!("<{prose}> cannot be matched"),
        }
    }

    fn each(&self, node: &Node, text: &[char], from: &Ends) -> Ends {
        from.iter().flat_map(|at| self.node(node, text, *at)).collect()
    }

    fn repeated(&self, node: &Node, text: &[char], at: usize, least: usize, most: usize) -> Ends {
        let mut now: Ends = [at].into();
        let mut ends = if least == 0 { now.clone() } else { Ends::new() };
        for count in 1..=most {
            now = self.each(node, text, &now);
            // Past the least number, what leads nowhere new is over.
            if now.is_empty() || (count > least && now.is_subset(&ends)) {
                break;
            }
            if count >= least {
                ends.extend(&now);
            }
        }
        ends
    }
}

fn named(rule: &Rule) -> (String, Node) {
    (rule.name().to_ascii_lowercase(), rule.node().clone())
}

fn document(path: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec").join(path)).unwrap()
}

fn specification() -> String {
    document("tbr.md")
}

/// The vectors of a file: name, input, outcome; and whether they are valid.
fn vectors(file: &str) -> Vec<(String, Value, Value, bool)> {
    let file: Value = serde_json::from_str(&document(&format!("vectors/{file}.json"))).unwrap();
    let vectors = file["vectors"].as_array().unwrap().iter();
    let parts = |vector: &Value| {
        let is_valid = vector["outcome"]["verdict"] == "valid";
        (vector["name"].as_str().unwrap().to_owned(), vector["input"].clone(), vector["outcome"].clone(), is_valid)
    };
    vectors.map(parts).collect()
}

#[test]
fn fields_blocks_and_uris_have_the_form_of_the_collected_syntax() {
    let grammar = Grammar::collected();
    let mut judged = 0;
    for (file, member, rule) in [
        ("references", "field", "tbr-reference"),
        ("hops", "field", "tbr-hop"),
        ("uris", "uri", "exam-uri"),
        ("blocks", "block", "block"),
    ] {
        for (name, input, outcome, is_valid) in vectors(file) {
            let text = input[member].as_str().unwrap();
            let text = text.strip_suffix("\r\n").filter(|_| member == "field").unwrap_or(text);
            let is_linked = outcome["reason"].as_str().is_none_or(|reason| !reason.starts_with("TBR-Hop: hop "));
            let expected = is_valid || !is_linked || IN_PROSE.contains(&name.as_str());
            assert_eq!(grammar.matches(rule, text), expected, "{file}: {name}: {text}");
            judged += 1;
        }
    }
    assert!(judged > 100, "{judged}");
    let names: Vec<String> =
        ["references", "hops", "uris", "blocks"].map(vectors).into_iter().flatten().map(|v| v.0).collect();
    assert!(IN_PROSE.iter().all(|name| names.iter().any(|known| known == name)), "a vector has another name now");
    for (file, rule) in [("references", "reference-text"), ("hops", "hop-text")] {
        for (name, _, outcome, is_valid) in vectors(file) {
            let text = outcome["canonical"].as_str().unwrap_or_default();
            assert_eq!(grammar.matches(rule, text), !text.is_empty(), "{file}: {name}: {text}");
            assert!(!is_valid || !text.is_empty(), "{name}");
        }
    }
}

#[test]
fn offers_records_and_requests_have_the_form_of_the_collected_syntax() {
    let grammar = Grammar::collected();
    for (name, input, _, _) in [vectors("offers"), vectors("offers-by-relays")].concat().iter().filter(|v| v.3) {
        let command = format!("{}\r\n{}.\r\n", input["line"].as_str().unwrap(), input["block"].as_str().unwrap());
        assert!(grammar.matches("tbr-command", &command), "{name}: {command}");
    }
    for (name, input, _, _) in vectors("keys").iter().filter(|vector| vector.3) {
        let rule = match input["kind"].as_str().unwrap() {
            "key record" => "key-rec",
            "domain record" => "domain-rec",
            _ => continue,
        };
        let records = input["txt"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        let ours: Vec<&str> = records.filter(|text| grammar.matches("consent-rec", text)).collect();
        assert!(ours.len() == 1 && grammar.matches(rule, ours[0]), "{name}: {ours:?}");
    }
    for (name, input, outcome, _) in vectors("requests").iter().filter(|vector| vector.3) {
        let fields = ["signature-input", "signature"].map(|field| input["fields"][field].as_str().unwrap_or_default());
        let signed = outcome["signed_by"].as_array().unwrap().len();
        // A comma and a space part members; no value of ours holds both.
        let both = [("signature-input", fields[0]), ("signature", fields[1])];
        for (rule, field) in both.into_iter().filter(|_| signed > 0) {
            let found = field.split(", ").filter(|member| grammar.matches(rule, member)).count();
            assert!(found >= signed, "{name}: {field}");
        }
        let digest = input["fields"]["content-digest"].as_str().unwrap_or_default();
        assert!(digest.is_empty() || signed == 0 || grammar.matches("content-digest", digest), "{name}: {digest}");
        for signature in outcome["signed_by"].as_array().unwrap() {
            let key =
                format!("{}._tbr.{}", signature["selector"].as_str().unwrap(), signature["domain"].as_str().unwrap());
            assert!(grammar.matches("key-id", &key), "{name}: {key}");
        }
        let path = input["path_and_query"].as_str().unwrap();
        let rules = ["object-path", "pending-path", "upload-path"];
        let is_post = input["method"] == "POST";
        assert!(signed == 0 || is_post || rules.iter().any(|rule| grammar.matches(rule, path)), "{name}: {path}");
    }
    for other in ["v=TBR2", "x; v=TBR1", "v=TBR1; =x", "v=TBR1;;", ""] {
        assert!(!grammar.matches("consent-rec", other), "{other:?}");
    }
}

/// A row of the table of members.
struct Member {
    body: String,
    path: String,
    rule: String,
    is_optional: bool,
}

fn members() -> Vec<Member> {
    let table = specification().split_once("\n### 17.2.").unwrap().1.to_owned();
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let member = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [body, path, rule, note] = cells[..] else { panic!("{row}") };
        let (body, path, rule) = (body.to_owned(), path.to_owned(), rule.to_owned());
        Member { body, path, rule, is_optional: note.starts_with("optional") }
    };
    rows.map(member).collect()
}

/// Every value in a body with the path to it.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(value, &path, found);
        }),
        Value::Array(entries) => entries.iter().for_each(|entry| leaves(entry, &format!("{path}[]"), found)),
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        other => found.push((path.to_owned(), other.to_string())),
    }
}

fn assert_described(grammar: &Grammar, body: &str, value: &Value) {
    let members: Vec<Member> = members().into_iter().filter(|member| member.body == body).collect();
    let mut found = Vec::new();
    leaves(value, "", &mut found);
    for (path, text) in &found {
        let member = members.iter().find(|member| member.path == *path).unwrap_or_else(|| panic!("{body}: {path}"));
        assert!(grammar.matches(&member.rule, text), "{body}: {path} is no {}: {text}", member.rule);
    }
    for member in members.iter().filter(|member| !member.is_optional && !member.path.contains("[]")) {
        assert!(found.iter().any(|(path, _)| *path == member.path), "{body}: {} is missing in {value}", member.path);
    }
}

#[test]
fn every_member_of_a_body_has_its_row_and_its_form() {
    let grammar = Grammar::collected();
    for file in ["claims", "receipts", "delegations", "uploads"] {
        for (_, input, outcome, _) in vectors(file).iter().filter(|vector| vector.3) {
            let understood = serde_json::from_str(outcome["understood_as"].as_str().unwrap()).unwrap();
            assert_described(&grammar, input["kind"].as_str().unwrap(), &understood);
        }
    }
    for (_, input, _, _) in vectors("bundles").iter().filter(|vector| vector.3) {
        assert_described(&grammar, "manifest", &without_the_future("manifest", &input["bundle.json"]));
    }
    for (_, input, _, _) in vectors("keys").iter().filter(|vector| vector.3 && vector.1["kind"] == "document") {
        assert_described(&grammar, "document", &without_the_future("document", &input["document"]));
    }
}

/// A body without the members that this revision does not know, which readers pass over.
fn without_the_future(body: &str, text: &Value) -> Value {
    let mut value: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    let known: Vec<Member> = members().into_iter().filter(|member| member.body == body).collect();
    let is_known = |name: &str| known.iter().any(|member| member.path.split(['.', '[']).next() == Some(name));
    value.as_object_mut().unwrap().retain(|name, _| is_known(name));
    value
}

#[test]
fn bodies_that_no_vector_has_are_described_too() {
    let grammar = Grammar::collected();
    let offers = vectors("offers");
    let (line, block) = (&offers[0].1["line"], &offers[0].1["block"]);
    let pending = PendingList {
        v: Revision1,
        pending: vec![PendingOffer {
            mail: "FROM:<\u{e4}@a.example> BODY=8BITMIME".into(),
            rcpt: vec!["TO:<bob@b.example>".into()],
            tbr: line.as_str().unwrap().strip_prefix("TBR ").unwrap().into(),
            block: block.as_str().unwrap().into(),
            trace: "Received: from a\r\n\tby b\r\n".into(),
        }],
        next: Some(Cursor::try_from("leg/x-1_2.3".to_owned()).unwrap()),
    };
    assert_described(&grammar, "pending", &serde_json::from_slice(&pending.encode().unwrap()).unwrap());
    let recorded = vec![RecordedIndex { n: 999, action: mail::ledger::Action::Delivered }];
    let heard = HeardEntry { i: mail::ReferenceId([7; 16]), n: vec![0, 1], recorded };
    let heard = Heard { v: Revision1, instance: mail::InstanceId([1; 16]), heard: vec![heard] };
    assert_described(&grammar, "heard", &serde_json::from_slice(&heard.encode().unwrap()).unwrap());
    let failed = json!([{"rcpt": "x@a.example", "status": "5.1.1", "text": "no"}]);
    assert_described(
        &grammar,
        "taken",
        &json!({"v": 1, "taken": [{"id": "leg/1m8jcqt1efbkkrmt/0", "failed": failed}]}),
    );
}

#[test]
fn rules_that_sections_show_are_the_collected_ones() {
    let text = specification();
    let (sections, collected) = text.split_once("\n## 17.").unwrap();
    let (shown, collected) = (rules_in(sections), rules_in(collected));
    let own: Vec<&String> = shown.iter().filter(|rule| !collected.contains(rule)).collect();
    assert!(own.is_empty(), "{own:#?}");
    assert!(shown.len() > 20, "{}", shown.len());
}

/// The rules in the blocks of a text whose names section 17 has, without comments, in single spaces.
fn rules_in(text: &str) -> Vec<String> {
    let grammar = Grammar::collected();
    let (mut rules, mut is_open) = (Vec::<String>::new(), false);
    for line in text.lines() {
        let code = line.split(" ; ").next().unwrap_or_default();
        let words = code.split_whitespace().collect::<Vec<_>>().join(" ");
        let name =
            code.strip_prefix("    ").filter(|code| !code.starts_with(' ')).and_then(|code| code.split_once(" ="));
        is_open = match name {
            Some((name, _)) if grammar.rules.contains_key(&name.trim().to_ascii_lowercase()) => {
                rules.push(words);
                true
            }
            None if is_open && code.starts_with("     ") => {
                if let Some(rule) = rules.last_mut() {
                    *rule = format!("{rule} {words}").trim_end().to_owned();
                }
                true
            }
            _ => false,
        };
    }
    rules
}

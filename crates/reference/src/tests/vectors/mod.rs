//! The golden vectors in `docs/spec/vectors`: enough to write a second implementation from.
//!
//! `judge` evaluates the input of a vector and knows nothing of how it was made; `cases` makes the inputs and says
//! what is expected of them. The files are compared with both: what stands in them must be what the code answers, and
//! what the author of the case expected. `UPDATE_VECTORS=1 cargo test --release -p reference vectors` writes them anew.

mod cases;
mod judge;

use std::path::PathBuf;

use serde_json::{Value, json};

/// One vector file.
struct File {
    name: &'static str,
    title: &'static str,
    /// How to read its inputs and outcomes, one sentence a line.
    about: &'static [&'static str],
    judge: fn(&Value) -> Value,
    cases: Vec<Case>,
}

/// One vector before it is judged.
struct Case {
    name: &'static str,
    input: Value,
    /// `None`: valid. Else a part of the reason for which it is not.
    fault: Option<&'static str>,
}

impl File {
    fn to_json(&self) -> Value {
        let vectors: Vec<Value> = self.cases.iter().map(|c| c.to_json(self)).collect();
        json!({
            "specification": "docs/spec/tbr.md, revision 1",
            "title": self.title,
            "about": self.about,
            "vectors": vectors,
        })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/vectors").join(self.name)
    }
}

impl Case {
    fn to_json(&self, file: &File) -> Value {
        let outcome = (file.judge)(&self.input);
        let place = format!("{}: {}", file.name, self.name);
        match self.fault {
            None => assert_eq!(outcome["verdict"], "valid", "{place}: {outcome}"),
            Some(fault) => {
                assert_eq!(outcome["verdict"], "invalid", "{place}");
                let reason = outcome["reason"].as_str().unwrap();
                assert!(reason.contains(fault), "{place}: {reason}");
            }
        }
        json!({ "name": self.name, "input": self.input, "outcome": outcome })
    }
}

#[test]
fn golden_files_hold_what_is_generated() {
    for file in cases::files() {
        let generated = file.to_json();
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            let text = serde_json::to_string_pretty(&generated).unwrap();
            std::fs::write(file.path(), text + "\n").unwrap();
        }
        assert_eq!(read(&file), generated, "{}: run with UPDATE_VECTORS=1 and look at what changed", file.name);
    }
}

#[test]
fn every_golden_vector_gets_its_verdict() {
    let mut judged = 0;
    for file in cases::files() {
        for vector in read(&file)["vectors"].as_array().unwrap() {
            assert_eq!((file.judge)(&vector["input"]), vector["outcome"], "{}: {}", file.name, vector["name"]);
            judged += 1;
        }
    }
    assert!(judged > 150, "only {judged} vectors");
}

#[test]
fn vector_names_are_unique() {
    for file in cases::files() {
        for (place, case) in file.cases.iter().enumerate() {
            assert!(!file.cases[..place].iter().any(|c| c.name == case.name), "{}: {}", file.name, case.name);
        }
    }
}

fn read(file: &File) -> Value {
    serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap()
}

fn specification() -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/tbr.md")).unwrap()
}

#[test]
fn the_specification_lists_every_code() {
    let text = specification();
    for code in crate::codes::ALL {
        let row = match code.reply {
            0 => format!("| {} |", code.status),
            reply => format!("| {reply} | {} |", code.status),
        };
        let elsewhere = format!("{} {}", code.reply, code.status);
        assert!(text.contains(&row) || text.contains(&elsewhere), "{row}");
    }
}

#[test]
fn the_examples_of_the_specification_are_vectors() {
    let (text, offer) = (specification(), super::Offer::good());
    for line in std::iter::once(format!("TBR {}", offer.line).as_str()).chain(offer.block.lines()) {
        assert!(text.contains(&format!("    C: {line}\n")), "{line}");
    }
    for line in super::relayed(crate::hop::HopMode::Custody(super::domain("tbr.b.example"))).hops()[0].encode().lines()
    {
        assert!(text.contains(&format!("    {line}\n")), "{line}");
    }
}

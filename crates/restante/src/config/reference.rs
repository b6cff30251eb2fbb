//! The schema in print: a commented configuration to start from, and the page of the manual.

use std::fmt::Write as _;

use serde::Serialize;

use super::schema::{Effect, Field, Presence, SECTIONS, Section, VARIABLES};

const WIDTH: usize = 110;

/// A configuration file with every field, its documentation, and its default or an example. Only what must be
/// there is set; `#` without a space hides a setting.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration of Restante. Every field is here with its default or an example: remove the # to set it.\n\
         # Durations: \"30s\", \"5m\", \"1h 30m\", \"5d\". Sizes: \"64 KiB\", \"50 MB\". Relative paths start from this file.\n\
         # `restante check config` finds mistakes; SIGHUP makes the server read the file again.\n",
    );
    for section in SECTIONS {
        sample_section(&mut out, section);
    }
    out
}

fn sample_section(out: &mut String, section: &Section) {
    out.push('\n');
    comment(out, section.doc);
    if !section.name.is_empty() {
        let (open, close) = brackets(section);
        let hidden = if is_example(section) { "#" } else { "" };
        let _ = writeln!(out, "{hidden}{open}{}{close}", section.name);
    }
    for field in section.fields {
        sample_field(out, section, field);
    }
    for example in section.more {
        let _ = writeln!(out, "#\n#[[{}]]\n#{}", section.name, example.replace('\n', "\n#"));
    }
}

fn sample_field(out: &mut String, section: &Section, field: &Field) {
    let Field { name, doc, .. } = field;
    let effect = if field.effect == Effect::Restart { " Restart to change." } else { "" };
    comment(out, &format!("{doc}{effect}"));
    let _ = match field.presence {
        Presence::Required(text) if !is_example(section) => writeln!(out, "{name} = {text}"),
        Presence::Required(text) | Presence::Default(text) | Presence::Optional(text) => {
            writeln!(out, "#{name} = {text}")
        }
        Presence::Or(text) => writeln!(out, "# Or instead: {name} = {text}"),
    };
}

/// Lists, tables below them, and what nobody has by default, are examples as a whole.
fn is_example(section: &Section) -> bool {
    section.many || section.name.contains('.') || section.name == "acme"
}

fn brackets(section: &Section) -> (&'static str, &'static str) {
    if section.many { ("[[", "]]") } else { ("[", "]") }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(out, "{line}");
}

/// One field, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDoc {
    /// Its table, empty for the top of the file; in brackets twice where there can be several.
    pub section: String,
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: &'static str,
    /// It must be there.
    pub required: bool,
    /// What holds without it, as TOML.
    pub default: Option<&'static str>,
    /// An example, as TOML, where there is no default.
    pub example: Option<&'static str>,
    /// A change takes effect at the next start only.
    pub restart: bool,
    /// What it does.
    pub doc: &'static str,
}

/// Every field.
pub fn fields() -> Vec<FieldDoc> {
    let of = |section: &'static Section| section.fields.iter().map(move |field| field_doc(section, field));
    SECTIONS.iter().flat_map(of).collect()
}

fn field_doc(section: &Section, field: &Field) -> FieldDoc {
    let (open, close) = brackets(section);
    let (default, example) = match field.presence {
        Presence::Default(text) => (Some(text), None),
        Presence::Required(text) | Presence::Optional(text) | Presence::Or(text) => (None, Some(text)),
    };
    FieldDoc {
        section: if section.name.is_empty() { String::new() } else { format!("{open}{}{close}", section.name) },
        name: field.name,
        kind: field.kind,
        required: matches!(field.presence, Presence::Required(_)),
        default,
        example,
        restart: field.effect == Effect::Restart,
        doc: field.doc,
    }
}

/// `docs/configuration.md`.
pub fn document() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         <!-- Made from crates/restante/src/config/schema.rs; a test keeps it so. To renew it: \
         RESTANTE_WRITE_DOCS=1 cargo test --release -p restante config -->\n\n\
         `restante serve --config FILE`, by default `/etc/restante/restante.toml`, in [TOML](https://toml.io). \
         `restante config` prints all of the below as a commented file to start from, `restante check config` finds \
         mistakes in yours, and in the files that it names.\n\n\
         Durations are written `\"30s\"`, `\"5m\"`, `\"1h 30m\"`, `\"5d\"`; sizes `\"64 KiB\"`, `\"50 MB\"`, or as a number of \
         octets. Relative paths start from the directory of the configuration file. On SIGHUP the server reads the file \
         again and, if there is no mistake in it, works by it from then on; fields marked *restart* keep their value \
         until the next start.\n\n",
    );
    out.push_str("Variables of the environment override fields: ");
    let pair = |(variable, section, field): &(&str, &str, &str)| {
        let dot = if section.is_empty() { "" } else { "." };
        format!("`{variable}` → `{section}{dot}{field}`")
    };
    let _ = writeln!(out, "{}.", VARIABLES.iter().map(pair).collect::<Vec<_>>().join(", "));
    for section in SECTIONS {
        document_section(&mut out, section);
    }
    out
}

fn document_section(out: &mut String, section: &Section) {
    let (open, close) = brackets(section);
    let title =
        if section.name.is_empty() { "Top of the file".into() } else { format!("`{open}{}{close}`", section.name) };
    let _ = write!(out, "\n## {title}\n\n{}\n\n| field | value | default | |\n|---|---|---|---|\n", section.doc);
    for field in section.fields {
        let default = match field.presence {
            Presence::Required(text) => format!("*required*, such as `{text}`"),
            Presence::Default(text) => format!("`{text}`"),
            Presence::Optional(text) | Presence::Or(text) => format!("none; such as `{text}`"),
        };
        let effect = if field.effect == Effect::Restart { " *(restart)*" } else { "" };
        let _ = writeln!(out, "| `{}` | {} | {default} | {}{effect} |", field.name, field.kind, field.doc);
    }
}

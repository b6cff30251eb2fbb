//! Reads a dialogue: settings, and steps of one letter and a text each.

use std::collections::HashMap;

/// A dialogue.
pub(crate) struct Script {
    settings: HashMap<String, String>,
    pub steps: Vec<Step>,
    /// Does the dialogue speak of events at all? If not, they are not compared.
    pub with_events: bool,
}

/// A line of a dialogue.
pub(crate) struct Step {
    pub line: usize,
    /// The letter in front, such as `C` or `S`.
    pub kind: char,
    /// The octets behind it, escapes resolved, CR LF added unless the line said `~`.
    pub octets: Vec<u8>,
    /// The text behind it, escapes resolved.
    pub text: String,
}

impl Script {
    pub(crate) fn parse(source: &str) -> Self {
        let mut script = Self { settings: HashMap::new(), steps: Vec::new(), with_events: false };
        for (index, line) in source.lines().enumerate() {
            let number = index + 1;
            if let Some(comment) = line.strip_prefix('#') {
                if let Some((key, value)) = comment.split_once(": ").filter(|(key, _)| !key.trim().contains(' ')) {
                    script.settings.insert(key.trim().to_owned(), value.trim().to_owned());
                }
            } else if !line.trim().is_empty() {
                script.steps.push(Step::parse(number, line));
            }
        }
        script.with_events = script.steps.iter().any(|step| step.kind == 'E');
        script
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    pub(crate) fn is_on(&self, key: &str) -> bool {
        self.setting(key) == Some("yes")
    }

    pub(crate) fn number(&self, key: &str) -> Option<usize> {
        self.setting(key).map(|value| value.parse().unwrap_or_else(|_| panic!("{key} is no number")))
    }
}

impl Step {
    fn parse(line: usize, source: &str) -> Self {
        let mut head = source.chars();
        let (kind, mark) = (head.next().unwrap(), head.next());
        let rest = head.as_str();
        assert!(matches!(mark, Some(':' | '~')), "line {line}: a letter and a colon were expected");
        let mut octets = unescape(rest.strip_prefix(' ').unwrap_or(rest));
        let text = String::from_utf8_lossy(&octets).into_owned();
        if mark == Some(':') {
            octets.extend_from_slice(b"\r\n");
        }
        Self { line, kind, octets, text }
    }
}

/// `\r`, `\n`, `\0`, `\t`, `\\`, `\xHH`, and `\{70000*text}` for repetition.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        octets.extend_from_slice(before.as_bytes());
        let (first, after) = escape.split_at(1);
        rest = after;
        match first {
            "r" => octets.push(b'\r'),
            "n" => octets.push(b'\n'),
            "0" => octets.push(0),
            "t" => octets.push(b'\t'),
            "\\" => octets.push(b'\\'),
            "x" => {
                octets.push(u8::from_str_radix(&after[..2], 16).expect("two hexadecimal digits"));
                rest = &after[2..];
            }
            "{" => {
                let (inner, after) = after.split_once('}').expect("a closing brace");
                let (count, what) = inner.split_once('*').expect("count*text");
                octets.extend(unescape(what).repeat(count.parse().expect("a count")));
                rest = after;
            }
            other => panic!("unknown escape \\{other}"),
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    octets
}

/// Octets as a dialogue would write them.
pub(crate) fn escape(octets: &[u8]) -> String {
    octets.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// What came, against what was expected.
pub(crate) fn compare(line: usize, what: &str, came: &str, expected: &str) -> Result<(), String> {
    if came == expected {
        return Ok(());
    }
    Err(format!("line {line}: {what}\n--- expected\n{expected}\n--- came\n{came}"))
}

//! The message that the demo sends: read, brought into normal form, and judged before any server is started.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use mail::object::{Checked, Checker, Normaliser};

/// Most octets of a file that the demo sends: 1 GB, as memory is counted. Its normal form has up to twice as many, where all lines end
/// in LF alone.
const MAX_SIZE: u64 = 1 << 30;

/// What is sent unless a file is named.
const DEFAULT: &[u8] = include_bytes!("../../../demo/message.eml");

/// How much of the beginning is looked at for header fields, in octets.
const HEAD: usize = 64 * 1024;

/// One of these makes a message.
const KNOWN_FIELDS: [&str; 12] = [
    "From",
    "To",
    "Cc",
    "Date",
    "Subject",
    "Sender",
    "Reply-To",
    "Message-ID",
    "Received",
    "Return-Path",
    "MIME-Version",
    "Content-Type",
];

/// A message in normal form.
#[derive(Debug)]
pub(super) struct Message {
    /// Where its normal form stands: CRLF line ends only.
    pub(super) path: PathBuf,
    /// Its name, size and nature.
    pub(super) checked: Checked,
}

/// Reads a file (or takes the default) and writes its normal form to `target`.
///
/// # Errors
/// A file that cannot be read or is no message, in words that say what is wrong with it.
pub(super) fn prepare(file: Option<&Path>, target: PathBuf, bar: &ProgressBar) -> Result<Message> {
    match file {
        None => normalise(DEFAULT, MAX_SIZE, target),
        Some(path) => {
            let name = path.display();
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                bail!("{name} is a directory, not a message");
            }
            bar.set_length(metadata.len());
            bar.set_message("looked through");
            normalise(BufReader::with_capacity(1 << 20, bar.wrap_read(file)), MAX_SIZE, target)
                .with_context(|| format!("{name} cannot be sent as a message"))
        }
    }
}

/// Takes `most` octets of input, whatever they become.
fn normalise(mut source: impl Read, most: u64, target: PathBuf) -> Result<Message> {
    let mut out = BufWriter::new(File::create(&target)?);
    let (mut normaliser, mut checker) = (Normaliser::default(), Checker::default());
    let (mut input, mut normal) = (vec![0; 256 * 1024], Vec::new());
    let mut head = Vec::new();
    let mut size = 0_u64;
    loop {
        let read = source.read(&mut input)?;
        size += read as u64;
        if size > most {
            bail!("it is larger than 1 GB ({most} octets), which is the most that the demo sends");
        }
        normal.clear();
        match read {
            0 => std::mem::take(&mut normaliser).finish(&mut normal),
            _ => normaliser.push(&input[..read], &mut normal),
        }
        head.extend(normal.iter().take(HEAD.saturating_sub(head.len())));
        checker.update(&normal);
        out.write_all(&normal)?;
        if read == 0 {
            break;
        }
    }
    out.into_inner()?.sync_all()?;
    let checked = checker.finish();
    checked.verdict.map_err(|fault| anyhow::anyhow!("{fault}"))?;
    check_header(&head)?;
    Ok(Message { path: target, checked })
}

/// Every line of the header is a field or continues one (RFC 5322 §2.2; blanks before the colon are obsolete, §4.5.8), and one
/// field at least is of those that only messages have: many text files have lines with colons.
fn check_header(head: &[u8]) -> Result<()> {
    let lines = head.split_inclusive(|octet| *octet == b'\n').filter(|line| line.ends_with(b"\r\n"));
    let mut known = false;
    for (number, line) in (1..).zip(lines.take_while(|line| *line != b"\r\n")) {
        if number > 1 && matches!(line[0], b' ' | b'\t') {
            continue;
        }
        let before_colon = line.split(|octet| *octet == b':').next().unwrap_or_default();
        let name = before_colon.trim_ascii_end();
        if before_colon.len() == line.len() || name.is_empty() || !name.iter().all(|octet| matches!(octet, 33..=126)) {
            bail!("line {number} is no header field such as \"Subject: Hello\": this is not a message (RFC 5322)");
        }
        known |= KNOWN_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field.as_bytes()));
    }
    if known { Ok(()) } else { bail!("it has none of the header fields of a message (From, Date, Subject, …)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(content: &[u8]) -> Result<Message> {
        let directory = tempfile::tempdir().unwrap();
        normalise(content, MAX_SIZE, directory.path().join("message"))
    }

    #[test]
    fn what_counts_is_the_file_and_not_what_lf_becomes() {
        let directory = tempfile::tempdir().unwrap();
        let of = |most| normalise(&b"Subject: x\n\n\n\n\n\n"[..], most, directory.path().join("message"));
        assert_eq!(of(16).unwrap().checked.size, 22);
        let error = of(15).unwrap_err().to_string();
        assert!(error.starts_with("it is larger than"), "{error}");
    }

    #[test]
    fn obsolete_blanks_before_a_colon_are_let_pass() {
        assert!(prepared(b"Subject : x\n\nhello\n").is_ok());
        assert!(prepared(b"A subject : x\nFrom: a\n\nhello\n").is_err());
    }

    #[test]
    fn lf_and_crlf_give_the_same_object() {
        let (lf, crlf) =
            (prepared(b"Subject: x\n\nh\xc3\xa9\n").unwrap(), prepared(b"Subject: x\r\n\r\nh\xc3\xa9").unwrap());
        assert_eq!(lf.checked, crlf.checked);
        assert!(lf.checked.eight_bit);
        assert!(prepare(None, tempfile::tempdir().unwrap().path().join("m"), &ProgressBar::hidden()).is_ok());
    }

    #[test]
    fn what_is_no_message_is_named_as_such() {
        for (content, words) in [
            (b"".as_slice(), "empty"),
            (b"Hello Bob\n", "line 1 is no header field"),
            (b"Subject: x\nHello\n\n", "line 2 is no header field"),
            (b"root:x:0:0:root:/root:/bin/sh\n", "none of the header fields"),
            (b"\x89PNG\r\n\x1a\n", "does not begin with a header field"),
            (b"From alice Mon Nov 23\nSubject: x\n\n", "line 1 is no header field"),
            (b"Subject: x\n\na\0b\n", "NUL"),
        ] {
            let error = format!("{:#}", prepared(content).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}

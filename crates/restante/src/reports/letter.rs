//! A report as mail: a few words for people, and the report itself as an attachment.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use mail::{Address, Domain, Timestamp, base64url};
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};

/// Octets of base64 in a line (RFC 2045 §6.8).
const LINE: usize = 76;

/// A report, ready for any way to send it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draft {
    /// The compressed report.
    #[serde(with = "in_base64")]
    pub(crate) document: Vec<u8>,
    /// Its media type: `application/tlsrpt+gzip`.
    pub(crate) media_type: String,
    /// What a file of it would be called.
    pub(crate) file_name: String,
    /// `multipart/report` of this type; else `multipart/mixed`.
    pub(crate) report_type: Option<String>,
    pub(crate) subject: String,
    /// More fields of the header.
    pub(crate) fields: Vec<(String, String)>,
    /// For people, lines ending in LF.
    pub(crate) text: String,
}

/// Who writes, and to whom.
#[derive(Debug, Clone)]
pub(crate) struct Letterhead<'a> {
    pub(crate) from: &'a Address,
    pub(crate) to: &'a Address,
    /// The domain of the Message-ID.
    pub(crate) domain: &'a Domain,
    pub(crate) at: Timestamp,
    pub(crate) random: [u8; 12],
}

impl Draft {
    /// The message, lines ending in CRLF: an object (TBR §2).
    pub(crate) fn letter(&self, head: &Letterhead<'_>) -> Vec<u8> {
        let boundary = format!("report-{}", base64url::encode(&head.random));
        let kind = match &self.report_type {
            Some(report) => format!("multipart/report; report-type={report}"),
            None => "multipart/mixed".to_owned(),
        };
        let mut letter = Letter(Vec::with_capacity(self.document.len() * 4 / 3 + 2048));
        letter.field("From", &head.from.to_string());
        letter.field("To", &head.to.to_string());
        letter.field("Subject", &self.subject);
        letter.field("Date", &head.at.to_rfc5322());
        letter.field("Message-ID", &crate::compose::message_id(head.at, head.random, head.domain.as_str()));
        for (name, value) in &self.fields {
            letter.field(name, value);
        }
        // RFC 3834: nobody answers a machine.
        letter.field("Auto-Submitted", "auto-generated");
        letter.field("MIME-Version", "1.0");
        letter.field("Content-Type", &format!("{kind}; boundary=\"{boundary}\""));
        letter.line("");
        letter.line(&format!("--{boundary}"));
        letter.field("Content-Type", "text/plain; charset=us-ascii");
        letter.line("");
        self.text.lines().for_each(|line| letter.line(line));
        letter.line(&format!("--{boundary}"));
        letter.field("Content-Type", &self.media_type);
        letter.field("Content-Transfer-Encoding", "base64");
        letter.field("Content-Disposition", &format!("attachment; filename=\"{}\"", self.file_name));
        letter.line("");
        let encoded = STANDARD.encode(&self.document);
        encoded.as_bytes().chunks(LINE).for_each(|line| letter.line(&String::from_utf8_lossy(line)));
        letter.line(&format!("--{boundary}--"));
        letter.0
    }
}

struct Letter(Vec<u8>);

impl Letter {
    fn line(&mut self, line: &str) {
        self.0.extend_from_slice(line.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    /// Folded at spaces where it is long. Values are made here of names that were checked; whatever else could end the line
    /// is left out.
    fn field(&mut self, name: &str, value: &str) {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let mut line = format!("{name}:");
        for word in value.split(' ').filter(|word| !word.is_empty()) {
            if line.len() + 1 + word.len() > LINE && !line.ends_with(':') {
                self.line(&line);
                line.clear();
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }
}

/// Compresses a report.
///
/// # Errors
/// None in practice: it is written into memory.
pub(crate) fn gzip(octets: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(octets.len() / 4 + 64), Compression::default());
    encoder.write_all(octets)?;
    encoder.finish()
}

mod in_base64 {
    use base64::Engine as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::STANDARD;

    pub(super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(octets))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::object::Checker;
    use mail_parser::{MessageParser, MimeHeaders as _};

    #[test]
    fn a_letter_is_an_object_that_mail_programs_read() {
        let draft = Draft {
            document: gzip(&[b'x'; 5000]).unwrap(),
            media_type: "application/tlsrpt+gzip".into(),
            file_name: "mx.a.example!b.example!1!2.json.gz".into(),
            report_type: Some("tlsrpt".into()),
            subject: format!("Report Domain: {} Submitter: mx.a.example", "b.example\r\nBcc: x@y.example ".repeat(4)),
            fields: vec![("TLS-Report-Domain".into(), "b.example".into())],
            text: "For people.\n".into(),
        };
        let (from, to) = ("postmaster@a.example".parse().unwrap(), "tls@b.example".parse().unwrap());
        let domain = "a.example".parse().unwrap();
        let head = Letterhead { from: &from, to: &to, domain: &domain, at: Timestamp::from_secs(1), random: [7; 12] };
        let letter = draft.letter(&head);
        let mut checker = Checker::default();
        checker.update(&letter);
        assert_eq!(checker.finish().verdict, Ok(()));
        let parsed = MessageParser::new().parse(&letter).unwrap();
        assert_eq!(parsed.header_raw("Bcc"), None);
        assert_eq!(parsed.header_raw("TLS-Report-Domain").map(str::trim), Some("b.example"));
        let kind = parsed.content_type().unwrap();
        assert_eq!((kind.ctype(), kind.attribute("report-type")), ("multipart", Some("tlsrpt")));
        let attached = parsed.attachment(0).unwrap();
        assert_eq!(attached.contents(), draft.document);
        assert_eq!(attached.attachment_name(), Some("mx.a.example!b.example!1!2.json.gz"));
        assert_eq!(serde_json::from_str::<Draft>(&serde_json::to_string(&draft).unwrap()).unwrap(), draft);
    }
}

//! DMARC reports of others, read with limits.

use std::io::Read as _;

use flate2::read::DeflateDecoder;
use mail::Timestamp;
use mail_auth::report::{ActionDisposition, Disposition, DmarcResult, Record, Report};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::inbox::{MAX_REPORT, Part, Unreadable, gunzip};

/// Largest report that is read, in octets of XML.
const MAX_XML: usize = 4 * 1024 * 1024;
/// Most rows that are kept of one report.
const MAX_ROWS: usize = 1_000;
/// Longest text that is kept, in characters.
const MAX_TEXT: usize = 500;
/// How a file in a zip archive begins, and how long its header is before the name.
const LOCAL_FILE: &[u8] = b"PK\x03\x04";
const LOCAL_HEADER: usize = 30;

/// A report, as it is shown. Its texts hold no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmarcSummary {
    /// Who says that it is his.
    pub organization: String,
    /// Whom to ask about it.
    pub contact: String,
    /// Its name.
    pub id: String,
    /// What it covers: RFC 3339.
    pub from: String,
    /// Until then.
    pub to: String,
    /// Whose record was judged by.
    pub domain: String,
    /// What the record asks for, as the reporter read it.
    pub policy: String,
    /// Row by row.
    pub rows: Vec<RowSummary>,
    /// Rows that are not kept.
    pub more: usize,
}

/// Messages that look the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSummary {
    /// Who sent them.
    pub source: String,
    /// How many.
    pub count: u32,
    /// What became of them: `none`, `pass`, `quarantine`, `reject`.
    pub done: String,
    /// A DKIM signature of an aligned domain held.
    pub dkim: bool,
    /// SPF passed for an aligned domain.
    pub spf: bool,
    /// The domain of From.
    pub header_from: String,
    /// That of the reverse-path.
    pub envelope_from: String,
}

impl RowSummary {
    /// Was the domain's name used by somebody who may?
    #[must_use]
    pub fn passed(&self) -> bool {
        self.dkim || self.spf
    }
}

/// Reads a part; `None` where it is no DMARC report by its type and name (RFC 7489 §7.2.1.1).
pub fn read_part(part: &Part) -> Option<Result<Value, Unreadable>> {
    let (kind, name) = (part.media_type.as_str(), part.file_name.as_str());
    let is_xml = matches!(kind, "text/xml" | "application/xml") || name.ends_with(".xml");
    let is_zip = matches!(kind, "application/zip" | "application/x-zip-compressed") || name.ends_with(".zip");
    let is_gzip = matches!(kind, "application/gzip" | "application/x-gzip") && !name.ends_with(".json.gz");
    if part.octets.starts_with(LOCAL_FILE) && is_zip {
        Some(unzip(&part.octets).and_then(|xml| read(&xml)))
    } else if is_gzip || name.ends_with(".xml.gz") {
        Some(gunzip(&part.octets).and_then(|xml| read(&xml)))
    } else if is_xml {
        Some(read(&part.octets))
    } else {
        None
    }
}

/// The first file of an archive, up to [`MAX_REPORT`] octets: a report is one file. Directories and what follows are not looked at, so
/// that an archive cannot name the same octets a thousand times.
fn unzip(octets: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let number = |at: usize| octets.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let read = || Some((number(6)?, number(8)?, usize::from(number(26)?), usize::from(number(28)?)));
    let (flags, method, name, extra) = read().ok_or(Unreadable::Compression)?;
    let content = octets.get(LOCAL_HEADER + name + extra..).ok_or(Unreadable::Compression)?;
    let is_encrypted = flags & 1 != 0;
    if is_encrypted || method != 8 {
        return Err(Unreadable::Compression);
    }
    let mut whole = Vec::new();
    let limit = MAX_REPORT as u64 + 1;
    DeflateDecoder::new(content).take(limit).read_to_end(&mut whole).map_err(|_| Unreadable::Compression)?;
    if whole.len() > MAX_REPORT { Err(Unreadable::TooLarge) } else { Ok(whole) }
}

fn read(xml: &[u8]) -> Result<Value, Unreadable> {
    if xml.len() > MAX_XML {
        return Err(Unreadable::TooLarge);
    }
    let report = Report::parse_xml(xml).map_err(|error| Unreadable::Malformed(plain(&error)))?;
    serde_json::to_value(summary(&report)).map_err(|error| Unreadable::Malformed(error.to_string()))
}

fn summary(report: &Report) -> DmarcSummary {
    let moment = |secs: u64| Timestamp::from_secs(secs.min(LAST)).to_rfc3339();
    let policy = match report.p() {
        Disposition::None => "none",
        Disposition::Quarantine => "quarantine",
        Disposition::Reject => "reject",
        Disposition::Unspecified => "",
    };
    DmarcSummary {
        organization: plain(report.org_name()),
        contact: plain(report.email()),
        id: plain(report.report_id()),
        from: moment(report.date_range_begin()),
        to: moment(report.date_range_end()),
        domain: plain(report.domain()),
        policy: policy.to_owned(),
        rows: report.records().iter().take(MAX_ROWS).map(row).collect(),
        more: report.records().len().saturating_sub(MAX_ROWS),
    }
}

/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

fn row(record: &Record) -> RowSummary {
    let evaluated = &record.row.policy_evaluated;
    let done = match evaluated.disposition {
        ActionDisposition::None | ActionDisposition::Unspecified => "none",
        ActionDisposition::Pass => "pass",
        ActionDisposition::Quarantine => "quarantine",
        ActionDisposition::Reject => "reject",
    };
    RowSummary {
        source: record.row.source_ip.map(|address| address.to_string()).unwrap_or_default(),
        count: record.row.count,
        done: done.to_owned(),
        dkim: evaluated.dkim == DmarcResult::Pass,
        spf: evaluated.spf == DmarcResult::Pass,
        header_from: plain(&record.identifiers.header_from),
        envelope_from: plain(&record.identifiers.envelope_from),
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::letter::gzip;
    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use std::io::Write as _;

    /// In the form of RFC 7489 appendix C.
    const EXAMPLE: &str = "<?xml version=\"1.0\"?><feedback><version>1.0</version><report_metadata>\
        <org_name>Sample</org_name><email>r@sample.example</email><report_id>7</report_id>\
        <date_range><begin>1335571200</begin><end>1335657599</end></date_range></report_metadata>\
        <policy_published><domain>a.example</domain><adkim>r</adkim><aspf>r</aspf><p>none</p><sp>none</sp><pct>100</pct>\
        </policy_published><record><row><source_ip>192.0.2.1</source_ip><count>12</count><policy_evaluated>\
        <disposition>none</disposition><dkim>fail</dkim><spf>pass</spf></policy_evaluated></row>\
        <identifiers><header_from>a.example</header_from></identifiers><auth_results><spf><domain>a.example</domain>\
        <result>pass</result></spf></auth_results></record></feedback>";

    fn part(media_type: &str, file_name: &str, octets: &[u8]) -> Part {
        Part { media_type: media_type.into(), file_name: file_name.into(), octets: octets.to_vec() }
    }

    fn zip(content: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        let mut archive = [LOCAL_FILE, &[20, 0, 8, 0, 8, 0], &[0; 16], &[5, 0, 0, 0], b"r.xml"].concat();
        archive.extend(encoder.finish().unwrap());
        archive
    }

    #[test]
    fn an_example_in_every_wrapping() {
        let xml = EXAMPLE.as_bytes();
        for part in [
            part("text/xml", "", xml),
            part("application/octet-stream", "x.xml", xml),
            part("application/gzip", "x.xml.gz", &gzip(xml).unwrap()),
            part("application/x-gzip", "", &gzip(xml).unwrap()),
            part("application/zip", "x.zip", &zip(xml)),
        ] {
            let read = read_part(&part).unwrap().unwrap();
            let summary: DmarcSummary = serde_json::from_value(read).unwrap();
            assert_eq!((summary.organization.as_str(), summary.domain.as_str()), ("Sample", "a.example"));
            assert_eq!(summary.from, "2012-04-28T00:00:00.000Z");
            let row = &summary.rows[0];
            assert_eq!((row.source.as_str(), row.count, row.dkim, row.spf), ("192.0.2.1", 12, false, true));
        }
    }

    #[test]
    fn bombs_and_broken_parts() {
        assert_eq!(read_part(&part("application/pdf", "x.pdf", b"x")), None);
        assert_eq!(read_part(&part("application/gzip", "x.json.gz", b"x")), None, "that is a TLS report");
        let bomb = zip(&vec![b' '; MAX_REPORT + 1]);
        assert!(bomb.len() < 20_000);
        assert_eq!(read_part(&part("application/zip", "", &bomb)), Some(Err(Unreadable::TooLarge)));
        let bomb = gzip(&vec![b' '; MAX_REPORT + 1]).unwrap();
        assert_eq!(read_part(&part("application/gzip", "", &bomb)), Some(Err(Unreadable::TooLarge)));
        let long = format!("{EXAMPLE}{}", " ".repeat(MAX_XML));
        assert_eq!(read_part(&part("text/xml", "", long.as_bytes())), Some(Err(Unreadable::TooLarge)));
        let archive = zip(EXAMPLE.as_bytes());
        for length in 4..archive.len() - 1 {
            assert!(read_part(&part("application/zip", "", &archive[..length])).unwrap().is_err(), "{length}");
        }
        let mut encrypted = archive;
        encrypted[6] |= 1;
        assert!(read_part(&part("application/zip", "", &encrypted)).unwrap().is_err());
        for xml in ["", "<feedback>", "<feedback/>", "<x>", &"<a>".repeat(100_000)] {
            assert!(read_part(&part("text/xml", "", xml.as_bytes())).unwrap().is_err(), "{xml:.20}");
        }
        let escapes = EXAMPLE.replace("Sample", "&#27;[2J&#10;X");
        assert_eq!(read_part(&part("text/xml", "", escapes.as_bytes())).unwrap().unwrap()["organization"], "[2JX");
    }

    #[test]
    fn a_bomb_in_an_archive_is_cut_off() {
        assert_eq!(unzip(&zip(&vec![b' '; MAX_REPORT + 1])), Err(Unreadable::TooLarge));
        assert_eq!(unzip(&zip(EXAMPLE.as_bytes())).as_deref(), Ok(EXAMPLE.as_bytes()));
    }

    #[test]
    fn only_so_many_rows_are_kept() {
        let at = EXAMPLE.find("<record>").unwrap();
        let (head, rest) = EXAMPLE.split_at(at);
        let record = rest.strip_suffix("</feedback>").unwrap();
        let many = format!("{head}{}</feedback>", record.repeat(MAX_ROWS + 5));
        let read = read_part(&part("text/xml", "", many.as_bytes())).unwrap().unwrap();
        assert_eq!((read["rows"].as_array().unwrap().len(), read["more"].as_u64()), (MAX_ROWS, Some(5)));
    }
}

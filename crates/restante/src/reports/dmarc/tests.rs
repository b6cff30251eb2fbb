//! From evidence to a report that reads as what happened.

use std::fs;

use mail::Timestamp;
use net::dns::{Dnssec, Source as Names};
use policy::evidence::{ContentEvidence, Dkim, Dmarc as Found, Reverse, SessionEvidence, Spf};
use policy::{Rules, decide};

use super::super::inbox::Part;
use super::*;

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

fn reports(zone: &str) -> DmarcReports {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zone");
    fs::write(&path, zone).unwrap();
    DmarcReports {
        resolver: Resolver::new(&Names::ZoneFile(path), &Dnssec::Off).unwrap(),
        by: Submitter {
            domain: domain("b.example"),
            organization: "B&S".to_owned(),
            contact: "postmaster@b.example".parse().unwrap(),
        },
    }
}

fn evidence(source: [u8; 4], dkim_aligned: bool, wants_reports: bool) -> Evidence {
    let spf = Spf { verdict: SpfVerdict::Fail, identity: Identity::MailFrom, domain: "x.example".to_owned() };
    let session = SessionEvidence {
        client: source.into(),
        reverse: Reverse::default(),
        listings: Vec::new(),
        spf: Some(spf),
        reputation: None,
    };
    let published = Published {
        domain: domain("a.example"),
        strict_dkim: true,
        strict_spf: false,
        policy: DmarcPolicy::Reject,
        subdomains: DmarcPolicy::Reject,
        missing: DmarcPolicy::Reject,
        testing: false,
        wants_reports,
    };
    let verdict = if dkim_aligned { Verdict::Pass } else { Verdict::Fail };
    let dkim = Dkim { verdict, domain: "a.example".to_owned(), selector: "s<1>".to_owned(), reason: String::new() };
    let dmarc = Found {
        verdict,
        policy: DmarcPolicy::Reject,
        domain: "news.a.example".to_owned(),
        dkim_aligned,
        spf_aligned: false,
        published: Some(published),
    };
    let content = ContentEvidence { dkim: vec![dkim], dmarc, ..ContentEvidence::default() };
    Evidence { session, content: Some(content), tbr: Vec::new() }
}

fn result(evidence: &Evidence) -> Option<DmarcResult> {
    DmarcResult::of(evidence, &decide(evidence, &Rules::default()))
}

fn read(draft: &Draft) -> DmarcSummary {
    let part = Part {
        media_type: draft.media_type.clone(),
        file_name: draft.file_name.clone(),
        octets: draft.document.clone(),
    };
    serde_json::from_value(read_part(&part).unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn what_was_found_is_what_a_reader_reads() {
    let kind = reports("a.example. A 192.0.2.1\n");
    let mut tally = Tally::default();
    let (good, bad) = (evidence([192, 0, 2, 1], true, true), evidence([192, 0, 2, 66], false, true));
    for found in [&good, &bad, &good, &good] {
        let event = result(found).unwrap();
        assert_eq!(DmarcReports::domain(&event), &domain("a.example"));
        let written = serde_json::to_string(&event).unwrap();
        DmarcReports::count(&mut tally, serde_json::from_str(&written).unwrap());
    }
    let period = Period { from: Timestamp::from_secs(86_400), to: Timestamp::from_secs(2 * 86_400) };
    let draft = kind.draft(&domain("a.example"), period, tally).unwrap();
    assert_eq!(draft.file_name, "b.example!a.example!86400!172800.xml.gz");
    let read = read(&draft);
    assert_eq!(
        (read.organization.as_str(), read.domain.as_str(), read.policy.as_str()),
        ("B&S", "a.example", "reject")
    );
    assert_eq!((read.from.as_str(), read.to.as_str()), ("1970-01-02T00:00:00.000Z", "1970-01-02T23:59:59.000Z"));
    let rows: Vec<_> =
        read.rows.iter().map(|row| (row.source.as_str(), row.count, row.done.as_str(), row.dkim)).collect();
    assert_eq!(rows, [("192.0.2.1", 3, "pass", true), ("192.0.2.66", 1, "reject", false)]);
    assert_eq!(read.rows[0].header_from, "news.a.example");
    assert_eq!(result(&evidence([192, 0, 2, 1], true, false)), None, "nobody wants to know");
}

#[test]
fn a_day_of_a_flood_is_a_small_report() {
    let mut tally = Tally::default();
    for n in 0..MAX_ROWS as u32 + 1000 {
        let [_, a, b, c] = n.to_be_bytes();
        DmarcReports::count(&mut tally, result(&evidence([10, a, b, c], false, true)).unwrap());
    }
    assert_eq!(tally.rows.len(), MAX_ROWS);
}

#[tokio::test]
async fn the_largest_report_is_below_what_places_take() {
    let kind = reports("a.example. A 192.0.2.1\n");
    let mut tally = Tally::default();
    let mut state = 7_u32;
    let mut noise = |length: usize| -> String {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 26)
        };
        (0..length).map(next).collect()
    };
    for n in 0..MAX_ROWS as u32 {
        let mut found = evidence(n.to_be_bytes(), false, true);
        if let Some(content) = &mut found.content {
            content.dkim = vec![content.dkim[0].clone(); 10];
            for dkim in &mut content.dkim {
                (dkim.domain, dkim.selector) = (noise(60), noise(20));
            }
        }
        DmarcReports::count(&mut tally, result(&found).unwrap());
    }
    let period = Period { from: Timestamp::from_secs(0), to: Timestamp::from_secs(86_400) };
    let draft = kind.draft(&domain("a.example"), period, tally).unwrap();
    let as_mail = draft.document.len() * 4 / 3 * 78 / 76 + 2048;
    assert!(as_mail < LARGEST, "{as_mail}");
}

#[tokio::test]
async fn reports_go_where_they_are_wanted_and_to_nobody_else() {
    let kind = reports(
        "_dmarc.a.example. TXT \"v=DMARC1; p=none; rua=mailto:in@a.example,mailto:x@lab.a.example,\" \
         \"mailto:yes@willing.example,mailto:no@victim.example,mailto:small@a.example!10k,mailto:big@a.example!50m\"\n\
         a.example._report._dmarc.willing.example. TXT \"v=DMARC1\"\n\
         victim.example. TXT \"v=DMARC1\"\n\
         _dmarc.twice.example. TXT \"v=DMARC1; p=none; rua=mailto:a@twice.example\"\n\
         _dmarc.twice.example. TXT \"v=DMARC1; p=none; rua=mailto:b@twice.example\"\n",
    );
    let places = async |name: &str| {
        let places = kind.places(&domain(name)).await.unwrap();
        places.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let expected = ["mailto:in@a.example", "mailto:x@lab.a.example", "mailto:yes@willing.example"];
    assert_eq!(
        places("a.example").await,
        expected,
        "the fourth place that is taken was not willing, and there it ends"
    );
    assert!(places("twice.example").await.is_empty());
    assert!(places("nothing.example").await.is_empty());
}

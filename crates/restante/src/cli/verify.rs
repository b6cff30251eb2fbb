//! `restante verify`: is a stored message what its origin signed?
//!
//! Reading and judging are the library's; here the key is found (in a document or zone file that was kept, or by discovery),
//! and the verdict put into a sentence.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;
use mail::{Domain, Timestamp};
use net::discovery::Discovery;
use net::dns::{Dnssec, Resolver, Source};
use net::tls::Trust;
use reference::keys::{MAX_DOCUMENT, key_name};
use reference::{Assurance, DomainFacts, Judgement, KeyRecord, Selector, SignatureVerdict};
use serde::Serialize;

use super::args::{Global, VerifyArgs};
use super::client;
use super::humane::{self, date};
use super::output::{Exit, Failure, Outcome, Output};
use crate::config::{self, Config};
use crate::settings;
use crate::verify::{StoredMessage, VerifyError};

/// The verdict.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    /// `pass`, `fail` or `unknown`.
    verdict: &'static str,
    /// One sentence or a few.
    sentence: String,
    #[serde(flatten)]
    details: Option<Details>,
}

/// What the verdict rests on.
#[derive(Debug, Serialize)]
struct Details {
    domain: Domain,
    selector: Selector,
    /// `valid`, `invalid`, `outside window`, `revoked` or `unknown`.
    signature: &'static str,
    /// Where the key came from.
    key_from: String,
    intact: bool,
    expired: bool,
    lf_copy: bool,
    hops: usize,
    issued: Timestamp,
    expires: Timestamp,
    to: Domain,
    signed_xuid: String,
    signed_octets: u64,
    found_xuid: String,
    found_octets: u64,
}

/// A key, or why there is none, and where it was looked for.
struct KeyFound {
    record: Option<KeyRecord>,
    from: String,
}

/// Reads, judges, prints.
pub(super) fn run(args: &VerifyArgs, global: &Global, output: Output) -> Outcome {
    let file = args.file.display().to_string();
    let message = match open(&args.file, output) {
        Ok(message) => message,
        Err(VerifyError::Io(error)) => return Err(Failure::new(format!("{file}: {error}")).exit(Exit::Usage)),
        Err(VerifyError::Stored(error)) => {
            let sentence = format!("It cannot be told: {error}.");
            let report = Report { file, verdict: "unknown", sentence, details: None };
            output.print(&report, || format!("{}: {}", report.file, report.sentence));
            return Ok(Exit::Usage);
        }
    };
    let key = find_key(&message, args, global)?;
    let judgement = message.judge(key.record.as_ref(), humane::now());
    let report = report(file, &message, &judgement, key.from);
    output.print(&report, || text(&report));
    Ok(exit(report.verdict))
}

fn exit(verdict: &str) -> Exit {
    match verdict {
        "pass" => Exit::Done,
        "fail" => Exit::Failed,
        _ => Exit::Usage,
    }
}

fn open(path: &Path, output: Output) -> Result<StoredMessage, VerifyError> {
    let file = File::open(path)?;
    let bar = output.bar(file.metadata()?.len());
    let message = StoredMessage::read(Watched { file, bar: bar.clone() });
    bar.finish_and_clear();
    message
}

/// A file whose reading is shown.
struct Watched {
    file: File,
    bar: ProgressBar,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.bar.inc(length as u64);
        Ok(length)
    }
}

fn find_key(message: &StoredMessage, args: &VerifyArgs, global: &Global) -> Result<KeyFound, Failure> {
    let (domain, selector) = message.signer();
    if !args.document.is_empty() {
        return from_documents(&args.document, domain, selector);
    }
    client::runtime()?.block_on(async {
        match &args.zone {
            Some(path) => from_zone(path, domain, selector).await,
            None => by_discovery(global, domain, selector).await,
        }
    })
}

/// Documents of other domains are passed over: one command line may serve for many messages.
fn from_documents(files: &[std::path::PathBuf], domain: &Domain, selector: &Selector) -> Result<KeyFound, Failure> {
    let mut looked_in = Vec::new();
    for path in files {
        let shown = path.display();
        let wrong = |why: &dyn std::fmt::Display| Failure::usage(format!("{shown}: {why}"));
        if fs::metadata(path).map_err(|error| wrong(&error))?.len() > MAX_DOCUMENT as u64 {
            return Err(wrong(&"it is too long to be a domain document"));
        }
        let json = fs::read(path).map_err(|error| wrong(&error))?;
        match DomainFacts::from_document(domain, &json) {
            Ok(facts) => match facts.key(selector) {
                Some(key) => return Ok(KeyFound { record: Some(key.clone()), from: format!("the document {shown}") }),
                None => looked_in.push(shown.to_string()),
            },
            Err(reference::keys::RecordError::OtherDomain) => looked_in.push(shown.to_string()),
            Err(error) => return Err(wrong(&error)),
        }
    }
    Ok(KeyFound { record: None, from: format!("not in {}", looked_in.join(", ")) })
}

async fn from_zone(path: &Path, domain: &Domain, selector: &Selector) -> Result<KeyFound, Failure> {
    let resolver = Resolver::new(&Source::ZoneFile(path.to_owned()), &Dnssec::Off)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let name = key_name(selector, domain).map_err(|error| Failure::new(error.to_string()))?;
    let from = format!("the zone file {}", path.display());
    let Ok(answer) = resolver.txt(&name).await else {
        return Ok(KeyFound { record: None, from: format!("{name} is not in {from}") });
    };
    let record = KeyRecord::from_txt(selector, answer.value.iter().map(String::as_str));
    let record = record.map_err(|error| Failure::usage(format!("{from}, {name}: {error}")))?;
    Ok(KeyFound { record, from })
}

/// As a receiving server would find it; by the configuration where there is one, else by the system's.
async fn by_discovery(global: &Global, domain: &Domain, selector: &Selector) -> Result<KeyFound, Failure> {
    let config = configuration(global)?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let trust = config.outgoing.ca_file.clone().map_or(Trust::System, Trust::CaFile);
    let resolver = Arc::new(crate::server::resolver(&config).map_err(|error| failed(&error))?);
    let fetcher = crate::server::repository_client(&config, &trust, &resolver).map_err(|error| failed(&error))?;
    // Nobody waits in an SMTP session here.
    let patient = net::discovery::Config {
        session_budget: std::time::Duration::from_secs(60),
        ..settings::discovery_config(&config)
    };
    let discovery = Discovery::new(resolver, fetcher, patient);
    match discovery.find(domain, selector, humane::now()).await {
        Ok(found) => {
            let from = match found.assurance {
                Assurance::Dnssec => "DNS, validated with DNSSEC".to_owned(),
                Assurance::Webpki => format!("the document of {domain}, under a valid certificate"),
            };
            let record = found.facts.key(selector).cloned();
            let from = if record.is_some() { from } else { format!("not in {from}") };
            Ok(KeyFound { record, from })
        }
        Err(failure) => Ok(KeyFound { record: None, from: failure.to_string() }),
    }
}

fn configuration(global: &Global) -> Result<Config, Failure> {
    let wanted = global.config.exists() || global.config != Path::new(config::DEFAULT_PATH);
    let loaded = match wanted {
        true => Config::load(&global.config),
        false => Config::parse("hostname = \"localhost\"", &global.config),
    };
    loaded.map_err(|errors| Failure::config(&errors))
}

fn report(file: String, message: &StoredMessage, judgement: &Judgement, key_from: String) -> Report {
    let statement = message.stored.chain.reference().statement();
    let (domain, selector) = message.signer();
    let (verdict, mut sentence) = verdict(message, judgement, &key_from);
    if judgement.lf_copy && verdict != "pass" {
        sentence.push_str(" It is a copy with LF line ends, judged with CRLF put back.");
    }
    if judgement.expired && judgement.intact {
        let expired = date(statement.expires);
        sentence.push_str(&format!(
            " The reference expired on {expired} UTC: a proof of what was sent, no longer an offer."
        ));
    }
    let details = Details {
        domain: domain.clone(),
        selector: selector.clone(),
        signature: signature_word(judgement.signature),
        key_from,
        intact: judgement.intact,
        expired: judgement.expired,
        lf_copy: judgement.lf_copy,
        hops: message.stored.chain.hops().len(),
        issued: statement.issued,
        expires: statement.expires,
        to: statement.to.clone(),
        signed_xuid: statement.xuid.to_string(),
        signed_octets: statement.size,
        found_xuid: message.xuid.to_string(),
        found_octets: message.octets,
    };
    Report { file, verdict, sentence, details: Some(details) }
}

fn verdict(message: &StoredMessage, judgement: &Judgement, key_from: &str) -> (&'static str, String) {
    let statement = message.stored.chain.reference().statement();
    let (domain, selector) = message.signer();
    if !judgement.intact {
        let (signed, found) = (statement.size, message.octets);
        let differs = match signed == found {
            true => format!("the {found} octets are others than those that the reference names"),
            false => format!("it has {found} octets, the reference names {signed}"),
        };
        return ("fail", format!("This is NOT what the reference of {domain} names: {differs}."));
    }
    let issued = date(statement.issued);
    match judgement.signature {
        SignatureVerdict::Valid => {
            let how = match judgement.lf_copy {
                true => "but for its line ends: a copy with LF, judged with CRLF put back".to_owned(),
                false => format!("octet for octet ({} octets)", statement.size),
            };
            ("pass", format!("This is what {domain} signed on {issued} UTC, {how}."))
        }
        SignatureVerdict::Invalid => {
            ("fail", format!("{domain} did NOT sign this: the signature does not verify under its key {selector}."))
        }
        SignatureVerdict::OutsideWindow => (
            "fail",
            format!(
                "The signature is of {domain}'s key {selector}, which was not valid on {issued} UTC: do not trust it."
            ),
        ),
        SignatureVerdict::Revoked => {
            ("fail", format!("{domain} has revoked the key {selector} that signed this: do not trust it."))
        }
        SignatureVerdict::Unknown => (
            "unknown",
            format!(
                "It cannot be told: the message is the one that its reference names, but the key {selector} of {domain} was \
                 not to be had ({key_from})."
            ),
        ),
    }
}

fn signature_word(verdict: SignatureVerdict) -> &'static str {
    match verdict {
        SignatureVerdict::Valid => "valid",
        SignatureVerdict::Invalid => "invalid",
        SignatureVerdict::OutsideWindow => "outside window",
        SignatureVerdict::Revoked => "revoked",
        SignatureVerdict::Unknown => "unknown",
    }
}

fn text(report: &Report) -> String {
    let Report { file, sentence, details, .. } = report;
    let Some(d) = details else { return format!("{file}: {sentence}") };
    let hops = match d.hops {
        0 => String::new(),
        n => format!("\n  relays     {n}, named in TBR-Hop fields above"),
    };
    format!(
        "{sentence}\n\n  file       {file}\n  signed by  {} (key {}: {})\n  key from   {}\n  sent to    {}\n  issued     {} UTC\n  \
         XUID       {}{hops}",
        d.domain,
        d.selector,
        d.signature,
        d.key_from,
        d.to,
        date(d.issued),
        d.found_xuid
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spec/vectors/stored.json");

    /// Runs the command on a vector, its facts kept as a document.
    fn judged(directory: &Path, input: &Value) -> (Exit, Report) {
        let (file, document) = (directory.join("message.eml"), directory.join("domain.json"));
        fs::write(&file, input["message"].as_str().unwrap()).unwrap();
        let facts = &input["facts"];
        if facts.is_object() {
            fs::write(&document, facts.to_string()).unwrap();
        }
        let args =
            VerifyArgs { file, document: if facts.is_object() { vec![document] } else { Vec::new() }, zone: None };
        let message = match open(&args.file, Output { json: true }) {
            Ok(message) => message,
            Err(error) => {
                let sentence = error.to_string();
                return (Exit::Usage, Report { file: String::new(), verdict: "unknown", sentence, details: None });
            }
        };
        let (domain, selector) = message.signer();
        let key = match args.document.is_empty() {
            true => KeyFound { record: None, from: "nowhere".into() },
            false => from_documents(&args.document, domain, selector).unwrap(),
        };
        let now = Timestamp::from_secs(input["now"].as_u64().unwrap());
        let judgement = message.judge(key.record.as_ref(), now);
        let report = report(String::new(), &message, &judgement, key.from);
        (exit(report.verdict), report)
    }

    #[test]
    fn the_vectors_get_their_verdicts() {
        let vectors: Value = serde_json::from_slice(&fs::read(VECTORS).unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut seen = 0;
        for vector in vectors["vectors"].as_array().unwrap() {
            let (name, outcome) = (&vector["name"], &vector["outcome"]);
            let crlf = vector["input"]["message"].as_str().unwrap().contains("\r\n");
            if crlf != (vector["input"]["line_ends"] == "crlf") {
                // The command sees by itself which line ends a file has.
                continue;
            }
            let (exit, report) = judged(directory.path(), &vector["input"]);
            let valid = outcome["verdict"] == "valid";
            assert_eq!(exit == Exit::Done, valid, "{name}: {}", report.sentence);
            if let Some(details) = &report.details {
                let expected = &outcome["details"];
                for (field, found) in
                    [("expired", details.expired), ("intact", details.intact), ("lf_copy", details.lf_copy)]
                {
                    assert!(expected[field].is_null() || expected[field] == found, "{name}: {field}");
                }
            }
            seen += 1;
        }
        assert!(seen >= 5, "only {seen} vectors");
    }

    #[test]
    fn a_key_is_found_in_a_zone_file_and_others_are_passed_over() {
        let vectors: Value = serde_json::from_slice(&fs::read(VECTORS).unwrap()).unwrap();
        let input = &vectors["vectors"][0]["input"];
        let directory = tempfile::tempdir().unwrap();
        let (file, zone) = (directory.path().join("m.eml"), directory.path().join("zone"));
        fs::write(&file, input["message"].as_str().unwrap()).unwrap();
        let key = input["facts"]["keys"][0]["p"].as_str().unwrap();
        let record = format!("v=TBR1; a=ed25519; p={key}; nb=1700000000; na=1900000000");
        fs::write(&zone, format!("k1._tbr.a.example. 300 IN TXT \"{record}\"\n")).unwrap();
        let global = Global { config: directory.path().join("none"), json: true, socket: None };
        let args = VerifyArgs { file: file.clone(), document: Vec::new(), zone: Some(zone.clone()) };
        assert_eq!(run(&args, &global, Output { json: true }), Ok(Exit::Done));
        fs::write(&zone, "k2._tbr.a.example. 300 IN TXT \"x\"\n").unwrap();
        assert_eq!(run(&args, &global, Output { json: true }), Ok(Exit::Usage));
    }

    #[test]
    fn what_cannot_be_read_or_has_no_reference_is_no_verdict() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("m.eml");
        let args = VerifyArgs { file: file.clone(), document: Vec::new(), zone: None };
        let global = Global { config: directory.path().join("none"), json: true, socket: None };
        assert_eq!(run(&args, &global, Output { json: true }).unwrap_err().exit, Exit::Usage);
        fs::write(&file, "Subject: x\r\n\r\nbody\r\n").unwrap();
        assert_eq!(run(&args, &global, Output { json: true }), Ok(Exit::Usage));
    }
}

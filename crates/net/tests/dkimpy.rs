//! Verdicts on DKIM and ARC equal those of dkimpy, which runs as a process of its own: on the messages of its own test suite, on
//! chains of its making that are damaged in every part, on real messages from the sources of mail-auth and mail-parser, and on what
//! OpenDKIM signs in every canonicalisation, with keys of both kinds. They are changed in every way that a signature must notice, or must not.
//!
//! Where we differ on purpose, [`believed`] says so. Other corpora, in the same form as mail-auth's, are judged as well where
//! `RESTANTE_CORPUS` names their folder: each file has the TXT records, a name and a text on each line, an empty line, and the message.
//! (Of the ARC validation suite two cases differ and stay so: `c` that is missing means simple, as in DKIM; `h` that is empty is none.)
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::Timestamp;
use net::authentication::signer::{self, Signer};
use net::authentication::{Authenticator, Settings};
use net::dns::{Dnssec, Resolver, Source};
use policy::ContentEvidence;
use policy::evidence::Verdict;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use testbed::{PackageSet, Sandbox, Sdist};

/// A message that dkimpy has judged.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    /// Base64.
    message: String,
    /// TXT records by name.
    zone: BTreeMap<String, String>,
    dkim: Vec<Option<Signature>>,
    arc: String,
}

/// A signature that holds.
#[derive(Debug, Deserialize)]
struct Signature {
    domain: String,
    selector: String,
    algorithm: String,
    /// It covers only part of the body.
    length: bool,
}

/// What dkimpy believes that we do not: RFC 8301 §3.1, and text added below what is signed (RFC 6376 §8.2).
fn believed(signature: &Signature) -> bool {
    signature.algorithm != "rsa-sha1" && !signature.length
}

#[tokio::test]
async fn verdicts_are_those_of_dkimpy() {
    let mut messages = real_messages();
    messages.extend(sealed_here().await);
    messages.extend(signed_by_opendkim());
    messages.extend(signed_here());
    let cases = judged(&messages);
    let (mut differences, mut passed, mut sealed, mut own) = (Vec::new(), 0, 0, 0);
    let (mut opendkims, mut ours) = ([0, 0], [0, 0]);
    for case in &cases {
        let wanted = wanted(case);
        let found = said(&judge(case).await);
        passed += wanted.0.len();
        sealed += usize::from(wanted.1 == "pass");
        own += usize::from(case.name.starts_with("dkimpy"));
        for (signer, counts) in [("opendkim", &mut opendkims), ("signed here", &mut ours)] {
            counts[usize::from(wanted.0.is_empty())] += usize::from(case.name.starts_with(signer));
        }
        if wanted != found {
            differences.push(format!("{}: dkimpy says {wanted:?}, we say {found:?}", case.name));
        }
    }
    let count = cases.len();
    assert!(differences.is_empty(), "{} of {count}:\n{}", differences.len(), differences.join("\n"));
    assert!(own > 200 && count > 500, "the suites are not whole: {own} of {count}");
    for (signer, counts) in [("OpenDKIM", opendkims), ("this server", ours)] {
        assert!(
            counts.iter().all(|count| *count > 30),
            "of {signer}, signatures that hold and that do not: {counts:?}"
        );
    }
    let holds = |name: &str| cases.iter().any(|case| case.name == name && !wanted(case).0.is_empty());
    assert!(holds("opendkim, old, as it is") && !holds("opendkim, expired, as it is"));
    assert!(passed > 100 && sealed > 20, "hardly any signature holds: {passed}, {sealed} chains");
}

/// Signatures that hold, sorted, and the state of the chain.
type Verdicts = (Vec<(String, String)>, String);

fn wanted(case: &Case) -> Verdicts {
    let holding = case.dkim.iter().flatten().filter(|signature| believed(signature));
    let mut holding: Vec<_> = holding.map(|s| (s.domain.to_ascii_lowercase(), s.selector.clone())).collect();
    holding.sort();
    (holding, chain(case).unwrap_or(&case.arc).to_owned())
}

/// What we say of a chain that dkimpy cannot judge: it takes fields of one name by their position where RFC 8617 §5.1.1.1 goes by
/// their instance, and knows no Ed25519 (RFC 8463).
fn chain(case: &Case) -> Option<&'static str> {
    const BREAKING: [&str; 8] =
        ["line more", "cut short", "without", "another subject", "author", "another selector", "by another", "part of"];
    let message = STANDARD.decode(&case.message).unwrap();
    let fields = String::from_utf8_lossy(&message);
    let is_known = !fields.lines().any(|line| line.starts_with("ARC-") && line.contains("ed25519"));
    let holds = !BREAKING.iter().any(|change| case.name.contains(change));
    match (case.name.ends_with(" last"), is_known) {
        (true, _) => Some("pass"),
        (false, false) => Some(if holds { "pass" } else { "fail" }),
        (false, true) => None,
    }
}

fn said(evidence: &ContentEvidence) -> Verdicts {
    let holding = evidence.dkim.iter().filter(|dkim| dkim.verdict == Verdict::Pass);
    let mut holding: Vec<_> = holding.map(|dkim| (dkim.domain.to_ascii_lowercase(), dkim.selector.clone())).collect();
    holding.sort();
    let chain = match evidence.arc.verdict {
        Verdict::Pass => "pass",
        Verdict::None => "none",
        _ => "fail",
    };
    (holding, chain.to_owned())
}

async fn judge(case: &Case) -> ContentEvidence {
    let folder = tempfile::tempdir().unwrap();
    let authenticator = authenticator(&folder, &case.zone);
    let mut reader = authenticator.content();
    STANDARD.decode(&case.message).unwrap().chunks(1000).for_each(|chunk| reader.push(chunk));
    authenticator.judge(&reader.finish().unwrap(), None).await
}

/// Over these records, in a folder that must be there until they are read.
fn authenticator(folder: &TempDir, records: &BTreeMap<String, String>) -> Authenticator {
    let zone = folder.path().join("zone");
    let records: String = records.iter().filter_map(|(name, text)| record(name, text)).collect();
    fs::write(&zone, format!("a.example. A 192.0.2.1\n{records}")).unwrap();
    let settings = Settings {
        hostname: "mx.b.example".parse().unwrap(),
        block_lists: Vec::new(),
        allow_lists: Vec::new(),
        header_octets: 1 << 20,
        patience: Duration::from_secs(60),
    };
    Authenticator::new(settings, Resolver::new(&Source::ZoneFile(zone), &Dnssec::Off).unwrap()).unwrap()
}

/// A line of a zone file; nothing for what is no name.
fn record(name: &str, text: &str) -> Option<String> {
    let name = name.trim_end_matches('.');
    if !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet)) {
        return None;
    }
    // White space means nothing there, and a zone file has no way to write every kind of it.
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let strings: Vec<String> =
        text.as_bytes().chunks(200).map(|part| format!("{:?}", String::from_utf8_lossy(part))).collect();
    Some(format!("{name}. TXT {}\n", strings.join(" ")))
}

/// Asks dkimpy.
fn judged(messages: &[(String, Vec<u8>, BTreeMap<String, String>)]) -> Vec<Case> {
    let sandbox = Sandbox::new().unwrap();
    let host = sandbox.host("oracle.example", &[PackageSet::Dkim]).unwrap();
    let lines = messages.iter().map(|(name, message, zone)| {
        json!({ "name": name, "message": STANDARD.encode(message), "zone": zone }).to_string() + "\n"
    });
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dkimpy/judge.py");
    let source = Sdist::Dkimpy.unpacked().unwrap();
    let argv = ["python3", program.to_str().unwrap(), source.to_str().unwrap()];
    let output = host.output(&argv, lines.collect::<String>().as_bytes()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Real messages, as they are and changed, with the keys of those who signed them.
fn real_messages() -> Vec<(String, Vec<u8>, BTreeMap<String, String>)> {
    let mut messages = Vec::new();
    let auth = source("mail-auth");
    for path in files(&auth.join("resources/dkim")).into_iter().chain(files(&auth.join("resources/arc"))) {
        let (zone, message) = with_records(&path);
        for (change, changed) in changed(&String::from_utf8(message).unwrap()) {
            messages.push((format!("{} {change}", path.display()), changed.into_bytes(), zone.clone()));
        }
    }
    for path in std::env::var_os("RESTANTE_CORPUS").into_iter().flat_map(|folder| files(Path::new(&folder))) {
        let (zone, message) = with_records(&path);
        messages.push((path.display().to_string(), message, zone));
    }
    for path in files(&source("mail-parser").join("resources/eml")) {
        messages.push((path.display().to_string(), fs::read(&path).unwrap(), BTreeMap::new()));
    }
    messages
}

/// A message with CRLF line ends, and the records that stand above it.
fn with_records(path: &Path) -> (BTreeMap<String, String>, Vec<u8>) {
    let octets = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&octets);
    let (records, _) = text.split_once("\n\n").unwrap();
    let record = |line: &str| line.split_once(' ').map(|(name, text)| (format!("{name}."), text.to_owned()));
    let message = testbed::samples::crlf(&testbed::samples::lf(&octets[records.len() + 2..]));
    (records.lines().filter_map(record).collect(), message)
}

/// What OpenDKIM's signatures are of: fields more than once, folded and with white space of every kind; UTF-8, dots, and empty lines at the end.
const PLAIN: &str = "Received: from x.example by y.example; Mon, 01 Jan 2024 00:00:00 +0000\r\n\
    Received: from w.example by x.example; Mon, 01 Jan 2024 00:00:00 +0000\r\n\
    From: Alice\r\n\t <a@a.example>\r\nTo: b@b.example,\r\n  c@c.example \r\nSubject: a  long \t subject, \r\n  and folded\r\n\
    Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@a.example>\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
    Hello  \t world,\r\n.. two dots\r\n \r\n  gr\u{fc}\u{df}e \t\r\n\r\n\r\n";

/// The same message signed in every way, changed in every way; and signed twice, and long ago.
fn signed_by_opendkim() -> Vec<(String, Vec<u8>, BTreeMap<String, String>)> {
    let sandbox = Sandbox::new().unwrap();
    let host = sandbox.host("signer.example", &[PackageSet::OpenDkim]).unwrap();
    let (mut zone, folder) = (BTreeMap::new(), host.room().to_owned());
    for (selector, key) in [("rsa", signer::generate_rsa()), ("ed25519", signer::generate_ed25519())] {
        let mut key = key.unwrap();
        zone.insert(format!("{selector}._domainkey.a.example."), signer::record(&key).unwrap());
        if selector == "ed25519" {
            // OpenSSL reads no key that brings its public half along (RFC 5958 §2): the seed alone, as version 0.
            key = [&b"\x30\x2e\x02\x01\x00"[..], &key[5..48]].concat();
        }
        let text = STANDARD.encode(&key);
        let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n").collect::<String>();
        let text = format!("-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\n");
        fs::write(folder.join(format!("{selector}.pem")), text).unwrap();
    }
    fs::write(folder.join("anybody"), "0.0.0.0/0\nlocalhost\n").unwrap();
    let sign = |message: &str, algorithm: &str, way: &str, more: &str, at: &[&str]| {
        let (room, config, file) = (folder.display(), folder.join("opendkim.conf"), folder.join("message"));
        let text = format!(
            "Mode s\nDomain a.example\nSelector {algorithm}\nKeyFile {room}/{algorithm}.pem\nSignatureAlgorithm {algorithm}-sha256\n\
             Canonicalization {way}\nInternalHosts file:{room}/anybody\nRequireSafeKeys no\nSyslog no\n{more}"
        );
        fs::write(&config, text).unwrap();
        fs::write(&file, message).unwrap();
        let (config, file) = (config.display().to_string(), file.display().to_string());
        // Its test mode says which field it would add.
        let argv = [at, &["opendkim", "-x", &config, "-t", &file, "-v", "-v", "-v"]].concat();
        let said = String::from_utf8(host.output(&argv, b"").unwrap().stdout).unwrap();
        let value = said.split_once("hname='DKIM-Signature' hvalue='").unwrap_or_else(|| panic!("{said}")).1;
        let value = value.rsplit_once('\'').unwrap().0.replace("\r\n", "\n").replace('\n', "\r\n");
        format!("DKIM-Signature: {value}\r\n{message}")
    };
    let mut signed = Vec::new();
    for way in ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"] {
        for algorithm in ["rsa", "ed25519"] {
            signed.push((format!("{algorithm} {way}"), sign(PLAIN, algorithm, way, "", &[])));
        }
        let once = sign(PLAIN, "rsa", way, "OversignHeaders From,Subject\n", &[]);
        signed.push((format!("both {way}"), sign(&once, "ed25519", way, "OversignHeaders From\n", &[])));
    }
    for (what, more) in [("old", ""), ("expired", "SignatureTTL 3600\n")] {
        let then = ["faketime", "2020-01-01 00:00:00"];
        signed.push((what.to_owned(), sign(PLAIN, "rsa", "relaxed/relaxed", more, &then)));
    }
    let each = |(what, message): (String, String)| {
        let changes = changed(&message).into_iter();
        let named = changes.map(move |(change, text)| (format!("opendkim, {what}, {change}"), text.into_bytes()));
        named.collect::<Vec<_>>()
    };
    signed.into_iter().flat_map(each).map(|(name, message)| (name, message, zone.clone())).collect()
}

/// The same as this server signs it, with keys of both kinds; and with lines of white space at its end.
fn signed_here() -> Vec<(String, Vec<u8>, BTreeMap<String, String>)> {
    let keys = [("s1", signer::generate_rsa()), ("s2", signer::generate_ed25519())];
    let keys = keys.map(|(selector, key)| (selector.parse().unwrap(), key.unwrap()));
    let named =
        |(selector, key): &(_, Vec<u8>)| (format!("{selector}._domainkey.a.example."), signer::record(key).unwrap());
    let zone: BTreeMap<String, String> = keys.iter().map(named).collect();
    let signer = Signer::new(&"a.example".parse().unwrap(), &keys).unwrap();
    let mut messages = Vec::new();
    for (what, message) in [("plain", PLAIN.to_owned()), ("white at its end", format!("{PLAIN} \r\n\t \r\n"))] {
        for size in [1, 7, 10_000] {
            let mut signing = signer.begin();
            message.as_bytes().chunks(size).for_each(|chunk| signing.push(chunk));
            let signed = format!("{}{message}", signing.finish().unwrap());
            let changes = changed(&signed).into_iter();
            let named = changes.map(|(change, text)| {
                (format!("signed here, {what}, in parts of {size}, {change}"), text.into_bytes())
            });
            messages.extend(named.map(|(name, message)| (name, message, zone.clone())));
        }
    }
    messages
}

/// A message that this server has sealed once, twice and three times, whole and changed.
async fn sealed_here() -> Vec<(String, Vec<u8>, BTreeMap<String, String>)> {
    let key = signer::generate_rsa().unwrap();
    let zone = BTreeMap::from([("s1._domainkey.f.example.".to_owned(), signer::record(&key).unwrap())]);
    let signer = Signer::new(&"f.example".parse().unwrap(), &[("s1".parse().unwrap(), key)]).unwrap();
    let results = "Authentication-Results: mx.f.example;\r\n\tspf=pass smtp.mailfrom=a.example;\r\n\tdmarc=pass\r\n";
    let mut message = "From: Alice <a@a.example>\r\nTo: b@f.example\r\nSubject: a  long\r\n\tsubject\r\n\
                       DKIM-Signature: v=1; x\r\nDKIM-Signature: v=1; y\r\n\r\nHello \r\n  world\r\n\r\n"
        .to_owned();
    let mut messages = Vec::new();
    for count in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let authenticator = authenticator(&folder, &zone);
        let mut reader = authenticator.content().to_be_sealed();
        reader.push(message.as_bytes());
        let content = reader.finish().unwrap();
        let chain = authenticator.judge(&content, None).await.arc.verdict;
        assert_eq!(chain, if count == 1 { Verdict::None } else { Verdict::Pass });
        let seal = signer.seal(&content, results, chain, Timestamp::from_secs(1_700_000_000)).unwrap();
        assert!(seal.starts_with("ARC-Seal: ") && seal.lines().all(|line| line.len() <= 100), "{seal}");
        message = format!("{seal}{results}Received: from x by y\r\n{message}");
        messages.push((format!("ours, {count} sets"), message.clone().into_bytes(), zone.clone()));
        let other = message.replace("world", "World").into_bytes();
        messages.push((format!("ours, {count} sets, changed"), other, zone.clone()));
    }
    messages
}

/// What may happen to a message on its way.
fn changed(message: &str) -> Vec<(&'static str, String)> {
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let with_body = |body: &str| format!("{head}\r\n\r\n{body}");
    let before = |name: &str, more: &str| message.replacen(&format!("\r\n{name}"), &format!("\r\n{more}{name}"), 1);
    vec![
        ("as it is", message.to_owned()),
        ("with a line more", with_body(&format!("{body}x\r\n"))),
        ("with empty lines at its end", with_body(&format!("{body}\r\n\r\n"))),
        ("with spaces at the end of lines", with_body(&body.replace("\r\n", " \r\n"))),
        ("cut short", with_body(&body[..body.floor_char_boundary(body.len() / 2)])),
        ("without a body", with_body("")),
        (
            "with another subject",
            before("Subject: ", "Subject: x\r\n").replacen("Subject: x\r\nSubject:", "Subject: x", 1),
        ),
        ("with a second subject", before("Subject: ", "Subject: x\r\n")),
        ("with a second author", before("From: ", "From: x@attacker.example\r\n")),
        ("with a second author on top", format!("From: x@attacker.example\r\n{message}")),
        ("without its author", message.replacen("\r\nFrom:", "\r\nX-From:", 1)),
        ("with fields on top", format!("Received: from x by y\r\nX-Field: y\r\n{message}")),
        ("folded", message.replacen("Subject: ", "Subject:\r\n ", 1)),
        ("in another case", message.replacen("Subject: ", "SUBJECT: ", 1)),
        ("signed with another selector", message.replacen(" s=", " s=x", 1)),
        ("signed by another", message.replacen(" d=", " d=x.", 1)),
        ("with part of the body signed", message.replacen(" v=1;", " v=1; l=10;", 1)),
    ]
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Where cargo keeps the sources of a package that is built here.
fn source(package: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = Command::new(cargo).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = metadata["packages"].as_array().unwrap().iter().find(|found| found["name"] == package);
    let manifest = Path::new(found.unwrap()["manifest_path"].as_str().unwrap());
    manifest.parent().unwrap().to_owned()
}

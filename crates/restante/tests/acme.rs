//! Certificates of a real authority, Pebble: had by whole servers, shown by their listeners to clients that believe nobody else, renewed,
//! and not had for a name that leads elsewhere.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use testbed::peers::{Pebble, Restante, RestanteConfig};
use testbed::{Host, Sandbox, wait};
use x509_parser::pem::Pem;

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// What answers an authority at port 80.
const AT_PORT_80: &str = "[[listener]]\nkind = \"acme\"\naddress = \"0.0.0.0:80\"\n\
                          [[listener]]\nkind = \"acme\"\naddress = \"[::]:80\"\n";

/// mx.a.example, for a.example, which has no certificates but those of `pebble`.
fn restante(sandbox: &Sandbox, pebble: &Pebble, more: &str) -> RestanteConfig {
    let (directory, ca) = (pebble.directory(), sandbox.ca().certificate().display());
    let acme = format!("[acme]\ndirectory = \"{directory}\"\naccept_terms = true\nca_file = \"{ca}\"\n{more}");
    RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).without_certificate().tables(&acme)
}

/// One certificate, in what `restante certificates list` tells.
fn listed(server: &Restante, name: &str) -> Value {
    let all = server.json(&["certificates", "list"], b"").unwrap();
    let found = all.as_array().unwrap().iter().find(|shown| shown["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {all:#}")).clone()
}

/// The same; where an attempt has failed for another reason than this one, an operator asks for the next at once: on a loaded machine
/// a name server may be late.
fn listed_insisting(server: &Restante, name: &str, expected: &str) -> Value {
    let found = listed(server, name);
    let problem = found["attempts"]["problem"].as_str().unwrap().to_owned();
    let is_over = !problem.is_empty() && problem != "it was broken off" && found["attempts"]["next"] != 0;
    if is_over && !problem.contains(expected) {
        server.json(&["certificates", "renew", name], b"").unwrap();
    }
    found
}

/// What stands in no problem.
const NOTHING: &str = "\n";

/// Waits until the authority has issued a certificate, and nothing more is wanted.
fn wait_for_issue(server: &Restante, name: &str) {
    let mut last = Value::Null;
    let issued = wait::until(&format!("a certificate for {name}"), wait::LONG, || {
        last = listed_insisting(server, name, NOTHING);
        let attempts = &last["attempts"];
        let is_done = attempts["failures"] == 0 && attempts["wanted"] == false;
        (is_done && last["certificate"]["stands_in"] == false).then_some(())
    });
    issued.unwrap_or_else(|error| panic!("{error:#}\n{last:#}\n{}", server.log()));
}

/// Asks for another certificate, and waits for it.
fn renew(server: &Restante, name: &str) {
    server.json(&["certificates", "renew", name], b"").unwrap();
    wait_for_issue(server, name);
}

/// Serial number and public key of what a listener shows to curl, which believes in `root` only and wants this very name.
fn shown(client: &Host, url: &str, root: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let argv = ["curl", "--silent", "--show-error", "--ssl-reqd", "--max-time", "30", "--cacert", root];
    let argv = [&argv[..], &["--output", "/dev/null", "--write-out", "%{certs}", url]].concat();
    let output = client.output(&argv, b"")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----");
    let begin = begin.ok_or_else(|| anyhow::anyhow!("{url}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let (pem, _) = Pem::read(std::io::Cursor::new(&text.as_bytes()[begin..]))?;
    let certificate = pem.parse_x509()?;
    Ok((certificate.raw_serial_as_string(), certificate.public_key().raw.to_vec()))
}

/// The TLSA records that `restante dns print` wants under a name: owner and text.
fn printed(server: &Restante, name: &str) -> Vec<String> {
    let all = server.json(&["dns", "print"], b"").unwrap();
    let wanted = all.as_array().unwrap().iter().filter(|record| record["type"] == "TLSA" && record["name"] == name);
    wanted.map(|record| record["text"].as_str().unwrap().to_owned()).collect()
}

/// The one TLSA record of a public key (RFC 6698 §2.1): the host's own, of its key, by SHA-256.
fn of_key(key: &[u8]) -> [String; 1] {
    let digest = digest(&SHA256, key);
    let octets: Vec<String> = digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    [format!("3 1 1 {}", octets.concat())]
}

/// Waits until a listener shows a certificate of the authority, other than this one.
fn wait_until_shown(client: &Host, url: &str, root: &str, old: &str) -> (String, Vec<u8>) {
    let found = wait::until(&format!("another certificate at {url}"), wait::LONG, || {
        shown(client, url, root).ok().filter(|(serial, _)| serial != old)
    });
    found.unwrap_or_else(|error| panic!("{error:#}: {:?}", shown(client, url, root)))
}

#[test]
fn certificates_come_by_http_01_and_are_renewed_with_their_keys() {
    let sandbox = Sandbox::new().unwrap();
    let pebble = Pebble::start(&sandbox, "acme.example").unwrap();
    let client = sandbox.host("client.example", &[]).unwrap();
    let server = Restante::start(&sandbox, restante(&sandbox, &pebble, "").tables(AT_PORT_80)).unwrap();
    wait_for_issue(&server, "mx.a.example");
    wait_for_issue(&server, "tbr.a.example");

    let root = pebble.root().unwrap().display().to_string();
    let (first, key) = wait_until_shown(&client, "smtp://mx.a.example", &root, "");
    let (submissions, _) = wait_until_shown(&client, "smtps://mx.a.example", &root, "");
    assert_eq!(first, submissions, "one certificate for the server's name, on all listeners");
    let (repository, other_key) = wait_until_shown(&client, "https://tbr.a.example/", &root, "");
    assert!(repository != first && other_key != key, "the domain's hosts have one of their own");
    let no_one = "http://mx.a.example/.well-known/acme-challenge/token";
    let status = client.run(&["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", no_one]);
    assert_eq!(status.unwrap(), "404");

    renew(&server, "mx.a.example");
    let (second, same_key) = wait_until_shown(&client, "smtp://mx.a.example", &root, &first);
    assert!(second != first && same_key == key, "another certificate for the same key");
    assert_eq!(printed(&server, "_25._tcp.mx.a.example"), of_key(&key), "to be published, whatever is renewed");
    assert_eq!(printed(&server, "_443._tcp.tbr.a.example"), of_key(&other_key));
    assert_eq!(wait_until_shown(&client, "https://tbr.a.example/", &root, "").0, repository, "nobody wanted another");
}

#[test]
fn certificates_come_by_tls_alpn_01_where_nothing_listens_at_port_80() {
    let sandbox = Sandbox::new().unwrap();
    let pebble = Pebble::start(&sandbox, "acme.example").unwrap();
    let client = sandbox.host("client.example", &[]).unwrap();
    let server = Restante::start(&sandbox, restante(&sandbox, &pebble, "")).unwrap();
    assert!(server.host().connect((server.host().ipv4(), 80)).is_err());
    wait_for_issue(&server, "mx.a.example");
    wait_for_issue(&server, "tbr.a.example");
    let root = pebble.root().unwrap().display().to_string();
    wait_until_shown(&client, "smtps://mx.a.example", &root, "");
    let (repository, _) = wait_until_shown(&client, "https://tbr.a.example/", &root, "");
    renew(&server, "tbr.a.example");
    wait_until_shown(&client, "https://tbr.a.example/", &root, &repository);
}

#[test]
fn a_name_that_leads_elsewhere_leaves_the_stand_in_and_is_told_of() {
    let sandbox = Sandbox::new().unwrap();
    let pebble = Pebble::start(&sandbox, "acme.example").unwrap();
    let elsewhere = sandbox.host("www.a.example", &[]).unwrap();
    let config = restante(&sandbox, &pebble, "names = [\"www.a.example\"]\n").tables(AT_PORT_80);
    let server = Restante::start(&sandbox, config).unwrap();
    // The hosts of the domain do not suffer from it.
    wait_for_issue(&server, "tbr.a.example");
    let found = wait::until("an attempt that failed", wait::LONG, || {
        let found = listed_insisting(&server, "mx.a.example", "refuses www");
        found["attempts"]["problem"].as_str()?.contains("refuses www").then_some(found)
    });
    let found = found.unwrap_or_else(|error| panic!("{error:#}: {:#}", listed(&server, "mx.a.example")));
    assert_eq!(found["certificate"]["stands_in"], true, "{found:#}");
    assert!(found["attempts"]["failures"].as_u64().unwrap() >= 1, "{found:#}");
    let told = server.cli(&["certificates", "list"], b"").unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("not issued yet: one of our own making stands in"), "{told}");
    assert!(told.contains(" failed, next attempt in "), "{told}");
    assert!(told.contains("the authority refuses www.a.example: "), "{told}");

    // Mail comes and goes under what stands in.
    let root = pebble.root().unwrap().display().to_string();
    assert!(shown(&elsewhere, "smtp://mx.a.example", &root).is_err());
    let file = server.data().join("acme/mx.a.example.pem");
    let pem = fs::read_to_string(&file).unwrap();
    let begin = pem.find("-----BEGIN CERTIFICATE-----").unwrap();
    let own = server.host().room().join("own.pem");
    fs::write(&own, &pem[begin..]).unwrap();
    shown(&elsewhere, "smtp://mx.a.example", own.to_str().unwrap()).unwrap();
}

//! A DKIM signature made elsewhere (by dkimpy, in the strictest canonical form) still verifies after the message has passed
//! through: by reference, by value, and on to Postfix. A changed message does not, so the verifier is awake.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testbed::peers::restante::object;
use testbed::peers::{MailServer, Restante, RestanteConfig, Site};
use testbed::samples::{awkward, crlf, lf};
use testbed::{Host, PackageSet, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// A machine that signs for `a.example` and verifies for everybody.
struct Notary {
    host: Host,
}

impl Notary {
    fn new(sandbox: &Sandbox) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let record = format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref()));
        sandbox.publish(&[Record::Txt("elsewhere._domainkey.a.example".to_owned(), record)]).unwrap();
        let host = sandbox.host("notary.example", &[PackageSet::Dkim]).unwrap();
        let encoded = STANDARD.encode(private.as_ref());
        let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        host.put("/etc/dkim.pem", pem.as_bytes()).unwrap();
        Self { host }
    }

    /// The message with CRLF line ends, signed.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let argv = ["dkimsign", "--hcanon", "simple", "--bcanon", "simple", "elsewhere", "a.example", "/etc/dkim.pem"];
        let output = self.host.output(&argv, &crlf(message)).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.starts_with(b"DKIM-Signature:") && output.stdout.ends_with(&crlf(message)));
        output.stdout
    }

    /// What is wrong with the signature of a message, in the verifier's words.
    fn verify(&self, message: &[u8]) -> Result<(), String> {
        let output = self.host.output(&["dkimverify"], message).unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() && said.contains("signature ok") { Ok(()) } else { Err(said) }
    }

    fn assert_verifies(&self, message: &[u8], way: &str) {
        let shown = String::from_utf8_lossy(message);
        self.verify(message).unwrap_or_else(|why| panic!("{way}: {why}\n{shown}"));
    }
}

fn config(name: &str, domain: &str) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, &[domain]).users(&["alice", "bob"])
}

#[test]
fn signatures_made_elsewhere_survive() {
    let sandbox = Sandbox::new().unwrap();
    let notary = Notary::new(&sandbox);
    let postfix = MailServer::postfix(&sandbox, &Site::new("mx.p.example", &["p.example"])).unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", "a.example")).unwrap();
    let receiver = Restante::start(&sandbox, config("mx.b.example", "b.example")).unwrap();
    let signed = notary.sign(&awkward("signed elsewhere"));
    notary.assert_verifies(&signed, "as signed");

    // By reference, and by value onwards from the same server.
    let to = ["bob@b.example", "bob@p.example"];
    origin.send("alice@a.example", &to, &signed).unwrap();
    let copy = receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert_eq!(object(&copy), Some(&signed[..]), "{}", String::from_utf8_lossy(&copy));
    notary.assert_verifies(&copy, "by reference");
    let copy = postfix.maildir("bob").wait_for(1, wait::LONG).unwrap().remove(0);
    notary.assert_verifies(&copy, "by value to Postfix");

    // From Postfix, by value.
    postfix.inject("alice@a.example", &["alice@b.example"], &lf(&signed)).unwrap();
    let mut copy = receiver.maildir("alice@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    notary.assert_verifies(&copy, "by value from Postfix");

    let last = copy.len() - 8;
    copy[last] ^= 1;
    let why = notary.verify(&copy).unwrap_err();
    assert!(why.contains("body hash mismatch"), "{why}");
}

//! Who saw an offer in clear, and tries what he can with it.

use reference::Uri;
use reference::message_signature::{self, Nonce, Request, Signer};
use testbed::Host;

use super::now::{now, rand};

/// Who saw an offer in clear, and has a domain of his own.
pub(crate) struct Thief {
    pub(crate) host: Host,
    /// Whom he trusts.
    pub(crate) ca: String,
    /// What he saw.
    pub(crate) uri: Uri,
}

impl Thief {
    /// Asks for this, signed by whom it may be; the answer.
    pub(crate) fn ask(&self, path: &str, body: Option<&str>, signer: Option<&Signer>) -> String {
        let digest = body.map(|body| message_signature::content_digest(body.as_bytes()));
        let request = Request {
            method: if body.is_some() { "POST" } else { "GET" },
            host: &self.uri.host,
            path_and_query: path,
            content_digest: digest.as_deref(),
            upload_offset: None,
        };
        let mut headers = Vec::new();
        if let Some(signer) = signer {
            let fields = message_signature::sign(&request, [(signer, Nonce(rand()))], now()).unwrap();
            headers.push(format!("Signature-Input: {}", fields.input));
            headers.push(format!("Signature: {}", fields.signature));
        }
        headers.extend(digest.iter().map(|digest| format!("Content-Digest: {digest}")));
        let url = format!("https://{}{path}", self.uri.host);
        let mut command = vec!["curl", "--http1.1", "--silent", "--show-error", "--include", "--cacert", &self.ca];
        headers.iter().for_each(|header| command.extend(["--header", header]));
        if let Some(body) = body {
            command.extend(["--header", "Content-Type: application/json", "--data-binary", body]);
        }
        command.push(&url);
        let answer = self.host.run(&command).unwrap();
        let lines = answer.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Fetches, claims and reports, signed by whom it may be, with the grant that he saw and with one that nobody made: it
    /// makes no difference.
    pub(crate) fn gets_what_everybody_gets(&self, reference: &str, to: &str, signers: &[(&str, Option<&Signer>)]) {
        let uri = self.uri.reveal().to_string();
        let grant = uri.rsplit_once("&RCPT=").unwrap().1.to_owned();
        let made_up = "A".repeat(grant.len());
        let path = uri.strip_prefix(&format!("https://{}", self.uri.host)).unwrap();
        let instance = "AAAAAAAAAAAAAAAAAAAAAA";
        let at = now().as_secs();
        for (who, signer) in signers {
            for to in [to, "x.example"] {
                let claim = format!(
                    r#"{{"v":1,"instance":"{instance}","claims":[{{"to":"{to}","i":"{reference}","grant":"{grant}","n":[0]}}]}}"#
                );
                let receipt = format!(
                    r#"{{"v":1,"instance":"{instance}","receipts":[{{"to":"{to}","i":"{reference}","grant":"{grant}","outcomes":[{{"n":0,"action":"failed","status":"5.1.1","at":{at}}}]}}]}}"#
                );
                for (path, body) in [
                    (path, None),
                    (reference::claims::CLAIMS_PATH, Some(claim.as_str())),
                    (reference::claims::RECEIPTS_PATH, Some(receipt.as_str())),
                ] {
                    let got = self.ask(path, body, *signer);
                    let path = path.replace(&grant, &made_up);
                    let body = body.map(|body| body.replace(&grant, &made_up));
                    let guessed = self.ask(&path, body.as_deref(), *signer);
                    assert!(guessed.starts_with("HTTP/1.1 404"), "{who} {path}: {guessed}");
                    assert_eq!(got, guessed, "{who} for {to}, {path}: the grant alone opens something");
                }
            }
        }
    }
}

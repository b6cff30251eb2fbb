//! The clients: swaks submits, curl submits and reads back by IMAP. They run on any host.
//!
//! They leave to the test what is in the message and what must come of it.

use std::process::Output;

use anyhow::{Context, Result, ensure};

use crate::host::Host;

/// Runs swaks on `host` with its own arguments; the output is the whole conversation.
///
/// # Errors
/// When it cannot be run; a refusal by the server is in the exit code of the output.
pub fn swaks(host: &Host, arguments: &[&str]) -> Result<Output> {
    let mut argv = vec!["swaks", "--timeout", "60s"];
    argv.extend_from_slice(arguments);
    host.output(&argv, b"")
}

/// Submits with curl: `url` is `smtp://…` or `smtps://…`; further options (`--user`, `--ssl-reqd`, `--cacert`) follow.
///
/// # Errors
/// When the server did not take the message.
pub fn curl_submit(host: &Host, url: &str, from: &str, to: &str, message: &[u8], options: &[&str]) -> Result<String> {
    let mut argv = vec!["curl", "--silent", "--show-error", "--verbose", "--max-time", "60"];
    argv.extend_from_slice(options);
    argv.extend_from_slice(&["--url", url, "--mail-from", from, "--mail-rcpt", to]);
    argv.extend_from_slice(&["--upload-file", "-"]);
    host.run_with_input(&argv, message)
}

/// A mailbox that is read by IMAP.
#[derive(Debug, Clone)]
pub struct Imap {
    /// `imap://<host>` or `imaps://<host>`.
    pub url: String,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl Imap {
    /// How many messages the inbox holds.
    ///
    /// # Errors
    /// When the server refuses or answers something else.
    pub fn count(&self, host: &Host) -> Result<usize> {
        let answer = self.curl(host, "", &["--request", "STATUS INBOX (MESSAGES)"])?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer
            .rsplit_once("MESSAGES ")
            .and_then(|(_, rest)| rest.split(')').next()?.parse().ok())
            .with_context(|| format!("the IMAP server said {answer:?}"))
    }

    /// The octets of one message of the inbox; the first is number 1.
    ///
    /// # Errors
    /// When there is no such message.
    pub fn fetch(&self, host: &Host, number: usize) -> Result<Vec<u8>> {
        self.curl(host, &format!("/INBOX;MAILINDEX={number}"), &[])
    }

    fn curl(&self, host: &Host, path: &str, options: &[&str]) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.url);
        let login = format!("{}:{}", self.user, self.password);
        let mut argv = vec!["curl", "--silent", "--show-error", "--max-time", "60"];
        argv.extend_from_slice(options);
        argv.extend_from_slice(&["--user", &login, "--url", &url]);
        let output = host.output(&argv, b"")?;
        ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}

//! What the demo tells: the figures, and the two sides' own records as one timeline.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mail::Timestamp;
use mail::ledger::Step;
use reference::DomainFacts;
use serde::Serialize;

use super::message::Message;
use super::world::World;
use crate::admin::api::Message as Traced;
use crate::verify::StoredMessage;

/// One transfer, from submission to receipt.
#[derive(Debug, Serialize)]
pub struct Story {
    /// `reference` or `value`.
    pub transfer: &'static str,
    /// SHA-256 of the message, base64url.
    pub xuid: String,
    /// Octets of the message with CRLF line ends.
    pub object_octets: u64,
    /// Octets of the offer on the wire between the servers, both directions, MAIL to the final reply, before TLS.
    pub smtp_octets: u64,
    /// Octets of body that the receiver fetched.
    pub retrieved_octets: u64,
    /// What stands below TBR-Reference in the mailbox is what the origin signed.
    pub verified: bool,
    /// The file in the mailbox; gone with the demo's directory unless it is kept.
    pub delivered_to: PathBuf,
    /// What the origin knows of the recipient.
    pub sender_sees: String,
    /// From handing the message in to the receipt.
    pub elapsed_ms: u64,
    /// What to append to `restante verify FILE`; with `--keep` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_args: Option<Vec<String>>,
    /// The directory that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_in: Option<PathBuf>,
    #[serde(skip)]
    timeline: Vec<(&'static str, Step)>,
    #[serde(skip)]
    document: PathBuf,
}

impl Story {
    /// Puts the story together from what both servers have written down.
    pub(super) fn tell(
        world: &World,
        message: &Message,
        sent: &Traced,
        received: &Traced,
        elapsed: Duration,
    ) -> Result<Self> {
        let leg = sent.entries.first().context("a.example has no record of the message")?;
        let recipient = leg.recipients.first().context("a.example has no record of the recipient")?;
        let delivered_to = super::delivered_to(received);
        let Some(delivered_to) = delivered_to else {
            bail!("b.example did not deliver: {}", last_words(sent, received))
        };
        let document = world.origin.document.clone();
        let offered = octets(sent, "offered");
        Ok(Self {
            transfer: if offered.is_some() { "reference" } else { "value" },
            xuid: message.checked.xuid.to_string(),
            object_octets: message.checked.size,
            smtp_octets: offered.or_else(|| octets(sent, "sent")).unwrap_or_default(),
            retrieved_octets: octets(received, "retrieved").unwrap_or_default(),
            verified: verified(&delivered_to, &document, message)?,
            delivered_to,
            sender_sees: recipient.state.clone(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            verify_args: None,
            kept_in: None,
            timeline: timeline(sent, received),
            document,
        })
    }

    /// The directory stays: what to do with it.
    pub(super) fn kept_in(mut self, directory: &Path) -> Self {
        self.verify_args = Some(vec!["--document".to_owned(), self.document.display().to_string()]);
        self.kept_in = Some(directory.to_owned());
        self
    }

    /// Did the message go by reference, arrive unchanged, and does its author's server know?
    pub fn is_good(&self) -> bool {
        self.transfer == "reference" && self.verified && self.sender_sees == "delivered"
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = String::from("A message goes by reference from alice@a.example to bob@b.example.\n\n");
        let begun = self.timeline.first().map(|(_, step)| step.at).unwrap_or_default();
        for (side, step) in &self.timeline {
            let after = step.at.since(begun).as_millis();
            let untold = step.octets.filter(|octets| step.detail != format!("{octets} octets"));
            let octets = untold.map(|octets| format!(" [{octets} octets]")).unwrap_or_default();
            let _ = writeln!(text, "  {after:>6} ms  {side}  {:<12} {}{octets}", step.what, step.detail);
        }
        let compared = compared(self.object_octets, self.smtp_octets);
        let _ = write!(
            text,
            "\nThe message has {} octets; the SMTP session that offered it took {} octets both ways ({compared}),\n\
             and {} octets were fetched over HTTPS once b.example wanted it.\n\
             The copy in Bob's mailbox {} what a.example signed. Alice's server knows: {}.\n",
            self.object_octets,
            self.smtp_octets,
            self.retrieved_octets,
            if self.verified { "is, octet for octet," } else { "is NOT" },
            self.sender_sees,
        );
        if let (Some(directory), Some(args)) = (&self.kept_in, &self.verify_args) {
            let (directory, file) = (directory.display(), self.delivered_to.display());
            let _ = write!(
                text,
                "\nEverything is kept in {directory}. Check the copy yourself:\n  restante verify {file} {}\n",
                args.join(" ")
            );
        }
        text
    }
}

/// How the session's octets compare with the message's. Below a few kilobytes by value is cheaper, which is why servers
/// have a threshold; the demo has none.
fn compared(object: u64, session: u64) -> String {
    let ratio = object as f64 / session.max(1) as f64;
    if ratio >= 1.0 {
        format!("{ratio:.1} times less")
    } else {
        format!("{:.1} times more: so small a message would usually go by value", 1.0 / ratio)
    }
}

/// Octets that the first step of this name moved.
fn octets(traced: &Traced, what: &str) -> Option<u64> {
    traced.entries.iter().flat_map(|entry| &entry.steps).find(|step| step.what == what)?.octets
}

fn timeline(sent: &Traced, received: &Traced) -> Vec<(&'static str, Step)> {
    let side = |name: &'static str, traced: &Traced| {
        let steps = traced.timeline().into_iter();
        steps.map(|(_, step)| (name, step.clone())).collect::<Vec<_>>()
    };
    let mut all = side("a.example", sent);
    all.extend(side("b.example", received));
    all.sort_by_key(|(_, step)| step.at);
    all
}

/// Judges the file in the mailbox with the document that the origin publishes, and compares it with what was sent.
fn verified(path: &Path, document: &Path, message: &Message) -> Result<bool> {
    let stored = StoredMessage::open(path).with_context(|| format!("{} cannot be judged", path.display()))?;
    let (signer, selector) = stored.signer();
    let facts = DomainFacts::from_document(signer, &fs::read(document)?)?;
    let judgement = stored.judge(facts.key(selector), now());
    Ok(judgement.holds() && stored.xuid == message.checked.xuid)
}

fn now() -> Timestamp {
    crate::runtime::now()
}

/// Everything that either side wrote down, for when something went wrong.
pub(super) fn last_words(sent: &Traced, received: &Traced) -> String {
    let words =
        timeline(sent, received).into_iter().map(|(side, step)| format!("{side}: {} {}", step.what, step.detail));
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::compared;

    #[test]
    fn more_is_not_called_less() {
        assert_eq!(compared(10_000, 1_000), "10.0 times less");
        assert!(compared(200, 1_000).starts_with("5.0 times more"));
    }
}

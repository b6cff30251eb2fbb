//! The admin API: HTTP/1.1 with JSON over a UNIX socket. Paths and bodies, shared by the server and the command line.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `GET /queue?finished=true&limit=…` | [`QueueList`] |
//! | `GET /queue/{id}` | [`Message`] |
//! | `POST /queue/{id}/{retry,hold,release,fail,withdraw}?leg=…` | [`Done`] |
//! | `GET /trace/{id}` | [`Message`]; `id` also a reference id |
//! | `POST /messages`, header [`ENVELOPE`], the message as body | [`Accepted`] |
//! | `POST /fetch?custodian=…` | list of [`Fetched`] |
//! | `POST /link/up` | [`LinkUp`] |
//! | `GET /under-way` | [`UnderWay`] |
//! | `GET /bundle?site=…&custodian=…&limit=…&after=…` | a bundle; header [`BUNDLE_SUMMARY`]: [`Exported`] |
//! | `POST /bundle`, a bundle as body | [`Imported`] |
//! | `POST /reload` | [`Reloaded`] |
//! | `GET /accounts` | list of [`AccountUse`] |
//! | `POST /accounts/recall`, [`RecallRequest`] | [`Recalled`]: one page of the queue |
//! | `POST /reports/send` | [`ReportsSent`] |
//! | `GET /reputation?domain=…` | list of [`DomainStanding`] |
//! | `POST /reputation/{good,bad}/{domain}` | [`DomainStanding`] |
//! | `POST /store/check?repair=true` | lines of [`CheckLine`] |
//! | `GET /store/objects/{id}` | the octets of an object that is still here; header [`OBJECT_XUID`] |
//!
//! Whatever is not a 2xx carries a [`Problem`]. Times are milliseconds since the Unix epoch. Grants are never shown.

use std::net::SocketAddr;

use mail::ledger::{Inbound, IndexState, Key, Leg, LegRecipient, Phase, RecipientState, Row, RowBody, Step};
use mail::{Address, Domain, Envelope, InstanceId, QueueId, ReferenceId, Timestamp, Xuid, base64url};
use policy::allowance::Figures;
use policy::reputation::Standing;
use serde::{Deserialize, Serialize};

pub use crate::bundle::{Exported, Imported};
pub use crate::custodians::Fetched;
use crate::reports::Sent;

/// `GET`: [`Status`].
pub const STATUS: &str = "/status";
/// `GET`: [`QueueList`]; below it messages and commands.
pub const QUEUE: &str = "/queue";
/// `GET` below it: [`Message`].
pub const TRACE: &str = "/trace";
/// `POST`: [`Accepted`].
pub const MESSAGES: &str = "/messages";
/// `POST`: [`Reloaded`].
pub const RELOAD: &str = "/reload";
/// `GET`: list of [`AccountUse`].
pub const ACCOUNTS: &str = "/accounts";
/// `POST`: [`Recalled`].
pub const RECALL: &str = "/accounts/recall";
/// `POST`: [`ReportsSent`].
pub const REPORTS_SEND: &str = "/reports/send";
/// `POST`: list of [`Fetched`].
pub const FETCH: &str = "/fetch";
/// `POST`: [`LinkUp`].
pub const LINK_UP: &str = "/link/up";
/// `GET`: [`UnderWay`].
pub const UNDER_WAY: &str = "/under-way";
/// `GET`: a bundle. `POST`: [`Imported`].
pub const BUNDLE: &str = "/bundle";
/// Header of a bundle: [`Exported`] as JSON in base64url.
pub const BUNDLE_SUMMARY: &str = "restante-bundle";
/// `GET`: list of [`DomainStanding`].
pub const REPUTATION: &str = "/reputation";
/// `POST`: lines of [`CheckLine`].
pub const STORE_CHECK: &str = "/store/check";
/// `GET`: [`HoldList`]. `POST` with [`HoldWish`]: [`HoldList`] of what is held now of the message.
pub const STORE_HOLDS: &str = "/store/holds";
/// `GET` below it, a queue id, the id of a reference, or an XUID: the octets of an object that is still here; header [`OBJECT_XUID`].
pub const STORE_OBJECTS: &str = "/store/objects";
/// Header of an object's octets: its XUID.
pub const OBJECT_XUID: &str = "restante-xuid";
/// Header of `POST /messages`: a [`mail::Envelope`] as JSON in base64url.
pub const ENVELOPE: &str = "restante-envelope";
/// Most messages of a list unless asked otherwise, and at all.
pub const LIST_LIMITS: (usize, usize) = (1000, 100_000);

/// Writes an envelope for [`ENVELOPE`].
///
/// # Errors
/// None in practice: an envelope always has a JSON form.
pub fn encode_envelope(envelope: &Envelope) -> Result<String, serde_json::Error> {
    Ok(base64url::encode(&serde_json::to_vec(envelope)?))
}

/// Reads it; `None` where it is not one.
pub fn decode_envelope(header: &str) -> Option<Envelope> {
    serde_json::from_slice(&base64url::decode(header).ok()?).ok()
}

/// Writes what is in a bundle for [`BUNDLE_SUMMARY`].
///
/// # Errors
/// None in practice: it always has a JSON form.
pub fn encode_summary(exported: &Exported) -> Result<String, serde_json::Error> {
    Ok(base64url::encode(&serde_json::to_vec(exported)?))
}

/// Reads it; `None` where it is not one.
pub fn decode_summary(header: &str) -> Option<Exported> {
    serde_json::from_slice(&base64url::decode(header).ok()?).ok()
}

/// What an operator can do to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Attempt now.
    Retry,
    /// Attempt nothing until released.
    Hold,
    /// Undo hold.
    Release,
    /// Give up now; the author is told.
    Fail,
    /// Recall.
    Withdraw,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Retry, Self::Hold, Self::Release, Self::Fail, Self::Withdraw];

    /// As in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Fail => "fail",
            Self::Withdraw => "withdraw",
        }
    }

    /// From the path.
    pub fn from_path(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// Anything that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One plain sentence.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Recipients that were refused, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<(Address, String)>,
}

impl Problem {
    /// Without help.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), help: None, recipients: Vec::new() }
    }
}

/// A message was taken: it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its name here.
    pub id: QueueId,
    /// Digest of it as kept.
    pub xuid: Xuid,
    /// Octets as kept, trace field included.
    pub size: u64,
    /// No server runs: it waits in the outbox for one, which may still refuse it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

/// The link is up: everything that waited for it is tried now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkUp {
    /// Messages of the outbox that were taken.
    pub taken: u64,
    /// Those that were refused: the file of each, and why.
    pub refused: Vec<String>,
    /// Messages to others, and retrievals, claims and receipts that are tried again now.
    pub retried: u64,
    /// What custodians had.
    pub fetched: Vec<Fetched>,
}

/// What needs a link: how much of it is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Messages by reference that are not here yet.
    pub to_retrieve: u64,
    /// Octets of them that are not here yet, give or take those of the last seconds.
    pub octets_to_retrieve: u64,
    /// Messages that are here, and whose claim has no answer.
    pub to_claim: u64,
    /// Messages whose outcome their origin has not recorded.
    pub to_report: u64,
    /// Connections on which custodians by value send what they have.
    #[serde(default)]
    pub arriving: u64,
    /// Messages on their way into a mailbox here.
    pub to_deliver: u64,
    /// Messages that wait for another server to take them.
    pub to_send: u64,
    /// Octets of those.
    pub octets_to_send: u64,
}

impl UnderWay {
    /// Everything has come, is in its mailbox, and has been said and sent.
    pub fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// Steps that are left.
    pub fn left(&self) -> u64 {
        self.arriving + self.to_retrieve + self.to_claim + self.to_report + self.to_deliver + self.to_send
    }
}

/// A message is to be held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldWish {
    /// Its queue id, or the id of a reference.
    pub id: String,
    /// Not to be released before; without it until it is released.
    pub until: Option<Timestamp>,
    /// Why.
    pub why: String,
}

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldList {
    /// Oldest first.
    pub holds: Vec<store::Hold>,
    /// Records of holds and their ends so far.
    pub records: u64,
    /// The digest of the newest record, which covers all before it.
    pub digest: String,
}

impl From<store::Holds> for HoldList {
    fn from(holds: store::Holds) -> Self {
        Self { holds: holds.holds, records: holds.links, digest: holds.head }
    }
}

/// The configuration was read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Fields that have changed and keep their value until the next start.
    pub restart_needed: Vec<String>,
}

/// Reports to others were made of what there was, and attempted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsSent {
    /// For each kind that is configured.
    pub kinds: Vec<KindSent>,
}

/// Reports of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindSent {
    /// `tls`.
    pub kind: String,
    /// How many.
    #[serde(flatten)]
    pub sent: Sent,
}

/// A running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Its name.
    pub hostname: Domain,
    /// Process.
    pub pid: u32,
    /// Since when.
    pub started: Timestamp,
    /// The store's name in claims and receipts.
    pub instance: InstanceId,
    /// Where it listens, ports as taken.
    pub listeners: Vec<Listening>,
    /// Messages whose content is still needed here, one for each destination.
    pub legs: u64,
    /// References accepted here, with those that are only remembered.
    pub references: u64,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `relay`, `submission`, `submissions` or `repository`.
    pub kind: String,
    /// Where.
    pub address: SocketAddr,
}

/// The queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueList {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// There are more than were asked for.
    pub more: bool,
}

/// What an operator's command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// For how many recipients it did something.
    #[serde(default)]
    pub reached: u64,
    /// Per recipient.
    pub recipients: Vec<DoneTo>,
}

/// What it did to one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneTo {
    /// Which row.
    pub key: Key,
    /// Who.
    pub address: Address,
    /// What holds now, in a plain word or sentence.
    pub text: String,
}

/// What an account has sent lately, and may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUse {
    /// Its name.
    pub name: String,
    /// What it has sent; messages under way are counted.
    pub sent: Figures,
    /// What it may send, in the same units; 0: as much as it likes.
    pub limits: Figures,
}

/// Withdraw what an account has sent and nobody has claimed, one page of the queue after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallRequest {
    /// Whose messages.
    pub account: String,
    /// Only those accepted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Key>,
}

/// What came of one page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalled {
    /// Recipients whose outcome was not known before.
    pub recipients: Vec<RecalledFrom>,
    /// Recipients whose outcome was: delivered, passed on, failed or withdrawn earlier.
    pub settled: u64,
    /// To be asked with next; nothing: that was the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Key>,
}

/// What holds for one recipient after a recall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecalledFrom {
    /// Which row.
    pub key: Key,
    /// The message's name here.
    pub id: Option<QueueId>,
    /// Who.
    pub address: Address,
    /// Did the recall come in time?
    pub holds: Holds,
    /// More about it, in a plain word or sentence.
    pub text: String,
}

/// Whether a recall came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// It never reaches its recipient.
    Withdrawn,
    /// It is being delivered right now: ask again in a moment.
    UnderWay,
    /// The receiver has claimed it.
    TooLate,
}

/// How mail of a domain has fared here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainStanding {
    /// The registrable domain.
    pub domain: String,
    /// In a word.
    pub standing: Standing,
    /// Points for it less points against it.
    pub score: i32,
}

/// A message with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its rows: one for each destination, and one for the reference by which it came.
    pub entries: Vec<Entry>,
}

impl Message {
    /// Of the rows of one message.
    pub fn of(rows: &[Row]) -> Self {
        Self { entries: rows.iter().map(Entry::of).collect() }
    }

    /// Everything that happened, in order of time, each with the number of its entry.
    pub fn timeline(&self) -> Vec<(usize, &Step)> {
        let steps =
            self.entries.iter().enumerate().flat_map(|(n, entry)| entry.steps.iter().map(move |step| (n, step)));
        let mut steps: Vec<_> = steps.collect();
        // Stable: what happened in the same millisecond stays in the order in which each row has it.
        steps.sort_by_key(|(_, step)| step.at);
        steps
    }
}

/// One row of the ledger, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// The message's name here; every entry has one.
    pub id: Option<QueueId>,
    /// Is it on its way out of the queue, or a reference that came in?
    pub kind: EntryKind,
    /// Reverse-path; `None` is the null sender.
    pub sender: Option<Address>,
    /// Where to: `c.example`, `relay:…`, `lmtp:…`, `maildir:…`; for a reference, from where: its repository's host.
    pub route: String,
    /// Recipients and where they stand.
    pub recipients: Vec<EntryRecipient>,
    /// Digest of the content, if it is still here or known.
    pub xuid: Option<Xuid>,
    /// Octets of it.
    pub size: Option<u64>,
    /// When this server took it.
    pub accepted: Timestamp,
    /// When it is given up, or the reference ends.
    pub expires: Timestamp,
    /// When something is done about it next.
    pub due: Option<Timestamp>,
    /// Attempts so far.
    pub attempts: u32,
    /// Held by an operator.
    pub held: bool,
    /// References issued for it, or the one by which it came.
    pub references: Vec<ReferenceId>,
    /// The row of the reference by which it came.
    pub came_by: Option<Key>,
    /// Nothing is left to do.
    pub finished: bool,
    /// What happened, oldest first.
    pub steps: Vec<Step>,
}

/// Kinds of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// To one destination.
    Leg,
    /// A reference accepted from another domain.
    Reference,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecipient {
    /// Who.
    pub address: Address,
    /// The address that the sender used, where an alias led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Address>,
    /// `queued`, `offered`, `claimed`, `delivered`, `relayed`, `expanded`, `failed`, `withdrawn`; for a reference also `open`, `refused`,
    /// `taken`, `gone`, `ours`.
    pub state: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Entry {
    /// Of a row.
    pub fn of(row: &Row) -> Self {
        match &row.body {
            RowBody::Leg(leg) => Self::of_leg(row, leg),
            RowBody::Inbound(inbound) => Self::of_inbound(row, inbound),
        }
    }

    fn of_leg(row: &Row, leg: &Leg) -> Self {
        Self {
            key: row.key.clone(),
            id: name(&row.key),
            kind: EntryKind::Leg,
            sender: leg.mail_from.clone(),
            route: leg.route.to_string(),
            recipients: leg.recipients.iter().map(EntryRecipient::of_leg).collect(),
            xuid: leg.object.as_ref().map(|object| object.xuid),
            size: leg.object.as_ref().map(|object| object.size),
            accepted: leg.accepted,
            expires: leg.expires,
            due: row.due,
            attempts: leg.attempts,
            held: leg.held,
            references: leg.issued.iter().map(|issued| issued.id).collect(),
            came_by: leg.inbound.clone(),
            finished: leg.recipients.iter().all(|r| matches!(r.state, RecipientState::Done { .. })),
            steps: leg.steps.clone(),
        }
    }

    fn of_inbound(row: &Row, inbound: &Inbound) -> Self {
        Self {
            key: row.key.clone(),
            id: Some(inbound.queue_id.clone()),
            kind: EntryKind::Reference,
            sender: inbound.mail_from.clone(),
            route: inbound.host.to_string(),
            recipients: inbound.recipients.iter().map(EntryRecipient::of_inbound).collect(),
            xuid: Some(inbound.xuid),
            size: Some(inbound.size),
            accepted: inbound.accepted,
            expires: inbound.expires,
            due: row.due,
            attempts: inbound.attempts,
            held: false,
            references: vec![inbound.i],
            came_by: None,
            finished: inbound.phase == Phase::Closed,
            steps: inbound.steps.clone(),
        }
    }
}

/// The queue id in the key of a leg. Its rows have no other keys.
pub(crate) fn name(key: &Key) -> Option<QueueId> {
    match key {
        Key::Leg(id, _) => Some(id.clone()),
        Key::Inbound(..) => None,
    }
}

impl EntryRecipient {
    pub(super) fn of_leg(recipient: &LegRecipient) -> Self {
        let (state, detail) = match &recipient.state {
            RecipientState::Queued => ("queued".to_owned(), String::new()),
            RecipientState::Offered(offered) => {
                let known = if !offered.delegations.is_empty() {
                    "passed on by reference, not claimed yet"
                } else if offered.accepted.is_some() {
                    "accepted by the peer, not claimed yet"
                } else {
                    "not answered yet"
                };
                ("offered".to_owned(), known.to_owned())
            }
            RecipientState::Claimed(claim) => ("claimed".to_owned(), format!("by store {}", claim.instance)),
            RecipientState::Done { outcome, .. } if outcome.withdrawn => ("withdrawn".to_owned(), String::new()),
            RecipientState::Done { outcome, .. } => {
                (outcome.action.to_string(), format!("{} {}", outcome.status, outcome.text))
            }
        };
        let address = recipient.recipient.address.clone();
        Self { address, original: recipient.original.clone(), state, detail }
    }

    fn of_inbound(recipient: &mail::ledger::InboundRecipient) -> Self {
        let (state, detail) = match &recipient.state {
            IndexState::Refused => ("refused".to_owned(), String::new()),
            IndexState::Open => ("open".to_owned(), String::new()),
            IndexState::Taken => ("taken".to_owned(), "by another store of this domain".to_owned()),
            IndexState::Gone => ("gone".to_owned(), "withdrawn, expired or sent by value".to_owned()),
            IndexState::Delegated { failed: None } => (
                "delegated".to_owned(),
                "passed on by reference; the origin has custody until it is claimed".to_owned(),
            ),
            IndexState::Delegated { failed: Some(outcome) } => {
                let text = format!("{} {}; the origin has not been told yet", outcome.status, outcome.text);
                (outcome.action.to_string(), text)
            }
            IndexState::Mine { acted: false } => ("ours".to_owned(), String::new()),
            IndexState::Mine { acted: true } => ("ours".to_owned(), "taken without an answer".to_owned()),
            IndexState::Final { outcome, acknowledged, .. } => {
                let heard = if *acknowledged { "" } else { "; the origin has not been told yet" };
                (outcome.action.to_string(), format!("{} {}{heard}", outcome.status, outcome.text))
            }
        };
        Self { address: recipient.recipient.address.clone(), original: None, state, detail }
    }
}

/// A line of the answer to `POST /store/check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckLine {
    /// How far it has come.
    Progress {
        /// Rows looked at.
        rows: u64,
        /// Rows there were at the beginning.
        of_rows: u64,
        /// Octets hashed.
        octets: u64,
    },
    /// The last line: what was found.
    Report(StoreReport),
    /// The last line: checking itself failed.
    Failed(String),
}

/// What a check of the store found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Nothing is wrong, or nothing any more.
    pub clean: bool,
    /// Rows looked at.
    pub rows: u64,
    /// Objects whose digest was computed.
    pub objects: u64,
    /// Their octets.
    pub octets: u64,
    /// What is wrong.
    pub faults: Vec<StoreFault>,
    /// Faults beyond those.
    pub more_faults: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFault {
    /// What kind of thing.
    pub kind: String,
    /// The key of the row or object.
    pub subject: String,
    /// In plain words.
    pub detail: String,
    /// Was it put right?
    pub repaired: bool,
    /// Was it set aside in `damaged/`? What the row needs is lost, unless it is restored from elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_aside: bool,
}

impl From<store::CheckReport> for StoreReport {
    fn from(report: store::CheckReport) -> Self {
        Self {
            clean: report.is_clean(),
            rows: report.rows,
            objects: report.objects,
            octets: report.octets,
            faults: report.faults.into_iter().map(StoreFault::from).collect(),
            more_faults: report.more_faults,
        }
    }
}

impl From<store::Fault> for StoreFault {
    fn from(fault: store::Fault) -> Self {
        use store::{Done, FaultKind};
        let kind = match fault.kind {
            FaultKind::DamagedObject => "damaged object",
            FaultKind::MissingObject => "missing object",
            FaultKind::OrphanObject => "orphan object",
            FaultKind::DamagedRow => "damaged row",
            FaultKind::WrongIndex => "wrong index",
            FaultKind::Hold => "hold",
            FaultKind::Database => "database",
        };
        let (repaired, set_aside) = (fault.done == Done::Repaired, fault.done == Done::SetAside);
        Self { kind: kind.to_owned(), subject: fault.subject, detail: fault.detail, repaired, set_aside }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use mail::ledger::{Action, ContentFacts, Outcome, Route, Source};
    use mail::{EnhancedStatus, MailParams, Recipient};

    use super::*;

    /// A finished one, accepted so many seconds after the beginning.
    pub(in crate::admin) fn leg(name: &str, after: u64) -> Row {
        let address: Address = "bob@b.example".parse().unwrap();
        let at = Timestamp::from_secs(1_800_000_000 + after);
        let outcome = Outcome {
            action: Action::Delivered,
            status: EnhancedStatus::permanent(1, 1),
            text: "x".into(),
            at,
            reported: false,
            withdrawn: false,
        };
        let state = RecipientState::Done { outcome, claim: None };
        let recipient =
            LegRecipient { recipient: Recipient::plain(address.clone()), original: None, inbound_index: None, state };
        let mut steps = Vec::new();
        mail::ledger::note(&mut steps, at, "accepted", "", Some(3));
        Row {
            key: Key::Leg(name.parse().unwrap(), 0),
            version: 0,
            due: None,
            body: RowBody::Leg(Box::new(Leg {
                route: Route::Mx("b.example".parse().unwrap()),
                mail_from: None,
                params: MailParams::default(),
                recipients: vec![recipient],
                object: None,
                facts: ContentFacts { is_object: true, eight_bit: false, tls_optional: false, received_fields: 0 },
                prefix: String::new(),
                issued: Vec::new(),
                inbound: None,
                source: Source::Local,
                accepted: at,
                expires: at,
                attempts: 1,
                next_attempt: at,
                by_value: false,
                refused_since: None,
                held: false,
                delegated: false,
                carried: None,
                delay_reported: false,
                steps,
            })),
        }
    }

    #[test]
    fn a_message_survives_its_json() {
        let message = Message::of(&[leg("abc", 0)]);
        let json = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
        assert_eq!(message.entries[0].id.as_ref().unwrap().as_str(), "abc");
        assert!(message.entries[0].finished);
        assert_eq!(message.timeline().len(), 1);
    }

    #[test]
    fn an_envelope_survives_its_header() {
        let recipients = vec![Recipient::plain("j\u{fc}rgen@b.example".parse().unwrap())];
        let envelope = Envelope { mail_from: None, params: MailParams::default(), recipients };
        let header = encode_envelope(&envelope).unwrap();
        assert!(header.is_ascii());
        assert_eq!(decode_envelope(&header), Some(envelope));
        assert_eq!(decode_envelope("x"), None);
    }

    #[test]
    fn verbs_are_their_paths() {
        for verb in Verb::ALL {
            assert_eq!(Verb::from_path(verb.as_str()), Some(verb));
        }
        assert_eq!(Verb::from_path("drop"), None);
    }
}

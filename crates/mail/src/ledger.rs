//! The rows of the ledger: everything that must survive a crash, as data.
//!
//! Two kinds of row. A [`Leg`] is one message on its way to one destination: the unit of scheduling and,
//! at the origin, of custody: every index of every reference issued for it has its one state here, for which
//! claims, withdrawal, expiry and fall back contend. An [`Inbound`] is one reference accepted from elsewhere.
//!
//! Changing rows is left to the `queue` crate (pure functions), keeping them to the `store` crate
//! (compare-and-set on [`Row::version`]). An object lives as long as some row names it in [`Row::object`]:
//! there is no second count that could disagree.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::assurance::Assurance;
use crate::domain::Domain;
use crate::envelope::{MailParams, Recipient};
use crate::holder::Holder;
use crate::id::{Grant, InstanceId, QueueId, ReferenceId, Xuid};
use crate::status::EnhancedStatus;
use crate::time::Timestamp;

/// Most recipients in one leg: longer lists make several legs (RFC 5321 §4.5.3.1.8 guarantees 100).
pub const MAX_LEG_RECIPIENTS: usize = 100;

/// Most steps a row remembers of its life; the oldest after the first are dropped.
pub const MAX_STEPS: usize = 64;

/// The primary key of a row.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Key {
    /// `leg/<queue id>/<number>`
    Leg(QueueId, u32),
    /// `in/<reference id>/<signing domain>`
    Inbound(ReferenceId, Domain),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leg(queue_id, number) => write!(f, "leg/{queue_id}/{number}"),
            Self::Inbound(id, domain) => write!(f, "in/{id}/{domain}"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no key of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a ledger row")]
pub struct NotKey;

impl FromStr for Key {
    type Err = NotKey;
    fn from_str(text: &str) -> Result<Self, NotKey> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().ok_or(NotKey);
        match (next()?, next()?, next()?) {
            ("leg", id, number) => Ok(Self::Leg(id.parse().map_err(|_| NotKey)?, number.parse().map_err(|_| NotKey)?)),
            ("in", id, domain) => {
                Ok(Self::Inbound(id.parse().map_err(|_| NotKey)?, domain.parse().map_err(|_| NotKey)?))
            }
            _ => Err(NotKey),
        }
    }
}

impl TryFrom<String> for Key {
    type Error = NotKey;
    fn try_from(text: String) -> Result<Self, NotKey> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

/// One row with what the store needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its primary key.
    pub key: Key,
    /// 0 for a row that is not in the ledger yet; each commit of the row counts one up.
    pub version: u64,
    /// When the queue wants to look at it next; `None`: only when something happens to it.
    pub due: Option<Timestamp>,
    /// Its content.
    pub body: RowBody,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowBody {
    /// See [`Leg`].
    Leg(Box<Leg>),
    /// See [`Inbound`].
    Inbound(Box<Inbound>),
}

impl RowBody {
    /// Gives back the memory that its lists have reserved and do not need: thousands of rows may be in hand.
    pub fn shrink(&mut self) {
        match self {
            Self::Leg(leg) => {
                leg.recipients.shrink_to_fit();
                leg.issued.shrink_to_fit();
                leg.steps.shrink_to_fit();
            }
            Self::Inbound(inbound) => {
                inbound.recipients.shrink_to_fit();
                inbound.steps.shrink_to_fit();
            }
        }
    }
}

impl Row {
    /// The object that this row keeps alive.
    pub fn object(&self) -> Option<&ObjectRef> {
        match &self.body {
            RowBody::Leg(leg) => leg.object.as_ref(),
            RowBody::Inbound(inbound) => inbound.object.as_ref(),
        }
    }

    /// On whose account the object of this row is, if it is the first to name it.
    pub fn owner(&self) -> Owner {
        match &self.body {
            RowBody::Leg(leg) => {
                let account = match &leg.source {
                    Source::Submission(account) => Some(account.clone()),
                    _ => None,
                };
                let is_ours = matches!(leg.source, Source::Submission(_) | Source::Local);
                Owner { account, domain: leg.mail_from.as_ref().filter(|_| is_ours).and_then(Address::domain) }
            }
            RowBody::Inbound(inbound) => Owner { account: None, domain: Some(inbound.to.clone()) },
        }
    }

    /// Secondary keys, not unique: `ref/<id>` and `grant/<fingerprint>` of issued references, `pending/<site>` of a
    /// leg that a site may ask for, `odmr/<domain>` of one that an account may ask for, `held/<signing domain>/<xuid>` of a retrieved object, `id/<queue id>` of an inbound
    /// reference.
    pub fn alternates(&self) -> Vec<String> {
        match &self.body {
            // What was delegated is claimed at the origin, never here.
            RowBody::Leg(leg) if leg.delegated => Vec::new(),
            RowBody::Leg(leg) => {
                let issued = leg.issued.iter().flat_map(|i| [by_reference(&i.id), by_grant(&i.grant)]);
                let waits = leg.waits_for().map(by_pending).into_iter().chain(leg.waits_on_demand().map(by_on_demand));
                issued.chain(waits).collect()
            }
            RowBody::Inbound(inbound) => {
                let id = format!("id/{}", inbound.queue_id);
                let held = inbound.object.as_ref().map(|_| by_held_object(&inbound.d, &inbound.xuid));
                std::iter::once(id).chain(held).collect()
            }
        }
    }
}

/// Secondary key of the leg that issued this reference.
pub fn by_reference(id: &ReferenceId) -> String {
    format!("ref/{id}")
}

/// Secondary key of the leg that issued this grant. The grant itself is never an index.
pub fn by_grant(grant: &Grant) -> String {
    format!("grant/{}", grant.fingerprint())
}

/// Secondary key of the legs that wait for this site.
pub fn by_pending(site: &Holder) -> String {
    format!("pending/{site}")
}

/// Secondary key of the legs that wait for this domain's account.
pub fn by_on_demand(domain: &Domain) -> String {
    format!("odmr/{domain}")
}

/// Secondary key of inbound rows that hold this object, retrieved from this origin.
pub fn by_held_object(origin: impl fmt::Display, xuid: &Xuid) -> String {
    format!("held/{origin}/{xuid}")
}

/// On whose account octets in the store are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The account that has submitted them.
    pub account: Option<String>,
    /// The domain here whose user has sent them, or that they came for by reference.
    pub domain: Option<Domain>,
}

/// An object in the store: its name and size, and where the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The store's own key; says nothing about the content.
    pub key: ObjectKey,
    /// SHA-256 of the octets.
    pub xuid: Xuid,
    /// Their number.
    pub size: u64,
    /// Set where the store keeps it under a content coding: what the coded octets are. Rows from before there were
    /// codings have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coded: Option<Coded>,
}

impl ObjectRef {
    /// Octets that it takes in the store.
    pub fn stored_size(&self) -> u64 {
        self.coded.map_or(self.size, |coded| coded.size)
    }
}

/// The octets of an object under a content coding (RFC 9110 §8.4.1), as they are kept and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Coded {
    /// Which coding.
    pub coding: Coding,
    /// SHA-256 of the coded octets: their `Repr-Digest` (RFC 9530) and strong ETag.
    pub digest: Xuid,
    /// Their number.
    pub size: u64,
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// Zstandard (RFC 8878), windows of at most 8 MiB (TBR §6.1).
    Zstd,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
        }
    }
}

/// A representation of an object (RFC 9110 §3.2): what the octets received are part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Representation {
    /// Its content coding, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coding: Option<Coding>,
    /// Its strong ETag, as sent; without one it cannot be told from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// All its octets, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A store's key of an object: 1 to 64 characters of `[0-9a-z-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey(pub String);

/// One message on its way to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Where to.
    pub route: Route,
    /// Reverse-path of this leg; `None` is the null sender.
    pub mail_from: Option<Address>,
    /// MAIL parameters that travel onward.
    pub params: MailParams,
    /// At most [`MAX_LEG_RECIPIENTS`].
    pub recipients: Vec<LegRecipient>,
    /// The content; `None` once nobody can need it any more.
    pub object: Option<ObjectRef>,
    /// What was found while the content streamed in.
    pub facts: ContentFacts,
    /// Fields that stand above the content wherever it goes by value or into a mailbox: trace fields and, for
    /// a message that came by reference, TBR-Reference as its last field. Return-Path is added at delivery.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// References issued for recipients of this leg, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issued: Vec<Issued>,
    /// The row of the reference by which the message came, if it did: outcomes become receipts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Key>,
    /// It offers on what this server has delegated at the origin (TBR §7.3): custody and content are there, not here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub delegated: bool,
    /// Who handed the message in.
    pub source: Source,
    /// When this server accepted the message.
    pub accepted: Timestamp,
    /// When it gives up.
    pub expires: Timestamp,
    /// Delivery attempts so far.
    #[serde(default)]
    pub attempts: u32,
    /// No attempt before this.
    #[serde(default)]
    pub next_attempt: Timestamp,
    /// By value from now on: the peer cannot or will not take references for this leg.
    #[serde(default)]
    pub by_value: bool,
    /// When TBR-specific refusals or silence began, for the fall backs of TBR §8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<Timestamp>,
    /// Held by an operator: nothing is attempted until released.
    #[serde(default)]
    pub held: bool,
    /// It has left in a bundle, at this time: nothing is attempted until the custodian says that it has it (TBR §7.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Timestamp>,
    /// The author has been told of the delay.
    #[serde(default)]
    pub delay_reported: bool,
    /// What happened, oldest first.
    #[serde(default)]
    pub steps: Vec<Step>,
}

impl Leg {
    /// The site that may ask for it now: a reference is out that nobody has claimed.
    pub fn waits_for(&self) -> Option<&Holder> {
        let Route::Site(site) = &self.route else { return None };
        let is_out = |state: &RecipientState| matches!(state, RecipientState::Offered(offered) if !offered.closed);
        self.recipients.iter().any(|recipient| is_out(&recipient.state)).then_some(site)
    }

    /// The domain whose account may ask for it now.
    pub fn waits_on_demand(&self) -> Option<&Domain> {
        let Route::OnDemand(domain) = &self.route else { return None };
        self.recipients.iter().any(|recipient| recipient.state == RecipientState::Queued).then_some(domain)
    }
}

/// Where a leg goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// The mail exchangers of a domain; by reference where they speak TBR.
    Mx(Domain),
    /// A domain that is connected some of the time, or one user of a domain: kept until it asks for what is pending (TBR §7.4).
    Site(Holder),
    /// A domain whose account asks for what waits by ATRN, and gets it on the connection that it has opened (RFC 2645).
    OnDemand(Domain),
    /// A configured next hop or smart host, by name in the configuration.
    Relay(String),
    /// A configured LMTP server, by name in the configuration.
    Lmtp(String),
    /// A Maildir: the path under the configured root that belongs to one account.
    Maildir(String),
    /// Counted and thrown away: for measuring.
    Discard,
    /// Read by this server: a report about mail.
    Reports,
}

impl Route {
    /// Does what goes there wait until it is asked for, however long that takes?
    pub fn is_asked_for(&self) -> bool {
        matches!(self, Self::Site(_) | Self::OnDemand(_))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(domain) => write!(f, "{domain}"),
            Self::Site(domain) => write!(f, "site:{domain}"),
            Self::OnDemand(domain) => write!(f, "odmr:{domain}"),
            Self::Relay(name) => write!(f, "relay:{name}"),
            Self::Lmtp(name) => write!(f, "lmtp:{name}"),
            Self::Maildir(account) => write!(f, "maildir:{account}"),
            Self::Discard => f.write_str("discard"),
            Self::Reports => f.write_str("reports"),
        }
    }
}

/// What the content is, found while it streamed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentFacts {
    /// It is an object (TBR §2): only then can it go by reference.
    pub is_object: bool,
    /// It has octets over 127 (needs 8BITMIME).
    pub eight_bit: bool,
    /// Its author does not mind if it goes without TLS (`TLS-Required: No`, RFC 8689 §5).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls_optional: bool,
    /// Received fields in its header: with the hops of a reference, how many servers it has passed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub received_fields: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Who handed a message in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An authenticated submitter, by account.
    Submission(String),
    /// A local user through the admin socket (`restante send`).
    Local,
    /// Another server, by value.
    Relay,
    /// Another server, by reference.
    Reference,
    /// This server itself: a report.
    Report,
    /// This server itself: a report on a domain's TLS, which goes whatever that TLS is like (RFC 8460 §5.3).
    TlsReport,
    /// This server itself: a report on mail in another domain's name (RFC 7489).
    DmarcReport,
}

/// A recipient of a leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegRecipient {
    /// Address and parameters as they go onward.
    pub recipient: Recipient,
    /// The address that the sender used, where an alias led elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Address>,
    /// Index in the inbound reference, for the receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_index: Option<u16>,
    /// Where it stands.
    pub state: RecipientState,
}

/// Where a recipient of a leg stands. This is the record that claims contend for: only
/// [`RecipientState::Offered`] may become [`RecipientState::Claimed`], and only for the same reference and index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientState {
    /// Custody is here; nothing that the peer could claim is out.
    Queued,
    /// Custody is here; a reference is out or may be out, whose index can be claimed.
    Offered(Offered),
    /// Custody is with the claimant.
    Claimed(Claim),
    /// The final outcome is known. After `relayed` a late `failed` may still come.
    Done {
        /// What became of it.
        outcome: Outcome,
        /// Who had claimed it, where it went by reference.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claim: Option<Claim>,
    },
}

/// An index of an issued reference that nobody has claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The reference.
    pub reference: ReferenceId,
    /// The recipient's position in the offer's list.
    pub index: u16,
    /// When the peer answered 250 to the offer; `None` while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Timestamp>,
    /// Won back for sending by value (TBR §8): a claim is answered `gone` from now on. Only the question
    /// whether the peer holds custody after all is still to be put, by offering once more.
    #[serde(default)]
    pub closed: bool,
    /// Relays that passed it on by reference, the first one first (TBR §7.3): claimed by the next domain of the last of
    /// them, or by one of them, which revokes what stands above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegations: Vec<Delegation>,
}

/// An offered index that a relay has passed on by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Tag `i` of the relay's hop.
    pub hop: ReferenceId,
    /// The recipient's position in the hop's list.
    pub index: u16,
    /// The store that delegated.
    pub by: InstanceId,
}

/// Who claimed an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The reference.
    pub reference: ReferenceId,
    /// The recipient's position in the offer's list.
    pub index: u16,
    /// The claiming store.
    pub instance: InstanceId,
    /// When the claim was recorded.
    pub at: Timestamp,
    /// The author has been told who holds the message, because no receipt came (TBR §6).
    #[serde(default)]
    pub told: bool,
}

/// A reference that this origin has signed. The grant is in it: ledger files are secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Tag `i`.
    pub id: ReferenceId,
    /// Tag `d`.
    pub signer: Domain,
    /// Tag `to`.
    pub to: Domain,
    /// The secret of its URI.
    pub grant: Grant,
    /// The offer's URI.
    pub uri: String,
    /// The offer's block, exact octets: re-offers are identical.
    pub block: String,
    /// Position in the leg of each recipient, in the order of the offer.
    pub positions: Vec<u16>,
    /// Tag `t`.
    pub issued: Timestamp,
    /// Tag `e`.
    pub expires: Timestamp,
    /// Set where the grant is bound to the recipient domain: every request with it must be signed by a key of that
    /// domain (TBR §6.2). Fixed when the reference was issued; how surely it was known then that the domain has keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Assurance>,
    /// Indexes whose custody a store took without an answer (TBR §6), and which store: its receipts count too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acted: Vec<(u16, InstanceId)>,
    /// Set where it is a relay's hop by reference, recorded at its wish: it was offered there, and is claimed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated: Option<DelegatedFrom>,
}

/// What a hop by reference stands on at the origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedFrom {
    /// The field below it, by its tag `i`.
    pub below: ReferenceId,
    /// The store that delegated.
    pub by: InstanceId,
    /// Index below of each of its own indexes.
    pub map: Vec<u16>,
}

/// What became of a recipient: RFC 3464 §2.3.3 in the vocabulary of receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The action.
    pub action: Action,
    /// The enhanced status.
    pub status: EnhancedStatus,
    /// One plain sentence, or the peer's reply; printable, at most 500 characters.
    pub text: String,
    /// When.
    pub at: Timestamp,
    /// The holder of custody has told the author of this failure itself, because the origin did not listen (TBR §6.7).
    #[serde(default)]
    pub reported: bool,
    /// Recalled before anybody had it: that was no failure, and the status is nobody's word. Rows from before this was written down
    /// have it as any failure.
    #[serde(default, skip_serializing_if = "is_false")]
    pub withdrawn: bool,
}

/// RFC 3464 §2.3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// In the mailbox.
    Delivered,
    /// Handed to a server that sends no receipts.
    Relayed,
    /// Handed to several recipients.
    Expanded,
    /// Not delivered, and never will be.
    Failed,
    /// Not yet; ends nothing.
    Delayed,
}

impl Action {
    /// Does it end the origin's duty to keep the object (TBR §6)?
    pub fn is_final(self) -> bool {
        self != Self::Delayed
    }

    /// Its word in receipts and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Failed => "failed",
            Self::Delayed => "delayed",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One reference accepted from another domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// This server's name for the message.
    pub queue_id: QueueId,
    /// Tag `d` of the topmost signed field.
    pub d: Domain,
    /// Tag `i`.
    pub i: ReferenceId,
    /// Tag `to`: which of our domains.
    pub to: Domain,
    /// The idempotence key (TBR §4): the same `d` and `i` with another key is refused.
    pub fingerprint: String,
    /// The offer's URI, with its grant.
    pub uri: String,
    /// The grant of it.
    pub grant: Grant,
    /// Repository host of the URI.
    pub host: Domain,
    /// The offer's block, exact octets: goes above the object in the mailbox.
    pub block: String,
    /// Tag `o`.
    pub xuid: Xuid,
    /// Tag `l`.
    pub size: u64,
    /// Tag `e`.
    pub expires: Timestamp,
    /// The verified sender.
    pub mail_from: Option<Address>,
    /// MAIL parameters.
    pub params: MailParams,
    /// Every RCPT of the transaction in order; the position is the index.
    pub recipients: Vec<InboundRecipient>,
    /// Trace fields to stand above the block: Received, Authentication-Results.
    pub trace: String,
    /// An ARC set to stand above those where an alias leads to other servers by value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seal: String,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Who offered it, where that counts: nothing for clients that may relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// No retrieval before this: the domain is a stranger (TBR §6.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Where it stands as a whole.
    pub phase: Phase,
    /// Hops by reference that are to be delegated at the origin, or about to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<UnsentHop>,
    /// The verified octets, once they are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// What was found in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ContentFacts>,
    /// They came in a bundle (TBR §7.5): the answer to the claim may take as long as the way there and back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub carried: bool,
    /// What is known of the session, for judging the content once it is here: nothing is claimed before that. The queue
    /// does not read it. Nothing: there is nothing to judge, or it has been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Set when the content was refused after retrieval: the claim carries this outcome, nothing is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Outcome>,
    /// Legs made of it so far; the next one gets this number.
    #[serde(default)]
    pub legs: u32,
    /// Failed tries of the current phase.
    #[serde(default)]
    pub attempts: u32,
    /// No try of the current phase before this.
    #[serde(default)]
    pub next_attempt: Timestamp,
    /// When receipts began to find no hearing, for the report by DSN after 24 h (TBR §6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard_since: Option<Timestamp>,
    /// What happened, oldest first.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// A hop by reference that the origin has not answered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsentHop {
    /// Where the recipients go.
    pub route: Route,
    /// The hop, as it will be offered.
    pub issued: Issued,
    /// Index of the inbound reference of each of its own indexes.
    pub map: Vec<u16>,
}

/// Where an inbound reference stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Some of its recipients are to be delegated at the origin; whatever is not will be retrieved.
    Delegating,
    /// The object is to be retrieved.
    Waiting,
    /// The object is here and verified, no claim has been sent.
    Held,
    /// A claim has been or is about to be sent.
    Claiming {
        /// When the first one was: recorded before it was sent.
        first_sent: Timestamp,
    },
    /// Every index has its answer; deliveries and receipts are under way.
    Working,
    /// Nothing left to do; remembered until `e` + 300 s for re-offers and replays.
    Closed,
}

/// A recipient of an inbound reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundRecipient {
    /// Address and parameters as offered.
    pub recipient: Recipient,
    /// Where it goes; empty for one that was refused at RCPT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// What became of its targets so far: the index is final when all of them are. A `delayed` among them is still
    /// to be told to the origin, once, if it listens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Outcome>,
    /// Where it stands.
    pub state: IndexState,
}

/// One destination of a recipient after aliases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Where to.
    pub route: Route,
    /// The address that the destination sees.
    pub address: Address,
}

/// Where an index of an inbound reference stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexState {
    /// Refused at RCPT: not ours.
    Refused,
    /// Ours to claim.
    Open,
    /// Another store has it.
    Taken,
    /// Withdrawn, expired or sent by value.
    Gone,
    /// Passed on by reference: custody is with the origin, until it is claimed elsewhere.
    Delegated {
        /// It could not be passed on after all, and the origin is still to be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<Outcome>,
    },
    /// Custody is here.
    Mine {
        /// Taken without an answer, after an hour of silence (TBR §6): `acted` is still to be acknowledged.
        acted: bool,
    },
    /// The outcome is known.
    Final {
        /// What became of it.
        outcome: Outcome,
        /// The origin has recorded it.
        acknowledged: bool,
        /// Custody was taken without an answer and `acted` is not acknowledged yet.
        #[serde(default)]
        acted: bool,
    },
}

/// One thing that happened to a message, for `restante trace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What, in one word of TBR's terms: `accepted`, `offered`, `retrieved`, `claimed`, `delivered`, `receipt`, …
    pub what: String,
    /// One plain sentence with the details.
    pub detail: String,
    /// Octets moved by it, where that means something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub octets: Option<u64>,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Adds a step, keeping the first and the newest [`MAX_STEPS`].
pub fn note(steps: &mut Vec<Step>, at: Timestamp, what: &str, detail: impl Into<String>, octets: Option<u64>) {
    if steps.len() >= MAX_STEPS {
        steps.remove(1);
    }
    steps.push(Step { at, what: what.to_owned(), detail: detail.into(), octets });
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Objects that must be durable, file and directory, before the rows are: those written since.
    pub objects: Vec<ObjectRef>,
    /// Rows to write. Each carries the version it was read at (0: must not exist); any other version
    /// in the ledger refuses the whole batch. The stored version is one higher.
    pub put: Vec<Row>,
    /// Rows to remove, with the version that they were read at.
    pub delete: Vec<(Key, u64)>,
    /// Objects that are to be kept whatever becomes of their rows. Before or within this batch a row must name each.
    pub holds: Vec<HoldOrder>,
}

/// An object is to be kept until a date, or until somebody releases it: a legal hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldOrder {
    /// The object.
    pub object: ObjectRef,
    /// The message whose it is.
    pub id: QueueId,
    /// It cannot be released before, and is not needed after; `None`: until it is released.
    pub until: Option<Timestamp>,
    /// Why, for whoever reads the list.
    pub why: String,
    /// When it was ordered.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_text() {
        let id = ReferenceId([7; 16]);
        for key in [Key::Leg("abc".parse().unwrap(), 3), Key::Inbound(id, Domain::parse("a.example").unwrap())] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for bad in ["", "leg/", "leg/a", "leg/a/x", "in/x/a.example", "other/a/1"] {
            assert_eq!(bad.parse::<Key>(), Err(NotKey), "{bad:?}");
        }
    }

    #[test]
    fn an_object_of_an_older_row_has_no_coding() {
        let xuid = Xuid::of(b"x");
        let old = format!(r#"{{"key":"f-1","xuid":"{}","size":1}}"#, String::from(xuid));
        let object: ObjectRef = serde_json::from_str(&old).unwrap();
        assert_eq!((object.coded, object.stored_size()), (None, 1));
        assert_eq!(serde_json::to_string(&object).unwrap(), old, "and is written as it was");
        let coded = Coded { coding: Coding::Zstd, digest: Xuid::of(b"z"), size: 9 };
        let object = ObjectRef { coded: Some(coded), ..object };
        let text = serde_json::to_string(&object).unwrap();
        assert!(text.contains(r#""coded":{"coding":"zstd","digest":"#), "{text}");
        assert_eq!(serde_json::from_str::<ObjectRef>(&text).unwrap(), object);
    }

    #[test]
    fn offers_of_older_rows_are_delegated_to_nobody() {
        let old =
            format!("{{\"offered\":{{\"reference\":\"{}\",\"index\":2,\"closed\":false}}}}", ReferenceId([7; 16]));
        let state: RecipientState = serde_json::from_str(&old).unwrap();
        assert!(matches!(&state, RecipientState::Offered(offered) if offered.delegations.is_empty()));
        assert_eq!(serde_json::to_string(&state).unwrap(), old, "and is written as it was");
        let delegated = r#"{"delegated":{}}"#;
        let state: IndexState = serde_json::from_str(delegated).unwrap();
        assert_eq!(state, IndexState::Delegated { failed: None });
        assert_eq!(serde_json::to_string(&state).unwrap(), delegated);
    }

    #[test]
    fn steps_keep_the_first_and_the_newest() {
        let mut steps = Vec::new();
        for n in 0..200 {
            note(&mut steps, Timestamp::from_secs(n), "tried", "", None);
        }
        assert_eq!((steps.len(), steps[0].at, steps[63].at), (64, Timestamp::from_secs(0), Timestamp::from_secs(199)));
    }
}

//! The border of the queue: what goes in, what comes out.
//!
//! [`Input`] carries requests of sessions and peers, answers of the ledger, events of running jobs and the
//! passing of time; [`Action`] is everything that the edge must do. The edge decides nothing: `restante` carries
//! actions out with real sockets and disks, `sim` with virtual ones.

use std::net::IpAddr;
use std::time::Duration;

use mail::ledger::{Batch, Claim, ContentFacts, Inbound, Key, Leg, ObjectRef, Outcome, Row, Source, Target};
use mail::{
    Address, Assurance, Domain, EnhancedStatus, Grant, InstanceId, MailParams, QueueId, Recipient, ReferenceId,
    Timestamp, Xuid,
};
use reference::message_signature::SignedBy;
use reference::{Hop, bundle};

use crate::letters::Taking;
use crate::remembered::Remembered;
use crate::told::Told;

/// A request of the edge, answered by exactly one [`Action::Reply`] with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A question to the ledger, answered by exactly one [`Input::Ledger`] with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A job that the edge carries out; it ends with exactly one final [`JobEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Where identifiers, grants and jitter come from: the system's generator, or a seeded one in tests.
pub trait Entropy: Send {
    /// Fills the buffer with random octets that nobody can predict.
    fn fill(&mut self, octets: &mut [u8]);
}

/// What the edge tells the queue.
#[derive(Debug)]
pub enum Input {
    /// Somebody wants something.
    Call {
        /// Number chosen by the edge, unique while it is open.
        call: CallId,
        /// What is wanted.
        request: Request,
    },
    /// The ledger answers.
    Ledger {
        /// Which question.
        token: Token,
        /// The answer.
        answer: LedgerAnswer,
    },
    /// A job has news.
    Job {
        /// Which job.
        job: JobId,
        /// The news.
        event: JobEvent,
    },
    /// Time has passed: a [`Action::Wake`] is due, or the server has just started.
    Tick,
}

/// What sessions, peers and operators want.
#[derive(Debug)]
pub enum Request {
    /// Take a message by value. Reply: `Accepted` once it is durable; `Repeated` where it may be taken only once, and was.
    Accept(Box<Acceptance>),
    /// Take a verified reference. Reply: `Offer(..)`.
    Offer(Box<Inbound>),
    /// Before a signed request: which domains must sign for these grants? Reply: `Binding(..)`. Keys of other domains
    /// need not be looked up.
    Binding {
        /// At most 1000.
        grants: Vec<Grant>,
    },
    /// A repository request: which object may this grant fetch? Reply: `Object(..)`.
    Locate {
        /// XUID of the URI.
        xuid: Xuid,
        /// RCPT of the URI.
        grant: Grant,
        /// Whose signatures of the request verify.
        signed: SignedBy,
    },
    /// Claims of one peer. Reply: `Claims(..)`, one answer list per entry.
    Claims {
        /// The claiming store.
        instance: InstanceId,
        /// At most 1000.
        claims: Vec<ClaimEntry>,
        /// Whose signatures of the request verify.
        signed: SignedBy,
    },
    /// A relay passes on by reference what it was offered (TBR §7.3). Reply: `Delegated(..)`.
    Delegate {
        /// The delegating store.
        instance: InstanceId,
        /// What it passes on, and how.
        delegation: Box<DelegationEntry>,
        /// Whose signatures of the request verify.
        signed: SignedBy,
    },
    /// Receipts of one peer. Reply: `Receipts(..)`.
    Receipts {
        /// The reporting store.
        instance: InstanceId,
        /// At most 1000.
        receipts: Vec<ReceiptEntry>,
        /// Whose signatures of the request verify.
        signed: SignedBy,
    },
    /// An object has come in a bundle, stored but not yet synced, for references that are in the ledger (TBR §7.5). Reply:
    /// `Carried(..)`; if it took none, nobody has the object.
    Carried {
        /// The references.
        keys: Vec<Key>,
        /// The object; references that name another one do not take it.
        object: ObjectRef,
        /// What was found in it.
        facts: ContentFacts,
    },
    /// A bundle says what the custodian has on disk of this store's claims and receipts. Reply: `Heard(..)`.
    Heard {
        /// At most 1000.
        entries: Vec<HeardEntry>,
    },
    /// A bundle says what the custodian has taken of the mail that left in one of ours. Reply: `Taken(..)`.
    Taken {
        /// At most 1000.
        entries: Vec<TakenEntry>,
    },
    /// A message of a site's has come, to its custodian: take it, unless it was taken before (TBR §7.4, §7.5). Reply: `Letter`.
    Letter(Box<Taking>),
    /// An operator's command. Reply: `Commanded(..)`.
    Command(Command),
    /// A repository has served octets of an object: noted for `trace`. No reply.
    Served {
        /// The grant used.
        grant: Grant,
        /// Octets of the object sent.
        octets: u64,
    },
}

/// A message that arrived by value, its content stored but not yet synced.
#[derive(Debug)]
pub struct Acceptance {
    /// Drawn by the session: it stands in the 250.
    pub queue_id: QueueId,
    /// Reverse-path.
    pub mail_from: Option<Address>,
    /// MAIL parameters.
    pub params: MailParams,
    /// Every accepted recipient with its destinations after aliases.
    pub recipients: Vec<(Recipient, Vec<Target>)>,
    /// The content.
    pub object: ObjectRef,
    /// What was found in it.
    pub facts: ContentFacts,
    /// Trace fields above it (empty where they are part of the object).
    pub prefix: String,
    /// An ARC set above those, for other servers that an alias leads to by value; may be empty.
    pub seal: String,
    /// Who handed it in.
    pub source: Source,
    /// What makes it new, to be remembered in the same commit: what is remembered already is not accepted. Nothing, where a
    /// message may come again.
    pub once: Option<Remembered>,
}

/// One entry of a claims request, its JSON already checked.
#[derive(Debug, Clone)]
pub struct ClaimEntry {
    /// The recipient domain.
    pub to: Domain,
    /// The reference.
    pub id: ReferenceId,
    /// The proof.
    pub grant: Grant,
    /// Indexes claimed.
    pub indexes: Vec<u16>,
    /// Indexes (also in `indexes`) refused after retrieval, with the outcome `failed`.
    pub failed: Vec<(u16, Outcome)>,
    /// Custody was taken without an answer.
    pub acted: bool,
}

/// A delegation, its JSON already checked, its hop signed by a key of its domain.
#[derive(Debug, Clone)]
pub struct DelegationEntry {
    /// The recipient domain of the field below: the relay's.
    pub to: Domain,
    /// The field below.
    pub id: ReferenceId,
    /// The proof.
    pub grant: Grant,
    /// The relay's hop.
    pub hop: Hop,
    /// The secret under which it will be claimed.
    pub hop_grant: Grant,
    /// Index below of each index of the hop.
    pub map: Vec<u16>,
    /// How surely the next domain is known to have keys: the grant is bound to them then.
    pub bound: Option<Assurance>,
}

/// One entry of a receipts request.
#[derive(Debug, Clone)]
pub struct ReceiptEntry {
    /// The recipient domain.
    pub to: Domain,
    /// The reference.
    pub id: ReferenceId,
    /// The proof.
    pub grant: Grant,
    /// Outcomes by index.
    pub outcomes: Vec<(u16, Outcome)>,
}

/// What a custodian has on disk of what this store told it of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardEntry {
    /// The reference.
    pub key: Key,
    /// Indexes that are recorded as claimed by this store.
    pub claimed: Vec<u16>,
    /// Outcomes that are recorded.
    pub recorded: Vec<(u16, mail::ledger::Action)>,
}

/// Mail that a custodian has taken from a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenEntry {
    /// The leg.
    pub key: Key,
    /// Recipients whom it did not take, and why.
    pub failed: Vec<(Address, EnhancedStatus, String)>,
}

/// The origin's word on one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// Custody is the claimant's.
    Granted,
    /// Another store has it.
    Taken,
    /// Withdrawn, expired, refused, delegated or sent by value.
    Gone,
}

/// Operators' commands on the queue.
#[derive(Debug, Clone)]
pub enum Command {
    /// Attempt nothing until released.
    Hold(Selection),
    /// Undo hold.
    Release(Selection),
    /// Attempt now; also what is in a bundle.
    Retry(Selection),
    /// It leaves in a bundle: attempt nothing until the custodian says that it has it. Nothing is done where an attempt is
    /// under way, or a reference is out.
    Carry(Selection),
    /// Attempt now: who is to get it has asked for it (ETRN, RFC 1985; ATRN, RFC 2645).
    AskedFor(Selection),
    /// Give up now; the author is told.
    Fail(Selection),
    /// Recall: whatever is not claimed or delivered yet never will be. No report is written, the operator is told per recipient.
    Withdraw(Selection),
}

/// Most legs of a message that one command reaches: a list in thousands of domains takes several.
pub const LEGS_AT_ONCE: u32 = 1024;

/// What a command applies to.
#[derive(Debug, Clone)]
pub enum Selection {
    /// The first [`LEGS_AT_ONCE`] legs of one message, and the reference that came in under its name.
    Message(QueueId),
    /// As many of its legs, from this one on.
    From(QueueId, u32),
    /// The reference that came in under this name, and nothing of what has become of it.
    Reference(QueueId),
    /// One leg.
    Leg(QueueId, u32),
}

/// What a command did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commanded {
    /// Whether anything was left for it to do. Where not, nothing was changed or noted.
    pub carried_out: bool,
    /// For how many recipients it did something.
    pub reached: u64,
    /// Per leg and recipient: what it is now, in a plain word or sentence.
    pub recipients: Vec<(Key, Address, String)>,
}

/// Answers to [`Request`]s. None is released before what it says is durable.
#[derive(Debug)]
pub enum Reply {
    /// The message is ours.
    Accepted,
    /// What it was to be remembered by is remembered already: nothing was done.
    Repeated,
    /// What became of an offer.
    Offer(OfferAnswer),
    /// The recipient domains that those grants among the ones asked about are bound to that exist and are bound.
    Binding(Vec<Domain>),
    /// What a grant may fetch.
    Object(Located),
    /// Per entry, in order; `None`: no such reference, grant or domain, or its signature is missing (no answer).
    Claims(Vec<Option<Vec<(u16, ClaimAnswer)>>>),
    /// Per entry, in order: indexes recorded; `None` as above.
    Receipts(Vec<Option<Vec<u16>>>),
    /// How many references took the object.
    Carried(u64),
    /// Of how many references that was news.
    Heard(u64),
    /// Of how many messages that was news.
    Taken(u64),
    /// The message is ours, as far as it goes anywhere.
    Letter {
        /// What its site is told.
        told: bundle::TakenEntry,
        /// The object is the queue's now. If not, nobody has it.
        is_kept: bool,
    },
    /// One word for all of a hop's recipients; `None` as above, and where this origin lets nobody delegate.
    Delegated(Option<ClaimAnswer>),
    /// What a command did.
    Commanded(Commanded),
    /// The ledger cannot take it now: 451 or 503.
    Unavailable,
}

/// What became of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferAnswer {
    /// New, durable, will be judged. The queue id stands in the reply.
    Pending(QueueId),
    /// Seen before, the identical one: still pending; lost receipts are sent again.
    StillPending(QueueId),
    /// Seen before, and custody of every recipient that this transaction accepts is here, or its outcome is known here.
    /// An origin counts this word as the claim (TBR §8.2), so it is never said where an index is open, taken or gone.
    Claimed(QueueId),
    /// The same, and the outcome of every one of them is known here.
    Done(QueueId),
    /// Seen before, and refused after retrieval; no claim has carried that to the origin yet: 550 (TBR §3.7).
    Refused(QueueId),
    /// Seen before with other content: 5yz.
    Mismatch,
}

/// What a grant may fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// This object.
    Object(ObjectRef),
    /// Nothing: no such grant, not for this object, or bound and not signed. The same 404 for everybody.
    Unknown,
    /// The grant (and the signature, if bound) is right, but the reference was withdrawn, has expired or is done: 410.
    Gone,
}

/// Answers of the ledger.
#[derive(Debug)]
pub enum LedgerAnswer {
    /// To `Load` and `Find`: the rows that exist.
    Rows(Vec<Row>),
    /// To `Lease`: rows now ours, and when the next one is due.
    Leased {
        /// Rows.
        rows: Vec<Row>,
        /// Due time of the earliest row that was not leased.
        next_due: Option<Timestamp>,
    },
    /// To `Commit`: durable.
    Committed,
    /// To `Commit`: nothing was written; rows have changed since they were read, or an object that one was to name is gone.
    Conflict,
    /// To `ReadHead`: the first octets of an object.
    Head(Vec<u8>),
    /// The ledger failed (disk full, I/O error): nothing was done.
    Failed(String),
}

/// What the edge must do.
#[derive(Debug)]
pub enum Action {
    /// Answer a request.
    Reply {
        /// Which.
        call: CallId,
        /// The answer.
        reply: Reply,
    },
    /// Read rows by key.
    Load {
        /// For the answer.
        token: Token,
        /// Which rows.
        keys: Vec<Key>,
    },
    /// Read rows by secondary keys (`mail::ledger::by_*`), at most `limit` for each.
    Find {
        /// For the answer.
        token: Token,
        /// Secondary keys.
        alternates: Vec<String>,
        /// Most rows for each.
        limit: usize,
    },
    /// Lease rows that are due, earliest first. A leased row does not come out again before `until`; a commit of
    /// the row ends its lease, and so does a restart of the ledger's only node.
    Lease {
        /// For the answer.
        token: Token,
        /// Rows due at or before this.
        now: Timestamp,
        /// Most rows.
        limit: usize,
        /// Until when they are ours.
        until: Timestamp,
    },
    /// Write, all or nothing, durably.
    Commit {
        /// For the answer.
        token: Token,
        /// What.
        batch: Batch,
        /// Small objects made by the queue itself (reports), to be stored with the batch under the key that
        /// `batch.objects` and the rows name; the edge fills nothing in.
        created: Vec<(ObjectRef, Vec<u8>)>,
    },
    /// Read the first octets of an object.
    ReadHead {
        /// For the answer.
        token: Token,
        /// Which object.
        object: ObjectRef,
        /// Most octets.
        limit: u64,
    },
    /// Start a job.
    Start {
        /// For its events.
        job: JobId,
        /// What to do.
        work: Work,
    },
    /// Answer to [`JobEvent::Connected`] and [`JobEvent::OfferDeclined`]: how to go on in the open session.
    Proceed {
        /// Which job.
        job: JobId,
        /// How.
        how: Proceed,
    },
    /// Send [`Input::Tick`] at this time (the latest of these replaces earlier ones).
    Wake(Timestamp),
    /// Something for the log, durable by now. Nothing waits for it.
    Tell(Box<Told>),
}

/// Jobs of the edge.
#[derive(Debug, Clone)]
pub enum Work {
    /// Bring a leg's open recipients to its destination. Into a mailbox: what an earlier attempt has brought there is looked for
    /// before anything else, whatever state the mailbox is in, and is `Accepted`.
    Deliver(Box<Delivery>),
    /// Fetch an object. Ends with `Retrieved` or `RetrieveFailed`.
    Retrieve(Box<Retrieval>),
    /// Judge the content of a reference, whose object is here and synced. Ends with `Judged` or `JudgeFailed`.
    Judge(Box<Judgement>),
    /// Post claims to one repository host. Ends with `Claimed` or `PostFailed`.
    PostClaims(Post<ClaimEntry>),
    /// Post receipts to one repository host. Ends with `Reported` or `PostFailed`.
    PostReceipts(Post<ReceiptEntry>),
    /// Post a delegation to one repository host. Ends with `Delegated` or `PostFailed`.
    PostDelegation(Box<Delegating>),
}

/// A delivery attempt.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Names the leg, for names in a Maildir and for logs.
    pub key: Key,
    /// The leg as it is committed now.
    pub leg: Leg,
    /// Positions in `leg.recipients` to deliver to.
    pub positions: Vec<u16>,
    /// Into a mailbox: deliver nothing, only find out what an attempt has left that a crash broke off. A copy that is there is
    /// `Accepted`, one that is not is `Temporary`.
    pub looks_only: bool,
    /// Time the whole attempt may take.
    pub budget: Duration,
}

/// A retrieval: fetch these octets, check them, store and sync nothing beyond the store's own writer.
#[derive(Debug, Clone)]
pub struct Retrieval {
    /// The signing domain, for budgets, pools and suspension.
    pub d: Domain,
    /// The recipient domain of the reference: signs the request, if its key is here.
    pub to: Domain,
    /// Repository host.
    pub host: Domain,
    /// URI with the grant.
    pub uri: String,
    /// Digest to check.
    pub xuid: Xuid,
    /// Octets to expect.
    pub size: u64,
    /// When it cannot be claimed any more.
    pub expires: Timestamp,
    /// Time the whole retrieval may take.
    pub budget: Duration,
    /// Set where policy has delayed the retrieval: the client that offered the reference, to be looked at once more.
    pub recheck: Option<IpAddr>,
}

/// A judgement: is the content of this reference taken?
#[derive(Debug, Clone)]
pub struct Judgement {
    /// Names the reference, for logs.
    pub key: Key,
    /// The reference as it is committed now: its object, and the evidence of its session.
    pub inbound: Inbound,
}

/// A delegation to post to one host.
#[derive(Debug, Clone)]
pub struct Delegating {
    /// Names the inbound reference, for logs.
    pub key: Key,
    /// Repository host.
    pub host: Domain,
    /// The signing domain whose repository it is.
    pub d: Domain,
    /// This store.
    pub instance: InstanceId,
    /// Our domain, which the field below names: signs the request.
    pub to: Domain,
    /// The field below.
    pub id: ReferenceId,
    /// Its grant.
    pub grant: Grant,
    /// The hop as it will be offered, on top of what it stands on.
    pub block: String,
    /// The hop's own grant.
    pub hop_grant: Grant,
    /// Index below of each index of the hop.
    pub map: Vec<u16>,
}

/// Entries to post to one host.
#[derive(Debug, Clone)]
pub struct Post<T> {
    /// Repository host.
    pub host: Domain,
    /// The signing domain whose repository it is.
    pub d: Domain,
    /// This store.
    pub instance: InstanceId,
    /// At most 1000.
    pub entries: Vec<T>,
}

/// How to go on in an open session.
#[derive(Debug, Clone)]
pub enum Proceed {
    /// An ordinary transaction for these recipients. Fewer than the delivery began with where some were
    /// claimed or withdrawn meanwhile.
    ByValue {
        /// What stands above the content in this transaction, where that differs from the leg's own prefix.
        prefix: Option<String>,
        /// Positions in the leg, in order of RCPT.
        positions: Vec<u16>,
    },
    /// Offer this. One entry of the outcome per RCPT, in this order.
    Offer {
        /// Argument of the TBR line.
        uri: String,
        /// The block, without the lone dot.
        block: String,
        /// Positions in the leg, in order of RCPT.
        positions: Vec<u16>,
    },
    /// Nothing: end the job with `Delivered` and no outcomes.
    Abandon,
}

/// News of a job.
#[derive(Debug)]
pub enum JobEvent {
    /// `Deliver` over SMTP: connected and greeted; waits for [`Action::Proceed`].
    Connected(Peer),
    /// After `Proceed::Offer`: the peer answered 504; the session is open and waits for [`Action::Proceed`].
    OfferDeclined {
        /// Its reply.
        text: String,
    },
    /// `Deliver` has ended.
    Delivered(DeliveryEnd),
    /// `Retrieve` has ended well: verified against XUID and size, stored, not yet synced.
    Retrieved {
        /// The object.
        object: ObjectRef,
        /// What was found in it.
        facts: ContentFacts,
        /// Octets received over the network for it.
        octets: u64,
    },
    /// `Retrieve` has ended otherwise.
    RetrieveFailed {
        /// Whether trying again makes sense.
        failure: RetrieveFailure,
        /// One plain sentence.
        text: String,
    },
    /// `Judge` has ended.
    Judged(Judged),
    /// `Judge` has ended otherwise: try again later.
    JudgeFailed {
        /// One plain sentence.
        text: String,
    },
    /// `PostClaims` has ended: answers in the order of the entries; `None`: no answer for that entry.
    Claimed(Vec<Option<Vec<(u16, ClaimAnswer)>>>),
    /// `PostReceipts` has ended: indexes recorded, in the order of the entries.
    Reported(Vec<Option<Vec<u16>>>),
    /// `PostDelegation` has ended.
    Delegated(ClaimAnswer),
    /// The post got no answer that counts.
    PostFailed {
        /// One plain sentence.
        text: String,
    },
}

/// What was decided on the content of a reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Trace fields to stand above those of the session (Authentication-Results), with their CRLF.
    pub results: String,
    /// An ARC set to stand above them where an alias leads to other servers by value; may be empty.
    pub seal: String,
    /// In a few words, what spoke for it; empty where it is refused.
    pub verdict: String,
    /// Why it is refused: the claim then carries this as the outcome `failed`.
    pub refusal: Option<(EnhancedStatus, String)>,
}

/// Why a retrieval failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrieveFailure {
    /// Try again later.
    Temporary,
    /// The same, after it had brought much: it is no failure in a row with others.
    Interrupted,
    /// Nobody was asked: try again later.
    NotMade,
    /// 410: withdrawn or expired at the origin.
    Gone,
    /// 404: nothing there for this grant.
    NotFound,
    /// Wrong digest or size, also after a second try from zero: claim it as `failed`.
    Corrupt,
    /// Policy does not want it any more: nothing was fetched, claim it as `failed`.
    Refused,
}

/// What the peer of a delivery session is.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Name and address, for the trace.
    pub name: String,
    /// EHLO said `TBR 1`, in a state where it may be used.
    pub tbr: bool,
    /// EHLO said `DSN`: the peer writes the reports of success that the author asked for.
    pub dsn: bool,
    /// Recipient domains of the delivery that publish keys, and how surely that is known: their grants are bound.
    /// Looked up only where the peer speaks TBR.
    pub keys: Vec<(Domain, Assurance)>,
    /// Recipient domains of which that cannot be told now: no grant may be issued for them.
    pub keys_unknown: Vec<Domain>,
    /// Most recipients of one transaction, where EHLO said so (RFC 9422); further ones follow in others.
    pub most_recipients: Option<usize>,
    /// Most domains among them, likewise.
    pub most_domains: Option<usize>,
}

/// How a delivery ended.
#[derive(Debug)]
pub enum DeliveryEnd {
    /// A transaction (or writing to mailboxes) took place; per position what came of it.
    Transaction {
        /// It was an offer (a 250 leaves custody here).
        offer: bool,
        /// Outcome of each position of the transaction.
        outcomes: Vec<(u16, RecipientEnd)>,
        /// Name of the peer or mailbox, for the trace.
        peer: String,
        /// Octets on the wire both ways from MAIL to the final reply, before TLS; for mailboxes those written.
        octets: u64,
    },
    /// Nobody could be reached, or the session broke before anything was decided: try again.
    Unreachable {
        /// One plain sentence, the last error.
        text: String,
        /// Status for a report.
        status: EnhancedStatus,
    },
    /// It broke off, and what it has brought is kept there: try again, and count no failures from before.
    Interrupted {
        /// One plain sentence, the last error.
        text: String,
        /// Status for a report.
        status: EnhancedStatus,
    },
    /// It can never work: no such domain, null MX.
    Impossible {
        /// One plain sentence.
        text: String,
        /// Status for a report.
        status: EnhancedStatus,
    },
}

/// What a transaction meant for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientEnd {
    /// 2yz: delivered to a mailbox or taken by LMTP (`final_delivery`), handed to a next hop, or, for an offer,
    /// accepted for judgement.
    Accepted {
        /// It is in the mailbox now. For an offer: the reply said that it is done, custody is there
        /// ([`OfferAnswer::Done`] at the other end).
        final_delivery: bool,
        /// The peer's words.
        text: String,
    },
    /// 4yz.
    Temporary {
        /// The peer's status, or one of ours.
        status: EnhancedStatus,
        /// The peer's words.
        text: String,
        /// A reply to the TBR verb itself rather than to MAIL or RCPT.
        to_offer: bool,
    },
    /// 5yz.
    Permanent {
        /// The peer's status, or one of ours.
        status: EnhancedStatus,
        /// The peer's words.
        text: String,
        /// It refuses the reference only: by value may fare better (`reference::codes::classify` says `ByValue`).
        /// False for a reply to MAIL or RCPT, and for one to TBR that refuses the message.
        to_offer: bool,
    },
}

/// Convenience for tests and the edge: the claim in a state, if any.
pub fn claim_of(state: &mail::ledger::RecipientState) -> Option<&Claim> {
    match state {
        mail::ledger::RecipientState::Claimed(claim) => Some(claim),
        mail::ledger::RecipientState::Done { claim, .. } => claim.as_ref(),
        _ => None,
    }
}

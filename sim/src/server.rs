//! One server of the world: a node, a disk, and what is under way between them and others.

use std::collections::{BTreeMap, HashMap, HashSet};

use mail::ledger::{ObjectKey, ObjectRef};
use mail::{Address, Domain, Grant, InstanceId, MailParams, Recipient, ReferenceId, Timestamp, Xuid};
use queue::Node;
use queue::letters::{Answering, Letter};
use queue::port::{CallId, ClaimEntry, Delegating, Delivery, JobId, Post, ReceiptEntry, RecipientEnd, Work};

use crate::disk::Disk;
use crate::scenario::ServerId;
use crate::upload::{Asker, Part, Upload};

/// A server as it was before its next crash: what comes from an earlier life is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) server: ServerId,
    pub(crate) epoch: u32,
}

pub(crate) struct Server {
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pub(crate) domain: Domain,
    pub(crate) tbr: bool,
    pub(crate) epoch: u32,
    pub(crate) instance: InstanceId,
    pub(crate) jobs: HashMap<JobId, Errand>,
    pub(crate) calls: HashMap<CallId, Caller>,
    /// When the disk has done what it was told so far.
    pub(crate) disk_free: Timestamp,
    /// Actions until the next crash in the middle of one.
    pub(crate) actions_left: Vec<(u64, std::time::Duration)>,
    pub(crate) actions_done: u64,
    /// Mailbox files, and when they were written.
    pub(crate) files: BTreeMap<(String, String), (Timestamp, Xuid)>,
    /// What broken retrievals have brought: octets of each object.
    pub(crate) partials: HashMap<Xuid, u64>,
    /// What has been uploaded of objects that are not whole, by site.
    pub(crate) parts: HashMap<(ServerId, Xuid), Part>,
    /// Where lists have broken off, of this custodian's and domain's.
    pub(crate) left: BTreeMap<(ServerId, &'static str), String>,
    /// What a site was told that waits for it (seeded bugs).
    pub(crate) told: HashSet<String>,
    next_call: u64,
    next_object: u64,
}

/// A job that the server's edge carries out.
pub(crate) struct Errand {
    pub(crate) work: Work,
    /// The other end of its session.
    pub(crate) peer: Option<ServerId>,
    /// Counts what was asked: an answer to an earlier question times out differently.
    pub(crate) step: u32,
    /// Octets that are there, where that is not all of them.
    pub(crate) brought: Option<u64>,
    /// The delivery is an upload.
    pub(crate) upload: Option<Box<Upload>>,
}

/// Who waits for the node's reply.
pub(crate) enum Caller {
    /// A local submitter.
    Submitter { case: usize },
    /// An operator who recalls a message, or does something else with it.
    Operator { case: usize, recalls: bool },
    /// A by-value session of another server.
    Value { from: At, job: JobId, outcomes: Vec<(u16, RecipientEnd)>, open: Vec<u16> },
    /// An offer of another server.
    Offer { from: At, job: JobId, outcomes: Vec<(u16, RecipientEnd)>, open: Vec<u16> },
    /// A retrieval.
    Fetch { from: At, job: JobId },
    /// A post of claims.
    Claims { from: At, job: JobId, post: Post<ClaimEntry> },
    /// A post of receipts.
    Receipts { from: At, job: JobId, post: Post<ReceiptEntry> },
    /// A site that asked what is pending, with an entry of the answer.
    Pending,
    /// A site whose link has come up.
    Hurry,
    /// A list of a site's, with the answer as far as it is known; or a bundle.
    Letter { asker: Option<(Asker, Box<Answering>)>, letter: Letter },
    /// A post of a delegation.
    Delegation { from: At, job: JobId, hop: ReferenceId },
    /// Somebody who has stolen grants, and not the keys that they are bound to.
    Thief,
    /// A bundle of the custodian's, with its word.
    Bundle,
    /// The same with an object.
    Carried { object: ObjectRef },
    /// A bundle of a site's with claims; its receipts come next.
    CarriedClaims { claims: Post<ClaimEntry>, receipts: Post<ReceiptEntry> },
    /// And those.
    CarriedReceipts { receipts: Post<ReceiptEntry> },
}

/// What one server asks of another.
pub(crate) enum Question {
    /// An SMTP session.
    Connect,
    /// MAIL, RCPT and DATA for these positions.
    Value(Box<Delivery>, Vec<u16>),
    /// MAIL, RCPT and TBR.
    Offer(Box<Offer>),
    /// An object, from this host.
    Fetch(Domain, Xuid, Grant),
    /// To grant claims.
    Claims(Post<ClaimEntry>),
    /// To record receipts.
    Receipts(Post<ReceiptEntry>),
    /// To record a delegation.
    Delegation(Box<Delegating>),
    /// What of this message is there, and to take it if it is whole; with the number of the request.
    List(Box<Letter>, u32),
    /// The octets of this message from there on.
    Part(Box<Letter>, u64, u32),
}

/// An offer on the wire, or in a list.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) mail_from: Option<Address>,
    pub(crate) params: MailParams,
    pub(crate) uri: String,
    pub(crate) block: String,
    pub(crate) recipients: Vec<(u16, Recipient)>,
}

impl Offer {
    /// The arguments of its TBR line.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.block.matches("TBR-Hop:").count(), self.uri)
    }
}

impl Server {
    pub(crate) fn new(domain: Domain, tbr: bool, instance: InstanceId) -> Self {
        Self {
            node: None,
            disk: Disk::default(),
            domain,
            tbr,
            epoch: 0,
            instance,
            jobs: HashMap::new(),
            calls: HashMap::new(),
            disk_free: Timestamp::default(),
            actions_left: Vec::new(),
            actions_done: 0,
            files: BTreeMap::new(),
            partials: HashMap::new(),
            parts: HashMap::new(),
            left: BTreeMap::new(),
            told: HashSet::new(),
            next_call: 0,
            next_object: 0,
        }
    }

    pub(crate) fn call(&mut self, caller: Caller) -> CallId {
        self.next_call += 1;
        let call = CallId(self.next_call);
        self.calls.insert(call, caller);
        call
    }

    /// Writes content under a name of its own, not synced.
    pub(crate) fn store(&mut self, of: &ObjectRef, content: Option<std::rc::Rc<[u8]>>) -> ObjectRef {
        self.next_object += 1;
        let object = ObjectRef { key: ObjectKey(format!("o{}", self.next_object)), ..of.clone() };
        self.disk.write(object.clone(), content);
        object
    }

    /// The same, of an object of which only so much is there.
    pub(crate) fn store_part(&mut self, of: &ObjectRef, octets: u64) -> ObjectRef {
        let object = self.store(of, None);
        self.disk.cut(&object.key, octets);
        object
    }

    /// Power is lost. Nothing in memory survives, jobs and sessions break.
    pub(crate) fn crash(&mut self, now: Timestamp) {
        self.node = None;
        self.parts.values_mut().for_each(|part| part.crash(now));
        self.epoch += 1;
        self.jobs.clear();
        self.calls.clear();
        self.left.clear();
        self.disk.crash();
    }
}

/// The name of a mailbox file: after reference and recipient, or after leg and recipient.
pub(crate) fn file_name(delivery: &Delivery, to: &Address) -> String {
    match &delivery.leg.inbound {
        Some(mail::ledger::Key::Inbound(id, _)) => reference_file(id, to),
        _ => format!("{}-{to}", delivery.key),
    }
}

fn reference_file(id: &ReferenceId, to: &Address) -> String {
    format!("{id}-{to}")
}

//! Bundles: what a custodian and its site would say to each other over HTTPS, in a file (TBR §7.5). Here are the manifest
//! that stands first in it, the signature over that, and the one message that only bundles have.
//!
//! A bundle is an archive; reading and writing archives is left to the edge. What the parts say is said elsewhere:
//! [`crate::pending`], [`crate::claims`].

use mail::ledger::{Action, Key};
use mail::{Address, Domain, EnhancedStatus, InstanceId, ReferenceId, StatusClass, Timestamp, Xuid};
use serde::{Deserialize, Serialize};

use crate::body::{BodyError, JsonBody, MAX_BODY, MAX_RECIPIENTS, Revision1, Text, check_count, read, write};
use crate::keys::KeyRecord;
use crate::message_signature::{self, Fields, KeyId, Nonce, Request, Signer, content_digest, sign};
use crate::pending::{MAX_LINE, MAX_TRACE};
use crate::sign::KeyError;

/// What a bundle's signature covers in place of a path: no resource has it, so that the signature is good for nothing else.
pub const BUNDLE_PATH: &str = "/.well-known/tbr/bundle";
/// Most parts of one bundle: 16 MiB of them.
pub const MAX_PARTS: usize = 64;
/// Longest manifest in octets.
pub const MAX_MANIFEST: usize = 32 * 1024;
/// Longest signature in octets.
pub const MAX_SIGNATURE: usize = 4 * 1024;

const INPUT: &str = "Signature-Input: ";
const SIGNATURE: &str = "Signature: ";

/// Who has written a bundle; the other one reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The custodian, for the site.
    Custodian,
    /// The site, for its custodian.
    Site,
}

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What waits for the site: [`crate::pending::PendingList`]. Its objects follow.
    Pending,
    /// Claims of the site: [`crate::claims::ClaimsRequest`].
    Claims,
    /// Its receipts: [`crate::claims::ReceiptsRequest`].
    Receipts,
    /// Which of both the custodian has on disk: [`Heard`].
    Heard,
    /// Mail that users of the site send: [`MailList`]. Its objects follow.
    Mail,
    /// What of it the custodian has taken: [`TakenList`].
    Taken,
}

impl Kind {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Claims => "claims",
            Self::Receipts => "receipts",
            Self::Heard => "heard",
            Self::Mail => "mail",
            Self::Taken => "taken",
        }
    }

    /// By its word.
    pub fn of(word: &str) -> Option<Self> {
        const ALL: [Kind; 6] = [Kind::Pending, Kind::Claims, Kind::Receipts, Kind::Heard, Kind::Mail, Kind::Taken];
        ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whose bundles have such parts.
    pub fn from(self) -> End {
        match self {
            Self::Pending | Self::Heard | Self::Taken => End::Custodian,
            Self::Claims | Self::Receipts | Self::Mail => End::Site,
        }
    }
}

/// The first file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Revision.
    pub v: Revision1,
    /// Who has written it.
    pub from: End,
    /// The site's domain, whose keys sign at both ends.
    pub site: Domain,
    /// The custodian's repository host for that domain.
    pub host: Domain,
    /// All parts in the order in which they follow.
    pub parts: Vec<Part>,
    /// Objects that follow, at most.
    pub objects: u64,
    /// Octets of them, at most: for whoever shows how far reading is.
    pub octets: u64,
}

/// One part, as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it holds.
    pub kind: Kind,
    /// Octets.
    pub size: u64,
    /// SHA-256 of them, written like an XUID.
    pub sha256: Xuid,
}

impl Part {
    /// Of these octets.
    pub fn of(kind: Kind, body: &[u8]) -> Self {
        Self { kind, size: body.len() as u64, sha256: Xuid::of(body) }
    }
}

/// Why a manifest is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON that is expected, or over a limit.
    #[error("the manifest cannot be read: {0}")]
    Body(#[from] BodyError),
    /// Over [`MAX_PARTS`], or [`MAX_MANIFEST`].
    #[error("the bundle has more than {MAX_PARTS} parts")]
    Parts,
    /// One that its writer has nothing to say in, or longer than any may be.
    #[error("the bundle has a part that does not belong in it")]
    Part,
}

impl Manifest {
    /// Reads it and checks its limits.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(body: &[u8]) -> Result<Self, ManifestError> {
        if body.len() > MAX_MANIFEST {
            return Err(ManifestError::Parts);
        }
        let manifest: Self = read(body)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`ManifestError`] where a limit is broken.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        Ok(write(self)?)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.parts.len() > MAX_PARTS {
            return Err(ManifestError::Parts);
        }
        let belongs = |part: &Part| part.kind.from() == self.from && part.size <= MAX_BODY as u64;
        if self.parts.iter().all(belongs) { Ok(()) } else { Err(ManifestError::Part) }
    }
}

/// What is signed: a request that nobody makes, to the custodian, with the manifest as its body.
fn request<'a>(host: &'a Domain, digest: &'a str) -> Request<'a> {
    Request { method: "POST", host, path_and_query: BUNDLE_PATH, content_digest: Some(digest), upload_offset: None }
}

/// Signs the octets of a manifest: the second file of a bundle.
///
/// # Errors
/// The library's.
pub fn seal(
    manifest: &[u8],
    host: &Domain,
    signer: &Signer,
    nonce: Nonce,
    created: Timestamp,
) -> Result<String, KeyError> {
    let digest = content_digest(manifest);
    let Fields { input, signature } = sign(&request(host, &digest), [(signer, nonce)], created)?;
    Ok(format!("{INPUT}{input}\r\n{SIGNATURE}{signature}\r\n"))
}

/// Why a bundle is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// The second file does not hold exactly one signature.
    #[error("the bundle's signature cannot be read")]
    Malformed,
    /// No key that could have signed it is known.
    #[error("the bundle is signed by {0}, which is no key that this server's configuration names for that")]
    Unknown(KeyId),
    /// It is not the signature of this manifest, or not of this time.
    #[error("the bundle's signature does not count: {0}")]
    Refused(message_signature::Refusal),
}

/// A signature that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// By which key.
    pub key: KeyId,
    /// When.
    pub created: Timestamp,
    /// The name of the bundle: no two have the same.
    pub name: Nonce,
}

/// Verifies the second file of a bundle over its first. `key` finds the keys that may have signed; nothing is looked up.
///
/// # Errors
/// [`NotSealed`].
pub fn verify(
    manifest: &[u8],
    host: &Domain,
    signature: &[u8],
    key: impl Fn(&KeyId) -> Option<KeyRecord>,
    now: Timestamp,
) -> Result<Sealed, NotSealed> {
    let text = std::str::from_utf8(signature).map_err(|_| NotSealed::Malformed)?;
    let lines = text.strip_suffix("\r\n").and_then(|text| text.split_once("\r\n"));
    let (input, signature) = lines.ok_or(NotSealed::Malformed)?;
    let values = input.strip_prefix(INPUT).zip(signature.strip_prefix(SIGNATURE)).ok_or(NotSealed::Malformed)?;
    let presented = message_signature::parse(values.0, values.1).map_err(|_| NotSealed::Malformed)?;
    let [one] = presented.as_slice() else { return Err(NotSealed::Malformed) };
    let digest = content_digest(manifest);
    let request = request(host, &digest);
    one.check_kept(&request, now).map_err(NotSealed::Refused)?;
    let key = key(&one.id).ok_or_else(|| NotSealed::Unknown(one.id.clone()))?;
    one.verify(&request, &key).map_err(NotSealed::Refused)?;
    Ok(Sealed { key: one.id.clone(), created: one.created, name: one.nonce })
}

/// What a custodian has on disk of a store's claims and receipts: the answer that a bundle of theirs could not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Revision.
    pub v: Revision1,
    /// The store that claimed and reported.
    pub instance: InstanceId,
    /// One entry for each reference.
    pub heard: Vec<HeardEntry>,
}

/// The same of one reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardEntry {
    /// The reference, tag `i`.
    pub i: ReferenceId,
    /// Recipients that are recorded as claimed by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub n: Vec<u16>,
    /// Those of which an outcome is recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorded: Vec<RecordedIndex>,
}

/// An outcome that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedIndex {
    /// The recipient.
    pub n: u16,
    /// Which.
    pub action: Action,
}

impl JsonBody for Heard {
    fn check(&self) -> Result<(), BodyError> {
        check_count(self.heard.len())?;
        let most = usize::from(MAX_RECIPIENTS);
        let fits = |entry: &HeardEntry| {
            let indexes = entry.n.iter().copied().chain(entry.recorded.iter().map(|one| one.n));
            entry.n.len() <= most && entry.recorded.len() <= most && indexes.max().is_none_or(|n| n < MAX_RECIPIENTS)
        };
        if self.heard.iter().all(fits) { Ok(()) } else { Err(BodyError::Indexes) }
    }
}

/// Mail on its way out of a site: for its custodian to send on, as if it had been submitted there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailList {
    /// Revision.
    pub v: Revision1,
    /// Messages.
    pub mail: Vec<MailEntry>,
}

/// One message for some recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailEntry {
    /// The site's name for it, the same in every bundle: `leg/<letters and digits>/<number>`.
    pub id: Key,
    /// When the site accepted it, in whole seconds since the epoch; the same in every bundle.
    pub at: u64,
    /// Arguments of MAIL.
    pub mail: String,
    /// Arguments of each RCPT.
    pub rcpt: Vec<String>,
    /// The object, by its XUID.
    pub o: Xuid,
    /// Its octets.
    pub l: u64,
    /// Trace fields to stand above it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
}

/// What a custodian has taken of a site's mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenList {
    /// Revision.
    pub v: Revision1,
    /// Messages.
    pub taken: Vec<TakenEntry>,
}

/// One message that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenEntry {
    /// The site's name for it.
    pub id: Key,
    /// Recipients whom it was not taken for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<NotTaken>,
}

/// A recipient whom mail was not taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotTaken {
    /// Whom.
    pub rcpt: Address,
    /// A permanent status.
    pub status: EnhancedStatus,
    /// Why.
    #[serde(default)]
    pub text: Text,
}

impl JsonBody for MailList {
    fn check(&self) -> Result<(), BodyError> {
        check_count(self.mail.len())?;
        self.mail.iter().try_for_each(MailEntry::check)
    }
}

impl MailEntry {
    /// # Errors
    /// [`BodyError`]: [`BodyError::Indexes`] for the name and the number of recipients, [`BodyError::TooLong`] for the rest.
    pub fn check(&self) -> Result<(), BodyError> {
        let is_leg = matches!(self.id, Key::Leg(..));
        if !is_leg || self.rcpt.is_empty() || self.rcpt.len() > usize::from(MAX_RECIPIENTS) {
            return Err(BodyError::Indexes);
        }
        let long = self.mail.len() > MAX_LINE || self.rcpt.iter().any(|line| line.len() > MAX_LINE);
        if long || self.trace.len() > MAX_TRACE { Err(BodyError::TooLong) } else { Ok(()) }
    }
}

impl JsonBody for TakenList {
    fn check(&self) -> Result<(), BodyError> {
        check_taken(&self.taken)
    }
}

/// Checks the limits of what was taken, in a bundle or in an answer.
///
/// # Errors
/// [`BodyError`].
pub(crate) fn check_taken(taken: &[TakenEntry]) -> Result<(), BodyError> {
    check_count(taken.len())?;
    let most = usize::from(MAX_RECIPIENTS);
    if taken.iter().any(|entry| entry.failed.len() > most || !matches!(entry.id, Key::Leg(..))) {
        return Err(BodyError::Indexes);
    }
    let mut failed = taken.iter().flat_map(|entry| &entry.failed);
    let fits = failed.all(|one| one.status.class() == StatusClass::Permanent);
    if fits { Ok(()) } else { Err(BodyError::Status) }
}

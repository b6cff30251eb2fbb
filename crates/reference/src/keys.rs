//! What a domain publishes of itself: DNS records and the JSON document (TBR §5).
//!
//! Parsing and writing only. Asking DNS, fetching the document, caching and pinning are the caller's; so is judging
//! how sure an answer is: it comes in as an [`Assurance`].

use std::time::Duration;

pub use mail::Assurance;
use mail::{Domain, DomainError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::body::Text;
use crate::sign::{Selector, VerifyingKey};
use crate::taglist::{MAX_SECONDS, is_host_name};

/// The label under which a domain publishes (`_tbr.<domain>`).
pub const LABEL: &str = "_tbr";
/// The label under which a host consents (`<d>._tbr-host.<host>`).
pub const CONSENT_LABEL: &str = "_tbr-host";
/// The path of the domain document, on `https://tbr.<domain>`.
pub const DOCUMENT_PATH: &str = "/.well-known/tbr/domain";
/// Longest TXT record that is read, its strings joined.
pub const MAX_RECORD: usize = 2048;
/// Largest document that is read.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// Most hosts of a domain.
pub const MAX_HOSTS: usize = 8;
/// Most keys of a document.
pub const MAX_KEYS: usize = 64;
/// Longest time for which a document may be pinned (TBR §5.3).
pub const MAX_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest time for which a document is believed, so that nobody is made to fetch without pause.
pub const MIN_MAX_AGE: Duration = Duration::from_secs(60);
const DEFAULT_MAX_AGE: u64 = 3600;

/// Why a record or document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Over [`MAX_RECORD`] or [`MAX_DOCUMENT`].
    #[error("it is too long")]
    TooLong,
    /// Two records claim to be the one.
    #[error("there is more than one TBR1 record")]
    Ambiguous,
    /// Not `name=value` pairs parted by semicolons, or not JSON of the right shape.
    #[error("it is not well-formed: {0}")]
    Syntax(String),
    /// A value is not valid.
    #[error("the value of {0} is not valid")]
    Value(&'static str),
    /// A member or tag that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// It speaks for another domain.
    #[error("it speaks for another domain")]
    OtherDomain,
    /// The key is of an algorithm that is not known here.
    #[error("its algorithm is not supported")]
    Algorithm,
}

/// One key of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its name.
    pub selector: Selector,
    /// What it is good for.
    pub state: KeyState,
}

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It signs whatever is issued from `not_before` to `not_after`, both included.
    Active {
        /// The key.
        key: VerifyingKey,
        /// Earliest `t`.
        not_before: Timestamp,
        /// Latest `t`.
        not_after: Timestamp,
    },
    /// Nothing it ever signed counts any more.
    Revoked,
}

/// Whether a key may have signed at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse<'a> {
    /// It may.
    Usable(&'a VerifyingKey),
    /// Its window does not hold that time.
    Outside(&'a VerifyingKey),
    /// It is revoked.
    Revoked,
}

impl KeyRecord {
    /// A key with its signing window.
    pub fn active(selector: Selector, key: VerifyingKey, not_before: Timestamp, not_after: Timestamp) -> Self {
        Self { selector, state: KeyState::Active { key, not_before, not_after } }
    }

    /// May this key have signed something issued at that time?
    pub fn usable_at(&self, issued: Timestamp) -> KeyUse<'_> {
        match &self.state {
            KeyState::Revoked => KeyUse::Revoked,
            KeyState::Active { key, not_before, not_after } if (*not_before..=*not_after).contains(&issued) => {
                KeyUse::Usable(key)
            }
            KeyState::Active { key, .. } => KeyUse::Outside(key),
        }
    }

    /// Reads the TXT record at `<s>._tbr.<domain>`: `v=TBR1; a=ed25519; p=…; nb=…; na=…` or `v=TBR1; revoked`.
    /// Each text is one record, its strings joined; records of other kinds are passed over. `None`: there is none.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_txt<'a>(
        selector: &Selector,
        records: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Self>, RecordError> {
        let Some(tags) = the_record(records)? else { return Ok(None) };
        let state = if tags.flag("revoked") { KeyState::Revoked } else { tags.key_state()? };
        Ok(Some(Self { selector: selector.clone(), state }))
    }

    /// The text of that record.
    pub fn to_txt(&self) -> String {
        match &self.state {
            KeyState::Revoked => "v=TBR1; revoked".to_owned(),
            KeyState::Active { key, not_before, not_after } => {
                format!("v=TBR1; a=ed25519; p={key}; nb={}; na={}", not_before.as_secs(), not_after.as_secs())
            }
        }
    }
}

/// The TXT record at `_tbr.<domain>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRecord {
    /// Repository hosts; without `repo` this is `tbr.<domain>`.
    pub repo: Vec<Domain>,
    /// May this domain sign for domains below it?
    pub sub: bool,
}

impl DomainRecord {
    /// Reads `v=TBR1; repo=<host>[,<host>]; sub=y`, as [`KeyRecord::from_txt`] does.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_txt<'a>(
        domain: &Domain,
        records: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Self>, RecordError> {
        let Some(tags) = the_record(records)? else { return Ok(None) };
        let repo = match tags.get("repo") {
            Some(list) => parse_hosts(list.split(',').map(str::trim))?,
            None => vec![default_host(domain).map_err(|_| RecordError::Value("repo"))?],
        };
        let sub = match tags.get("sub") {
            None | Some("n") => false,
            Some("y") => true,
            Some(_) => return Err(RecordError::Value("sub")),
        };
        Ok(Some(Self { repo, sub }))
    }

    /// The text of that record.
    pub fn to_txt(&self) -> String {
        let hosts: Vec<&str> = self.repo.iter().map(Domain::as_str).collect();
        format!("v=TBR1; repo={}{}", hosts.join(","), if self.sub { "; sub=y" } else { "" })
    }
}

/// Where a domain's repository is unless it says otherwise, and where its document is: `tbr.<domain>`.
///
/// # Errors
/// [`DomainError`] where that name would be too long.
pub fn default_host(domain: &Domain) -> Result<Domain, DomainError> {
    domain.child("tbr")
}

/// `_tbr.<domain>`.
///
/// # Errors
/// [`DomainError`] where that name would be too long.
pub fn record_name(domain: &Domain) -> Result<Domain, DomainError> {
    domain.child(LABEL)
}

/// `<s>._tbr.<domain>`.
///
/// # Errors
/// [`DomainError`] where that name would be too long.
pub fn key_name(selector: &Selector, domain: &Domain) -> Result<Domain, DomainError> {
    record_name(domain)?.child(selector.as_str())
}

/// `<d>._tbr-host.<host>`: where a host outside `d` says that it serves `d`'s objects.
///
/// # Errors
/// [`DomainError`] where that name would be too long.
pub fn consent_name(domain: &Domain, host: &Domain) -> Result<Domain, DomainError> {
    host.child(CONSENT_LABEL)?.child(domain.as_str())
}

/// Do these TXT records at [`consent_name`] say yes?
pub fn is_consent<'a>(records: impl IntoIterator<Item = &'a str>) -> bool {
    matches!(the_record(records), Ok(Some(_)))
}

/// Everything that is known of a domain for verifying what it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFacts {
    /// Of which domain.
    pub domain: Domain,
    /// Hosts that may serve its objects.
    pub repo: Vec<Domain>,
    /// May it sign for domains below it?
    pub sub: bool,
    /// Its keys, those that were looked up.
    pub keys: Vec<KeyRecord>,
    /// How long this may be believed without asking again.
    pub max_age: Duration,
}

impl DomainFacts {
    /// The key of this name.
    pub fn key(&self, selector: &Selector) -> Option<&KeyRecord> {
        self.keys.iter().find(|k| k.selector == *selector)
    }

    /// Reads the document that `https://tbr.<domain>/.well-known/tbr/domain` answered.
    ///
    /// # Errors
    /// [`RecordError`]; [`RecordError::OtherDomain`] where it is not this domain's.
    pub fn from_document(domain: &Domain, json: &[u8]) -> Result<Self, RecordError> {
        if json.len() > MAX_DOCUMENT {
            return Err(RecordError::TooLong);
        }
        let document: Document = serde_json::from_slice(json).map_err(|e| syntax(&e))?;
        if document.v != "TBR1" {
            return Err(RecordError::Value("v"));
        }
        if document.domain != domain.as_str() {
            return Err(RecordError::OtherDomain);
        }
        if document.keys.len() > MAX_KEYS {
            return Err(RecordError::Value("keys"));
        }
        Ok(Self {
            domain: domain.clone(),
            repo: parse_hosts(document.repo.iter().map(String::as_str))?,
            sub: document.sub,
            keys: read_keys(document.keys)?,
            max_age: Duration::from_secs(document.max_age).clamp(MIN_MAX_AGE, MAX_MAX_AGE),
        })
    }

    /// The document.
    ///
    /// # Errors
    /// [`RecordError::Syntax`] should it not go into JSON.
    pub fn to_document(&self) -> Result<Vec<u8>, RecordError> {
        let document = Document {
            v: "TBR1".to_owned(),
            domain: self.domain.to_string(),
            repo: self.repo.iter().map(Domain::to_string).collect(),
            sub: self.sub,
            keys: self.keys.iter().map(DocumentKey::of).collect(),
            max_age: self.max_age.as_secs(),
        };
        serde_json::to_vec(&document).map_err(|e| syntax(&e))
    }
}

/// The reader's complaint, which may quote the document, made safe for a log.
fn syntax(error: &serde_json::Error) -> RecordError {
    RecordError::Syntax(Text::new(&error.to_string()).as_str().to_owned())
}

/// Members that are not known are passed over, so that later revisions can add some.
#[derive(Serialize, Deserialize)]
struct Document {
    v: String,
    domain: String,
    repo: Vec<String>,
    #[serde(default)]
    sub: bool,
    keys: Vec<DocumentKey>,
    #[serde(default = "default_max_age")]
    max_age: u64,
}

fn default_max_age() -> u64 {
    DEFAULT_MAX_AGE
}

#[derive(Serialize, Deserialize)]
struct DocumentKey {
    s: Selector,
    #[serde(default)]
    a: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    p: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nb: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    na: Option<u64>,
    #[serde(default)]
    revoked: bool,
}

impl DocumentKey {
    fn of(record: &KeyRecord) -> Self {
        let (s, a) = (record.selector.clone(), "ed25519".to_owned());
        match &record.state {
            KeyState::Revoked => Self { s, a, p: String::new(), nb: None, na: None, revoked: true },
            KeyState::Active { key, not_before, not_after } => Self {
                s,
                a,
                p: key.to_string(),
                nb: Some(not_before.as_secs()),
                na: Some(not_after.as_secs()),
                revoked: false,
            },
        }
    }

    fn state(&self) -> Result<KeyState, RecordError> {
        if self.revoked {
            return Ok(KeyState::Revoked);
        }
        active(&self.a, &self.p, self.nb.ok_or(RecordError::Missing("nb"))?, self.na.ok_or(RecordError::Missing("na"))?)
    }
}

/// Keys of algorithms that are not known here are left out: nothing signed with them can be verified anyway.
fn read_keys(keys: Vec<DocumentKey>) -> Result<Vec<KeyRecord>, RecordError> {
    let mut records: Vec<KeyRecord> = Vec::with_capacity(keys.len());
    for key in keys {
        match key.state() {
            Ok(_) if records.iter().any(|r| r.selector == key.s) => return Err(RecordError::Value("s")),
            Ok(state) => records.push(KeyRecord { selector: key.s, state }),
            Err(RecordError::Algorithm) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

fn active(algorithm: &str, key: &str, from: u64, until: u64) -> Result<KeyState, RecordError> {
    if algorithm != "ed25519" {
        return Err(RecordError::Algorithm);
    }
    let key = key.parse().map_err(|_| RecordError::Value("p"))?;
    if from > until {
        return Err(RecordError::Value("na"));
    }
    if until > MAX_SECONDS {
        return Err(RecordError::Value("na"));
    }
    Ok(KeyState::Active { key, not_before: Timestamp::from_secs(from), not_after: Timestamp::from_secs(until) })
}

fn parse_hosts<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Domain>, RecordError> {
    let mut hosts = Vec::new();
    for text in texts {
        let host = Domain::parse(text).ok().filter(is_host_name).filter(|host| host.as_str() == text);
        let host = host.ok_or(RecordError::Value("repo"))?;
        if hosts.len() == MAX_HOSTS {
            return Err(RecordError::Value("repo"));
        }
        hosts.push(host);
    }
    if hosts.is_empty() { Err(RecordError::Missing("repo")) } else { Ok(hosts) }
}

/// The tags of one TXT record.
struct TxtTags<'a>(Vec<(&'a str, Option<&'a str>)>);

impl<'a> TxtTags<'a> {
    /// `name=value` or a bare `name`, parted by `;`, white space around each passed over, a last `;` allowed.
    fn parse(text: &'a str) -> Result<Self, RecordError> {
        if text.len() > MAX_RECORD {
            return Err(RecordError::TooLong);
        }
        let mut tags: Vec<(&str, Option<&str>)> = Vec::new();
        let text = text.trim_end();
        for part in text.strip_suffix(';').unwrap_or(text).split(';').map(str::trim) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (part, None),
            };
            if name.is_empty() || tags.iter().any(|(seen, _)| *seen == name) {
                return Err(RecordError::Syntax("an empty or repeated tag".to_owned()));
            }
            tags.push((name, value));
        }
        Ok(Self(tags))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(found, _)| *found == name).and_then(|(_, value)| *value)
    }

    fn flag(&self, name: &str) -> bool {
        self.0.contains(&(name, None))
    }

    fn key_state(&self) -> Result<KeyState, RecordError> {
        let need = |name| self.get(name).ok_or(RecordError::Missing(name));
        let time = |name| {
            let text = need(name)?;
            // One text for one number, as everywhere.
            let read = text.parse::<u64>().ok().filter(|seconds| seconds.to_string() == text);
            read.ok_or(RecordError::Value(name))
        };
        // Whoever writes so means something by it: the key is not believed.
        if self.get("revoked").is_some() {
            return Err(RecordError::Value("revoked"));
        }
        active(need("a")?, need("p")?, time("nb")?, time("na")?)
    }
}

/// The one record among these that begins with `v=TBR1`.
fn the_record<'a>(records: impl IntoIterator<Item = &'a str>) -> Result<Option<TxtTags<'a>>, RecordError> {
    let mut ours = records.into_iter().filter(|text| is_tbr1(text));
    let Some(record) = ours.next() else { return Ok(None) };
    if ours.next().is_some() {
        return Err(RecordError::Ambiguous);
    }
    TxtTags::parse(record).map(Some)
}

fn is_tbr1(text: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    first.split_once('=').is_some_and(|(name, value)| name.trim() == "v" && value.trim() == "TBR1")
}

//! Identifiers: of objects, references, stores, queue entries; and the grant, which is a secret.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::base64url::{self, NotCanonical};

/// The name of an object: SHA-256 of its exact octets, written as 43 characters of base64url (TBR §2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Xuid([u8; 32]);

impl Xuid {
    /// The name of these octets.
    pub fn of(object: &[u8]) -> Self {
        let mut hasher = XuidHasher::default();
        hasher.update(object);
        hasher.finish()
    }

    /// From a digest that was computed elsewhere.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Computes a [`Xuid`] over octets that arrive in chunks.
#[derive(Clone)]
pub struct XuidHasher(digest::Context);

impl XuidHasher {
    /// Takes the next octets.
    pub fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// The name of all octets taken.
    pub fn finish(self) -> Xuid {
        let mut octets = [0; 32];
        octets.copy_from_slice(self.0.finish().as_ref());
        Xuid(octets)
    }
}

impl Default for XuidHasher {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl fmt::Debug for XuidHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XuidHasher")
    }
}

/// The random name of one reference: 16 octets, 22 characters (tag `i`, TBR §4). Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReferenceId(pub [u8; 16]);

/// The name of one store: two MXs without shared state have two. 16 random octets, kept for the life of
/// the store (TBR §6, claims).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(pub [u8; 16]);

/// The secret in a reference URI that permits fetching, claiming and reporting: 16 to 32 octets (TBR §2).
///
/// Compared in constant time, never printed by `Debug`; [`Grant::reveal`] gives its text.
#[derive(Clone, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant(Vec<u8>);

impl Grant {
    /// From 16 to 32 random octets; `None` for another length.
    pub fn new(octets: &[u8]) -> Option<Self> {
        (16..=32).contains(&octets.len()).then(|| Self(octets.to_vec()))
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text that stands in a URI. Only for the wire.
    pub fn reveal(&self) -> String {
        base64url::encode(&self.0)
    }

    /// What a ledger may index instead of the secret: SHA-256 of it, as text.
    pub fn fingerprint(&self) -> String {
        base64url::encode(digest::digest(&digest::SHA256, &self.0).as_ref())
    }
}

impl From<[u8; 16]> for Grant {
    fn from(octets: [u8; 16]) -> Self {
        Self(octets.to_vec())
    }
}

impl PartialEq for Grant {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(…)")
    }
}

impl FromStr for Grant {
    type Err = NotCanonical;
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        // The length check comes first: a peer's text must not make us decode megabytes.
        if !(22..=43).contains(&text.len()) {
            return Err(NotCanonical);
        }
        Self::new(&base64url::decode(text)?).ok_or(NotCanonical)
    }
}

impl TryFrom<String> for Grant {
    type Error = NotCanonical;
    fn try_from(text: String) -> Result<Self, NotCanonical> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.reveal()
    }
}

/// The name of one message in this server's queue: it stands in the 250 that accepted the message, in
/// Received fields and in every log line. 1 to 32 characters of `[0-9A-Za-z]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId(String);

/// The text is no queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a queue id has 1 to 32 letters and digits")]
pub struct NotQueueId;

impl QueueId {
    /// A new id from the time and ten random octets; ids sort by the millisecond they were drawn in.
    pub fn generate(now: crate::Timestamp, random: [u8; 8]) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let digit = |value: u64, place: u32| char::from(ALPHABET[(value >> (5 * place)) as usize & 31]);
        let (time, noise) = (now.as_millis(), u64::from_be_bytes(random));
        let text = (0..9).rev().map(|p| digit(time, p)).chain((0..7).map(|p| digit(noise, p)));
        Self(text.collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueId {
    type Err = NotQueueId;
    fn from_str(text: &str) -> Result<Self, NotQueueId> {
        let fine = (1..=32).contains(&text.len()) && text.bytes().all(|o| o.is_ascii_alphanumeric());
        if fine { Ok(Self(text.to_owned())) } else { Err(NotQueueId) }
    }
}

impl TryFrom<String> for QueueId {
    type Error = NotQueueId;
    fn try_from(text: String) -> Result<Self, NotQueueId> {
        text.parse()
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> Self {
        id.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Xuid {
    type Err = NotCanonical;
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        base64url::decode_array::<32>(text).map(Self)
    }
}

impl TryFrom<String> for Xuid {
    type Error = NotCanonical;
    fn try_from(text: String) -> Result<Self, NotCanonical> {
        text.parse()
    }
}

impl From<Xuid> for String {
    fn from(id: Xuid) -> Self {
        base64url::encode(&id.0)
    }
}

impl fmt::Display for Xuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for Xuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReferenceId {
    type Err = NotCanonical;
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        base64url::decode_array::<16>(text).map(Self)
    }
}

impl TryFrom<String> for ReferenceId {
    type Error = NotCanonical;
    fn try_from(text: String) -> Result<Self, NotCanonical> {
        text.parse()
    }
}

impl From<ReferenceId> for String {
    fn from(id: ReferenceId) -> Self {
        base64url::encode(&id.0)
    }
}

impl fmt::Display for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for InstanceId {
    type Err = NotCanonical;
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        base64url::decode_array::<16>(text).map(Self)
    }
}

impl TryFrom<String> for InstanceId {
    type Error = NotCanonical;
    fn try_from(text: String) -> Result<Self, NotCanonical> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        base64url::encode(&id.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_not_printed_and_has_a_size() {
        let grant = Grant::new(&[7; 16]).unwrap();
        assert!(!format!("{grant:?}").contains(&grant.reveal()));
        assert_eq!(grant.reveal().parse(), Ok(grant));
        for size in [0, 15, 33] {
            assert!(Grant::new(&vec![7; size]).is_none(), "{size}");
        }
    }

    #[test]
    fn a_queue_id_is_a_word() {
        let id = QueueId::generate(crate::Timestamp::from_secs(1_800_000_000), [0xff; 8]);
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in ["", "../x", "a b", "a\r\nb", "é", &"a".repeat(33)] {
            assert!(bad.parse::<QueueId>().is_err(), "{bad:?}");
        }
    }
}

//! Signature keys and signatures: Ed25519 (RFC 8032), under one name each so that an algorithm can be added.
//!
//! Leaves to others: what is signed (`reference`, `hop`), where keys are published (`keys`), where they are stored.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use mail::base64url::{self, NotCanonical};
use serde::{Deserialize, Serialize};

use crate::taglist::SyntaxError;

/// A signature algorithm (tag `a`, TBR §4.2). Revision 1 has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// Ed25519 (RFC 8032 §5.1), pure: no prehash, no context.
    #[default]
    Ed25519,
}

impl Algorithm {
    /// The text in tag `a` and in key records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
        }
    }

    /// How many octets a signature has.
    pub fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 => 64,
        }
    }

    /// Reads tag `a`; a well-formed name of another algorithm is told from nonsense.
    pub(crate) fn from_tag(text: &str) -> Result<Self, SyntaxError> {
        let word = |o: u8| o.is_ascii_lowercase() || o.is_ascii_digit() || o == b'-';
        match text {
            "ed25519" => Ok(Self::Ed25519),
            other if (1..=32).contains(&other.len()) && other.bytes().all(word) => {
                Err(SyntaxError::Algorithm(other.to_owned()))
            }
            _ => Err(SyntaxError::Value("a")),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of one key of a domain (tag `s`): DNS labels below `_tbr.<domain>`, in lower case, 1 to 63 octets in all.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(String);

/// The text is no selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a selector has 1 to 63 lower-case letters, digits and hyphens, in labels parted by dots")]
pub struct NotSelector;

impl Selector {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Selector {
    type Err = NotSelector;
    fn from_str(text: &str) -> Result<Self, NotSelector> {
        let label = |l: &str| {
            let inner = |o: u8| o.is_ascii_lowercase() || o.is_ascii_digit() || o == b'-';
            !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(inner)
        };
        let fine = text.len() <= 63 && text.split('.').all(label);
        if fine { Ok(Self(text.to_owned())) } else { Err(NotSelector) }
    }
}

impl TryFrom<String> for Selector {
    type Error = NotSelector;
    fn try_from(text: String) -> Result<Self, NotSelector> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.0
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The octets of a signature (tag `b`), of the length that its algorithm has.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// Takes octets whose length the algorithm allows.
    pub(crate) fn new(algorithm: Algorithm, octets: Vec<u8>) -> Result<Self, SyntaxError> {
        if octets.len() == algorithm.signature_len() { Ok(Self(octets)) } else { Err(SyntaxError::Value("b")) }
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

/// What went wrong with a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The octets are no private key of a known algorithm.
    #[error("not an Ed25519 private key in PKCS#8 form")]
    Rejected,
    /// The library refused to work: no randomness, or an internal fault.
    #[error("the cryptographic library failed")]
    Library,
}

/// A private key. `Debug` shows its public half only.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Draws a new key: the one function of this crate that takes randomness from the system.
    ///
    /// # Errors
    /// [`KeyError::Library`] where the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| KeyError::Library)
    }

    /// The key of a 32-octet seed (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`KeyError::Rejected`] where the library refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| KeyError::Rejected)
    }

    /// Reads an unencrypted PKCS#8 key, version 1 (as `openssl genpkey` writes) or 2 (RFC 8410).
    ///
    /// # Errors
    /// [`KeyError::Rejected`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_pkcs8(der).map(Self).map_err(|_| KeyError::Rejected)
    }

    /// The key as an unencrypted PKCS#8 version 1 document. Secret.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, KeyError> {
        self.0.to_pkcs8v1().map(|der| der.as_ref().to_vec()).map_err(|_| KeyError::Library)
    }

    /// The algorithm that this key signs with.
    pub fn algorithm(&self) -> Algorithm {
        Algorithm::Ed25519
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut octets = [0; 32];
        octets.copy_from_slice(self.0.public_key().as_ref());
        VerifyingKey(octets)
    }

    /// Signs octets.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        self.0.try_sign(message).map(|s| Signature(s.as_ref().to_vec())).map_err(|_| KeyError::Library)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key())
    }
}

/// A public key: 32 octets, 43 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// From its octets; whether they are a point of the curve shows at the first verification.
    pub fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Did the holder of this key sign these octets?
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature.as_bytes()).is_ok()
    }
}

impl FromStr for VerifyingKey {
    type Err = NotCanonical;
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        base64url::decode_array(text).map(Self)
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = NotCanonical;
    fn try_from(text: String) -> Result<Self, NotCanonical> {
        text.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_storage_and_agree_with_rfc8032() {
        // RFC 8032 §7.1, TEST 1: the empty message.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
            0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = SigningKey::from_seed(&seed).unwrap();
        assert_eq!(key.verifying_key().to_string(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        let signature = key.sign(b"").unwrap();
        assert_eq!(signature.as_bytes()[..4], [0xe5, 0x56, 0x43, 0x00]);
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.verifying_key(), key.verifying_key());
        assert!(key.verifying_key().verifies(b"", &signature));
        assert!(!key.verifying_key().verifies(b"x", &signature));
        assert_eq!(SigningKey::from_pkcs8(b"no key").unwrap_err(), KeyError::Rejected);
    }

    #[test]
    fn selectors() {
        for good in ["k1", "2026-11", "a.b"] {
            assert_eq!(good.parse::<Selector>().unwrap().as_str(), good);
        }
        for bad in ["", "K1", "-a", "a-", "a..b", "a_b", "a b", &"a".repeat(64)] {
            assert_eq!(bad.parse::<Selector>(), Err(NotSelector), "{bad:?}");
        }
    }
}

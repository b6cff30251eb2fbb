//! Signed requests: HTTP Message Signatures (RFC 9421) in the one form that TBR §6.2 allows, with the body's digest
//! (RFC 9530).
//!
//! What a signature covers is computed from the request and never copied from it: there is one text for one request.
//! Where keys come from, and which nonces were seen before, is `net`'s; whose signature a grant needs is the queue's.

mod fields;
mod signed_by;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::base64url::{self, NotCanonical};
use mail::{Domain, Timestamp};

use crate::keys::{KeyRecord, KeyUse, LABEL};
use crate::sign::{KeyError, NotSelector, Selector, Signature, SigningKey, VerifyingKey};
use crate::taglist::is_host_name;
use crate::upload::UPLOAD_OFFSET;
use crate::verify::MAX_LIFETIME;

pub use fields::{FieldError, Fields, parse};
pub use signed_by::SignedBy;

/// Header field of what is signed (RFC 9421 §4.1), lower case.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// Header field of the signatures (RFC 9421 §4.2).
pub const SIGNATURE: &str = "signature";
/// Header field of the body's digest (RFC 9530 §2).
pub const CONTENT_DIGEST: &str = "content-digest";
/// Parameter `tag` of every signature of TBR.
pub const TAG: &str = "tbr";
/// Parameter `alg` of every signature of revision 1.
pub const ALGORITHM: &str = "ed25519";
/// Most signatures in one request, those of other tags included.
pub const MAX_SIGNATURES: usize = 16;
/// Longest value of either field in octets.
pub const MAX_FIELD: usize = 12 * 1024;
/// How far `created` may lie from the repository's clock, on either side.
pub const WINDOW: Duration = Duration::from_secs(300);

/// The base point of the curve (RFC 8032 §5.1), encoded.
const BASE_POINT: [u8; 32] = {
    let mut octets = [0x66; 32];
    octets[0] = 0x58;
    octets
};

/// Between selector and domain in a key id.
const PARTING: &str = "._tbr.";

/// Parameter `keyid`: the DNS name of a key, `<selector>._tbr.<domain>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// Whose key.
    pub domain: Domain,
    /// Which of its keys.
    pub selector: Selector,
}

/// The text is no key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id is <selector>._tbr.<domain>, in lower case")]
pub struct NotKeyId;

impl From<NotSelector> for NotKeyId {
    fn from(_: NotSelector) -> Self {
        Self
    }
}

impl FromStr for KeyId {
    type Err = NotKeyId;
    fn from_str(text: &str) -> Result<Self, NotKeyId> {
        let (selector, name) = text.split_once(PARTING).ok_or(NotKeyId)?;
        let domain = Domain::parse(name).map_err(|_| NotKeyId)?;
        if domain.as_str() != name || !is_host_name(&domain) {
            return Err(NotKeyId);
        }
        Ok(Self { domain, selector: selector.parse()? })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{LABEL}.{}", self.selector, self.domain)
    }
}

/// Parameter `nonce`: 16 octets that no two signatures of a key share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 16]);

impl FromStr for Nonce {
    type Err = NotCanonical;
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        base64url::decode_array(text).map(Self)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

/// The value of `Content-Digest` for a body: SHA-256 alone.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, body)))
}

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `HEAD`, `POST` or `PATCH`.
    pub method: &'a str,
    /// The repository host, by the `Host` field, without its port.
    pub host: &'a Domain,
    /// Path and query as they stand in the request line.
    pub path_and_query: &'a str,
    /// The value of [`CONTENT_DIGEST`], which the caller has compared with the body; on POST only.
    pub content_digest: Option<&'a str>,
    /// The value of [`UPLOAD_OFFSET`], on PATCH only: octets need no digest of their own there, the whole has one.
    pub upload_offset: Option<u64>,
}

impl Request<'_> {
    /// The components that a signature of this request covers: names and values, in order.
    fn components(&self) -> Vec<(&'static str, String)> {
        let mut components = vec![
            ("@method", self.method.to_owned()),
            ("@target-uri", format!("https://{}{}", self.host, self.path_and_query)),
        ];
        components.extend(self.content_digest.map(|digest| (CONTENT_DIGEST, digest.to_owned())));
        components.extend(self.upload_offset.map(|offset| (UPLOAD_OFFSET, offset.to_string())));
        components
    }

    /// The octets that are signed (RFC 9421 §2.5); `parameters` is the value of the label in `Signature-Input`.
    pub fn signature_base(&self, parameters: &str) -> String {
        signature_base(&self.components(), parameters)
    }
}

fn signature_base(components: &[(&str, String)], parameters: &str) -> String {
    let lines = components.iter().map(|(name, value)| format!("\"{name}\": {value}\n"));
    lines.collect::<String>() + &format!("\"@signature-params\": {parameters}")
}

/// A domain's key, to sign requests with. Clones share it.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The name under which the domain publishes it.
    pub id: KeyId,
    /// The private key.
    pub key: Arc<SigningKey>,
}

/// Signs a request for each of these domains, `created` in whole seconds. Every nonce must be fresh.
///
/// # Errors
/// [`KeyError`] of the library. More than [`MAX_SIGNATURES`] are not read by anybody.
pub fn sign<'a>(
    request: &Request<'_>,
    signers: impl IntoIterator<Item = (&'a Signer, Nonce)>,
    created: Timestamp,
) -> Result<Fields, KeyError> {
    let mut fields = Fields::default();
    for (number, (signer, nonce)) in signers.into_iter().enumerate() {
        let parameters = fields::parameters(request, &signer.id, nonce, created);
        let signature = signer.key.sign(request.signature_base(&parameters).as_bytes())?;
        fields.push(number + 1, &parameters, &signature);
    }
    Ok(fields)
}

/// One signature of a request as it stands there: its form is good, and nothing else is known of it.
#[derive(Debug, Clone)]
pub struct Presented {
    /// Whose it claims to be.
    pub id: KeyId,
    /// When it was made.
    pub created: Timestamp,
    /// For the memory of replays.
    pub nonce: Nonce,
    components: Vec<String>,
    parameters: String,
    signature: Signature,
}

/// Why a signature of good form does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `created` is too old or too new.
    #[error("the signature was not created within 300 s of now")]
    NotTimely,
    /// The same for what is kept.
    #[error("the signature is over 30 days old, or of a time to come")]
    NotKept,
    /// It covers less, more, or in another order.
    #[error("the signature does not cover the components that this request needs")]
    Components,
    /// The key is revoked.
    #[error("the key is revoked")]
    Revoked,
    /// The key's signing window does not hold `created`.
    #[error("the key may not sign at that time")]
    OutsideWindow,
    /// Another request was signed, or by another key.
    #[error("the signature does not verify")]
    Wrong,
}

impl Presented {
    /// The value of its label in `Signature-Input`.
    pub fn parameters(&self) -> &str {
        &self.parameters
    }

    /// What can be judged without a key: time and coverage.
    ///
    /// # Errors
    /// [`Refusal::NotTimely`], [`Refusal::Components`].
    pub fn check(&self, request: &Request<'_>, now: Timestamp) -> Result<(), Refusal> {
        let apart = now.since(self.created).max(self.created.since(now));
        if apart > WINDOW {
            return Err(Refusal::NotTimely);
        }
        self.check_coverage(request)
    }

    /// The same for what is kept and carried (TBR §7.5): it may be as old as a reference may be.
    ///
    /// # Errors
    /// [`Refusal::NotKept`], [`Refusal::Components`].
    pub fn check_kept(&self, request: &Request<'_>, now: Timestamp) -> Result<(), Refusal> {
        if self.created.since(now) > WINDOW || now.since(self.created) > MAX_LIFETIME {
            return Err(Refusal::NotKept);
        }
        self.check_coverage(request)
    }

    fn check_coverage(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let needed = request.components();
        if !self.components.iter().eq(needed.iter().map(|(name, _)| name)) {
            return Err(Refusal::Components);
        }
        Ok(())
    }

    /// Did the holder of this key sign this request? After [`Presented::check`].
    ///
    /// # Errors
    /// The other [`Refusal`]s.
    pub fn verify(&self, request: &Request<'_>, key: &KeyRecord) -> Result<(), Refusal> {
        let key = match key.usable_at(self.created) {
            KeyUse::Usable(key) => key,
            KeyUse::Outside(_) => return Err(Refusal::OutsideWindow),
            KeyUse::Revoked => return Err(Refusal::Revoked),
        };
        let base = request.signature_base(&self.parameters);
        if key.verifies(base.as_bytes(), &self.signature) { Ok(()) } else { Err(Refusal::Wrong) }
    }

    /// Does the work of [`Presented::verify`] to no end, where there is no key to ask: whether a grant exists must not
    /// show in the time that an answer takes.
    pub fn verify_in_vain(&self, request: &Request<'_>) {
        let base = request.signature_base(&self.parameters);
        // Any point of the curve will do.
        let _ = VerifyingKey::from_bytes(BASE_POINT).verifies(base.as_bytes(), &self.signature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9421 appendix B.2.6, under the key of B.1.4.
    #[test]
    fn the_vector_of_the_rfc() {
        let der = STANDARD.decode("MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF").unwrap();
        let key = SigningKey::from_pkcs8(&der).unwrap();
        let components = [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("@method", "POST"),
            ("@path", "/foo"),
            ("@authority", "example.com"),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let parameters = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                          ;created=1618884473;keyid=\"test-key-ed25519\"";
        let signature = key.sign(signature_base(&components, parameters).as_bytes()).unwrap();
        let expected = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==";
        assert_eq!(STANDARD.encode(signature.as_bytes()), expected);
    }

    /// RFC 9530 appendix B.2 has this digest of `{"hello": "world"}` and a line feed.
    #[test]
    fn the_digest_of_the_rfc() {
        let expected = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        assert_eq!(content_digest(b"{\"hello\": \"world\"}\n"), expected);
    }
}

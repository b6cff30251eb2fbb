//! DKIM signatures of our own (RFC 6376, RFC 8463): made over content as it streams past; the same keys seal (`seal`).
//!
//! Which message is signed, and where the signatures are put, is the caller's. Keys come in as PKCS#8; the algorithm is the
//! key's.

use mail::{Domain, Timestamp};
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey};
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::streaming::DkimSigningStream;
use mail_auth::dkim::{Canonicalization, Done};
use policy::evidence::Verdict;
use reference::Selector;
use rustls::pki_types::PrivateKeyDer;

use super::content::Content;
use super::line_ends::LineEnds;
use super::seal::Sealer;

/// The fields that are signed, as often as they are there and once more: nobody adds another that readers would see (RFC 6376 §8.15).
const FIELDS: [&str; 12] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Reply-To",
];

/// What stands between header and body, as the library looks for it.
const END_OF_HEADER: &[u8; 4] = b"\r\n\r\n";

/// Signs for one domain, with each of its keys.
pub struct Signer {
    keys: Vec<mail_auth::dkim::DkimSigner<DkimKey, Done>>,
    sealer: Option<Sealer>,
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither an RSA key of at least 1024 bits nor an Ed25519 key (PKCS#8)")]
pub struct KeyFault;

/// A signature could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be signed: {0}")]
pub struct SigningFault(String);

impl SigningFault {
    pub(super) fn new(error: &mail_auth::Error) -> Self {
        Self(error.to_string())
    }
}

impl Signer {
    /// Keys by selector.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn new(domain: &Domain, keys: &[(Selector, Vec<u8>)]) -> Result<Self, KeyFault> {
        let signer = |(selector, pkcs8): &(Selector, Vec<u8>)| {
            let signer = mail_auth::dkim::DkimSigner::from_key(key(pkcs8)?).domain(domain.as_str());
            // The library takes a name once for all fields of it, and every further time as a field that is missing.
            let signer = signer.selector(selector.to_string()).headers(FIELDS.iter().chain(&FIELDS).copied());
            let relaxed = Canonicalization::Relaxed;
            Ok(signer.header_canonicalization(relaxed).body_canonicalization(relaxed))
        };
        Ok(Self { keys: keys.iter().map(signer).collect::<Result<_, _>>()?, sealer: sealer(domain, keys)? })
    }

    /// An ARC set (RFC 8617) over content that was read to be sealed, to stand above everything; empty where none may be added.
    /// `results`: the Authentication-Results field; `chain`: what was found of the chain so far.
    ///
    /// # Errors
    /// [`SigningFault`].
    pub fn seal(
        &self,
        content: &Content,
        results: &str,
        chain: Verdict,
        now: Timestamp,
    ) -> Result<String, SigningFault> {
        self.sealer.as_ref().map_or(Ok(String::new()), |sealer| sealer.seal(content, results, chain, now))
    }

    /// How many keys sign.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Begins to sign one message.
    pub fn begin(&self) -> Signing<'_> {
        let streams = self.keys.iter().map(mail_auth::dkim::DkimSigner::sign_streaming).collect();
        Signing { streams, end_of_header: 0, line_ends: LineEnds::default() }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} keys)", self.keys.len())
    }
}

/// A message that is being signed.
pub struct Signing<'a> {
    streams: Vec<DkimSigningStream<'a, DkimKey>>,
    /// How many octets of [`END_OF_HEADER`] came last, all of them once the body has begun.
    end_of_header: usize,
    line_ends: LineEnds,
}

impl Signing<'_> {
    /// Takes the next octets. The header is kept until its end.
    pub fn push(&mut self, chunk: &[u8]) {
        let (head, body) = chunk.split_at(self.of_header(chunk));
        if !head.is_empty() {
            self.streams.iter_mut().for_each(|stream| stream.write(head));
        }
        let streams = &mut self.streams;
        self.line_ends.push(body, |part| streams.iter_mut().for_each(|stream| stream.write(part)));
    }

    /// How much of a chunk belongs to the header, the empty line included.
    fn of_header(&mut self, chunk: &[u8]) -> usize {
        let (mut at, end) = (0, END_OF_HEADER.len());
        while self.end_of_header < end && at < chunk.len() {
            self.end_of_header = match chunk[at] {
                octet if octet == END_OF_HEADER[self.end_of_header] => self.end_of_header + 1,
                octet => usize::from(octet == END_OF_HEADER[0]),
            };
            at += 1;
        }
        at
    }

    /// The fields to stand on top of the message, with their CRLF.
    ///
    /// # Errors
    /// [`SigningFault`].
    pub fn finish(self) -> Result<String, SigningFault> {
        let signed = |stream: DkimSigningStream<'_, DkimKey>| stream.finish().map(|signature| signature.to_header());
        let fields: Result<Vec<String>, _> = self.streams.into_iter().map(signed).collect();
        fields.map(|fields| fields.concat()).map_err(|error| SigningFault::new(&error))
    }
}

/// RFC 8617 knows RSA only, and its verifiers: another key seals where there is no such.
fn sealer(domain: &Domain, keys: &[(Selector, Vec<u8>)]) -> Result<Option<Sealer>, KeyFault> {
    let mut found = None;
    for (selector, pkcs8) in keys {
        let key = key(pkcs8)?;
        let is_rsa = matches!(key, DkimKey::Rsa(_));
        if is_rsa || found.is_none() {
            found = Some(Sealer { domain: domain.clone(), selector: selector.clone(), key });
        }
        if is_rsa {
            break;
        }
    }
    Ok(found)
}

fn key(pkcs8: &[u8]) -> Result<DkimKey, KeyFault> {
    if let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8) {
        return Ok(DkimKey::Ed25519(key));
    }
    let key = RsaKey::from_key_der(PrivateKeyDer::Pkcs8(pkcs8.to_vec().into())).map_err(|_| KeyFault)?;
    Ok(DkimKey::Rsa(key))
}

/// The record that makes a key known (RFC 6376 §3.6.1, RFC 8463 §4).
///
/// # Errors
/// [`KeyFault`].
pub fn record(pkcs8: &[u8]) -> Result<String, KeyFault> {
    use base64::Engine as _;
    let encode = |octets: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(octets);
    Ok(match key(pkcs8)? {
        DkimKey::Ed25519(key) => format!("v=DKIM1; k=ed25519; p={}", encode(key.public_key())),
        DkimKey::Rsa(_) => format!("v=DKIM1; k=rsa; p={}", encode(rsa_public(pkcs8)?)),
    })
}

/// SubjectPublicKeyInfo, which is what every verifier takes.
fn rsa_public(pkcs8: &[u8]) -> Result<Vec<u8>, KeyFault> {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::signature::KeyPair as _;
    let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyFault)?;
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| KeyFault)?;
    Ok(der.as_ref().to_vec())
}

/// A new key of 2048 bits, PKCS#8.
///
/// # Errors
/// [`KeyFault`] where the library fails.
pub fn generate_rsa() -> Result<Vec<u8>, KeyFault> {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).map_err(|_| KeyFault)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyFault)?;
    Ok(der.as_ref().to_vec())
}

/// A new Ed25519 key, PKCS#8.
///
/// # Errors
/// [`KeyFault`] where the library fails.
pub fn generate_ed25519() -> Result<Vec<u8>, KeyFault> {
    Ed25519Key::generate_pkcs8().map_err(|_| KeyFault)
}

//! ARC sets of our own (RFC 8617 §5.1): what was found out about a message here, sealed for whoever gets it next.
//!
//! Whether a message is sealed at all, and where the set is put, is the caller's. Canonical forms and signatures are the
//! library's; the set is put together here, because its results are ours and because a chain that has failed is sealed by its last
//! set alone (RFC 8617 §5.1.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::{Domain, Timestamp};
use mail_auth::AuthenticatedMessage;
use mail_auth::arc::ChainValidation;
use mail_auth::common::crypto::{Algorithm, DkimKey, HashAlgorithm, SigningKey as _};
use mail_auth::dkim::Canonicalization;
use policy::evidence::Verdict;
use reference::Selector;

use super::content::Content;
use super::signatures;
use super::signer::SigningFault;

/// Most sets in a chain (RFC 8617 §4.2.1).
const MAX_SETS: u32 = 50;
/// The fields that are signed, as often as they are there: none that is added or changed on the way.
const FIELDS: [&str; 13] = [
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
    "DKIM-Signature",
];

/// Seals for one domain.
pub(super) struct Sealer {
    pub(super) domain: Domain,
    pub(super) selector: Selector,
    pub(super) key: DkimKey,
}

/// What a set of ours says, so that it can be made again of another form of the same message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Who sealed.
    pub domain: Domain,
    /// The whole Authentication-Results field.
    pub results: String,
    /// What was found of the chain below.
    pub chain: Verdict,
}

impl Sealed {
    /// The set that these fields begin with, in the order in which we write it; `None` where they begin otherwise.
    #[must_use]
    pub fn on_top_of(fields: &str) -> Option<Self> {
        let (seal, rest) = first_field(fields.strip_prefix("ARC-Seal:")?);
        let (_, rest) = first_field(rest.strip_prefix("ARC-Message-Signature:")?);
        let (results, _) = first_field(rest.strip_prefix("ARC-Authentication-Results:")?);
        let (_, results) = results.split_once(';')?;
        let tag = |wanted: &str| {
            let mut tags = seal.split(';').filter_map(|tag| tag.trim().split_once('='));
            tags.find_map(|(name, value)| (name == wanted).then_some(value))
        };
        let chain = match tag("cv")? {
            "none" => Verdict::None,
            "pass" => Verdict::Pass,
            _ => Verdict::Fail,
        };
        Some(Self { domain: tag("d")?.parse().ok()?, results: format!("Authentication-Results:{results}"), chain })
    }
}

/// The rest of a field, with its folded lines, and what follows it.
fn first_field(text: &str) -> (&str, &str) {
    let ends = text.match_indices("\r\n").map(|(at, end)| at + end.len());
    let end = ends.into_iter().find(|end| !text[*end..].starts_with([' ', '\t'])).unwrap_or(text.len());
    text.split_at(end)
}

/// A field, its name and its value with the line end.
type Field<'a> = (&'a [u8], &'a [u8]);

impl Sealer {
    /// The fields of one set, newest on top, to stand above everything; empty where no set may be added: the chain has failed
    /// before, is full, or cannot be judged now.
    ///
    /// `results` is the whole Authentication-Results field; `chain` what was found of the chain so far.
    pub(super) fn seal(
        &self,
        content: &Content,
        results: &str,
        chain: Verdict,
        now: Timestamp,
    ) -> Result<String, SigningFault> {
        let Some(message) = signatures::parse(&content.head) else { return Ok(String::new()) };
        let (Some(state), Some(body)) = (state(&message, chain), body_hash(content)) else { return Ok(String::new()) };
        let number = newest(&message) + 1;
        let Some(results) = results.strip_prefix("Authentication-Results:").filter(|_| number <= MAX_SETS) else {
            return Ok(String::new());
        };
        let results = format!(" i={number};{results}");
        let signature = self.signature(&message, number, body, now)?;
        let seal = self.seal_of(&message, number, state, (&results, &signature), now)?;
        Ok(format!("ARC-Seal:{seal}ARC-Message-Signature:{signature}ARC-Authentication-Results:{results}"))
    }

    /// The value of ARC-Message-Signature.
    fn signature(
        &self,
        message: &AuthenticatedMessage<'_>,
        number: u32,
        body: &[u8],
        now: Timestamp,
    ) -> Result<String, SigningFault> {
        let mut signed: Vec<Field<'_>> = message.headers.iter().copied().filter(is_signed).collect();
        // A verifier takes fields of one name from the bottom up.
        signed.reverse();
        let names: Vec<_> = signed.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        let unsigned = format!(
            " i={number}; a={}; c=relaxed/relaxed; d={}; s={}; t={};\r\n\th={};\r\n\tbh={};\r\n\tb=",
            self.algorithm(),
            self.domain,
            self.selector,
            now.as_secs(),
            names.join(":\r\n\t "),
            STANDARD.encode(body),
        );
        self.sign(signed.into_iter(), b"ARC-Message-Signature", unsigned)
    }

    /// The value of ARC-Seal over this set and, where the chain is whole, all sets below it.
    fn seal_of(
        &self,
        message: &AuthenticatedMessage<'_>,
        number: u32,
        state: ChainValidation,
        (results, signature): (&str, &str),
        now: Timestamp,
    ) -> Result<String, SigningFault> {
        let word = match state {
            ChainValidation::None => "none",
            ChainValidation::Pass => "pass",
            ChainValidation::Fail => "fail",
        };
        let below = if state == ChainValidation::Pass { sets(message) } else { Vec::new() };
        let own: [Field<'_>; 2] =
            [(b"ARC-Authentication-Results", results.as_bytes()), (b"ARC-Message-Signature", signature.as_bytes())];
        let unsigned = format!(
            " i={number}; a={}; cv={word}; d={}; s={}; t={};\r\n\tb=",
            self.algorithm(),
            self.domain,
            self.selector,
            now.as_secs(),
        );
        self.sign(below.into_iter().chain(own), b"ARC-Seal", unsigned)
    }

    /// Signs fields and the field itself, whose value ends with `b=`; answers the whole value, folded.
    fn sign<'a>(
        &self,
        fields: impl Iterator<Item = Field<'a>>,
        name: &[u8],
        mut value: String,
    ) -> Result<String, SigningFault> {
        let mut text: Vec<u8> = Vec::new();
        Canonicalization::Relaxed.canonicalize_headers(fields, &mut text);
        let mut own = Vec::new();
        let ended = format!("{value}\r\n");
        Canonicalization::Relaxed.canonicalize_headers([(name, ended.as_bytes())].into_iter(), &mut own);
        // The field itself goes without its line end.
        text.extend_from_slice(own.strip_suffix(b"\r\n").unwrap_or(&own));
        let signature = self.key.sign(text.as_slice()).map_err(|error| SigningFault::new(&error))?;
        let signature = STANDARD.encode(signature);
        // Base64 is ASCII: every octet is a character.
        let lines: Vec<_> = signature.as_bytes().chunks(72).map(String::from_utf8_lossy).collect();
        value.push_str(&lines.join("\r\n\t "));
        value.push_str("\r\n");
        Ok(value)
    }

    fn algorithm(&self) -> &'static str {
        match self.key.algorithm() {
            Algorithm::Ed25519Sha256 => "ed25519-sha256",
            _ => "rsa-sha256",
        }
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({} of {})", self.selector, self.domain)
    }
}

/// What the next seal says of the chain below it; nothing where none may follow (RFC 8617 §5.1).
fn state(message: &AuthenticatedMessage<'_>, chain: Verdict) -> Option<ChainValidation> {
    let has_failed = message.as_headers.iter().any(|seal| seal.header.cv == ChainValidation::Fail);
    match chain {
        _ if has_failed => None,
        Verdict::None => Some(ChainValidation::None),
        Verdict::Pass => Some(ChainValidation::Pass),
        Verdict::TempError => None,
        _ => Some(ChainValidation::Fail),
    }
}

fn newest(message: &AuthenticatedMessage<'_>) -> u32 {
    let seals = message.as_headers.iter().map(|field| field.header.i);
    let signatures = message.ams_headers.iter().map(|field| field.header.i);
    let results = message.aar_headers.iter().map(|field| field.header.i);
    seals.chain(signatures).chain(results).max().unwrap_or(0).min(MAX_SETS)
}

/// The sets of a whole chain, oldest first; the library keeps them in order.
fn sets<'a>(message: &AuthenticatedMessage<'a>) -> Vec<Field<'a>> {
    let signatures = message.ams_headers.iter().zip(&message.as_headers);
    let sets = message.aar_headers.iter().zip(signatures);
    let fields = sets.flat_map(|(results, (signature, seal))| {
        [(results.name, results.value), (signature.name, signature.value), (seal.name, seal.value)]
    });
    fields.collect()
}

fn is_signed((name, _): &Field<'_>) -> bool {
    FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

fn body_hash(content: &Content) -> Option<&[u8]> {
    let relaxed = |(form, algorithm, _): &&(Canonicalization, HashAlgorithm, Vec<u8>)| {
        *form == Canonicalization::Relaxed && *algorithm == HashAlgorithm::Sha256
    };
    content.hashes.iter().find(relaxed).map(|(_, _, hash)| hash.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_set_on_top_is_ours_and_says_what_it_said() {
        let results = " mx.f.example;\r\n\tspf=pass smtp.mailfrom=a.example\r\n";
        let set = |cv: &str| {
            format!(
                "ARC-Seal: i=2; a=rsa-sha256; cv={cv}; d=f.example; s=s1; t=1;\r\n\tb=AAAA\r\n\t d=x.example\r\n\
                 ARC-Message-Signature: i=2; d=f.example;\r\n\tb=\r\n\
                 ARC-Authentication-Results: i=2;{results}"
            )
        };
        for (cv, chain) in [("none", Verdict::None), ("pass", Verdict::Pass), ("fail", Verdict::Fail)] {
            let domain = "f.example".parse().unwrap();
            let said = Sealed { domain, results: format!("Authentication-Results:{results}"), chain };
            assert_eq!(Sealed::on_top_of(&format!("{}Received: x\r\n", set(cv))), Some(said));
        }
        for other in ["", "Received: x\r\n", "ARC-Seal: i=1; cv=none; d=f.example\r\n", &set("none")[..60]] {
            assert_eq!(Sealed::on_top_of(other), None, "{other}");
        }
        assert_eq!(Sealed::on_top_of(&format!("Received: x\r\n{}", set("none"))), None);
    }
}

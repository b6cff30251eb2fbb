//! `TBR-Reference`: the origin's signed statement about one object for one recipient domain (TBR §4).
//!
//! Model, encoding, signing and the bare signature check. Whether a reference may be believed in a session is decided
//! by `verify`; the fields above it (`TBR-Hop`) are `hop`'s.

use aws_lc_rs::digest::{Context, SHA256};
use mail::{Address, Domain, ReferenceId, Timestamp, Xuid};

use crate::recipients::{RecipientsHash, length};
use crate::sign::{Algorithm, KeyError, Selector, Signature, SigningKey, VerifyingKey};
use crate::taglist::{MAX_SIZE, SyntaxError, Tag, TagReader, canonical_text, encode_field};
use crate::uri::Uri;

/// The field's name.
pub const FIELD: &str = "TBR-Reference";
const KNOWN: &[&str] = &["v", "d", "s", "a", "i", "o", "l", "t", "e", "to", "f", "rh", "b"];
const KEY_LABEL: &[u8] = b"tbr-key-1\0";

/// What the origin states, before it is signed: every tag but `b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// `d`: the signing domain.
    pub domain: Domain,
    /// `s`: which of its keys.
    pub selector: Selector,
    /// `a`.
    pub algorithm: Algorithm,
    /// `i`: the name of this reference.
    pub id: ReferenceId,
    /// `o`: the object.
    pub xuid: Xuid,
    /// `l`: the object's size in octets, 1 to 2^53 − 1.
    pub size: u64,
    /// `t`: issued, whole seconds.
    pub issued: Timestamp,
    /// `e`: expires, whole seconds.
    pub expires: Timestamp,
    /// `to`: the recipient domain.
    pub to: Domain,
    /// `f`: the MAIL FROM mailbox; `None` is the null sender.
    pub mail_from: Option<Address>,
    /// `rh`.
    pub recipients: RecipientsHash,
}

impl Statement {
    /// The text that is signed, without the label before it (TBR §4.3).
    pub fn canonical(&self) -> String {
        canonical_text(&self.tags())
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`KeyError`] where the library fails.
    pub fn sign(self, key: &SigningKey) -> Result<Reference, KeyError> {
        let signature = key.sign(&signature_input(FIELD, &self.canonical()))?;
        Ok(Reference { statement: self, signature })
    }

    fn tags(&self) -> Vec<Tag> {
        vec![
            Tag::plain("v", 1),
            Tag::plain("d", &self.domain),
            Tag::plain("s", &self.selector),
            Tag::plain("a", self.algorithm),
            Tag::binary("i", &self.id.0),
            Tag::binary("o", self.xuid.as_bytes()),
            Tag::plain("l", self.size),
            Tag::plain("t", self.issued.as_secs()),
            Tag::plain("e", self.expires.as_secs()),
            Tag::plain("to", &self.to),
            Tag::binary("f", mailbox_octets(self.mail_from.as_ref())),
            Tag::binary("rh", self.recipients.as_bytes()),
        ]
    }
}

/// A well-formed reference. That it parsed says nothing of whether its signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    statement: Statement,
    signature: Signature,
}

impl Reference {
    /// Reads the field's value: what follows `TBR-Reference:`, folded or not, without the final CRLF.
    ///
    /// # Errors
    /// [`SyntaxError`] says what is wrong with which tag.
    pub fn parse(value: &[u8]) -> Result<Self, SyntaxError> {
        let mut tags = TagReader::new(value, KNOWN)?;
        read_revision(&mut tags)?;
        let domain = tags.domain("d")?;
        let selector = tags.canonical("s")?;
        let algorithm = Algorithm::from_tag(tags.plain("a")?)?;
        let statement = Statement {
            domain,
            selector,
            algorithm,
            id: ReferenceId(tags.octets("i")?),
            xuid: Xuid::from_digest(tags.octets("o")?),
            size: read_size(&mut tags)?,
            issued: tags.time("t")?,
            expires: tags.time("e")?,
            to: tags.domain("to")?,
            mail_from: read_mailbox(&mut tags)?,
            recipients: RecipientsHash::from_bytes(tags.octets("rh")?),
        };
        let signature = Signature::new(algorithm, tags.binary("b")?)?;
        tags.finish()?;
        Ok(Self { statement, signature })
    }

    /// The header field, folded, with its final CRLF.
    pub fn encode(&self) -> String {
        let mut tags = self.statement.tags();
        tags.push(Tag::binary("b", self.signature.as_bytes()));
        encode_field(FIELD, &tags)
    }

    /// What it states.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// `b`.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Did the holder of this key sign exactly this statement?
    #[must_use]
    pub fn signed_by(&self, key: &VerifyingKey) -> bool {
        key.verifies(&signature_input(FIELD, &self.statement.canonical()), &self.signature)
    }

    /// What an offer is recognised by when it comes again (TBR §4.5).
    pub fn idempotence_key(&self, uri: &Uri) -> IdempotenceKey {
        IdempotenceKey::compute(&self.statement.canonical(), &self.signature, uri)
    }
}

/// The name of one offer: a hash over canonical text, signature and URI of its topmost signed field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotenceKey([u8; 32]);

impl IdempotenceKey {
    pub(crate) fn compute(canonical: &str, signature: &Signature, uri: &Uri) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(KEY_LABEL);
        for part in [canonical.as_bytes(), signature.as_bytes(), uri.reveal().as_bytes()] {
            hash.update(&length(part.len()));
            hash.update(part);
        }
        let mut octets = [0; 32];
        octets.copy_from_slice(hash.finish().as_ref());
        Self(octets)
    }

    /// From a ledger's octets.
    pub fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What is signed: the field's name, a colon, the canonical text.
pub(crate) fn signature_input(field: &str, canonical: &str) -> Vec<u8> {
    [field, ":", canonical].concat().into_bytes()
}

pub(crate) fn read_revision(tags: &mut TagReader<'_>) -> Result<(), SyntaxError> {
    match tags.plain("v")? {
        "1" => Ok(()),
        other if (1..=8).contains(&other.len()) && other.bytes().all(|o| o.is_ascii_digit()) => {
            Err(SyntaxError::Revision(other.to_owned()))
        }
        _ => Err(SyntaxError::Value("v")),
    }
}

/// The octets behind tag `f`: the mailbox as in MAIL FROM, its domain in lower-case A-labels; none for `<>`.
pub(crate) fn mailbox_octets(mailbox: Option<&Address>) -> &[u8] {
    mailbox.map(|m| m.as_str().as_bytes()).unwrap_or_default()
}

pub(crate) fn read_mailbox(tags: &mut TagReader<'_>) -> Result<Option<Address>, SyntaxError> {
    let octets = tags.binary("f")?;
    if octets.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(octets).map_err(|_| SyntaxError::Value("f"))?;
    let mailbox = Address::parse(&text).map_err(|_| SyntaxError::Value("f"))?;
    // A mailbox has one text only, so that two references cannot name it in two ways.
    if mailbox.as_str() == text && mailbox.domain().is_some() {
        Ok(Some(mailbox))
    } else {
        Err(SyntaxError::Value("f"))
    }
}

fn read_size(tags: &mut TagReader<'_>) -> Result<u64, SyntaxError> {
    let size = tags.canonical("l")?;
    if (1..=MAX_SIZE).contains(&size) { Ok(size) } else { Err(SyntaxError::Value("l")) }
}

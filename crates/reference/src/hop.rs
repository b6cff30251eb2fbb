//! `TBR-Hop`: what one relay states on top of a reference (TBR §7), and the chain that hops and reference form.
//!
//! Here: model, encoding, signing, and the pure rules that hold a chain together. Sessions, clocks against *now* and
//! key windows are `verify`'s; what a relay does is the queue's.

use aws_lc_rs::digest::{SHA256, digest};
use mail::{Address, Domain, ReferenceId, Timestamp};

use crate::recipients::RecipientsHash;
use crate::reference::{IdempotenceKey, Reference, mailbox_octets, read_mailbox, read_revision, signature_input};
use crate::sign::{Algorithm, KeyError, Selector, Signature, SigningKey, VerifyingKey};
use crate::taglist::{SyntaxError, Tag, TagReader, canonical_text, encode_field};
use crate::uri::Uri;

/// The field's name.
pub const FIELD: &str = "TBR-Hop";
/// Most hops of one message (TBR §3.4).
pub const MAX_HOPS: u16 = 100;
const KNOWN: &[&str] = &["v", "n", "d", "s", "a", "i", "p", "to", "f", "rh", "g", "at", "t", "e", "b"];

/// How a relay passed the message on (TBR §7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HopMode {
    /// It took custody and serves the object itself, at this host (tag `at`).
    Custody(Domain),
    /// It only delegated: the object stays where the field below says (neither `at` nor `g`).
    Reference,
    /// It sent the object itself; the opener of `rh` travels with it (tag `g`).
    Value([u8; 16]),
}

/// What a relay states, before it is signed: every tag but `b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopStatement {
    /// `n`: 1 for the hop next to the reference, one more for each above.
    pub number: u16,
    /// `d`: this relay's domain.
    pub domain: Domain,
    /// `s`.
    pub selector: Selector,
    /// `a`.
    pub algorithm: Algorithm,
    /// `i`: the name of this hop, as `i` names a reference.
    pub id: ReferenceId,
    /// `p`: SHA-256 of the signature in the field below.
    pub previous: [u8; 32],
    /// `to`: the next recipient domain.
    pub to: Domain,
    /// `f`: the same as in the reference.
    pub mail_from: Option<Address>,
    /// `rh` of the relay's own transaction.
    pub recipients: RecipientsHash,
    /// `at`, `g`, or neither.
    pub mode: HopMode,
    /// `t`.
    pub issued: Timestamp,
    /// `e`.
    pub expires: Timestamp,
}

impl HopStatement {
    /// The text that is signed, without the label before it.
    pub fn canonical(&self) -> String {
        canonical_text(&self.tags())
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`KeyError`] where the library fails.
    pub fn sign(self, key: &SigningKey) -> Result<Hop, KeyError> {
        let signature = key.sign(&signature_input(FIELD, &self.canonical()))?;
        Ok(Hop { statement: self, signature })
    }

    fn tags(&self) -> Vec<Tag> {
        let mut tags = vec![
            Tag::plain("v", 1),
            Tag::plain("n", self.number),
            Tag::plain("d", &self.domain),
            Tag::plain("s", &self.selector),
            Tag::plain("a", self.algorithm),
            Tag::binary("i", &self.id.0),
            Tag::binary("p", &self.previous),
            Tag::plain("to", &self.to),
            Tag::binary("f", mailbox_octets(self.mail_from.as_ref())),
            Tag::binary("rh", self.recipients.as_bytes()),
        ];
        match &self.mode {
            HopMode::Custody(host) => tags.push(Tag::plain("at", host)),
            HopMode::Value(opener) => tags.push(Tag::binary("g", opener)),
            HopMode::Reference => {}
        }
        tags.push(Tag::plain("t", self.issued.as_secs()));
        tags.push(Tag::plain("e", self.expires.as_secs()));
        tags
    }
}

/// A well-formed hop. That it parsed says nothing of whether its signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    statement: HopStatement,
    signature: Signature,
}

impl Hop {
    /// Reads the field's value: what follows `TBR-Hop:`, folded or not, without the final CRLF.
    ///
    /// # Errors
    /// [`SyntaxError`] says what is wrong with which tag.
    pub fn parse(value: &[u8]) -> Result<Self, SyntaxError> {
        let mut tags = TagReader::new(value, KNOWN)?;
        read_revision(&mut tags)?;
        let number = read_number(&mut tags)?;
        let domain = tags.domain("d")?;
        let selector = tags.canonical("s")?;
        let algorithm = Algorithm::from_tag(tags.plain("a")?)?;
        let statement = HopStatement {
            number,
            domain,
            selector,
            algorithm,
            id: ReferenceId(tags.octets("i")?),
            previous: tags.octets("p")?,
            to: tags.domain("to")?,
            mail_from: read_mailbox(&mut tags)?,
            recipients: RecipientsHash::from_bytes(tags.octets("rh")?),
            mode: read_mode(&mut tags)?,
            issued: tags.time("t")?,
            expires: tags.time("e")?,
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

    /// All of it in one line: the text that is signed, `;b=` and the signature.
    pub fn canonical(&self) -> String {
        let mut tags = self.statement.tags();
        tags.push(Tag::binary("b", self.signature.as_bytes()));
        canonical_text(&tags)
    }

    /// What it states.
    pub fn statement(&self) -> &HopStatement {
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
}

fn read_number(tags: &mut TagReader<'_>) -> Result<u16, SyntaxError> {
    let number = tags.canonical("n")?;
    if (1..=MAX_HOPS).contains(&number) { Ok(number) } else { Err(SyntaxError::Value("n")) }
}

fn read_mode(tags: &mut TagReader<'_>) -> Result<HopMode, SyntaxError> {
    if tags.next_is("g") {
        return tags.octets("g").map(HopMode::Value);
    }
    if tags.next_is("at") {
        return tags.domain("at").map(HopMode::Custody);
    }
    Ok(HopMode::Reference)
}

/// How hops and reference fail to form a chain (TBR §7.2). The number is that of the hop at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Over [`MAX_HOPS`].
    #[error("there are more than {MAX_HOPS} hops")]
    TooLong,
    /// `n` does not count up from the reference.
    #[error("hop {0} is not numbered by its place")]
    Number(u16),
    /// `p` is not the hash of the signature below.
    #[error("hop {0} does not continue the field below it")]
    Previous(u16),
    /// `d` is not the `to` of the field below.
    #[error("hop {0} is signed by another domain than the field below names")]
    Domain(u16),
    /// `f` changed.
    #[error("hop {0} changes the sender")]
    Sender(u16),
    /// `t` outside the lifetime of the field below, or `e` not after `t`.
    #[error("hop {0} was not made within the lifetime of the field below it")]
    Time(u16),
    /// A delegation on top of a by-value hop: there is no repository to delegate to.
    #[error("hop {0} delegates an object that was sent by value")]
    Mode(u16),
}

/// Hops, newest first, and the reference below them: linked as §7.2 asks, signatures not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    hops: Vec<Hop>,
    reference: Reference,
}

impl Chain {
    /// Checks the links.
    ///
    /// # Errors
    /// [`ChainError`] names the lowest hop that does not fit.
    pub fn new(hops: Vec<Hop>, reference: Reference) -> Result<Self, ChainError> {
        if hops.len() > usize::from(MAX_HOPS) {
            return Err(ChainError::TooLong);
        }
        let chain = Self { hops, reference };
        let mut below = Link::Reference(&chain.reference);
        for (number, hop) in (1..).zip(chain.hops.iter().rev()) {
            check_link(number, hop, below)?;
            below = Link::Hop(hop);
        }
        Ok(chain)
    }

    /// The hops, newest first.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// The reference at the bottom.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The newest signed field: what a session is compared with.
    pub fn topmost(&self) -> Link<'_> {
        self.hops.first().map_or(Link::Reference(&self.reference), Link::Hop)
    }

    /// Every signed field, newest first.
    pub fn links(&self) -> impl Iterator<Item = Link<'_>> {
        self.hops.iter().map(Link::Hop).chain(std::iter::once(Link::Reference(&self.reference)))
    }

    /// The field whose domain answers for the repository host: the newest custodian, else the origin. `None` where the
    /// newest hop came by value and there is no repository.
    pub fn repository(&self) -> Option<Link<'_>> {
        let link = self.links().find(|link| link.mode() != Some(&HopMode::Reference))?;
        if matches!(link.mode(), Some(HopMode::Value(_))) { None } else { Some(link) }
    }

    /// Did the origin (or the custodian at its bottom) delegate every hop, so that a pass may name the origin (§9)?
    pub fn only_delegated(&self) -> bool {
        self.hops.iter().all(|hop| hop.statement.mode == HopMode::Reference)
    }

    /// The fields as they stand in a block or above an object.
    pub fn encode(&self) -> String {
        let hops: String = self.hops.iter().map(Hop::encode).collect();
        hops + &self.reference.encode()
    }
}

fn check_link(number: u16, hop: &Hop, below: Link<'_>) -> Result<(), ChainError> {
    let stated = &hop.statement;
    let lifetime = below.issued()..=below.expires();
    let checks = [
        (stated.number == number, ChainError::Number(number)),
        (stated.previous == below.signature_hash(), ChainError::Previous(number)),
        (stated.domain == *below.to(), ChainError::Domain(number)),
        (stated.mail_from.as_ref() == below.mail_from(), ChainError::Sender(number)),
        (lifetime.contains(&stated.issued) && stated.issued < stated.expires, ChainError::Time(number)),
        (!delegates_a_value(stated, below), ChainError::Mode(number)),
    ];
    checks.into_iter().find(|(fine, _)| !fine).map_or(Ok(()), |(_, error)| Err(error))
}

fn delegates_a_value(hop: &HopStatement, below: Link<'_>) -> bool {
    hop.mode == HopMode::Reference && matches!(below.mode(), Some(HopMode::Value(_)))
}

/// One signed field of a chain, whichever kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link<'a> {
    /// The reference.
    Reference(&'a Reference),
    /// A hop.
    Hop(&'a Hop),
}

impl<'a> Link<'a> {
    /// `d`.
    pub fn domain(self) -> &'a Domain {
        match self {
            Self::Reference(r) => &r.statement().domain,
            Self::Hop(h) => &h.statement.domain,
        }
    }

    /// `s`.
    pub fn selector(self) -> &'a Selector {
        match self {
            Self::Reference(r) => &r.statement().selector,
            Self::Hop(h) => &h.statement.selector,
        }
    }

    /// `i`.
    pub fn id(self) -> ReferenceId {
        match self {
            Self::Reference(r) => r.statement().id,
            Self::Hop(h) => h.statement.id,
        }
    }

    /// `to`.
    pub fn to(self) -> &'a Domain {
        match self {
            Self::Reference(r) => &r.statement().to,
            Self::Hop(h) => &h.statement.to,
        }
    }

    /// `f`.
    pub fn mail_from(self) -> Option<&'a Address> {
        match self {
            Self::Reference(r) => r.statement().mail_from.as_ref(),
            Self::Hop(h) => h.statement.mail_from.as_ref(),
        }
    }

    /// `rh`.
    pub fn recipients(self) -> RecipientsHash {
        match self {
            Self::Reference(r) => r.statement().recipients,
            Self::Hop(h) => h.statement.recipients,
        }
    }

    /// `t`.
    pub fn issued(self) -> Timestamp {
        match self {
            Self::Reference(r) => r.statement().issued,
            Self::Hop(h) => h.statement.issued,
        }
    }

    /// `e`.
    pub fn expires(self) -> Timestamp {
        match self {
            Self::Reference(r) => r.statement().expires,
            Self::Hop(h) => h.statement.expires,
        }
    }

    /// `b`.
    pub fn signature(self) -> &'a Signature {
        match self {
            Self::Reference(r) => r.signature(),
            Self::Hop(h) => &h.signature,
        }
    }

    /// The text that was signed.
    pub fn canonical(self) -> String {
        match self {
            Self::Reference(r) => r.statement().canonical(),
            Self::Hop(h) => h.statement.canonical(),
        }
    }

    /// Did the holder of this key sign it?
    #[must_use]
    pub fn signed_by(self, key: &VerifyingKey) -> bool {
        match self {
            Self::Reference(r) => r.signed_by(key),
            Self::Hop(h) => h.signed_by(key),
        }
    }

    /// What tag `p` of the hop above must hold.
    pub fn signature_hash(self) -> [u8; 32] {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest(&SHA256, self.signature().as_bytes()).as_ref());
        octets
    }

    /// What an offer is recognised by when it comes again.
    pub fn idempotence_key(self, uri: &Uri) -> IdempotenceKey {
        IdempotenceKey::compute(&self.canonical(), self.signature(), uri)
    }

    /// How a relay passed it on; `None` for the reference.
    pub fn mode(self) -> Option<&'a HopMode> {
        match self {
            Self::Reference(_) => None,
            Self::Hop(h) => Some(&h.statement.mode),
        }
    }
}

//! The ordered checks of an offer (TBR §3.5), cheapest first, network last. Pure: look-ups happen between the stages,
//! made by the caller.
//!
//! 1. *Syntax* ([`Parsed::new`]): line and block are well-formed, the count is the number of hops, the URI names the
//!    object of the reference, the hops link.
//! 2. *Clock*: issued not later than now (300 s of skew allowed), not expired, lifetime and age at most 30 days.
//! 3. *Sender*: `f` is MAIL FROM; `d` is its domain or an ancestor of it that is no public suffix.
//! 4. *Recipient domain*: `to` is ours, and every RCPT is in it.
//! 5. *Size*: `l` within our limit.
//! 6. *Recipients*: `rh` is that of this session. Stages 2 to 6 are [`Parsed::match_session`].
//!    An entry of what a custodian says is pending (TBR §7.4) differs in stage 3 alone: [`Parsed::match_pending`].
//! 7. Local policy, reputation, budgets, then looking up the keys of `d`: the caller's.
//! 8. *Authority* ([`Matched::verify`]): an ancestor says `sub=y`; the key exists, is not revoked, and its window
//!    holds `t`.
//! 9. *Signature*.
//! 10. Seen before: the caller's ledger, by [`Verified::idempotence_key`].
//! 11. *Host*: one of the domain's hosts, and within the domain or consenting ([`Consent`]).
//!
//! Only [`Verified`] gives away the URI to connect to, and only these stages make one: nobody connects to a
//! repository on the word of a reference whose signature was not checked.

use std::time::Duration;

use mail::{Address, Domain, EnhancedStatus, ReferenceId, Timestamp, Xuid};

use crate::block::{Block, BlockError, LineError, OfferLine};
use crate::codes::{self, Code};
use crate::hop::{Chain, ChainError, HopMode, Link};
use crate::keys::{Assurance, DomainFacts, KeyUse, consent_name};
use crate::recipients::RecipientsHash;
use crate::reference::{IdempotenceKey, Reference};
use crate::sign::{Selector, VerifyingKey};
use crate::taglist::SyntaxError;
use crate::uri::Uri;

/// How far the clocks of two domains may differ (TBR §3.5).
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);
/// Longest lifetime of a field, and greatest age of a reference (TBR §4.2).
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whose fault a refusal is: who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server that made this offer sent something malformed or for another session.
    Client,
    /// The domain that signed the reference, or what it publishes.
    Signer,
    /// Nobody, or this server: a limit or a policy here.
    Receiver,
    /// Not to be told: clocks differ, or something could not be looked up.
    Unknown,
}

/// Why an offer is refused. Displays as one plain sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The TBR line.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The forwarding count is not the number of hops.
    #[error("the forwarding count is {said}, the block has {found} hops")]
    Count {
        /// In the TBR line.
        said: u16,
        /// In the block.
        found: usize,
    },
    /// The URI names another object than the reference.
    #[error("the URI names another object than the reference")]
    OtherXuid,
    /// `t` is later than now and the skew.
    #[error("the reference is not valid yet: the clocks of {domain} and of this server differ by over 5 minutes")]
    NotYetValid {
        /// Tag `d`.
        domain: Domain,
    },
    /// `e` has passed.
    #[error("the reference of {domain} has expired")]
    Expired {
        /// Tag `d`.
        domain: Domain,
    },
    /// `e` is not after `t`, over 30 days after it, or the reference is over 30 days old.
    #[error("the reference of {domain} lives longer than 30 days, or ends before it begins")]
    Lifetime {
        /// Tag `d`.
        domain: Domain,
    },
    /// `f` is not MAIL FROM.
    #[error("the reference was made for another sender")]
    OtherSender,
    /// `d` is neither the domain of MAIL FROM nor an ancestor that could answer for it.
    #[error("{signer} does not answer for senders in {sender}")]
    Signer {
        /// Tag `d`.
        signer: Domain,
        /// The domain of MAIL FROM.
        sender: Domain,
    },
    /// `d` is an ancestor, but its record does not say `sub=y`.
    #[error("the record of {signer} does not let it sign for domains below it")]
    NoSub {
        /// Tag `d`.
        signer: Domain,
    },
    /// `to` is not a domain that this server takes mail for.
    #[error("the reference was made for {0}, which is not served here")]
    NotOurs(Domain),
    /// A RCPT is not in `to`.
    #[error("a recipient is not in {0}, for which the reference was made")]
    OtherRecipientDomain(Domain),
    /// `l` is over the limit.
    #[error("the message has {size} octets, the limit is {limit}")]
    TooLarge {
        /// Tag `l`.
        size: u64,
        /// Ours.
        limit: u64,
    },
    /// `rh` is not that of this session's recipients.
    #[error("the reference was made for other recipients")]
    OtherRecipients,
    /// The topmost hop came by value: there is nothing to retrieve.
    #[error("the newest hop was sent by value, there is nothing to retrieve")]
    NoRepository,
    /// The domain has no key of this name, as far as is known.
    #[error("{domain} publishes no key {selector}")]
    UnknownKey {
        /// Tag `d`.
        domain: Domain,
        /// Tag `s`.
        selector: Selector,
    },
    /// The key is revoked.
    #[error("key {selector} of {domain} is revoked")]
    KeyRevoked {
        /// Tag `d`.
        domain: Domain,
        /// Tag `s`.
        selector: Selector,
    },
    /// `t` is outside the key's window.
    #[error("key {selector} of {domain} could not sign at that time")]
    KeyWindow {
        /// Tag `d`.
        domain: Domain,
        /// Tag `s`.
        selector: Selector,
    },
    /// The signature does not verify.
    #[error("the signature of {domain} does not verify")]
    Signature {
        /// Tag `d`.
        domain: Domain,
    },
    /// The host is none of the domain's, or the URI's is not the one that the custodian signed.
    #[error("{host} is not a repository of {domain}")]
    Host {
        /// In the URI.
        host: Domain,
        /// Whose object it is.
        domain: Domain,
    },
    /// The host lies outside the domain and does not say that it serves it.
    #[error("{host} does not consent to serve {domain}")]
    NoConsent {
        /// In the URI.
        host: Domain,
        /// Whose object it is.
        domain: Domain,
    },
    /// The same `d` and `i` with another content.
    #[error("{domain} has used this reference id before, for something else")]
    IdReused {
        /// Tag `d`.
        domain: Domain,
    },
    /// Nothing that the domain publishes can be believed.
    #[error("what {domain} publishes cannot be authenticated")]
    NoAssurance {
        /// Tag `d`.
        domain: Domain,
    },
}

impl Refusal {
    /// Who has to change something.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Line(_) | Self::Block(_) | Self::Count { .. } | Self::OtherXuid | Self::NoRepository => Fault::Client,
            Self::OtherSender | Self::NotOurs(_) | Self::OtherRecipientDomain(_) | Self::OtherRecipients => {
                Fault::Client
            }
            Self::NotYetValid { .. } | Self::UnknownKey { .. } | Self::NoAssurance { .. } => Fault::Unknown,
            Self::TooLarge { .. } => Fault::Receiver,
            Self::Expired { .. } | Self::Lifetime { .. } | Self::Signer { .. } | Self::NoSub { .. } => Fault::Signer,
            Self::KeyRevoked { .. } | Self::KeyWindow { .. } | Self::Signature { .. } => Fault::Signer,
            Self::Host { .. } | Self::NoConsent { .. } | Self::IdReused { .. } => Fault::Signer,
        }
    }

    /// Its row in the table of codes.
    pub fn code(&self) -> &'static Code {
        match self {
            Self::Line(LineError::Loop) => &codes::LOOP,
            Self::Line(_) | Self::Count { .. } | Self::OtherXuid => &codes::BAD_LINE,
            Self::Block(error) => block_code(error),
            Self::NotYetValid { .. } => &codes::NOT_YET_VALID,
            Self::Expired { .. } | Self::Lifetime { .. } => &codes::NOT_VALID_NOW,
            Self::Signer { .. } | Self::NoSub { .. } => &codes::BAD_SIGNER,
            Self::OtherSender | Self::NotOurs(_) | Self::OtherRecipientDomain(_) | Self::OtherRecipients => {
                &codes::OTHER_TRANSACTION
            }
            Self::TooLarge { .. } => &codes::TOO_LARGE,
            Self::NoRepository => &codes::BAD_CHAIN,
            Self::UnknownKey { .. } => &codes::UNKNOWN_KEY,
            Self::KeyRevoked { .. } | Self::KeyWindow { .. } => &codes::BAD_KEY,
            Self::Signature { .. } => &codes::BAD_SIGNATURE,
            Self::Host { .. } | Self::NoConsent { .. } => &codes::BAD_HOST,
            Self::IdReused { .. } => &codes::ID_REUSED,
            Self::NoAssurance { .. } => &codes::NO_ASSURANCE,
        }
    }

    /// The reply: code, enhanced code, and one sentence. Holds no grant and no address.
    pub fn reply(&self) -> (u16, EnhancedStatus, String) {
        let code = self.code();
        (code.reply, code.status, self.to_string())
    }
}

fn block_code(error: &BlockError) -> &'static Code {
    match error {
        BlockError::Hop(SyntaxError::Revision(_)) | BlockError::Reference(SyntaxError::Revision(_)) => &codes::REVISION,
        BlockError::Hop(SyntaxError::Algorithm(_)) | BlockError::Reference(SyntaxError::Algorithm(_)) => {
            &codes::ALGORITHM
        }
        BlockError::Chain(ChainError::TooLong) => &codes::LOOP,
        BlockError::Chain(_) => &codes::BAD_CHAIN,
        _ => &codes::BAD_BLOCK,
    }
}

/// The transaction that an offer is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// MAIL FROM; `None` is the null sender.
    pub mail_from: Option<&'a Address>,
    /// Every RCPT in the order sent, refused ones included.
    pub recipients: &'a [Address],
}

/// What the receiving server knows and allows.
#[derive(Clone, Copy)]
pub struct Receiver<'a> {
    /// The time.
    pub now: Timestamp,
    /// Largest message in octets.
    pub max_size: u64,
    /// Does this server take mail for that domain?
    pub is_ours: &'a dyn Fn(&Domain) -> bool,
}

/// An offer that is well-formed. Nothing in it is to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    uri: Uri,
    block: Block,
}

impl Parsed {
    /// Stage 1 on the arguments of the TBR line and the octets of the block.
    ///
    /// # Errors
    /// [`Refusal::Line`], [`Refusal::Block`], [`Refusal::Count`], [`Refusal::OtherXuid`], [`Refusal::NoRepository`].
    pub fn new(arguments: &str, block: &[u8]) -> Result<Self, Refusal> {
        let line = OfferLine::parse(arguments)?;
        let block = Block::parse(block)?;
        let chain = block.chain();
        let found = chain.hops().len();
        if usize::from(line.count) != found {
            return Err(Refusal::Count { said: line.count, found });
        }
        if chain.reference().statement().xuid != line.uri.xuid {
            return Err(Refusal::OtherXuid);
        }
        if chain.repository().is_none() {
            return Err(Refusal::NoRepository);
        }
        Ok(Self { uri: line.uri, block })
    }

    /// Which domain's keys decide, should the session match: for budgets and prefetching.
    pub fn signer(&self) -> &Domain {
        self.topmost().domain()
    }

    /// Tag `i` of the topmost field.
    pub fn id(&self) -> ReferenceId {
        self.topmost().id()
    }

    /// The object's name, as claimed.
    pub fn xuid(&self) -> Xuid {
        self.reference().statement().xuid
    }

    /// Octets of the object, as claimed.
    pub fn size(&self) -> u64 {
        self.reference().statement().size
    }

    /// Until when the topmost field lets it be claimed, as claimed.
    pub fn expires(&self) -> Timestamp {
        self.topmost().expires()
    }

    /// Stages 2 to 6.
    ///
    /// # Errors
    /// The [`Refusal`] of the first check that fails.
    pub fn match_session(self, session: &Session<'_>, receiver: &Receiver<'_>) -> Result<Matched, Refusal> {
        self.matched(session, receiver, check_sender)
    }

    /// The same for an entry of what a custodian says is pending (TBR §7.4). There the recipient domain itself may have
    /// signed, by the key that it has delegated to its custodian, for a sender that it cannot speak for: what came to the
    /// custodian by value.
    ///
    /// # Errors
    /// The [`Refusal`] of the first check that fails.
    pub fn match_pending(self, session: &Session<'_>, receiver: &Receiver<'_>) -> Result<Matched, Refusal> {
        self.matched(session, receiver, check_pending_sender)
    }

    /// Does the recipient domain sign for a sender that it cannot speak for? Only [`Parsed::match_pending`] lets that
    /// pass.
    pub fn is_by_value_before(&self) -> bool {
        is_by_value_before(self.topmost())
    }

    /// See [`Matched::needed_keys`].
    fn keys(&self) -> Vec<(Domain, Selector)> {
        self.vouching().map(|link| (link.domain().clone(), link.selector().clone())).collect()
    }

    /// The fields whose signatures decide: from the topmost down to the first that is no delegation.
    fn vouching(&self) -> impl Iterator<Item = Link<'_>> {
        let chain = self.block.chain();
        let delegations = chain.links().take_while(|link| link.mode() == Some(&HopMode::Reference)).count();
        chain.links().take(delegations + 1)
    }

    fn matched(
        self,
        session: &Session<'_>,
        receiver: &Receiver<'_>,
        check_sender: fn(Link<'_>, Option<&Address>) -> Result<(), Refusal>,
    ) -> Result<Matched, Refusal> {
        check_clock(self.block.chain(), receiver.now)?;
        check_sender(self.topmost(), session.mail_from)?;
        self.check_recipient_domain(session, receiver)?;
        let size = self.reference().statement().size;
        if size > receiver.max_size {
            return Err(Refusal::TooLarge { size, limit: receiver.max_size });
        }
        self.check_recipients(session)?;
        Ok(Matched(self))
    }

    fn reference(&self) -> &Reference {
        self.block.chain().reference()
    }

    fn topmost(&self) -> Link<'_> {
        self.block.chain().topmost()
    }

    fn check_recipient_domain(&self, session: &Session<'_>, receiver: &Receiver<'_>) -> Result<(), Refusal> {
        let to = self.topmost().to();
        if !(receiver.is_ours)(to) {
            return Err(Refusal::NotOurs(to.clone()));
        }
        // A bare postmaster is of whatever domain the session is about (RFC 5321 §4.5.1).
        let belongs = |address: &Address| address.host().is_empty() || address.host() == to.as_str();
        if session.recipients.iter().all(belongs) { Ok(()) } else { Err(Refusal::OtherRecipientDomain(to.clone())) }
    }

    fn check_recipients(&self, session: &Session<'_>) -> Result<(), Refusal> {
        let link = self.topmost();
        let computed = RecipientsHash::compute(&self.uri.grant, &link.id(), session.recipients);
        if computed == link.recipients() { Ok(()) } else { Err(Refusal::OtherRecipients) }
    }
}

/// Stage 2. The times of the fields below chain ([`Chain::new`]), so the topmost one and the age of the reference are enough.
///
/// # Errors
/// [`Refusal::Lifetime`], [`Refusal::NotYetValid`], [`Refusal::Expired`].
pub(crate) fn check_clock(chain: &Chain, now: Timestamp) -> Result<(), Refusal> {
    let link = chain.topmost();
    let domain = link.domain().clone();
    let (issued, expires) = (link.issued(), link.expires());
    let born = chain.reference().statement().issued;
    if expires <= issued || expires.since(issued) > MAX_LIFETIME || now.since(born) > MAX_LIFETIME {
        return Err(Refusal::Lifetime { domain });
    }
    if issued > now.after(CLOCK_SKEW) {
        return Err(Refusal::NotYetValid { domain });
    }
    if now >= expires { Err(Refusal::Expired { domain }) } else { Ok(()) }
}

/// `f` is MAIL FROM, and where the reference itself is topmost, its domain may answer for that sender. A hop's domain
/// is the recipient domain of the field below instead, which the chain has checked.
fn check_sender(link: Link<'_>, mail_from: Option<&Address>) -> Result<(), Refusal> {
    if link.mail_from() != mail_from {
        return Err(Refusal::OtherSender);
    }
    let (Link::Reference(_), Some(mail_from)) = (link, mail_from) else { return Ok(()) };
    let signer = link.domain();
    // Tag f holds no mailbox without a domain.
    let sender = mail_from.domain().ok_or(Refusal::OtherSender)?;
    if sender == *signer || (sender.is_within(signer) && !signer.is_public_suffix()) {
        return Ok(());
    }
    Err(Refusal::Signer { signer: signer.clone(), sender })
}

/// The sender of an entry of what is pending: the signature may be the recipient domain's own.
fn check_pending_sender(link: Link<'_>, mail_from: Option<&Address>) -> Result<(), Refusal> {
    match check_sender(link, mail_from) {
        Err(Refusal::Signer { .. }) if is_by_value_before(link) => Ok(()),
        other => other,
    }
}

fn is_by_value_before(link: Link<'_>) -> bool {
    let sender = link.mail_from().and_then(Address::domain);
    let speaks_for = sender.is_none_or(|sender| sender.is_within(link.domain()));
    matches!(link, Link::Reference(_)) && link.domain() == link.to() && !speaks_for
}

/// An offer that belongs to this session, should its signature be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched(Parsed);

impl Matched {
    /// The domain whose facts [`Matched::verify`] needs.
    pub fn signer(&self) -> &Domain {
        self.0.signer()
    }

    /// The key that it needs.
    pub fn selector(&self) -> &Selector {
        self.0.topmost().selector()
    }

    /// Tag `i` of the topmost field.
    pub fn id(&self) -> ReferenceId {
        self.0.topmost().id()
    }

    /// Tag `to` of the topmost field: which of our domains.
    pub fn to(&self) -> &Domain {
        self.0.topmost().to()
    }

    /// Size of the object in octets, as claimed.
    pub fn size(&self) -> u64 {
        self.0.reference().statement().size
    }

    /// Whose keys must be known, by which name: the topmost field's, and where that is a delegation, those of the
    /// fields below it down to the one whose repository it names. What lies deeper cannot make the offer invalid.
    pub fn needed_keys(&self) -> Vec<(Domain, Selector)> {
        self.0.keys()
    }

    /// Stages 8, 9 and 11 for an offer that needs one domain's facts: any but a delegated one.
    ///
    /// # Errors
    /// The [`Refusal`] of the first check that fails.
    pub fn verify(self, facts: &DomainFacts, assurance: Assurance) -> Result<Outcome, Refusal> {
        self.verify_with(&|domain| (*domain == facts.domain).then_some((facts, assurance)))
    }

    /// The same with the facts of every domain among [`Matched::needed_keys`].
    ///
    /// # Errors
    /// The [`Refusal`] of the first check that fails; [`Refusal::NoAssurance`] where facts are missing.
    pub fn verify_with<'f>(self, known: &KnownFacts<'f, '_>) -> Result<Outcome, Refusal> {
        let mut verifying = self.begin();
        while let Some((domain, _)) = verifying.wants() {
            let missing = || Refusal::NoAssurance { domain: domain.clone() };
            let (facts, assurance) = known(&domain).ok_or_else(missing)?;
            verifying.check(facts, assurance)?;
        }
        verifying.finish()
    }

    /// The same step by step, for whoever looks keys up on the way.
    pub fn begin(self) -> Verifying {
        Verifying { offer: self.0, checked: 0, assurance: Assurance::Dnssec }
    }
}

/// An offer whose signatures are being checked, from the topmost down: no key is looked up on the word of a field whose own
/// signature, or that of a field above it, was not found good.
#[derive(Debug)]
pub struct Verifying {
    offer: Parsed,
    /// Fields whose signatures are good.
    checked: usize,
    /// The weakest of their keys.
    assurance: Assurance,
}

impl Verifying {
    /// Whose facts are needed next, with which key; `None`: [`Verifying::finish`].
    pub fn wants(&self) -> Option<(Domain, Selector)> {
        self.offer.vouching().nth(self.checked).map(|link| (link.domain().clone(), link.selector().clone()))
    }

    /// Checks the field that wanted these.
    ///
    /// # Errors
    /// The [`Refusal`] of the first check that fails.
    pub fn check(&mut self, facts: &DomainFacts, assurance: Assurance) -> Result<(), Refusal> {
        let mut rest = self.offer.vouching().skip(self.checked);
        let Some(link) = rest.next() else { return Ok(()) };
        if !link.signed_by(check_authority(link, facts)?) {
            return Err(Refusal::Signature { domain: link.domain().clone() });
        }
        if rest.next().is_none() {
            check_host(&self.offer.uri.host, link, facts)?;
        }
        self.checked += 1;
        self.assurance = self.assurance.min(assurance);
        Ok(())
    }

    /// Where all of them are good.
    ///
    /// # Errors
    /// [`Refusal::NoAssurance`] where one was not checked.
    pub fn finish(self) -> Result<Outcome, Refusal> {
        if let Some((domain, _)) = self.wants() {
            return Err(Refusal::NoAssurance { domain });
        }
        let server = self.offer.vouching().last().map(|link| link.domain().clone()).ok_or(Refusal::NoRepository)?;
        let within = self.offer.uri.host.is_within(&server);
        let verified = Verified { offer: self.offer, assurance: self.assurance };
        Ok(if within { Outcome::Verified(verified) } else { Outcome::NeedsConsent(Consent { verified, server }) })
    }
}

/// Looks up what is known of a domain.
pub type KnownFacts<'f, 'a> = dyn Fn(&Domain) -> Option<(&'f DomainFacts, Assurance)> + 'a;

/// May this field's domain speak for its sender, and which key of it must have signed?
fn check_authority<'f>(link: Link<'_>, facts: &'f DomainFacts) -> Result<&'f VerifyingKey, Refusal> {
    if facts.domain != *link.domain() {
        return Err(Refusal::NoAssurance { domain: link.domain().clone() });
    }
    let by_ancestor =
        link.mail_from().and_then(Address::domain).is_some_and(|d| d != facts.domain && d.is_within(&facts.domain));
    if matches!(link, Link::Reference(_)) && by_ancestor && !facts.sub {
        return Err(Refusal::NoSub { signer: facts.domain.clone() });
    }
    usable_key(link, facts)
}

/// Is this host a repository of the domain that signed this field?
fn check_host(host: &Domain, link: Link<'_>, facts: &DomainFacts) -> Result<(), Refusal> {
    let signed = match link.mode() {
        Some(HopMode::Custody(at)) => at == host,
        _ => true,
    };
    if signed && facts.repo.contains(host) {
        return Ok(());
    }
    Err(Refusal::Host { host: host.clone(), domain: facts.domain.clone() })
}

/// The key that signed a field, if it may have: published, not revoked, and good at the time.
///
/// # Errors
/// [`Refusal::UnknownKey`], [`Refusal::KeyRevoked`], [`Refusal::KeyWindow`].
pub fn usable_key<'f>(link: Link<'_>, facts: &'f DomainFacts) -> Result<&'f VerifyingKey, Refusal> {
    let (domain, selector) = (link.domain().clone(), link.selector().clone());
    match facts.key(&selector).map(|record| record.usable_at(link.issued())) {
        None => Err(Refusal::UnknownKey { domain, selector }),
        Some(KeyUse::Revoked) => Err(Refusal::KeyRevoked { domain, selector }),
        Some(KeyUse::Outside(_)) => Err(Refusal::KeyWindow { domain, selector }),
        Some(KeyUse::Usable(key)) => Ok(key),
    }
}

/// What is left to do after the signature was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Verified(Verified),
    /// The host lies outside the signing domain: ask whether it consents.
    NeedsConsent(Consent),
}

/// A reference with a good signature whose host has not been authorised yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    verified: Verified,
    /// The domain that signed the field which the host belongs to.
    server: Domain,
}

impl Consent {
    /// The name whose TXT records say whether the host serves this domain; `None` where it would be too long, which
    /// is a no.
    pub fn name(&self) -> Option<Domain> {
        consent_name(&self.server, &self.verified.offer.uri.host).ok()
    }

    /// To recognise a repeated offer before the name is asked for.
    pub fn idempotence_key(&self) -> IdempotenceKey {
        self.verified.idempotence_key()
    }

    /// Takes the answer.
    ///
    /// # Errors
    /// [`Refusal::NoConsent`] where it was no.
    pub fn answer(self, consents: bool) -> Result<Verified, Refusal> {
        if consents {
            return Ok(self.verified);
        }
        Err(Refusal::NoConsent { host: self.verified.offer.uri.host, domain: self.server })
    }
}

/// A verified reference: signed by its domain for this session, its host authorised. Nothing else makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    offer: Parsed,
    assurance: Assurance,
}

impl Verified {
    /// Where the object may be retrieved.
    pub fn uri(&self) -> &Uri {
        &self.offer.uri
    }

    /// The block, exact octets, to be stored above the object.
    pub fn block(&self) -> &Block {
        &self.offer.block
    }

    /// The origin's reference at the bottom: object, size.
    pub fn reference(&self) -> &Reference {
        self.offer.reference()
    }

    /// The topmost signed field: id, lifetime, sender, recipients.
    pub fn topmost(&self) -> Link<'_> {
        self.offer.topmost()
    }

    /// See [`Parsed::is_by_value_before`].
    pub fn is_by_value_before(&self) -> bool {
        self.offer.is_by_value_before()
    }

    /// Whose keys it was verified with.
    pub fn signer(&self) -> &Domain {
        self.offer.signer()
    }

    /// How sure it is that those keys are the domain's.
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// With which keys of which domains it was verified: the topmost field's first.
    pub fn keys(&self) -> Vec<(Domain, Selector)> {
        self.offer.keys()
    }

    /// By what the offer is recognised when it comes again. The same signer and id under another key is
    /// [`Refusal::IdReused`].
    pub fn idempotence_key(&self) -> IdempotenceKey {
        self.offer.topmost().idempotence_key(&self.offer.uri)
    }
}

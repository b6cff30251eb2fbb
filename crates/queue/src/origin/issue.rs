//! Issuing a reference: the signed statement, its URI and block, and the indexes that can be claimed from now on.
//!
//! For a message that was submitted here the statement is a `TBR-Reference`. For one that came by reference and goes on to
//! another domain it is a `TBR-Hop` by custody on top of the fields that came (TBR §7).

use mail::ledger::{Inbound, Issued, Leg, ObjectRef, note};
use mail::{Address, Assurance, Domain, Grant, ReferenceId, Timestamp};
use reference::hop::{HopMode, HopStatement, Link, MAX_HOPS};
use reference::sign::KeyError;
use reference::{Block, RecipientsHash, Statement, Uri};

use crate::config::{Signer, Timers};
use crate::custody::{self, turn};
use crate::flow::Random;
use crate::origin::leg;

/// Longest life of a reference (TBR §4.3).
const MAX_LIFETIME: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// The random parts of a reference.
pub(crate) struct Drawn {
    id: ReferenceId,
    grant: Grant,
}

/// Why no reference could be issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error("the message has no content any more")]
    NoObject,
    #[error("signing failed: {0}")]
    Key(#[from] KeyError),
    #[error("the random grant has a wrong length")]
    Grant,
}

impl Drawn {
    pub(crate) fn draw(random: &mut Random) -> Result<Self, IssueError> {
        let grant = Grant::new(&random.octets::<16>()).ok_or(IssueError::Grant)?;
        Ok(Self { id: ReferenceId(random.octets()), grant })
    }
}

/// Who signs, and what the new field stands on.
pub(crate) struct Signing<'a> {
    pub(crate) signer: &'a Signer,
    /// Nothing at the origin.
    pub(crate) below: Option<Below>,
}

/// The fields by which a message came: what the hop of a relay stands on.
pub(crate) struct Below(Block);

impl Below {
    /// `None` where no hop can stand on them: their time is over, or there are too many of them.
    pub(crate) fn of(inbound: &Inbound, now: Timestamp, timers: &Timers) -> Option<Self> {
        let below = Self(Block::parse(inbound.block.as_bytes()).ok()?);
        let has_room = below.0.chain().hops().len() < usize::from(MAX_HOPS);
        let in_time = below.issue_time(now) <= below.topmost().expires();
        let can_live = now.after(timers.shortest_reference) <= below.last_end();
        (has_room && in_time && can_live).then_some(below)
    }

    fn topmost(&self) -> Link<'_> {
        self.0.chain().topmost()
    }

    /// A clock that is behind must not make the chain look made in the wrong order (TBR §7.2).
    fn issue_time(&self, now: Timestamp) -> Timestamp {
        whole_second(now).max(self.topmost().issued())
    }

    /// Is there enough left of the field below to be claimed under?
    pub(crate) fn can_be_delegated(&self, now: Timestamp, timers: &Timers) -> bool {
        now.after(timers.shortest_reference) <= self.topmost().expires()
    }

    /// No hop makes a reference live longer than this (TBR §7.2).
    fn last_end(&self) -> Timestamp {
        self.0.chain().reference().statement().issued.after(MAX_LIFETIME)
    }

    /// These fields with a hop on top that says how the message goes on.
    fn add_hop(
        &self,
        signer: &Signer,
        mode: HopMode,
        (id, to, recipients): Named<'_>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Signed, KeyError> {
        let (top, issued) = (self.topmost(), self.issue_time(now));
        let expires = expires.min(self.last_end());
        let statement = HopStatement {
            number: u16::try_from(self.0.chain().hops().len() + 1).unwrap_or(MAX_HOPS),
            domain: signer.domain.clone(),
            selector: signer.selector.clone(),
            algorithm: signer.key.algorithm(),
            id,
            previous: top.signature_hash(),
            to: to.clone(),
            mail_from: top.mail_from().cloned(),
            recipients,
            mode,
            issued,
            expires,
        };
        let hop = statement.sign(&signer.key)?.encode();
        Ok(Signed { block: hop + self.0.as_str(), issued, expires })
    }
}

/// The fields above the content of one by value transaction to one recipient: with a hop that opens itself to whoever
/// reads it there, and no grant (TBR §7.3).
///
/// # Errors
/// [`KeyError`] where the library fails.
pub(crate) fn above_value(
    signer: &Signer,
    below: &Below,
    to: &Address,
    random: &mut Random,
    now: Timestamp,
    timers: &Timers,
) -> Result<Option<String>, KeyError> {
    let Some(domain) = to.domain() else { return Ok(None) };
    let (id, opener) = (ReferenceId(random.octets()), random.octets::<16>());
    let hash = RecipientsHash::compute_opened(&opener, &id, [to]);
    let expires = whole_second(now.after(timers.reference_lifetime.min(MAX_LIFETIME)));
    let signed = below.add_hop(signer, HopMode::Value(opener), (id, &domain, hash), now, expires)?;
    Ok(Some(signed.block))
}

/// A hop by reference for these recipients at another domain (TBR §7.3): the object stays at `uri`, under a grant of its own.
/// It does not outlive the field below it, whose origin keeps custody until it is claimed.
pub(crate) fn hop_by_reference(
    signer: &Signer,
    below: &Below,
    (to, recipients): (&Domain, &[&Address]),
    uri: &str,
    drawn: Result<Drawn, IssueError>,
    now: Timestamp,
    timers: &Timers,
) -> Result<Issued, IssueError> {
    let Drawn { id, grant } = drawn?;
    let hash = RecipientsHash::compute(&grant, &id, recipients.iter().copied());
    let expires = whole_second(now.after(timers.reference_lifetime)).min(below.topmost().expires());
    let Signed { block, issued, expires } = below.add_hop(signer, HopMode::Reference, (id, to, hash), now, expires)?;
    let uri = Uri { grant: grant.clone(), ..Uri::parse(uri).map_err(|_| IssueError::NoObject)? }.reveal();
    Ok(Issued {
        id,
        signer: signer.domain.clone(),
        to: to.clone(),
        grant,
        uri,
        block,
        positions: (0u16..).take(recipients.len()).collect(),
        issued,
        expires,
        bound: None,
        acted: Vec::new(),
        delegated: None,
    })
}

/// For whom a reference is, and how surely the keys are known that its grant is bound to (TBR §6.2).
pub(crate) struct For {
    pub(crate) to: Domain,
    pub(crate) positions: Vec<u16>,
    pub(crate) bound: Option<Assurance>,
}

/// Signs a reference, or a hop, for these recipients in this order, and makes their indexes claimable. Nothing may be
/// offered before the row is durable.
pub(crate) fn issue(
    leg: &mut Leg,
    signing: &Signing<'_>,
    For { to, positions, bound }: For,
    drawn: Result<Drawn, IssueError>,
    now: Timestamp,
    timers: &Timers,
) -> Result<ReferenceId, IssueError> {
    let Drawn { id, grant } = drawn?;
    let object = leg.object.as_ref().ok_or(IssueError::NoObject)?;
    let addresses: Vec<&Address> =
        positions.iter().filter_map(|p| Some(&leg.recipients.get(usize::from(*p))?.recipient.address)).collect();
    let hash = RecipientsHash::compute(&grant, &id, addresses);
    let lifetime = if leg::is_for_site(leg) { timers.site_lifetime } else { timers.reference_lifetime };
    let lifetime = lifetime.min(MAX_LIFETIME);
    let expires = whole_second(now.after(lifetime).min(leg.expires));
    let Signed { block, issued, expires } = match &signing.below {
        None => sign_reference(leg, object, signing.signer, (id, &to, hash), whole_second(now), expires)?,
        Some(below) => {
            let mode = HopMode::Custody(signing.signer.repository.clone());
            below.add_hop(signing.signer, mode, (id, &to, hash), now, expires)?
        }
    };
    let uri = Uri { host: signing.signer.repository.clone(), xuid: object.xuid, grant: grant.clone() }.reveal();
    for (position, index) in positions.iter().zip(0u16..) {
        if let Some(recipient) = leg.recipients.get_mut(usize::from(*position)) {
            turn(&mut recipient.state, |state| custody::offer(state, id, index));
        }
    }
    let count = positions.len();
    let binding = bound.map(|level| format!(", bound to the keys of {to} ({level})")).unwrap_or_default();
    note(&mut leg.steps, now, "issued", format!("reference {id} to {to} for {count} recipient(s){binding}"), None);
    let signer = signing.signer.domain.clone();
    let acted = Vec::new();
    let delegated = None;
    leg.issued.reserve_exact(1);
    leg.issued.push(Issued { id, signer, to, grant, uri, block, positions, issued, expires, bound, acted, delegated });
    Ok(id)
}

/// A block with its newest field's lifetime.
struct Signed {
    block: String,
    issued: Timestamp,
    expires: Timestamp,
}

/// What names an offer: its id, the recipient domain, the recipients.
type Named<'a> = (ReferenceId, &'a Domain, RecipientsHash);

fn sign_reference(
    leg: &Leg,
    object: &ObjectRef,
    signer: &Signer,
    (id, to, recipients): Named<'_>,
    issued: Timestamp,
    expires: Timestamp,
) -> Result<Signed, KeyError> {
    let statement = Statement {
        domain: signer.domain.clone(),
        selector: signer.selector.clone(),
        algorithm: signer.key.algorithm(),
        id,
        xuid: object.xuid,
        size: object.size,
        issued,
        expires,
        to: to.clone(),
        mail_from: leg.mail_from.clone(),
        recipients,
    };
    Ok(Signed { block: statement.sign(&signer.key)?.encode(), issued, expires })
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.as_secs())
}

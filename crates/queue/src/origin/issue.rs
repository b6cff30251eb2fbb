//! Issuing a reference: the signed statement, its URI and block, and the indexes that can be claimed from now on.

use mail::ledger::{Issued, Leg, note};
use mail::{Address, Domain, Grant, ReferenceId, Timestamp};
use reference::sign::KeyError;
use reference::{RecipientsHash, Statement, Uri};

use crate::config::{Signer, Timers};
use crate::custody::{self, turn};
use crate::flow::Random;

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

/// Signs a reference for these recipients, in this order, and makes their indexes claimable. Nothing may be offered
/// before the row is durable.
pub(crate) fn issue(
    leg: &mut Leg,
    signer: &Signer,
    to: Domain,
    positions: Vec<u16>,
    drawn: Result<Drawn, IssueError>,
    now: Timestamp,
    timers: &Timers,
) -> Result<ReferenceId, IssueError> {
    let Drawn { id, grant } = drawn?;
    let object = leg.object.as_ref().ok_or(IssueError::NoObject)?;
    let lifetime = timers.reference_lifetime.min(MAX_LIFETIME);
    let expires = whole_second(now.after(lifetime).min(leg.expires));
    let addresses: Vec<&Address> =
        positions.iter().filter_map(|p| Some(&leg.recipients.get(usize::from(*p))?.recipient.address)).collect();
    let statement = Statement {
        domain: signer.domain.clone(),
        selector: signer.selector.clone(),
        algorithm: signer.key.algorithm(),
        id,
        xuid: object.xuid,
        size: object.size,
        issued: whole_second(now),
        expires,
        to: to.clone(),
        mail_from: leg.mail_from.clone(),
        recipients: RecipientsHash::compute(&grant, &id, addresses),
    };
    let uri = Uri { host: signer.repository.clone(), xuid: object.xuid, grant: grant.clone() }.reveal();
    let block = statement.sign(&signer.key)?.encode();
    for (position, index) in positions.iter().zip(0u16..) {
        if let Some(recipient) = leg.recipients.get_mut(usize::from(*position)) {
            turn(&mut recipient.state, |state| custody::offer(state, id, index));
        }
    }
    let count = positions.len();
    note(&mut leg.steps, now, "issued", format!("reference {id} to {to} for {count} recipient(s)"), None);
    let signer = signer.domain.clone();
    leg.issued.push(Issued {
        id,
        signer,
        to,
        grant,
        uri,
        block,
        positions,
        issued: whole_second(now),
        expires,
        acted: Vec::new(),
    });
    Ok(id)
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.as_secs())
}

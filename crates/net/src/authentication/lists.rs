//! DNS lists (RFC 5782): which of the configured ones have the client's address?
//!
//! What being on one means is `policy`'s.

use std::net::IpAddr;

use futures_util::future;
use mail::Domain;
use policy::evidence::{ListKind, Listing};
use policy::spf::{Answer, Family, Question};

use super::Authenticator;
use super::records::name_under;

/// Asks all lists at once. One that cannot be asked, or answers outside 127.0.0.0/8 (as parked domains do) or within
/// 127.255.255.0/24 (by which lists say that they will not answer), says nothing.
pub(super) async fn listings(authenticator: &Authenticator, client: IpAddr) -> Vec<Listing> {
    let settings = &authenticator.settings;
    let block = settings.block_lists.iter().map(|zone| (zone, ListKind::Block));
    let allow = settings.allow_lists.iter().map(|zone| (zone, ListKind::Allow));
    let asked = block.chain(allow).map(|(zone, kind)| listing(authenticator, client, zone, kind));
    future::join_all(asked).await.into_iter().flatten().collect()
}

async fn listing(authenticator: &Authenticator, client: IpAddr, zone: &Domain, kind: ListKind) -> Option<Listing> {
    let name = name_under(client, zone.as_str());
    let Answer::Addresses(addresses) = authenticator.ask(&Question::Addresses(name, Family::V4)).await else {
        return None;
    };
    let code = addresses.into_iter().find(|address| match address {
        IpAddr::V4(v4) => v4.is_loopback() && v4.octets()[1..3] != [255, 255],
        IpAddr::V6(_) => false,
    })?;
    Some(Listing { zone: zone.clone(), kind, code })
}

//! Can the repositories of a domain be reached, as this server would to fetch from there?
//!
//! Consent is looked up first: without it nobody connects to a host outside the domain (TBR §5.4).

use std::net::IpAddr;

use futures_util::future::join_all;
use mail::Domain;
use net::discovery::Discovery;
use net::retrieval::{Client, Obstacle};
use reference::keys::consent_name;
use serde::Serialize;

use super::humane::now;

/// A repository as it was met.
#[derive(Debug, Serialize)]
pub(super) struct Reach {
    /// Which.
    pub(super) host: Domain,
    /// Could messages be fetched from there now?
    pub(super) reachable: bool,
    /// The address that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    /// The version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    /// What vouches for its certificate: `dane` or `webpki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'static str>,
    /// Why it cannot be reached, or may not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Who can do what about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

/// Tries every repository of a domain.
pub(super) async fn all(domain: &Domain, hosts: &[Domain], discovery: &Discovery, client: &Client) -> Vec<Reach> {
    join_all(hosts.iter().map(|host| one(domain, host, discovery, client))).await
}

async fn one(domain: &Domain, host: &Domain, discovery: &Discovery, client: &Client) -> Reach {
    if let Err((problem, advice)) = consent(domain, host, discovery).await {
        return without(host, problem, advice);
    }
    match client.reach(host).await {
        Ok(met) => Reach {
            host: host.clone(),
            reachable: true,
            address: Some(met.address),
            tls: Some(met.tls),
            certificate: Some(if met.by_dane { "dane" } else { "webpki" }),
            problem: None,
            advice: None,
        },
        Err(why) => without(host, why.text, advice(why.obstacle)),
    }
}

/// May the host of somebody else be connected to for this domain?
async fn consent(domain: &Domain, host: &Domain, discovery: &Discovery) -> Result<(), (String, &'static str)> {
    const LATER: &str = "try again; nothing is fetched from there as long as this cannot be told";
    if host.is_within(domain) {
        return Ok(());
    }
    let Ok(name) = consent_name(domain, host) else {
        return Err((format!("{host} cannot say that it consents: the names are too long"), LATER));
    };
    match discovery.consents(&name, now()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err((
            format!("{host} does not consent, so nothing is fetched from there: no {name}"),
            "its operator can publish that record; the domain can take the host out of its own",
        )),
        Err(failure) => Err((failure.to_string(), LATER)),
    }
}

fn without(host: &Domain, problem: String, advice: &'static str) -> Reach {
    let (address, tls, certificate) = (None, None, None);
    let (problem, advice) = (Some(problem), Some(advice));
    Reach { host: host.clone(), reachable: false, address, tls, certificate, problem, advice }
}

fn advice(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Lookup => "try again: its name servers, or the resolver here, give no answer that counts",
        Obstacle::NoAddress => "its operator must publish an address of it",
        Obstacle::Forbidden => {
            "its operator must publish a public address; in a closed network: [outgoing] allow_private_addresses"
        }
        Obstacle::Silence => "is it up, and is port 443 open there, and outwards from here?",
        Obstacle::Tls => "its operator must serve TLS 1.3",
        Obstacle::Certificate => {
            "its operator must renew the certificate or mend the TLSA records; a CA of your own: [outgoing] ca_file"
        }
    }
}

impl Reach {
    /// What a person reads.
    pub(super) fn sentence(&self) -> String {
        let Self { host, address, tls, certificate, problem, advice, .. } = self;
        if let (Some(address), Some(tls), Some(certificate)) = (address, tls, certificate) {
            let by = match *certificate {
                "dane" => "with the certificate that its records name (DANE)",
                _ => "with a certificate of a trusted CA",
            };
            return format!("{host} can be reached at {address}, by {tls}, {by}");
        }
        let (problem, advice) = (problem.as_deref().unwrap_or_default(), advice.unwrap_or_default());
        format!("{host} CANNOT be reached: {problem} ({advice})")
    }
}

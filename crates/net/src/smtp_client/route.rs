//! From a destination to the places where it may be reached, in the order of trying.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mail::{Domain, EnhancedStatus};
use rustls::pki_types::ServerName;

use super::security::by_policy;
use super::{ConnectError, Destination, Inner, Route};
use crate::dns::{DnsError, Exchange, Exchanges};
use crate::tls::Security;

/// Most places that are tried in one attempt.
const MAX_PLACES: usize = 12;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { address: SocketAddr, name: ServerName<'static>, peer: String, security: Security },
    Unix(PathBuf),
}

/// Where a destination may be reached now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// In the order of trying, at least one.
    pub(super) list: Vec<Place>,
    /// So many of them are equally good, and better than the others.
    pub(super) equals: usize,
    /// Are there others, which could not be had now?
    pub(super) others_later: bool,
}

/// The mail exchangers of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exchangers {
    pub(super) domain: Domain,
    /// In the order of trying.
    pub(super) hosts: Vec<Exchange>,
    /// Does DNSSEC vouch for these names, or for there being no MX records?
    pub(super) secure: bool,
}

impl Place {
    /// For people.
    pub(super) fn peer(&self) -> String {
        match self {
            Self::Tcp { peer, .. } => peer.clone(),
            Self::Unix(path) => path.display().to_string(),
        }
    }

    /// The host's name and address; none for what was given as an address.
    pub(super) fn host(&self) -> Option<(Domain, IpAddr)> {
        match self {
            Self::Tcp { address, name: ServerName::DnsName(name), .. } => {
                Some((Domain::parse(name.as_ref()).ok()?, address.ip()))
            }
            Self::Tcp { .. } | Self::Unix(_) => None,
        }
    }

    /// What a connection there needs.
    pub(super) fn security(&self) -> Security {
        match self {
            Self::Tcp { security, .. } => security.clone(),
            // Nobody is on the way to a socket of this machine.
            Self::Unix(_) => Security::Off,
        }
    }
}

impl Places {
    /// Those that are better than the others.
    pub(super) fn best(&self) -> &[Place] {
        &self.list[..self.equals.min(self.list.len())]
    }

    /// Puts some of the best first.
    pub(super) fn prefer(&mut self, is_preferred: impl Fn(&Place) -> bool) {
        let equals = self.equals.min(self.list.len());
        self.list[..equals].sort_by_cached_key(|place| !is_preferred(place));
    }
}

impl Inner {
    /// At least one place.
    pub(super) async fn places(&self, destination: &Destination) -> Result<Places, ConnectError> {
        let list = match &destination.route {
            Route::Exchangers(domain) => return self.of_exchangers(domain, destination).await,
            Route::Host(host, port) => {
                let security = self.security_of_host(destination, host, *port).await?;
                // The operator's mistake costs no author a message.
                self.of_host(host, *port, &security).await.map_err(|error| later(4, format!("{host}: {error}")))?
            }
            Route::Address(address, port) => {
                let (address, name) = (SocketAddr::new(*address, *port), ServerName::IpAddress((*address).into()));
                let peer = format!("[{}]:{port}", address.ip());
                vec![Place::Tcp { address, name, peer, security: by_policy(destination) }]
            }
            Route::Unix(path) => vec![Place::Unix(path.clone())],
            Route::Turned => return Err(later(2, "the connection was lost".to_owned())),
        };
        Ok(Places { equals: list.len(), list, others_later: false })
    }

    async fn of_exchangers(&self, domain: &Domain, destination: &Destination) -> Result<Places, ConnectError> {
        let exchangers = self.exchangers(domain).await?;
        let (mut places, mut failure) = (Vec::new(), None::<ConnectError>);
        let (mut best, mut equals) = (None, 0);
        for Exchange { host, preference } in &exchangers.hosts {
            if places.len() >= MAX_PLACES {
                break;
            }
            let security = match self.security_of(destination, &exchangers, host).await {
                Ok(security) => security,
                Err(error) => {
                    // That something may be better later is the better news.
                    failure = failure.filter(|kept| kept.temporary).or(Some(error));
                    continue;
                }
            };
            match self.of_host(host, self.settings.mx_port, &security).await {
                Ok(found) => {
                    places.extend(found);
                    if *best.get_or_insert(*preference) == *preference {
                        equals = places.len();
                    }
                }
                Err(error @ (DnsError::Temporary(_) | DnsError::Bogus(_))) => {
                    failure = Some(later(3, format!("{host}: {error}")))
                }
                Err(error) => {
                    failure.get_or_insert(never(4, 4, format!("{host}, mail exchanger of {domain}: {error}")));
                }
            }
        }
        places.truncate(MAX_PLACES);
        match failure {
            Some(failure) if places.is_empty() => Err(failure),
            failure => {
                Ok(Places { list: places, equals, others_later: failure.is_some_and(|failure| failure.temporary) })
            }
        }
    }

    /// The exchangers that are better than we are, at least one.
    pub(super) async fn exchangers(&self, domain: &Domain) -> Result<Exchangers, ConnectError> {
        let (hosts, secure) = match self.resolver.mx(domain).await.map(|answer| (answer.value, answer.secure)) {
            Ok((Exchanges::Hosts(hosts), secure)) => (hosts, secure),
            Ok((Exchanges::Null, _)) => return Err(never(1, 10, format!("{domain} takes no mail (null MX)"))),
            Err(DnsError::NoSuchDomain) => return Err(never(1, 2, format!("the domain {domain} does not exist"))),
            Err(error) => return Err(later(3, format!("MX of {domain}: {error}"))),
        };
        let hosts = self.before_ours(hosts);
        if hosts.is_empty() {
            return Err(never(4, 6, format!("mail for {domain} loops: its best mail exchanger is this server")));
        }
        Ok(Exchangers { domain: domain.clone(), hosts, secure })
    }

    /// RFC 5321 §5.1: where we are a mail exchanger of the domain ourselves, only better ones are tried.
    fn before_ours(&self, mut hosts: Vec<Exchange>) -> Vec<Exchange> {
        let ours = hosts.iter().filter(|exchange| exchange.host == self.settings.name).map(|e| e.preference).min();
        if let Some(ours) = ours {
            hosts.retain(|exchange| exchange.preference < ours);
        }
        hosts
    }

    pub(super) async fn of_host(&self, host: &Domain, port: u16, security: &Security) -> Result<Vec<Place>, DnsError> {
        let addresses = self.resolver.addresses(host).await?.value;
        // With DANE the server is asked for the name that its records stand under (RFC 7672 §8.1).
        let asked = if let Security::Dane(dane) = security { dane.base() } else { host };
        let name = ServerName::try_from(asked.as_str().to_owned()).map_err(|_| DnsError::NoRecords)?;
        let place = |ip| Place::Tcp {
            address: SocketAddr::new(ip, port),
            name: name.clone(),
            peer: format!("{host} [{ip}]:{port}"),
            security: security.clone(),
        };
        Ok(addresses.into_iter().map(place).collect())
    }
}

/// 4.4.detail.
fn later(detail: u16, text: String) -> ConnectError {
    ConnectError { temporary: true, text, status: EnhancedStatus::temporary(4, detail) }
}

fn never(subject: u16, detail: u16, text: String) -> ConnectError {
    ConnectError { temporary: false, text, status: EnhancedStatus::permanent(subject, detail) }
}

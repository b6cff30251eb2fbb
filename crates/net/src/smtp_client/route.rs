//! From a destination to the places where it may be reached, in the order of trying.

use std::net::SocketAddr;
use std::path::PathBuf;

use mail::{Domain, EnhancedStatus};
use rustls::pki_types::ServerName;

use super::{ConnectError, Inner, Route};
use crate::dns::{DnsError, Exchange, Exchanges};

/// Most places that are tried in one attempt.
const MAX_PLACES: usize = 12;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { address: SocketAddr, name: ServerName<'static>, peer: String },
    Unix(PathBuf),
}

impl Place {
    /// For people.
    pub(super) fn peer(&self) -> String {
        match self {
            Self::Tcp { peer, .. } => peer.clone(),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

impl Inner {
    /// At least one place.
    pub(super) async fn places(&self, route: &Route) -> Result<Vec<Place>, ConnectError> {
        match route {
            Route::Exchangers(domain) => self.of_exchangers(domain).await,
            Route::Host(host, port) => match self.of_host(host, *port).await {
                Ok(places) => Ok(places),
                // The operator's mistake costs no author a message.
                Err(error) => Err(later(4, format!("{host}: {error}"))),
            },
            Route::Address(address, port) => {
                let (address, name) = (SocketAddr::new(*address, *port), ServerName::IpAddress((*address).into()));
                Ok(vec![Place::Tcp { address, name, peer: format!("[{}]:{port}", address.ip()) }])
            }
            Route::Unix(path) => Ok(vec![Place::Unix(path.clone())]),
        }
    }

    async fn of_exchangers(&self, domain: &Domain) -> Result<Vec<Place>, ConnectError> {
        let hosts = match self.resolver.mx(domain).await.map(|answer| answer.value) {
            Ok(Exchanges::Hosts(hosts)) => hosts,
            Ok(Exchanges::Null) => return Err(never(1, 10, format!("{domain} takes no mail (null MX)"))),
            Err(DnsError::NoSuchDomain) => return Err(never(1, 2, format!("the domain {domain} does not exist"))),
            Err(error) => return Err(later(3, format!("MX of {domain}: {error}"))),
        };
        let hosts = self.before_ours(hosts);
        if hosts.is_empty() {
            return Err(never(4, 6, format!("mail for {domain} loops: its best mail exchanger is this server")));
        }
        let (mut places, mut failure) = (Vec::new(), None);
        for Exchange { host, .. } in hosts {
            if places.len() >= MAX_PLACES {
                break;
            }
            match self.of_host(&host, self.settings.mx_port).await {
                Ok(found) => places.extend(found),
                Err(error @ DnsError::Temporary(_)) => failure = Some(later(3, format!("{host}: {error}"))),
                Err(error) => {
                    failure.get_or_insert(never(4, 4, format!("{host}, mail exchanger of {domain}: {error}")));
                }
            }
        }
        places.truncate(MAX_PLACES);
        match failure {
            Some(failure) if places.is_empty() => Err(failure),
            _ => Ok(places),
        }
    }

    /// RFC 5321 §5.1: where we are a mail exchanger of the domain ourselves, only better ones are tried.
    fn before_ours(&self, mut hosts: Vec<Exchange>) -> Vec<Exchange> {
        let ours = hosts.iter().filter(|exchange| exchange.host == self.settings.name).map(|e| e.preference).min();
        if let Some(ours) = ours {
            hosts.retain(|exchange| exchange.preference < ours);
        }
        hosts
    }

    async fn of_host(&self, host: &Domain, port: u16) -> Result<Vec<Place>, DnsError> {
        let addresses = self.resolver.addresses(host).await?.value;
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|_| DnsError::NoRecords)?;
        let place = |ip| Place::Tcp {
            address: SocketAddr::new(ip, port),
            name: name.clone(),
            peer: format!("{host} [{ip}]:{port}"),
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

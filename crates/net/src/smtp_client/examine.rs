//! What the mail exchangers of a domain are like, one by one: for people who want to know how mail would go there.
//!
//! Connects as a delivery would, says EHLO, STARTTLS and QUIT, and hands nothing in.

use std::time::Duration;

use mail::Domain;
use smtp::Capabilities;
use tokio::time::timeout;

use super::connect::Failure;
use super::route::Place;
use super::{Client, ConnectError, Destination, Inner};
use crate::dns::Exchange;
use crate::tls::Security;

/// Most exchangers that are looked at.
const MAX_HOSTS: usize = 8;
/// Longest look at one exchanger.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mail exchanger.
#[derive(Debug)]
pub struct Examined {
    /// Preference and name.
    pub exchange: Exchange,
    /// Does DNSSEC vouch for its being an exchanger of the domain?
    pub signed: bool,
    /// Its TLSA records that count, as in a zone file; usable or not.
    pub tlsa: Vec<String>,
    /// What a connection needs there before it may carry mail.
    ///
    /// `Err`: why the exchanger may not be used now.
    pub demand: Result<Security, ConnectError>,
    /// The first of its addresses that can be used.
    ///
    /// `Err`: why none can, in a plain sentence.
    pub met: Result<Met, String>,
}

/// A mail exchanger as it answered.
#[derive(Debug)]
pub struct Met {
    /// Host, address and port.
    pub peer: String,
    /// What it offers, inside TLS where there is TLS.
    pub capabilities: Capabilities,
    /// The demand that the handshake met; [`Security::Off`] in clear.
    pub security: Security,
    /// Would its certificate do for its name by the trusted CAs? `Err` says why not; `None`: nobody asked them, because
    /// there was no TLS, or the demand is another.
    pub certificate: Option<Result<(), String>>,
}

impl Client {
    /// Looks at the exchangers of a domain, in the order of trying, at most eight.
    ///
    /// # Errors
    /// [`ConnectError`] where there is none to look at.
    pub async fn examine(&self, domain: &Domain) -> Result<Vec<Examined>, ConnectError> {
        let destination = Destination::exchangers_of(domain.clone());
        let mut examined = Vec::new();
        let exchangers = self.inner.exchangers(domain).await?;
        for exchange in exchangers.hosts.iter().take(MAX_HOSTS) {
            let host = &exchange.host;
            let demand = self.inner.security_of(&destination, &exchangers, host).await;
            // A failure stands in the demand.
            let tlsa = self.inner.dane_of_exchanger(&exchangers, host).await.map(|found| found.records());
            let met = match &demand {
                Ok(demand) => timeout(PATIENCE, self.inner.meet(&destination, exchange, demand)).await,
                Err(error) => Ok(Err(error.text.clone())),
            };
            let met = met.unwrap_or_else(|_| Err("it took too long".to_owned()));
            let (exchange, tlsa) = (exchange.clone(), tlsa.unwrap_or_default());
            examined.push(Examined { exchange, signed: exchangers.secure, tlsa, demand, met });
        }
        Ok(examined)
    }
}

impl Inner {
    async fn meet(&self, destination: &Destination, exchange: &Exchange, demand: &Security) -> Result<Met, String> {
        let places = self.of_host(&exchange.host, self.settings.mx_port, demand).await.map_err(|e| e.to_string())?;
        let mut last = "it has no address".to_owned();
        for place in &places {
            match self.meet_at(destination, place, demand).await {
                Ok(met) => return Ok(met),
                Err(failure) => last = failure.explain(&place.peer()).text,
            }
        }
        Err(last)
    }

    /// Where any certificate will do, first with a good one: nothing else shows whether it is.
    async fn meet_at(&self, destination: &Destination, place: &Place, demand: &Security) -> Result<Met, Failure> {
        if *demand != Security::Opportunistic {
            return self.greet(destination, place, demand, None).await;
        }
        match self.greet(destination, place, &Security::WebPki, None).await {
            Err(Failure::Tls(why)) => match self.greet(destination, place, demand, Some(why.to_string())).await {
                Err(Failure::Tls(why)) => self.greet(destination, place, &Security::Off, Some(why.to_string())).await,
                result => result,
            },
            Err(Failure::NoTls) => self.greet(destination, place, &Security::Off, None).await,
            result => result,
        }
    }

    async fn greet(
        &self,
        destination: &Destination,
        place: &Place,
        security: &Security,
        wrong: Option<String>,
    ) -> Result<Met, Failure> {
        let link = self.attempt(destination, place, security).await?;
        let (peer, capabilities) = (link.peer.clone(), link.smtp.capabilities().clone());
        let security = link.security.clone();
        let good = if security == Security::WebPki { Some(Ok(())) } else { None };
        link.quit().await;
        Ok(Met { peer, capabilities, security, certificate: wrong.map(Err).or(good) })
    }
}

//! Is a domain's document served to the world as this server would serve it (TBR §5.2)?
//!
//! Where DNSSEC does not vouch for the domain's records, the document is what its keys are believed by: a certificate that does not
//! count, a closed port or an old copy has every reference refused.

use mail::Domain;
use net::dns::Resolver;
use net::retrieval::Client;
use reference::keys::{default_host, record_name};
use reference::{DomainFacts, KeyRecord};

use super::humane::now;
use crate::config::LocalDomain;
use crate::records::compare::{Finding, Verdict, judge_key};
use crate::records::{Data, Purpose};

/// Fetches the document as a stranger would, and notes what is wrong with it at its host, or at the domain's record where the host is
/// this server itself. In a signed zone nobody goes by it.
pub(super) async fn check(domain: &LocalDomain, resolver: &Resolver, client: &Client, findings: &mut [Finding]) {
    let (Ok(host), Ok(record)) = (default_host(&domain.name), record_name(&domain.name)) else { return };
    let Some(wanted) = wanted(domain, findings) else { return };
    let is_at = |name: &Domain, finding: &Finding| {
        finding.record.name == *name && !matches!(finding.record.data, Data::Tlsa { .. })
    };
    let at = |name| findings.iter().position(|finding| is_at(name, finding));
    let Some(place) = at(&host).or_else(|| at(&record)) else { return };
    if findings[place].verdict != Verdict::Good {
        return;
    }
    let Err(wrong) = look(domain, &host, &wanted, client).await else { return };
    let is_signed = resolver.txt(&record).await.is_ok_and(|answer| answer.secure);
    let finding = &mut findings[place];
    match is_signed {
        true => finding.advice = Some(format!("{wrong} (DNSSEC vouches for the keys, so nobody needs it now)")),
        false => (finding.verdict, finding.advice) = (Verdict::Change, Some(wrong)),
    }
}

/// The keys that are to be found, where this domain announces itself.
fn wanted(domain: &LocalDomain, findings: &[Finding]) -> Option<Vec<KeyRecord>> {
    domain.tbr.as_ref().filter(|tbr| tbr.offers)?;
    let suffix = format!("._tbr.{}", domain.name);
    let keys = findings.iter().filter(|finding| finding.record.purpose == Purpose::Tbr).filter_map(|finding| {
        let selector = finding.record.name.as_str().strip_suffix(&suffix)?.parse().ok()?;
        let Data::Txt { text } = &finding.record.data else { return None };
        KeyRecord::from_txt(&selector, [text.as_str()]).ok()?
    });
    Some(keys.collect())
}

/// What is wrong with what is served.
async fn look(domain: &LocalDomain, host: &Domain, wanted: &[KeyRecord], client: &Client) -> Result<(), String> {
    let place = format!("https://{host}/.well-known/tbr/domain");
    let document = client.document(host).await;
    let document = document.map_err(|why| format!("{place} cannot be fetched as others would: {why}"))?;
    let facts = DomainFacts::from_document(&domain.name, &document);
    let facts = facts.map_err(|error| format!("what {place} answers is no document of this domain: {error}"))?;
    let old = || "serve this server's document there, or reload the server that does".to_owned();
    if let Some(tbr) = domain.tbr.as_ref().filter(|tbr| !facts.repo.contains(&tbr.repository)) {
        return Err(format!(
            "the document does not name {}, from where messages are fetched; {}",
            tbr.repository,
            old()
        ));
    }
    for key in wanted {
        let selector = &key.selector;
        let Some(found) = facts.key(selector) else {
            return Err(format!("the document lacks the key {selector}; {}", old()));
        };
        judge_key(found, key, now(), &old).map_err(|why| format!("the document's key {selector}: {why}"))?;
    }
    Ok(())
}

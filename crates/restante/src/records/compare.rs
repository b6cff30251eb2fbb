//! What is to be published against what the world sees.
//!
//! Looking up is [`net::dns`]'s; [`judge`] is pure. What an operator chose to publish otherwise than it is printed here is
//! right as long as it serves its purpose.

use mail::mta_sts::policy_id;
use mail::{Domain, Timestamp};
use net::dns::{DnsError, Exchanges, Resolver};
use reference::{DomainRecord, KeyRecord};
use serde::Serialize;

use super::{Data, Purpose, Record, zone};

/// How long a key should still sign: peers and backups of the zone are slow.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// One record and what the world sees of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is to be published.
    #[serde(flatten)]
    pub record: Record,
    /// Does what is seen serve its purpose?
    pub verdict: Verdict,
    /// What is seen.
    pub found: Vec<String>,
    /// What to change, or what to know: a plain sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Does what is seen serve its purpose?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does.
    Good,
    /// It does not.
    Change,
    /// It cannot be told now.
    Unknown,
}

/// What is seen under a record's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Mail exchangers.
    Exchanges(Exchanges),
    /// Texts or addresses; empty: there are none.
    Texts(Vec<String>),
    /// TLSA records, and whether the zone is signed, so that they count or would count.
    Tlsa {
        /// As in a zone file; empty: there are none.
        records: Vec<String>,
        /// Does DNSSEC vouch for the host?
        signed: bool,
    },
    /// Nobody could say.
    Failed(String),
}

/// Looks every record up and judges it.
pub async fn compare(records: &[Record], resolver: &Resolver, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for record in records {
        findings.push(judge(record, look(record, resolver).await, now));
    }
    findings
}

async fn look(record: &Record, resolver: &Resolver) -> Seen {
    let name = &record.name;
    let texts = match &record.data {
        Data::Mx { .. } => match resolver.mx(name).await {
            Ok(answer) => return Seen::Exchanges(answer.value),
            Err(error) => Err(error),
        },
        Data::Tlsa { .. } => return look_for_tlsa(name, resolver).await,
        Data::Txt { .. } => resolver.txt(name).await.map(|answer| answer.value),
        Data::Alias { .. } | Data::Addresses { .. } => {
            let found = resolver.addresses(name).await;
            found.map(|answer| answer.value.iter().map(ToString::to_string).collect())
        }
    };
    match texts {
        Ok(texts) => Seen::Texts(texts),
        Err(DnsError::NoSuchDomain | DnsError::NoRecords) => Seen::Texts(Vec::new()),
        Err(error) => Seen::Failed(error.to_string()),
    }
}

async fn look_for_tlsa(name: &Domain, resolver: &Resolver) -> Seen {
    let records = match resolver.tlsa_at(name).await {
        Ok(answer) => {
            let records = answer.value.iter().map(ToString::to_string).collect();
            return Seen::Tlsa { records, signed: answer.secure };
        }
        Err(DnsError::NoSuchDomain | DnsError::NoRecords) => Vec::new(),
        Err(error) => return Seen::Failed(error.to_string()),
    };
    // `_25._tcp` stands in front of the host.
    let host = name.parent().and_then(|name| name.parent());
    let signed = match host {
        Some(host) => resolver.addresses(&host).await.is_ok_and(|answer| answer.secure),
        None => false,
    };
    Seen::Tlsa { records, signed }
}

/// Does what is seen serve the record's purpose?
pub fn judge(record: &Record, seen: Seen, now: Timestamp) -> Finding {
    let (found, judged) = match seen {
        Seen::Failed(why) => {
            return Finding { verdict: Verdict::Unknown, found: Vec::new(), advice: Some(why), record: record.clone() };
        }
        Seen::Exchanges(exchanges) => of_exchanges(record, &exchanges),
        Seen::Tlsa { records, signed } => {
            let judged = of_tlsa(record, &records, signed);
            (records, judged)
        }
        Seen::Texts(texts) => {
            let judged = of_texts(record, &texts, now);
            (relevant(record, texts), judged)
        }
    };
    let (verdict, advice) = match judged {
        Ok(note) => (Verdict::Good, note),
        Err(advice) => (Verdict::Change, Some(advice)),
    };
    Finding { record: record.clone(), verdict, found, advice }
}

/// `Ok`: it serves, perhaps with something to know; `Err`: what to change.
pub(crate) type Judged = Result<Option<String>, String>;

fn of_exchanges(record: &Record, exchanges: &Exchanges) -> (Vec<String>, Judged) {
    let Data::Mx { host, .. } = &record.data else { return (Vec::new(), Ok(None)) };
    let name = &record.name;
    let Exchanges::Hosts(hosts) = exchanges else {
        return (
            vec!["MX 0 .".into()],
            Err(format!("{name} says that it takes no mail; publish: {}", publish(record))),
        );
    };
    let found = hosts.iter().map(|exchange| format!("MX {} {}.", exchange.preference, exchange.host)).collect();
    let judged = match hosts.iter().any(|exchange| exchange.host == *host) {
        true => Ok(None),
        false => Err(format!("mail for {name} does not come to {host}; publish: {}", publish(record))),
    };
    (found, judged)
}

/// Records beside ours are for other certificates or later ones; without ours, whoever goes by them sends nothing.
fn of_tlsa(record: &Record, records: &[String], signed: bool) -> Judged {
    const UNSIGNED: &str = "the zone is not signed with DNSSEC, so nobody goes by it";
    let Data::Tlsa { text } = &record.data else { return Ok(None) };
    match (records.is_empty(), records.contains(text)) {
        (false, false) => Err(format!(
            "no record names the certificate that is used here: peers that go by them send nothing; publish: {}",
            publish(record)
        )),
        (true, _) if signed => Err(format!("peers cannot know the certificate; publish: {}", publish(record))),
        (true, _) => Ok(Some("not published: of use only where the zone is signed with DNSSEC".into())),
        (false, true) => Ok((!signed).then(|| UNSIGNED.to_owned())),
    }
}

fn of_texts(record: &Record, texts: &[String], now: Timestamp) -> Judged {
    let name = &record.name;
    match (&record.data, record.purpose) {
        (Data::Txt { text }, Purpose::Tbr) => of_tbr(name, text, texts, now),
        (Data::Txt { text }, Purpose::Spf) => one_of_kind(texts, "v=spf1", text).and_then(|spf| of_spf(spf, text)),
        (Data::Txt { text }, Purpose::Dkim) => {
            one_of_kind(texts, "v=DKIM1", text).and_then(|found| of_dkim(found, text))
        }
        (Data::Txt { text }, Purpose::TlsRpt) => of_reports(text, texts),
        (Data::Txt { text }, Purpose::MtaSts) => of_policy_id(text, texts),
        (Data::Txt { text }, _) => one_of_kind(texts, version(text), text).map(|_| None),
        (Data::Addresses { addresses }, _) => of_addresses(name, addresses, texts),
        (Data::Alias { target }, _) if texts.is_empty() => {
            Err(format!("{name} has no address; publish: {} (or the addresses of {target})", publish(record)))
        }
        _ => Ok(None),
    }
}

fn of_addresses(name: &Domain, wanted: &[std::net::IpAddr], found: &[String]) -> Judged {
    if found.is_empty() {
        return Err(format!("{name} has no address: publish A and AAAA records with those of this server"));
    }
    let missing: Vec<String> = wanted.iter().map(ToString::to_string).filter(|a| !found.contains(a)).collect();
    match missing.is_empty() {
        true => Ok(None),
        false => Ok(Some(format!("this server also listens at {}", missing.join(", ")))),
    }
}

/// The record of this version; none and several are mistakes.
fn one_of_kind<'a>(texts: &'a [String], version: &str, wanted: &str) -> Result<&'a str, String> {
    let mut of_kind = texts.iter().filter(|text| is_of_kind(text, version));
    match (of_kind.next(), of_kind.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(format!("there are several {version} records, and so none counts: keep one")),
        (None, _) => Err(format!("there is no {version} record; publish: \"{wanted}\"")),
    }
}

fn is_of_kind(text: &str, version: &str) -> bool {
    let first = text.split([';', ' ']).next().unwrap_or_default();
    first.trim().eq_ignore_ascii_case(version)
}

/// `v=DMARC1` of `v=DMARC1; p=none`.
fn version(text: &str) -> &str {
    text.split([';', ' ']).next().unwrap_or_default()
}

fn of_policy_id(wanted: &str, texts: &[String]) -> Judged {
    let found = policy_id(texts.iter().map(String::as_str));
    match found {
        Some(id) if Some(id) == policy_id([wanted]) => Ok(None),
        Some(_) => Err(format!("another policy is announced than the one that is served; publish: \"{wanted}\"")),
        None => Err(format!("no policy is announced; publish: \"{wanted}\"")),
    }
}

/// Wherever they go is the publisher's choice.
fn of_reports(wanted: &str, texts: &[String]) -> Judged {
    let found = one_of_kind(texts, version(wanted), wanted)?;
    if mail::tls_rpt::places([found]).is_empty() {
        return Err(format!("it names no place to which reports can go; publish: \"{wanted}\""));
    }
    let known =
        mail::tls_rpt::places([wanted]).into_iter().all(|place| mail::tls_rpt::places([found]).contains(&place));
    Ok(if known { None } else { Some("reports go elsewhere than to this server".to_owned()) })
}

fn of_spf(found: &str, wanted: &str) -> Judged {
    if found.split(' ').any(|term| matches!(term, "+all" | "all")) {
        return Err(format!("it lets everybody send in this name; publish: \"{wanted}\""));
    }
    if found.eq_ignore_ascii_case(wanted) {
        return Ok(None);
    }
    Ok(Some("it differs from the printed one: make sure that it covers this server's addresses".into()))
}

/// The key counts; flags and notes beside it are the publisher's.
fn of_dkim(found: &str, wanted: &str) -> Judged {
    let key = |text: &str| {
        let tag = text.split(';').find_map(|tag| tag.trim().strip_prefix("p=").map(str::to_owned));
        tag.map(|key| key.split_whitespace().collect::<String>())
    };
    match key(found) == key(wanted) {
        true => Ok(None),
        false => Err(format!("another key is published than the one that signs here; publish: \"{wanted}\"")),
    }
}

/// The domain's record, a key's or a consent.
fn of_tbr(name: &Domain, wanted: &str, texts: &[String], now: Timestamp) -> Judged {
    let seen = || texts.iter().map(String::as_str);
    let publish = || format!("publish: \"{wanted}\"");
    if name.as_str().contains("._tbr-host.") {
        return match reference::keys::is_consent(seen()) {
            true => Ok(None),
            false => Err(format!("the host's domain does not consent to serve these messages; {}", publish())),
        };
    }
    let domain = name.as_str().split_once("_tbr.").and_then(|(_, domain)| Domain::parse(domain).ok());
    let domain = domain.unwrap_or_else(|| name.clone());
    match name.as_str().starts_with("_tbr.") {
        true => of_domain_record(&domain, wanted, seen(), &publish),
        false => of_key(name, wanted, seen(), now, &publish),
    }
}

fn of_domain_record<'a>(
    domain: &Domain,
    wanted: &str,
    seen: impl Iterator<Item = &'a str>,
    publish: &dyn Fn() -> String,
) -> Judged {
    let (found, wanted) = (DomainRecord::from_txt(domain, seen), DomainRecord::from_txt(domain, [wanted]));
    let (Ok(Some(found)), Ok(Some(wanted))) = (&found, &wanted) else {
        let why = found.err().map_or_else(|| "there is no TBR1 record".to_owned(), |error| error.to_string());
        return Err(format!("{why}; {}", publish()));
    };
    if let Some(host) = wanted.repo.iter().find(|host| !found.repo.contains(host)) {
        return Err(format!("it does not name {host}, from where messages are fetched; {}", publish()));
    }
    if wanted.sub && !found.sub {
        return Err(format!("it lacks sub=y, which subdomains need; {}", publish()));
    }
    Ok(None)
}

fn of_key<'a>(
    name: &Domain,
    wanted: &str,
    seen: impl Iterator<Item = &'a str>,
    now: Timestamp,
    publish: &dyn Fn() -> String,
) -> Judged {
    let selector = name.as_str().split('.').next().and_then(|label| label.parse().ok());
    let Some(selector) = selector else { return Ok(None) };
    let (found, wanted) = (KeyRecord::from_txt(&selector, seen), KeyRecord::from_txt(&selector, [wanted]));
    let (Ok(Some(found)), Ok(Some(wanted))) = (&found, &wanted) else {
        let why = found.err().map_or_else(|| "there is no key".to_owned(), |error| error.to_string());
        return Err(format!("{why}; {}", publish()));
    };
    judge_key(found, wanted, now, publish)
}

/// Is this the key that is to be published, wherever it was found?
pub(crate) fn judge_key(found: &KeyRecord, wanted: &KeyRecord, now: Timestamp, publish: &dyn Fn() -> String) -> Judged {
    use reference::keys::{KeyState, KeyUse};
    let KeyState::Active { key: ours, not_after, .. } = &wanted.state else {
        return match found.state {
            KeyState::Revoked => Ok(None),
            KeyState::Active { .. } => Err(format!("a revoked key is published as good; {}", publish())),
        };
    };
    let signs_no_more = *not_after < now;
    match found.usable_at(now) {
        KeyUse::Revoked => Err(format!("the key that signs here is published as revoked; {}", publish())),
        KeyUse::Usable(key) | KeyUse::Outside(key) if key != ours => {
            Err(format!("another key is published than the one that signs here; {}", publish()))
        }
        _ if signs_no_more => {
            Ok(Some("another key has taken over; the record must stay for 31 days after that".into()))
        }
        KeyUse::Outside(_) => Err(format!("the key may not sign now, by its published window; {}", publish())),
        KeyUse::Usable(_) => match found.usable_at(now.after(AHEAD)) {
            KeyUse::Usable(_) => Ok(None),
            _ if *not_after < now.after(AHEAD) => Ok(None),
            _ => Err(format!("the published window ends within 30 days; {}", publish())),
        },
    }
}

/// Of all texts at a name those of the record's kind; others are none of our business.
fn relevant(record: &Record, texts: Vec<String>) -> Vec<String> {
    let Data::Txt { text } = &record.data else { return texts };
    texts.into_iter().filter(|found| is_of_kind(found, version(text))).collect()
}

fn publish(record: &Record) -> String {
    zone::lines(record).trim_end().to_owned()
}

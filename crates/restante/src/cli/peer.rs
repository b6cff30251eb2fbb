//! `restante check peer`: how mail to a domain would go, and why.
//!
//! Asks what a delivery would ask, and connects only where one would: to the mail exchangers, to the host of the domain's document,
//! and to its repositories where these may be connected to. Nothing is handed in, and nothing fetched.

use std::collections::BTreeSet;
use std::time::Duration;

use mail::Domain;
use net::discovery::{self, Discovery, Found as Known};
use net::dns::Resolver;
use net::mta_sts::{Found, MtaSts};
use net::smtp_client::{self, Examined};
use net::tls::{Security, Trust};
use reference::keys::{KeyState, record_name};
use reference::{Assurance, DomainRecord, KeyRecord, Selector};
use serde::Serialize;
use smtp::Capabilities;
use smtp::capability::Announced;

use super::args::{Global, PeerArgs};
use super::client;
use super::humane::{date, now};
use super::output::{Exit, Failure, Outcome, Output};
use super::reach::{self, Reach};
use crate::config::{Config, TransferPolicy};
use crate::{server, settings};

/// Longest wait for one reply; people are waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// How mail to a domain would go.
#[derive(Debug, Serialize)]
struct Report {
    domain: Domain,
    way: Way,
    /// The way, in a plain sentence.
    sentence: String,
    /// In the order of trying.
    exchangers: Vec<Exchanger>,
    mta_sts: Sts,
    tbr: Tbr,
}

/// The domain's MTA-STS policy.
#[derive(Debug, Default, Serialize)]
struct Sts {
    /// `enforce`, `testing` or `none`; null: there is no policy.
    mode: Option<String>,
    /// The hosts that it names.
    mx: Vec<String>,
    /// Why a policy that is announced cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// How mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// By reference.
    ByReference,
    /// By value.
    ByValue,
    /// Into a mailbox here.
    Here,
    /// To the smart host, which knows how to go on.
    SmartHost,
    /// It waits.
    NotNow,
    /// It is returned.
    Never,
}

#[derive(Debug, Serialize)]
struct Exchanger {
    host: Domain,
    preference: u16,
    /// Host, address and port that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// Does DNSSEC vouch for its being an exchanger of the domain?
    signed: bool,
    /// Its TLSA records that count (DANE), as in a zone file.
    tlsa: Vec<String>,
    /// What a connection needs there.
    demand: &'static str,
    /// Is the connection encrypted?
    tls: bool,
    /// Why the certificate would not do by the trusted CAs; null: it would, or nobody asked them.
    certificate_problem: Option<String>,
    /// Does it take references?
    tbr: bool,
    /// What else it offers.
    extensions: Vec<&'static str>,
    /// Most octets of a message (SIZE); 0: no limit; null: it does not say.
    size: Option<u64>,
    /// Most transactions, recipients and domains of recipients (LIMITS); null: it does not say.
    limits: Limits,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// What a server takes in one session.
#[derive(Debug, Default, Serialize)]
struct Limits {
    transactions: Option<u32>,
    recipients: Option<u32>,
    domains: Option<u32>,
}

/// What the domain publishes for TBR.
#[derive(Debug, Default, Serialize)]
struct Tbr {
    /// Is there a `_tbr` record?
    published: bool,
    /// From where its own messages are fetched.
    repositories: Vec<Domain>,
    /// Whether messages could be fetched from each of them.
    reach: Vec<Reach>,
    /// Why it cannot be told whether the domain has keys: no grant is issued for it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_unknown: Option<String>,
    /// `dnssec` or `webpki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    assurance: Option<Assurance>,
    /// Its keys that are known, each with its window.
    keys: Vec<String>,
    /// How they were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Looks, and says what was found. The exit code says whether mail would go now.
pub(super) fn run(args: &PeerArgs, global: &Global, output: Output) -> Outcome {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let report = match (config.is_ours(&args.domain), &config.smart_host) {
        (true, _) => elsewhere(&args.domain, Way::Here, format!("{} is a [[domain]] here.", args.domain)),
        (false, Some(host)) => {
            elsewhere(&args.domain, Way::SmartHost, format!("All mail for others goes to the smart host \"{host}\"."))
        }
        (false, None) => client::runtime()?.block_on(look(args, &config))?,
    };
    output.print(&report, || text(&report));
    Ok(match report.way {
        Way::ByReference | Way::ByValue | Way::Here | Way::SmartHost => Exit::Done,
        Way::NotNow => Exit::Later,
        Way::Never => Exit::Failed,
    })
}

fn elsewhere(domain: &Domain, way: Way, sentence: String) -> Report {
    Report {
        domain: domain.clone(),
        way,
        sentence,
        exchangers: Vec::new(),
        mta_sts: Sts::default(),
        tbr: Tbr::default(),
    }
}

async fn look(args: &PeerArgs, config: &Config) -> Result<Report, Failure> {
    let domain = &args.domain;
    let failed = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
    let resolver = server::resolver(config).map_err(|error| failed(&error))?;
    let trust = config.outgoing.ca_file.clone().map_or(Trust::System, Trust::CaFile);
    let mut smtp = server::smtp_client_settings(config, &trust).map_err(|error| failed(&error))?;
    smtp.connect = smtp.connect.min(PATIENCE);
    smtp.handshake = smtp.handshake.min(PATIENCE);
    smtp.timeouts.greeting = smtp.timeouts.greeting.min(PATIENCE);
    smtp.timeouts.hello = smtp.timeouts.hello.min(PATIENCE);
    let policies = match config.outgoing.mta_sts {
        // What the running server keeps on disk is its own.
        true => Some(server::mta_sts(config, &trust, &resolver, None).map_err(|error| failed(&error))?),
        false => None,
    };
    smtp.mta_sts.clone_from(&policies);
    let client = smtp_client::Client::new(smtp, resolver.clone());
    let repositories = server::repository_client(config, &trust, &resolver).map_err(|error| failed(&error))?;
    // As many keys are looked up as the document lists: no stranger chooses them.
    let patient =
        discovery::Config { session_budget: PATIENCE, misses: u32::MAX, ..settings::discovery_config(config) };
    let discovery = Discovery::new(std::sync::Arc::new(resolver.clone()), repositories.clone(), patient);

    let (examined, mut tbr, keys) = tokio::join!(
        client.examine(domain),
        published(args, &resolver, &discovery),
        discovery.publishes(domain, now(), PATIENCE)
    );
    tbr.keys_unknown = keys.err().map(|failure| failure.to_string());
    // What is unknown cannot be relied on to say from where.
    if tbr.assurance.is_some() {
        tbr.reach = reach::all(domain, &tbr.repositories, &discovery, &repositories).await;
    }
    let mta_sts = policy(domain, policies.as_ref()).await;
    let examined = match examined {
        Ok(examined) => examined,
        Err(error) => {
            let way = if error.temporary { Way::NotNow } else { Way::Never };
            return Ok(Report { mta_sts, tbr, ..elsewhere(domain, way, format!("{}.", error.text)) });
        }
    };
    let exchangers: Vec<Exchanger> = examined.into_iter().map(exchanger).collect();
    let (way, sentence) = way(domain, &exchangers, tbr.keys_unknown.as_deref(), config);
    Ok(Report { domain: domain.clone(), way, sentence, exchangers, mta_sts, tbr })
}

/// What the first exchanger that can be used, and the configuration, make of it.
fn way(domain: &Domain, exchangers: &[Exchanger], keys_unknown: Option<&str>, config: &Config) -> (Way, String) {
    let Some(first) = exchangers.iter().find(|exchanger| exchanger.problem.is_none()) else {
        return (Way::NotNow, format!("No mail exchanger of {domain} can be used now: mail waits and is tried again."));
    };
    let guarded = match (first.tls, first.demand) {
        (false, _) => "in clear: whoever is on the way can read and change it",
        (true, "opportunistic") => "over TLS, without a demand on the certificate: protected from listeners only",
        (true, "encrypted") => "over TLS, which must be there, with any certificate",
        (true, "dane") => "over TLS with the certificate that its DNS records name (DANE)",
        (true, _) => "over TLS with a certificate that must be right",
    };
    let host = &first.host;
    let signs = config.domains.values().any(|domain| domain.tbr.is_some());
    let by_value = |why: &str| (Way::ByValue, format!("Mail goes by value to {host}, {guarded}. {why}"));
    match config.transfer.policy_for(domain) {
        TransferPolicy::Never => by_value("The policy for this domain says: never by reference."),
        TransferPolicy::Require if !first.tbr => {
            (Way::NotNow, format!("Mail waits: the policy for this domain requires TBR, and {host} does not offer it."))
        }
        _ if !first.tbr => by_value(&format!("{host} does not offer TBR.")),
        policy => by_tbr(host, guarded, (policy, signs, keys_unknown), config.transfer.by_value_below),
    }
}

/// Where the exchanger offers TBR: what the policy, our keys, and those of the recipients' domain make of it.
fn by_tbr(
    host: &Domain,
    guarded: &str,
    (policy, signs, keys_unknown): (TransferPolicy, bool, Option<&str>),
    by_value_below: u64,
) -> (Way, String) {
    let hindrance = match keys_unknown {
        _ if !signs => Some("no [domain.tbr] here signs references".to_owned()),
        Some(why) => {
            Some(format!("whether the domain has keys, to which references are bound, cannot be told now: {why}"))
        }
        None => None,
    };
    match (policy, hindrance) {
        (TransferPolicy::Require, Some(why)) => {
            (Way::NotNow, format!("Mail waits: the policy for this domain requires TBR, and {why}."))
        }
        (_, Some(why)) => (Way::ByValue, format!("Mail goes by value to {host}, {guarded}. It offers TBR, but {why}.")),
        (TransferPolicy::Require, None) => {
            (Way::ByReference, format!("Mail of domains that sign here goes by reference to {host}, {guarded}."))
        }
        (_, None) => {
            let size = crate::config::format_size(by_value_below);
            let sentence = format!(
                "Mail of domains that sign here goes by reference to {host}, {guarded}; below {size} by value."
            );
            (Way::ByReference, sentence)
        }
    }
}

fn exchanger(examined: Examined) -> Exchanger {
    let Examined { exchange, signed, tlsa, demand, met } = examined;
    let mut exchanger = Exchanger {
        host: exchange.host,
        preference: exchange.preference,
        peer: None,
        signed,
        tlsa,
        demand: demand.as_ref().map_or("unknown", security_word),
        tls: false,
        certificate_problem: None,
        tbr: false,
        extensions: Vec::new(),
        size: None,
        limits: Limits::default(),
        problem: None,
    };
    match met {
        Err(problem) => exchanger.problem = Some(problem),
        Ok(met) => {
            exchanger.peer = Some(met.peer);
            exchanger.tls = met.security != Security::Off;
            exchanger.certificate_problem = met.certificate.and_then(Result::err);
            exchanger.tbr = met.capabilities.tbr;
            exchanger.extensions = extensions(&met.capabilities);
            exchanger.size = met.capabilities.size;
            let Announced { transactions, recipients, domains } = met.capabilities.limits;
            exchanger.limits = Limits { transactions, recipients, domains };
        }
    }
    exchanger
}

async fn policy(domain: &Domain, policies: Option<&MtaSts>) -> Sts {
    let Some(policies) = policies else { return Sts::default() };
    match policies.find(domain, now()).await {
        Found::None => Sts::default(),
        Found::Policy(policy) => Sts {
            mode: Some(policy.mode.to_string()),
            mx: policy.mx.iter().map(ToString::to_string).collect(),
            problem: None,
        },
        Found::Unfetched(why) => Sts { problem: Some(why.to_string()), ..Sts::default() },
    }
}

fn security_word(security: &Security) -> &'static str {
    match security {
        Security::Off => "off",
        Security::Opportunistic => "opportunistic",
        Security::Encrypted => "encrypted",
        Security::WebPki => "webpki",
        Security::Dane(_) => "dane",
    }
}

fn extensions(offered: &Capabilities) -> Vec<&'static str> {
    let all = [
        (offered.tbr, "TBR"),
        (offered.chunking, "CHUNKING"),
        (offered.pipelining, "PIPELINING"),
        (offered.eight_bit_mime, "8BITMIME"),
        (offered.smtputf8, "SMTPUTF8"),
        (offered.dsn, "DSN"),
        (offered.requiretls, "REQUIRETLS"),
    ];
    all.into_iter().filter(|(offered, _)| *offered).map(|(_, word)| word).collect()
}

/// The record first: without it a domain is asked for no more.
async fn published(args: &PeerArgs, resolver: &Resolver, discovery: &Discovery) -> Tbr {
    let domain = &args.domain;
    let Ok(name) = record_name(domain) else { return Tbr::default() };
    let texts = match resolver.txt(&name).await {
        Ok(answer) => answer.value,
        Err(net::dns::DnsError::NoRecords | net::dns::DnsError::NoSuchDomain) => return Tbr::default(),
        Err(error) => return Tbr { problem: Some(error.to_string()), ..Tbr::default() },
    };
    let repositories = match DomainRecord::from_txt(domain, texts.iter().map(String::as_str)) {
        Ok(Some(record)) => record.repo,
        Ok(None) => return Tbr::default(),
        Err(error) => return Tbr { published: true, problem: Some(error.to_string()), ..Tbr::default() },
    };
    let mut tbr = Tbr { published: true, repositories, ..Tbr::default() };
    // For the level any name will do.
    let any = args.selectors.first().cloned().or_else(|| "k1".parse().ok());
    let Some(any) = any else { return tbr };
    match discovery.find(domain, &any, now()).await {
        Ok(found) => {
            (tbr.assurance, tbr.repositories) = (Some(found.assurance), found.facts.repo.clone());
            (tbr.keys, tbr.note) = keys(args, &found, discovery).await;
        }
        Err(failure) => tbr.problem = Some(failure.to_string()),
    }
    tbr
}

/// The keys that the document lists and those asked for, and a sentence about how they were found. In signed zones DNS says what each
/// is, and has no list of them.
async fn keys(args: &PeerArgs, found: &Known, discovery: &Discovery) -> (Vec<String>, Option<String>) {
    let domain = &args.domain;
    let (listed, note) = match found.assurance {
        Assurance::Webpki => (found.facts.keys.iter().map(|key| key.selector.clone()).collect(), None),
        Assurance::Dnssec => match discovery.selectors(domain).await {
            Ok(listed) => (listed, Some("as the document lists them, each validated in DNS".to_owned())),
            Err(failure) => {
                let note = format!("only what --selector asks for, as no list of keys can be had: {failure}");
                (Vec::new(), Some(note))
            }
        },
    };
    let mut selectors: Vec<Selector> = [args.selectors.clone(), listed].concat();
    let mut seen = BTreeSet::new();
    selectors.retain(|selector| seen.insert(selector.to_string()));
    let mut keys = Vec::new();
    for selector in &selectors {
        keys.push(match discovery.find(domain, selector, now()).await {
            Ok(found) => key(selector, found.facts.key(selector)),
            Err(failure) => format!("{selector}: {failure}"),
        });
    }
    (keys, note)
}

/// The key with both ends of its window.
fn key(selector: &Selector, record: Option<&KeyRecord>) -> String {
    match record.map(|record| &record.state) {
        Some(KeyState::Active { not_before, not_after, .. }) => {
            format!("{selector} from {} until {} UTC", date(*not_before), date(*not_after))
        }
        Some(KeyState::Revoked) => format!("{selector} revoked"),
        None => format!("{selector} is not published"),
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![report.sentence.clone()];
    for exchanger in &report.exchangers {
        lines.push(String::new());
        lines.push(format!("MX {} {}", exchanger.preference, exchanger.host));
        let mut say = |what: &str, text: String| lines.push(format!("  {what:<12} {text}"));
        if let Some(problem) = &exchanger.problem {
            say("problem", problem.clone());
            continue;
        }
        say("answered", exchanger.peer.clone().unwrap_or_default());
        say(
            "TLS",
            match (exchanger.tls, &exchanger.certificate_problem) {
                (false, _) => "no".to_owned(),
                (true, None) if exchanger.demand == "dane" => {
                    "yes, with the certificate that its records name".to_owned()
                }
                (true, None) => "yes, with a good certificate".to_owned(),
                (true, Some(problem)) => format!("yes; its certificate would not do by the CAs: {problem}"),
            },
        );
        say("demand", exchanger.demand.to_owned());
        say("DANE", exchanger.dane_sentence());
        say("extensions", exchanger.extensions.join(" "));
        say("takes", exchanger.most_sentence());
    }
    if !report.exchangers.is_empty() {
        lines.push(String::new());
        lines.push(format!("MTA-STS      {}", report.mta_sts.sentence()));
        lines.extend(tbr_lines(&report.tbr));
    }
    lines.join("\n")
}

impl Exchanger {
    /// What it says of its limits.
    fn most_sentence(&self) -> String {
        let size = match self.size {
            None => "messages of a size that it does not say".to_owned(),
            Some(0) => "messages of any size".to_owned(),
            Some(most) => format!("messages of at most {}", crate::config::format_size(most)),
        };
        let Limits { transactions, recipients, domains } = self.limits;
        let limits = [(recipients, "recipients"), (domains, "domains"), (transactions, "messages in a session")];
        let said = limits.into_iter().filter_map(|(most, what)| Some(format!("{} {what}", most?)));
        std::iter::once(size).chain(said).collect::<Vec<_>>().join(", ")
    }

    fn dane_sentence(&self) -> String {
        match (self.tlsa.as_slice(), self.signed, self.demand) {
            ([], false, _) => "no: DNSSEC does not vouch for this host".to_owned(),
            ([], true, _) => "no TLSA records that count".to_owned(),
            (records, _, "dane") => records.join("; "),
            (records, ..) => format!("no record can be used, only TLS is demanded: {}", records.join("; ")),
        }
    }
}

impl Sts {
    fn sentence(&self) -> String {
        match (&self.mode, &self.problem) {
            (_, Some(problem)) => format!("a policy is announced, but cannot be had: {problem}"),
            (Some(mode), None) => format!("{mode}, for {}", self.mx.join(", ")),
            (None, None) => "no policy".to_owned(),
        }
    }
}

fn tbr_lines(tbr: &Tbr) -> Vec<String> {
    if !tbr.published && tbr.problem.is_none() {
        return vec!["TBR          the domain publishes no TBR record: it does not send by reference".to_owned()];
    }
    let hosts: Vec<&str> = tbr.repositories.iter().map(Domain::as_str).collect();
    let mut lines = match tbr.reach.as_slice() {
        [] => vec![format!("repository   {}", hosts.join(", "))],
        tried => tried.iter().map(|reach| format!("repository   {}", reach.sentence())).collect(),
    };
    if let Some(assurance) = tbr.assurance {
        let note = tbr.note.iter().map(|note| format!("; {note}")).collect::<String>();
        let keys = if tbr.keys.is_empty() { "none".to_owned() } else { tbr.keys.join(", ") };
        lines.push(format!("keys         {keys} (known by {assurance}{note})"));
    }
    lines.extend(tbr.problem.iter().map(|problem| format!("problem      {problem}")));
    lines
}

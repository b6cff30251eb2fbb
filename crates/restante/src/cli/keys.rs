//! `restante keys`: makes signing keys and prints the DNS records that make them known.

use std::path::PathBuf;
use std::time::Duration;

use mail::{Domain, DomainError, Holder};
use net::authentication::signer;
use reference::keys::default_host;
use reference::{DomainRecord, KeyRecord, Selector, SigningKey};
use serde::Serialize;

use super::args::{DkimKind, GenerateArgs, Global, KeysCommand, ShowKeyArgs};
use super::humane::now;
use super::output::{Exit, Failure, Outcome, Output};
use super::rotate;
use crate::config::{Config, LocalDomain};
use crate::keys::{self, KeyFileError, TxtRecord};

const DAY: Duration = Duration::from_secs(86_400);
/// A published window begins a little before now, for clocks that are slow.
const BEFORE: Duration = DAY;
/// Default length of a window, for keys that are only shown.
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// A key and what is published of it.
#[derive(Debug, Clone, Serialize)]
struct Published {
    domain: Domain,
    selector: Selector,
    file: PathBuf,
    public_key: String,
    repository: Domain,
    records: Vec<TxtRecord>,
}

/// One of the keys that are shown.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Shown {
    /// Signs references.
    Tbr(Published),
    /// Signs what users send.
    Dkim(DkimPublished),
}

impl Shown {
    fn text(&self) -> String {
        let (kind, domain, file, records) = match self {
            Self::Tbr(it) => ("", &it.domain, &it.file, &it.records),
            Self::Dkim(it) => ("DKIM, ", &it.domain, &it.file, &it.records),
        };
        format!("; {domain} ({kind}{})\n{}", file.display(), zone_lines(records))
    }
}

/// Carries a command out.
pub(super) fn run(command: &KeysCommand, global: &Global, output: Output) -> Outcome {
    match command {
        KeysCommand::Generate(args) => generate(args, output),
        KeysCommand::Rotate(args) => rotate::run(args, global, output),
        KeysCommand::Show(args) => show(args, global, output),
    }
}

/// A DKIM key and its record.
#[derive(Debug, Serialize)]
struct DkimPublished {
    domain: Domain,
    selector: Selector,
    file: PathBuf,
    records: Vec<TxtRecord>,
}

fn generate_dkim(args: &GenerateArgs, kind: DkimKind, output: Output) -> Outcome {
    let fault = |error: signer::KeyFault| Failure::new(error.to_string());
    let GenerateArgs { domain, selector, .. } = args;
    let named = || PathBuf::from(format!("{domain}.{selector}.dkim.pem"));
    let file = args.out.clone().unwrap_or_else(named);
    let name = keys::dkim_name(selector, domain).map_err(|error| too_long(&error))?;
    let key = match kind {
        DkimKind::Rsa => signer::generate_rsa(),
        DkimKind::Ed25519 => signer::generate_ed25519(),
    };
    let key = key.map_err(fault)?;
    let records = vec![TxtRecord { name, text: signer::record(&key).map_err(fault)? }];
    keys::write_pkcs8(&file, &key).map_err(|error| key_failure(&error))?;
    let file = file.canonicalize().unwrap_or(file);
    let published = DkimPublished { domain: domain.clone(), selector: selector.clone(), file, records };
    output.print(&published, || {
        let DkimPublished { domain, selector, file, records } = &published;
        format!(
            "The key is in {0}.\n\nPublish in DNS:\n\n{1}\n\nIn the configuration, below [[domain]] name = \"{domain}\":\n\n\
             [domain.dkim]\nkeys = {{ {selector} = \"{0}\" }}\n",
            file.display(),
            zone_lines(records)
        )
    });
    Ok(Exit::Done)
}

fn generate(args: &GenerateArgs, output: Output) -> Outcome {
    if let Some(kind) = args.dkim {
        return generate_dkim(args, kind, output);
    }
    let file = args.out.clone().unwrap_or_else(|| keys::file_name(&args.domain, &args.selector));
    if let Some(user) = &args.user {
        return generate_for_user(user, args, file, output);
    }
    let repository = repository(args.repository.as_ref(), &args.domain)?;
    let key = SigningKey::generate().map_err(|error| Failure::new(error.to_string()))?;
    // The records first: names that are too long should not leave a key behind.
    let window = DAY.saturating_mul(u32::try_from(args.days).unwrap_or(u32::MAX));
    let mut published = published(&args.domain, &args.selector, &key, file, repository, args.subdomains, window)
        .map_err(|e| too_long(&e))?;
    keys::write(&published.file, &key).map_err(|error| key_failure(&error))?;
    // In a configuration, a relative path would start from there and not from here.
    published.file = published.file.canonicalize().unwrap_or(published.file);
    output.print(&published, || generated_text(&published, args.subdomains));
    Ok(Exit::Done)
}

/// A key that only its user's custodian is told of.
#[derive(Debug, Serialize)]
struct OfUser {
    user: Holder,
    selector: Selector,
    file: PathBuf,
    public_key: String,
    repository: Domain,
}

fn generate_for_user(user: &str, args: &GenerateArgs, file: PathBuf, output: Output) -> Outcome {
    let user = Holder::user(&user.to_lowercase(), args.domain.clone())
        .map_err(|_| Failure::usage(format!("`{user}` is no user's name: write what stands before the @")))?;
    let repository = repository(None, &args.domain)?;
    let key = SigningKey::generate().map_err(|error| Failure::new(error.to_string()))?;
    keys::write(&file, &key).map_err(|error| key_failure(&error))?;
    let file = file.canonicalize().unwrap_or(file);
    let public_key = key.verifying_key().to_string();
    let made = OfUser { user, selector: args.selector.clone(), file, public_key, repository };
    output.print(&made, || made.text());
    Ok(Exit::Done)
}

impl OfUser {
    fn text(&self) -> String {
        let Self { user, selector, file, public_key, repository } = self;
        let (domain, name, file) = (user.domain(), user.user_name().unwrap_or_default(), file.display());
        format!(
            "The key is in {file}. It speaks for {user} alone: publish nothing of it.\n\n\
             In the configuration of this device:\n\n\
             smart_host = \"custodian\"        # at the top of the file\n\n\
             [[domain]]\nname = \"{domain}\"\nrecipients = {{ list = [\"{name}\"] }}\nothers = \"relay:custodian\"\n\n\
             [domain.tbr]\nselector = \"{selector}\"\nkey = \"{file}\"\noffers = false\n\n\
             [[custodian]]\nhost = \"{repository}\"\n\n\
             [[relay]]\nname = \"custodian\"\ncustodian = \"{repository}\"\n\n\
             In the configuration of its custodian, below [[domain]] name = \"{domain}\":\n\n\
             [[domain.user]]\nname = \"{name}\"\nkeys = {{ {selector} = \"{public_key}\" }}\n"
        )
    }
}

fn repository(given: Option<&Domain>, domain: &Domain) -> Result<Domain, Failure> {
    given.cloned().map_or_else(|| default_host(domain).map_err(|error| too_long(&error)), Ok)
}

fn too_long(error: &DomainError) -> Failure {
    Failure::new(format!("the names of the records would not be valid: {error}"))
}

fn key_failure(error: &KeyFileError) -> Failure {
    let failure = Failure::new(error.to_string());
    match &error.reason {
        keys::KeyFileReason::Io(io) if io.kind() == std::io::ErrorKind::AlreadyExists => {
            failure.help("a key is never overwritten: name another file with --out, or another --selector")
        }
        _ => failure,
    }
}

fn published(
    domain: &Domain,
    selector: &Selector,
    key: &SigningKey,
    file: PathBuf,
    repository: Domain,
    sub: bool,
    window: Duration,
) -> Result<Published, DomainError> {
    let (from, to) = (now().before(BEFORE), now().after(window));
    let public = key.verifying_key();
    let record = KeyRecord::active(selector.clone(), public, from, to);
    let facts = DomainRecord { repo: vec![repository.clone()], sub };
    let records = keys::records(domain, &facts, &record)?;
    let (domain, selector) = (domain.clone(), selector.clone());
    Ok(Published { domain, selector, file, public_key: public.to_string(), repository, records })
}

fn zone_lines(records: &[TxtRecord]) -> String {
    records.iter().map(TxtRecord::zone_line).collect::<Vec<_>>().join("\n")
}

fn generated_text(published: &Published, subdomains: bool) -> String {
    let Published { domain, selector, file, repository, .. } = published;
    let records = zone_lines(&published.records);
    let sub = if subdomains { "subdomains = true\n" } else { "" };
    let shown = file.display();
    let document = match default_host(domain) {
        Ok(host) if host != *repository => format!(" So must {host} be, for the domain's document."),
        _ => String::new(),
    };
    format!(
        "The key is in {shown}.\n\n\
         Publish in DNS:\n\n{records}\n\n\
         {repository} must be a name of this server, with a certificate, and reachable on port 443.{document}\n\n\
         In the configuration, below [[domain]] name = \"{domain}\":\n\n\
         [domain.tbr]\nselector = \"{selector}\"\nkey = \"{shown}\"\nrepository = \"{repository}\"\n{sub}"
    )
}

fn show(args: &ShowKeyArgs, global: &Global, output: Output) -> Outcome {
    let all = match (&args.file, &args.domain) {
        (Some(file), Some(domain)) => vec![Shown::Tbr(show_file(file.clone(), domain, &args.selector)?)],
        (_, only) => configured(global, only.as_ref())?,
    };
    output.print(&all, || all.iter().map(Shown::text).collect::<Vec<_>>().join("\n\n"));
    Ok(Exit::Done)
}

fn show_file(file: PathBuf, domain: &Domain, selector: &Selector) -> Result<Published, Failure> {
    let key = keys::read(&file).map_err(|error| key_failure(&error))?;
    let repository = repository(None, domain)?;
    published(domain, selector, &key, file, repository, false, YEAR).map_err(|error| too_long(&error))
}

fn configured(global: &Global, only: Option<&Domain>) -> Result<Vec<Shown>, Failure> {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let chosen = |domain: &&LocalDomain| only.is_none_or(|only| *only == domain.name);
    // What is one user's is published nowhere.
    let wanted = config.domains.values().filter(chosen).filter(|domain| !domain.is_of_one_user());
    let all = wanted.map(of_domain).collect::<Result<Vec<_>, Failure>>()?.into_iter().flatten().collect::<Vec<_>>();
    if all.is_empty() {
        let help = "make a key with `restante keys generate --domain …`, and name it in [domain.tbr]";
        return Err(Failure::new("no domain of the configuration has a key").help(help));
    }
    Ok(all)
}

fn of_domain(domain: &LocalDomain) -> Result<Vec<Shown>, Failure> {
    let name = &domain.name;
    let signs_references = domain.tbr.iter().flat_map(|tbr| tbr.keys().map(move |key| (tbr, key)));
    let tbr = signs_references.map(|(tbr, (selector, file, _))| {
        let key = keys::read(file).map_err(|error| key_failure(&error))?;
        let shown = published(name, selector, &key, file.to_owned(), tbr.repository.clone(), tbr.subdomains, YEAR);
        shown.map(Shown::Tbr).map_err(|error| too_long(&error))
    });
    let dkim = domain.dkim.iter().flat_map(|dkim| &dkim.keys).map(|(selector, file)| {
        let key = keys::read_pkcs8(file).map_err(|error| key_failure(&error))?;
        let text = signer::record(&key).map_err(|fault| Failure::new(format!("{}: {fault}", file.display())))?;
        let record = keys::dkim_name(selector, name).map_err(|error| too_long(&error))?;
        let records = vec![TxtRecord { name: record, text }];
        let (domain, selector, file) = (name.clone(), selector.clone(), file.clone());
        Ok(Shown::Dkim(DkimPublished { domain, selector, file, records }))
    });
    tbr.chain(dkim).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Where it is written, it does what it says.
    #[test]
    fn what_is_printed_for_a_user_is_good_for_both_configurations() {
        let domain = Domain::parse("b.example").unwrap();
        let made = OfUser {
            user: Holder::user("alice", domain.clone()).unwrap(),
            selector: "laptop".parse().unwrap(),
            file: PathBuf::from("/home/alice/laptop.pem"),
            public_key: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
            repository: default_host(&domain).unwrap(),
        };
        let text = made.text();
        let (_, rest) = text.split_once("of this device:\n").unwrap();
        let (device, custodian) = rest.split_once("In the configuration of its custodian").unwrap();
        let parse = |text: String| Config::parse(&text, Path::new("restante.toml")).map_err(|e| e.to_string()).unwrap();
        let device = parse(format!("hostname = \"laptop\"\n{device}"));
        assert!(device.domains[&domain].is_of_one_user());
        assert_eq!(device.sites_at(&made.repository).collect::<Vec<_>>(), [&domain]);
        let table = &custodian[custodian.find("[[domain.user]]").unwrap()..];
        let custodian = parse(format!(
            "hostname = \"mx.b.example\"\n[[listener]]\nkind = \"repository\"\naddress = \"[::1]:443\"\n\
             [[certificate]]\ncert = \"c\"\nkey = \"k\"\n[[domain]]\nname = \"b.example\"\n\
             [domain.tbr]\nselector = \"k1\"\nkey = \"k\"\n{table}"
        ));
        let (user, key) = custodian.domains[&domain].user_of_key(&made.selector).unwrap();
        assert_eq!((&user.holder, key.to_string()), (&made.user, made.public_key.clone()));
    }
}

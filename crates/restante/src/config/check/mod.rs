//! From the tables of the file to a [`Config`]: each value by itself, then what they mean together.
//!
//! Every function reads all of its fields before it gives up, so that all mistakes are found at once.

mod peers;
mod raw;
mod sites;
mod tuning;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::reference::Selector;
use mail::mta_sts::{self, Mode, Pattern, Policy};
use mail::{Address, Domain};
use toml::de::{DeTable, Error};

use super::mistake::Found;
use super::read::{At, Cursor, Reading, Size};
use super::values::MaildirPattern;
use super::{
    Acme, CertificateFiles, Config, ConfigErrors, Deliver, DomainDkim, DomainTbr, Landlock, Listener, ListenerKind,
    Lmtp, LocalDomain, Log, MayAsk, NextKey, Recipients, Relay, Tls, TlsVersion,
};
use raw::{AliasTargets, RawDeliver, RawMayAsk, RawRecipients, TrustedNetwork};

const LANDLOCK: [(&str, Landlock); 3] =
    [("try", Landlock::Try), ("required", Landlock::Required), ("off", Landlock::Off)];
/// Shortest age of a policy of ours.
/// Most repositories of a domain (TBR §5.2).
const MAX_HOSTS: usize = 8;
const SHORTEST_POLICY: Duration = Duration::from_secs(3600);

/// Checks a text.
///
/// # Errors
/// All mistakes that could be found.
pub(super) fn config(
    text: &str,
    origin: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Config, ConfigErrors> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let found = errors.iter().map(|error| syntax_mistake(text, error)).collect();
        return Err(ConfigErrors::locate(origin, text, found));
    }
    let base = std::path::absolute(origin).unwrap_or_else(|_| origin.to_owned());
    let base = base.parent().unwrap_or(Path::new("/"));
    let reading = Reading { base, environment, found: RefCell::default() };
    let config = whole(Cursor::root(&reading, table.get_ref()), origin);
    let found = reading.found.into_inner();
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(ConfigErrors::locate(origin, text, found)),
    }
}

fn syntax_mistake(text: &str, error: &Error) -> Found {
    // At the end of a line there is nothing to point at: point at its last character.
    let span =
        error.span().map(|span| if text[..span.start].ends_with('\n') { span.start - 1..span.start } else { span });
    Found { span, message: format!("this is not TOML: {}", error.message()), help: None }
}

fn whole(root: Cursor<'_>, origin: &Path) -> Option<Config> {
    let hostname: Option<Domain> = root.get("hostname");
    let data_dir: Option<PathBuf> = root.get("data_dir");
    let relay_from: Option<Vec<TrustedNetwork>> = root.get("relay_from");
    let smart_host: Option<At<String>> = root.at("smart_host");
    let postmaster: Option<Address> = root.get("postmaster");
    let admin = root.child("admin");
    let admin_socket: Option<PathBuf> = admin.get("socket");
    admin.finish();
    let landlock = root.choice("landlock", &LANDLOCK);
    let log = log(root.child("log"));
    let ((relays, uploads), lmtp) = (peers::relays(&root), peers::lmtp(&root));
    let hops: BTreeSet<&String> = relays.keys().chain(uploads.keys()).collect();
    let milters = peers::milters(&root);
    let listeners = listeners(&root);
    let tls = tls(&root);
    let acme = root.optional_child("acme").map(acme);
    let domains = domains(&root, data_dir.as_deref(), hostname.as_ref());
    let (resolver, outgoing) = (peers::resolver(root.child("resolver")), peers::outgoing(root.child("outgoing")));
    let (transfer, queue) = (tuning::transfer(root.child("transfer")), tuning::queue(root.child("queue")));
    let policy = tuning::policy(root.child("policy"));
    let submission = tuning::submission(root.child("submission"));
    let reports = tuning::reports(root.child("reports"));
    let budgets = tuning::budgets(root.child("budgets"));
    let (limits, store) = (tuning::limits(root.child("limits")), tuning::store(root.child("store")));

    let custodians = sites::custodians(&root, &domains, &hops);
    sites::check_uploads(&root, &uploads, &custodians);

    check_listeners(&listeners, tls.as_ref(), acme.is_some());
    check_challenges(&root, &listeners, acme.is_some());
    check_repository(&listeners, &domains);
    check_routes(&domains, &hops, &relays, &lmtp);
    check_postmaster(&domains, postmaster.is_some());
    if let Some(name) = smart_host.as_ref().filter(|name| !hops.contains(&name.value)) {
        root.mistake("smart_host", format!("there is no [[relay]] named `{}`", name.value), &names_of(&hops));
    }
    root.finish();
    let (listeners, domains) = (finish_all(listeners), finish_all(domains));
    let data_dir = data_dir?;
    Some(Config {
        origin: origin.to_owned(),
        hostname: hostname?,
        admin_socket: admin_socket.unwrap_or_else(|| data_dir.join("admin.sock")),
        data_dir,
        landlock: landlock?,
        log: log?,
        listeners,
        tls: tls?,
        acme: match acme {
            Some(acme) => Some(acme?),
            None => None,
        },
        domains: domains.into_iter().map(|domain| (domain.name.clone(), domain)).collect(),
        relays,
        uploads,
        lmtp,
        custodians,
        milters,
        smart_host: smart_host.map(|name| name.value),
        relay_from: relay_from?.into_iter().map(|network| network.0).collect(),
        postmaster,
        resolver: resolver?,
        outgoing: outgoing?,
        transfer: transfer?,
        queue: queue?,
        limits: limits?,
        submission: submission?,
        budgets: budgets?,
        policy: policy?,
        reports: reports?,
        store: store?,
    })
}

fn log(table: Cursor<'_>) -> Option<Log> {
    let level: Option<String> = table.get("level");
    let json = table.get("json");
    let broken = level.as_deref().and_then(|level| tracing_subscriber::EnvFilter::try_new(level).err());
    if let Some(error) = broken {
        table.mistake(
            "level",
            format!("this is no log filter: {error}"),
            "write it like \"info\" or \"info,net=debug\"",
        );
    }
    table.finish();
    Some(Log { level: level?, json: json? })
}

fn tls(root: &Cursor<'_>) -> Option<Tls> {
    let read = |table: Cursor<'_>| {
        let (cert, key) = (table.get("cert"), table.get("key"));
        table.finish();
        Some(CertificateFiles { cert: cert?, key: key? })
    };
    let certificates = root.children("certificate").into_iter().filter_map(read).collect();
    let table = root.child("tls");
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let min_version = table.choice("min_version", &versions);
    let repository_min_version = table.choice("repository_min_version", &versions);
    table.finish();
    Some(Tls { certificates, min_version: min_version?, repository_min_version: repository_min_version? })
}

fn acme(table: Cursor<'_>) -> Option<Acme> {
    let (directory, contact) = (table.get::<String>("directory"), table.get("contact"));
    let (names, ca_file) = (table.get("names"), table.get("ca_file"));
    let terms: Option<bool> = table.get("accept_terms");
    let is_https = |url: &String| url.parse::<hyper::Uri>().is_ok_and(|url| url.scheme_str() == Some("https"));
    if directory.as_ref().is_some_and(|url| !is_https(url)) {
        table.mistake(
            "directory",
            "an authority is reached by https only",
            "write it like \"https://acme.example/directory\"",
        );
    }
    if terms == Some(false) {
        table.mistake("accept_terms", "the authority issues nothing without", "read its terms, then set it to true");
    }
    table.finish();
    Some(Acme { directory: directory?, contact, names: names?, ca_file })
}

/// What was read, with its table for mistakes that show later.
type Read<'a, T> = Vec<(Cursor<'a>, T)>;

/// Ends the reading of these tables.
fn finish_all<T>(read: Read<'_, T>) -> Vec<T> {
    let finish = |(table, item): (Cursor<'_>, T)| {
        table.finish();
        item
    };
    read.into_iter().map(finish).collect()
}

/// Reads all tables of a list; one that has mistakes is finished here, having no value.
fn read_all<'a, T>(tables: Vec<Cursor<'a>>, read: impl Fn(&Cursor<'a>) -> Option<T>) -> Read<'a, T> {
    let mut good = Vec::new();
    for table in tables {
        match read(&table) {
            Some(item) => good.push((table, item)),
            None => table.finish(),
        }
    }
    good
}

fn listeners<'a>(root: &Cursor<'a>) -> Read<'a, Listener> {
    read_all(root.children("listener"), listener)
}

fn listener(table: &Cursor<'_>) -> Option<Listener> {
    const KINDS: [(&str, ListenerKind); 6] = [
        ("relay", ListenerKind::Relay),
        ("submission", ListenerKind::Submission),
        ("submissions", ListenerKind::Submissions),
        ("odmr", ListenerKind::Odmr),
        ("repository", ListenerKind::Repository),
        ("acme", ListenerKind::Acme),
    ];
    let kind = table.choice("kind", &KINDS);
    let address = table.get("address");
    let (tbr, tbr_without_tls) = (table.get::<bool>("tbr"), table.get("tbr_without_tls"));
    let auth_without_tls = table.get("auth_without_tls");
    let max_connections = tuning::at_least(table, "max_connections", 1);
    let max_connections_per_ip = tuning::at_least(table, "max_connections_per_ip", 1);
    let kind = kind?;
    let misplaced = |field: &'static str, only: &str| {
        if table.has(field) && table.get::<bool>(field) == Some(true) {
            let message = format!("`{field}` means nothing on a {} listener", kind.as_str());
            table.mistake(field, message, &format!("leave it out: it is for {only} listeners"));
        }
    };
    if kind != ListenerKind::Relay {
        misplaced("tbr", "relay");
        misplaced("tbr_without_tls", "relay");
    }
    if !kind.has_accounts() {
        misplaced("auth_without_tls", "submission and odmr");
    }
    Some(Listener {
        kind,
        address: address?,
        tbr: tbr? && kind == ListenerKind::Relay,
        tbr_without_tls: tbr_without_tls?,
        auth_without_tls: auth_without_tls?,
        max_connections: max_connections?,
        max_connections_per_ip: max_connections_per_ip?,
    })
}

/// What listeners need of each other and of the certificates.
fn check_listeners(listeners: &Read<'_, Listener>, tls: Option<&Tls>, acme: bool) {
    let certified = acme || tls.is_none_or(|tls| !tls.certificates.is_empty());
    let mut seen = BTreeSet::new();
    for (table, listener) in listeners {
        let needs = match listener.kind {
            ListenerKind::Submissions | ListenerKind::Repository => true,
            ListenerKind::Submission | ListenerKind::Odmr => !listener.auth_without_tls,
            ListenerKind::Relay | ListenerKind::Acme => false,
        };
        if listener.kind == ListenerKind::Acme && !acme {
            table.mistake("kind", "there is nothing to answer for", "add [acme], or leave this listener out");
        }
        if needs && !certified {
            let message = format!("a {} listener needs a certificate", listener.kind.as_str());
            table.mistake("kind", message, "add [[certificate]] with `cert` and `key`, or [acme]");
        }
        if listener.address.port() != 0 && !seen.insert(listener.address) {
            table.mistake("address", "another listener has this address", "give each its own port");
        }
    }
}

/// An authority that asks for a name must be answered.
fn check_challenges(root: &Cursor<'_>, listeners: &Read<'_, Listener>, acme: bool) {
    let answers = |kind| matches!(kind, ListenerKind::Acme | ListenerKind::Repository);
    if acme && !listeners.iter().any(|(_, listener)| answers(listener.kind)) {
        let help = "add [[listener]] with kind = \"acme\" (port 80), or one with kind = \"repository\" (port 443)";
        root.mistake("acme", "nothing here could answer the authority's questions about names", help);
    }
}

/// Messages sent by reference are fetched from here.
fn check_repository(listeners: &Read<'_, Listener>, domains: &Read<'_, LocalDomain>) {
    if listeners.iter().any(|(_, listener)| listener.kind == ListenerKind::Repository) {
        return;
    }
    for (table, _) in domains.iter().filter(|(_, domain)| domain.tbr.as_ref().is_some_and(|tbr| tbr.offers)) {
        let message = "this domain sends by reference, but nobody could fetch its messages";
        table.mistake("tbr", message, "add [[listener]] with kind = \"repository\", or leave [domain.tbr] out");
    }
    for (table, _) in domains.iter().filter(|(_, domain)| domain.mta_sts.is_some()) {
        let help = "add [[listener]] with kind = \"repository\", or leave [domain.mta_sts] out";
        table.mistake("mta_sts", "this domain has an MTA-STS policy that nobody could fetch", help);
    }
}

fn domains<'a>(root: &Cursor<'a>, data_dir: Option<&Path>, hostname: Option<&Domain>) -> Read<'a, LocalDomain> {
    let domains = read_all(root.children("domain"), |table| domain(table, data_dir, hostname));
    let mut seen = BTreeSet::new();
    for (table, domain) in &domains {
        if !seen.insert(&domain.name) {
            table.mistake(
                "name",
                format!("`{}` is configured twice", domain.name),
                "put all of it into one [[domain]]",
            );
        }
    }
    domains
}

fn domain(table: &Cursor<'_>, data_dir: Option<&Path>, hostname: Option<&Domain>) -> Option<LocalDomain> {
    let name: Option<Domain> = table.get("name");
    let deliver: Option<RawDeliver> = table.get("deliver");
    let maildir = maildir(table, data_dir);
    let recipients: Option<RawRecipients> = table.get("recipients");
    let aliases: Option<BTreeMap<String, AliasTargets>> = table.get("aliases");
    let alias_file = table.get("alias_file");
    let catch_all = table.get("catch_all");
    let report_address = report_address(table);
    let quota = table.get("quota").map(|Size(octets)| octets);
    let separator = separator(table);
    let pass_offers_to = table.get("pass_offers_to");
    let etrn: Option<RawMayAsk> = table.get("etrn");
    let tbr = table.optional_child("tbr");
    let tbr = tbr.map(|table| domain_tbr(table, name.as_ref()));
    let mta_sts = table.optional_child("mta_sts").map(|table| domain_mta_sts(table, hostname));
    let dkim = table.optional_child("dkim").map(domain_dkim);
    let site = sites::of_domain(table, deliver.as_ref(), recipients.as_ref(), tbr.is_some());
    let own_key = tbr.as_ref().and_then(Option::as_ref);
    let users = sites::users(table, name.as_ref(), deliver.as_ref(), own_key);
    let others = sites::others(table, deliver.as_ref(), recipients.as_ref());
    let name = name?;
    let (deliver, recipients) = (deliver?, recipients?);
    check_ways(table, &deliver, &recipients, etrn.as_ref());
    Some(LocalDomain {
        dkim: match dkim {
            Some(dkim) => Some(dkim?),
            None => None,
        },
        deliver: match deliver {
            RawDeliver::Maildir => Deliver::Maildir(maildir?),
            RawDeliver::Lmtp(name) => Deliver::Lmtp(name),
            RawDeliver::Relay(name) => Deliver::Relay(name),
            RawDeliver::Site => Deliver::Site,
            RawDeliver::OnDemand => Deliver::OnDemand,
            RawDeliver::Discard => Deliver::Discard,
        },
        recipients: known_recipients(table, recipients, &name),
        site: site?,
        users,
        others,
        aliases: complete_aliases(table, aliases?, &name),
        alias_file,
        catch_all,
        report_address,
        quota,
        subaddress_separator: separator?,
        pass_offers_to,
        etrn: etrn?.0,
        tbr: match tbr {
            Some(tbr) => Some(tbr?),
            None => None,
        },
        mta_sts: match mta_sts {
            Some(policy) => Some(policy?),
            None => None,
        },
        name,
    })
}

fn maildir(table: &Cursor<'_>, data_dir: Option<&Path>) -> Option<MaildirPattern> {
    // The place of a relative pattern was found by `PathBuf`; the default one is in the data directory.
    let written: Option<PathBuf> = table.get("maildir");
    let base = data_dir.unwrap_or(Path::new("/"));
    let path = written.unwrap_or_else(|| base.join("mail/{domain}/{user}"));
    let pattern = MaildirPattern::parse(&path.to_string_lossy(), base);
    pattern.map_err(|message| table.mistake("maildir", message, "{user} and {domain} stand for the mailbox")).ok()
}

/// A local part without quotes; an address of another domain is none.
fn report_address(table: &Cursor<'_>) -> Option<String> {
    let name: String = table.get("report_address")?;
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.+=".contains(&octet);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || name.ends_with('.') || !name.bytes().all(plain) {
        table.mistake(
            "report_address",
            format!("`{name}` cannot be a name"),
            "what stands before the @, such as \"reports\"",
        );
        return None;
    }
    Some(name.to_ascii_lowercase())
}

fn separator(table: &Cursor<'_>) -> Option<Option<char>> {
    let text: String = table.get("subaddress_separator")?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (None, _) => Some(None),
        (Some(c), None) if c.is_ascii_punctuation() && !"@\"\\./<>,;:()[]".contains(c) => Some(Some(c)),
        _ => {
            table.mistake(
                "subaddress_separator",
                format!("`{text}` cannot part a name"),
                "one character, such as \"+\"",
            );
            None
        }
    }
}

/// What goes with one way to deliver only.
fn check_ways(table: &Cursor<'_>, deliver: &RawDeliver, recipients: &RawRecipients, etrn: Option<&RawMayAsk>) {
    if *recipients == RawRecipients::Probe && !matches!(deliver, RawDeliver::Lmtp(_) | RawDeliver::Relay(_)) {
        let help = "probing asks an LMTP server or a next hop; here use \"accounts\", a list, a file, or \"any\"";
        table.mistake("recipients", "there is nobody to ask", help);
    }
    if etrn.is_some_and(|etrn| etrn.0 != MayAsk::Anyone) && !matches!(deliver, RawDeliver::Relay(_)) {
        let help = "leave it out, or set deliver = \"relay:<name>\"";
        table.mistake("etrn", "nothing waits here for a next hop of this domain", help);
    }
    if table.has("maildir") && *deliver != RawDeliver::Maildir {
        table.mistake(
            "maildir",
            "this domain is not delivered into Maildirs",
            "leave it out, or set deliver = \"maildir\"",
        );
    }
}

fn domain_dkim(table: Cursor<'_>) -> Option<DomainDkim> {
    let keys: Option<BTreeMap<String, PathBuf>> = table.get("keys");
    let mut checked = BTreeMap::new();
    for (name, path) in keys.iter().flatten() {
        match name.parse() {
            Ok(selector) => drop(checked.insert(selector, path.clone())),
            Err(error) => table.mistake("keys", format!("`{name}` is no selector: {error}"), "write it like s1"),
        }
    }
    table.finish();
    keys.map(|_| DomainDkim { keys: checked })
}

fn domain_tbr(table: Cursor<'_>, domain: Option<&Domain>) -> Option<DomainTbr> {
    let (selector, key) = (table.get("selector"), table.get("key"));
    let repository: Option<Domain> = table.get("repository");
    let (subdomains, offers) = (table.get("subdomains"), table.get("offers"));
    let other_repositories: Option<Vec<Domain>> = table.get("other_repositories");
    if other_repositories.as_ref().is_some_and(|others| others.len() >= MAX_HOSTS) {
        table.mistake("other_repositories", "a domain has at most 8 repositories", "leave some of them out");
    }
    let repository = repository.or_else(|| ::reference::keys::default_host(domain?).ok());
    let next = next_key(&table, selector.as_ref());
    let revoked: Option<Vec<Selector>> = table.get("revoked");
    let signs =
        |name: &Selector| selector.as_ref() == Some(name) || next.as_ref().is_some_and(|next| next.selector == *name);
    if revoked.iter().flatten().any(signs) {
        table.mistake("revoked", "a key that signs is not revoked", "make another the domain's key first");
    }
    table.finish();
    Some(DomainTbr {
        selector: selector?,
        key: key?,
        next,
        revoked: revoked?,
        repository: repository?,
        other_repositories: other_repositories?,
        subdomains: subdomains?,
        offers: offers?,
    })
}

/// All of it, or nothing.
fn next_key(table: &Cursor<'_>, selector: Option<&Selector>) -> Option<NextKey> {
    let (next, key, from) = (table.get("next_selector"), table.get("next_key"), table.get("next_from"));
    let written = ["next_selector", "next_key", "next_from"].map(|name| table.has(name));
    if written.contains(&true) && written.contains(&false) {
        let help = "`restante keys rotate` prints next_selector, next_key and next_from: set all of them, or none";
        table.mistake("next_selector", "the key after this one is not wholly described", help);
    }
    if next.is_some() && next.as_ref() == selector {
        table.mistake("next_selector", "the key after this one has the same name", "every key has a name of its own");
    }
    Some(NextKey { selector: next?, key: key?, from: from? })
}

/// Without hosts, this server is the only one.
fn domain_mta_sts(table: Cursor<'_>, hostname: Option<&Domain>) -> Option<Policy> {
    let mode = table.choice("mode", &[("enforce", Mode::Enforce), ("testing", Mode::Testing), ("none", Mode::None)]);
    let hosts: Option<Vec<Pattern>> = table.get("mx");
    let max_age: Option<Duration> = table.get("max_age");
    if let Some(age) = max_age.filter(|age| !(SHORTEST_POLICY..=mta_sts::MAX_AGE).contains(age)) {
        let message = format!("a policy of {} serves nobody", super::format_duration(age));
        table.mistake("max_age", message, "an hour to a year; weeks are usual");
    }
    if hosts.as_ref().is_some_and(|hosts| hosts.is_empty() || hosts.len() > mta_sts::MAX_PATTERNS) {
        table.mistake("mx", "1 to 64 hosts make a policy", "name every mail exchanger of the domain");
    }
    table.finish();
    let hosts = hosts.or_else(|| Some(vec![Pattern::host(hostname?.clone())]));
    Some(Policy::new(mode?, hosts?, max_age?))
}

/// Local parts in lower case; an address of another domain is a mistake.
fn known_recipients(table: &Cursor<'_>, raw: RawRecipients, domain: &Domain) -> Recipients {
    match raw {
        RawRecipients::Accounts => Recipients::Accounts,
        RawRecipients::File(path) => Recipients::File(path),
        RawRecipients::Probe => Recipients::Probe,
        RawRecipients::Any => Recipients::Any,
        RawRecipients::List(targets) => {
            let addresses = targets.complete(domain);
            if let Some(other) = addresses.iter().find(|address| address.host() != domain.as_str()) {
                let message = format!("`{other}` is not in {domain}");
                table.mistake("recipients", message, "list local parts, such as \"alice\"; for others use `aliases`");
            }
            Recipients::List(addresses.iter().map(crate::routing::local_key).collect())
        }
    }
}

fn complete_aliases(
    table: &Cursor<'_>,
    raw: BTreeMap<String, AliasTargets>,
    domain: &Domain,
) -> BTreeMap<String, Vec<Address>> {
    let mut aliases = BTreeMap::new();
    for (name, targets) in raw {
        match Address::new(&name, domain) {
            Ok(address) => drop(aliases.insert(crate::routing::local_key(&address), targets.complete(domain))),
            Err(error) => {
                let help = "the name is what stands before the @, in quotes if it has dots";
                table.mistake("aliases", format!("`{name}` cannot be an alias: {error}"), help);
            }
        }
    }
    aliases
}

/// Do the names of next hops and LMTP servers exist?
fn check_routes(
    domains: &Read<'_, LocalDomain>,
    hops: &BTreeSet<&String>,
    relays: &BTreeMap<String, Relay>,
    lmtp: &BTreeMap<String, Lmtp>,
) {
    for (table, domain) in domains {
        let missing = match &domain.deliver {
            Deliver::Relay(name) if !hops.contains(name) => Some(("relay", name, names_of(hops))),
            Deliver::Lmtp(name) if !lmtp.contains_key(name) => Some(("lmtp", name, names_of(lmtp.keys()))),
            _ => None,
        };
        if let Some((kind, name, help)) = missing {
            table.mistake("deliver", format!("there is no [[{kind}]] named `{name}`"), &help);
        }
        if let Some(name) = domain.others.as_ref().filter(|name| !hops.contains(name)) {
            table.mistake("others", format!("there is no [[relay]] named `{name}`"), &names_of(hops));
        }
        if let (Deliver::Relay(name), Recipients::Probe) = (&domain.deliver, &domain.recipients)
            && hops.contains(name)
            && !relays.contains_key(name)
        {
            let help = "name the recipients by a list or a file, or write \"any\"";
            table.mistake("recipients", format!("`{name}` cannot be asked: mail is uploaded to it"), help);
        }
        let to = domain.pass_offers_to.as_ref();
        if let Some(name) = to.filter(|name| hops.contains(*name) && !relays.contains_key(*name)) {
            table.mistake("pass_offers_to", format!("`{name}` takes no offers: mail is uploaded to it"), "name an MX");
        } else if let Some(name) = to.filter(|name| !relays.contains_key(*name)) {
            let known = names_of(relays.keys());
            table.mistake("pass_offers_to", format!("there is no [[relay]] named `{name}`"), &known);
        }
    }
}

fn names_of(known: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let known: Vec<String> = known.into_iter().map(|name| name.as_ref().to_owned()).collect();
    if known.is_empty() {
        return "none is configured: add one".into();
    }
    format!("configured: {}", known.join(", "))
}

/// Mail for postmaster must go somewhere (RFC 5321 §4.5.1). Mailboxes that are made on demand always can.
fn check_postmaster(domains: &Read<'_, LocalDomain>, fallback: bool) {
    for (table, domain) in domains {
        let listed = match &domain.recipients {
            Recipients::List(list) => list.contains("postmaster"),
            // The LMTP server or the next hop gets it then, whatever they hold.
            Recipients::Probe | Recipients::Any | Recipients::Accounts | Recipients::File(_) => true,
        };
        let on_demand =
            matches!(domain.deliver, Deliver::Maildir(_) | Deliver::Site | Deliver::OnDemand | Deliver::Discard);
        let aliased =
            domain.aliases.contains_key("postmaster") || domain.catch_all.is_some() || domain.others.is_some();
        let by_file = domain.alias_file.is_some();
        if !(listed || on_demand || aliased || by_file || fallback) {
            let message = format!("mail for postmaster@{} has nowhere to go", domain.name);
            let help = "every domain must accept it: set `postmaster = \"alice@a.example\"` at the top of the file, or \
                        add an alias for postmaster";
            table.mistake("name", message, help);
        }
    }
}

//! `restante check config`: the configuration, and every file that it names, read as the server would.

use std::collections::BTreeSet;
use std::path::Path;

use mail::{Domain, mta_sts};
use net::acme::challenges::Kind;
use net::dns::Source;
use net::dns::zone::Zone;
use net::tls::{Certificates, ClientTls, Trust};
use serde::Serialize;

use super::args::Global;
use super::humane::now;
use super::output::{Exit, Failure, Outcome, Output};
use crate::accounts::Accounts;
use crate::acme::challenge;
use crate::config::{Config, Deliver, Listener, ListenerKind, NextKey, Way};
use crate::confinement;
use crate::keys;
use crate::private;
use crate::routing::Router;

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// The file.
    file: String,
    /// The server would not start, or not work.
    errors: Vec<String>,
    /// It would, but perhaps not as meant.
    warnings: Vec<String>,
}

/// Checks everything.
pub(super) fn run(global: &Global, output: Output) -> Outcome {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let findings = check(&config);
    output.print(&findings, || text(&findings, &config));
    Ok(if findings.errors.is_empty() { Exit::Done } else { Exit::Usage })
}

fn check(config: &Config) -> Findings {
    let mut findings = Findings { file: config.origin.display().to_string(), ..Findings::default() };
    certificates(config, &mut findings);
    for domain in config.domains.values() {
        for (_, file, _) in domain.tbr.iter().flat_map(crate::config::DomainTbr::keys) {
            findings.errors.extend(keys::read(file).err().map(|error| error.to_string()));
        }
    }
    let broken = config.password_files().filter_map(|file| Some((file, private::read(file).err()?)));
    findings.errors.extend(broken.map(|(file, error)| format!("{}: {error}", file.display())));
    match &config.resolver.source {
        Source::ZoneFile(path) => findings.errors.extend(Zone::load(path).err().map(|error| error.to_string())),
        _ => findings.errors.extend(crate::server::resolver(config).err().map(|error| error.to_string())),
    }
    routing(config, &mut findings);
    sense(config, &mut findings);
    findings
}

fn certificates(config: &Config, findings: &mut Findings) {
    let files: Vec<_> = config
        .tls
        .certificates
        .iter()
        .map(|files| net::tls::CertificateFiles { certificate: files.cert.clone(), key: files.key.clone() })
        .collect();
    if let Some(first) = files.first() {
        match Certificates::load(&files) {
            Ok(certificates) => findings.warnings.extend(uncovered(config, &certificates, &first.certificate)),
            Err(error) => findings.errors.push(error.to_string()),
        }
    }
    let acme = config.acme.as_ref().and_then(|acme| acme.ca_file.as_ref());
    // One file may serve both: it is complained of once.
    let trusted: BTreeSet<_> = config.outgoing.ca_file.iter().chain(acme).collect();
    for path in trusted {
        findings.errors.extend(ClientTls::new(&Trust::CaFile(path.clone())).err().map(|error| error.to_string()));
    }
}

/// The names by which others connect and that no certificate is for. With `[acme]` there will be one for each.
fn uncovered(config: &Config, certificates: &Certificates, first: &Path) -> Vec<String> {
    let names = if config.acme.is_none() { names_in_use(config) } else { Vec::new() };
    let uncovered = names.into_iter().filter(|(name, _)| !certificates.cover(name.as_str()));
    let text = |(name, what): (Domain, String)| {
        format!(
            "no [[certificate]] is for {name}, {what}: whoever asks for it gets the one in {}. Have one issued that is for {name} too, \
             or add a [[certificate]] for it",
            first.display()
        )
    };
    uncovered.map(text).collect()
}

/// The names by which others connect to this server under TLS, each once, and what for.
fn names_in_use(config: &Config) -> Vec<(Domain, String)> {
    let serves = |kind| config.listeners.iter().any(|listener| listener.kind == kind);
    let is_smtp = |listener: &Listener| !matches!(listener.kind, ListenerKind::Repository | ListenerKind::Acme);
    let mut names = Vec::new();
    if config.listeners.iter().any(is_smtp) {
        names.push((config.hostname.clone(), "the `hostname` of this server".to_owned()));
    }
    for domain in config.domains.values().filter(|_| serves(ListenerKind::Repository)) {
        let of = |what: &str| format!("{what} of {}", domain.name);
        if let Some(tbr) = &domain.tbr {
            names.push((tbr.repository.clone(), of("the `repository`")));
            let document = reference::keys::default_host(&domain.name);
            names.extend(document.ok().map(|host| (host, of("where others look for the keys"))));
        }
        let policy = domain.mta_sts.as_ref().and_then(|_| domain.name.child(mta_sts::HOST_LABEL).ok());
        names.extend(policy.map(|host| (host, of("where others look for the MTA-STS policy"))));
    }
    let mut seen = BTreeSet::new();
    names.retain(|(name, _)| seen.insert(name.clone()));
    names
}

fn routing(config: &Config, findings: &mut Findings) {
    let accounts = match Accounts::load(&config.accounts_file()) {
        Ok(accounts) => accounts,
        Err(error) => {
            findings.errors.push(error.to_string());
            Accounts::default()
        }
    };
    match Router::load(config, accounts) {
        Ok(router) => {
            let dangling = router.dangling();
            findings
                .warnings
                .extend(dangling.iter().map(|alias| format!("the alias {alias} leads nowhere, or in a circle")));
            let nobody = router.nobody_at();
            let text = |(field, address)| format!("`{field}` is {address}, which is nobody here");
            findings.warnings.extend(nobody.into_iter().map(text));
        }
        Err(errors) => findings.errors.extend(errors.0.iter().map(ToString::to_string)),
    }
}

/// What a configuration lacks that nobody has filled in yet. A laptop that fetches its mail from a custodian needs no listener.
pub(super) fn gaps(config: &Config) -> Vec<&'static str> {
    let is_unreachable = config.listeners.is_empty() && config.custodians.is_empty();
    let domains = config.domains.is_empty().then_some("there is no [[domain]]: nobody gets mail here");
    let listeners = is_unreachable.then_some("there is no [[listener]]: nobody reaches this server");
    domains.into_iter().chain(listeners).collect()
}

/// What is allowed and seldom meant.
fn sense(config: &Config, findings: &mut Findings) {
    findings.warnings.extend(gaps(config).into_iter().map(str::to_owned));
    let mut warn = |text: String| findings.warnings.push(text);
    let has = |kind| config.listeners.iter().any(|listener| listener.kind == kind);
    let is_waited_for = !config.domains.is_empty() && !config.listeners.is_empty() && config.custodians.is_empty();
    if is_waited_for && !has(ListenerKind::Relay) {
        warn("there are domains, but no relay listener: nobody can send them mail by SMTP".into());
    }
    if config.domains.values().any(|d| d.deliver == Deliver::OnDemand) && !has(ListenerKind::Odmr) {
        warn("a domain waits for ATRN (`deliver = \"odmr\"`), but there is no odmr listener: nobody can ask for its mail".into());
    }
    if config.custodians.iter().any(|c| matches!(c.way, Way::Etrn(_))) && !has(ListenerKind::Relay) {
        warn("a [[custodian]] is asked by ETRN, but there is no relay listener that its mail could come to".into());
    }
    for listener in &config.listeners {
        let uncertified = config.tls.certificates.is_empty() && config.acme.is_none();
        let blind = uncertified && !listener.tbr_without_tls;
        if listener.kind == ListenerKind::Relay && listener.tbr && blind {
            warn(format!("{} has no certificate: no STARTTLS, and no messages by reference", listener.address));
        }
        let loopback = listener.address.ip().is_loopback();
        if (listener.auth_without_tls || listener.tbr_without_tls) && !loopback {
            warn(format!("{} lets passwords or grants travel in clear", listener.address));
        }
    }
    let at_port_443 = |l: &Listener| l.kind == ListenerKind::Repository && l.address.port() == 443;
    let by_tls = config.acme.is_some() && challenge(config) == Kind::TlsAlpn01;
    if by_tls && !config.listeners.iter().any(at_port_443) {
        warn("an authority asks port 443 for names (tls-alpn-01), and no repository listener has it: lead it there as it is, or add an acme listener for port 80".into());
    }
    for (domain, tbr) in config.domains.values().filter_map(|domain| Some((&domain.name, domain.tbr.as_ref()?))) {
        let Some(next) = tbr.next.as_ref().filter(|next| next.from.after(NextKey::STAYS) < now()) else { continue };
        let (old, new) = (&tbr.selector, &next.selector);
        warn(format!(
            "the key {old} of {domain} is done with: make {new} its selector, and remove the next_ fields and the record of {old}"
        ));
    }
    if config.outgoing.allow_private_addresses {
        warn("allow_private_addresses lets strangers' references aim this server at private networks".into());
    }
    for (setting, place) in confinement::opened(config) {
        warn(format!(
            "{setting} lets this process, should it be taken over, write anywhere in {}: name a directory of its own, such as one below it",
            place.display()
        ));
    }
    if let Some(postmaster) = &config.postmaster {
        let ours = postmaster.domain().is_some_and(|domain| config.is_ours(&domain));
        if !ours {
            warn(format!("mail for postmaster leaves this server, to {postmaster}"));
        }
    }
}

fn text(findings: &Findings, config: &Config) -> String {
    let errors = findings.errors.iter().map(|error| format!("error: {error}"));
    let warnings = findings.warnings.iter().map(|warning| format!("warning: {warning}"));
    let mut lines: Vec<String> = errors.chain(warnings).collect();
    let signing = config.domains.values().filter(|domain| domain.tbr.is_some()).count();
    let (domains, listeners) = (config.domains.len(), config.listeners.len());
    lines.push(match findings.errors.len() {
        0 => format!(
            "{} is in order: {}, {} of them sending by reference, {}.",
            findings.file,
            counted(domains, "domain"),
            signing,
            counted(listeners, "listener")
        ),
        count => format!("{}: {}", findings.file, counted(count, "error")),
    });
    lines.join("\n")
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_must_reach_port_443_where_there_is_none_for_port_80() {
        let warns = |listeners: &str| {
            let text = format!(
                "hostname = \"mx.a.example\"\ndata_dir = \".\"\n[acme]\naccept_terms = true\n{listeners}\
                 [[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\n"
            );
            let warnings = check(&Config::parse(&text, Path::new("/x/restante.toml")).unwrap()).warnings;
            assert!(!warnings.iter().any(|warning| warning.contains("STARTTLS")), "{warnings:?}");
            warnings.iter().any(|warning| warning.contains("port 443"))
        };
        let listener =
            |kind: &str, port: u16| format!("[[listener]]\nkind = \"{kind}\"\naddress = \"127.0.0.1:{port}\"\n");
        assert!(warns(&listener("repository", 8443)));
        assert!(!warns(&listener("repository", 443)));
        assert!(!warns(&(listener("repository", 8443) + &listener("acme", 8080))));
    }

    #[test]
    fn who_has_filled_nothing_in_is_told() {
        let gaps_of = |text: &str| gaps(&Config::parse(text, Path::new("/x/restante.toml")).unwrap());
        let empty = "hostname = \"mx.a.example\"\n";
        assert_eq!(gaps_of(empty).len(), 2);
        let filled = "[[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\n[[domain]]\nname = \"a.example\"\n";
        assert_eq!(gaps_of(&format!("{empty}{filled}")), [""; 0]);
    }

    #[test]
    fn a_site_whose_mail_is_fetched_need_not_be_reached() {
        let warnings = |listener: &str| {
            let text = format!(
                "hostname = \"site.example\"\ndata_dir = \".\"\n{listener}[[domain]]\nname = \"site.example\"\n\
                 [domain.tbr]\nselector = \"home\"\nkey = \"k.pem\"\noffers = false\n[[custodian]]\nhost = \"tbr.site.example\"\n"
            );
            check(&Config::parse(&text, Path::new("/x/restante.toml")).unwrap()).warnings
        };
        for listener in
            ["", "[[listener]]\nkind = \"submission\"\naddress = \"127.0.0.1:0\"\nauth_without_tls = true\n"]
        {
            let found = warnings(listener);
            assert!(!found.iter().any(|warning| warning.contains("listener")), "{found:?}");
        }
    }

    #[test]
    fn files_that_are_not_there_are_all_named() {
        let directory = tempfile::tempdir().unwrap();
        let text = "hostname = \"mx.a.example\"\ndata_dir = \".\"\n[resolver]\nzone_file = \"zone\"\n\
                    [[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n[[certificate]]\ncert = \"c.pem\"\nkey = \"c.key\"\n\
                    [outgoing]\nca_file = \"ca.pem\"\n\
                    [[domain]]\nname = \"a.example\"\nalias_file = \"aliases\"\n[domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\n";
        let config = Config::parse(text, &directory.path().join("restante.toml")).unwrap();
        let findings = check(&config);
        for file in ["c.pem", "k1.pem", "zone", "aliases", "ca.pem"] {
            assert!(findings.errors.iter().any(|error| error.contains(file)), "{file}: {findings:?}");
        }
        assert!(findings.warnings.iter().any(|warning| warning.contains("no relay listener")));
        assert!(super::text(&findings, &config).ends_with("5 errors"));
    }

    #[test]
    fn a_certificate_for_another_name_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let warnings = |names: &[&str], more: &str| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            crate::private::replace(&directory.path().join("c.key"), made.signing_key.serialize_pem().as_bytes())
                .unwrap();
            std::fs::write(directory.path().join("c.pem"), made.cert.pem()).unwrap();
            let text = format!(
                "hostname = \"mx.a.example\"\ndata_dir = \".\"\n[[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\n\
                 [[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n\
                 [[certificate]]\ncert = \"c.pem\"\nkey = \"c.key\"\n{more}\
                 [[domain]]\nname = \"a.example\"\nmta_sts = {{ mode = \"testing\" }}\n\
                 [domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\nrepository = \"repo.a.example\"\n"
            );
            let config = Config::parse(&text, &directory.path().join("restante.toml")).unwrap();
            let warnings =
                check(&config).warnings.into_iter().filter(|warning| warning.contains("[[certificate]] is for"));
            warnings.collect::<Vec<_>>()
        };
        let told = warnings(&["a.example"], "");
        for (warning, wanted) in told.iter().zip([
            "for mx.a.example, the `hostname` of this server",
            "for repo.a.example, the `repository` of a.example",
            "for tbr.a.example, where others look for the keys of a.example",
            "for mta-sts.a.example, where others look for the MTA-STS policy of a.example",
        ]) {
            assert!(warning.contains(wanted) && warning.contains("c.pem"), "{wanted}: {told:#?}");
        }
        assert_eq!(told.len(), 4, "{told:#?}");
        assert_eq!(warnings(&["mx.a.example", "tbr.a.example", "repo.a.example"], "").len(), 1);
        assert_eq!(warnings(&["*.a.example"], ""), Vec::<String>::new());
        assert_eq!(warnings(&["a.example"], "[acme]\naccept_terms = true\n"), Vec::<String>::new());
    }

    /// Nothing that is missing, and nothing that holds no certificate, is left to the first order.
    #[test]
    fn the_cas_of_the_acme_directory_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let errors = |outgoing: &str| {
            let text = format!(
                "hostname = \"mx.a.example\"\ndata_dir = \".\"\n{outgoing}\
                 [[listener]]\nkind = \"acme\"\naddress = \"127.0.0.1:0\"\n\
                 [acme]\ndirectory = \"https://acme.a.example/directory\"\naccept_terms = true\nca_file = \"acme-ca.pem\"\n"
            );
            let config = Config::parse(&text, &directory.path().join("restante.toml")).unwrap();
            let errors = check(&config).errors;
            errors.into_iter().filter(|error| error.contains("acme-ca.pem")).collect::<Vec<_>>()
        };
        assert_eq!(errors("").len(), 1, "it is missing");
        assert_eq!(errors("[outgoing]\nca_file = \"acme-ca.pem\"\n").len(), 1, "once is enough");
        std::fs::write(directory.path().join("acme-ca.pem"), "no certificate\n").unwrap();
        let empty = errors("");
        assert!(empty.len() == 1 && empty[0].contains("certificate"), "{empty:?}");
        let ca = rcgen::generate_simple_self_signed(vec!["acme.a.example".to_owned()]).unwrap();
        std::fs::write(directory.path().join("acme-ca.pem"), ca.cert.pem()).unwrap();
        assert_eq!(errors(""), Vec::<String>::new());
    }

    #[test]
    fn a_sound_configuration_is_in_order() {
        let config = Config::parse("hostname = \"mx.a.example\"", std::path::Path::new("/x/restante.toml")).unwrap();
        let findings = Findings { file: "restante.toml".into(), ..Findings::default() };
        let text = text(&findings, &config);
        assert_eq!(text, "restante.toml is in order: 0 domains, 0 of them sending by reference, 0 listeners.");
    }
}

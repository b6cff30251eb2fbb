//! Confines the process to the files that its configuration names, by Landlock: whatever takes the server over can open
//! nothing else, and run no program.
//!
//! The kernel does the rest, for this thread and those that it starts: so this comes before there are any. Directories of files
//! that are named may be read as a whole, since editors and tools that renew certificates put new files in the place of old
//! ones; but not those that everybody uses, such as /etc. What is named later, by a reload, lies inside or waits for a start.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, path_beneath_rules,
};

use net::dns::{Anchors, Dnssec, Source};

use crate::config::{Config, Deliver, Landlock, Recipients};
use crate::private;

/// What is asked of the kernel; what an older one does not know is left out.
const ASKED: ABI = ABI::V5;

/// Read by libraries: names, certificates, randomness.
const SYSTEM_FILES: [&str; 12] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib/ssl",
    "/usr/share/pki",
    "/dev/urandom",
    "/dev/null",
];
/// Variables that lead to more certificates.
const CA_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Where SQLite puts the file that it needs to give space back.
const TEMPORARY_VARIABLES: [&str; 2] = ["SQLITE_TMPDIR", "TMPDIR"];
const TEMPORARY: &str = "/var/tmp";

/// Directories of everybody: files in them are named one by one.
const SHARED: [&str; 6] = ["/var/lib", "/var/spool", "/var/mail", "/usr/lib", "/usr/share", "/usr/local"];

/// How far it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confinement {
    /// By the configuration's word: not at all.
    Off,
    /// The kernel cannot.
    Unsupported,
    /// As far as an older kernel can.
    Partial,
    /// As asked for.
    Full,
}

/// Why the process could not be confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotConfined {
    /// `landlock = "required"`, and the kernel cannot.
    #[error("this kernel has no Landlock, which `landlock = \"required\"` asks for")]
    Unsupported,
    /// The kernel refuses.
    #[error("the kernel refuses to confine this process: {0}")]
    Refused(#[from] RulesetError),
}

/// What may be touched.
#[derive(Debug, Default, PartialEq, Eq)]
struct Paths {
    readable: BTreeSet<PathBuf>,
    writable: BTreeSet<PathBuf>,
}

/// Confines this thread, and all that it starts from now on, for good.
///
/// # Errors
/// [`NotConfined`], where that is asked for.
pub(crate) fn confine(config: &Config) -> Result<Confinement, NotConfined> {
    if config.landlock == Landlock::Off {
        return Ok(Confinement::Off);
    }
    let paths = Paths::of(config);
    // What is written to must be there: a rule names what exists.
    for directory in &paths.writable {
        if let Err(error) = private::create_directory(directory) {
            tracing::debug!(%error, directory = %directory.display(), "cannot be made");
        }
    }
    let confinement = match enforce(&paths)? {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => Confinement::Unsupported,
    };
    match (config.landlock, confinement) {
        (Landlock::Required, Confinement::Unsupported) => Err(NotConfined::Unsupported),
        _ => Ok(confinement),
    }
}

fn enforce(paths: &Paths) -> Result<RulesetStatus, RulesetError> {
    let (read, all) = (reading(), AccessFs::from_all(ASKED) & !AccessFs::Execute);
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ASKED))?.create()?;
    let ruleset = ruleset.add_rules(path_beneath_rules(&paths.readable, read))?;
    let ruleset = ruleset.add_rules(path_beneath_rules(&paths.writable, all))?;
    Ok(ruleset.restrict_self()?.ruleset)
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

impl Paths {
    fn of(config: &Config) -> Self {
        let mut paths = Self::default();
        paths.readable.extend(SYSTEM_FILES.iter().map(PathBuf::from));
        paths.readable.extend(CA_VARIABLES.iter().filter_map(std::env::var_os).map(PathBuf::from));
        let named = named_files(config);
        named.for_each(|file| paths.read(file));
        let temporary = TEMPORARY_VARIABLES.iter().find_map(std::env::var_os);
        paths.writable.insert(temporary.map_or_else(|| PathBuf::from(TEMPORARY), PathBuf::from));
        paths.writable.insert(absolute(&config.data_dir));
        paths.writable.extend(absolute(&config.admin_socket).parent().map(Path::to_owned));
        for domain in config.domains.values() {
            if let Deliver::Maildir(pattern) = &domain.deliver {
                paths.writable.insert(fixed_part(pattern.as_str()));
            }
        }
        paths
    }

    /// The file; the one that it leads to; and the directories of both, where they are not everybody's.
    fn read(&mut self, file: &Path) {
        let file = absolute(file);
        let target = fs::canonicalize(&file).ok();
        for path in [Some(file), target].into_iter().flatten() {
            let own = path.parent().filter(|directory| !is_shared(directory)).map(Path::to_owned);
            self.readable.extend(own);
            self.readable.insert(path);
        }
    }
}

/// Every file that the configuration names for reading, itself included.
fn named_files(config: &Config) -> impl Iterator<Item = &Path> {
    let certificates = config.tls.certificates.iter().flat_map(|files| [&files.cert, &files.key]);
    let domains = config.domains.values().flat_map(|domain| {
        let recipients = match &domain.recipients {
            Recipients::File(path) => Some(path),
            _ => None,
        };
        let dkim = domain.dkim.iter().flat_map(|dkim| dkim.keys.values());
        let tbr =
            domain.tbr.iter().flat_map(|tbr| [&tbr.key].into_iter().chain(tbr.next.as_ref().map(|next| &next.key)));
        dkim.chain(tbr).chain(&domain.alias_file).chain(recipients)
    });
    let zone = match &config.resolver.source {
        Source::ZoneFile(path) => Some(path),
        _ => None,
    };
    let anchors = match &config.resolver.dnssec {
        Dnssec::Validate(Anchors::File(path)) => Some(path),
        _ => None,
    };
    let all = certificates
        .chain(domains)
        .chain(config.password_files())
        .chain(zone)
        .chain(anchors)
        .chain(&config.outgoing.ca_file);
    let acme = config.acme.iter().filter_map(|acme| acme.ca_file.as_ref());
    all.chain(acme).chain([&config.origin]).map(PathBuf::as_path)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Of `/var/mail/{domain}/{user}`: `/var/mail`.
fn fixed_part(pattern: &str) -> PathBuf {
    let fixed = pattern.split('{').next().unwrap_or_default();
    let end = fixed.rfind('/').unwrap_or(0);
    PathBuf::from(if end == 0 { "/" } else { &fixed[..end] })
}

/// Directories of everybody that the process may write to as the configuration stands, each with the setting that opens it.
pub(crate) fn opened(config: &Config) -> Vec<(&'static str, PathBuf)> {
    if config.landlock == Landlock::Off {
        return Vec::new();
    }
    let mut places: Vec<(&'static str, PathBuf)> = Vec::new();
    places.extend(absolute(&config.admin_socket).parent().map(|parent| ("[admin] socket", parent.to_owned())));
    for domain in config.domains.values() {
        if let Deliver::Maildir(pattern) = &domain.deliver {
            places.push(("maildir", fixed_part(pattern.as_str())));
        }
    }
    places.push(("data_dir", absolute(&config.data_dir)));
    // Mail lives in these; nothing else does.
    places.retain(|(what, place)| is_shared(place) && !(*what == "maildir" && is_of_mail(place)));
    places.dedup();
    places
}

fn is_of_mail(directory: &Path) -> bool {
    ["/var/mail", "/var/spool/mail", "/srv"].iter().any(|place| directory == Path::new(place))
}

/// Is it a directory in which others keep theirs as well? Those at the top, some below, and everybody's home.
fn is_shared(directory: &Path) -> bool {
    let depth = directory.components().filter(|part| matches!(part, Component::Normal(_))).count();
    depth < 2
        || SHARED.iter().any(|shared| directory == Path::new(shared))
        || (depth == 2 && directory.starts_with("/home"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Paths {
        Paths::of(&Config::parse(text, Path::new("/etc/restante/restante.toml")).unwrap())
    }

    #[test]
    fn what_is_named_may_be_read_and_little_else() {
        let paths = paths(
            "hostname = \"mx.a.example\"\ndata_dir = \"/srv/restante\"\n[[certificate]]\ncert = \"/opt/tls/live/a.pem\"\nkey = \"a.key\"\n\
             [admin]\nsocket = \"/run/restante/admin.sock\"\n\
             [[domain]]\nname = \"a.example\"\nalias_file = \"/etc/aliases\"\nmaildir = \"/srv/mail/{domain}/{user}\"\n\
             recipients = { file = \"/home/alice/recipients\" }\n",
        );
        let reads = |path: &str| paths.readable.contains(Path::new(path));
        for path in ["/opt/tls/live", "/etc/restante", "/etc/aliases", "/home/alice/recipients", "/etc/ssl"] {
            assert!(reads(path), "{path}: {paths:?}");
        }
        for path in ["/", "/etc", "/home", "/home/alice", "/opt"] {
            assert!(!reads(path), "{path}");
        }
        for path in ["/srv/restante", "/run/restante", "/srv/mail"] {
            assert!(paths.writable.contains(Path::new(path)), "{path}");
        }
        assert_eq!(paths.writable.len(), 4, "and one for what SQLite throws away: {:?}", paths.writable);
    }

    #[test]
    fn directories_of_everybody_that_are_opened_are_named() {
        let opened = |socket: &str, maildir: &str| {
            let text = format!(
                "hostname = \"mx.a.example\"\ndata_dir = \"/srv/restante\"\n[admin]\nsocket = \"{socket}\"\n\
                 [[domain]]\nname = \"a.example\"\nmaildir = \"{maildir}\"\n"
            );
            super::opened(&Config::parse(&text, Path::new("/etc/restante/restante.toml")).unwrap())
        };
        let place = |what, path: &str| (what, PathBuf::from(path));
        assert_eq!(opened("/run/restante/admin.sock", "/var/mail/{domain}/{user}"), []);
        assert_eq!(opened("/run/x.sock", "/srv/mail/{user}"), [place("[admin] socket", "/run")]);
        assert_eq!(opened("/run/restante/admin.sock", "/{user}"), [place("maildir", "/")]);
        assert_eq!(opened("/run/restante/admin.sock", "/home/{user}/Maildir"), [place("maildir", "/home")]);
    }

    #[test]
    fn the_place_of_mailboxes_is_what_comes_before_names() {
        for (pattern, place) in [
            ("/var/mail/{domain}/{user}", "/var/mail"),
            ("/home/{user}/Maildir", "/home"),
            ("/{user}", "/"),
            ("/m/x{user}", "/m"),
        ] {
            assert_eq!(fixed_part(pattern), Path::new(place), "{pattern}");
        }
    }
}

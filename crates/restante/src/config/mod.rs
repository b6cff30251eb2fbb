//! The configuration: TOML text in, a [`Config`] out whose every value has been checked, or all mistakes at once,
//! each with file, line, column and what would be right.
//!
//! [`schema`] is the one table of fields: names, kinds, defaults and documentation. Reading goes by it, `restante config`
//! prints it, `docs/configuration.md` is made from it. Files that the configuration names (certificates, keys, lists of
//! recipients, aliases) are read by those who use them; `restante check config` reads them all.

mod check;
mod mistake;
mod read;
mod reference;
mod schedule;
mod schema;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::reference::{Selector, VerifyingKey};
use mail::ledger::Route;
use mail::{Address, Domain, Holder, Timestamp, mta_sts};
use net::dns::{Dnssec, Source};
use policy::allowance::Allowance;
use policy::budget::Budgets;

pub use mistake::{ConfigErrors, Mistake, Place};
pub use reference::{FieldDoc, document, fields, reference};
pub use schedule::{Schedule, TimeOfDay};
pub use values::{HostName, MaildirPattern, Network, format_duration, format_size, parse_duration, parse_size};

/// Where the configuration is looked for unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/restante/restante.toml";

/// A checked configuration. What takes a restart to change is said by `schema` and [`Config::restart_needed`]. Relative paths in the file have been resolved against the file's directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that it was read from, for messages.
    pub origin: PathBuf,
    /// This server's name: banner, EHLO, Received.
    pub hostname: Domain,
    /// Everything that the server keeps: store, accounts, socket.
    pub data_dir: PathBuf,
    /// UNIX socket of the admin API.
    pub admin_socket: PathBuf,
    /// Whether the kernel keeps the process to its files.
    pub landlock: Landlock,
    /// Logging.
    pub log: Log,
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// Certificates and versions.
    pub tls: Tls,
    /// Certificates by ACME.
    pub acme: Option<Acme>,
    /// Domains whose mail is ours.
    pub domains: BTreeMap<Domain, LocalDomain>,
    /// Next hops, by name.
    pub relays: BTreeMap<String, Relay>,
    /// Relays to which mail is uploaded: the custodian's repository host, by name. No name is in both.
    pub uploads: BTreeMap<String, Domain>,
    /// LMTP servers, by name.
    pub lmtp: BTreeMap<String, Lmtp>,
    /// Where mail waits for domains of ours.
    pub custodians: Vec<Custodian>,
    /// Filters that are asked about mail at relay listeners, in this order.
    pub milters: Vec<Milter>,
    /// All mail for other domains goes there; a key of [`Config::relays`] or [`Config::uploads`].
    pub smart_host: Option<String>,
    /// Who may send to other domains on relay listeners without authentication. Never everybody.
    pub relay_from: Vec<Network>,
    /// Who gets postmaster's mail of domains that name nobody for it.
    pub postmaster: Option<Address>,
    /// Name resolution.
    pub resolver: Resolver,
    /// Connections that this server makes.
    pub outgoing: Outgoing,
    /// By reference or by value, and the times of TBR.
    pub transfer: Transfer,
    /// Retry, expiry, reports.
    pub queue: Queue,
    /// What clients may ask for.
    pub limits: Limits,
    /// What an account may send, where it has no limits of its own.
    pub submission: Allowance,
    /// What senders of references may take; nothing: as much as they like.
    pub budgets: Option<Budgets>,
    /// What is believed of inbound mail.
    pub policy: Policy,
    /// Reports to others.
    pub reports: Reports,
    /// Where objects and rows are kept.
    pub store: Store,
}

/// Whether the kernel keeps the process to the files that the configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landlock {
    /// As far as it can.
    Try,
    /// Or the server does not start.
    Required,
    /// Not at all.
    Off,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter of `tracing`: `info`, or `info,restante::deliver=debug`.
    pub level: String,
    /// One JSON object a line.
    pub json: bool,
}

/// `[[listener]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken.
    pub kind: ListenerKind,
    /// Where; port 0 takes a free one, which the log and `GET /status` tell.
    pub address: SocketAddr,
    /// Offers are taken here (`250-TBR 1`); relay listeners only.
    pub tbr: bool,
    /// Offers are taken outside TLS too.
    pub tbr_without_tls: bool,
    /// AUTH is offered outside TLS too: for loopback and measuring.
    pub auth_without_tls: bool,
    /// Most connections at once.
    pub max_connections: usize,
    /// Most connections at once from one address (IPv6: from one /64).
    pub max_connections_per_ip: usize,
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenerKind {
    /// SMTP between servers (port 25), with STARTTLS where there is a certificate.
    Relay,
    /// Message submission (RFC 6409, port 587): STARTTLS, then AUTH.
    Submission,
    /// Message submission in TLS from the first octet (RFC 8314, port 465).
    Submissions,
    /// On-Demand Mail Relay (RFC 2645, port 366): STARTTLS, AUTH, ATRN.
    Odmr,
    /// The repository: HTTPS (port 443); and an ACME authority's questions (RFC 8737), where no other listener answers them.
    Repository,
    /// Answers an ACME authority's questions (RFC 8555 §8.3): HTTP (port 80).
    Acme,
}

impl ListenerKind {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
            Self::Odmr => "odmr",
            Self::Repository => "repository",
            Self::Acme => "acme",
        }
    }

    /// Do clients log in there?
    pub fn has_accounts(self) -> bool {
        self.is_submission() || self == Self::Odmr
    }

    /// Does it speak message submission?
    pub fn is_submission(self) -> bool {
        matches!(self, Self::Submission | Self::Submissions)
    }
}

/// `[[certificate]]` and `[tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Chosen by server name (SNI); the first serves whoever asks for no name or for one that none has.
    pub certificates: Vec<CertificateFiles>,
    /// Lowest version that listeners and connections accept.
    pub min_version: TlsVersion,
    /// Lowest version of the repository's listeners, and of connections to those of others (TBR §5.5); never below the one above.
    pub repository_min_version: TlsVersion,
}

/// `[acme]`: the terms are agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// https URL.
    pub directory: String,
    /// Whom the authority may write to.
    pub contact: Option<Address>,
    /// More names for the server's certificate.
    pub names: Vec<Domain>,
    /// PEM: believed instead of the system's CAs, for the authority's own server.
    pub ca_file: Option<PathBuf>,
}

/// One certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then its intermediates.
    pub cert: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// Versions of TLS in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    V1_2,
    /// RFC 8446
    V1_3,
}

/// `[[domain]]`: a domain whose mail ends here, or passes here as its mail exchanger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDomain {
    /// Its name.
    pub name: Domain,
    /// Where its mail goes.
    pub deliver: Deliver,
    /// Who is in it.
    pub recipients: Recipients,
    /// Lower-case local part → addresses.
    pub aliases: BTreeMap<String, Vec<Address>>,
    /// More aliases, in the form of `aliases(5)`: `info: alice@a.example, bob`.
    pub alias_file: Option<PathBuf>,
    /// Who gets what nobody else gets.
    pub catch_all: Option<Address>,
    /// Where mail for names goes that nobody has here; a key of [`Config::relays`] or [`Config::uploads`].
    pub others: Option<String>,
    /// Local part, lower case, that takes reports of others.
    pub report_address: Option<String>,
    /// `alice+list` is for alice; `None`: no such thing.
    pub subaddress_separator: Option<char>,
    /// Another exchanger of the domain, which has its key: gets the offers that come here; a key of [`Config::relays`].
    pub pass_offers_to: Option<String>,
    /// Present where the domain sends by reference.
    pub tbr: Option<DomainTbr>,
    /// Octets that mail of its users, and mail for it by reference, may take in the store.
    pub quota: Option<u64>,
    /// Signs what its users send.
    pub dkim: Option<DomainDkim>,
    /// The policy that it publishes, if any.
    pub mta_sts: Option<mta_sts::Policy>,
    /// Who may have what waits for it tried by ETRN; means something where it goes to a next hop.
    pub etrn: MayAsk,
    /// Present exactly where it is a site whose custodian this server is ([`Deliver::Site`]).
    pub site: Option<DomainSite>,
    /// Users whose mail waits here for a device of their own, wherever that of the others goes.
    pub users: Vec<DomainUser>,
}

impl LocalDomain {
    /// Is this the device of one user, whose key his custodian knows and his domain does not publish? The others of the domain are
    /// elsewhere, and so is whoever sends in its name.
    pub fn is_of_one_user(&self) -> bool {
        self.others.is_some() && self.tbr.as_ref().is_some_and(|tbr| !tbr.offers)
    }

    /// The user of this name whose mail waits for him.
    pub fn user(&self, name: &str) -> Option<&DomainUser> {
        self.users.iter().find(|user| user.holder.user_name() == Some(name))
    }

    /// The user that has a key of this name, and the key.
    pub fn user_of_key(&self, selector: &Selector) -> Option<(&DomainUser, &VerifyingKey)> {
        self.users.iter().find_map(|user| Some((user, user.site.keys.get(selector)?)))
    }
}

/// Where the mail of a local domain goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deliver {
    /// Into Maildirs.
    Maildir(MaildirPattern),
    /// To an LMTP server; a key of [`Config::lmtp`].
    Lmtp(String),
    /// To a next hop; a key of [`Config::relays`] or [`Config::uploads`].
    Relay(String),
    /// Nowhere by itself: it waits until the site asks for it.
    Site,
    /// The same by value: it waits until an account of the domain asks for it by ATRN (RFC 2645).
    OnDemand,
    /// Nowhere: for measuring.
    Discard,
}

/// Who may ask for the mail of a domain by ETRN (RFC 1985). Wherever the question comes from, the mail goes to its next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MayAsk {
    /// Whoever likes.
    Anyone,
    /// Nobody.
    Nobody,
    /// Clients in these networks.
    From(Vec<Network>),
}

impl MayAsk {
    /// May this client?
    pub fn permits(&self, client: IpAddr) -> bool {
        match self {
            Self::Anyone => true,
            Self::Nobody => false,
            Self::From(networks) => networks.iter().any(|network| network.contains(client)),
        }
    }
}

/// How the recipients of a local domain are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// The addresses of the accounts.
    Accounts,
    /// One local part or address a line; `#` begins a comment.
    File(PathBuf),
    /// Lower-case local parts.
    List(BTreeSet<String>),
    /// The LMTP server or the next hop is asked at RCPT, its answer kept for a while.
    Probe,
    /// Everybody.
    Any,
}

/// `[domain.dkim]`: which keys sign what the domain's users send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDkim {
    /// PKCS#8 PEM, mode 0600, by selector.
    pub keys: BTreeMap<Selector, PathBuf>,
}

/// `[domain.tbr]`: how a domain signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainTbr {
    /// Name of the key.
    pub selector: Selector,
    /// PKCS#8 PEM, mode 0600.
    pub key: PathBuf,
    /// The key after this one.
    pub next: Option<NextKey>,
    /// Names of keys of which nothing counts any more.
    pub revoked: Vec<Selector>,
    /// Host in the URIs of offers, published as `repo`.
    pub repository: Domain,
    /// Those of other servers of the domain, published beside it.
    pub other_repositories: Vec<Domain>,
    /// The key signs for senders in subdomains too (`sub=y`).
    pub subdomains: bool,
    /// What the domain's users send goes by reference from here. If not, the key only signs requests, and the repository
    /// is another server's.
    pub offers: bool,
}

/// `[[domain.user]]`: this server is the custodian of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainUser {
    /// Who.
    pub holder: Holder,
    /// His keys, none of them his domain's, and how much he may upload.
    pub site: DomainSite,
}

/// `[domain.site]`: this server is the domain's custodian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSite {
    /// The site's own keys, which sign its requests; at least one.
    pub keys: BTreeMap<Selector, VerifyingKey>,
    /// How much it may upload to be sent on.
    pub allowance: Allowance,
}

/// `[[custodian]]`: where mail waits for domains of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custodian {
    /// Its repository host; by value, its mail server.
    pub host: Domain,
    /// For which of our domains it is asked; by reference, all of them have a key.
    pub domains: Vec<Domain>,
    /// When it is asked without being told to.
    pub schedule: Schedule,
    /// The relay that leads to it; a key of [`Config::relays`] or [`Config::uploads`]. What would go that way may go in a bundle.
    pub relay: Option<String>,
    /// The keys of those domains that it signs by: only needed for bundles, where nobody can be asked.
    pub keys: BTreeMap<Selector, VerifyingKey>,
    /// How it is asked, and how mail comes then.
    pub way: Way,
    /// By reference: is it asked for HTTP/2, so that one connection fetches several messages at a time?
    pub http2: bool,
    /// Where its mail comes from, which it has judged.
    pub from: Vec<Network>,
}

/// How mail comes from a custodian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By reference (TBR §7.4).
    Reference,
    /// By value: asked by ETRN (RFC 1985) it connects to us.
    Etrn(Relay),
    /// By value: asked by ATRN (RFC 2645) it sends on the same connection.
    Odmr(Relay),
}

impl Way {
    /// As in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Etrn(_) => "etrn",
            Self::Odmr(_) => "odmr",
        }
    }

    /// The mail server that is asked, by value.
    pub fn server(&self) -> Option<&Relay> {
        match self {
            Self::Reference => None,
            Self::Etrn(server) | Self::Odmr(server) => Some(server),
        }
    }
}

impl DomainTbr {
    /// All keys to publish, with the time until which each may sign where that is known: the one, and the one after it.
    pub fn keys(&self) -> impl Iterator<Item = (&Selector, &Path, Option<Timestamp>)> {
        let next = self.next.as_ref();
        let first = (&self.selector, self.key.as_path(), next.map(|next| next.from.after(NextKey::OVERLAP)));
        std::iter::once(first).chain(next.map(|next| (&next.selector, next.key.as_path(), None)))
    }

    /// The key that signs at this time.
    pub fn signing_at(&self, now: Timestamp) -> (&Selector, &Path) {
        match &self.next {
            Some(next) if next.from <= now => (&next.selector, &next.key),
            _ => (&self.selector, &self.key),
        }
    }
}

/// A key that takes over at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextKey {
    /// Its name.
    pub selector: Selector,
    /// PKCS#8 PEM, mode 0600.
    pub key: PathBuf,
    /// It signs from then on.
    pub from: Timestamp,
}

impl NextKey {
    /// For so long the key before may still sign on servers of the domain whose clocks are behind.
    const OVERLAP: Duration = Duration::from_secs(3600);
    /// So long after its last signature a key's record must stay: no reference lives longer (TBR §4), and a day for slow
    /// mail.
    pub const STAYS: Duration = Duration::from_secs(31 * 24 * 3600);
}

/// `[[relay]]`: a next hop by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Name within the configuration.
    pub name: String,
    /// Host: its addresses are looked up, not its MX records.
    pub host: HostName,
    /// Port.
    pub port: u16,
    /// TLS policy.
    pub tls: RelayTls,
    /// AUTH, after TLS only.
    pub login: Option<Login>,
    /// Messages go by reference where it speaks TBR.
    pub tbr: bool,
}

/// AUTH to a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub username: String,
    /// The password is the file's first line. Read at every use.
    pub password_file: PathBuf,
}

/// TLS towards a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTls {
    /// STARTTLS where offered, whatever the certificate.
    Opportunistic,
    /// STARTTLS or nothing, whatever the certificate.
    Required,
    /// STARTTLS with a certificate for the host's name, or nothing.
    Verified,
    /// TLS from the first octet (port 465), with a certificate for the host's name.
    Implicit,
    /// In clear.
    Off,
}

/// `[[lmtp]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lmtp {
    /// Name within the configuration.
    pub name: String,
    /// Where it listens.
    pub endpoint: LmtpEndpoint,
}

/// Where an LMTP server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LmtpEndpoint {
    /// TCP.
    Tcp(HostName, u16),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// `[[milter]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milter {
    /// Where it listens.
    pub endpoint: net::milter::Endpoint,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// What happens to messages otherwise.
    pub without_verdict: WithoutVerdict,
}

/// What happens to a message when a milter cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutVerdict {
    /// It is refused for now.
    Defer,
    /// It is taken.
    Accept,
}

/// `[resolver]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// Where names are looked up.
    pub source: Source,
    /// Who validates what servers answer.
    pub dnssec: Dnssec,
}

/// `[outgoing]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Port of mail exchangers.
    pub smtp_port: u16,
    /// Port of repositories and of domain documents.
    pub https_port: u16,
    /// Source address of IPv4 connections.
    pub bind_ipv4: Option<Ipv4Addr>,
    /// Source address of IPv6 connections.
    pub bind_ipv6: Option<Ipv6Addr>,
    /// Repositories and domain documents may be at private, loopback and link-local addresses.
    pub allow_private_addresses: bool,
    /// TLSA records count.
    pub dane: bool,
    /// The MTA-STS policies of other domains count.
    pub mta_sts: bool,
    /// PEM: trusted instead of the system's CAs.
    pub ca_file: Option<PathBuf>,
    /// Most SMTP and LMTP connections at once.
    pub max_connections: usize,
    /// Most of them to one address.
    pub max_connections_per_host: usize,
    /// How long an idle connection is kept for the next message.
    pub idle_timeout: Duration,
    /// How long an answer to a probe of a recipient is believed.
    pub probe_lifetime: Duration,
}

/// `[transfer]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Where no peer says otherwise.
    pub policy: TransferPolicy,
    /// Relaying by reference, where no peer says otherwise.
    pub delegation: Delegation,
    /// Peers with a policy of their own; subdomains do not inherit.
    pub peers: BTreeMap<Domain, TransferPeer>,
    /// Smaller messages go by value, octets.
    pub by_value_below: u64,
    /// From `t` to `e` of references.
    pub lifetime: Duration,
    /// A claim that had no answer for this long is acted upon (TBR §6).
    pub claim_patience: Duration,
    /// Receipts without a hearing for this long become a report by mail (TBR §6).
    pub receipt_patience: Duration,
    /// After `e`, before the origin records the expiry.
    pub expiry_grace: Duration,
    /// Temporary refusals of offers for this long: by value (TBR §8).
    pub fall_back_after_refusals: Duration,
    /// No claim for this long after a 250: by value (TBR §8).
    pub fall_back_without_claim: Duration,
    /// 8-bit content is converted for servers that take none.
    pub convert_8bit: bool,
    /// Time for verifying an offer within the session.
    pub verification_budget: Duration,
    /// Names that fail DNSSEC for this long are no temporary failure any more (TBR §5.4).
    pub bogus_patience: Duration,
    /// Most retrievals at once.
    pub max_retrievals: usize,
    /// Most retrievals at once from one signing domain.
    pub max_retrievals_per_domain: usize,
    /// Most retrievals at once from one network of repositories.
    pub max_retrievals_per_network: usize,
    /// Octets a second that the retrievals from one domain bring together, at least.
    pub minimum_rate: u64,
    /// Accept offers, retrieve nothing: for maintenance and measuring.
    pub pause_retrieval: bool,
}

impl Transfer {
    /// What holds for mail to this domain.
    pub fn policy_for(&self, domain: &Domain) -> TransferPolicy {
        self.peers.get(domain).and_then(|peer| peer.policy).unwrap_or(self.policy)
    }

    /// The same for relaying by reference.
    pub fn delegation_for(&self, domain: &Domain) -> Delegation {
        self.peers.get(domain).and_then(|peer| peer.delegation).unwrap_or(self.delegation)
    }
}

/// `[[transfer.peer]]`: what differs for one recipient domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferPeer {
    /// By reference or by value.
    pub policy: Option<TransferPolicy>,
    /// Relaying by reference.
    pub delegation: Option<Delegation>,
}

/// Relaying by reference (TBR §7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegation {
    /// Not at all.
    Off,
    /// Relays may pass on what is offered to them.
    Accept,
    /// What comes by reference is passed on by reference.
    Use,
    /// Either.
    Both,
}

impl Delegation {
    /// May relays pass on what is offered to them?
    pub fn accepts(self) -> bool {
        matches!(self, Self::Accept | Self::Both)
    }

    /// Is what comes by reference passed on so?
    pub fn uses(self) -> bool {
        matches!(self, Self::Use | Self::Both)
    }
}

/// By reference or by value (TBR §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferPolicy {
    /// By reference where the peer speaks TBR.
    Prefer,
    /// By reference or not now.
    Require,
    /// By value.
    Never,
}

/// `[queue]`
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Wait after the first failed attempt; it doubles from then on.
    pub retry_first: Duration,
    /// Longest wait between attempts.
    pub retry_longest: Duration,
    /// Each wait is longer or shorter by up to this share, by chance.
    pub retry_jitter: f64,
    /// Age at which a message is given up.
    pub expire_after: Duration,
    /// The same for what waits for a site.
    pub expire_for_sites_after: Duration,
    /// Age at which the author is told of the delay, once; `None`: never.
    pub report_delay_after: Option<Duration>,
    /// Most connections to one destination.
    pub max_per_destination: usize,
    /// How long finished messages can be traced.
    pub keep_finished: Duration,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, octets (SIZE).
    pub message_size: u64,
    /// Most accepted recipients of a transaction.
    pub recipients: usize,
    /// Most transactions of a connection; `None`: any number.
    pub transactions: Option<u32>,
    /// Most commands of a connection without a message.
    pub commands: usize,
    /// Most errors of a connection without a message.
    pub errors: usize,
    /// Most failed AUTH attempts of a connection.
    pub auth_failures: usize,
    /// Failed logins within an hour after which nobody logs in from that address; 0: no limit.
    pub auth_failures_per_hour: usize,
    /// Longest a connection may last.
    pub session_time: Duration,
    /// Longest wait for a command; RFC 5321 §4.5.3.2.7 asks for 5 minutes.
    pub command_timeout: Duration,
    /// Received fields, and hops by reference with them, beyond which a message loops.
    pub hops: usize,
    /// Shortest time between two ETRN for one domain.
    pub etrn_pause: Duration,
    /// Most objects that are served to peers at a time.
    pub repository_reads: usize,
    /// Octets a second at which a peer takes what it fetches, at least.
    pub repository_rate: u64,
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Look anything up at all.
    pub enabled: bool,
    /// Mail that is still in its mailbox after so long was kept.
    pub kept_after: Duration,
    /// How long the retrieval of a stranger's reference waits.
    pub stranger_delay: Duration,
    /// Strangers by value are asked for a reference.
    pub hint: bool,
    /// What to do about what.
    pub rules: policy::Rules,
    /// DNS lists of clients to be refused.
    pub block_lists: Vec<Domain>,
    /// DNS lists of clients to be spared.
    pub allow_lists: Vec<Domain>,
    /// Time for the look-ups of one stage.
    pub patience: Duration,
    /// Most octets of headers in memory.
    pub header_memory: u64,
}

/// `[reports]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reports {
    /// On TLS.
    pub tls: bool,
    /// On mail in the name of other domains (DMARC).
    pub dmarc: bool,
    /// Who reports, if not postmaster of [`Config::mail_domain`].
    pub from: Option<Address>,
    /// In whose name.
    pub organization: Option<String>,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Which.
    pub kind: StoreKind,
    /// Objects up to this size live in the ledger, octets.
    pub inline_limit: u64,
    /// Code what is going to be served, and take what is coded.
    pub compression: bool,
    /// Octets that may be stored; no limit where there is none.
    pub quota: Option<u64>,
    /// Octets of these that new mail does not get.
    pub reserve: u64,
    /// Octets that may be stored for each account.
    pub quota_per_account: Option<u64>,
    /// How long an object that went by reference is kept after its last final receipt.
    pub grace: Duration,
    /// Accounts whose messages are held, and for how long.
    pub held_accounts: BTreeMap<String, Duration>,
    /// Domains likewise.
    pub held_domains: BTreeMap<Domain, Duration>,
}

impl Store {
    /// What takes a restart to change.
    fn fixed(&self) -> (StoreKind, u64, bool) {
        (self.kind, self.inline_limit, self.compression)
    }
}

/// Kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Files and SQLite below [`Config::data_dir`].
    Embedded,
    /// Nothing survives the process: for tests and measuring.
    Memory,
}

impl Config {
    /// Reads and checks a file, with `RESTANTE_…` variables of the environment laid over it.
    ///
    /// # Errors
    /// All mistakes that could be found; or that the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = fs::read_to_string(path).map_err(|error| ConfigErrors::unreadable(path, explain(&error)))?;
        let environment = schema::variables().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        Self::parse_with(&text, path, &environment.collect())
    }

    /// Checks a text. `origin` names the file for messages, and its directory is what relative paths start from.
    ///
    /// # Errors
    /// All mistakes that could be found.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, origin, &BTreeMap::new())
    }

    /// [`Config::parse`] with variables of the environment.
    ///
    /// # Errors
    /// All mistakes that could be found.
    pub fn parse_with(text: &str, origin: &Path, environment: &BTreeMap<String, String>) -> Result<Self, ConfigErrors> {
        check::config(text, origin, environment)
    }

    /// The local domain of this name.
    pub fn domain(&self, name: &Domain) -> Option<&LocalDomain> {
        self.domains.get(name)
    }

    /// The site, if this server is its custodian.
    pub fn site(&self, holder: &Holder) -> Option<&DomainSite> {
        let domain = self.domain(holder.domain())?;
        match holder.user_name() {
            None => domain.site.as_ref(),
            Some(name) => domain.user(name).map(|user| &user.site),
        }
    }

    /// Is the mail of this domain ours?
    pub fn is_ours(&self, name: &Domain) -> bool {
        self.domains.contains_key(name)
    }

    /// Which fields differ in `next` and keep their value until the next start.
    pub fn restart_needed(&self, next: &Self) -> Vec<String> {
        let (transfer, other) = (&self.transfer, &next.transfer);
        let changes = [
            ("hostname", self.hostname != next.hostname),
            ("data_dir", self.data_dir != next.data_dir),
            ("[admin]", self.admin_socket != next.admin_socket),
            ("landlock", self.landlock != next.landlock),
            ("[log]", self.log != next.log),
            ("[[listener]]", self.listeners != next.listeners),
            ("[[certificate]]", self.tls.certificates.is_empty() != next.tls.certificates.is_empty()),
            ("[acme]", self.acme.is_some() != next.acme.is_some()),
            ("[tls]", self.tls.min_version != next.tls.min_version),
            ("[resolver]", self.resolver != next.resolver),
            ("outgoing.max_connections", self.outgoing.max_connections != next.outgoing.max_connections),
            (
                "outgoing.max_connections_per_host",
                self.outgoing.max_connections_per_host != next.outgoing.max_connections_per_host,
            ),
            ("outgoing.mta_sts", self.outgoing.mta_sts != next.outgoing.mta_sts),
            ("outgoing.probe_lifetime", self.outgoing.probe_lifetime != next.outgoing.probe_lifetime),
            ("transfer.verification_budget", transfer.verification_budget != other.verification_budget),
            ("transfer.bogus_patience", transfer.bogus_patience != other.bogus_patience),
            ("transfer.max_retrievals", transfer.max_retrievals != other.max_retrievals),
            (
                "transfer.max_retrievals_per_domain",
                transfer.max_retrievals_per_domain != other.max_retrievals_per_domain,
            ),
            (
                "transfer.max_retrievals_per_network",
                transfer.max_retrievals_per_network != other.max_retrievals_per_network,
            ),
            ("transfer.minimum_rate", transfer.minimum_rate != other.minimum_rate),
            ("transfer.pause_retrieval", transfer.pause_retrieval != other.pause_retrieval),
            ("queue.max_per_destination", self.queue.max_per_destination != next.queue.max_per_destination),
            ("limits.repository_reads", self.limits.repository_reads != next.limits.repository_reads),
            ("limits.repository_rate", self.limits.repository_rate != next.limits.repository_rate),
            ("[reports]", self.reports != next.reports),
            ("[store]", self.store.fixed() != next.store.fixed()),
        ];
        changes.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned()).collect()
    }

    /// Will a message from this sender that goes to such places be fetched from here, so that it is worth coding in the store?
    pub fn is_to_be_served<'a>(
        &self,
        mail_from: Option<&Address>,
        mut routes: impl Iterator<Item = &'a Route>,
    ) -> bool {
        let domain = mail_from.and_then(Address::domain);
        let names = std::iter::successors(domain, Domain::parent);
        let signs = names.filter_map(|name| self.domain(&name)).any(|domain| domain.tbr.is_some());
        let by_reference = signs && self.transfer.policy != TransferPolicy::Never;
        let is_served = |route: &Route| match route {
            Route::Mx(_) => by_reference,
            Route::Relay(name) => by_reference && self.relays.get(name).is_some_and(|relay| relay.tbr),
            Route::Site(_) => true,
            _ => false,
        };
        self.store.compression && routes.any(is_served)
    }

    /// Where names without a domain are at home: the local domain that this server is named in, else the first, else the
    /// server's own name.
    pub fn mail_domain(&self) -> &Domain {
        let around = |domain: &&Domain| self.hostname.is_within(domain);
        let domain = self.domains.keys().find(around).or_else(|| self.domains.keys().next());
        domain.unwrap_or(&self.hostname)
    }

    /// Where accounts are kept.
    pub fn accounts_file(&self) -> PathBuf {
        self.data_dir.join("accounts")
    }

    /// Where it is kept what accounts have sent lately; nowhere, where nothing outlives the process.
    pub fn sending_file(&self) -> Option<PathBuf> {
        self.kept_file("sending")
    }

    /// Where it is kept how mail of other domains has fared here.
    pub fn reputation_file(&self) -> Option<PathBuf> {
        self.kept_file("reputation")
    }

    /// Where it is kept which mail will be looked for in mailboxes.
    pub fn readers_file(&self) -> Option<PathBuf> {
        self.kept_file("readers")
    }

    /// Where it is kept who has been asked for a reference.
    pub fn hints_file(&self) -> Option<PathBuf> {
        self.kept_file("hints")
    }

    fn kept_file(&self, name: &str) -> Option<PathBuf> {
        (self.store.kind == StoreKind::Embedded).then(|| self.data_dir.join(name))
    }

    /// Where the embedded store lives.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// Where messages wait that were written while no server ran.
    pub fn outbox_dir(&self) -> PathBuf {
        self.data_dir.join("outbox")
    }

    /// Where the MTA-STS policies of other domains are kept.
    pub fn mta_sts_dir(&self) -> PathBuf {
        self.data_dir.join("mta-sts")
    }

    /// Where the documents of other domains are pinned.
    pub fn pins_dir(&self) -> PathBuf {
        self.data_dir.join("pins")
    }

    /// Where certificates by ACME are kept.
    pub fn acme_dir(&self) -> PathBuf {
        self.data_dir.join("acme")
    }

    /// Where reports are made, and kept.
    pub fn reports_dir(&self) -> PathBuf {
        self.data_dir.join("reports")
    }

    /// Who reports to other domains; `None` where the domain is too long for it.
    pub fn reports_from(&self) -> Option<Address> {
        self.reports.from.clone().or_else(|| Address::new("postmaster", self.mail_domain()).ok())
    }

    /// Every file with a password for another server.
    pub fn password_files(&self) -> impl Iterator<Item = &PathBuf> {
        let custodians = self.custodians.iter().filter_map(|custodian| custodian.way.server());
        let servers = self.relays.values().chain(custodians);
        servers.filter_map(|server| Some(&server.login.as_ref()?.password_file))
    }

    /// Is there a domain whose mail can be asked for by ETRN?
    pub fn may_be_asked_for_mail(&self) -> bool {
        self.domains.values().any(|d| matches!(d.deliver, Deliver::Relay(_)) && d.etrn != MayAsk::Nobody)
    }

    /// The custodians by reference of this domain of ours: the only ones that deal in bundles.
    pub fn custodians_by_reference(&self, site: &Domain) -> impl Iterator<Item = &Custodian> {
        self.custodians.iter().filter(|custodian| custodian.way == Way::Reference && custodian.domains.contains(site))
    }

    /// The domains of ours whose custodian by reference has this repository host.
    pub fn sites_at<'a>(&'a self, host: &'a Domain) -> impl Iterator<Item = &'a Domain> {
        let is_it = move |custodian: &&Custodian| custodian.way == Way::Reference && custodian.host == *host;
        self.custodians.iter().filter(is_it).flat_map(|custodian| &custodian.domains)
    }

    /// Is this a server from which mail of a custodian comes?
    pub fn is_custodian(&self, client: IpAddr) -> bool {
        self.custodians.iter().any(|custodian| custodian.from.iter().any(|network| network.contains(client)))
    }

    /// May this client relay to other domains without authentication?
    pub fn may_relay(&self, client: IpAddr) -> bool {
        self.relay_from.iter().any(|network| network.contains(client))
    }
}

/// The usual reasons in the words of the field.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "it may not be read by this user".into(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".into(),
        _ => error.to_string(),
    }
}

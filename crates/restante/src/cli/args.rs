//! The command line: every command, argument and help text. What they do is in the modules named after them.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use mail::id::NotQueueId;
use mail::{Address, Domain, QueueId, Timestamp};
use reference::Selector;

use crate::accounts::{OwnLimits, Sender};
use crate::admin::api::Verb;
use crate::config::{DEFAULT_PATH, parse_duration, parse_size};

const EXIT_CODES: &str = "\
Exit status:
  0   done; for `verify`: the message is what the origin signed
  1   the answer is no, or it could not be done
  2   wrong usage or configuration; for `verify`: it cannot be told
  69  no server is running here
  75  not now, try again

With --json, each command prints one JSON value on standard output, an object with `error` where it fails;
`accounts recall` prints a line for each recipient before it, `completions` its script all the same.";

const TOP_EXAMPLES: &str = "\
Examples:
  restante demo                               a message by reference, between two whole domains on this machine
  restante config > restante.toml             a commented configuration to start from
  restante check config                       is mine right, and the files that it names?
  restante serve                              run the server
  restante send -f alice@a.example bob@b.example < message.eml
  restante queue list
";

/// A mail server that sends messages by reference to those who understand it, and by value to all others.
#[derive(Debug, Parser)]
#[command(name = "restante", version, max_term_width = 110, after_help = format!("{TOP_EXAMPLES}\n{EXIT_CODES}"))]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments of all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", env = "RESTANTE_CONFIG", default_value = DEFAULT_PATH)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// The admin socket of the running server, if not the one of the configuration
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    #[command(after_help = "\
SIGHUP reads configuration, keys, certificates, accounts, aliases and zone file again; SIGTERM and SIGINT stop the server
without losing anything. Under systemd, use Type=notify.")]
    Serve(ServeArgs),
    /// Show a message going by reference between two whole mail domains on this machine
    #[command(after_help = "\
Examples:
  restante demo                          with a message that comes along
  restante demo --message big.eml        any file of up to 1 GB (2^30 octets), LF or CRLF
  restante demo --keep --json | tail -1  the outcome, and files to look at")]
    Demo(DemoArgs),
    /// Hand in a message on standard input
    #[command(after_help = "\
Examples:
  restante send bob@b.example < message.eml
  restante send -f alice@a.example -t < message.eml    recipients from To, Cc and Bcc; Bcc is removed
  printf 'Subject: hi\\n\\nHello\\n' | restante send -i bob@b.example

Lines may end in LF or CRLF. Missing Date, Message-ID and From are added. Started under the name `sendmail`, the program
takes sendmail's options instead, so that cron and others can use it.")]
    Send(SendArgs),
    /// Look at the queue and change what happens
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Bring everything that waits into the mailboxes here, send everything written, and end
    #[command(after_help = "\
For a laptop or a site without a server that runs all the time; where one runs, it does the work. What `restante send` and
`sendmail` were given while no server ran goes out too. It can be broken off at any time: the next time it goes on from there.

Examples:
  restante sync                   until nothing is left
  restante sync --limit 10m       for the ten minutes that the link lasts

Without --limit it goes on as long as something cannot be sent, and some minutes where a custodian has something that cannot be taken now.

Exit status: 0 nothing is left, 1 something was refused or a custodian could not be asked, 75 something is left for the next time.")]
    Sync(SyncArgs),
    /// Ask custodians now what waits for the domains of this server, and fetch it
    #[command(after_help = "\
For a site that is connected some of the time: see [[custodian]] in the configuration, and docs/offline.md.

Examples:
  restante fetch                  ask all of them; what waits is fetched in the background
  restante fetch --wait           the same, until all of it is in its mailboxes and the custodians know

Exit status: 0 all of it is being fetched (--wait: is here), 1 something was refused or a custodian could not be asked, 75 something is left.")]
    Fetch(FetchArgs),
    /// The link to the world
    #[command(subcommand)]
    Link(LinkCommand),
    /// Mail for and from a site in files, for links without TCP
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Show a message's whole life
    #[command(after_help = "\
Examples:
  restante trace 1kx2p7q0zabcdef0        the queue id that a log line or the sender's log shows
  restante trace MTIzNDU2Nzg5MDEyMzQ1Ng  tag i of a TBR-Reference

Finished messages are kept for `queue.keep_finished`.")]
    Trace(TraceArgs),
    /// Is a stored message what its origin signed?
    #[command(after_help = "\
Examples:
  restante verify ~/Maildir/new/1800000000.R…            keys from DNS and the origin's web server
  restante verify --document domain.json message.eml     keys from a domain document kept since
  restante verify --zone zone message.eml                keys from a zone file

Judged is what stands below the topmost TBR-Reference field. A copy with LF line ends, and one whose reference has expired
since, is still a proof of what was sent, and named as such.

Exit status: 0 it is, 1 it is not, 2 it cannot be told (no reference, or no key to be had).")]
    Verify(VerifyArgs),
    /// Find mistakes
    #[command(subcommand)]
    Check(CheckCommand),
    /// Print a commented configuration with every field and its default
    Config,
    /// The DNS records that the domains of the configuration need
    #[command(subcommand)]
    Dns(DnsCommand),
    /// The certificates that come by ACME
    #[command(subcommand)]
    Certificates(CertificatesCommand),
    /// The keys that references and messages (DKIM) are signed with
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Reports about mail, of others and to others
    #[command(subcommand)]
    Reports(ReportsCommand),
    /// Who may log in, to send mail or to get it by ODMR
    #[command(subcommand)]
    Accounts(AccountsCommand),
    /// How mail of other domains has fared here
    #[command(subcommand)]
    Reputation(ReputationCommand),
    /// The store of messages
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  restante completions bash > /etc/bash_completion.d/restante")]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write manual pages into a directory
    #[command(after_help = "Example:\n  restante man /usr/local/share/man/man1")]
    Man {
        /// The directory
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
}

/// `serve`
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {}

/// `demo`
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The message to send, instead of the one that comes along
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub message: Option<PathBuf>,
    /// Keep all files, and say where they are
    #[arg(long)]
    pub keep: bool,
}

/// `send`
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// Who gets it
    #[arg(value_name = "ADDRESS", required_unless_present = "read_recipients")]
    pub recipients: Vec<String>,
    /// The envelope sender, who gets reports; `<>` for none. Else the login name at this server's domain
    #[arg(short = 'f', long = "from", value_name = "ADDRESS", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// The name for a missing From field
    #[arg(short = 'F', long = "full-name", value_name = "NAME")]
    pub full_name: Option<String>,
    /// Take recipients from To, Cc and Bcc too, and remove Bcc
    #[arg(short = 't', long = "read-recipients")]
    pub read_recipients: bool,
    /// A line with a single dot does not end the message
    #[arg(short = 'i', long = "ignore-dots")]
    pub ignore_dots: bool,
    /// Only over TLS to servers that are proven to be the right ones, or back with a report (REQUIRETLS)
    #[arg(long = "require-tls")]
    pub require_tls: bool,
}

/// `sync`
#[derive(Debug, Clone, Args)]
pub struct SyncArgs {
    /// For at most this long in all, such as 10m; where something is left then, the exit status is 75
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    pub limit: Option<std::time::Duration>,
}

/// `fetch`
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    /// `host` of one of the [[custodian]]s; all of them if not given
    #[arg(value_name = "CUSTODIAN")]
    pub custodian: Option<Domain>,
    /// How long to wait
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// What `fetch` and `link up` share.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Wait until all that waited is fetched, delivered, reported and sent; of custodians by ETRN, what has come by then
    #[arg(long)]
    pub wait: bool,
    /// With --wait: for at most this long in all, such as 10m; where something is left then, the exit status is 75
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = crate::config::parse_duration)]
    pub limit: Option<std::time::Duration>,
}

/// `link`
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// The link is up: try everything now that waits for another server, and ask custodians
    #[command(after_help = "\
For hooks of the network: contrib/link has some for networkd-dispatcher, NetworkManager, ifupdown and pppd.")]
    Up(WaitArgs),
}

/// `bundle`
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Write what waits for the other end of a link into a file
    #[command(after_help = "\
At the custodian: everything that waits for the site. At the site: what became of what it got, and what users there send, which then
waits for the custodian's word. Custody stays here until the other end has answered: a file that is lost has lost nothing, and may
be written again. It holds the messages in clear: encrypt the disk, or the file with age or GnuPG.

Examples:
  restante bundle export site.example --out /media/stick/                  as many files as it takes
  restante bundle export site.example --out /media/stick/ --limit 4GB      none of them larger than that
  restante bundle export site.example --out out.tar --limit 100M           as much as 100 MB have room for

It waits some seconds for messages that are being sent over a link; those that still are then are counted, and not in it.
Where there is nothing to write there is no file.

Exit status: 0 all of it was written that has room, 75 messages are being sent just now and are not in it: run it again.")]
    Export(BundleExportArgs),
    /// Read what the other end has written
    #[command(after_help = "\
Everything is verified as if it had come over the network; what is here already is passed over, so a file may be read twice, and
one that was torn off brings what stands before its end. At the site, the program ends when the messages are in their mailboxes;
then write the answer: `restante bundle export`.

Examples:
  restante bundle import /media/stick/*.tar

Exit status: 0 all of it was read, 1 a file ended too early or something in it was refused, 75 something is left for later.")]
    Import(BundleImportArgs),
}

/// `bundle export`
#[derive(Debug, Clone, Args)]
pub struct BundleExportArgs {
    /// The site's domain, at both ends; the mail of one user of a domain goes over links only
    #[arg(value_name = "SITE", value_parser = parse_site)]
    pub site: Domain,
    /// At a site with several custodians: the repository host of the one that it is for
    #[arg(long, value_name = "HOST")]
    pub custodian: Option<Domain>,
    /// The file to write, or a folder for as many as it takes
    #[arg(long, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub out: PathBuf,
    /// Most octets of a file, such as 100M
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub limit: Option<u64>,
}

/// `bundle import`
#[derive(Debug, Clone, Args)]
pub struct BundleImportArgs {
    /// The files to read, in this order
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Wait this long at most until the messages are in their mailboxes
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = crate::config::parse_duration)]
    pub limit: std::time::Duration,
}

/// Reads a size as people write it on a command line: `100M` is `100 MB`.
fn parse_site(text: &str) -> Result<Domain, String> {
    if text.contains('@') {
        return Err("bundles are for whole domains: what waits for one user is fetched over a link".to_owned());
    }
    text.parse().map_err(|error: mail::DomainError| error.to_string())
}

fn parse_limit(text: &str) -> Result<u64, String> {
    let short = text.ends_with(['k', 'M', 'G', 'i']);
    parse_size(&if short { format!("{text}B") } else { text.to_owned() })
}

/// `queue`
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List what is on its way, oldest first
    List {
        /// Finished messages too
        #[arg(long)]
        finished: bool,
        /// Most entries
        #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
        limit: usize,
    },
    /// Show one message
    Show(MessageArg),
    /// Attempt now
    Retry(SelectionArgs),
    /// Attempt nothing until released
    Hold(SelectionArgs),
    /// Undo hold
    Release(SelectionArgs),
    /// Give up now; the author is told
    Fail(SelectionArgs),
    /// Recall a message: whatever nobody has claimed or received yet never will be
    #[command(after_help = "\
What a peer has claimed, or a mailbox has got, cannot be recalled; the answer says for each recipient what holds.")]
    Withdraw(SelectionArgs),
}

impl QueueCommand {
    /// The command as the API has it.
    pub(super) fn verb(&self) -> Option<(Verb, &SelectionArgs)> {
        match self {
            Self::List { .. } | Self::Show(_) => None,
            Self::Retry(selection) => Some((Verb::Retry, selection)),
            Self::Hold(selection) => Some((Verb::Hold, selection)),
            Self::Release(selection) => Some((Verb::Release, selection)),
            Self::Fail(selection) => Some((Verb::Fail, selection)),
            Self::Withdraw(selection) => Some((Verb::Withdraw, selection)),
        }
    }
}

/// One message.
#[derive(Debug, Clone, Args)]
pub struct MessageArg {
    /// Its queue id, with or without the number that `queue list` adds
    #[arg(value_name = "ID")]
    pub name: Name,
}

/// A message as `queue list` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Its queue id.
    pub id: QueueId,
    /// One of its destinations.
    pub leg: Option<u32>,
}

impl FromStr for Name {
    type Err = NotQueueId;
    fn from_str(text: &str) -> Result<Self, NotQueueId> {
        let (id, leg) = split_number(text);
        Ok(Self { id: id.parse()?, leg })
    }
}

/// The id and the number of `<id>/<number>`; what has no number is an id.
pub(super) fn split_number(text: &str) -> (&str, Option<u32>) {
    let split = text.split_once('/').and_then(|(id, number)| Some((id, number.parse().ok()?)));
    split.map_or((text, None), |(id, number)| (id, Some(number)))
}

/// A message or a part of it.
#[derive(Debug, Clone, Args)]
pub struct SelectionArgs {
    /// Its queue id; as ID/NUMBER, as `queue list` prints it, only this destination of the message
    #[arg(value_name = "ID")]
    pub name: Name,
    /// Only this destination of the message, whatever stands after the id
    #[arg(long, value_name = "NUMBER")]
    pub leg: Option<u32>,
}

/// `trace`
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// A queue id, with or without the number that `queue list` adds, or a reference id
    #[arg(allow_hyphen_values = true)]
    pub id: String,
}

/// `verify`
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The stored message
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// A domain document (JSON) that holds the key
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub document: Vec<PathBuf>,
    /// A zone file that holds the key's record
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "document")]
    pub zone: Option<PathBuf>,
}

/// `check`
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// The configuration, and every file that it names
    Config,
    /// How mail to a domain would go, and why
    #[command(after_help = "\
Asks what a delivery would ask, and connects to the domain's mail exchangers as one would: greeting, EHLO, STARTTLS, QUIT.
Of its keys those are shown that its document lists; where its records are validated, each as DNS has it.

Exit status: 0 mail would go now, 1 it would be returned, 75 it would wait.")]
    Peer(PeerArgs),
}

/// `check peer`
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    /// The domain that mail would go to
    pub domain: Domain,

    /// Show this key too, which its document does not list; may be repeated
    #[arg(long = "selector", value_name = "SELECTOR")]
    pub selectors: Vec<Selector>,
}

/// `dns`
#[derive(Debug, Subcommand)]
pub enum DnsCommand {
    /// Print the records as a zone file
    #[command(after_help = "\
Examples:
  restante dns print                     everything that this server and its domains need
  restante dns print a.example --json    for programs that publish it

The window of a TBR key begins a day ago and ends in a year: print and publish again before it does.")]
    Print(DnsArgs),
    /// Compare them with what the world sees, and say what to change
    #[command(after_help = "\
What serves its purpose is good, also where it differs from what is printed.

Exit status: 0 all is good, 1 something should be changed, 75 something could not be looked up.")]
    Check(DnsArgs),
}

/// `dns print`, `dns check`
#[derive(Debug, Clone, Args)]
pub struct DnsArgs {
    /// Only this domain and the server itself
    pub domain: Option<Domain>,
}

/// `certificates`
#[derive(Debug, Subcommand)]
pub enum CertificatesCommand {
    /// Show them: until when they count, when they are renewed, and what was wrong
    List,
    /// Order one anew, or all, whatever is left of their time
    #[command(after_help = "\
The running server does it within a minute. The key stays the same, so that TLSA records stay true. Authorities limit how often
the same names may be asked for: a few times a week.")]
    Renew {
        /// The first name of the certificate; all if not given
        name: Option<String>,
    },
}

/// `keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, and print the DNS records to publish
    #[command(after_help = "\
Examples:
  restante keys generate --domain a.example
  restante keys generate --domain a.example --selector k2 --out /etc/restante/keys/k2.pem

`restante keys rotate` makes the key after one that is in use.")]
    Generate(GenerateArgs),
    /// Make the key after the one in use, and say what to do when
    #[command(after_help = "\
Example:
  restante keys rotate --domain a.example

Both keys are published until the last reference of the old one has ended. The server changes keys by itself at the time
that the configuration names.")]
    Rotate(RotateArgs),
    /// Print the DNS records of the keys in the configuration (DKIM included), or of one file
    Show(ShowKeyArgs),
}

/// `keys generate`
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// The domain that signs
    #[arg(long)]
    pub domain: Domain,
    /// Name of the key
    #[arg(long, default_value = "k1")]
    pub selector: Selector,
    /// Where to write it, if not `<domain>.<selector>.pem` here
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Host from where the domain's messages are fetched, if not `tbr.<domain>`
    #[arg(long, value_name = "HOST")]
    pub repository: Option<Domain>,
    /// The key of this user's own device, for the custodian of his mail: nothing of it is published
    #[arg(long, value_name = "NAME", conflicts_with_all = ["repository", "subdomains", "days", "dkim"])]
    pub user: Option<String>,
    /// It signs for subdomains too (`sub=y`)
    #[arg(long)]
    pub subdomains: bool,
    /// A DKIM key for [domain.dkim] instead, of this kind
    #[arg(long, value_enum, conflicts_with_all = ["repository", "subdomains", "days"])]
    pub dkim: Option<DkimKind>,
    /// How long it may sign
    #[arg(long, value_name = "DAYS", default_value_t = 366, value_parser = clap::value_parser!(u64).range(1..=3660))]
    pub days: u64,
}

/// `keys rotate`
#[derive(Debug, Clone, Args)]
pub struct RotateArgs {
    /// Whose key
    #[arg(long)]
    pub domain: Domain,
    /// Name of the next key, if not the present one's with the next number
    #[arg(long)]
    pub selector: Option<Selector>,
    /// Where to write it, if not `<domain>.<selector>.pem` beside the present one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// When it takes over, from now: the time that its record needs to be seen everywhere
    #[arg(long, value_name = "DURATION", default_value = "2d", value_parser = crate::config::parse_duration)]
    pub after: std::time::Duration,
}

/// Kinds of DKIM keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DkimKind {
    /// 2048 bits; every receiver knows it
    Rsa,
    /// Short and quick (RFC 8463); not every receiver knows it
    Ed25519,
}

/// `keys show`
#[derive(Debug, Clone, Args)]
pub struct ShowKeyArgs {
    /// A key file; needs --domain
    #[arg(value_hint = ValueHint::FilePath, requires = "domain")]
    pub file: Option<PathBuf>,
    /// Only this domain
    #[arg(long)]
    pub domain: Option<Domain>,
    /// Name of the key in the file
    #[arg(long, default_value = "k1", requires = "file")]
    pub selector: Selector,
}

/// `reports`
#[derive(Debug, Subcommand)]
pub enum ReportsCommand {
    /// Show what others report of TLS with this server's domains, newest first
    #[command(after_help = "\
Examples:
  restante reports tls                   which senders had trouble, and which
  restante reports tls --json            all that they say

They come by mail to the `report_address` of a domain. Everybody can write one: `signed by` names the domains whose DKIM
signature of it was good.")]
    Tls(ListReportsArgs),
    /// Show what others report of mail in the name of this server's domains (DMARC), newest first
    #[command(after_help = "\
Examples:
  restante reports dmarc                 who sent mail in our name, and who may not
  restante reports dmarc a.example --json

They come by mail to the `report_address` of a domain, once its DMARC record asks for them (`rua`). Everybody can write one:
`signed by` names the domains whose DKIM signature of it was good.")]
    Dmarc(ListReportsArgs),
    /// Report to others now, of what there is so far, and try again what waits
    #[command(after_help = "\
Reports go by themselves once a day; this is for trying it out. What is reported now is not reported again.")]
    Send,
}

/// `reports tls`
#[derive(Debug, Clone, Args)]
pub struct ListReportsArgs {
    /// Only about this domain
    pub domain: Option<Domain>,
    /// Most reports
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub limit: usize,
}

/// `accounts`
#[derive(Debug, Subcommand)]
pub enum AccountsCommand {
    /// Add an account; its password is asked for, or read from standard input
    #[command(after_help = "\
Examples:
  restante accounts add alice@a.example
  restante accounts add alice --address alice@a.example --address @b.example
  pwgen -s 20 1 | tee password | restante accounts add robot@a.example

The first address is the account's mailbox; it receives all of them and may send as all of them. @b.example lets it send
as any address of that domain, and gets its mail by ATRN where it has `deliver = \"odmr\"`; with nothing else it has no
mailbox. Only a SCRAM-SHA-256 verifier of the password is kept.")]
    Add(AddAccountArgs),
    /// Remove an account; its mailbox stays
    Remove {
        /// Its name
        name: String,
    },
    /// List accounts, with what a running server has counted of them
    List,
    /// Give an account limits of its own, instead of those in [submission]
    #[command(after_help = "\
Examples:
  restante accounts limit newsletter@a.example --recipients-per-day 50000 --recipients-per-hour 0
  restante accounts limit newsletter@a.example --as-configured

0 is no limit. What is not named stays as it is.")]
    Limit(LimitArgs),
    /// Let an account neither log in nor send; it goes on receiving
    Suspend {
        /// Its name, or an address that it alone has
        name: String,
    },
    /// Let a suspended account log in and send again
    Resume {
        /// Its name, or an address that it alone has
        name: String,
    },
    /// Suspend an account and withdraw all that it has sent and nobody has claimed
    #[command(after_help = "\
Examples:
  restante accounts recall alice@a.example
  restante accounts recall alice@a.example --since 2h --keep-active

For an account whose password was stolen. Messages that wait here, and references that nobody has claimed, are withdrawn: they
never reach their recipients, and no reports are written. It is said of each recipient what holds; those whose outcome was known
before are counted only. What an account that was removed has left is withdrawn by its name. Afterwards set a new password (remove the account and add it again), or `restante accounts resume`.

With --json: a line for each recipient, then one with the totals.

Exit status: 0 all was withdrawn that was not over, 1 for some it was too late, or there is no such account, 75 some is still being delivered: run it again.")]
    Recall(RecallArgs),
}

/// `accounts limit`
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// The account's name, or an address that it alone has
    pub name: String,
    /// Messages within an hour
    #[arg(long, value_name = "NUMBER")]
    pub messages_per_hour: Option<u32>,
    /// Messages within a day
    #[arg(long, value_name = "NUMBER")]
    pub messages_per_day: Option<u32>,
    /// Recipients within an hour
    #[arg(long, value_name = "NUMBER")]
    pub recipients_per_hour: Option<u32>,
    /// Recipients within a day
    #[arg(long, value_name = "NUMBER")]
    pub recipients_per_day: Option<u32>,
    /// Forget its own limits first
    #[arg(long)]
    pub as_configured: bool,
}

impl LimitArgs {
    /// What was named.
    pub(super) fn limits(&self) -> OwnLimits {
        OwnLimits {
            messages_per_hour: self.messages_per_hour,
            messages_per_day: self.messages_per_day,
            recipients_per_hour: self.recipients_per_hour,
            recipients_per_day: self.recipients_per_day,
        }
    }
}

/// `accounts recall`
#[derive(Debug, Clone, Args)]
pub struct RecallArgs {
    /// The account's name, or an address that it alone has
    pub name: String,
    /// Only what was accepted within this time, such as 2h or 3d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Do not suspend the account
    #[arg(long)]
    pub keep_active: bool,
}

/// `accounts add`
#[derive(Debug, Clone, Args)]
pub struct AddAccountArgs {
    /// The name to log in with
    pub name: String,
    /// An address, or @domain; the name itself if it is an address
    #[arg(long = "address", value_name = "ADDRESS")]
    pub addresses: Vec<Sender>,
}

impl AddAccountArgs {
    /// The addresses, the name among them if it is one and no other was given.
    pub(super) fn all_addresses(&self) -> Vec<Sender> {
        let own = self.name.parse::<Address>().ok().filter(|address| address.domain().is_some());
        match own {
            Some(address) if self.addresses.is_empty() => vec![Sender::Address(address)],
            _ => self.addresses.clone(),
        }
    }
}

/// `reputation`
#[derive(Debug, Subcommand)]
pub enum ReputationCommand {
    /// Show the domains that are known, or one of them
    Show {
        /// The domain, or one below it
        domain: Option<Domain>,
    },
    /// Its mail is welcome
    #[command(after_help = "30 points for the domain: it is known then. Half of all points fade within 30 days.")]
    Good {
        /// The domain, or one below it
        domain: Domain,
    },
    /// Its mail is not
    #[command(after_help = "50 points against the domain: more than it can have earned in five days of welcome mail.")]
    Bad {
        /// The domain, or one below it
        domain: Domain,
    },
}

/// `store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Check every message against its digest, and every row of the ledger against its messages
    #[command(after_help = "\
Works beside a running server, which then does the check. --repair removes what nothing needs and derives again what can be
derived; a damaged message is set aside in `damaged/`, so that it is never sent. Its content is lost then, unless there is a backup.

Exit status: 0 everything is in order, or was put right; 1 there are faults, or some remain.")]
    Check {
        /// Repair what can be repaired
        #[arg(long)]
        repair: bool,
    },
    /// Write the content of a message that is still here: on its way, in its grace, or held
    #[command(after_help = "\
What comes out is the message as its origin signed it, without the fields that servers added on the way, and is verified against its XUID.
Content is here as long as somebody may fetch it, for `[store] grace` after that, and while it is held.

Examples:
  restante store export 1kx2p7q0zabcdef0 --out message.eml
  restante store export 1kx2p7q0zabcdef0 | restante send --from alice@a.example bob@b.example

Exit status: 0 it is written and is what its XUID says, 1 it is not here, or is damaged.")]
    Export {
        /// Queue id of the message, the id of its reference, or its XUID
        #[arg(value_name = "ID|XUID")]
        id: String,
        /// The file to write, which must not be there yet; standard output if not given
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
    /// Keep a message until a date whatever becomes of it: legal hold
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
What is held with a date is released by nobody before it, and ends then by itself; without a date it is held until it is released.
Peers cannot fetch it any longer than without the hold. `restante store check` verifies the record of all holds; note the digest that
`list` prints elsewhere, and nothing up to there can be changed unseen."
    )]
    Hold(HoldArgs),
}

/// `store hold`
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// List, or release
    #[command(subcommand)]
    pub command: Option<HoldCommand>,
    /// Queue id of the message, or the id of its reference
    pub id: Option<String>,
    /// The day on which it ends, in UTC: 2031-12-31
    #[arg(long, value_parser = day)]
    pub until: Option<Timestamp>,
    /// Why, for whoever reads the list
    #[arg(long, default_value = "")]
    pub why: String,
}

/// `store hold list`, `store hold release`
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// List what is held, and the digest of the record
    List,
    /// Release what is held, if its date has come or it has none
    Release {
        /// The number of the hold
        number: u64,
    },
}

fn day(text: &str) -> Result<Timestamp, String> {
    Timestamp::from_date(text).ok_or_else(|| "a day such as 2031-12-31 is wanted".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn messages_are_named_as_they_are_listed() {
        let name = |text: &str| text.parse::<Name>().ok().map(|name| (name.id.to_string(), name.leg));
        assert_eq!(name("1abc"), Some(("1abc".to_owned(), None)));
        assert_eq!(name("1abc/12"), Some(("1abc".to_owned(), Some(12))));
        assert_eq!([name("1abc/"), name("1abc/x"), name("/1")], [None, None, None]);
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_that_fits() {
        fn walk(command: &mut clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing about itself", command.get_name());
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(argument.get_help().is_some(), "{} {id} has no help", command.get_name());
            }
            let long = command.render_long_help().to_string();
            let wide = long.lines().find(|line| line.chars().count() > 125);
            assert_eq!(wide, None, "{}", command.get_name());
            command.get_subcommands_mut().for_each(walk);
        }
        let mut command = Cli::command().term_width(110);
        command.build();
        walk(&mut command);
        let help = command.render_long_help().to_string();
        for word in ["Exit status", "restante demo", "RESTANTE_CONFIG", "--json"] {
            assert!(help.contains(word), "{word}");
        }
    }

    #[test]
    fn usual_forms_parse() {
        for line in [
            "restante serve",
            "restante --config x.toml queue list --json",
            "restante queue withdraw abc --leg 1",
            "restante send -t",
            "restante send -f <> -i bob@b.example",
            "restante verify --document d.json m.eml",
            "restante keys generate --domain a.example",
            "restante dns print",
            "restante certificates renew mx.a.example",
            "restante dns check a.example --json",
            "restante check peer b.example",
            "restante accounts add alice --address alice@a.example --address @b.example",
            "restante reports tls b.example --limit 5",
            "restante reports send --json",
            "restante store check --repair",
            "restante trace --json -XpFvlNV6M74I5coA61ECg",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in ["restante", "restante send", "restante queue show a/b", "restante keys show k.pem", "restante x"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}

//! The command line: every command, argument and help text. What they do is in the modules named after them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use mail::{Address, Domain, QueueId};
use reference::Selector;

use crate::accounts::Sender;
use crate::admin::api::Verb;
use crate::config::DEFAULT_PATH;

const EXIT_CODES: &str = "\
Exit status:
  0   done; for `verify`: the message is what the origin signed
  1   the answer is no, or it could not be done
  2   wrong usage or configuration; for `verify`: it cannot be told
  69  no server is running here
  75  not now, try again

With --json, each command prints one JSON value on standard output, an object with `error` where it fails.";

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
  restante demo --message big.eml        any message of up to 1 GB, LF or CRLF
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
    /// The keys that references are signed with
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Who may log in and send
    #[command(subcommand)]
    Accounts(AccountsCommand),
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
    /// Its queue id
    pub id: QueueId,
}

/// A message or a part of it.
#[derive(Debug, Clone, Args)]
pub struct SelectionArgs {
    /// Its queue id
    pub id: QueueId,
    /// Only this destination of the message: the number after the id in `queue list`
    #[arg(long, value_name = "NUMBER")]
    pub leg: Option<u32>,
}

/// `trace`
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// A queue id or a reference id
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
}

/// `keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, and print the DNS records to publish
    #[command(after_help = "\
Examples:
  restante keys generate --domain a.example
  restante keys generate --domain a.example --selector k2 --out /etc/restante/keys/k2.pem

To change keys: publish the new record, wait for its spread (a day), put the new key into the configuration, reload; leave
the old record in place for 30 days.")]
    Generate(GenerateArgs),
    /// Print the DNS records of the keys in the configuration, or of one file
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
    /// It signs for subdomains too (`sub=y`)
    #[arg(long)]
    pub subdomains: bool,
    /// How long it may sign
    #[arg(long, value_name = "DAYS", default_value_t = 366, value_parser = clap::value_parser!(u64).range(1..=3660))]
    pub days: u64,
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
as any address of that domain. Only a SCRAM-SHA-256 verifier of the password is kept.")]
    Add(AddAccountArgs),
    /// Remove an account; its mailbox stays
    Remove {
        /// Its name
        name: String,
    },
    /// List accounts
    List,
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

/// `store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Check every message against its digest, and every row of the ledger against its messages
    #[command(after_help = "\
Works beside a running server, which then does the check. --repair removes what nothing needs and derives again what can be
derived; a damaged message is set aside in `damaged/`, so that it is never sent.")]
    Check {
        /// Repair what can be repaired
        #[arg(long)]
        repair: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

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
            "restante accounts add alice --address alice@a.example --address @b.example",
            "restante store check --repair",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in ["restante", "restante send", "restante queue show a/b", "restante keys show k.pem", "restante x"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}

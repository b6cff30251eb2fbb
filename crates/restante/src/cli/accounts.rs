//! `restante accounts`: who may log in, and what they may send. Passwords come from the terminal or from standard input, never from arguments,
//! which everybody on the machine can see.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use console::Term;
use hyper::Method;
use net::sasl::ScramVerifier;
use policy::allowance::Figures;
use serde::Serialize;

use super::args::{AccountsCommand, AddAccountArgs, Global, LimitArgs, RecallArgs};
use super::client::Client;
use super::humane;
use super::output::{Exit, Failure, Outcome, Output};
use super::recall::{Recall, Standing};
use crate::accounts::{Account, Accounts, AccountsError, OwnLimits, Sender};
use crate::admin::api::{self, AccountUse, Reloaded};
use crate::config::Config;

/// Longest password that is read, in octets.
const MAX_PASSWORD: u64 = 1024;

/// One account, without its verifier.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    addresses: Vec<String>,
    suspended: bool,
    /// Where they differ from the configuration.
    own_limits: OwnLimits,
    /// What it has sent lately and may send; known to a running server only.
    #[serde(rename = "use")]
    used: Option<AccountUse>,
}

impl Shown {
    fn of(account: &Account) -> Self {
        Self {
            name: account.name().to_owned(),
            addresses: account.addresses().iter().map(Sender::to_string).collect(),
            suspended: account.is_suspended(),
            own_limits: account.limits(),
            used: None,
        }
    }
}

/// Carries a command out.
pub(super) fn run(command: &AccountsCommand, global: &Global, output: Output) -> Outcome {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let file = config.accounts_file();
    match command {
        AccountsCommand::Add(args) => {
            let account = new_account(args)?;
            warn_of_strangers(&config, &account, output);
            let shown = Shown::of(&account);
            Accounts::edit(&file, |all| all.add(account)).map_err(failure)?;
            tell_server(&config, global, output);
            output.print(&shown, || format!("{} is added, with {}", shown.name, listed(&shown.addresses)));
        }
        AccountsCommand::Remove { name } => {
            Accounts::edit(&file, |all| all.remove(name)).map_err(failure)?;
            tell_server(&config, global, output);
            output.print(&serde_json::json!({ "removed": name }), || format!("{name} is removed; its mailbox stays"));
        }
        AccountsCommand::List => list(&file, &client(&config, global), output)?,
        AccountsCommand::Limit(args) => {
            change(&config, global, output, &args.name, |account| limit(account, args))?;
        }
        AccountsCommand::Suspend { name } => {
            change(&config, global, output, name, |account| account.suspend(true))?;
        }
        AccountsCommand::Resume { name } => {
            change(&config, global, output, name, |account| account.suspend(false))?;
        }
        AccountsCommand::Recall(args) => return recall(&config, global, output, args),
    }
    Ok(Exit::Done)
}

fn client(config: &Config, global: &Global) -> Client {
    Client::at(global.socket.as_deref().unwrap_or(&config.admin_socket))
}

fn limit(account: &mut Account, args: &LimitArgs) {
    let before = if args.as_configured { OwnLimits::default() } else { account.limits() };
    account.set_limits(args.limits().over(before));
}

/// Changes an account, tells a running server, and shows what it is now.
fn change(
    config: &Config,
    global: &Global,
    output: Output,
    name: &str,
    change: impl FnOnce(&mut Account),
) -> Result<(), Failure> {
    let changed = Accounts::edit(&config.accounts_file(), |all| {
        let name = all.find(name)?.name().to_owned();
        all.change(&name, change)?;
        Ok(all.get(&name).map(Shown::of))
    });
    let Some(shown) = changed.map_err(failure)? else { return Ok(()) };
    tell_server(config, global, output);
    output.print(&shown, || {
        let state = if shown.suspended { "suspended" } else { "active" };
        format!("{} is {state}, {}", shown.name, limits_text(shown.own_limits))
    });
    Ok(())
}

fn limits_text(own: OwnLimits) -> String {
    let named = [
        ("messages an hour", own.messages_per_hour),
        ("messages a day", own.messages_per_day),
        ("recipients an hour", own.recipients_per_hour),
        ("recipients a day", own.recipients_per_day),
    ];
    let said = named.into_iter().filter_map(|(what, limit)| match limit? {
        0 => Some(format!("any number of {what}")),
        limit => Some(format!("{limit} {what}")),
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { "limited as configured".to_owned() } else { format!("limited to {}", said.join(", ")) }
}

fn recall(config: &Config, global: &Global, output: Output, args: &RecallArgs) -> Outcome {
    let standing = stop(config, global, output, args)?;
    let since = args.since.map(|since| humane::now().before(since));
    let is_suspended = standing.is_suspended();
    let recalled = Recall::new(&client(config, global), output, standing, since).run();
    recalled.map_err(|failure| match failure.exit {
        Exit::Unavailable if is_suspended => failure
            .help("the account is suspended; start the server and run the command again to withdraw its messages"),
        _ => failure,
    })
}

/// Suspends the account, unless it is to stay active.
fn stop(config: &Config, global: &Global, output: Output, args: &RecallArgs) -> Result<Standing, Failure> {
    let accounts = Accounts::load(&config.accounts_file()).map_err(failure)?;
    let name = match accounts.find(&args.name) {
        Ok(account) => account.name().to_owned(),
        // One that was removed may have left messages.
        Err(AccountsError::Unknown(name)) => return Ok(Standing::Missing(name)),
        Err(error) => return Err(failure(error)),
    };
    if args.keep_active {
        return Ok(Standing::Active(name));
    }
    Accounts::edit(&config.accounts_file(), |all| all.change(&name, |account| account.suspend(true)))
        .map_err(failure)?;
    tell_server(config, global, output);
    Ok(Standing::Suspended(name))
}

fn failure(error: AccountsError) -> Failure {
    Failure::new(error.to_string())
}

fn new_account(args: &AddAccountArgs) -> Result<Account, Failure> {
    let addresses = args.all_addresses();
    if addresses.is_empty() {
        let help = format!("add --address {0}@…, whose mailbox it gets, or --address @… for a whole domain", args.name);
        return Err(Failure::usage("the account has no address").help(help));
    }
    // The name is judged before anybody is asked for a password.
    let verifier = ScramVerifier::new("placeholder").map_err(|error| Failure::new(error.to_string()))?;
    Account::new(&args.name, verifier, addresses.clone()).map_err(|error| failure(error).exit(Exit::Usage))?;
    let password = password(&args.name).map_err(|error| Failure::new(format!("no password: {error}")))?;
    let verifier = ScramVerifier::new(&password).map_err(|error| Failure::usage(error.to_string()))?;
    Account::new(&args.name, verifier, addresses).map_err(failure)
}

fn password(name: &str) -> io::Result<String> {
    if io::stdin().is_terminal() {
        let terminal = Term::stderr();
        terminal.write_str(&format!("Password for {name}: "))?;
        let first = terminal.read_secure_line()?;
        terminal.write_str("Once more: ")?;
        return match terminal.read_secure_line()? == first {
            true => Ok(first),
            false => Err(io::Error::other("the two differ")),
        };
    }
    let mut text = String::new();
    io::stdin().take(MAX_PASSWORD + 2).read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default();
    if line.len() as u64 > MAX_PASSWORD { Err(io::Error::other("it is too long")) } else { Ok(line.to_owned()) }
}

/// An address in somebody else's domain can be sent as, but receives nothing here.
fn warn_of_strangers(config: &Config, account: &Account, output: Output) {
    let strange = account.addresses().iter().filter(|sender| match sender {
        Sender::Address(address) => address.domain().is_none_or(|domain| !config.is_ours(&domain)),
        Sender::Domain(domain) => !config.is_ours(domain),
    });
    for sender in strange.filter(|_| !output.json) {
        eprintln!(
            "restante: {sender} is in no [[domain]] of {}: it will receive nothing here",
            config.origin.display()
        );
    }
}

/// A running server reads its accounts again; without one there is nobody to tell.
fn tell_server(config: &Config, global: &Global, output: Output) {
    let told: Result<Reloaded, Failure> = client(config, global).ask(Method::POST, api::RELOAD);
    match told {
        Err(failure) if failure.exit != Exit::Unavailable && !output.json => {
            eprintln!("restante: the running server has not taken the change over: {}", failure.message);
        }
        _ => {}
    }
}

fn list(file: &Path, client: &Client, output: Output) -> Result<(), Failure> {
    let accounts = Accounts::load(file).map_err(failure)?;
    let mut shown: Vec<Shown> = accounts.iter().map(Shown::of).collect();
    // Without a server nothing is sent, and nothing counted.
    let counted: Vec<AccountUse> = client.ask(Method::GET, api::ACCOUNTS).unwrap_or_default();
    for account in &mut shown {
        account.used = counted.iter().find(|used| used.name == account.name).cloned();
    }
    output.print(&shown, || {
        if shown.is_empty() {
            return format!("There are no accounts in {}; add one with `restante accounts add`.", file.display());
        }
        accounts_text(&shown)
    });
    Ok(())
}

/// Use and limit of messages and of recipients, within an hour and within a day.
fn accounts_text(shown: &[Shown]) -> String {
    let heads = ["NAME", "MESSAGES/H", "/DAY", "RECIPIENTS/H", "/DAY", "ADDRESSES"];
    let mut table = humane::table(&heads, &[1, 2, 3, 4]);
    for account in shown {
        let of = |pick: fn(&Figures) -> u64| match &account.used {
            None => "-".to_owned(),
            Some(used) if pick(&used.limits) == 0 => pick(&used.sent).to_string(),
            Some(used) => format!("{} of {}", pick(&used.sent), pick(&used.limits)),
        };
        let state = if account.suspended { " (suspended)" } else { "" };
        table.add_row([
            format!("{}{state}", account.name),
            of(|figures| figures.messages_hour),
            of(|figures| figures.messages_day),
            of(|figures| figures.recipients_hour),
            of(|figures| figures.recipients_day),
            listed(&account.addresses),
        ]);
    }
    humane::print(&table)
}

fn listed(addresses: &[String]) -> String {
    addresses.join(", ")
}

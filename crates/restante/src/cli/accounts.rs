//! `restante accounts`: who may log in. Passwords come from the terminal or from standard input, never from arguments,
//! which everybody on the machine can see.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use console::Term;
use hyper::Method;
use net::sasl::ScramVerifier;
use serde::Serialize;

use super::args::{AccountsCommand, AddAccountArgs, Global};
use super::client::Client;
use super::humane;
use super::output::{Exit, Failure, Outcome, Output};
use crate::accounts::{Account, Accounts, AccountsError, Sender};
use crate::admin::api::{self, Reloaded};
use crate::config::Config;

/// Longest password that is read, in octets.
const MAX_PASSWORD: u64 = 1024;

/// One account, without its verifier.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    addresses: Vec<String>,
}

impl Shown {
    fn of(account: &Account) -> Self {
        let addresses = account.addresses().iter().map(Sender::to_string).collect();
        Self { name: account.name().to_owned(), addresses }
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
        AccountsCommand::List => list(&file, output)?,
    }
    Ok(Exit::Done)
}

fn failure(error: AccountsError) -> Failure {
    Failure::new(error.to_string())
}

fn new_account(args: &AddAccountArgs) -> Result<Account, Failure> {
    let addresses = args.all_addresses();
    if !addresses.iter().any(|sender| matches!(sender, Sender::Address(_))) {
        let help = format!("add --address {}@…: the first is the account's mailbox", args.name);
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
    let socket = global.socket.as_deref().unwrap_or(&config.admin_socket);
    let told: Result<Reloaded, Failure> = Client::at(socket).ask(Method::POST, api::RELOAD);
    match told {
        Err(failure) if failure.exit != Exit::Unavailable && !output.json => {
            eprintln!("restante: the running server has not taken the change over: {}", failure.message);
        }
        _ => {}
    }
}

fn list(file: &Path, output: Output) -> Result<(), Failure> {
    let accounts = Accounts::load(file).map_err(failure)?;
    let shown: Vec<Shown> = accounts.iter().map(Shown::of).collect();
    output.print(&shown, || {
        if shown.is_empty() {
            return format!("There are no accounts in {}; add one with `restante accounts add`.", file.display());
        }
        let mut table = humane::table(&["NAME", "ADDRESSES"], &[]);
        for account in &shown {
            table.add_row([account.name.clone(), listed(&account.addresses)]);
        }
        humane::print(&table)
    });
    Ok(())
}

fn listed(addresses: &[String]) -> String {
    addresses.join(", ")
}

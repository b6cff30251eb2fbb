//! The command line: reads the arguments, calls the command, prints what came of it, and ends with its exit code.

mod accounts;
pub mod args;
mod bundle;
mod certificates;
mod check;
mod client;
pub mod demo;
mod dns;
mod document;
mod export;
mod humane;
mod keys;
mod link;
mod manual;
mod output;
mod peer;
mod progress;
mod queue;
mod reach;
mod recall;
mod reports;
mod reputation;
mod rotate;
mod send;
mod sendmail;
pub mod serve;
mod store;
mod sync;
mod trace;
mod verify;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::Config;
use crate::confinement;
use args::{CheckCommand, Cli, Command, DemoArgs, Global, LinkCommand, QueueCommand};
use output::{Exit, Failure, Outcome, Output};

/// Runs the program with these arguments, the first being its own name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == "sendmail") {
        return as_sendmail(&arguments);
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return misused(&error, &arguments),
    };
    let output = Output { json: cli.global.json };
    finish(run(&cli, output), output)
}

fn run(cli: &Cli, output: Output) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Serve(_) => serve(global, output),
        Command::Demo(args) => demo(args, output),
        Command::Send(args) => send::run(args, global, output),
        Command::Queue(command) => queue::run(command, global, output),
        Command::Sync(args) => sync::run(args, global, output),
        Command::Fetch(args) => link::fetch(args, global, output),
        Command::Link(LinkCommand::Up(args)) => link::up(args, global, output),
        Command::Bundle(command) => bundle::run(command, global, output),
        Command::Trace(args) => trace::run(args, global, output),
        Command::Verify(args) => verify::run(args, global, output),
        Command::Check(CheckCommand::Config) => check::run(global, output),
        Command::Check(CheckCommand::Peer(args)) => peer::run(args, global, output),
        Command::Dns(command) => dns::run(command, global, output),
        Command::Reports(command) => reports::run(command, global, output),
        Command::Config => Ok(manual::config(output)),
        Command::Certificates(command) => certificates::run(command, global, output),
        Command::Keys(command) => keys::run(command, global, output),
        Command::Accounts(command) => accounts::run(command, global, output),
        Command::Reputation(command) => reputation::run(command, global, output),
        Command::Store(command) => store::run(command, global, output),
        Command::Completions { shell } => Ok(manual::completions(*shell)),
        Command::Man { directory } => manual::pages(directory, output),
    }
}

fn finish(outcome: Outcome, output: Output) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

/// Wrong usage, or a wish for help.
fn misused(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let json = arguments.iter().any(|argument| argument == "--json");
    if json && error.use_stderr() {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Output { json }.failure(&Failure::usage(message));
    } else {
        // Without an output there is nobody to tell.
        let _ = error.print();
    }
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

fn as_sendmail(arguments: &[OsString]) -> ExitCode {
    let output = Output { json: false };
    let words = arguments.iter().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    // The configuration and the socket come from the environment or are the default ones.
    let global = match Cli::try_parse_from(["restante", "config"]) {
        Ok(cli) => cli.global,
        Err(error) => return misused(&error, &[]),
    };
    let outcome = match sendmail::parse(words) {
        Ok(sendmail::Asked::Send(args)) => send::hand_in(&args, &global, std::io::stdin()).map(|_| Exit::Done),
        Ok(sendmail::Asked::Queue) => queue::run(&QueueCommand::List { finished: false, limit: 1000 }, &global, output),
        Err(message) => Err(Failure::usage(message)),
    };
    finish(outcome, output)
}

fn serve(global: &Global, output: Output) -> Outcome {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    // Before there are threads: each would have to be confined by itself.
    let confined = confinement::confine(&config).map_err(|error| Failure::new(error.to_string()))?;
    threads()?.block_on(serve::run(config, confined, output.json))?;
    Ok(Exit::Done)
}

fn demo(args: &DemoArgs, output: Output) -> Outcome {
    let bar = output.bar(0);
    let options = demo::Options { message: args.message.clone(), keep: args.keep, bar: bar.clone() };
    let story = threads()?.block_on(demo::run(&options));
    bar.finish_and_clear();
    let story = story?;
    output.print(&story, || story.to_text());
    Ok(if story.is_good() { Exit::Done } else { Exit::Failed })
}

/// Most threads that read, write and sync files: enough to keep a disk busy. Each holds memory, and what they do never
/// waits for another of them.
const BLOCKING_THREADS: usize = 32;

/// Stack of a thread in octets. A name is validated with the zones above it, one within the other, and a stranger's name may have many:
/// what is not used costs no memory.
const STACK: usize = 16 << 20;

/// A runtime for whole servers.
fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    // The allocator asks for huge pages, and would hold 2 MiB wherever it needs a few KiB: half as much memory again. A kernel
    // that knows none needs no asking.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).thread_stack_size(STACK).build();
    built.map_err(|error| Failure::new(format!("cannot start: {error}")))
}

//! The command line: reads the arguments, calls the command, prints what came of it, and ends with its exit code.

mod accounts;
pub mod args;
mod check;
mod client;
mod compose;
pub mod demo;
mod humane;
mod keys;
mod manual;
mod output;
mod queue;
mod send;
mod sendmail;
pub mod serve;
mod store;
mod trace;
mod verify;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::Config;
use args::{CheckCommand, Cli, Command, DemoArgs, Global, QueueCommand};
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
        Command::Trace(args) => trace::run(args, global, output),
        Command::Verify(args) => verify::run(args, global, output),
        Command::Check(CheckCommand::Config) => check::run(global, output),
        Command::Config => Ok(manual::config(output)),
        Command::Keys(command) => keys::run(command, global, output),
        Command::Accounts(command) => accounts::run(command, global, output),
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
    threads()?.block_on(serve::run(config, output.json))?;
    Ok(Exit::Done)
}

fn demo(args: &DemoArgs, output: Output) -> Outcome {
    let options = demo::Options { message: args.message.clone(), keep: args.keep };
    let story = threads()?.block_on(demo::run(&options))?;
    output.print(&story, || story.to_text());
    Ok(if story.is_good() { Exit::Done } else { Exit::Failed })
}

/// A runtime for whole servers.
fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| Failure::new(format!("cannot start: {error}")))
}

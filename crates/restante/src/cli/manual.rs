//! What the program says of itself: the commented configuration, completions, manual pages.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Cli;
use super::output::{Exit, Failure, Outcome, Output};
use crate::config;

/// `restante config`
pub(super) fn config(output: Output) -> Exit {
    output.print(&config::fields(), config::reference);
    Exit::Done
}

/// `restante completions`
pub(super) fn completions(shell: Shell) -> Exit {
    // In memory first: whoever reads only its beginning is no reason to panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "restante", &mut script);
    let _ = io::stdout().write_all(&script);
    Exit::Done
}

/// `restante man`
pub(super) fn pages(directory: &Path, output: Output) -> Outcome {
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    let result = serde_json::json!({ "directory": directory });
    output.print(&result, || format!("manual pages are in {}", directory.display()));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_pages_are_written_for_every_command() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path(), Output { json: true }).unwrap();
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        for page in ["restante.1", "restante-queue-withdraw.1", "restante-keys-generate.1"] {
            assert!(names.iter().any(|name| name == page), "{page} is not among {names:?}");
        }
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "restante", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("withdraw") && script.contains("--document") || shell == Shell::Fish, "{shell}");
            assert!(script.contains("withdraw"), "{shell}");
        }
    }
}

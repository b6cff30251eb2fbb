//! Runs other programs, in the project's folder, and says which one failed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The cargo that runs this program.
fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The project's folder.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Runs cargo; its output goes where ours goes.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    succeed(&mut cargo_command(arguments))
}

/// Runs cargo and returns what it prints.
pub(crate) fn cargo_output(arguments: &[&str]) -> Result<String> {
    let output = cargo_command(arguments).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "cargo {}: {}", arguments.join(" "), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs cargo and hands over each line that it prints as it comes; answers whether it succeeded.
pub(crate) fn cargo_lines(arguments: &[&str], mut take: impl FnMut(&str)) -> Result<bool> {
    let mut child = cargo_command(arguments).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).split(b'\n') {
        take(&String::from_utf8_lossy(&line?));
    }
    Ok(child.wait()?.success())
}

/// Runs a command; its output goes where ours goes.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

//! What commands print: text or one JSON value; failures on standard error, or as JSON; exit codes.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mail::Address;
use serde::Serialize;

use crate::admin::api::Problem;

/// How a command ended. The numbers from 69 on are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It is done; the answer is yes.
    Done,
    /// The answer is no, or it could not be done.
    Failed,
    /// Wrong usage or configuration; it cannot be told.
    Usage,
    /// No server is running.
    Unavailable,
    /// Not now.
    Later,
}

impl Exit {
    /// The number.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Later => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command failed, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// How the process ends.
    pub(super) exit: Exit,
    /// What went wrong: lines of text, the first a plain sentence.
    pub(super) message: String,
    /// What to do about it.
    pub(super) help: Option<String>,
    /// Recipients that were refused.
    pub(super) recipients: Vec<(Address, String)>,
    /// More for programs.
    pub(super) details: Option<serde_json::Value>,
}

/// The result of a command.
pub(super) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Something that could not be done.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), help: None, recipients: Vec::new(), details: None }
    }

    /// With another exit code.
    #[must_use]
    pub(super) fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// With advice.
    #[must_use]
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Of a problem that the server reports.
    pub(super) fn of(problem: Problem, exit: Exit) -> Self {
        Self { exit, message: problem.error, help: problem.help, recipients: problem.recipients, details: None }
    }

    /// Wrong configuration: its text stands for itself.
    pub(super) fn config(errors: &crate::config::ConfigErrors) -> Self {
        let details = serde_json::to_value(errors).ok();
        Self { details, ..Self::new(errors.to_string().trim_end()).exit(Exit::Usage) }
    }

    /// Wrong usage.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::Usage)
    }

    fn to_json(&self) -> serde_json::Value {
        let mut error = serde_json::json!({ "message": self.message, "exit": self.exit.number() });
        if let Some(help) = &self.help {
            error["help"] = help.as_str().into();
        }
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        let refused =
            self.recipients.iter().map(|(address, why)| serde_json::json!({ "address": address, "why": why }));
        if !self.recipients.is_empty() {
            error["recipients"] = refused.collect();
        }
        serde_json::json!({ "error": error })
    }

    fn to_text(&self) -> String {
        let mut text = match self.message.starts_with("error: ") {
            true => self.message.clone(),
            false => format!("restante: {}", self.message),
        };
        for (address, why) in &self.recipients {
            text.push_str(&format!("\n  {address}: {why}"));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("\n  {help}"));
        }
        text
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// JSON instead of text.
    pub(super) json: bool,
}

impl Output {
    /// Prints a result: as JSON, or what `text` makes of it. A reader that has gone away is no failure.
    pub(super) fn print<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        let printed = match self.json {
            true => serde_json::to_string(value).unwrap_or_else(|error| error.to_string()),
            false => text(),
        };
        self.line(printed.trim_end());
    }

    /// Prints a line of text as it is.
    pub(super) fn line(self, line: &str) {
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// Prints a failure where it belongs.
    pub(super) fn failure(self, failure: &Failure) {
        if self.json {
            self.line(&failure.to_json().to_string());
        } else {
            let _ = writeln!(io::stderr().lock(), "{}", failure.to_text());
        }
    }

    /// A bar for long work, counted in octets; nothing where nobody watches.
    pub(super) fn bar(self, octets: u64) -> ProgressBar {
        self.progress(Some(octets), "{bar:40} {bytes} of {total_bytes}, {eta} left {msg}")
    }

    /// The same for work of which nobody knows how long it is.
    pub(super) fn count(self) -> ProgressBar {
        self.progress(None, "{spinner} {bytes}, {binary_bytes_per_sec} {msg}")
    }

    fn progress(self, octets: Option<u64>, template: &str) -> ProgressBar {
        let watched = !self.json && io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(octets, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_to_people_and_programs() {
        let mut failure = Failure::new("there is no recipient").help("name one").exit(Exit::Usage);
        failure.recipients.push(("x@a.example".parse().unwrap(), "unknown".into()));
        assert_eq!(failure.to_text(), "restante: there is no recipient\n  x@a.example: unknown\n  name one");
        assert_eq!(
            failure.to_json().to_string(),
            r#"{"error":{"exit":2,"help":"name one","message":"there is no recipient","recipients":[{"address":"x@a.example","why":"unknown"}]}}"#
        );
    }
}

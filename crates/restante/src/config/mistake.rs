//! Mistakes in a configuration, shown as compilers show them: where, the line itself, what is wrong, what would be right.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// All mistakes that were found in one configuration. Displays them one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// In order of place; never empty.
    pub mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Where, if it is at a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What is wrong: one clause, no capital, no full stop.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A place in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters that are wrong, at least 1.
    pub length: usize,
    /// The whole line.
    pub text: String,
}

/// A mistake by octets, before the lines are counted.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Octets of the text.
    pub(super) span: Option<Range<usize>>,
    /// See [`Mistake::message`].
    pub(super) message: String,
    /// See [`Mistake::help`].
    pub(super) help: Option<String>,
}

impl ConfigErrors {
    /// The file as a whole cannot be used.
    pub(super) fn unreadable(file: &Path, why: String) -> Self {
        let message = format!("the configuration cannot be read: {why}");
        let help = "name the file with --config FILE; `restante config` prints a commented one to start from";
        Self { file: file.to_owned(), mistakes: vec![Mistake { place: None, message, help: Some(help.into()) }] }
    }

    /// Counts the lines.
    pub(super) fn locate(file: &Path, text: &str, mut found: Vec<Found>) -> Self {
        found.sort_by_key(|f| f.span.as_ref().map_or(usize::MAX, |span| span.start));
        let locate = |f: Found| Mistake { place: f.span.map(|s| Place::of(text, s)), message: f.message, help: f.help };
        Self { file: file.to_owned(), mistakes: found.into_iter().map(locate).collect() }
    }
}

impl Place {
    fn of(text: &str, span: Range<usize>) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor(text, span.end).clamp(start, line_end);
        let line = text[line_start..line_end].trim_end_matches('\r');
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            length: text[start..end].chars().count().max(1),
            text: line.to_owned(),
        }
    }
}

/// The border of characters at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.mistakes.iter().enumerate() {
            if number > 0 {
                f.write_char('\n')?;
            }
            mistake.show(&self.file, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Mistake {
    fn show(&self, file: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        let Some(place) = &self.place else {
            writeln!(f, "  --> {}", file.display())?;
            return self.show_help(1, f);
        };
        let width = place.line.to_string().len();
        let (blank, line, column) = ("", place.line, place.column);
        writeln!(f, "{blank:width$}--> {}:{line}:{column}", file.display())?;
        writeln!(f, "{blank:width$} |")?;
        writeln!(f, "{line} | {}", place.text)?;
        // Tabs stay tabs, so that the marks stand below what they mark.
        let lead = place.text.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect::<String>();
        writeln!(f, "{blank:width$} | {lead}{}", "^".repeat(place.length))?;
        self.show_help(width, f)
    }

    fn show_help(&self, width: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(help) = &self.help else { return Ok(()) };
        writeln!(f, "{:width$} = help: {help}", "")
    }
}

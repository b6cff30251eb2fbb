//! How far long work over a link is: a bar where somebody watches, a line now and then where nobody does.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::output::Output;
use crate::config::format_size;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// What is shown on standard error.
pub(super) struct Progress {
    bar: ProgressBar,
    /// When the last line was written; nothing where there is a bar, or JSON.
    line: Option<Instant>,
}

impl Progress {
    /// Begins.
    pub(super) fn new(output: Output) -> Self {
        let has_lines = !output.json && !io::stderr().is_terminal();
        Self { bar: output.bar(0), line: has_lines.then(Instant::now) }
    }

    /// So many octets of so many have come, and this is what is left.
    pub(super) fn show(&mut self, done: u64, whole: u64, words: String) {
        self.bar.set_length(whole);
        self.bar.set_position(done);
        if self.line.is_some_and(|last| last.elapsed() >= EVERY) {
            self.line = Some(Instant::now());
            // A reader that has gone away is no failure.
            let _ = writeln!(io::stderr().lock(), "{}", line(done, whole, &words));
        }
        self.bar.set_message(words);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn line(done: u64, whole: u64, words: &str) -> String {
    match whole {
        0 => words.to_owned(),
        _ => format!("{} of {}, {words}", format_size(done), format_size(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        assert_eq!(line(0, 0, "the list is read"), "the list is read");
        assert_eq!(line(300_000, 10_000_000, "2 to fetch"), "300 kB of 10.0 MB, 2 to fetch");
    }
}

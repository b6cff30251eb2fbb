//! docs/performance.md: the figures of a run, written between the marks that the page has for each benchmark.
//!
//! Everything else on the page is written by people.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::figures::Figure;
use crate::run;

const PAGE: &str = "docs/performance.md";

/// The page while it is being brought up to date.
pub(super) struct Document {
    text: String,
    load: String,
}

impl Document {
    /// Reads the page, and what the machine has to do before the run.
    pub(super) fn open() -> Result<Self> {
        let text = fs::read_to_string(run::root().join(PAGE)).context(PAGE)?;
        Ok(Self { text, load: load_average() })
    }

    /// Puts the figures of a benchmark in the place of the old ones.
    pub(super) fn put(&mut self, benchmark: &str, peer: &str, figures: &[Figure]) -> Result<()> {
        let peer = if peer.is_empty() { "–" } else { peer };
        let mut table = format!("| | Restante | {peer} | ratio | goal |\n|---|---|---|---|---|\n");
        for figure in figures {
            table.push_str(&figure.row());
            table.push('\n');
        }
        self.text = between_marks(&self.text, benchmark, &table)?;
        Ok(())
    }

    /// Writes the page, with a line about the machine.
    pub(super) fn close(self) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let line = format!(
            "Last run: {}, {cores} cores, {}. Load average before and after the run: {} and {}.\n",
            today()?,
            memory(),
            self.load,
            load_average()
        );
        let text = between_marks(&self.text, "machine", &line)?;
        fs::write(run::root().join(PAGE), text).context(PAGE)
    }
}

/// Replaces what stands between `<!-- bench: name -->` and the next `<!-- end -->`.
fn between_marks(text: &str, name: &str, content: &str) -> Result<String> {
    let mark = format!("<!-- bench: {name} -->\n");
    let start = text.find(&mark).with_context(|| format!("{PAGE} has no mark {mark:?}"))? + mark.len();
    let length = text[start..].find("<!-- end -->").with_context(|| format!("{PAGE}: no end behind {mark:?}"))?;
    Ok([&text[..start], content, &text[start + length..]].concat())
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.split_whitespace().nth(1).and_then(|kibibytes| kibibytes.parse::<u64>().ok());
    total.map_or("unknown memory".to_owned(), |kibibytes| format!("{} GiB of memory", kibibytes.div_ceil(1 << 20)))
}

fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page = "a\n<!-- bench: x -->\nold\n<!-- end -->\n<!-- bench: y -->\nb\n<!-- end -->\n";
        let new = between_marks(page, "x", "new\n").unwrap();
        assert_eq!(new, page.replace("old", "new"));
        assert!(between_marks(page, "z", "").is_err());
    }
}

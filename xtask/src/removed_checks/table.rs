//! The list of checks: `docs/spec/removed-checks/*.toml`.
//!
//! A row says which text of which file is a check, what stands there once it is removed, and which test fails then. It is named after its
//! file and itself: `smtp/bare-lf`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::named_tests::NamedTest;
use crate::run;

/// Where the list stands, in the project's folder.
pub(super) const FOLDER: &str = "docs/spec/removed-checks";

/// One file of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    check: Vec<Row>,
}

/// A check that can be removed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Unique; in the file without the area, here with it.
    pub(super) name: String,
    /// What the check keeps out.
    pub(super) against: String,
    /// The file that holds the check, in the project's folder.
    pub(super) file: String,
    /// The check, which stands in the file exactly once.
    pub(super) check: String,
    /// What stands there instead once it is removed.
    pub(super) removed: String,
    /// The test that fails then; see [`crate::named_tests`].
    pub(super) test: String,
}

impl Row {
    /// The file's text without the check.
    ///
    /// # Errors
    /// The check is not there, or more than once.
    pub(super) fn remove_from(&self, source: &str) -> Result<String> {
        let times = source.matches(&self.check).count();
        ensure!(times == 1, "{}: the check stands {times} times in {}", self.name, self.file);
        ensure!(self.check != self.removed, "{}: nothing is removed", self.name);
        Ok(source.replacen(&self.check, &self.removed, 1))
    }

    /// The test that fails without the check.
    ///
    /// # Errors
    /// There is none of this name.
    pub(super) fn test(&self) -> Result<NamedTest> {
        NamedTest::find(&self.test).with_context(|| self.name.clone())
    }
}

/// The names of all rows.
///
/// # Errors
/// A file can't be read, or a name occurs twice.
#[cfg(test)]
pub(crate) fn names() -> Result<Vec<String>> {
    Ok(read()?.into_iter().map(|row| row.name).collect())
}

/// Every row, in the order of files and rows.
///
/// # Errors
/// A file can't be read, or a name occurs twice.
pub(super) fn read() -> Result<Vec<Row>> {
    let folder = run::root().join(FOLDER);
    let mut files: Vec<_> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut rows: Vec<Row> = Vec::new();
    for file in files {
        for row in read_area(&file)? {
            ensure!(rows.iter().all(|other| other.name != row.name), "{} occurs twice", row.name);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn read_area(file: &Path) -> Result<Vec<Row>> {
    let area = file.file_stem().unwrap_or_default().to_string_lossy();
    let parsed: Area = toml::from_str(&fs::read_to_string(file)?).with_context(|| file.display().to_string())?;
    Ok(parsed.check.into_iter().map(|row| Row { name: format!("{area}/{}", row.name), ..row }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cheap half of `cargo xtask removed-checks`: the list speaks of checks and tests that are there.
    #[test]
    fn every_check_and_every_test_stands_where_the_list_says() {
        let rows = read().unwrap();
        assert!(!rows.is_empty());
        let mut wrong = Vec::new();
        for row in &rows {
            let source = fs::read_to_string(run::root().join(&row.file)).unwrap_or_default();
            wrong.extend(row.remove_from(&source).err().map(|error| format!("{error:#}")));
            wrong.extend(row.test().err().map(|error| format!("{error:#}")));
            if row.against.is_empty() {
                wrong.push(format!("{}: against what?", row.name));
            }
        }
        assert!(wrong.is_empty(), "\n{}\nMend {FOLDER}.", wrong.join("\n"));
    }

    #[test]
    fn a_check_stands_once() {
        let row = |check: &str| Row {
            name: "n".to_owned(),
            against: "a".to_owned(),
            file: "f".to_owned(),
            check: check.to_owned(),
            removed: "y".to_owned(),
            test: "t".to_owned(),
        };
        assert_eq!(row("x").remove_from("axb").unwrap(), "ayb");
        assert!(row("x").remove_from("axbx").is_err());
        assert!(row("x").remove_from("ab").is_err());
        assert!(row("y").remove_from("ayb").is_err());
    }
}

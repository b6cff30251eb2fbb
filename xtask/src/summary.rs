//! Adds up the lines by which `cargo test` closes each test program.

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What a line of output says of tests; nothing for all lines but `test result: …`.
pub(crate) fn of_line(line: &str) -> Summary {
    let Some(rest) = line.strip_prefix("test result: ") else {
        return Summary::default();
    };
    let count = |word: &str| {
        let parts = rest.split([';', '.']).map(str::trim);
        parts.filter_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok()).sum()
    };
    Summary { passed: count("passed"), failed: count("failed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_test_prints() {
        let ok = "test result: ok. 17 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s";
        assert_eq!(of_line(ok), Summary { passed: 17, failed: 0 });
        let failed = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(of_line(failed), Summary { passed: 3, failed: 2 });
        assert_eq!(of_line("test a::b ... ok"), Summary::default());
    }
}

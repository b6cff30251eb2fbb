//! What documents say of tests must be true: every test that the specification or the list of threats names exists.

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::named_tests::{NamedTest, named_in};
    use crate::removed_checks::names;
    use crate::run;

    fn document(name: &str) -> String {
        fs::read_to_string(run::root().join("docs/spec").join(name)).unwrap()
    }

    /// The rows of all tables of a document, without their heads.
    fn rows(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #"))
    }

    fn missing_tests(row: &str) -> Vec<String> {
        named_in(row).iter().filter_map(|name| NamedTest::find(name).err()).map(|error| format!("{error:#}")).collect()
    }

    #[test]
    fn every_test_that_the_specification_names_exists() {
        let text = document("tbr.md");
        let section = text.split_once("\n## 15.").unwrap().1.split_once("\n## 16.").unwrap().0;
        let missing: Vec<String> = rows(section).flat_map(missing_tests).collect();
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        assert!(!section.contains("| planned") && !section.contains("; planned"), "a test is promised, not written");
        assert!(rows(section).count() >= 65, "every requirement of draft-00 has its row");
        let untested: Vec<&str> = rows(section).filter(|row| row.ends_with("| - |")).collect();
        assert!(untested.is_empty(), "no test is named:\n{}", untested.join("\n"));
    }

    #[test]
    fn every_cell_of_the_matrix_names_a_test_that_exists() {
        let text = document("attacker-matrix.md");
        let attacks = || rows(&text).filter(|row| row.starts_with("| **"));
        let missing: Vec<String> = rows(&text).flat_map(missing_tests).collect();
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        assert_eq!(
            attacks().count(),
            12,
            "forge, replay, strip, downgrade, poison, redirect, impersonate twice, back-date, invent, another clock, claim"
        );
        for row in attacks() {
            let untested = row.split('|').skip(3).take(2).any(|cell| !cell.contains('`') && !cell.contains("the same"));
            assert!(!untested, "{row}");
        }
    }

    #[test]
    fn every_threat_names_tests_and_removed_checks_that_exist() {
        let (text, checks) = (document("threats.md"), names().unwrap());
        let mut wrong = Vec::new();
        for row in rows(&text) {
            wrong.extend(missing_tests(row));
            let spans = row.split('`').skip(1).step_by(2);
            let named = spans.filter(|span| span.contains('/') && !span.contains([' ', '.', ':', '<']));
            let is_dialogue = |span: &str| span.starts_with("server/") || span.starts_with("client/");
            wrong.extend(
                named
                    .filter(|span| !is_dialogue(span) && !checks.iter().any(|check| check == span))
                    .map(|span| format!("no removed check {span}")),
            );
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

//! docs/features.md says what there is, by number, and which test shows it. This sees to it that those tests are there.

use std::fs;
use std::path::Path;

/// As many as the table has.
const FEATURES: usize = 27;

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_feature_has_its_test_by_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/features.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| #"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), FEATURES);
    for (number, row) in (1..).zip(&rows) {
        let [written, _, shown] = row[..] else { panic!("{row:?}") };
        assert_eq!(written, number.to_string());
        let (mut source, mut tests) = (None, 0);
        for name in quoted(shown) {
            if name.ends_with(".rs") {
                let text = fs::read_to_string(root.join(name));
                source = Some(text.unwrap_or_else(|error| panic!("{number}: {name}: {error}")));
                continue;
            }
            let source = source.as_ref().unwrap_or_else(|| panic!("{number}: {name} is in no file"));
            let at =
                source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{number}: no test {name}"));
            let (before, _) = source.split_at(at);
            let marked = before.rfind("#[test]").max(before.rfind("#[tokio::test"));
            let between = marked.map(|from| before.split_at(from).1).unwrap_or_default();
            // Only attributes and words stand between the mark and the function.
            assert!(marked.is_some() && !between.contains("fn "), "{number}: {name} is no test");
            tests += 1;
        }
        assert!(tests > 0, "{number} has no test");
    }
}

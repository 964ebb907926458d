//! What README says that tests show is shown by tests of that name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// What stands between backticks, in order.
fn quoted(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_attack_table_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, table) = readme.split_once("| what it tries | what holds | shown by |").unwrap();
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 15, "the table has lost rows: {}", rows.len());
    for row in rows {
        let shown_by = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let (mut source, mut tests) = (None, 0);
        for name in quoted(shown_by) {
            if name.ends_with(".rs") {
                source =
                    Some(std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")));
            } else {
                let source = source.as_ref().unwrap_or_else(|| panic!("no file before {name}"));
                assert!(source.contains(&format!("fn {name}(")), "{name}, which README names, is no test");
                tests += 1;
            }
        }
        assert!(tests > 0, "a claim without a test: {row}");
    }
}

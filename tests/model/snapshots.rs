//! A snapshot is named by what it shows, not by its number: a case that is inserted would give the others another name.

use regex::Regex;

use crate::docs::files;

#[test]
fn no_snapshot_has_a_number_for_a_name() {
    let number = Regex::new(r"(-\d+|__case_\d+.*)\.snap$").unwrap();
    let snapshots =
        files(&["harness", "tests"]).into_iter().filter(|path| path.extension().is_some_and(|it| it == "snap"));
    let (numbered, named): (Vec<_>, Vec<_>) = snapshots.partition(|path| number.is_match(&path.display().to_string()));
    assert!(named.len() > 100, "{} snapshots are found", named.len());
    assert!(numbered.is_empty(), "{numbered:?}");
}

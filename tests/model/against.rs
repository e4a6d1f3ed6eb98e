//! `verify --against` compares the behaviour of two versions of the manifests.

use std::fs;
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use tempfile::TempDir;

use crate::common::{ROOT, said, shiftcheck, spoilt};

const DR: &str = "dr-hello.yaml";
const TESTERS: &str = "vs-hello-testers.yaml";

/// The canary scenario with changes, in a folder of its own.
fn canary(changes: &[(&str, &str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    spoilt(folder.path(), changes);
    folder
}

/// Replaces all occurrences of a text in a file.
fn replace(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no `{from}`");
    fs::write(&path, text.replace(from, to)).unwrap();
}

fn git(folder: &Path, arguments: &[&str]) {
    let own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(folder).args(own).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn commit(folder: &Path) {
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "one"]);
}

/// The canary scenario as a commit.
fn committed() -> TempDir {
    let folder = canary(&[]);
    git(folder.path(), &["init", "-q"]);
    commit(folder.path());
    folder
}

/// Moves ten points of weight, and claims that: every claim holds, and the behaviour is another one.
fn change_weights(folder: &Path) {
    replace(folder, TESTERS, "subset: v1}\n          weight: 50", "subset: v1}\n          weight: 40");
    replace(folder, TESTERS, "subset: v2}\n          weight: 50", "subset: v2}\n          weight: 60");
    replace(folder, "scenario.yaml", "v1: 50%, v2: 50%", "v1: 40%, v2: 60%");
}

/// What `verify --against` says of a folder, and its exit code.
fn verify(folder: &Path, against: &str, more: &[&str]) -> (String, Option<i32>) {
    let path = folder.display().to_string();
    let (printed, errors, code) =
        said(&shiftcheck(&[&["verify", &path, "--against", against], more].concat()).output().unwrap());
    (format!("{printed}{errors}").replace(&path, "canary"), code)
}

#[rstest]
#[case::weights(&[(TESTERS, "weight: 50", "weight: 40")], "testers: v1 50 %, v2 50 % → v1 44.44 %, v2 55.56 % by VirtualService vs-hello")]
#[case::order_of_subsets(&[(DR, "    - name: v1\n      labels: {version: v1}\n    - name: v2\n      labels: {version: v2}", "    - {name: v2, labels: {version: v2}}\n    - {name: v1, labels: {version: v1}}")], "no change in behaviour")]
#[case::comment(&[(TESTERS, "spec:", "# words\nspec:")], "no change in behaviour")]
fn versions_are_compared_in_behaviour_not_in_text(#[case] changes: &[(&str, &str, &str)], #[case] told_is: &str) {
    let folder = canary(changes);
    let (printed, _) = verify(folder.path(), &format!("{ROOT}/fixtures/canary"), &[]);
    assert!(printed.contains(told_is), "{printed}");
}

#[test]
fn a_revision_of_git_is_compared_with() {
    let folder = committed();
    replace(folder.path(), TESTERS, "exact: testers", "exact: staff");
    let (printed, code) = verify(folder.path(), "HEAD", &[]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("~ 4 testers' canary, testers: v1 50 %, v2 50 % → v1 by"), "{printed}");
}

/// `git archive`, for example, leaves out what is marked as `export-ignore`.
#[test]
fn a_revision_has_all_files_that_the_scenario_names_through_links_too() {
    let folder = canary(&[]);
    fs::write(folder.path().join(".gitattributes"), "* export-ignore\n").unwrap();
    fs::rename(folder.path().join(DR), folder.path().join("elsewhere.yaml")).unwrap();
    std::os::unix::fs::symlink("elsewhere.yaml", folder.path().join(DR)).unwrap();
    git(folder.path(), &["init", "-q"]);
    commit(folder.path());
    replace(folder.path(), TESTERS, "exact: testers", "exact: staff");
    let (printed, code) = verify(folder.path(), "HEAD", &[]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("~ 4 testers' canary, testers: v1 50 %, v2 50 % → v1 by"), "{printed}");
}

#[test]
fn a_file_that_a_revision_lacks_is_named_with_the_revision() {
    let folder = canary(&[]);
    git(folder.path(), &["init", "-q"]);
    fs::write(folder.path().join(".gitignore"), DR).unwrap();
    commit(folder.path());
    let (printed, code) = verify(folder.path(), "HEAD", &[]);
    assert_eq!(code, Some(2));
    assert!(
        printed.contains("error: HEAD:scenario.yaml:") && printed.contains("there is no file HEAD:dr-hello.yaml"),
        "{printed}"
    );
}

#[rstest]
#[case::is_listed(&[], 0)]
#[case::fails_where_that_is_asked_for(&["--fail-on-change"], 1)]
fn a_change_in_behaviour_with_claims_that_hold(#[case] more: &[&str], #[case] expected: i32) {
    let folder = committed();
    change_weights(folder.path());
    let (printed, code) = verify(folder.path(), "HEAD", more);
    assert_eq!(code, Some(expected), "{printed}");
    assert!(printed.contains("every claim holds"), "{printed}");
    assert!(printed.contains("~ 4 testers' canary, testers: v1 50 %, v2 50 % → v1 40 %, v2 60 %"), "{printed}");
}

#[test]
fn no_change_in_behaviour_passes_where_changes_fail() {
    let folder = committed();
    replace(folder.path(), TESTERS, "spec:", "# words\nspec:");
    let (printed, code) = verify(folder.path(), "HEAD", &["--fail-on-change"]);
    assert_eq!(code, Some(0), "{printed}");
}

#[test]
fn an_unknown_revision_is_an_error() {
    let folder = committed();
    let (printed, code) = verify(folder.path(), "nonsense", &[]);
    assert_eq!(code, Some(2));
    assert!(
        printed
            .ends_with("error: `nonsense` is neither a folder nor a git revision: fatal: Needed a single revision\n"),
        "{printed}"
    );
}

#[test]
fn a_shallow_clone_is_told_with_what_fetches_the_history() {
    let folder = committed();
    git(folder.path(), &["checkout", "-q", "-b", "change"]);
    change_weights(folder.path());
    commit(folder.path());
    let clone = tempfile::tempdir().unwrap();
    let origin = format!("file://{}", folder.path().display());
    git(clone.path(), &["clone", "-q", "--depth", "1", "--branch", "change", &origin, "."]);
    let (printed, code) = verify(clone.path(), "origin/main", &[]);
    assert_eq!(code, Some(2));
    let (_, error) = printed.split_once("\nerror: ").unwrap();
    insta::assert_snapshot!(error, @r"
    `origin/main` is neither a folder nor a git revision: fatal: Needed a single revision

    hint: this clone is shallow: fetch the history with `git fetch --unshallow`, or check out with `fetch-depth: 0` in GitHub Actions and `GIT_DEPTH: 0` in GitLab CI
    ");
}

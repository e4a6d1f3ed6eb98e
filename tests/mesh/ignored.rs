//! Tests that need a container engine are ignored by `cargo test`, and fail without an engine where they are asked for.

use std::process::Command;

use crate::common::said;
use crate::harness::tests;

/// A test that needs a container engine.
const TEST: &str = "images::a_version_is_pulled_into_the_cache";

tests![
    tests_that_need_an_engine_are_ignored_and_the_output_says_why(),
    without_an_engine_they_fail_where_they_are_asked_for[in_ci](Some("true"), &[]),
    without_an_engine_they_fail_where_they_are_asked_for[by_argument](None, &["--include-ignored"]),
];

/// Runs that test on a machine without an engine.
fn run(ci: Option<&str>, more: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST]).args(more).env_remove("CI").env_remove("SHIFTCHECK_TEST_TIMES");
    command.envs(ci.map(|value| ("CI", value))).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    said(&command.output().unwrap())
}

fn tests_that_need_an_engine_are_ignored_and_the_output_says_why() {
    let (printed, errors, code) = run(None, &[]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains(&format!("test [needs a container engine] {TEST} ... ignored")), "{printed}");
    assert!(printed.contains("test result: ok. 0 passed; 0 failed; 1 ignored"), "{printed}");
    assert!(errors.contains("`cargo test --test mesh -- --include-ignored`"), "{errors}");
}

fn without_an_engine_they_fail_where_they_are_asked_for(ci: Option<&str>, more: &[&str]) {
    let (printed, errors, code) = run(ci, more);
    assert_eq!(code, Some(101), "{printed}{errors}");
    assert!(printed.contains("test result: FAILED. 0 passed; 1 failed; 0 ignored"), "{printed}");
    assert!(printed.contains("no Docker engine answers") && printed.contains("ci/engine"), "{printed}{errors}");
}

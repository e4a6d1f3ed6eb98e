//! What the command line offers beside whole runs.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Deadline, said, shiftcheck};
use rstest::rstest;

fn run(extra: &[&str]) -> (String, String, Option<i32>) {
    said(&shiftcheck(&[&["run", "--cluster", "embedded"], extra].concat()).output().unwrap())
}

#[test]
fn one_stage_is_judged_alone_on_what_those_before_it_applied() {
    let (printed, errors, code) = run(&["--only", "testers' canary"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("4  testers' canary      pass  3 of 3 claims"), "{printed}");
    assert!(printed.contains("2  version label        pass  0 of 0 claims"), "{printed}");
    assert!(!printed.contains("rollback"), "{printed}");
}

#[test]
fn a_run_stops_where_it_is_told() {
    let (printed, _, code) = run(&["--until", "3"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("ok 3/3 v2 deployed, unused") && printed.contains("all stages passed"), "{printed}");
}

#[test]
fn a_stage_that_is_not_there_is_told_with_those_that_are() {
    let (_, errors, code) = run(&["--until", "rolback"]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("has no stage `rolback`; did you mean `rollback`?; its stages: 1 first release, 2"),
        "{errors}"
    );
    let (_, errors, code) = run(&["--pause", "3"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--pause needs a cluster"), "{errors}");
}

#[test]
fn it_walks_again_when_something_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    common::spoilt(folder.path(), &[]);
    let mut command = shiftcheck(&["run", "--cluster", "embedded", "--watch"]);
    let mut child = command.arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("all stages passed")));
    assert!(lines.any(|line| line == "waiting for a change"));
    let file = folder.path().join("vs-hello-testers.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("weight: 50", "weight: 90", 1).replacen("weight: 50", "weight: 10", 1)).unwrap();
    assert!(lines.any(|line| line.starts_with("stage 4 of 9 failed")));
    assert!(lines.any(|line| line == "waiting for a change"));
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (_, errors, code) = said(&shiftcheck(&["run", "--watch"]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(errors.contains("--watch walks at every save"), "{errors}");
}

#[rstest]
#[case::bash("bash", "complete -F _shiftcheck")]
#[case::zsh("zsh", "#compdef shiftcheck")]
#[case::fish("fish", "complete -c shiftcheck")]
fn shells_complete_it(#[case] shell: &str, #[case] part: &str) {
    let (printed, _, code) = said(&shiftcheck(&["completions", shell]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.contains(part) && printed.contains("--cluster"), "{printed}");
}

#[test]
fn it_has_a_man_page_and_lists_its_images() {
    let (printed, _, code) = said(&shiftcheck(&["man"]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.contains(".TH shiftcheck 1") && printed.contains("Exit codes"), "{printed}");
    let (printed, _, code) = said(&shiftcheck(&["images"]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.starts_with("node "), "{printed}");
    let (printed, _, code) = said(&shiftcheck(&["images", "--check"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("istio-1.31  ok\n") && printed.contains("node        ok\n"), "{printed}");
    let empty = tempfile::tempdir().unwrap();
    let (printed, _, _) = said(&shiftcheck(&["images", "--cache", empty.path().to_str().unwrap()]).output().unwrap());
    assert!(printed.contains("the image cache has no set `node`"), "{printed}");
    let arguments = ["images", "--check", "--cache", empty.path().to_str().unwrap()];
    let (printed, _, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(3));
    assert!(printed.contains("no version is there"), "{printed}");
}

#[test]
fn help_comes_at_once() {
    let best = (0..10).map(|_| {
        let start = Instant::now();
        assert!(shiftcheck(&["--help"]).output().unwrap().status.success());
        start.elapsed()
    });
    let best = best.min().unwrap();
    assert!(best.as_millis() < 20, "{best:?}");
}

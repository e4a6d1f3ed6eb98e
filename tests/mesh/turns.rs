//! Tests take turns also if each is a process of its own, or if two test binaries run at the same time.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{TURNS, tests};

tests![
    processes_take_turns[alone_and_alone](&[ALONE, ALONE], 1),
    processes_take_turns[alone_and_paired](&[ALONE, PAIRED], 1),
    processes_take_turns[paired_and_paired](&[PAIRED, PAIRED], 2),
    processes_take_turns[three_that_are_paired](&[PAIRED, PAIRED, PAIRED], 2),
    a_process_that_was_killed_holds_no_turn(),
    the_process_of_a_test_that_runs_alone(),
    the_process_of_a_paired_test(): Paired,
];

const ALONE: &str = "turns::the_process_of_a_test_that_runs_alone";
const PAIRED: &str = "turns::the_process_of_a_paired_test";

/// The file to which each of these processes appends `+` at its begin and `-` at its end.
const LOG: &str = "SHIFTCHECK_TEST_TURNS_LOG";
/// The number of processes that are expected at the same time.
const EXPECTED: &str = "SHIFTCHECK_TEST_TURNS_EXPECTED";

/// Starts the process of a test, with turns in a folder of their own, so that it does not wait for this test.
fn start(folder: &Path, test: &str, expected: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env(TURNS, folder).env(LOG, folder.join("log"));
    command.env(EXPECTED, expected.to_string()).env_remove("SHIFTCHECK_TEST_TIMES");
    command.stdout(Stdio::null()).spawn().unwrap()
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn processes_take_turns(tests: &[&str], expected: usize) {
    let folder = tempfile::tempdir().unwrap();
    let processes: Vec<Child> = tests.iter().map(|test| start(folder.path(), test, expected)).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let log = log(folder.path());
    assert_eq!(log.len(), 2 * tests.len(), "{log}");
    let mut running = 0;
    let most = log.chars().map(|mark| {
        running = if mark == '+' { running + 1 } else { running - 1 };
        running
    });
    assert_eq!(most.max(), Some(expected), "{log}");
}

fn a_process_that_was_killed_holds_no_turn() {
    let folder = tempfile::tempdir().unwrap();
    // waits for a second process, which does not come
    let mut killed = start(folder.path(), ALONE, 2);
    wait_for("the first process begins", || log(folder.path()) == "+");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut next = start(folder.path(), ALONE, 1);
    wait_for("the second process ends", || next.try_wait().unwrap().is_some());
    assert_eq!(log(folder.path()), "++-");
}

fn the_process_of_a_test_that_runs_alone() {
    run_and_log();
}

fn the_process_of_a_paired_test() {
    run_and_log();
}

/// Does nothing unless [`start`] has started this process.
fn run_and_log() {
    let Some(path) = std::env::var_os(LOG) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    file.write_all(b"+").unwrap();
    let expected: usize = std::env::var(EXPECTED).unwrap().parse().unwrap();
    let begun = || std::fs::read_to_string(&path).unwrap().matches('+').count();
    wait_for("the other process begins", || begun() >= expected);
    // a process that must wait would begin meanwhile
    std::thread::sleep(Duration::from_millis(500));
    file.write_all(b"-").unwrap();
}

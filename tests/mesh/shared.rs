//! The cluster that tests share goes when the tests are interrupted, and is swept when they were killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::{containers, shared};
use crate::common::{Deadline, said, shiftcheck, signal};
use crate::harness::{TURNS, tests};

tests![
    the_cluster_goes_when_the_tests_are_interrupted[ctrl_c]("-INT", 130),
    the_cluster_goes_when_the_tests_are_interrupted[sigterm]("-TERM", 143),
    a_sweep_removes_the_cluster_of_tests_that_were_killed(),
    the_process_that_is_interrupted(),
];

/// Asks for the shared cluster and does nothing with it; started by the test above as a process of its own.
fn the_process_that_is_interrupted() {
    assert_eq!(containers(shared().run().as_str()).len(), 1);
}

fn the_cluster_goes_when_the_tests_are_interrupted(name: &str, code: i32) {
    let (run, ended, rest) = interrupted(name);
    assert_eq!(ended, Some(code), "{rest:?}");
    assert_eq!(containers(&run), [""; 0], "{rest:?}");
}

fn a_sweep_removes_the_cluster_of_tests_that_were_killed() {
    let (run, ended, rest) = interrupted("-KILL");
    assert_eq!((ended, containers(&run).len()), (None, 1), "{rest:?}");
    // every run begins with a sweep
    let (printed, errors, code) = said(&shiftcheck(&["sweep"]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.contains(&format!("removed the cluster of run {run}")), "{printed}");
    assert_eq!(containers(&run), [""; 0]);
}

/// Sends a signal to tests whose cluster is being raised; its run, the exit code of the tests and the rest of what they said.
fn interrupted(name: &str) -> (String, Option<i32>, Vec<String>) {
    // this test has the turn of the cache folder
    let turns = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--include-ignored", "shared::the_process_that_is_interrupted"]).env(TURNS, turns.path());
    command.env_remove("SHIFTCHECK_TEST_TIMES").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let run = lines.find_map(|line| line.strip_prefix("raising the cluster that tests share, run ").map(str::to_owned));
    let run = run.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while containers(&run).is_empty() {
        assert!(Instant::now() < deadline, "no container of run {run}");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(name, &child);
    let rest: Vec<String> = lines.collect();
    (run, child.wait().unwrap().code(), rest)
}

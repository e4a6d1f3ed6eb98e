//! The tests of a program share a cluster, which is gone when the program, or the cargo-nextest that started its processes, has ended.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shiftcheck::prove::Prover;

use crate::cluster::docker;
use crate::common::{BINARY, ROOT, said};
use crate::harness::{TURNS, block_on, tests};

tests![
    scenarios_of_a_program_share_a_cluster_that_ends_with_it(),
    processes_of_one_nextest_run_share_a_cluster_that_ends_with_it(),
    the_process_that_proves_scenarios(),
];

/// The scenarios that the process proves, separated by commas.
const SCENARIOS: &str = "SHIFTCHECK_TEST_SUITE";

/// How long the removal may take after the end of the process.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);

/// The clusters that belong to a process.
fn clusters_of(pid: u32) -> Vec<String> {
    let all = docker(&["ps", "-a", "--format", "{{.ID}} {{.Label \"shiftcheck.dev/owner\"}}"]);
    all.into_iter().filter(|line| line.contains(&format!("\"pid\":{pid},"))).collect()
}

/// Waits until a process has no cluster any more.
fn gone(pid: u32) {
    let deadline = Instant::now() + REMOVAL_LIMIT;
    while !clusters_of(pid).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", clusters_of(pid));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A process of this program that proves scenarios. It takes turns in a folder of its own, so that it does not wait for this test.
fn process(scenarios: &str, turns: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "suite::the_process_that_proves_scenarios", "--include-ignored", "--nocapture"]);
    command.env(SCENARIOS, scenarios).env("SHIFTCHECK_PROGRAM", BINARY).env(TURNS, turns);
    command.env_remove("SHIFTCHECK_TEST_TIMES").env_remove("NEXTEST_RUN_ID");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn scenarios_of_a_program_share_a_cluster_that_ends_with_it() {
    let turns = tempfile::tempdir().unwrap();
    let child: Child = process("progressive,blue-green", turns.path()).spawn().unwrap();
    let pid = child.id();
    let (printed, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert_eq!(errors.matches("1 cluster after ").count(), 2, "{printed}{errors}");
    gone(pid);
}

fn processes_of_one_nextest_run_share_a_cluster_that_ends_with_it() {
    // the shell is the parent of both processes, as nextest is
    let one = |scenario: &str| format!("{SCENARIOS}={scenario} \"$@\"");
    let script = format!("{} && {}", one("progressive,-"), one("-,blue-green"));
    let turns = tempfile::tempdir().unwrap();
    let program = process("", turns.path());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(program.get_program()).args(program.get_args());
    shell.env("SHIFTCHECK_PROGRAM", BINARY).env(TURNS, turns.path()).env("NEXTEST_RUN_ID", "one");
    shell.env_remove("SHIFTCHECK_TEST_TIMES");
    let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (printed, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert_eq!(errors.matches("1 cluster after ").count(), 2, "{printed}{errors}");
    gone(pid);
}

/// Does nothing unless [`process`] has started this process. Proves the first stage of each scenario, but of none called `-`.
fn the_process_that_proves_scenarios() {
    let Some(asked) = std::env::var_os(SCENARIOS) else { return };
    let folder = Path::new(ROOT).join("fixtures");
    let suite = Prover::suite(["progressive", "blue-green"].map(|name| folder.join(name))).until("1");
    let owner = match std::env::var_os("NEXTEST_RUN_ID") {
        Some(_) => std::os::unix::process::parent_id(),
        None => std::process::id(),
    };
    for scenario in asked.to_str().unwrap().split(',').filter(|scenario| *scenario != "-") {
        block_on(suite.prove(folder.join(scenario))).unwrap().assert_passed();
        eprintln!("{} cluster after {scenario}", clusters_of(owner).len());
    }
}

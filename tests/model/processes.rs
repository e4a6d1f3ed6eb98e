//! Processes with tests that run at the same time do not write to the same files.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::common::scratch;

/// Set in the process that [`two_processes_have_different_files`] starts.
const STARTED: &str = "SHIFTCHECK_TEST_SCRATCH";

#[test]
fn two_processes_have_different_files() {
    let own = scratch("reports");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "processes::the_process_that_prints_its_files"]).env(STARTED, "1");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let other = lines.find_map(|line| line.split_once("files: ").map(|(_, path)| path.to_owned()));
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert_ne!(other.unwrap(), own.display().to_string());
    assert_eq!(scratch("reports"), own);
}

#[test]
fn the_process_that_prints_its_files() {
    if std::env::var_os(STARTED).is_some() {
        #[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
        {
            println!("files: {}", scratch("reports").display());
        }
    }
}

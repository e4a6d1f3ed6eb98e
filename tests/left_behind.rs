//! Nothing is left behind: not by a signal, not by a panic, and after `kill -9` a sweep finds everything.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its ground is not as it says")]

mod common;

use std::io::{BufRead, BufReader};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;

use common::{BINARY, CLUSTER, ROOT, containers, has_volume, run_id, said, shiftcheck, volumes};
use futures::FutureExt;
use rstest::rstest;
use shiftcheck::cluster::{Keep, default_cache};
use shiftcheck::mesh::IstioChoice;
use shiftcheck::scenario::Scenario;
use shiftcheck::traffic::DriverOptions;
use shiftcheck::walk::{Choice, Event, Events, Options, Purpose, run};

/// Starts a walk and reads its output up to a line that begins so; the run's id.
#[expect(clippy::zombie_processes, reason = "the test is over where the walk ends too early")]
fn walk_until(begins: &str) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child = shiftcheck(&["run"]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the walk ended before `{begins}`:\n{printed}");
        printed.push_str(&line);
        if line.trim_start().starts_with(begins) {
            return (child, lines, run_id(&printed));
        }
    }
}

fn signal(name: &str, child: &Child) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[rstest]
#[case::ctrl_c_at_the_start("-INT", "canary: 9 stages", 130)]
#[case::sigterm_with_a_cluster("-TERM", "API server ready", 143)]
fn a_signal_ends_with_everything_removed(#[case] name: &str, #[case] at: &str, #[case] code: i32) {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut child, mut lines, run) = walk_until(at);
    signal(name, &child);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut lines, &mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{rest}");
    assert!(rest.contains("all removed in"), "{rest}");
    assert!(rest.contains("called off"), "{rest}");
    assert_eq!(containers(&run), [""; 0]);
}

#[test]
fn kill_9_in_stage_4_leaves_what_a_sweep_removes() {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut child, _lines, run) = walk_until("ok 3/9");
    signal("-KILL", &child);
    child.wait().unwrap();
    let left = containers(&run);
    assert_eq!(left.len(), 1, "the killed run's cluster is still there");
    let volumes = volumes(&left);
    assert!(volumes.iter().all(|volume| has_volume(volume)) && !volumes.is_empty());

    let (printed, errors, code) = said(&shiftcheck(&["sweep"]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.contains(&format!("removed the cluster of run {run}")), "{printed}");
    assert_eq!(containers(&run), [""; 0]);
    assert!(!volumes.iter().any(|volume| has_volume(volume)), "a volume is left");
    let (printed, _, _) = said(&shiftcheck(&["sweep"]).output().unwrap());
    assert_eq!(printed, "nothing is left of a killed run\n");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::await_holding_lock, reason = "one test at a time has a cluster")]
async fn a_panic_is_passed_on_after_everything_is_removed() {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let (events, mut stream) = Events::channel();
    let mut run_id = None;
    // panics as soon as the API server is there
    let panic = async {
        while let Some(event) = stream.recv().await {
            match event {
                Event::Started { run, .. } => run_id = Some(run),
                Event::Ready { .. } => panic!("in the middle of run {}", run_id.unwrap()),
                _ => {}
            }
        }
    };
    let scenario = Scenario::read(Path::new(ROOT).join("fixtures/canary")).unwrap();
    let panic = AssertUnwindSafe(Box::pin(run(scenario, options(), events, panic))).catch_unwind().await.unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    let run = message.strip_prefix("in the middle of run ").unwrap();
    assert_eq!(containers(run), [""; 0]);
}

fn options() -> Options {
    Options {
        purpose: Purpose::Prove,
        choice: Choice::K3s { node: None, istio: IstioChoice::default(), snapshotter: "overlayfs".to_owned() },
        keep: Keep::Never,
        cache: std::env::var("SHIFTCHECK_CACHE").map_or_else(|_| default_cache(), Into::into),
        binary: BINARY.into(),
        driver: DriverOptions::default(),
        state: None,
    }
}

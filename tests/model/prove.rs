//! A run from a test of one's own removes everything, also where its future is dropped and where Ctrl-C is pressed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use regex::Regex;

use crate::common::server::ApiServer;
use crate::common::{Deadline, ROOT, said, signal};
use shiftcheck::prove::Prover;
use shiftcheck::venue::Existing;

/// Tells the test that is started as a process of its own which cluster to run on.
const KUBECONFIG: &str = "SHIFTCHECK_TEST_KUBECONFIG";

fn prover(kubeconfig: PathBuf) -> Prover {
    Prover::on(Existing { kubeconfig: Some(kubeconfig), ..Existing::default() })
}

#[tokio::test]
async fn a_run_that_passed_passes_the_assertion() {
    let report = Prover::embedded().until("1").prove(format!("{ROOT}/fixtures/canary")).await.unwrap();
    report.assert_passed();
}

#[tokio::test]
async fn a_run_that_failed_fails_the_assertion_with_claim_reason_cause_and_place() {
    let report = Prover::embedded().prove(format!("{ROOT}/fixtures/canary-pinned-selector")).await.unwrap();
    let panic = std::panic::catch_unwind(|| report.assert_passed()).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap().replace(ROOT, "ROOT");
    // the counts are drawn, and one request "was", two "were"
    let sampled = Regex::new(r"\b(1 of \d+ requests was|([2-9]|\d{2,}) of \d+ requests were)\b").unwrap();
    insta::assert_snapshot!(
        "the_assertion_of_a_run_that_failed",
        sampled.replace_all(&message, "N of M requests were")
    );
}

#[tokio::test]
async fn a_future_that_is_dropped_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = ApiServer::start();
    let prover = prover(cluster.kubeconfig(folder.path()));
    let scenario = format!("{ROOT}/fixtures/canary");
    // no rollout ever completes there
    let outcome = tokio::time::timeout(Duration::from_secs(5), prover.prove(scenario)).await;
    assert!(outcome.is_err(), "it came to an end: {outcome:?}");
    let requests = cluster.server().requests();
    assert!(requests.iter().any(|request| request.starts_with("PATCH ")), "it had not begun: {requests:#?}");
    assert_eq!(cluster.namespaces(), [""; 0]);
}

#[test]
fn a_runtime_that_ends_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = ApiServer::start();
    let prover = prover(cluster.kubeconfig(folder.path()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(async move { prover.prove(format!("{ROOT}/fixtures/canary")).await.map(drop) });
    cluster.server().wait_for("PATCH ");
    drop(runtime);
    assert_eq!(cluster.namespaces(), [""; 0]);
}

#[tokio::test]
async fn the_process_that_is_interrupted() {
    // does nothing but where the test below starts it
    let Some(kubeconfig) = std::env::var_os(KUBECONFIG) else { return };
    let _ = prover(kubeconfig.into()).prove(format!("{ROOT}/fixtures/canary")).await;
}

#[test]
fn ctrl_c_removes_everything_and_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = ApiServer::start();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "prove::the_process_that_is_interrupted"])
        .env(KUBECONFIG, cluster.kubeconfig(folder.path()));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(60));
    cluster.server().wait_for("PATCH ");
    assert_eq!(cluster.namespaces().len(), 1);
    signal("-INT", &child);
    let (printed, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(130), "{printed}{errors}");
    assert_eq!(cluster.namespaces(), [""; 0]);
}

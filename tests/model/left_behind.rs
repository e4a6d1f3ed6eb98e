//! What cannot be removed is told and remembered, and a run that has created nothing leaves nothing.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::common::server::{ApiServer, Engine, cache_with_images};
use crate::common::{Deadline, ROOT, run_id, said, shiftcheck, signal};

/// The records of runs in a cache.
fn records(cache: &Path) -> Vec<Value> {
    let entries = fs::read_dir(cache.join("runs")).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

#[test]
fn a_namespace_that_cannot_be_removed_is_told_and_removed_by_the_next_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let mut cluster = ApiServer::start();
    // the record has to hold the absolute path
    cluster.kubeconfig(folder.path());
    let mut command = shiftcheck(&["run", "--cluster", "kubeconfig", "--kubeconfig", "kubeconfig", "--no-report"]);
    command.arg(format!("{ROOT}/fixtures/canary")).arg("--cache").arg(&cache).current_dir(folder.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    cluster.server().wait_for("PATCH ");
    let namespaces = cluster.namespaces();
    assert_eq!(namespaces.len(), 1);
    cluster.stop();
    signal("-TERM", &child);
    let (printed, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(3), "{printed}{errors}");
    let run = run_id(&printed);
    assert!(!printed.contains("clean-up finished"), "{printed}");
    // the run may have ended by itself before the signal: that is told first then
    let told = format!("the namespace {} of run {run} could not be removed: ", namespaces[0]);
    assert!(errors.contains(&told) && errors.contains(&format!("shiftcheck sweep --run {run}")), "{errors}");
    let known = records(&cache);
    assert_eq!(known.len(), 1);
    let kept = &known[0]["namespace"]["cluster"];
    assert_eq!(kept["kubeconfig"][0], folder.path().join("kubeconfig").to_str().unwrap());
    assert!(kept["context"] == "here" && kept["server"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{kept}");

    // while the API server is gone nothing is forgotten
    let sweep = || said(&shiftcheck(&["sweep", "--cache"]).arg(&cache).env("DOCKER_HOST", "").output().unwrap());
    let (_, errors, code) = sweep();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains(&format!("the namespace {} of run {run} is not removed", namespaces[0])), "{errors}");
    assert_eq!(records(&cache).len(), 1);
    cluster.start_again();
    let (printed, errors, code) = sweep();
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains(&format!("removed the namespace {}", namespaces[0])), "{printed}");
    assert_eq!((cluster.namespaces().len(), records(&cache).len()), (0, 0));
}

#[test]
fn an_api_server_that_hangs_is_an_error_of_the_environment_within_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = ApiServer::silent();
    let kubeconfig = cluster.kubeconfig(folder.path());
    let mut command = shiftcheck(&["run", "fixtures/canary", "--cluster", "kubeconfig", "--no-report", "--kubeconfig"]);
    let start = std::time::Instant::now();
    let (_, errors, code) = said(&command.arg(kubeconfig).arg("--cache").arg(folder.path()).output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("the API server did not answer within 10 s"), "{errors}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn a_run_that_has_created_nothing_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (report, cache) = (folder.path().join("report"), folder.path().join("cache"));
    let mut command = shiftcheck(&["run", "fixtures/canary", "--cluster", "k3s", "--keep", "failed", "--report"]);
    let (_, errors, code) = said(&command.arg(report).arg("--cache").arg(&cache).output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("the image cache has no set"), "{errors}");
    assert!(!cache.join("runs").exists(), "files of the run are left");
}

#[test]
fn a_cluster_that_cannot_be_removed_is_told_and_its_record_stays() {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    let mut engine = Engine::start(folder.path());
    let mut command = shiftcheck(&["run", "fixtures/canary", "--cluster", "k3s", "--no-report", "--cache"]);
    command.arg(folder.path()).env("DOCKER_HOST", engine.address());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    engine.server().wait_for("GET /images/");
    engine.stop();
    signal("-INT", &child);
    let (printed, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(3), "{printed}{errors}");
    let run = run_id(&printed);
    assert!(!printed.contains("clean-up finished"), "{printed}");
    assert!(errors.contains(&format!("the cluster of run {run} could not be removed: ")), "{errors}");
    assert_eq!(records(folder.path())[0]["id"], run.as_str());
    // the record of a cluster on one engine is not taken for one on another
    let sweep = |host: &str| {
        said(&shiftcheck(&["sweep", "--cache"]).arg(folder.path()).env("DOCKER_HOST", host).output().unwrap())
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Engine::start(elsewhere.path());
    let (printed, _, code) = sweep(&other.address());
    assert_eq!(code, Some(0));
    assert!(
        printed.contains(&format!("left alone: the record of run {run}: its cluster is on the engine at")),
        "{printed}"
    );
    assert_eq!(records(folder.path()).len(), 1);
    engine.start_again();
    let (printed, errors, code) = sweep(&engine.address());
    assert_eq!((printed.as_str(), code), ("killed runs left nothing behind\n", Some(0)), "{errors}");
    assert_eq!(records(folder.path()).len(), 0);
}

//! Nothing is left behind: not by a signal, not by a panic, and after `kill -9` a sweep finds everything.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its ground is not as it says")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use common::server::{ApiServer, Engine};
use common::{
    BINARY, CLUSTER, Deadline, ROOT, containers, docker, has_volume, run_id, said, shiftcheck, signal, volumes,
};
use futures::FutureExt;
use rstest::rstest;
use serde_json::Value;
use shiftcheck::cluster::{Keep, Owner, RunId, default_cache};
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
    // a kubeconfig is the key to a privileged container
    let cache = std::env::var("SHIFTCHECK_CACHE").map_or_else(|_| default_cache(), Into::into);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let kubeconfig = cache.join("runs").join(&run).join("kubeconfig");
    assert_eq!(
        (mode(&kubeconfig), mode(kubeconfig.parent().unwrap()), mode(&cache.join("runs"))),
        (0o600, 0o700, 0o700)
    );
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
    assert!(!printed.contains("all removed"), "{printed}");
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
    let mut command = shiftcheck(&["run", "--cluster", "kubeconfig", "--no-report", "--kubeconfig"]);
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
    let mut command = shiftcheck(&["run", "--cluster", "k3s", "--keep", "failed", "--report"]);
    let (_, errors, code) = said(&command.arg(report).arg("--cache").arg(&cache).output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("the image cache has no set"), "{errors}");
    assert!(!cache.join("runs").exists(), "files of the run are left");
}

/// A cache with what a run reads before it needs the engine.
fn cache_with_images(cache: &Path) {
    let (node, istio) = (cache.join("images/node"), cache.join("images/istio-1.31"));
    for folder in [&node, &istio] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(node.join("set.json"), r#"{"image": "shiftcheck/k3s", "tag": "none"}"#).unwrap();
    let set = r#"{"version": "1.31", "hub": "h", "tag": "t", "istioctl": "istioctl", "archives": [], "set": []}"#;
    fs::write(istio.join("set.json"), set).unwrap();
    fs::write(istio.join("istioctl"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(istio.join("istioctl"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_cluster_that_cannot_be_removed_is_told_and_its_record_stays() {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path());
    let mut engine = Engine::start(folder.path());
    let mut command = shiftcheck(&["run", "--cluster", "k3s", "--no-report", "--cache"]);
    command.arg(folder.path()).env("DOCKER_HOST", engine.address());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    engine.server().wait_for("GET /images/");
    engine.stop();
    signal("-INT", &child);
    let (printed, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(3), "{printed}{errors}");
    let run = run_id(&printed);
    assert!(!printed.contains("all removed"), "{printed}");
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
    assert_eq!((printed.as_str(), code), ("nothing is left of a killed run\n", Some(0)), "{errors}");
    assert_eq!(records(folder.path()).len(), 0);
}

/// Containers that look like clusters of runs, removed at the end of the test.
struct Clusters(Vec<RunId>);

impl Clusters {
    fn create(&mut self, owner: &str, kept: bool) -> RunId {
        let run = RunId::fresh();
        let name = format!("shiftcheck-{run}");
        let labels = [format!("shiftcheck.dev/run={run}"), format!("shiftcheck.dev/owner={owner}")];
        docker(&["create", "--name", &name, "--label", &labels[0], "--label", &labels[1], EMPTY, "none"]);
        if kept {
            docker(&["rename", &name, &format!("shiftcheck-kept-{run}")]);
        }
        self.0.push(run.clone());
        run
    }
}

impl Drop for Clusters {
    fn drop(&mut self) {
        for run in &self.0 {
            for id in containers(run.as_str()) {
                let _ = Command::new("docker").args(["rm", "-f", &id]).output();
            }
        }
    }
}

/// An image without a file.
const EMPTY: &str = "shiftcheck-test-empty:1";

#[test]
fn only_clusters_whose_owner_is_proven_to_have_ended_are_removed() {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let import = Command::new("sh").args(["-c", &format!("tar -cf - -T /dev/null | docker import - {EMPTY}")]).output();
    assert!(import.as_ref().is_ok_and(|output| output.status.success()), "{import:?}");
    let cache = tempfile::tempdir().unwrap();
    let own = Owner::this_process(cache.path());
    let ended = Owner { started: own.started + 1, ..own.clone() };
    let mut clusters = Clusters(Vec::new());
    let running = clusters.create(&own.label(), false);
    let running_with_another_cache =
        clusters.create(&Owner { cache: "another".to_owned(), ..own.clone() }.label(), false);
    let killed = clusters.create(&ended.label(), false);
    let of_another_host = clusters.create(&Owner { hostname: "far".to_owned(), ..ended.clone() }.label(), false);
    let of_a_container = clusters.create(&Owner { pid_namespace: 7, ..ended.clone() }.label(), false);
    let of_an_earlier_version = clusters.create("4242.81723.b20f1eac-1737-4237-8d42-04b41124e4a4", false);
    let kept = clusters.create(&ended.label(), true);
    let kept_with_another_cache = clusters.create(&Owner { cache: "another".to_owned(), ..ended }.label(), true);
    let is_there = |run: &RunId| !containers(run.as_str()).is_empty();
    let sweep =
        |more: &[&str]| said(&shiftcheck(&["sweep"]).args(more).arg("--cache").arg(cache.path()).output().unwrap());

    let (printed, errors, code) = sweep(&[]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains(&format!("removed the cluster of run {killed}")) && !is_there(&killed), "{printed}");
    for (run, why) in [
        (&of_another_host, "it was started on another host, far"),
        (&of_a_container, "it was started in another container"),
        (&of_an_earlier_version, "an earlier version of shiftcheck started it"),
    ] {
        let line = format!("left alone: the cluster of run {run}: {why}");
        assert!(
            printed.contains(&line) && printed.contains(&format!("`shiftcheck sweep --run {run}` removes it")),
            "{printed}"
        );
        assert!(is_there(run));
    }
    for run in [&running, &running_with_another_cache, &kept, &kept_with_another_cache] {
        assert!(is_there(run) && !printed.contains(run.as_str()), "{printed}");
    }

    let (printed, _, code) = sweep(&["--kept"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(!is_there(&kept) && is_there(&kept_with_another_cache) && is_there(&of_another_host), "{printed}");
    assert!(printed.contains("it was kept by a run with another cache folder"), "{printed}");

    // who is named goes, but for a run that is at work
    for run in [&of_another_host, &of_an_earlier_version, &kept_with_another_cache] {
        let (printed, errors, code) = sweep(&["--run", run.as_str()]);
        assert_eq!(code, Some(0), "{printed}{errors}");
        assert!(!is_there(run));
    }
    let (_, errors, code) = sweep(&["--run", running.as_str()]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains(&format!("the cluster of run {running} is not removed: it is in use by process ")),
        "{errors}"
    );
    assert!(is_there(&running) && is_there(&of_a_container));
}

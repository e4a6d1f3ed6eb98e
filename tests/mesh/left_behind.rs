//! Nothing is left behind: not by a signal, not by a panic, and after `kill -9` a sweep finds everything.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures::FutureExt;
use shiftcheck::cluster::{Keep, Owner, RunId};
use shiftcheck::events::{Event, Events};
use shiftcheck::scenario::Scenario;
use shiftcheck::session::{Options, Pause, run};
use shiftcheck::traffic::DriverOptions;
use shiftcheck::venue::Throwaway;

use crate::cluster::{cache, containers, docker, has_volume, volumes};
use crate::common::{BINARY, ROOT, run_id, said, shiftcheck, signal};
use crate::harness::{block_on, tests};

tests![
    a_signal_ends_with_everything_removed[ctrl_c_at_the_start]("-INT", "canary: 9 stages", 130),
    a_signal_ends_with_everything_removed[sigterm_with_a_cluster]("-TERM", "API server ready", 143),
    kill_9_in_stage_4_leaves_what_a_sweep_removes(),
    a_panic_is_passed_on_after_everything_is_removed(),
    only_clusters_whose_owner_is_proven_to_have_ended_are_removed(),
];

/// Starts a walk and reads its output up to a line that begins so; the run's id.
#[expect(clippy::zombie_processes, reason = "the test is over where the walk ends too early")]
fn walk_until(begins: &str) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child =
        shiftcheck(&["run", "fixtures/canary"]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
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

fn a_signal_ends_with_everything_removed(name: &str, at: &str, code: i32) {
    let (mut child, mut lines, run) = walk_until(at);
    signal(name, &child);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut lines, &mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{rest}");
    assert!(rest.contains("clean-up finished in"), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    assert_eq!(containers(&run), [""; 0]);
}

fn kill_9_in_stage_4_leaves_what_a_sweep_removes() {
    let (mut child, _lines, run) = walk_until("ok 3/9");
    signal("-KILL", &child);
    child.wait().unwrap();
    let left = containers(&run);
    assert_eq!(left.len(), 1, "the killed run's cluster is still there");
    // a kubeconfig is the key to a privileged container
    let cache = cache();
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
    // other tests keep clusters
    let others: Vec<&str> = printed.lines().filter(|line| !line.starts_with("kept on purpose: ")).collect();
    assert_eq!(others, ["killed runs left nothing behind"]);
}

fn a_panic_is_passed_on_after_everything_is_removed() {
    let (events, mut stream) = Events::channel();
    let mut run_id = None;
    // panics as soon as the API server is there
    let panic = async {
        while let Some(timed) = stream.recv().await {
            match timed.event {
                Event::Started { run, .. } => run_id = Some(run),
                Event::Ready(_) => panic!("in the middle of run {}", run_id.unwrap()),
                _ => {}
            }
        }
    };
    let scenario = Scenario::read(Path::new(ROOT).join("fixtures/canary")).unwrap();
    let panic =
        block_on(AssertUnwindSafe(Box::pin(run(scenario, options(), events, panic))).catch_unwind()).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    let run = message.strip_prefix("in the middle of run ").unwrap();
    assert_eq!(containers(run), [""; 0]);
}

fn options() -> Options {
    Options {
        venue: Arc::new(Throwaway::new(BINARY.into())),
        keep: Keep::Never,
        cache: cache(),
        driver: DriverOptions::default(),
        state: None,
        pause: Pause::default(),
    }
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

fn only_clusters_whose_owner_is_proven_to_have_ended_are_removed() {
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
    for run in [&running, &running_with_another_cache] {
        assert!(is_there(run) && !printed.contains(run.as_str()), "{printed}");
    }
    for run in [&kept, &kept_with_another_cache] {
        let line = format!("kept on purpose: the cluster of run {run}; `shiftcheck sweep --run {run}` removes it");
        assert!(is_there(run) && printed.contains(&line), "{printed}");
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

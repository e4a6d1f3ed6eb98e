//! Scenarios share a throwaway cluster, each in a namespace of its own; all claims of the examples hold on it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{containers, docker};
use crate::common::{Deadline, run_id, said, shiftcheck, signal};
use crate::harness::tests;

tests![
    scenarios_share_a_cluster_and_a_failure_leaves_the_others_alone(),
    a_sweep_removes_the_shared_cluster_of_a_killed_run()
];

/// Features of Istio that the canary scenario does not use, and a scenario that fails.
const SCENARIOS: [&str; 4] = ["gateway-api", "blue-green", "canary-pinned-selector", "mirror"];

fn scenarios_share_a_cluster_and_a_failure_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = SCENARIOS.map(|name| format!("fixtures/{name}"));
    let mut arguments = vec!["run", "--no-fail-fast", "--jobs", "2", "--report", folder.path().to_str().unwrap()];
    arguments.extend(scenarios.iter().map(String::as_str));
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert_eq!(printed.matches("cluster with Istio").count(), 1, "{printed}");
    let summary = "\n3 of 4 scenarios passed\n  ok           fixtures/gateway-api\n  ok           fixtures/blue-green\n  \
                   FAIL         fixtures/canary-pinned-selector\n  ok           fixtures/mirror\n";
    assert!(printed.ends_with(summary), "{printed}");
    // what is printed of one is not mixed with what is printed of another
    let of_runs: Vec<&str> =
        printed.lines().filter(|line| line.contains(" of a shared throwaway cluster, run ")).collect();
    assert_eq!(of_runs.len(), 4, "{printed}");
    for (line, name) in SCENARIOS.map(|name| (of_runs.iter().find(|line| line.starts_with(&format!("{name}:"))), name))
    {
        let line = line.unwrap_or_else(|| panic!("{name}: {printed}"));
        let run = run_id(line);
        assert!(line.contains(&format!("-{run} of a shared throwaway cluster")), "{line}");
        let report = std::fs::read_to_string(folder.path().join(name).join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["result"], if name == "canary-pinned-selector" { "failed" } else { "passed" });
    }
    assert_eq!(own_clusters(), [""; 0], "something is left behind");
}

fn a_sweep_removes_the_shared_cluster_of_a_killed_run() {
    let mut command = shiftcheck(&["run", "fixtures/mirror", "fixtures/blue-green", "--no-report"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(180));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // the namespace of the first scenario is there, too
    assert!(lines.any(|line| line.starts_with("ok 1/")), "no stage has passed");
    let runs = own_clusters();
    assert_eq!(runs.len(), 1, "{runs:?}");
    signal("-KILL", &child);
    child.wait().unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["sweep"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains(&format!("removed the cluster of run {}", runs[0])), "{printed}");
    assert_eq!(containers(&runs[0]), [""; 0]);
    let (printed, errors, code) = said(&shiftcheck(&["sweep"]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    // other runs keep something on purpose
    let others: Vec<&str> = printed.lines().filter(|line| !line.starts_with("kept on purpose: ")).collect();
    assert_eq!(others, ["killed runs left nothing behind"]);
}

/// The runs of clusters that are there, except the one that tests share.
fn own_clusters() -> Vec<String> {
    let others = crate::cluster::raised();
    let mut runs =
        docker(&["ps", "-a", "--filter", "label=shiftcheck.dev/run", "--format", "{{.Label \"shiftcheck.dev/run\"}}"]);
    runs.retain(|run| Some(run.as_str()) != others.as_deref());
    runs
}

//! Scenarios share a throwaway cluster, each in a namespace of its own; all claims of the examples hold on it.

use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{containers, docker};
use crate::common::report::{paths_of_comparisons, read};
use crate::common::{Deadline, run_id, said, shiftcheck, signal};
use crate::harness::tests;

tests![
    scenarios_share_a_cluster_and_a_failure_leaves_the_others_alone(),
    a_sweep_removes_the_shared_cluster_of_a_killed_run()
];

/// Features of Istio that the canary scenario does not use, and scenarios that fail: with what each proves, or fails with.
const SCENARIOS: [(&str, bool, &str); 18] = [
    ("gateway-api", true, "all stages passed"),
    ("blue-green", true, "all stages passed"),
    ("canary-pinned-selector", false, "FAIL 1/1 testers' canary, selector pinned"),
    ("failing-canary", false, "✗ everyone at /work: v2 against v1: errors below 2x — "),
    ("slow-canary", false, "✗ everyone at /work: v2 against v1: answers slower than 95 % of v1's below 2x — "),
    ("fault-injection", true, "writers: status 200 80 %, status 500 20 % — "),
    ("h2c", true, "all stages passed"),
    ("grpc", true, "chaos at /helloworld.Greeter/SayHello: status OK 90 %, status UNAVAILABLE 10 % — "),
    ("grpc-message", true, "testers at /helloworld.Greeter/SayHello: v1 50 %, v2 50 % — "),
    ("grpc-reflection", true, "all stages passed"),
    ("tcp", true, "each request is a connection of TCP, and its answer the first line that the server sends"),
    ("websocket", true, "each request is a WebSocket connection, and its answer that to the handshake"),
    ("mirror", true, "all stages passed"),
    // a component is installed on the cluster that all of them share
    ("autoscale", true, "Deployment/hello-server-v2: 3 pods, 1 before"),
    ("sticky", true, "all 1000 sessions stayed at their pod in 2000 requests"),
    ("sticky-query", true, "all 1000 sessions stayed at their pod in 2000 requests"),
    ("sticky-cookie", true, "all 1000 sessions stayed at their pod in 2000 requests"),
    (
        "sticky-split",
        false,
        "consistentHash (fixtures/sticky-split/dr-hello.yaml:9:7) only chooses among the pods of one destination",
    ),
];

/// Stages that claim something about time.
const TIMED: [(&str, u64); 4] = [("gateway-api", 2), ("blue-green", 3), ("fault-injection", 3), ("autoscale", 2)];

fn scenarios_share_a_cluster_and_a_failure_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = SCENARIOS.map(|(name, ..)| format!("fixtures/{name}"));
    let mut arguments = vec!["run", "--no-fail-fast", "--jobs", "2", "--report", folder.path().to_str().unwrap()];
    arguments.extend(scenarios.iter().map(String::as_str));
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert_eq!(printed.matches("cluster with Istio").count(), 1, "{printed}");
    let line = |(name, holds, _)| format!("\n  {:<11}  fixtures/{name}", if holds { "ok" } else { "FAIL" });
    let summary = format!("\n14 of 18 scenarios passed{}\n", SCENARIOS.map(line).concat());
    assert!(printed.ends_with(&summary), "{printed}");
    // what is printed of one is not mixed with what is printed of another
    let begins = |line: &&str| line.contains(" of a shared throwaway cluster, run ");
    let (begun, lines): (usize, Vec<&str>) = (printed.lines().filter(begins).count(), printed.lines().collect());
    assert_eq!(begun, SCENARIOS.len(), "{printed}");
    let mut stages = Vec::new();
    for (name, holds, proves) in SCENARIOS {
        let first = lines.iter().position(|line| begins(line) && line.starts_with(&format!("{name}: ")));
        let own = &lines[first.unwrap_or_else(|| panic!("{name}: {printed}"))..];
        let end = own.iter().skip(1).position(begins).map_or(own.len(), |end| end + 1);
        let own = own[..end].join("\n");
        assert!(own.contains(proves), "{name}: {own}");
        assert!(own.contains(&format!("-{} of a shared throwaway cluster", run_id(&own))), "{own}");
        let report = std::fs::read_to_string(folder.path().join(name).join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["result"], if holds { "passed" } else { "failed" }, "{name}");
        if proves.contains("v2 against v1") {
            let page = read(&folder.path().join(name), "report.html");
            let [[rejects, end]] = paths_of_comparisons(&page)[..] else { panic!("{name}: no plot of the path") };
            assert!(end <= rejects && page.contains(r#"class="curve canary""#), "{name}: {end} {rejects}");
        }
        stages.extend(times(name, &report));
    }
    assert_eq!(own_clusters(), [""; 0], "something is left behind");
    // stages with claims about time had the cluster to themselves; the start of a run is written in whole seconds
    for (name, stage) in TIMED {
        let (_, own) = stages.iter().find(|(of, _)| *of == (name, stage)).unwrap();
        let overlap = |times: &Range<f64>| times.end.min(own.end) - times.start.max(own.start);
        let beside = stages.iter().find(|((other, _), times)| *other != name && overlap(times) > 1.5);
        assert_eq!(beside, None, "beside stage {stage} of {name} at {own:?}");
    }
}

/// The stages of a scenario's report, by their numbers, with the times in which they ran, in seconds since 1970.
fn times<'a>(name: &'a str, report: &Value) -> Vec<((&'a str, u64), Range<f64>)> {
    let started: Timestamp = report["started"].as_str().unwrap().parse().unwrap();
    let times = report["stages"].as_array().unwrap().iter().map(|stage| {
        let began = started.as_duration().as_secs_f64() + stage["began"].as_f64().unwrap();
        ((name, stage["number"].as_u64().unwrap()), began..began + stage["took"].as_f64().unwrap())
    });
    times.collect()
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

//! Throwaway clusters of several nodes: pods are on all of them, and nothing of them is left behind.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::cluster::{Kept, containers, docker};
use crate::common::report::json_of;
use crate::common::{Deadline, run_id, said, shiftcheck, signal, spoilt};
use crate::harness::tests;

tests![
    all_nodes_and_their_network_are_removed[after_kill_9](killed_and_swept),
    all_nodes_and_their_network_are_removed[after_ctrl_c](interrupted),
    all_nodes_and_their_network_are_removed[after_the_loss_of_a_node](without_a_node),
    clients_and_servers_are_on_all_nodes(): Paired,
    callers_get_what_their_zone_has(): Paired,
];

/// The networks with the label of a run.
fn networks(run: &str) -> Vec<String> {
    docker(&["network", "ls", "-q", "--filter", &format!("label=shiftcheck.dev/run={run}")])
}

/// The names of the containers of a run.
fn names(run: &str) -> Vec<String> {
    let filter = format!("label=shiftcheck.dev/run={run}");
    let mut names = docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &filter]);
    names.sort();
    names
}

fn sweep(arguments: &[&str]) -> String {
    let (printed, errors, code) = said(&shiftcheck(&[&["sweep"], arguments].concat()).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    printed
}

/// The canary up to its split, with four clients, on a cluster that is kept. There are two servers of each version.
fn clients_and_servers_are_on_all_nodes() {
    let (scenario, report) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    spoilt(scenario.path(), &[]);
    let path = scenario.path().to_str().unwrap();
    let options = ["--nodes", "2", "--clients", "4", "--until", "testers' canary", "--keep", "always", "--report"];
    let arguments = [&["run", path], &options[..], &[report.path().to_str().unwrap()]].concat();
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    let run = run_id(&printed);
    // removed where the test fails, too
    let _removed = Kept { run: run.clone(), kubeconfig: "unused".into() };
    let kept = || names(&run);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(
        printed.contains("cluster of 2 nodes with Istio ") && printed.contains("ok 4/4 testers' canary"),
        "{printed}"
    );
    assert_eq!(json_of(report.path(), "report.json")["environment"]["nodes"], 2);
    assert_eq!(kept(), [format!("shiftcheck-kept-{run}"), format!("shiftcheck-kept-{run}-node-2")]);

    let kubectl = |arguments: &[&str]| {
        let server = format!("shiftcheck-kept-{run}");
        docker(&[&["exec", &server, "kubectl", "--kubeconfig", "/etc/rancher/k3s/k3s.yaml"], arguments].concat())
    };
    let zone = "-o=custom-columns=:.metadata.name,:.metadata.labels.topology\\.kubernetes\\.io/zone";
    let nodes: Vec<String> = kubectl(&["get", "nodes", "--no-headers", zone])
        .iter()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(nodes, ["node-1 zone-1", "node-2 zone-2"]);
    let mut on_nodes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in kubectl(&[
        "-n",
        "canary",
        "get",
        "pods",
        "--no-headers",
        "-o=custom-columns=:.metadata.labels.app,:.spec.nodeName",
    ]) {
        let mut words = line.split_whitespace().map(ToOwned::to_owned);
        *on_nodes.entry((words.next().unwrap(), words.next().unwrap())).or_default() += 1;
    }
    let count = |app: &str| {
        ["node-1", "node-2"].map(|node| on_nodes.get(&(app.to_owned(), node.to_owned())).copied().unwrap_or(0))
    };
    assert_eq!(count("httpbin"), [2, 2], "{on_nodes:?}");
    let [first, second] = count("hello");
    assert!(first + second == 4 && first > 0 && second > 0, "{on_nodes:?}");

    // what is kept stays until it is asked for
    sweep(&[]);
    assert_eq!((kept().len(), networks(&run).len()), (2, 1));
    sweep(&["--run", &run]);
    assert_eq!((kept(), networks(&run)), (Vec::new(), Vec::new()));
}

/// The scenario asks for two nodes, and its clients are in both zones.
fn callers_get_what_their_zone_has() {
    let report = tempfile::tempdir().unwrap();
    let run = ["run", "fixtures/locality", "--cluster", "k3s", "--report", report.path().to_str().unwrap()];
    let (printed, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("cluster of 2 nodes with Istio "), "{printed}");
    assert!(printed.contains("all stages passed"), "{printed}");
    // the sidecars of both clients are compared with the model, which knows the zones
    assert!(!printed.contains("where they were not compared"), "{printed}");
    assert_eq!(json_of(report.path(), "report.json")["environment"]["nodes"], 2);
}

/// A run that has started both nodes, and what it prints from then on.
struct Started {
    child: Child,
    run: String,
    printed: BufReader<std::process::ChildStdout>,
}

impl Started {
    /// The rest of the output, the errors and the exit code.
    fn end(&mut self) -> (String, String, Option<i32>) {
        let (mut printed, mut errors) = (String::new(), String::new());
        self.printed.read_to_string(&mut printed).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (printed, errors, self.child.wait().unwrap().code())
    }
}

fn all_nodes_and_their_network_are_removed(end: fn(&mut Started)) {
    let mut command = shiftcheck(&["run", "fixtures/canary", "--nodes", "2", "--no-report"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(200));
    let mut printed = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("API server ready") {
        assert!(printed.read_line(&mut text).unwrap() > 0, "the run ended early:\n{text}");
    }
    let run = run_id(&text);
    assert_eq!(names(&run), [format!("shiftcheck-{run}"), format!("shiftcheck-{run}-node-2")]);
    assert_eq!(networks(&run).len(), 1);
    end(&mut Started { child, run: run.clone(), printed });
    assert_eq!((containers(&run), networks(&run)), (Vec::new(), Vec::new()), "something is left behind");
}

fn killed_and_swept(started: &mut Started) {
    signal("-KILL", &started.child);
    started.child.wait().unwrap();
    assert_eq!((names(&started.run).len(), networks(&started.run).len()), (2, 1));
    let swept = sweep(&[]);
    assert_eq!(swept.matches(&format!("removed the cluster of run {}", started.run)).count(), 1, "{swept}");
}

fn interrupted(started: &mut Started) {
    signal("-INT", &started.child);
    let (printed, errors, code) = started.end();
    assert_eq!(code, Some(130), "{printed}{errors}");
}

fn without_a_node(started: &mut Started) {
    docker(&["kill", &format!("shiftcheck-{}-node-2", started.run)]);
    let (printed, errors, code) = started.end();
    assert_eq!(code, Some(3), "{printed}{errors}");
    assert!(errors.contains(&format!("the node of run {} was killed", started.run)), "{errors}");
}

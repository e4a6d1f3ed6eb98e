//! The live page of runs on a real mesh shows what their reports say.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::containers;
use crate::common::page::{address, answered, apply, followed, opened, shows, status};
use crate::common::report::json_of;
use crate::common::{Deadline, shiftcheck, spoilt};
use crate::harness::tests;

tests![a_run_is_followed(): Paired, an_upgrade_is_followed_through_a_pause_in_its_middle(): Paired];

/// A program with a live page, and its reader.
struct Watched {
    child: Child,
    printed: Lines<BufReader<ChildStdout>>,
    port: u16,
    cookie: String,
    /// What the page shows.
    state: Value,
    _deadline: Deadline,
}

impl Watched {
    fn start(arguments: &[&str]) -> Self {
        let mut child = shiftcheck(arguments).stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let deadline = Deadline::of(&child, Duration::from_secs(400));
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = printed.next().unwrap().unwrap();
        let (port, token) = address(first.strip_prefix("live page: ").unwrap());
        let (cookie, _) = opened(port, &token);
        Self { child, printed, port, cookie, state: Value::Null, _deadline: deadline }
    }

    /// Follows the page until a change that is looked for.
    fn until(&mut self, enough: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let changes = followed(self.port, &self.cookie, enough);
        for change in &changes {
            apply(&mut self.state, change);
        }
        changes
    }

    fn resume(&self, step: bool) {
        let host = format!("127.0.0.1:{}", self.port);
        let headers = [("Host", host.as_str()), ("Cookie", &self.cookie), ("Content-Length", "0")];
        assert_eq!(status(&answered(self.port, &format!("POST /continue?step={step}"), &headers)), "204");
    }

    /// The exit code, and the last lines that were printed.
    fn end(&mut self) -> (Option<i32>, String) {
        let rest: Vec<String> = self.printed.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), rest.join("\n"))
    }
}

/// The shares of the claims about populations on the way to their verdicts, which narrow, and the requests of the last second.
fn a_run_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut run = Watched::start(&["run", "fixtures/ab-test", "--cluster", "k3s", "--live", "--report", path]);
    let changes = run.until(|change| change["done"] == true);
    let (code, printed) = run.end();
    assert_eq!(code, Some(0), "{printed}");
    let report = json_of(folder.path(), "report.json");
    shows(&report, &run.state);
    let environment = &run.state["head"]["environment"];
    assert!(environment["istio"].is_string() && *environment == report["environment"], "{environment}");
    // what it waited for, and traffic while it was sampled
    let waited = changes.iter().filter_map(|change| change["now"].as_str()).filter(|now| now.starts_with("waiting: "));
    assert!(waited.count() > 3);
    let live = changes.iter().filter(|change| change["graph"]["within"] == "last second");
    assert!(live.clone().count() > 3, "{} graphs", live.count());
    let run = report["run"].as_str().unwrap();
    assert_eq!(containers(run), [""; 0], "something is left behind");
}

fn an_upgrade_is_followed_through_a_pause_in_its_middle() {
    let (folder, scenario) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().to_str().unwrap();
    spoilt(scenario.path(), &[]);
    let file = scenario.path().join("scenario.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (until_the_split, _) = text.split_once("  - name: fault").unwrap();
    std::fs::write(&file, until_the_split).unwrap();
    let arguments = ["upgrade", scenario.path().to_str().unwrap(), "--from", "1.22", "--to", "1.31", "--allow-skew"];
    let more = ["--mode", "in-place", "--live", "--pause", "testers' canary", "--report", path];
    let mut run = Watched::start(&[&arguments[..], &more].concat());
    run.until(|change| change["paused"] == 1);
    let istio = run.state["head"]["environment"]["istio"].as_str().unwrap();
    assert!(istio.starts_with("1.22"), "{istio}");
    // the control plane is replaced, and the page shows it before the sidecars are restarted
    run.resume(true);
    run.until(|change| change["paused"] == 2);
    let name = run.state["stages"][1]["name"].as_str().unwrap();
    assert!(name.ends_with(", control plane changed"), "{name}");
    run.resume(false);
    // a page that comes between the end of the run and that of the upgrade sees both
    run.until(|change| change["head"]["note"].as_str().is_some_and(|note| note.contains(" for this rollout: ")));
    let (code, printed) = run.end();
    assert_eq!(code, Some(0), "{printed}");
    let upgrade = json_of(folder.path(), "upgrade.json");
    assert_eq!(run.state["head"]["note"], upgrade["sentence"]);
    let mut report = json_of(folder.path(), "in-place/report.json");
    assert_eq!(report["stages"].as_array().unwrap().len(), 3);
    report["note"] = upgrade["sentence"].clone();
    shows(&report, &run.state);
    let run = report["run"].as_str().unwrap();
    assert_eq!(containers(run), [""; 0], "something is left behind");
}

//! What an upgrade of Istio changes in behaviour is told, what is known of it and what is new; and a regression is found and named.

use std::path::Path;

use serde_json::Value;

use crate::cluster::containers;
use crate::common::schema::Schema;
use crate::common::{ROOT, run_id, said, shiftcheck, spoilt};
use crate::harness::tests;

tests![
    a_regression_on_the_new_version_alone_is_found_and_named(): Paired,
    a_setting_that_the_new_version_alone_was_given_is_found_to_be_the_cause(): Paired,
    by_revision_the_regression_comes_with_the_restart_of_the_sidecars(): Paired,
    a_roll_back_ends_the_regression_with_the_restart_of_the_sidecars(): Paired,
    two_versions_of_argo_rollouts_move_the_traffic_alike(),
    two_versions_differ_in_exactly_the_known_changes_and_the_way_between_them_is_safe(),
];

fn upgrade(arguments: &[&str]) -> (String, String, Option<i32>) {
    said(&shiftcheck(&[&["upgrade"], arguments].concat()).output().unwrap())
}

/// What `upgrade.json` holds; checked against the schema that comes along.
fn report(folder: &Path) -> Value {
    let read = |path: &Path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let report: Value = read(&folder.join("upgrade.json"));
    let schema: Value = read(&Path::new(ROOT).join("schemas/upgrade.json"));
    assert_eq!(Schema::of(schema).check(&report), Ok(()));
    report
}

/// What changed in behaviour: of which known change, by what, from what to what. Once, at however many stages it was seen.
fn changes(report: &Value) -> Vec<String> {
    let all = report["differences"].as_array().unwrap().iter().filter(|own| own["behaviour"] == true);
    let mut told: Vec<String> = all
        .map(|own| {
            let known = own["known"]["id"].as_str().unwrap_or("new");
            let text = |key: &str| own[key].as_str().unwrap_or_default().to_owned();
            format!("{known}: {}: {} → {}", text("what"), text("before"), text("after"))
        })
        .collect();
    told.sort();
    told.dedup();
    told
}

fn two_versions_differ_in_exactly_the_known_changes_and_the_way_between_them_is_safe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let modes = ["--mode", "fresh", "--mode", "in-place", "--allow-skew"];
    let (printed, errors, code) =
        upgrade(&[&["fixtures/canary", "--from", "1.22", "--to", "1.31", "--report", path], modes.as_slice()].concat());
    assert_eq!(code, Some(0), "{printed}\n{errors}");
    let end =
        "safe for this rollout: 26 of 26 claims hold in 2 modes; 2 known changes: native sidecars, retries on 503";
    assert!(printed.contains(end), "{printed}");
    assert!(printed.contains("in place, control plane changed: 0 of "), "{printed}");

    let report = report(folder.path());
    assert_eq!(
        changes(&report),
        [
            "native sidecars: sidecar injection: a container → a native sidecar",
            "retries on 503: requests to servers for each client request: 3.0 → 1.0",
            "retries on 503: response flags: URX → none",
        ]
    );
    let walks = report["walks"].as_array().unwrap();
    let names: Vec<&str> = walks.iter().map(|walk| walk["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fresh 1.22", "fresh 1.31", "in place"]);
    assert!(walks.iter().all(|walk| walk["holds"] == true));
    // the change of the control plane was made under load
    let rows = report["rows"].as_array().unwrap();
    let changed = rows.iter().position(|row| row["name"] == "control plane changed").unwrap();
    let change = &walks[2]["cells"][changed]["change"];
    assert!(change["rate"].as_f64().unwrap() >= 400.0 && change["requests"].as_f64().unwrap() > 2000.0, "{change}");
    assert_eq!(change["errors"], serde_json::json!({}));
    // sidecars behind their control plane, and those of its version, are judged as the stage itself is
    assert_eq!(walks[2]["cells"][changed]["held"], 3);
    assert_eq!(walks[2]["cells"][changed + 1]["held"], 3);
    for name in names {
        let own = std::fs::read_to_string(folder.path().join(name.replace(' ', "-")).join("report.json")).unwrap();
        let own: Value = serde_json::from_str(&own).unwrap();
        assert_eq!(own["result"], "passed", "{name}");
    }
    let page = std::fs::read_to_string(folder.path().join("upgrade.html")).unwrap();
    assert!(page.contains(end) && !page.contains("<script"), "{page}");
    for line in printed.lines().filter(|line| line.contains(", run ")) {
        assert_eq!(containers(&run_id(line)), [""; 0], "something is left behind");
    }
}

fn a_regression_on_the_new_version_alone_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let scenario = "fixtures/canary-shadowed-on-1.31";
    let (printed, errors, code) =
        upgrade(&[scenario, "--from", "1.22", "--to", "1.31", "--mode", "fresh", "--report", path]);
    assert_eq!(code, Some(1), "{printed}\n{errors}");
    for line in [
        "✗ fresh 1.31, testers' canary: testers: v1 50 %, v2 50 % — v1 served 100.0 % of ",
        "cause of the failure at `testers' canary`: no flag; the client's sidecar has route 1: any request to subset v1 of \
         svc-hello.canary.svc.cluster.local:8080, no retries, but the manifests give route 1: end-user is `testers` to subset v1",
        "EnvoyFilter/first-route (fixtures/canary-shadowed-on-1.31/envoy-filter.yaml:8:7) acts on sidecars of version ^1\\.31.*",
        "skipped in-place: Istio does not support control plane 1.31 with sidecars 1.22 (9 minor versions older)",
        "not safe for this rollout: 1 of 2 claims hold in 1 mode; ",
    ] {
        assert!(printed.contains(line), "`{line}` is missing in:\n{printed}");
    }
    assert_eq!(report(folder.path())["result"], "failed");
}

/// Changes the mesh in a mode with a scenario that only sidecars of 1.31 break. `expected` are the rows of the table of results, with whether
/// all claims hold.
fn with_a_regression(mode: &str, expected: &[(&str, bool)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let scenario = "fixtures/canary-shadowed-on-1.31";
    let modes = ["--mode", mode, "--allow-skew"];
    let (printed, errors, code) =
        upgrade(&[&[scenario, "--from", "1.22", "--to", "1.31", "--report", path], modes.as_slice()].concat());
    assert_eq!(code, Some(1), "{printed}\n{errors}");
    assert_eq!(containers(&run_id(&printed)), [""; 0], "something is left behind");
    let report = report(folder.path());
    let rows = report["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap());
    let cells = report["walks"][0]["cells"].as_array().unwrap().iter();
    let found: Vec<(&str, bool)> = rows.zip(cells.map(|cell| cell["failed"] == serde_json::json!([]))).collect();
    assert_eq!(found, expected, "{printed}");
}

fn by_revision_the_regression_comes_with_the_restart_of_the_sidecars() {
    let expected = [
        ("testers' canary", true),
        ("control plane changed", true),
        ("sidecars restarted", false),
        ("previous control plane removed", false),
    ];
    with_a_regression("revision", &expected);
}

fn a_roll_back_ends_the_regression_with_the_restart_of_the_sidecars() {
    let expected = [("testers' canary", false), ("control plane changed", false), ("sidecars restarted", true)];
    with_a_regression("roll-back", &expected);
}

/// Without the rule of the testers, everybody is balanced over both versions: the halves of the testers hold all the same.
fn a_setting_that_the_new_version_alone_was_given_is_found_to_be_the_cause() {
    const SETTING: &str = "meshConfig.defaultVirtualServiceExportTo[0]=~";
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(Path::new(ROOT).join("fixtures/canary-shadowed-on-1.31/scenario.yaml"));
    let text = text.unwrap().replace("../canary/", "").replace("      - envoy-filter.yaml\n", "");
    spoilt(folder.path(), &[]);
    std::fs::write(folder.path().join("scenario.yaml"), text).unwrap();
    let scenario = folder.path().to_str().unwrap();
    let (printed, errors, code) =
        upgrade(&[scenario, "--from", "1.22", "--to", "1.31", "--mode", "fresh", "--no-report", "--to-set", SETTING]);
    assert_eq!(code, Some(1), "{printed}\n{errors}");
    let cause = format!(
        "cause of the failure at `testers' canary`: the setting {SETTING}, which only 1.31 has; without the setting the claims hold on 1.31"
    );
    assert!(printed.contains(&cause), "{printed}");
    assert!(printed.contains("not safe for this rollout: 1 of 2 claims hold in 1 mode; "), "{printed}");
}

fn two_versions_of_argo_rollouts_move_the_traffic_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let controller = ["--controller", "argo-rollouts", "--from", "1.8", "--to", "1.10"];
    let (printed, errors, code) =
        upgrade(&[&["fixtures/rollouts-subset", "--report", path], controller.as_slice()].concat());
    assert_eq!(code, Some(0), "{printed}\n{errors}");
    let end = "safe for this rollout: 15 of 15 claims hold in 1 mode; no difference in behaviour (";
    for part in [", 15 claims on Argo Rollouts 1.8, run ", ", 15 claims on Argo Rollouts 1.10, run ", end] {
        assert!(printed.contains(part), "`{part}` is missing in:\n{printed}");
    }
    let report = report(folder.path());
    assert_eq!((&report["software"], changes(&report)), (&"Argo Rollouts".into(), Vec::new()));
    // there was something to compare: what each version wrote, and the state that it reported
    for name in ["fresh-1.8", "fresh-1.10"] {
        let own: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(name).join("report.json")).unwrap()).unwrap();
        let step = &own["stages"][1];
        assert_eq!(step["controller"], "Rollout/hello: Paused at step 1 of 4, weight 20 %: CanaryPauseStep", "{name}");
        let writes = step["transition"]["writes"].as_array().unwrap();
        for object in ["DestinationRule/hello", "VirtualService/hello"] {
            assert!(writes.iter().any(|write| write["object"] == object), "{name}: {writes:?}");
        }
    }
    for line in printed.lines().filter(|line| line.contains(", run ")) {
        assert_eq!(containers(&run_id(line)), [""; 0], "something is left behind");
    }
}

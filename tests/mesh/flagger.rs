//! Flagger moves the traffic between two versions, and each step is checked; what its promotion breaks is found, and what ends a wait is told.

use std::path::{Path, PathBuf};

use crate::cluster::Kept;
use crate::common::ROOT;
use crate::harness::tests;

tests![flagger_moves_the_traffic_and_what_breaks_is_told()];

fn fixture(name: &str) -> PathBuf {
    Path::new(ROOT).join("fixtures").join(name)
}

fn says(printed: &str, lines: &[&str]) {
    let flat = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in lines {
        assert!(flat.contains(line), "`{line}` is missing in:\n{printed}");
    }
}

/// One cluster for all, since most of the time passes between two steps of Flagger, which are ten seconds apart.
fn flagger_moves_the_traffic_and_what_breaks_is_told() {
    let (kept, printed) = Kept::ending_with(1, &fixture("flagger-canary").to_string_lossy());
    says(
        &printed,
        &[
            "Canary/hello: Progressing, weight 25 %: New revision detected, progressing canary analysis.",
            "weights in the route: canary 25 %, stable 75 % — the route has canary 25 %, stable 75 %",
            "weight reported by the controller: 25 % — it reports 25 %",
            "ok 3/4 50 %",
            "FAIL 4/4 promotion",
            "✗ during the change: at most 0 errors, no v1 after 2s — ",
            "because pods without a preStop hook ended during the change: hello-",
        ],
    );
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| kept.run(&fixture("flagger-canary-drained")));
        let rolled_back = scope.spawn(|| kept.run(&fixture("flagger-rollback")));
        let never = scope.spawn(|| never_reached(&kept));
        let (printed, errors, code) = drained.join().unwrap();
        assert_eq!(code, Some(0), "{printed}\n{errors}");
        says(&printed, &["Flagger v1.36.1, found in flagger-system", "ok 3/3 promotion"]);
        let (printed, errors, code) = rolled_back.join().unwrap();
        assert_eq!(code, Some(0), "{printed}\n{errors}");
        says(&printed, &["Canary/hello: Failed, weight 0 %: Canary analysis failed, Deployment scaled to zero."]);
        never.join().unwrap();
    });
    kept.remove();
}

/// Pods of the new version that never start, and a webhook that nobody opens.
fn never_reached(kept: &Kept) {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("flagger-canary");
    std::fs::create_dir(&own).unwrap();
    std::fs::create_dir(folder.path().join("canary")).unwrap();
    std::fs::copy(fixture("canary/httpbin.yaml"), folder.path().join("canary/httpbin.yaml")).unwrap();
    for entry in std::fs::read_dir(fixture("flagger-canary")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = text.replace("hello-server:v2-fixed", "hello-server:none");
        let text = text.replace("weight: 25%, within: 60s", "weight: 25%, within: 25s");
        std::fs::write(own.join(entry.file_name()), text).unwrap();
    }
    let (printed, errors, code) = kept.run(&own);
    assert_eq!(code, Some(3), "{printed}\n{errors}");
    says(
        &errors,
        &[
            "weight 25 % in the phase Progressing of Canary/hello took longer than 25 s; last state: Progressing, weight 0 %: ",
            "canary deployment hello.flagger-canary-",
            " not ready: waiting for rollout to finish: 0 of 2 (readyThreshold 100%) updated replicas are available; ",
            "gate promotion is closed and was asked 0 times, gate traffic is open and was asked 0 times",
        ],
    );
}

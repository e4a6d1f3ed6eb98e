//! Argo Rollouts moves the traffic between two versions, and each step is checked.

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use shiftcheck::cluster::KubeCluster;

use crate::cluster::Kept;
use crate::common::ROOT;
use crate::harness::{block_on, tests};

tests![argo_rollouts_moves_the_traffic_step_by_step()];

/// The scenarios share a cluster: a throwaway one for the first, on which Argo Rollouts is installed, and an existing one for the others.
fn argo_rollouts_moves_the_traffic_step_by_step() {
    let (kept, printed) = Kept::by(&fixture("rollouts-subset").to_string_lossy());
    for line in [
        "ok 2/5 20 %",
        "Rollout/hello: Paused at step 1 of 4, weight 20 %: CanaryPauseStep",
        "weights in the route: canary 20 %, stable 80 % — the route has canary 20 %, stable 80 %",
        "weight reported by the controller: 20 % — it reports 20 %",
        "Rollout/hello: Degraded at step 0 of 4, weight 0 %: RolloutAborted",
        "ok 5/5 promotion",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    for when in ["in the status after ", "in the route after ", "in the sidecar after ", "first answered after "] {
        assert!(printed.contains(when), "{when}\n{printed}");
    }
    other_ways_of_routing_hold(&kept);
    // no more at once, and nothing beside a scenario that claims something about its changes: the traffic of one fills a core
    std::thread::scope(|scope| {
        scope.spawn(|| what_a_controller_refuses_is_told(&kept));
        scope.spawn(|| a_rollout_is_stopped_by_what_judge_decides(&kept));
    });
    errors_of_a_superseded_canary_are_told_with_their_cause(&kept);
    a_controller_that_is_not_ready_is_told(&kept);
    kept.remove();
}

fn fixture(name: &str) -> PathBuf {
    Path::new(ROOT).join("fixtures").join(name)
}

fn other_ways_of_routing_hold(kept: &Kept) {
    for scenario in ["rollouts-host", "rollouts-header"] {
        let (printed, errors, code) = kept.run(&fixture(scenario));
        assert_eq!(code, Some(0), "{printed}{errors}");
        assert!(printed.contains("Argo Rollouts v1.10.1, found in argo-rollouts"), "{printed}");
    }
}

/// About one run in ten does not see the errors: they last for milliseconds.
fn errors_of_a_superseded_canary_are_told_with_their_cause(kept: &Kept) {
    for _ in 0..4 {
        let (printed, errors, code) = kept.run(&fixture("rollouts-superseded"));
        if code == Some(0) {
            continue;
        }
        assert_eq!(code, Some(1), "{printed}{errors}");
        for part in [
            "of them were answered 503 `no healthy upstream`",
            "because DestinationRule/hello gave a subset other pods, ",
            " VirtualService/hello changed the weights: a sidecar applies endpoints before routes",
            "because the failed requests were due from ",
        ] {
            assert!(printed.contains(part), "{part}\n{printed}");
        }
        return;
    }
    panic!("no run has seen the errors of a superseded canary");
}

/// A change to a file of `rollouts-subset`, and what is said of it.
type Row<'a> = ((&'a str, &'a str, &'a str), &'a [&'a str]);

fn what_a_controller_refuses_is_told(kept: &Kept) {
    let rows: [Row; 3] = [
        (
            ("rollout-v1.yaml", "routes: [primary]", "routes: [primry]"),
            &["the phase Healthy of Rollout/hello cannot succeed: Degraded", "InvalidSpec", "primry"],
        ),
        (
            ("rollout-v1.yaml", "virtualService: {name: hello,", "virtualService: {name: helo,"),
            &["the phase Healthy of Rollout/hello cannot succeed: Degraded", "InvalidSpec", "helo"],
        ),
        (
            ("scenario.yaml", "wait: {step: 1, phase: Paused, within: 60s}", "wait: {step: 3, within: 2s}"),
            &["step 3 of Rollout/hello took longer than 2 s; last state: "],
        ),
    ];
    for ((file, from, to), parts) in rows {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rollouts-subset", "canary"] {
            let copy = folder.path().join(name);
            std::fs::create_dir(&copy).unwrap();
            for entry in std::fs::read_dir(fixture(name)).unwrap().flatten() {
                std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
        }
        let path = folder.path().join("rollouts-subset").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not hold `{from}`");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let (printed, errors, code) = kept.run(&folder.path().join("rollouts-subset"));
        assert_eq!(code, Some(3), "{printed}{errors}");
        let flat = errors.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(flat.contains(part), "`{part}` is missing for `{to}`:\n{errors}");
        }
    }
}

fn a_rollout_is_stopped_by_what_judge_decides(kept: &Kept) {
    // the account of the command is named with its namespace
    let options = ["--namespace", "rollouts-judge", "--keep", "always"];
    let (printed, errors, code) = kept.run_with(&fixture("rollouts-judge"), &options);
    assert_eq!(code, Some(0), "{printed}{errors}");
    let aborted = "Metric \"shiftcheck-judge\" assessed Failed";
    let flat = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(aborted), "{printed}");
    let log = kept.kubectl(&["-n", "rollouts-judge", "logs", "-l", "app=shiftcheck-judge", "-c", "judge", "--tail=-1"]);
    let all = log.join("\n");
    for part in [
        "Istio 1.31",
        "FAIL 2/2 20 %",
        "     everyone: v1 20 %, v2 80 % — v1 ",
        "   ✗ everyone at /error: status 200 — ",
    ] {
        assert!(all.contains(part), "`{part}` is missing in:\n{all}");
    }
    let report: serde_json::Value = serde_json::from_str(log.last().unwrap()).unwrap();
    assert_eq!(
        (&report["result"], &report["note"]),
        (&"failed".into(), &"a claim of this stage fails".into()),
        "{all}"
    );
}

fn a_controller_that_is_not_ready_is_told(kept: &Kept) {
    block_on(async {
        let (_, client) = KubeCluster::connect(Some(&kept.kubeconfig), None).await.unwrap();
        let deployments: Api<Deployment> = Api::namespaced(client, "argo-rollouts");
        let none = Patch::Merge(serde_json::json!({"spec": {"replicas": 0}}));
        deployments.patch("argo-rollouts", &PatchParams::default(), &none).await.unwrap();
    });
    let gone = ["-n", "argo-rollouts", "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=argo-rollouts"];
    kept.kubectl(&[&gone[..], &["--timeout=60s"]].concat());
    let (printed, errors, code) = kept.run(&fixture("rollouts-subset"));
    assert_eq!(code, Some(3), "{printed}{errors}");
    let flat = errors.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = "scenario.yaml:4:26: Argo Rollouts is installed in namespace argo-rollouts, but no replica of Deployment/argo-rollouts is available";
    assert!(flat.contains(expected), "{errors}");
}

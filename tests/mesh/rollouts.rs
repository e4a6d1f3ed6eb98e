//! Argo Rollouts moves the traffic between two versions, and each step is checked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use shiftcheck::cluster::KubeCluster;
use tempfile::TempDir;

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
    // no more at once: the traffic of one fills a core
    std::thread::scope(|scope| {
        scope.spawn(|| other_ways_of_routing_hold(&kept));
        scope.spawn(|| {
            what_a_controller_refuses_is_told(&kept);
            a_rollout_is_stopped_by_what_judge_decides(&kept);
            judge_passes_or_refuses_by_the_stage_that_is_reached(&kept);
        });
    });
    // these claim something at each moment
    a_rollout_that_moves_by_itself_is_followed(&kept);
    an_experiment_is_followed(&kept);
    errors_of_a_superseded_canary_are_told_with_their_cause(&kept);
    a_controller_that_is_not_ready_is_told(&kept);
    kept.remove();
}

fn fixture(name: &str) -> PathBuf {
    Path::new(ROOT).join("fixtures").join(name)
}

/// Copies of the scenarios in a folder, with a change to a file.
fn spoilt(file: &str, from: &str, to: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["rollouts-subset", "rollouts-timed", "rollouts-host", "canary"] {
        let copy = folder.path().join(name);
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(fixture(name)).unwrap().flatten() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let path = folder.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} does not hold `{from}`");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    folder
}

/// Each step is judged by what the route declares, also where the pods of the new version answer as the old one.
fn a_rollout_that_moves_by_itself_is_followed(kept: &Kept) {
    let parts = [
        "10 %, 50 %, 100 % on the way — the route had 10 %, 50 %, 100 %",
        "everyone: as the route declares, from 2s after each change — v1 90 %, v2 10 %: v2 answered ",
        "; v1 50 %, v2 50 %: v2 answered ",
        "; v2 100 %: v2 answered 100 % of ",
    ];
    followed(kept, "rollouts-timed", &parts);
    wrong_shares_are_told(kept);
}

/// So are the shares of an experiment, which gets requests beside both versions.
fn an_experiment_is_followed(kept: &Kept) {
    let parts = [
        "10 % for an experiment, 50 %, 100 % on the way — the route had 10 % for an experiment, 50 %, 100 %",
        "everyone: as the route declares, from 2s after each change — v1 90 %, v2 10 %: v2 answered ",
        "; v1 50 %, v2 50 %: v2 answered ",
        "during the change: at most 0 errors — 0 of ",
    ];
    followed(kept, "rollouts-experiment", &parts);
}

/// A followed Rollout whose shares hold.
fn followed(kept: &Kept, scenario: &str, parts: &[&str]) {
    let (printed, code) = followed_once_routed(kept, &fixture(scenario));
    assert_eq!(code, Some(0), "{printed}");
    let flat = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(flat.contains(part), "`{part}` is missing in:\n{printed}");
    }
}

/// The pods of v2 answer as v1.
fn wrong_shares_are_told(kept: &Kept) {
    let (image, other) = (
        "image: hello-server:v2-fixed\n",
        "image: hello-server:v2-fixed\n          env: [{name: VERSION, value: v1}]\n",
    );
    let folder = spoilt("rollouts-timed/rollout-v2.yaml", image, other);
    let (printed, errors, code) = kept.run(&folder.path().join("rollouts-timed"));
    assert_eq!(code, Some(1), "{printed}{errors}");
    let failed = "✗ everyone: as the route declares, from 2s after each change — v1 90 %, v2 10 % was declared, and v2 answered 0 % of ";
    assert!(printed.split_whitespace().collect::<Vec<_>>().join(" ").contains(failed), "{printed}");
}

/// Runs a scenario until the controller has given an experiment, if there is one, its weight. Argo Rollouts loses the name of its Service about
/// once in twenty runs and never routes to it; each such run has to fail and to say so.
fn followed_once_routed(kept: &Kept, scenario: &Path) -> (String, Option<i32>) {
    for _ in 0..4 {
        let (printed, errors, code) = kept.run(scenario);
        if !printed.contains("✗ weights in the route: 10 % for an experiment") {
            return (printed + &errors, code);
        }
        assert_eq!(code, Some(1), "{printed}{errors}");
        for part in ["on the way — the route had 50 %, 100 %", "Rollout/hello has the warning `"] {
            assert!(printed.contains(part), "`{part}` is missing in:\n{printed}{errors}");
        }
    }
    panic!("no experiment got its weight in four runs");
}

fn other_ways_of_routing_hold(kept: &Kept) {
    for scenario in ["rollouts-host", "rollouts-header", "rollouts-abort"] {
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
    let rows: [Row; 4] = [
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
        (
            ("rollout-v2.yaml", "image: hello-server:v2-fixed", "image: hello-server:v9"),
            &[
                "step 1 in the phase Paused of Rollout/hello took longer than 60 s; last state: Progressing at step 0 of 4",
                " in container hello-server of hello-",
                " (hello-server:v9)",
            ],
        ),
    ];
    for ((file, from, to), parts) in rows {
        let folder = spoilt(&format!("rollouts-subset/{file}"), from, to);
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

/// The Rollout of `rollouts-judge` is Degraded, after the analysis has aborted it.
fn judge_passes_or_refuses_by_the_stage_that_is_reached(kept: &Kept) {
    let (log, code) = judged(kept, "holds", ("phase: Healthy", "phase: Degraded"));
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("ok 1/2 first release"), "{log}");
    let (log, code) = judged(kept, "no-stage", ("step: 1", "step: 2"));
    assert_eq!(code, Some(2), "{log}");
    let message = "/scenario/judge.yaml:4:23: no stage of the scenario waits for this state: Rollout/hello is Degraded at step 0 of 4";
    assert!(log.split_whitespace().collect::<Vec<_>>().join(" ").contains(message), "{log}");
}

/// The log and the exit code of a Job like that of the analysis, with a change to the scenario that it judges.
fn judged(kept: &Kept, name: &str, (from, to): (&str, &str)) -> (String, Option<i32>) {
    let code = block_on(async {
        let (_, client) = KubeCluster::connect(Some(&kept.kubeconfig), None).await.unwrap();
        let namespace = "rollouts-judge";
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let mut map = maps.get("shiftcheck-judge").await.unwrap();
        let scenario = map.data.as_mut().unwrap().get_mut("judge.yaml").unwrap();
        assert!(scenario.contains(from), "{scenario}");
        *scenario = scenario.replacen(from, to, 1);
        map.metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        maps.create(&PostParams::default(), &map).await.unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "AnalysisTemplate"));
        let templates: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        let template = templates.get("shiftcheck-judge").await.unwrap();
        let mut spec = template.data["spec"]["metrics"][0]["provider"]["job"]["spec"].clone();
        spec["template"]["spec"]["volumes"][0]["configMap"]["name"] = name.into();
        spec["template"]["metadata"]["labels"]["app"] = name.into();
        let job: Job = serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &job).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let found = pods.list(&ListParams::default().labels(&format!("app={name}"))).await.unwrap();
            let status = found.items.first().and_then(|pod| pod.status.as_ref());
            let containers = status.into_iter().flat_map(|status| status.container_statuses.iter().flatten());
            let mut own = containers.filter(|own| own.name == "judge");
            if let Some(ended) = own.find_map(|own| own.state.as_ref()?.terminated.as_ref()) {
                break ended.exit_code;
            }
            assert!(Instant::now() < deadline, "{name} does not end: {found:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let log = kept.kubectl(&["-n", "rollouts-judge", "logs", "-l", &format!("app={name}"), "-c", "judge", "--tail=-1"]);
    (log.join("\n"), Some(code))
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

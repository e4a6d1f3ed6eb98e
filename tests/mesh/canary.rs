//! The walkthrough holds on a real mesh, stage by stage, and its trap is caught.

use std::path::Path;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use shiftcheck::cluster::KubeCluster;

use crate::cluster::{Kept, containers, shared};
use crate::common::{run_id, said, shiftcheck};
use crate::harness::{block_on, tests};

tests![the_walkthrough_holds_on_a_throwaway_cluster_which_is_kept(), its_traps_are_caught_and_named()];

fn the_walkthrough_holds_on_a_throwaway_cluster_which_is_kept() {
    let (kept, printed) = Kept::by("fixtures/canary");
    in_order(&printed, &WALKTHROUGH);
    assert!(kept.kubeconfig.is_file());
    // a sweep leaves alone what was kept on purpose
    said(&shiftcheck(&["sweep"]).output().unwrap());
    assert_eq!(containers(&kept.run).len(), 1);
    // also one of another user with another cache
    let elsewhere = tempfile::tempdir().unwrap();
    said(&shiftcheck(&["sweep", "--kept", "--cache"]).arg(elsewhere.path()).output().unwrap());
    assert_eq!(containers(&kept.run).len(), 1);
    istiod_refuses_what_it_refuses_everywhere(&kept);
    kept.remove();
}

/// `istioctl install` installs a webhook that `istioctl manifest generate` leaves out.
fn istiod_refuses_what_it_refuses_everywhere(kept: &Kept) {
    let rule = serde_json::json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "without-host"},
        "spec": {"hosts": ["svc-hello"], "http": [{"route": [
            {"destination": {"host": "svc-hello"}, "weight": 80},
            {"destination": {"host": ""}, "weight": 20},
        ]}]},
    });
    let error = block_on(async {
        let (_, client) = KubeCluster::connect(Some(&kept.kubeconfig), None).await.unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"));
        let rules: Api<DynamicObject> = Api::namespaced_with(client, "canary", &kind);
        rules.create(&PostParams::default(), &serde_json::from_value(rule).unwrap()).await.unwrap_err()
    });
    assert!(error.to_string().contains("empty domain name not allowed"), "{error}");
}

fn its_traps_are_caught_and_named() {
    let caught = |(scenario, lines): (&str, &[&str])| {
        let (printed, errors, code) = shared().on("run", Path::new(scenario), &[]);
        assert_eq!(code, Some(1), "{printed}\n{errors}");
        in_order(&printed, lines);
        let (_, rest) = printed.split_once("cluster state saved to ").unwrap();
        collected(Path::new(rest.lines().next().unwrap()));
        shared().gone(&format!("canary-{}", run_id(&printed)));
    };
    // most of the time is spent waiting; each has a namespace of its own
    std::thread::scope(|scope| TRAPS.iter().for_each(|trap| drop(scope.spawn(|| caught(*trap)))));
}

/// What is said of the walkthrough.
const WALKTHROUGH: [&str; 20] = [
    "canary: 9 stages, 26 claims on ",
    "false alarm (type I error) below 2e-6 in total; missed fault (type II error) below 0.001 per claim, 0.024 in total",
    "sampling errors only: if one request in a million is lost, a correct rollout fails with probability 1.6 %",
    "ok 1/9 first release",
    "near-miss: v1 — all 688 from v1; a leak is below 1.00 % in all, below 2.97 % in each of 3 kinds of requests with 99.9 % confidence",
    "ok 2/9 version label",
    "ok 3/9 v2 deployed, unused",
    "hello-server-v2: 0 served — its pods counted 0 requests while 20",
    "ok 4/9 testers' canary",
    "testers: v1 50 %, v2 50 % — v1 ",
    "ok 5/9 fault",
    "everyone at /error: v1, status 503 — all 688 from v1, status 503; a leak is below 1.00 % with 99.9 % confidence",
    "testers at /error: v1 50 %, v2 50 %, status 503 — v1 ",
    "ok 6/9 rollback",
    "ok 7/9 promotion",
    "everyone: v2 — all 688 from v2; a leak is below 1.00 % with 99.9 % confidence",
    "ok 8/9 v1 removed",
    "ok 9/9 clean-up",
    "objects left: none — nothing is left",
    "all stages passed",
];

/// Scenarios that have to fail, with what is said of them.
const TRAPS: [(&str, &[&str]); 2] = [
    (
        "fixtures/canary-pinned-selector",
        &[
            "FAIL 1/1 testers' canary, selector pinned",
            "everyone: v1 — all 688 from v1",
            "answered 503 `no healthy upstream`, which tells no version",
            "because subset v2 (version=v2, fixtures/canary/dr-hello.yaml:10:7) has no endpoints: the selector of Service svc-hello \
         (app=hello,version=v1, fixtures/canary/svc-hello-v1.yaml:1:1) excludes its pods",
            "claimed in fixtures/canary-pinned-selector/scenario.yaml:",
            "stage 1 of 1 failed",
        ],
    ),
    (
        "fixtures/canary-tcp-port",
        &[
            "FAIL 1/1 testers' canary, port named tcp",
            "because VirtualService vs-hello (fixtures/canary/vs-hello-testers.yaml:1:1) is not used: port 8080 of Service svc-hello \
         (fixtures/canary-tcp-port/svc-hello.yaml:1:1) is named `tcp-hello`",
            "stage 1 of 1 failed",
        ],
    ),
];

/// Whether all these are there, in this order.
fn in_order(printed: &str, lines: &[&str]) {
    let mut rest = printed;
    for line in lines {
        let Some((_, after)) = rest.split_once(line) else { panic!("`{line}` is missing in:\n{printed}") };
        rest = after;
    }
}

/// What was known of the cluster outlives it.
fn collected(state: &Path) {
    let read = |name: &str| std::fs::read_to_string(state.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(read("events.txt").contains("Started container"));
    assert!(read("pods.txt").contains("istio-proxy ready, 0 restarts"));
    assert!(read("routes.txt").contains("these are the expected routes"));
    assert!(read("objects/Service-svc-hello.yaml").contains("app: hello"));
    assert!(read("objects/VirtualService-vs-hello.yaml").contains("end-user"));
    assert!(read("sidecar/config_dump.json").contains("svc-hello.canary"));
    let logs: Vec<String> = std::fs::read_dir(state.join("logs"))
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    for container in ["hello-server", "istio-proxy", "discovery"] {
        let own = |name: &&String| name.ends_with(&format!(".{container}.log"));
        assert!(logs.iter().any(|name| own(&name)), "{container}: {logs:?}");
    }
    assert!(!state.join("incomplete.txt").exists());
}

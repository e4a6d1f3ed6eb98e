//! Flagger moves the traffic between two versions, and each step is checked; what its promotion breaks is found.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Request;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::client::Body;
use serde_json::{Value, json};
use shiftcheck::cluster::KubeCluster;

use crate::cluster::Kept;
use crate::common::ROOT;
use crate::harness::{block_on, tests};

tests![flagger_moves_the_traffic_and_what_its_promotion_breaks_is_told()];

fn flagger_moves_the_traffic_and_what_its_promotion_breaks_is_told() {
    let scenario = fixture("flagger-canary");
    let (kept, printed) = Kept::ending_with(1, &scenario.to_string_lossy());
    for line in [
        "Canary/hello: Progressing, weight 25 %: New revision detected, progressing canary analysis.",
        "weights in the route: canary 25 %, stable 75 % — the route has canary 25 %, stable 75 %",
        "weight reported by the controller: 25 % — it reports 25 %",
        "ok 3/4 50 %",
        "FAIL 4/4 promotion",
        "✗ during the change: at most 0 errors, no v1 after 2s — ",
        "because pods without a preStop hook ended during the change: hello-",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    // Flagger looks at a Canary every 10 s, and a scenario mostly waits for it: two at a time
    std::thread::scope(|scope| {
        scope.spawn(|| {
            holds(&kept, "rollback");
            holds(&kept, "canary-drained");
            users_keep_the_version_that_has_answered_them(&kept);
        });
        scope.spawn(|| {
            let ab = holds(&kept, "ab");
            assert!(ab.contains("with the cookie: v2 — all 688 from v2"), "{ab}");
            let mirror = holds(&kept, "mirror");
            assert!(mirror.contains("some served — its pods counted "), "{mirror}");
            a_webhook_that_is_never_asked_is_told(&kept);
            a_canary_is_stopped_by_what_judge_answers(&kept);
        });
    });
    without_flagger(&kept);
    kept.remove();
}

fn fixture(name: &str) -> PathBuf {
    Path::new(ROOT).join("fixtures").join(name)
}

/// A scenario that passes on the cluster, which has Flagger already.
fn holds(kept: &Kept, name: &str) -> String {
    let begun = Instant::now();
    let (printed, errors, code) = kept.run(&fixture(&format!("flagger-{name}")));
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("Flagger v1.36.1, found in flagger-system"), "{printed}");
    eprintln!("flagger-{name} took {:.0} s", begun.elapsed().as_secs_f64());
    printed
}

/// A Canary with `sessionAffinity`.
fn users_keep_the_version_that_has_answered_them(kept: &Kept) {
    let printed = holds(kept, "affinity");
    for line in [
        "weights in the route: canary 25 %, stable 75 % — the route has canary 25 %, stable 75 %",
        " sessions that v2 answered kept it in 688 later requests",
    ] {
        assert!(printed.split_whitespace().collect::<Vec<_>>().join(" ").contains(line.trim()), "{line}\n{printed}");
    }
}

/// Without a new version, Flagger asks nothing.
fn a_webhook_that_is_never_asked_is_told(kept: &Kept) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["flagger-canary", "canary"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        for entry in std::fs::read_dir(fixture(name)).unwrap().flatten() {
            std::fs::copy(entry.path(), folder.path().join(name).join(entry.file_name())).unwrap();
        }
    }
    let scenario = folder.path().join("flagger-canary");
    let text = std::fs::read_to_string(scenario.join("scenario.yaml")).unwrap();
    let stage =
        "apply: [hello-v2.yaml]\n    do: {open: traffic}\n    wait: {phase: Progressing, weight: 25%, within: 60s}";
    assert!(text.contains(stage), "{text}");
    let without_change = "do: {open: traffic}\n    wait: {phase: Progressing, weight: 25%, within: 15s}";
    std::fs::write(scenario.join("scenario.yaml"), text.replace(stage, without_change)).unwrap();
    let (printed, errors, code) = kept.run(&scenario);
    assert_eq!(code, Some(3), "{printed}{errors}");
    let flat = errors.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "weight 25 % in the phase Progressing of Canary/hello took longer than 15 s; last state: Initialized",
        "gate promotion is closed and was asked 0 times, gate traffic is open and was asked 0 times",
    ] {
        assert!(flat.contains(part), "`{part}` is missing in:\n{errors}");
    }
}

/// The namespace of `flagger-judge`, which the address of the webhook has.
const JUDGED: &str = "flagger-judge";

fn a_canary_is_stopped_by_what_judge_answers(kept: &Kept) {
    let (printed, errors, code) = kept.run_with(&fixture(JUDGED), &["--namespace", JUDGED, "--keep", "always"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    let messages = r#"jsonpath={range .items[*]}{.message}{"\n"}{end}"#;
    let events =
        kept.kubectl(&["-n", JUDGED, "get", "events", "--field-selector=involvedObject.kind=Canary", "-o", messages]);
    let log = kept.kubectl(&["-n", JUDGED, "logs", "deployment/shiftcheck-judge", "-c", "judge", "--tail=-1"]);
    let (events, log) = (events.join("\n"), log.join("\n"));
    for part in [
        "Halt hello.flagger-judge advancement external check judge failed a claim of this stage fails\n25 %, everyone at /work: errors at most 1 % — ",
        "Rolling back hello.flagger-judge failed checks threshold reached 1",
        "Advance hello.flagger-judge canary weight 50",
    ] {
        assert!(events.contains(part), "`{part}` is missing in:\n{events}\n{log}");
    }
    for part in ["Istio 1.31", "FAIL 2/3 25 %", "ok 2/3 25 %", "   ✗ everyone at /work: errors at most 1 % — "] {
        assert!(log.contains(part), "`{part}` is missing in:\n{log}");
    }
    // nothing opens the gate of the Canary any more
    let (status, text) = asked(kept, r#"{"name": "hello", "namespace": "flagger-judge"}"#);
    assert_eq!((status, text.as_str()), (200, "the claims of this stage hold"));
    let (status, text) = asked(kept, r#"{"name": "front", "namespace": "flagger-judge"}"#);
    assert_eq!(status, 422, "{text}");
    assert!(
        text.starts_with("Canary/front in namespace flagger-judge asked, and /scenario/judge.yaml:4:22 is about"),
        "{text}"
    );
}

/// What a Canary that Flagger does not move any more gets from its judge, and what a run says of such a cluster.
fn without_flagger(kept: &Kept) {
    let patch = json!({"spec": {"replicas": 0}});
    patched(kept, ("flagger-system", "apps/v1", "Deployment", "flagger"), &patch);
    kept.kubectl(&["-n", "flagger-system", "wait", "--for=delete", "pod", "-l", "app=flagger", "--timeout=60s"]);
    let (printed, errors, code) = kept.run(&fixture("flagger-canary"));
    assert_eq!(code, Some(3), "{printed}{errors}");
    let flat = errors.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = "scenario.yaml:5:20: Flagger is installed in namespace flagger-system, but no replica of Deployment/flagger is available";
    assert!(flat.contains(expected), "{errors}");

    let patch = json!({"status": {"phase": "Waiting", "canaryWeight": 0}});
    patched(kept, (JUDGED, "flagger.app/v1beta1", "Canary", "hello"), &patch);
    let (status, text) = asked(kept, "");
    assert_eq!(status, 422, "{text}");
    let refused = "did not complete\n/scenario/judge.yaml:4:22: no stage of the scenario waits for this state: \
                   Canary/hello is Waiting, weight 0 %: ";
    assert!(
        text.starts_with(refused) && text.contains("; weight 50 % in the route\nhint: add a stage that waits"),
        "{text}"
    );

    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let rules = ["destinationrules", "virtualservices"];
    let without_canaries = json!({"rules": [rule("", &["pods", "services"]), rule("networking.istio.io", &rules)]});
    patched(kept, (JUDGED, "rbac.authorization.k8s.io/v1", "Role", "shiftcheck-judge"), &without_canaries);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, text) = asked(kept, "");
        let parts = [
            "reading Canary/hello failed at the API server: canaries.flagger.app \"hello\" is forbidden: ",
            "\nhint: give the account this right: `shiftcheck judge --manifests` prints the rights of a judge",
        ];
        if status == 424 && parts.iter().all(|part| text.contains(part)) {
            break;
        }
        // the API server takes a moment until it denies
        assert!(Instant::now() < deadline, "{status} {text}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Changes an object: its namespace, API version, kind and name. A status is changed as such.
fn patched(kept: &Kept, (namespace, version, kind, name): (&str, &str, &str, &str), patch: &Value) {
    block_on(async {
        let (_, client) = KubeCluster::connect(Some(&kept.kubeconfig), None).await.unwrap();
        let (group, version) = version.split_once('/').unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let (parameters, patched) = (PatchParams::default(), Patch::Merge(patch));
        if patch.get("status").is_some() {
            api.patch_status(name, &parameters, &patched).await.unwrap();
        } else {
            api.patch(name, &parameters, &patched).await.unwrap();
        }
    });
}

/// The status and the text that the judge answers to a webhook with this body.
fn asked(kept: &Kept, body: &str) -> (u16, String) {
    block_on(async {
        let (_, client) = KubeCluster::connect(Some(&kept.kubeconfig), None).await.unwrap();
        let path = format!("/api/v1/namespaces/{JUDGED}/services/shiftcheck-judge:8080/proxy/");
        let request = Request::post(path).body(Body::from(body.as_bytes().to_vec())).unwrap();
        let response = client.send(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    })
}

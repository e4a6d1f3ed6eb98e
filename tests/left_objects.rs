//! `objects: none` counts everything that the run has applied, in every namespace and in the cluster, and `delete:` deletes exactly what
//! is meant: in the model, on the embedded mesh and on a cluster.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::path::Path;

use common::{CLUSTER, said, shiftcheck};
use rstest::rstest;

const ELSEWHERE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: other}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: shiftcheck-reader}
rules: []
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {app: front}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// A scenario that applies objects in two namespaces and in the cluster, and then deletes these.
fn scenario(folder: &Path, delete: &str) {
    let canary = Path::new(common::ROOT).join("fixtures/canary");
    for file in ["hello-server-v1-first.yaml", "svc-hello.yaml", "httpbin.yaml"] {
        std::fs::copy(canary.join(file), folder.join(file)).unwrap();
    }
    std::fs::write(folder.join("elsewhere.yaml"), ELSEWHERE).unwrap();
    let text = format!(
        "name: left
namespace: canary
service: http://svc-hello:8080
client: {{manifest: httpbin.yaml, pod: httpbin, container: httpbin}}
version: {{body: 'Hello server - (?<version>[^ ]+)'}}
populations: {{everyone: {{}}}}
stages:
  - name: release
    apply: [hello-server-v1-first.yaml, svc-hello.yaml, elsewhere.yaml]
    expect:
      - {{from: everyone, get: {{v1: 100%}}}}
  - name: clean-up
    delete: [{delete}]
    expect:
      - {{objects: none}}
"
    );
    std::fs::write(folder.join("scenario.yaml"), text).unwrap();
}

/// A plural, short names, and a kind that two groups have but only one of the applied objects.
const OWN: &str = "deployments/hello-server-v1, svc/svc-hello, cm/settings, gateway/front, httpbin.yaml";

#[test]
fn what_is_left_elsewhere_is_named_with_group_and_namespace() {
    let folder = tempfile::tempdir().unwrap();
    scenario(folder.path(), OWN);
    let (printed, errors, code) = said(&shiftcheck(&["verify", folder.path().to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    for left in [
        "left: ClusterRole.rbac.authorization.k8s.io/shiftcheck-reader",
        "left: ConfigMap/settings in namespace other",
        "left: Namespace/other",
    ] {
        assert!(printed.contains(left), "{printed}");
    }
    assert!(!printed.contains("in namespace canary"), "{printed}");
}

#[rstest]
#[case::embedded("embedded")]
#[case::k3s("k3s")]
fn everything_is_deleted_by_name_and_by_file(#[case] cluster: &str) {
    let _alone = CLUSTER.lock();
    let folder = tempfile::tempdir().unwrap();
    // a namespace takes its objects along
    let rest = "clusterroles/shiftcheck-reader, namespace/other";
    scenario(folder.path(), &format!("{OWN}, {rest}"));
    let path = folder.path().to_str().unwrap();
    let (printed, errors, code) =
        said(&shiftcheck(&["run", path, "--cluster", cluster, "--no-report"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}

#[rstest]
#[case::model(&["verify"])]
#[case::embedded(&["run", "--cluster", "embedded", "--no-report"])]
fn an_ambiguous_kind_is_refused_with_its_candidates(#[case] command: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    scenario(folder.path(), "gateway/back");
    let path = folder.path().to_str().unwrap();
    let (printed, errors, code) = said(&shiftcheck(&[command, &[path]].concat()).output().unwrap());
    assert_eq!(code, Some(2), "{printed}{errors}");
    let said =
        "the kind `gateway` is ambiguous: it may be Gateway.gateway.networking.k8s.io or Gateway.networking.istio.io";
    assert!(printed.contains(said) || errors.contains(said), "{printed}{errors}");
}

#[test]
fn a_deletion_of_what_no_stage_has_applied_is_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    scenario(folder.path(), "svc/svc-helo");
    let (printed, errors, _) = said(&shiftcheck(&["verify", folder.path().to_str().unwrap()]).output().unwrap());
    let said = "no stage before has applied Service/svc-helo in namespace canary, which is deleted here";
    assert!(printed.contains(said), "{printed}{errors}");
}

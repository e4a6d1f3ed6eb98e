//! A scenario that applies objects in two namespaces and in the cluster, and then deletes them.

use std::path::Path;

use super::{ROOT, said, shiftcheck};

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
pub fn scenario(folder: &Path, delete: &str) {
    let canary = Path::new(ROOT).join("fixtures/canary");
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

/// Runs the scenario on a cluster of this kind: everything is deleted, by name and by file.
pub fn everything_is_deleted_on(cluster: &str) {
    let folder = tempfile::tempdir().unwrap();
    // a namespace takes its objects along
    let rest = "clusterroles/shiftcheck-reader, namespace/other";
    scenario(folder.path(), &format!("{OWN}, {rest}"));
    let path = folder.path().to_str().unwrap();
    let (printed, errors, code) =
        said(&shiftcheck(&["run", path, "--cluster", cluster, "--no-report"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}

/// A plural, short names, and a kind that two groups have but only one of the applied objects.
pub const OWN: &str = "deployments/hello-server-v1, svc/svc-hello, cm/settings, gateway/front, httpbin.yaml";

//! A scenario of an application with images of its own.

use std::fs;

/// Two versions of an application with own images: the first behind a helper container, the second with a readiness probe.
pub const MANIFESTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout-v1}
spec:
  replicas: 2
  selector: {matchLabels: {app: checkout, version: v1}}
  template:
    metadata: {labels: {app: checkout, version: v1}}
    spec:
      containers:
        - {name: agent, image: 'registry.acme.io/agent:7'}
        - {name: checkout, image: 'registry.acme.io/checkout:1.4', ports: [{name: web, containerPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout-v2}
spec:
  replicas: 2
  selector: {matchLabels: {app: checkout, version: v2}}
  template:
    metadata: {labels: {app: checkout, version: v2}}
    spec:
      containers:
        - name: checkout
          image: registry.acme.io/checkout:1.5
          ports: [{name: web, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: web}}
---
apiVersion: v1
kind: Service
metadata: {name: checkout}
spec: {selector: {app: checkout}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: checkout}
spec: {host: checkout, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: checkout}
spec:
  hosts: [checkout]
  http:
    - match: [{headers: {x-tester: {exact: 'yes'}}}]
      route: [{destination: {host: checkout, subset: v2}}]
    - route: [{destination: {host: checkout, subset: v1}, weight: 75}, {destination: {host: checkout, subset: v2}, weight: 25}]
";

const CLIENT: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: 'shiftcheck-client:1', imagePullPolicy: IfNotPresent}]
";

/// The scenario with a rule for versions, in a folder of its own, with changes to its files.
pub fn scenario(version: &str, changes: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "\
name: checkout
namespace: checkout
service: http://checkout:80
client: {{manifest: client.yaml, pod: client}}
version: {version}
pod: {{header: x-pod}}
served: {{path: /served, port: 8080}}
populations: {{everyone: {{}}, testers: {{headers: {{x-tester: 'yes'}}}}}}
stages:
  - name: canary
    apply: [app.yaml]
    expect:
      - {{from: everyone, get: {{v1: 75%, v2: 25%}}}}
      - {{from: testers, path: /cart, get: {{v2: 100%}}}}
      - {{served: {{checkout-v2: some}}}}
"
    );
    for (file, text) in [("scenario.yaml", text.as_str()), ("app.yaml", MANIFESTS), ("client.yaml", CLIENT)] {
        let text = changes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        fs::write(folder.path().join(file), text).expect("the folder can be written");
    }
    folder
}

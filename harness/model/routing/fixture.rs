//! Manifests that tests of this room share, and the client that sends requests.

use std::path::Path;

use super::{Client, Live, Mesh, Naming, pods_of};
use crate::scenario::{IstioVersion, parse_manifests};

/// The Service `svc` with port 8080, and two versions of it.
pub(super) const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {selector: {app: a}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: v1}
spec: {template: {metadata: {labels: {app: a, version: v1}}, spec: {containers: [{image: 'a:v1'}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: v2}
spec: {template: {metadata: {labels: {app: a, version: v2}}, spec: {containers: [{image: 'a:v2'}]}}}
---
";

/// The version v2 for testers, v1 for everyone else.
pub(super) const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: dr}
spec:
  host: svc
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [svc]
  http:
  - match: [{headers: {end-user: {exact: testers}}}]
    route: [{destination: {host: svc, subset: v2}}]
  - route: [{destination: {host: svc, subset: v1}}]
---
";

/// These objects, in the namespace `here` unless they name another.
pub(super) fn live(text: &str) -> Live {
    let mut live = Live::new("here", "here");
    parse_manifests(Path::new("a.yaml"), text).unwrap().iter().for_each(|manifest| live.apply(manifest));
    live
}

/// The mesh of these objects, with the pods that they ask for.
pub(super) fn mesh(text: &str) -> Mesh {
    mesh_of(&IstioVersion::new(1, 31), text)
}

/// The mesh as [`mesh`], in a version of Istio.
pub(super) fn mesh_of(version: &IstioVersion, text: &str) -> Mesh {
    let live = live(text);
    let naming = Naming { versions: ["v1", "v2"].map(str::to_owned).into(), ..Naming::default() };
    Mesh::of(version, &live, pods_of(&live, &naming))
}

pub(super) fn client() -> Client {
    let labels = [("app".to_owned(), "client".to_owned())].into();
    Client::new("here", labels)
}

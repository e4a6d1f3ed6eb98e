use std::path::Path;

use super::*;
use crate::routing::{Live, Naming, pods_of};
use crate::scenario::parse_manifests;

fn live(text: &str) -> Live {
    let mut live = Live::new("here", "here");
    parse_manifests(Path::new("a.yaml"), text).unwrap().iter().for_each(|manifest| live.apply(manifest));
    live
}

fn client() -> Client {
    Client { namespace: "here".to_owned(), labels: BTreeMap::new(), sidecar: true }
}

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec: {replicas: 3, template: {metadata: {labels: {app: a}}, spec: {containers: [{image: 'a:1'}]}}}
---
";

#[test]
fn what_is_not_modelled_is_named_with_its_place() {
    let rule = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [svc]
  http:
    - corsPolicy: {}
      route: [{destination: {host: svc}, headers: {response: {}}}]
      timeout: 1s
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own}
";
    let live = live(&format!("{SERVICE}{rule}"));
    let mesh = Mesh::new(&live, Vec::new());
    let notes = mesh.not_modelled.iter().map(|note| format!("{}: {}", note.origin, note.field));
    assert_eq!(
        notes.collect::<Vec<_>>(),
        [
            "a.yaml:17:7: spec.http[0].corsPolicy",
            "a.yaml:18:52: spec.http[0].route[0].headers.response",
            "a.yaml:21:1: Sidecar/own",
        ]
    );
}

#[test]
fn on_port_80_a_rule_holds_for_a_host_that_is_no_service() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\n\
                spec: {hosts: [svc.here], http: [{directResponse: {status: 418}}]}";
    let live = live(&format!("{SERVICE}{rule}"));
    let mesh = Mesh::new(&live, pods_of(&live, &Naming::default()));
    let outbound = mesh.outbound(client());
    let status = |host: &str| {
        let given = outbound.distribution(&Request::get(host, 80, "/"));
        given.chance(|outcome| outcome.mesh_status() == Some(418)) == Chance::CERTAIN
    };
    assert!(status("svc.here"));
    assert!(!status("svc"));
}

#[test]
fn the_host_of_a_request_chooses_among_the_services_of_a_port() {
    let other = SERVICE
        .replace("name: svc", "name: other")
        .replace("app: a", "app: b")
        .replace("a:1", "b:1")
        .replace("name: a}", "name: b}");
    let live = live(&format!("{SERVICE}{other}"));
    let mesh = Mesh::new(&live, pods_of(&live, &Naming::default()));
    let outbound = mesh.outbound(client());
    let served = |request: &Request, version: &str| {
        outbound.distribution(request).chance(|outcome| outcome.version() == Some(version)) == Chance::CERTAIN
    };
    let request = Request::get("svc", 80, "/");
    assert!(served(&request, "1"), "{:?}", outbound.distribution(&request));
    assert_eq!(mesh.replicas("svc", "here"), BTreeMap::from([("1".to_owned(), 3)]));
    assert_eq!(outbound.workloads(&request.clone().with("host", "other")), BTreeSet::from(["b".to_owned()]));
}

#[test]
fn what_is_not_there_is_not_connected() {
    let live = live(SERVICE);
    let mesh = Mesh::new(&live, Vec::new());
    let outbound = mesh.outbound(client());
    assert_eq!(outbound.routes(&Request::get("none", 80, "/")).unwrap_err(), Unconnected::UnknownName);
    assert_eq!(outbound.routes(&Request::get("svc", 81, "/")).unwrap_err(), Unconnected::UnknownPort);
    let empty = outbound.distribution(&Request::get("svc.here.svc", 80, "/"));
    assert_eq!(empty, Distribution::certain(Outcome::NoEndpoint));
}

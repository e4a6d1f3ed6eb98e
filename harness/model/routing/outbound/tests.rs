use super::*;
use crate::routing::Chance;
use crate::routing::fixture::{SERVICE, client, live, mesh};

#[test]
fn what_is_not_modelled_is_named_with_its_place() {
    let rule = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [svc]
  http:
    - headers: {reply: {}}
      route: [{destination: {host: svc}, headers: {reply: {}}}]
      timeout: 1s
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own}
";
    let mesh = mesh(&format!("{SERVICE}{rule}"));
    let notes = mesh.not_modelled.iter().map(|note| format!("{}: {}", note.origin, note.field));
    assert_eq!(
        notes.collect::<Vec<_>>(),
        [
            "a.yaml:22:17: spec.http[0].headers.reply",
            "a.yaml:23:52: spec.http[0].route[0].headers.reply",
            "a.yaml:26:1: Sidecar/own",
        ]
    );
}

#[test]
fn on_port_80_a_rule_holds_for_a_host_that_is_no_service() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\n\
                spec: {hosts: [svc.here], http: [{directResponse: {status: 418}}]}";
    let mesh = mesh(&format!("{}{rule}", SERVICE.replace("8080", "80")));
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
    let three = SERVICE.replacen("{template", "{replicas: 3, template", 1);
    let other = SERVICE.replace("name: svc", "name: other").replace("app: a", "app: b").replace("name: v", "name: b-v");
    let mesh = mesh(&format!("{three}{other}"));
    let outbound = mesh.outbound(client());
    let request = Request::get("svc", 8080, "/");
    let given = outbound.distribution(&request);
    assert_eq!(given.chance(|outcome| outcome.version() == Some("v1")), Chance::of(3, 4), "{given:?}");
    assert_eq!(mesh.replicas("svc", "here"), [("v1".to_owned(), 3), ("v2".to_owned(), 1)].into());
    assert_eq!(outbound.workloads(&request), ["v1", "v2"].map(str::to_owned).into());
    assert_eq!(outbound.workloads(&request.with("host", "other")), ["b-v1", "b-v2"].map(str::to_owned).into());
}

#[test]
fn what_is_not_there_is_not_connected() {
    let mesh = Mesh::new(&live(SERVICE), Vec::new());
    let outbound = mesh.outbound(client());
    assert_eq!(outbound.routes(&Request::get("none", 80, "/")).unwrap_err(), Unconnected::UnknownName);
    assert_eq!(outbound.routes(&Request::get("svc", 81, "/")).unwrap_err(), Unconnected::UnknownPort);
    let empty = outbound.distribution(&Request::get("svc.here.svc", 8080, "/"));
    assert_eq!(empty, Distribution::certain(Outcome::NoEndpoint));
}

use std::convert::Infallible;
use std::path::Path;
use std::sync::Mutex;

use hyper::{Request, Response};
use kube::client::Body;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::scenario::{KindRef, Origin, parse_manifests};

const OBJECTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: other}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
";

/// The kinds of an API group, as the aggregated discovery lists them.
fn group(name: &str, version: &str, kinds: &[(&str, &str, &str)]) -> Value {
    let resources = kinds.iter().map(|(plural, kind, scope)| {
        json!({
            "resource": plural, "scope": scope, "verbs": ["delete", "list", "patch"],
            "responseKind": {"group": name, "version": version, "kind": kind},
        })
    });
    let resources: Vec<Value> = resources.collect();
    json!({"metadata": {"name": name}, "versions": [{"version": version, "resources": resources}]})
}

/// An API server that stores the paths of applied objects and deletes them.
fn answer(there: &Mutex<BTreeSet<String>>, method: &str, path: &str) -> (u16, Value) {
    let mut there = there.lock().unwrap();
    let discovered = |items: Vec<Value>| {
        (
            200,
            json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}),
        )
    };
    let namespaced = "Namespaced";
    match (method, path) {
        ("GET", "/api") => {
            let kinds = [("configmaps", "ConfigMap", namespaced), ("pods", "Pod", namespaced)];
            discovered(vec![group("", "v1", &kinds)])
        }
        // the definition of `Widget` is established as soon as something was applied
        ("GET", "/apis") if !there.is_empty() => {
            discovered(vec![group("example.com", "v1", &[("widgets", "Widget", namespaced)])])
        }
        ("GET", "/apis") => discovered(vec![
            group("networking.istio.io", "v1", &[("gateways", "Gateway", namespaced)]),
            group("gateway.networking.k8s.io", "v1", &[("gateways", "Gateway", namespaced)]),
            group("rbac.authorization.k8s.io", "v1", &[("clusterroles", "ClusterRole", "Cluster")]),
        ]),
        ("PATCH", path) => {
            there.insert(path.to_owned());
            (200, json!({"apiVersion": "v1", "kind": "Object", "metadata": {"name": "x", "uid": path}}))
        }
        ("DELETE", path) if there.remove(path) => {
            (200, json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "details": {"uid": path}}))
        }
        ("DELETE", _) => (404, json!({"kind": "Status", "status": "Failure", "message": "not found", "code": 404})),
        (_, path) => {
            let names = there.iter().filter_map(|own| own.strip_prefix(path)?.strip_prefix('/'));
            let items: Vec<Value> = names.map(|name| json!({"metadata": {"name": name}})).collect();
            (
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items}),
            )
        }
    }
}

async fn objects(confined: bool) -> Objects {
    objects_unless(confined, "nothing").await
}

/// Objects on an API server that refuses to list paths with this suffix.
async fn objects_unless(confined: bool, refused: &'static str) -> Objects {
    let there = Arc::new(Mutex::new(BTreeSet::new()));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (method, path) = (request.method().as_str(), request.uri().path());
        let (code, body) = if method == "GET" && path.ends_with(refused) {
            (
                403,
                json!({"kind": "Status", "status": "Failure", "message": "may not list", "reason": "Forbidden", "code": 403}),
            )
        } else {
            answer(&there, method, path)
        };
        let response = Response::builder().status(code).header("content-type", "application/json");
        let response = response.body(Body::from(body.to_string().into_bytes())).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    let client = Client::new(service, "default");
    Objects::new(client, RunId::fresh(), "canary", "canary-1", confined).await.unwrap()
}

#[tokio::test]
async fn a_kind_that_was_established_after_the_first_discovery_is_found_on_the_own_cluster_alone() {
    let text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}\n---\n\
                {apiVersion: example.com/v1, kind: Widget, metadata: {name: one}}";
    let manifests = parse_manifests(Path::new("widget.yaml"), text).unwrap();
    for (confined, expected) in
        [(false, None), (true, Some("widget.yaml:3:2: the cluster has no kind `Widget` in `example.com/v1`"))]
    {
        let mut objects = objects(confined).await;
        objects.apply(&manifests[0]).await.unwrap();
        let applied = objects.apply(&manifests[1]).await;
        assert_eq!(applied.err().map(|error| error.to_string()).as_deref(), expected);
    }
}

fn manifests() -> Vec<Manifest> {
    parse_manifests(Path::new("objects.yaml"), OBJECTS).unwrap()
}

fn place() -> Origin {
    "scenario.yaml:9:3".parse().unwrap()
}

fn written(kind: &str, name: &str) -> Target {
    Target { kind: KindRef::Written(kind.to_owned()), name: name.to_owned(), origin: place() }
}

#[tokio::test]
async fn applied_objects_of_every_namespace_are_listed() {
    let mut objects = objects(false).await;
    for manifest in manifests() {
        objects.apply(&manifest).await.unwrap();
    }
    let deleted = objects.delete(&written("gateway", "front")).await.unwrap();
    assert_eq!(deleted.uid, "/apis/networking.istio.io/v1/namespaces/canary-1/gateways/front");
    // by name only in the scenario's namespace; by file exactly the object in the file
    objects.delete(&written("cm", "settings")).await.unwrap();
    assert_eq!(
        objects.remaining().await.unwrap(),
        ["ClusterRole.rbac.authorization.k8s.io/reader", "ConfigMap/settings in namespace other"]
    );
    for manifest in &manifests()[..2] {
        objects.delete(&Target::of(manifest, place())).await.unwrap();
    }
    assert!(objects.remaining().await.unwrap().is_empty());
}

#[rstest]
#[case::what_was_applied("/configmaps", "listing every ConfigMap")]
#[case::pods("/pods", "listing every Pod")]
#[tokio::test]
async fn objects_that_cannot_be_listed_are_an_error_of_the_environment(
    #[case] refused: &'static str,
    #[case] told: &str,
) {
    let mut objects = objects_unless(false, refused).await;
    for manifest in manifests() {
        objects.apply(&manifest).await.unwrap();
    }
    let error = objects.remaining().await.unwrap_err();
    assert!(error.to_string().contains(told), "{error}");
    assert!(!error.is_bad_input());
}

#[tokio::test]
async fn an_ambiguous_deletion_and_one_outside_of_the_namespace_are_refused() {
    let mut own = objects(false).await;
    assert_eq!(
        own.delete(&written("gateways", "front")).await.unwrap_err().to_string(),
        "scenario.yaml:9:3: the kind `gateways` is ambiguous: it may be Gateway.gateway.networking.k8s.io or Gateway.networking.istio.io"
    );
    let mut confined = objects(true).await;
    for manifest in &manifests()[..2] {
        let error = confined.delete(&Target::of(manifest, place())).await.unwrap_err();
        assert!(matches!(error, ClusterError::Outside { .. }), "{error}");
    }
    let error = confined.delete(&written("clusterrole", "reader")).await.unwrap_err();
    assert!(matches!(error, ClusterError::Outside { .. }), "{error}");
}

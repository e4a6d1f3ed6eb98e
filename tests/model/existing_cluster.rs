//! What reaches out of the namespace of a run on an existing cluster is refused, or listed where it is allowed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rstest::rstest;

use crate::common::server::ApiServer;
use crate::common::{Deadline, said, shiftcheck, signal, spoilt};

/// A scenario whose first stage applies one more object.
fn with(folder: &Path, object: &str) {
    let first = "apply: [hello-server-v1-first.yaml";
    spoilt(folder, &[("scenario.yaml", first, "apply: [more.yaml, hello-server-v1-first.yaml")]);
    std::fs::write(folder.join("more.yaml"), object).unwrap();
}

fn istio(kind: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: more}}\nspec: {spec}\n")
}

#[rstest]
#[case::a_rule_for_others(
    istio("DestinationRule", "{host: checkout.prod.svc.cluster.local}"),
    &["more.yaml:4:8: DestinationRule/more applies to `checkout.prod.svc.cluster.local` for the clients of all namespaces", "--allow-reach"]
)]
#[case::a_kind_without_a_namespace(
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: more}\nrules: []\n".to_owned(),
    &["more.yaml:1:1: ClusterRole/more is outside of the namespace `canary-"]
)]
#[case::another_namespace(
    "apiVersion: v1\nkind: Service\nmetadata: {name: more, namespace: prod}\nspec: {ports: [{port: 80}]}\n".to_owned(),
    &["more.yaml:1:1: Service/more is outside of the namespace `canary-"]
)]
fn what_reaches_out_of_the_namespace_is_refused_before_anything_is_created(
    #[case] object: String,
    #[case] parts: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    with(folder.path(), &object);
    let cluster = ApiServer::start();
    let kubeconfig = cluster.kubeconfig(folder.path());
    let mut command = shiftcheck(&["run", "--cluster", "kubeconfig", "--kubeconfig"]);
    command.arg(kubeconfig).arg("--cache").arg(folder.path().join("cache")).arg(folder.path());
    let (printed, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(2), "{printed}{errors}");
    for part in parts {
        assert!(errors.contains(part), "`{part}` is missing:\n{errors}");
    }
    let written = ["POST ", "PATCH ", "PUT ", "DELETE "];
    let requests = cluster.server().requests();
    assert!(!requests.iter().any(|request| written.iter().any(|method| request.starts_with(method))), "{requests:#?}");
}

#[test]
fn what_reaches_out_is_listed_where_it_is_allowed_and_the_rest_is_kept_inside() {
    let folder = tempfile::tempdir().unwrap();
    let object = istio("DestinationRule", "{host: checkout.prod.svc.cluster.local}");
    let own = istio("DestinationRule", "{host: svc-hello}").replace("name: more", "name: own");
    with(folder.path(), &format!("{object}---\n{own}"));
    let cluster = ApiServer::start();
    let kubeconfig = cluster.kubeconfig(folder.path());
    let mut command = shiftcheck(&["run", "--cluster", "kubeconfig", "--allow-reach", "--kubeconfig"]);
    command.arg(kubeconfig).arg("--cache").arg(folder.path().join("cache")).arg(folder.path());
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    cluster.server().wait_for("PATCH /apis/apps/v1/namespaces/canary-");
    signal("-TERM", &child);
    let (printed, _, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(143), "{printed}");
    assert!(printed.contains("effects outside the namespace of the run, allowed by --allow-reach:\n"), "{printed}");
    assert!(printed.contains("DestinationRule/more applies to `checkout.prod.svc.cluster.local`"), "{printed}");
    assert!(!printed.contains("DestinationRule/own"), "{printed}");
    let applied = cluster.applied();
    let spec = |name: &str| {
        let found = applied.iter().find(|(_, object)| object["metadata"]["name"] == name);
        found.map_or_else(|| panic!("{name} is not among {applied:#?}"), |(_, object)| object["spec"].clone())
    };
    assert_eq!(spec("more"), serde_json::json!({"host": "checkout.prod.svc.cluster.local"}));
    assert_eq!(spec("own"), serde_json::json!({"host": "svc-hello", "exportTo": ["."]}));
    assert!(cluster.namespaces().is_empty(), "the namespace is left");
}

//! Requests from outside of the mesh go through an ingress gateway, and get other shares than those in the mesh.

use std::path::Path;

use crate::cluster::Kept;
use crate::common::{example, said, shiftcheck};
use crate::gateways::assert_variants_hold;
use crate::harness::tests;

tests![
    callers_outside_get_what_the_rules_of_the_gateway_say(): Paired,
    callers_outside_reach_a_gateway_over_https_and_are_redirected_to_it(): Paired,
    callers_outside_reach_servers_by_the_name_in_the_handshake(): Paired,
    callers_outside_reach_a_gateway_that_istiod_makes(): Paired,
    connections_to_a_gateway_whose_pods_end_are_counted(): Paired,
];

/// istiod replaces the pods of the gateway because of its new label, while requests go on until a server has been replaced, too.
const REPLACED: &str = "\
stages:
  - name: one version
    apply: [canary/hello-server-v1.yaml, canary/hello-server-v2.yaml, canary/svc-hello.yaml, gateway-api/svc-hello-v1.yaml,
      gateway-api/svc-hello-v2.yaml, gateway.yaml, route-outside.yaml, route-inside.yaml]
    expect: [{from: visitors, get: {v1: 100%}}]
  - name: gateway replaced
    apply: [replaced.yaml]
    do: {restart: deployment/hello-server-v1}
    expect: [{from: visitors, get: {v1: 100%}}]
";

fn connections_to_a_gateway_whose_pods_end_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (http, h2c) = ("service: http://svc-hello:8080", "service: h2c://svc-hello:8080");
    let path = example(folder.path(), "ingress-gateway-api", "scenario.yaml", http, h2c);
    let scenario = Path::new(&path).join("scenario.yaml");
    let text = std::fs::read_to_string(&scenario).unwrap();
    let (head, _) = text.split_once("stages:\n").unwrap();
    std::fs::write(&scenario, format!("{head}{REPLACED}")).unwrap();
    let gateway = std::fs::read_to_string(scenario.with_file_name("gateway.yaml")).unwrap();
    let class = "  gatewayClassName: istio\n";
    let replaced = gateway.replace(class, &format!("{class}  infrastructure: {{labels: {{replaced: 'yes'}}}}\n"));
    assert_ne!(gateway, replaced);
    std::fs::write(scenario.with_file_name("replaced.yaml"), replaced).unwrap();
    let (printed, errors, code) =
        said(&shiftcheck(&["run", &path, "--cluster", "k3s", "--no-report"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains(" ended with GOAWAY"), "{printed}");
}

fn callers_outside_get_what_the_rules_of_the_gateway_say() {
    let (kept, printed) = Kept::by("fixtures/ingress");
    for line in ["visitors: v1 90 %, v2 10 % — v1 ", "testers: v2 — all ", "unknown-host: status 404 — all "] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    kept.kubectl(&["delete", "namespace", "ingress", "--timeout=60s"]);
    this_machine_reaches_the_gateway(&kept);
    assert_variants_hold(&kept);
    kept.remove();
}

fn this_machine_reaches_the_gateway(kept: &Kept) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = ("populations:", "traffic: {outside: host}\npopulations:");
    let path = example(folder.path(), "ingress", "scenario.yaml", from, to);
    let (printed, errors, code) = kept.run_with(Path::new(&path), &["--allow-reach"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in ["visitors: v1 90 %, v2 10 % — v1 ", "testers: v2 — all ", "unknown-host: status 404 — all "] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

fn callers_outside_reach_servers_by_the_name_in_the_handshake() {
    let output =
        shiftcheck(&["run", "fixtures/ingress-passthrough", "--cluster", "k3s", "--no-report"]).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in ["visitors: v1 80 %, v2 20 % — v1 ", "beta: v2 — all "] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

fn callers_outside_reach_a_gateway_that_istiod_makes() {
    let output =
        shiftcheck(&["run", "fixtures/ingress-gateway-api", "--cluster", "k3s", "--no-report"]).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in ["visitors: v1 90 %, v2 10 % — v1 ", "testers: v2 — all ", "unknown-host: status 404 — all "] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

fn callers_outside_reach_a_gateway_over_https_and_are_redirected_to_it() {
    let output = shiftcheck(&["run", "fixtures/ingress-tls", "--cluster", "k3s", "--no-report"]).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in [
        "visitors: v1 90 %, v2 10 % — v1 ",
        "testers: v2 — all ",
        "unknown-host: status 404 — all ",
        "without-tls: status 301 — all ",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

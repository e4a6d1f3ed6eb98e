//! Requests from outside of the mesh go through an ingress gateway, and get other shares than those in the mesh.

use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![
    callers_outside_get_what_the_rules_of_the_gateway_say(),
    callers_outside_reach_a_gateway_over_https_and_are_redirected_to_it(),
    callers_outside_reach_servers_by_the_name_in_the_handshake(),
    callers_outside_reach_a_gateway_that_istiod_makes()
];

fn callers_outside_get_what_the_rules_of_the_gateway_say() {
    let output = shiftcheck(&["run", "fixtures/ingress", "--cluster", "k3s", "--no-report"]).output().unwrap();
    let (printed, errors, code) = said(&output);
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

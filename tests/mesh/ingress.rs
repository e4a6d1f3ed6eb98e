//! Requests from outside of the mesh go through an ingress gateway, and get other shares than those in the mesh.

use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![callers_outside_get_what_the_rules_of_the_gateway_say()];

fn callers_outside_get_what_the_rules_of_the_gateway_say() {
    let output = shiftcheck(&["run", "fixtures/ingress", "--cluster", "k3s", "--no-report"]).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in ["visitors: v1 90 %, v2 10 % — v1 ", "testers: v2 — all ", "unknown-host: status 404 — all "] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

//! Requests from outside of the mesh go through an ingress gateway, and get other shares than those in the mesh; injected faults reach the
//! callers that a rule names.

use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![callers_outside_get_what_the_rules_of_the_gateway_say(), faults_reach_the_callers_that_a_rule_names(),];

fn callers_outside_get_what_the_rules_of_the_gateway_say() {
    holds("ingress", &["visitors: v1 90 %, v2 10 % — v1 ", "testers: v2 — all ", "unknown-host: status 404 — all "]);
}

fn faults_reach_the_callers_that_a_rule_names() {
    holds("fault-injection", &["writers: status 200 80 %, status 500 20 % — ", "chaos: status 418 — all "]);
}

fn holds(name: &str, lines: &[&str]) {
    let scenario = format!("fixtures/{name}");
    let output = shiftcheck(&["run", &scenario, "--cluster", "k3s", "--no-report"]).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in lines {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

//! Pods with other labels, in other namespaces and without a sidecar send at the same time, and each gets what the rules say for it.

use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![each_pod_gets_what_the_rules_say_for_it(): Paired];

fn each_pod_gets_what_the_rules_say_for_it() {
    let output = shiftcheck(&["run", "fixtures/callers", "--cluster", "k3s", "--no-report"]).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in [
        "batch: v2 — all ",
        "web: v1 20 %, v2 80 % — v1 ",
        "night-batch: v2 — all ",
        "partner: v2 — all ",
        "legacy: v1 66.7 %, v2 33.3 % — v1 ",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

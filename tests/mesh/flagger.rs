//! Flagger moves the traffic between two versions, and each step is checked; what its promotion breaks is found.

use std::path::Path;
use std::time::Instant;

use crate::cluster::Kept;
use crate::common::ROOT;
use crate::harness::tests;

tests![flagger_moves_the_traffic_and_what_its_promotion_breaks_is_told()];

fn flagger_moves_the_traffic_and_what_its_promotion_breaks_is_told() {
    let scenario = Path::new(ROOT).join("fixtures/flagger-canary");
    let (kept, printed) = Kept::ending_with(1, &scenario.to_string_lossy());
    for line in [
        "Canary/hello: Progressing, weight 25 %: New revision detected, progressing canary analysis.",
        "weights in the route: canary 25 %, stable 75 % — the route has canary 25 %, stable 75 %",
        "weight reported by the controller: 25 % — it reports 25 %",
        "ok 3/4 50 %",
        "FAIL 4/4 promotion",
        "✗ during the change: at most 0 errors, no v1 after 2s — ",
        "because pods without a preStop hook ended during the change: hello-",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    other_canaries_hold(&kept);
    kept.remove();
}

/// Scenarios that pass, one after another on the cluster that has Flagger already; `flagger-ab` and `flagger-mirror` pass as well, but take
/// 100 s each.
fn other_canaries_hold(kept: &Kept) {
    for name in ["rollback", "canary-drained"] {
        let begun = Instant::now();
        let (printed, errors, code) = kept.run(&Path::new(ROOT).join(format!("fixtures/flagger-{name}")));
        assert_eq!(code, Some(0), "{printed}{errors}");
        assert!(printed.contains("Flagger v1.36.1, found in flagger-system"), "{printed}");
        eprintln!("flagger-{name} took {:.0} s", begun.elapsed().as_secs_f64());
    }
}

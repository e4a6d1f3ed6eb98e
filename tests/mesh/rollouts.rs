//! Argo Rollouts moves the traffic between two versions, and each step is checked.

use std::path::Path;

use crate::cluster::Kept;
use crate::common::ROOT;
use crate::harness::tests;

tests![argo_rollouts_moves_the_traffic_step_by_step()];

fn argo_rollouts_moves_the_traffic_step_by_step() {
    let scenario = Path::new(ROOT).join("fixtures/rollouts-subset");
    let (kept, printed) = Kept::by(&scenario.to_string_lossy());
    for line in [
        "ok 2/5 20 %",
        "Rollout/hello: Paused at step 1 of 4, weight 20 %: CanaryPauseStep",
        "weights in the route: canary 20 %, stable 80 % — the route has canary 20 %, stable 80 %",
        "weight reported by the controller: 20 % — it reports 20 %",
        "Rollout/hello: Degraded at step 0 of 4, weight 0 %: RolloutAborted",
        "ok 5/5 promotion",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    kept.remove();
}

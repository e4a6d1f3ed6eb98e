//! Argo Rollouts moves the traffic between two versions, on a cluster of its own and on an existing one; each step is checked.

use std::path::Path;

use crate::cluster::Kept;
use crate::common::{ROOT, said, shiftcheck};
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
    // the controller that is there serves the next run
    let arguments = ["--cluster", "kubeconfig", "--kubeconfig", &kept.kubeconfig.to_string_lossy(), "--until", "2"];
    let scenario = scenario.to_string_lossy();
    let mut command = shiftcheck(&[&["run", &scenario, "--namespace", "another"], &arguments[..]].concat());
    let (printed, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("Argo Rollouts v1.10.1, found in argo-rollouts ready"), "{printed}");
    assert!(printed.contains("ok 2/2 20 %"), "{printed}");
    kept.remove();
}

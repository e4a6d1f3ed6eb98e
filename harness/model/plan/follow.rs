use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::during::{HIGHEST_RATE, shown_time};
use super::stages::PlannedStage;
use crate::scenario::{ControllerKind, DeclaredClaim, Origin};
use crate::verdict::DeclaredDesign;

/// The time at the ends of a step whose requests do not count, in addition to the lag: the route is read now and then, and a request that was
/// sent before a write may be routed after it.
const UNSETTLED: Duration = Duration::from_secs(1);

/// A step of a Rollout is too short for a claim about its shares.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "the weight {weight} % lasts {}, too short for the claim in {claim}: {requests} requests at {rate} per second, after a lag of {}, take {}",
    shown_time(*lasts), shown_time(*lag), shown_time(*takes)
)]
#[expect(missing_docs, reason = "the message says what the fields are")]
pub struct ShortStep {
    pub weight: u64,
    pub lasts: Duration,
    pub claim: Origin,
    pub requests: u64,
    pub rate: u32,
    pub lag: Duration,
    pub takes: Duration,
}

/// A weight of a Rollout with the sum of its pauses.
#[derive(Debug, PartialEq)]
struct Weight {
    percent: u64,
    /// None if a step other than a pause determines it.
    lasts: Option<Duration>,
    /// The index of the last step with this weight.
    step: usize,
}

/// The first step of a followed Rollout that is known to be too short for a claim: its place, and why.
pub(super) fn refused(planned: &PlannedStage<'_>) -> Option<(Origin, ShortStep)> {
    let scenario = planned.after.scenario;
    let controlled = scenario.controller.as_ref().filter(|own| own.kind == ControllerKind::ArgoRollouts)?;
    planned.stage.wait.as_ref()?.follows.as_ref()?;
    let rollout = planned.stage.applied().find(|manifest| controlled.is(manifest))?;
    let steps = "/spec/strategy/canary/steps";
    let weights = weights(rollout.at(steps)?.as_array()?);
    let populations = u32::try_from(scenario.populations.len()).unwrap_or(u32::MAX);
    let rate = (HIGHEST_RATE / populations.max(1)).max(1);
    weights.iter().find_map(|weight| {
        let lasts = weight.lasts?;
        // traffic that is all given to the new version stays so after the last step
        let is_end = weight.percent == 100 && weight.step + 1 == rollout.at(steps)?.as_array()?.len();
        let mut short = planned.stage.declared().filter_map(|claim| short(weight.percent, lasts, claim, rate));
        let short = short.next().filter(|_| !is_end)?;
        Some((rollout.origin_of(&format!("{steps}/{}", weight.step)), short))
    })
}

#[expect(clippy::cast_precision_loss, reason = "percent, and numbers of requests far below 2^52")]
fn short(weight: u64, lasts: Duration, claim: &DeclaredClaim, rate: u32) -> Option<ShortStep> {
    let requests = DeclaredDesign::new(claim.errors, 1).requests(weight as f64 / 100.0);
    let takes = claim.lag + UNSETTLED + Duration::from_secs_f64(requests as f64 / f64::from(rate));
    let (claim, lag) = (claim.origin.clone(), claim.lag);
    (lasts < takes).then_some(ShortStep { weight, lasts, claim, requests, rate, lag, takes })
}

fn weights(steps: &[Value]) -> Vec<Weight> {
    let mut weights: Vec<Weight> = Vec::new();
    for (step, value) in steps.iter().enumerate() {
        if let Some(percent) = value["setWeight"].as_u64() {
            match weights.last_mut().filter(|last| last.percent == percent) {
                Some(last) => last.step = step,
                None => weights.push(Weight { percent, lasts: Some(Duration::ZERO), step }),
            }
        } else if let Some(last) = weights.last_mut() {
            let pause = value.get("pause").and_then(|pause| duration(&pause["duration"]));
            last.lasts = last.lasts.zip(pause).map(|(lasts, pause)| lasts + pause);
            last.step = step;
        }
    }
    weights
}

/// The duration of a pause: seconds, or a text such as `1m30s`.
fn duration(written: &Value) -> Option<Duration> {
    if let Some(seconds) = written.as_u64().or_else(|| written.as_str()?.parse().ok()) {
        return Some(Duration::from_secs(seconds));
    }
    let duration: jiff::SignedDuration = written.as_str()?.parse().ok()?;
    Duration::try_from(duration).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::plan::{Designs, Plan};
    use crate::scenario::Scenario;

    fn weight(percent: u64, seconds: Option<u64>, step: usize) -> Weight {
        Weight { percent, lasts: seconds.map(Duration::from_secs), step }
    }

    #[rstest]
    #[case::seconds(json!([{"setWeight": 10}, {"pause": {"duration": 20}}]), vec![weight(10, Some(20), 1)])]
    #[case::text(json!([{"setWeight": 10}, {"pause": {"duration": "1m30s"}}, {"setWeight": 50}]), vec![weight(10, Some(90), 1), weight(50, Some(0), 2)])]
    #[case::digits(json!([{"setWeight": 10}, {"pause": {"duration": "30"}}]), vec![weight(10, Some(30), 1)])]
    #[case::two_pauses(json!([{"setWeight": 10}, {"pause": {"duration": "2s"}}, {"setWeight": 10}, {"pause": {"duration": "3s"}}]), vec![weight(10, Some(5), 3)])]
    #[case::analysis(json!([{"setWeight": 10}, {"analysis": {}}, {"pause": {"duration": "3s"}}]), vec![weight(10, None, 2)])]
    #[case::no_weight(json!([{"pause": {"duration": "3s"}}]), vec![])]
    fn a_weight_lasts_as_long_as_its_pauses(#[case] steps: Value, #[case] expected: Vec<Weight>) {
        assert_eq!(weights(steps.as_array().unwrap()), expected);
    }

    /// Why the scenario with timed steps is refused if a stage has other claims, or other pauses.
    fn timed(claim: &str, pause: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        for name in ["canary", "rollouts-subset", "rollouts-timed"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            for file in std::fs::read_dir(fixtures.join(name)).unwrap().flatten() {
                let text = std::fs::read_to_string(file.path()).unwrap();
                let text = text.replacen("get: as-declared, lag: 2s", claim, 1).replacen("{duration: 8s}", pause, 1);
                std::fs::write(folder.path().join(name).join(file.file_name()), text).unwrap();
            }
        }
        let scenario = Scenario::read(folder.path().join("rollouts-timed")).unwrap();
        let refused = Designs::new(&Plan::new(&scenario)).err();
        refused.map(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[rstest]
    #[case::long_enough("get: as-declared, lag: 2s", "{duration: 4s}", None)]
    #[case::short(
        "get: as-declared, lag: 2s",
        "{duration: 3s}",
        Some(
            "rollouts-timed/rollout-v2.yaml:27:11: the weight 10 % lasts 3 s, too short for the claim in rollouts-timed/scenario.yaml:24:9: 1010 requests at 1200 per second, after a lag of 2 s, take 3.84 s"
        )
    )]
    #[case::small_deviation(
        "get: as-declared, error-rates: {deviation: 1%}",
        "{duration: 20s}",
        Some(
            "rollouts-timed/rollout-v2.yaml:27:11: the weight 10 % lasts 20 s, too short for the claim in rollouts-timed/scenario.yaml:24:9: 80460 requests at 1200 per second, after a lag of 2 s, take 70.05 s"
        )
    )]
    #[case::long_lag(
        "get: as-declared, lag: 9s",
        "{duration: 20s}",
        Some(
            "rollouts-timed/rollout-v2.yaml:29:11: the weight 50 % lasts 8 s, too short for the claim in rollouts-timed/scenario.yaml:24:9: 2123 requests at 1200 per second, after a lag of 9 s, take 11.77 s"
        )
    )]
    fn a_step_that_is_too_short_is_refused(#[case] claim: &str, #[case] pause: &str, #[case] expected: Option<&str>) {
        assert_eq!(timed(claim, pause).as_deref(), expected);
    }
}

use super::claim::counted;
use crate::events::{FailureLayer, Judged, Subject};
use crate::plan::RouteWeights;
use crate::routing::Chance;
use crate::scenario::{ControllerWait, FollowedWeight};
use crate::verdict::{Ruling, Verdict};

/// A weight that the route had on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Canary(Chance),
    Experiment(Chance),
}

impl Seen {
    fn is(self, claimed: FollowedWeight) -> bool {
        let ((Self::Canary(seen), FollowedWeight::Canary(claimed))
        | (Self::Experiment(seen), FollowedWeight::Experiment(claimed))) = (self, claimed)
        else {
            return false;
        };
        (seen.fraction() - claimed.fraction()).abs() < 1e-9
    }

    fn shown(self) -> String {
        match self {
            Self::Canary(weight) => weight.to_string(),
            Self::Experiment(weight) => format!("{weight} for an experiment"),
        }
    }
}

/// Judges the weights that were written to a route after the initial ones. None where the stage names no weights. The weights of experiments
/// count where the stage names one.
pub(crate) fn judge_followed(
    wait: &ControllerWait,
    initial: Option<RouteWeights>,
    written: &[RouteWeights],
) -> Option<Judged> {
    let claimed = wait.follows.as_ref().filter(|claimed| !claimed.is_empty())?;
    let names_experiment = claimed.iter().any(|own| matches!(own, FollowedWeight::Experiment(_)));
    let mut seen = changes(initial, written);
    if !names_experiment {
        seen.retain(|own| matches!(own, Seen::Canary(_)));
    }
    let is_claimed =
        |seen: &[Seen]| seen.len() == claimed.len() && seen.iter().zip(claimed).all(|(own, claimed)| own.is(*claimed));
    // in the end, the new version is the old one for the next rollout
    let without_end = seen.split_last().filter(|(last, _)| **last == Seen::Canary(Chance::NONE)).map(|(_, rest)| rest);
    let holds = is_claimed(&seen) || without_end.is_some_and(is_claimed);
    let listed = |shown: Vec<String>| if shown.is_empty() { "no other weight".to_owned() } else { shown.join(", ") };
    let reason = format!("the route had {}", listed(seen.iter().map(|own| own.shown()).collect()));
    let claim = format!("{} on the way", listed(claimed.iter().map(ToString::to_string).collect()));
    let ruling = if holds { Ruling::Pass } else { Ruling::Fail };
    let layer = (!holds).then_some(FailureLayer::Route);
    Some(counted(Subject::Weights, claim, Verdict::counted(ruling, 0, reason), wait.origin.clone(), layer))
}

/// Each new weight, in order; the end of an experiment is none.
fn changes(initial: Option<RouteWeights>, written: &[RouteWeights]) -> Vec<Seen> {
    let (mut canary, mut others) = (initial.map(|own| own.canary), initial.map_or(Chance::NONE, RouteWeights::others));
    let mut seen = Vec::new();
    for weights in written {
        if weights.others() != others && weights.others() != Chance::NONE {
            seen.push(Seen::Experiment(weights.others()));
        }
        if canary != Some(weights.canary) {
            seen.push(Seen::Canary(weights.canary));
        }
        (canary, others) = (Some(weights.canary), weights.others());
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::super::fixtures::place;
    use super::*;
    use crate::scenario::{Phase, Share};

    fn wait(follows: Vec<FollowedWeight>) -> ControllerWait {
        ControllerWait {
            step: None,
            weight: None,
            phase: Some(Phase::Healthy),
            within: Duration::from_secs(1),
            follows: Some(follows),
            origin: place(),
        }
    }

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    /// The weights of the new version and of an experiment, in percent; the rest is the old version's.
    fn weights(canary: u64, others: u64) -> RouteWeights {
        RouteWeights { canary: Chance::of(canary, 100), stable: Chance::of(100 - canary - others, 100) }
    }

    #[rstest]
    #[case::as_claimed(&[10, 50, 100], Ruling::Pass, "the route had 10 %, 50 %, 100 %")]
    #[case::and_back(&[10, 50, 100, 0], Ruling::Pass, "the route had 10 %, 50 %, 100 %, 0 %")]
    #[case::written_twice(&[0, 10, 10, 50, 100], Ruling::Pass, "the route had 10 %, 50 %, 100 %")]
    #[case::one_is_left_out(&[10, 100, 0], Ruling::Fail, "the route had 10 %, 100 %, 0 %")]
    #[case::one_more(&[10, 30, 50, 100], Ruling::Fail, "the route had 10 %, 30 %, 50 %, 100 %")]
    #[case::none(&[], Ruling::Fail, "the route had no other weight")]
    fn weights_on_the_way(#[case] written: &[u64], #[case] ruling: Ruling, #[case] reason: &str) {
        let claimed = ["10%", "50%", "100%"].map(|text| FollowedWeight::Canary(share(text)));
        let written: Vec<RouteWeights> = written.iter().map(|percent| weights(*percent, 0)).collect();
        let judged = judge_followed(&wait(claimed.into()), Some(weights(0, 0)), &written).unwrap();
        assert_eq!((judged.verdict.ruling, judged.verdict.reason.as_str()), (ruling, reason));
        assert_eq!(judged.claim, "10 %, 50 %, 100 % on the way");
        assert!(judge_followed(&wait(Vec::new()), None, &written).is_none());
    }

    #[rstest]
    #[case::as_claimed(&[(0, 10), (0, 0), (50, 0), (100, 0), (0, 0)], Ruling::Pass, "the route had 10 % for an experiment, 50 %, 100 %, 0 %")]
    #[case::never_written(&[(50, 0), (100, 0)], Ruling::Fail, "the route had 50 %, 100 %")]
    #[case::another_weight(&[(0, 20), (0, 0), (50, 0), (100, 0)], Ruling::Fail, "the route had 20 % for an experiment, 50 %, 100 %")]
    #[case::after_a_step(&[(50, 0), (50, 10), (50, 0), (100, 0)], Ruling::Fail, "the route had 50 %, 10 % for an experiment, 100 %")]
    fn an_experiment_on_the_way(#[case] written: &[(u64, u64)], #[case] ruling: Ruling, #[case] reason: &str) {
        let canary = |text| FollowedWeight::Canary(share(text));
        let claimed = vec![FollowedWeight::Experiment(share("10%")), canary("50%"), canary("100%")];
        let written: Vec<RouteWeights> = written.iter().map(|(own, others)| weights(*own, *others)).collect();
        let judged = judge_followed(&wait(claimed), Some(weights(0, 0)), &written).unwrap();
        assert_eq!((judged.verdict.ruling, judged.verdict.reason.as_str()), (ruling, reason));
        assert_eq!(judged.claim, "10 % for an experiment, 50 %, 100 % on the way");
    }
}

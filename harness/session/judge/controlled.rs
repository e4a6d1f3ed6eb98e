use super::claim::counted;
use crate::events::{FailureLayer, Judged, Subject};
use crate::plan::RouteWeights;
use crate::scenario::{Expectation, Share, Stage, Weights};
use crate::verdict::{Ruling, Verdict};

/// Judges the claims of a stage about the weights in the live route, and about the weight that the controller reports in percent.
pub(crate) fn judge_controlled(stage: &Stage, route: Option<RouteWeights>, reported: Option<u32>) -> Vec<Judged> {
    let claims = stage.expect.iter().filter_map(|expectation| {
        let (subject, claim, found, origin) = match expectation {
            Expectation::Weights { weights, origin } => {
                (Subject::Weights, weights.to_string(), in_route(*weights, route), origin)
            }
            Expectation::Reports { weight, origin } => {
                (Subject::Reports, weight.to_string(), in_status(*weight, reported), origin)
            }
            _ => return None,
        };
        let (ruling, reason) = found;
        let layer = (ruling == Ruling::Fail).then_some(FailureLayer::Route);
        Some(counted(subject, claim, Verdict::counted(ruling, 0, reason), origin.clone(), layer))
    });
    claims.collect()
}

fn in_route(claimed: Weights, route: Option<RouteWeights>) -> (Ruling, String) {
    let Some(route) = route else {
        return (Ruling::Fail, "no route has a destination for each of the two versions".to_owned());
    };
    let is_claimed = |claimed: Share, written: f64| (claimed.fraction() - written).abs() < 1e-9;
    let holds =
        is_claimed(claimed.canary, route.canary.fraction()) && is_claimed(claimed.stable, route.stable.fraction());
    (if holds { Ruling::Pass } else { Ruling::Fail }, format!("the route has {route}"))
}

fn in_status(claimed: Share, reported: Option<u32>) -> (Ruling, String) {
    match reported {
        Some(weight) if claimed.is_percent(weight) => (Ruling::Pass, format!("it reports {weight} %")),
        Some(weight) => (Ruling::Fail, format!("it reports {weight} %")),
        None => (Ruling::Fail, "it reports no weight".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::routing::Chance;

    fn weights(canary: u64) -> RouteWeights {
        RouteWeights { canary: Chance::of(canary, 100), stable: Chance::of(100 - canary, 100) }
    }

    #[rstest]
    #[case::as_claimed(Some(weights(20)), Ruling::Pass, "the route has canary 20 %, stable 80 %")]
    #[case::otherwise(Some(weights(21)), Ruling::Fail, "the route has canary 21 %, stable 79 %")]
    #[case::no_route(None, Ruling::Fail, "no route has a destination for each of the two versions")]
    fn weights_in_the_route(#[case] route: Option<RouteWeights>, #[case] ruling: Ruling, #[case] reason: &str) {
        let claimed = Weights { canary: "20%".parse().unwrap(), stable: "80%".parse().unwrap() };
        assert_eq!(in_route(claimed, route), (ruling, reason.to_owned()));
    }

    #[rstest]
    #[case::as_claimed(Some(20), Ruling::Pass, "it reports 20 %")]
    #[case::otherwise(Some(0), Ruling::Fail, "it reports 0 %")]
    #[case::nothing(None, Ruling::Fail, "it reports no weight")]
    fn a_reported_weight(#[case] reported: Option<u32>, #[case] ruling: Ruling, #[case] reason: &str) {
        assert_eq!(in_status("20%".parse().unwrap(), reported), (ruling, reason.to_owned()));
    }
}

use std::collections::BTreeMap;

use crate::cluster::{ClusterError, NotEmbedded, StandIns};
use crate::demo::{ARROW, DemoImage};
use crate::plan::Plan;
use crate::scenario::{Claim, Origin, Stage, Statuses};

/// The images of a plan that need a stand-in, each with the versions that its pods state.
pub(super) fn images(plan: &Plan<'_>) -> BTreeMap<String, Vec<String>> {
    let client = &plan.scenario.client;
    let mut images: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in plan.stages.iter().flat_map(|planned| planned.after.pods()) {
        if client.is_driver(&pod.name) || pod.image.is_empty() || DemoImage::find(&pod.image).is_some() {
            continue;
        }
        let versions = images.entry(pod.image).or_default();
        if !versions.contains(&pod.version) {
            versions.push(pod.version);
        }
    }
    images
}

/// The stand-ins of a plan.
///
/// # Errors
/// A claim needs a response that no stand-in gives.
pub(super) fn stand_ins(plan: &Plan<'_>) -> Result<StandIns, ClusterError> {
    let scenario = plan.scenario;
    let stand_ins = StandIns::of(scenario);
    let refused = |origin: &Origin, source| Err(ClusterError::NotEmbedded { origin: origin.clone(), source });
    for (image, versions) in images(plan) {
        if scenario.calls().is_none() {
            return refused(&scenario.version_origin, NotEmbedded::Descriptors(image));
        }
        for version in versions.into_iter().filter(|version| !stand_ins.can_state(version)) {
            let claims = |claim: &&Claim| claim.versions.keys().any(|own| own.split(ARROW).any(|own| own == version));
            // a version that no claim names may be missing: the response counts for none of the claimed ones
            let Some(claim) = scenario.stages.iter().flat_map(Stage::claims).find(claims) else { continue };
            let rule = scenario.version.to_string();
            return refused(&claim.origin, NotEmbedded::Version { image, version, rule });
        }
    }
    let success = scenario.service.scheme.success();
    for planned in &plan.stages {
        let senders = planned.after.senders();
        for claim in planned.stage.claims() {
            let (Statuses::Claimed(claimed), Some(population)) = (&claim.statuses, scenario.population(&claim.from))
            else {
                continue;
            };
            let given = planned.after.given(population, &claim.path, &senders);
            let from_stand_ins = given.chance(|seen| seen.version.is_some() && seen.status.is_none());
            if from_stand_ins.fraction() > claim.statuses.share(success).fraction() {
                let others = claimed.iter().filter(|(status, share)| **status != success && !share.is_none());
                let needed = others.map(|(status, _)| status.to_string()).collect::<Vec<_>>().join(" and ");
                return refused(&claim.origin, NotEmbedded::Status { needed });
            }
        }
    }
    Ok(stand_ins)
}

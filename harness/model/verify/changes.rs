use std::collections::BTreeSet;

use super::given::Given;
use super::stages::Stages;
use crate::scenario::{Scenario, Stage};

/// A population that is given something else than before.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The stage, as the newer version counts it.
    pub number: usize,
    /// Its name.
    pub stage: String,
    /// The population.
    pub from: String,
    /// The path.
    pub path: String,
    /// What it was given before; none where there was no such stage.
    pub before: Option<Given>,
    /// What it is given now.
    pub after: Given,
}

/// What differs between two versions of a scenario and its manifests in what each population of the newer one is given at each stage, on
/// every path that a claim names. Stages are paired by name, or by position where no other has the name.
#[must_use]
pub fn changes(before: &Scenario, after: &Scenario) -> Vec<Change> {
    let claims = [before, after].into_iter().flat_map(|scenario| scenario.stages.iter().flat_map(Stage::claims));
    let paths: BTreeSet<&str> = claims.map(|claim| claim.path.as_str()).chain(["/"]).collect();
    let earlier = all(before, after, &paths);
    let mut changes = Vec::new();
    for (number, (stage, now)) in (1..).zip(all(after, after, &paths)) {
        let paired = earlier.iter().find(|(name, _)| *name == stage).or_else(|| {
            let same_place = earlier.get(number - 1)?;
            (!after.stages.iter().any(|other| other.name == same_place.0)).then_some(same_place)
        });
        for (index, (from, path, given)) in now.into_iter().enumerate() {
            let then = paired.map(|(_, then)| then[index].2.clone());
            if then.as_ref().is_none_or(|then| then.seen != given.seen) {
                changes.push(Change { number, stage: stage.clone(), from, path, before: then, after: given });
            }
        }
    }
    changes
}

type All = Vec<(String, Vec<(String, String, Given)>)>;

/// What the populations of `callers` are given at each stage of a scenario.
fn all(scenario: &Scenario, callers: &Scenario, paths: &BTreeSet<&str>) -> All {
    let mut stages = Stages::new(scenario);
    let mut all = Vec::new();
    while let Some(stage) = stages.advance() {
        let mesh = stages.mesh();
        let outbound = mesh.outbound(stages.client());
        let mut given = Vec::new();
        for population in &callers.populations {
            for path in paths {
                let own = Given::to(population, &scenario.service, path, &outbound);
                given.push((population.name.clone(), (*path).to_owned(), own));
            }
        }
        all.push((stage.name.clone(), given));
    }
    all
}

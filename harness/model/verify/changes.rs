use std::collections::BTreeSet;

use crate::plan::{Given, Plan, PlannedStage};
use crate::scenario::{Scenario, Stage};

/// A difference in what a population is given, between two versions of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenChange {
    /// The position of the stage in the newer version, from 1.
    pub number: usize,
    /// The name of the stage in the newer version.
    pub stage: String,
    /// The population.
    pub from: String,
    /// The path.
    pub path: String,
    /// What the population is given by the older version; none if that version has no such stage.
    pub before: Option<Given>,
    /// What the population is given by the newer version.
    pub after: Given,
}

/// Compares what two versions of a scenario give each population of the newer version, at each stage and on every path that a claim
/// names. Stages are paired by name, otherwise by position.
pub fn changes(before: &Plan<'_>, after: &Plan<'_>) -> Vec<GivenChange> {
    let scenario = after.scenario;
    let stages = [before, after].into_iter().flat_map(|plan| &plan.scenario.stages);
    let claimed = stages.flat_map(Stage::asked).map(|(_, path)| path);
    let paths: BTreeSet<&str> = claimed.chain([scenario.service.path.as_str()]).collect();
    let earlier = given_by_stage(before, scenario, &paths);
    let mut changes = Vec::new();
    for (number, (stage, now)) in (1..).zip(given_by_stage(after, scenario, &paths)) {
        let paired = earlier.iter().find(|(name, _)| *name == stage).or_else(|| {
            let same_place = earlier.get(number - 1)?;
            (!scenario.stages.iter().any(|other| other.name == same_place.0)).then_some(same_place)
        });
        for (index, (from, path, given)) in now.into_iter().enumerate() {
            let then = paired.map(|(_, then)| then[index].2.clone());
            if then.as_ref().is_none_or(|then| then.differs_from(&given) || unknown(then) != unknown(&given)) {
                changes.push(GivenChange { number, stage: stage.clone(), from, path, before: then, after: given });
            }
        }
    }
    changes
}

/// The names of what the model does not cover and what can affect these responses.
fn unknown(given: &Given) -> BTreeSet<&str> {
    given.not_modelled.iter().map(|note| note.field.as_str()).collect()
}

/// By stage name, what each population is given on each path.
type GivenByStage = Vec<(String, Vec<(String, String, Given)>)>;

/// What the populations of `callers` are given at each stage of a plan.
fn given_by_stage(plan: &Plan<'_>, callers: &Scenario, paths: &BTreeSet<&str>) -> GivenByStage {
    let of_stage = |planned: &PlannedStage<'_>| {
        let senders = planned.after.senders();
        let mut given = Vec::new();
        for population in &callers.populations {
            for path in paths {
                let on_path = planned.after.given(population, path, &senders);
                given.push((population.name.clone(), (*path).to_owned(), on_path));
            }
        }
        (planned.stage.name.clone(), given)
    };
    plan.stages.iter().map(of_stage).collect()
}

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde_json::Value;

use super::decided::Decided;
use super::operators::{Mutation, Vocabulary, mutations};
use super::stages::decide_stage;
use crate::demo::ARROW;
use crate::plan::{Given, Plan, PlannedStage, Seen};
use crate::routing::Chance;
use crate::scenario::{Manifest, Scenario, Service, Stage, StatusCode, Step};

/// A scenario with one fault in its manifests.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// The mutation operator, one of [`MUTATION_OPERATORS`](super::MUTATION_OPERATORS).
    pub operator: &'static str,
    /// What was changed where: `VirtualService/vs-hello (vs-hello-testers.yaml:11:11): weights 60 and 40 instead of 50 and 50`.
    pub what: String,
    /// The position of the stage that applies the changed manifest, from 1.
    pub stage: usize,
    fault: Fault,
}

/// The fault of a mutant. Objects that it does not change stay shared with the scenario, and the changed one is made where it is needed: a
/// large object can have thousands of mutants.
#[derive(Debug, Clone)]
enum Fault {
    /// The object that a stage, by its index, applies at a position has another value at a JSON pointer.
    Changed(usize, usize, String, Value),
    /// A stage, by its index, lacks the step at a position.
    Dropped(usize, usize),
    /// The pod of this name, which sends requests, has no sidecar.
    NotInjected(String),
}

impl Mutant {
    /// A scenario with the fault of this mutant, which was made from that scenario.
    ///
    /// # Panics
    /// The mutant was made from another scenario.
    #[must_use]
    pub fn applied_to(&self, scenario: &Scenario) -> Scenario {
        let mut mutated = scenario.clone();
        match &self.fault {
            Fault::Changed(stage, step, pointer, value) => {
                if let Step::Apply(manifest) = &mut mutated.stages[*stage].steps[*step]
                    && let Some(present) = Arc::make_mut(manifest).object.data.pointer_mut(pointer)
                {
                    present.clone_from(value);
                }
            }
            Fault::Dropped(stage, step) => drop(mutated.stages[*stage].steps.remove(*step)),
            Fault::NotInjected(pod) => {
                let is_pod = |manifest: &&mut Manifest| manifest.kind() == "Pod" && manifest.name() == pod;
                for manifest in mutated.client.manifests.iter_mut().filter(is_pod) {
                    let labels = manifest.object.metadata.labels.get_or_insert_default();
                    labels.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
                }
            }
        }
        mutated
    }
}

/// The result of evaluating a mutant.
#[derive(Debug, Clone, PartialEq)]
pub enum MutantStatus {
    /// At every stage, every population is given the same as without the fault.
    Equivalent,
    /// A claim fails, and a sample would detect it: the first such claim.
    Killed(Kill),
    /// A population is given something else, and no claim detects it.
    Survived(Gap),
    /// No claim fails, but something that the model does not cover can affect one.
    Undecided,
}

/// The claim that kills a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The stage, from 1.
    pub stage: usize,
    /// The claim: `testers: v1 50 %, v2 50 %`.
    pub claim: String,
}

/// A change that no claim detects, and the claim that would.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// The stage, from 1.
    pub stage: usize,
    /// The stage's name.
    pub name: String,
    /// The missing claim, in the syntax of a scenario.
    pub claim: String,
}

/// Returns every mutant of a scenario: each mutation operator applied wherever it fits.
pub fn mutants(scenario: &Scenario) -> Vec<Mutant> {
    let vocabulary = Vocabulary::of(scenario);
    let mut mutants = Vec::new();
    for (index, stage) in scenario.stages.iter().enumerate() {
        for (position, step) in stage.steps.iter().enumerate() {
            let Step::Apply(manifest) = step else { continue };
            for Mutation { operator, pointer, what, value } in mutations(manifest, &vocabulary) {
                let what = format!("{} ({}): {what}", manifest.id(), manifest.origin_of(&pointer));
                let fault = match value {
                    Some(value) => Fault::Changed(index, position, pointer, value),
                    None => Fault::Dropped(index, position),
                };
                mutants.push(Mutant { operator, what, stage: index + 1, fault });
            }
        }
    }
    mutants.extend(not_injected(scenario));
    mutants
}

fn not_injected(scenario: &Scenario) -> impl Iterator<Item = Mutant> {
    let client = &scenario.client;
    let injected = client.others.iter().filter(|other| other.sidecar).map(|other| &other.name);
    std::iter::once(&client.pod).chain(injected).filter_map(|pod| {
        let manifest = client.manifests.iter().find(|manifest| manifest.kind() == "Pod" && manifest.name() == pod)?;
        let what = format!("{} ({}): without a sidecar", manifest.id(), manifest.origin);
        Some(Mutant { operator: "client not injected", what, stage: 1, fault: Fault::NotInjected(pod.clone()) })
    })
}

/// Evaluates a mutant of the planned scenario exactly, by the routing model.
pub fn evaluate(original: &Plan<'_>, mutant: &Mutant) -> MutantStatus {
    let scenario = mutant.applied_to(original.scenario);
    let mutated = Plan::of(&scenario, &scenario.namespace, original.istio.as_ref());
    let (mut gap, mut undecided) = (None, false);
    for (original, mutated) in original.stages.iter().zip(&mutated.stages) {
        let decided = decide_stage(mutated);
        if let Some(claim) = decided.claims.iter().find(|claim| claim.decided.is_detectable()) {
            let claim = claim.expectation.to_string();
            return MutantStatus::Killed(Kill { stage: decided.number, claim });
        }
        undecided |= decided.claims.iter().any(|claim| matches!(claim.decided, Decided::Undecided(_)));
        gap = gap.or_else(|| find_gap(original, mutated, &mut undecided));
    }
    if undecided {
        return MutantStatus::Undecided;
    }
    gap.map_or(MutantStatus::Equivalent, MutantStatus::Survived)
}

/// The first population that a mutant gives something else at a stage, on any path that the scenario claims. What is not known, because
/// something unmodelled can affect it, is not compared: it sets `undecided`.
fn find_gap(original: &PlannedStage<'_>, mutated: &PlannedStage<'_>, undecided: &mut bool) -> Option<Gap> {
    let (before, after) = (original.after.senders(), mutated.after.senders());
    let scenario = original.after.scenario;
    let mut paths: Vec<&str> = scenario.stages.iter().flat_map(Stage::asked).map(|(_, path)| path).collect();
    paths.sort_unstable();
    paths.dedup();
    for population in &scenario.populations {
        for path in &paths {
            let given = original.after.given(population, path, &before);
            let other = mutated.after.given(population, path, &after);
            if !given.not_modelled.is_empty() || !other.not_modelled.is_empty() {
                *undecided = true;
            } else if given.differs_from(&other) {
                let is_split = given.seen.len() > 1;
                let lost = given.kept().into_iter().find(|version| !other.kept().contains(version));
                let claim = if let Some(version) = lost {
                    as_claim_about_sessions(&population.name, path, &format!("keep: {version}"))
                } else if given.seen == other.seen && given.delays == other.delays {
                    as_claim_about_sessions(&population.name, path, "stay: 100%")
                } else if given.seen == other.seen {
                    as_claim_about_time(&population.name, path, &given, &other)
                } else if population.sessions.is_some() && given.sessions_stay() == Some(true) && is_split {
                    let get = listed(&totals(&given, |seen| seen.version.as_deref()));
                    as_claim_about_sessions(&population.name, path, &format!("get: {{{get}}}"))
                } else {
                    as_claim(&population.name, path, &scenario.service, &given)
                };
                return Some(Gap { stage: original.number, name: original.stage.name.clone(), claim });
            }
        }
    }
    None
}

/// The probability of each version, status or other property of what is given.
fn totals<'a, K: Ord>(given: &'a Given, of: impl Fn(&'a Seen) -> Option<K>) -> BTreeMap<K, Chance> {
    let mut totals = BTreeMap::new();
    for (seen, chance) in &given.seen {
        if let Some(key) = of(seen) {
            let total = totals.entry(key).or_insert(Chance::NONE);
            *total = total.or(*chance);
        }
    }
    totals
}

/// `v1: 50%, v2: 50%`.
fn listed<K: Display>(totals: &BTreeMap<K, Chance>) -> String {
    let percent = |chance: &Chance| (chance.fraction() * 1e4).round() / 1e2;
    totals.iter().map(|(key, chance)| format!("{key}: {}%", percent(chance))).collect::<Vec<_>>().join(", ")
}

/// What is given, as a claim in the syntax of a scenario.
fn as_claim(from: &str, path: &str, service: &Service, given: &Given) -> String {
    let versions = totals(given, |seen| seen.version.as_deref());
    let statuses = totals(given, |seen| Some(StatusCode(seen.status.unwrap_or(service.scheme.success()))));
    let path = if path == service.path { String::new() } else { format!(", path: {path}") };
    let (get, status) = (listed(&versions), listed(&statuses));
    let key = if get.contains(ARROW) { "path-of-versions" } else { "get" };
    let get = if get.is_empty() { String::new() } else { format!(", {key}: {{{get}}}") };
    let status = match statuses.keys().collect::<Vec<_>>()[..] {
        [StatusCode(only)] if *only == service.scheme.success() => String::new(),
        [status] => format!(", status: {status}"),
        _ => format!(", status: {{{status}}}"),
    };
    format!("{{from: {from}{path}{get}{status}}}")
}

/// What holds for sessions, as a claim in the syntax of a scenario.
fn as_claim_about_sessions(from: &str, path: &str, what: &str) -> String {
    let path = if path == "/" { String::new() } else { format!(", path: {path}") };
    format!("{{from: {from}{path}, sessions: {{{what}}}}}")
}

/// The delays that are given, as a claim that other delays fail, in the syntax of a scenario.
fn as_claim_about_time(from: &str, path: &str, given: &Given, other: &Given) -> String {
    let path = if path == "/" { String::new() } else { format!(", path: {path}") };
    let mut limits = given.delays.keys().chain(other.delays.keys()).map(|delay| *delay / 2);
    let limit = limits.find(|limit| given.speeds(*limit) != other.speeds(*limit)).unwrap_or_default();
    let share = (given.speeds(limit)[0].fraction() * 1e4).round() / 1e2;
    format!("{{from: {from}{path}, slower-than: {{{limit:?}: {share}%}}}}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The canary's files, in which versions carry the label `track` with other values.
    fn with_other_labels(folder: &Path) -> Scenario {
        let canary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary");
        for entry in std::fs::read_dir(canary).unwrap().flatten() {
            let Ok(mut text) = std::fs::read_to_string(entry.path()) else { continue };
            if entry.file_name() != "scenario.yaml" {
                text = text.replace("version: v1", "track: stable").replace("version: v2", "track: next");
            }
            std::fs::write(folder.join(entry.file_name()), text).unwrap();
        }
        Scenario::read(folder).unwrap()
    }

    fn pinned(scenario: &Scenario) -> BTreeSet<String> {
        let pinned = mutants(scenario).into_iter().filter(|mutant| mutant.operator == "selector pinned");
        pinned.filter_map(|mutant| mutant.what.rsplit_once("pinned to ").map(|(_, label)| label.to_owned())).collect()
    }

    /// Without shared objects, the mutants of 200 objects take more than a gigabyte.
    #[test]
    fn a_mutant_shares_the_objects_that_it_does_not_change() {
        let canary = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary")).unwrap();
        let applied = |scenario: &Scenario| -> Vec<Arc<Manifest>> {
            let steps = scenario.stages.iter().flat_map(|stage| &stage.steps);
            let applied = steps.filter_map(|step| match step {
                Step::Apply(manifest) => Some(Arc::clone(manifest)),
                _ => None,
            });
            applied.collect()
        };
        let original = applied(&canary);
        for mutant in mutants(&canary) {
            let mutated = applied(&mutant.applied_to(&canary));
            let own = mutated.iter().filter(|own| original.iter().all(|other| !Arc::ptr_eq(own, other))).count();
            assert_eq!(own, usize::from(matches!(mutant.fault, Fault::Changed(..))), "{}", mutant.what);
        }
    }

    /// With the whole object in each mutant, those of 1,000 subsets would take more than a gigabyte.
    #[test]
    fn a_mutant_holds_what_it_changes_and_not_the_object() {
        let folder = tempfile::tempdir().unwrap();
        let canary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary");
        for entry in std::fs::read_dir(canary).unwrap().flatten() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let rule = folder.path().join("dr-hello.yaml");
        let subsets: Vec<String> =
            (0..1000).map(|subset| format!("    - {{name: s{subset}, labels: {{version: v1}}}}\n")).collect();
        let text =
            std::fs::read_to_string(&rule).unwrap().replace("subsets:\n", &format!("subsets:\n{}", subsets.concat()));
        std::fs::write(&rule, text).unwrap();
        let mutants = mutants(&Scenario::read(folder.path()).unwrap());
        assert!(mutants.len() > 2000, "{}", mutants.len());
        let held: usize = mutants.iter().map(|mutant| format!("{mutant:?}").len()).sum();
        assert!(held < 500 * mutants.len(), "{held} bytes");
    }

    #[test]
    fn a_selector_is_pinned_to_the_labels_that_distinguish_versions() {
        let canary = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary")).unwrap();
        assert_eq!(pinned(&canary), ["version=v1", "version=v2"].map(str::to_owned).into());
        let folder = tempfile::tempdir().unwrap();
        let other = with_other_labels(folder.path());
        assert_eq!(pinned(&other), ["track=next", "track=stable"].map(str::to_owned).into());
    }
}

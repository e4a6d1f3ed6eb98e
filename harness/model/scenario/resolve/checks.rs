//! Checks of a stage that need more than one of its parts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::acts::is_deployment;
use crate::scenario::error::ScenarioError;
use crate::scenario::expectation::Expectation;
use crate::scenario::kinds::Target;
use crate::scenario::manifest::Manifest;
use crate::scenario::model::{Stage, Step};
use crate::scenario::origin::Origin;
use crate::scenario::suggest::nearest;

/// Rejects two manifests of one object in a stage: the second would overwrite the first at once.
pub(super) fn declared_once(stage: &Stage) -> Result<(), ScenarioError> {
    let mut first: HashMap<(String, &str, Option<&str>), &Manifest> = HashMap::new();
    for manifest in stage.applied() {
        let key = (manifest.id(), manifest.group(), manifest.object.metadata.namespace.as_deref());
        if let Some(first) = first.insert(key, manifest) {
            return Err(ScenarioError::Malformed {
                origin: manifest.origin.clone(),
                message: format!("{} is already applied in this stage, from {}", manifest.id(), first.origin),
            });
        }
    }
    Ok(())
}

/// The Deployments that exist at a stage: the workloads whose requests `served` can count.
#[derive(Debug, Default)]
pub(super) struct Countable {
    deployments: BTreeSet<String>,
    /// By name, why other workloads cannot be counted.
    others: BTreeMap<String, String>,
}

impl Countable {
    pub fn step_through(&mut self, stage: &Stage) {
        for step in &stage.steps {
            match step {
                Step::Apply(manifest) => self.apply(manifest),
                Step::Delete(target) => self.delete(target),
                Step::Act(_) | Step::Gate(_) | Step::Mesh(_) => {}
            }
        }
    }

    fn apply(&mut self, manifest: &Manifest) {
        const OTHERS: [&str; 7] =
            ["StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Pod", "Rollout"];
        let name = manifest.name().to_owned();
        if manifest.kind() == "Deployment" {
            self.others.remove(&name);
            self.deployments.insert(name);
        } else if OTHERS.contains(&manifest.kind()) && !self.deployments.contains(&name) {
            let why = format!("`{name}` is a {}, and `served` counts the pods of Deployments only", manifest.kind());
            self.others.insert(name, why);
        }
    }

    fn delete(&mut self, target: &Target) {
        if is_deployment(&target.kind) && self.deployments.remove(&target.name) {
            let why = format!(
                "the Deployment `{}` is already deleted ({}), and deleted pods report no count",
                target.name, target.origin
            );
            self.others.insert(target.name.clone(), why);
        }
    }

    /// Rejects a `served` claim about pods that do not exist, or in a stage without requests.
    pub fn check(&self, stage: &Stage) -> Result<(), ScenarioError> {
        for expectation in &stage.expect {
            let Expectation::Served { workload, origin, .. } = expectation else { continue };
            let message = if !self.deployments.contains(workload) {
                self.others.get(workload).cloned().unwrap_or_else(|| {
                    let meant = nearest(workload, self.deployments.iter().map(String::as_str));
                    format!("no manifest up to this stage creates a Deployment `{workload}`{meant}")
                })
            } else if stage.asked().next().is_none() {
                "this stage sends no requests: `served` counts the requests of claims with `from`".to_owned()
            } else {
                continue;
            };
            return Err(ScenarioError::Malformed { origin: origin.clone(), message });
        }
        Ok(())
    }
}

/// Rejects two claims of a stage about the same population and path, or about the same workload.
pub(super) fn claimed_once(stage: &Stage) -> Result<(), ScenarioError> {
    let mut first: HashMap<(&str, Option<&str>), &Origin> = HashMap::new();
    for expectation in &stage.expect {
        let (key, origin) = match expectation {
            Expectation::Claim(claim) if claim.slower_than.is_some() => continue,
            Expectation::Claim(claim) => ((claim.from.as_str(), Some(claim.path.as_str())), &claim.origin),
            Expectation::Declared(claim) => ((claim.from.as_str(), Some("as-declared")), &claim.origin),
            Expectation::Served { workload, origin, .. } => ((workload.as_str(), None), origin),
            Expectation::ServiceLevel(_)
            | Expectation::Sessions(_)
            | Expectation::During(_)
            | Expectation::Weights { .. }
            | Expectation::Reports { .. }
            | Expectation::NoObjects(_) => continue,
        };
        let Some(first) = first.insert(key, origin) else { continue };
        let what = match key {
            (from, Some("as-declared")) => format!("what `{from}` gets on the way"),
            (from, Some(path)) => format!("what `{from}` gets from {path}"),
            (workload, None) => format!("what `{workload}` serves"),
        };
        let message = format!("{what} is already claimed in this stage, in line {}", first.line);
        return Err(ScenarioError::Malformed { origin: origin.clone(), message });
    }
    Ok(())
}

/// Rejects a claim about a change in a stage where no requests can be watched, or where none is followed.
pub(super) fn watchable(number: usize, stage: &Stage) -> Result<(), ScenarioError> {
    let refused = |origin: &Origin, message: String| Err(ScenarioError::Malformed { origin: origin.clone(), message });
    let follow = stage.followed();
    if let (Some(claim), None) = (stage.declared().next(), follow) {
        let message = "`as-declared` is about what a controller does by itself: add `follow: {until: Healthy, within: 5m}` to this stage";
        return refused(&claim.origin, message.to_owned());
    }
    if let Some(origin) = follow.filter(|_| number == 1) {
        let message = "there is nothing to follow: the client pod, which sends the requests, starts in the first stage";
        return refused(origin, message.to_owned());
    }
    let mut during = stage.expect.iter().filter_map(|expectation| match expectation {
        Expectation::During(during) => Some(during),
        _ => None,
    });
    let Some(first) = during.next() else { return Ok(()) };
    if let Some(second) = during.next() {
        let message = format!("this stage already has a `during`, in line {}", first.origin.line);
        return refused(&second.origin, message);
    }
    let reason = if number == 1 {
        "the client pod, which sends the requests, starts in the first stage"
    } else if stage.steps.is_empty() && stage.growth.is_none() {
        "nothing is applied or deleted in this stage"
    } else if !stage.sends() {
        "this stage has no claim with `from`, whose requests could be watched"
    } else {
        return Ok(());
    };
    refused(&first.origin, format!("there is no change to watch: {reason}"))
}

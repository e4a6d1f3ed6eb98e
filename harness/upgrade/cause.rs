use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::difference::{Aspect, Difference};
use crate::routing::Live;
use crate::scenario::{ControlPlane, Expectation, MeshStep, Scenario, Stage, Step};
use crate::walk::{Leg, at_once};

/// Why a claim that held on the old version fails on the new one, as far as that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A flag of the control plane: with its old value the claim holds on the new version.
    Flag {
        /// Its name.
        name: String,
        /// Its old value.
        old: String,
        /// The version whose behaviour was asked for.
        compatible_with: String,
    },
    /// No single flag, but those of the old version's behaviour together.
    Flags {
        /// Their names.
        names: Vec<String>,
        /// The version whose behaviour was asked for.
        compatible_with: String,
    },
    /// No flag: what the client's sidecar is told first that it was not told before.
    Configuration {
        /// The path of the value.
        path: String,
        /// What it was.
        before: String,
        /// What it is.
        after: String,
    },
    /// Neither flags nor the sidecar's configuration explain it.
    Unknown,
}

impl Cause {
    /// The first difference of the sidecar's configuration at a stage, where no flag explains it. What a known change of Istio explains
    /// comes last.
    #[must_use]
    pub fn of_configuration(differences: &[Difference], stage: usize) -> Self {
        let at = |own: &&Difference| own.number == stage && matches!(own.aspect, Aspect::Configuration(_));
        let first = |known: bool| differences.iter().filter(at).find(|own| own.known.is_some() == known);
        first(false).or_else(|| first(true)).map_or(Self::Unknown, |own| Self::Configuration {
            path: own.aspect.path().to_owned(),
            before: own.before.clone(),
            after: own.after.clone(),
        })
    }
}

/// Settings under which a stage is tried again on the new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// For people.
    pub name: String,
    /// The settings, as `istioctl --set` takes them.
    pub set: Vec<String>,
}

/// A walk that brings a stage about at once on a control plane, and then tries it under each of these settings.
#[must_use]
pub fn probe(scenario: &Scenario, stage: usize, plane: &ControlPlane, probes: &[Probe]) -> Leg {
    let mut scenario = at_once(scenario, stage);
    let expect: Vec<Expectation> = scenario.stages[0].expect.clone();
    let stages = probes.iter().map(|probe| {
        let set = plane.set.iter().chain(&probe.set).cloned().collect();
        let plane = ControlPlane { set, ..plane.clone() };
        let steps = vec![Step::Mesh(MeshStep::Install(plane)), Step::Mesh(MeshStep::Restart)];
        Stage { name: probe.name.clone(), steps, expect: expect.clone() }
    });
    let stages: Vec<Stage> = stages.collect();
    scenario.stages.extend(stages);
    Leg { name: format!("Istio {plane}, looking for the cause"), first: plane.clone(), scenario }
}

/// A probe for each flag that the behaviour of an older version sets otherwise, alone.
#[must_use]
pub fn single_flags(now: &BTreeMap<String, String>, compatible: &BTreeMap<String, String>) -> Vec<(Probe, String)> {
    let other = compatible.iter().filter(|(name, value)| now.get(*name) != Some(value));
    let probes = other.map(|(name, value)| {
        let set = vec![format!("values.pilot.env.{name}={value}")];
        (Probe { name: format!("{name}={value}"), set }, value.clone())
    });
    probes.collect()
}

/// An object of the scenario that acts on the new version's sidecars alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// `EnvoyFilter/name`.
    pub object: String,
    /// Where it is written.
    pub place: String,
    /// What it is limited to.
    pub limit: String,
}

/// The EnvoyFilters that are there at a stage and patch sidecars of the new version, not those of the old one.
#[must_use]
pub fn suspects(scenario: &Scenario, stage: usize, from: &str, to: &str) -> Vec<Suspect> {
    let mut live = Live::new(&scenario.namespace, &scenario.namespace);
    scenario.stages.iter().take(stage).for_each(|stage| live.step_through(stage));
    let mut suspects = Vec::new();
    for object in live.all().filter(|object| object.manifest.kind() == "EnvoyFilter") {
        let patches = object.manifest.at("/spec/configPatches").and_then(Value::as_array).into_iter().flatten();
        for (index, patch) in patches.enumerate() {
            let Some(version) = patch.pointer("/match/proxy/proxyVersion").and_then(Value::as_str) else { continue };
            let matches = |own: &str| Regex::new(version).is_ok_and(|expression| expression.is_match(own));
            if matches(to) && !matches(from) {
                let place = object.manifest.place(&format!("/spec/configPatches/{index}"));
                suspects.push(Suspect {
                    object: object.manifest.id(),
                    place: place.to_string(),
                    limit: format!("sidecars of version {version}"),
                });
            }
        }
    }
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_that_is_set_otherwise_is_tried_alone() {
        let flags = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let now = flags(&[("REVISION", "default"), ("A", "true")]);
        let old = flags(&[("REVISION", "default"), ("A", "false"), ("B", "false")]);
        let probes: Vec<Vec<String>> = single_flags(&now, &old).into_iter().map(|(probe, _)| probe.set).collect();
        assert_eq!(probes, [["values.pilot.env.A=false"], ["values.pilot.env.B=false"]]);
    }

    #[test]
    fn a_probe_changes_the_control_plane_under_the_stage_and_judges_it_again() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let plane = ControlPlane { set: vec!["a=1".to_owned()], ..ControlPlane::of("1.31") };
        let probes = [Probe { name: "as 1.30".to_owned(), set: vec!["compatibilityVersion=1.30".to_owned()] }];
        let leg = probe(&scenario, 4, &plane, &probes);
        let stages = &leg.scenario.stages;
        assert_eq!(stages.len(), 2);
        assert_eq!(stages[1].claims().count(), 3);
        let Step::Mesh(MeshStep::Install(installed)) = &stages[1].steps[0] else { panic!("an installation") };
        assert_eq!(installed.set, ["a=1", "compatibilityVersion=1.30"]);
    }
}

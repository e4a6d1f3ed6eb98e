use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::difference::{Aspect, Difference};
use super::walked::WalkedStage;
use crate::routing::{Live, RouteDiff};
use crate::scenario::{ControlPlane, MeshStep, Origin, Scenario, Stage, Step};
use crate::walk::{Leg, at_once};

/// Why a claim that held on the old version fails on the new one, as far as that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A setting that the new version alone was given: without it the claim holds.
    Setting(String),
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
    /// No flag: the client's sidecar routes otherwise than the manifests ask for.
    Routes {
        /// The first route that is missing.
        missing: String,
        /// The first that is there instead.
        instead: String,
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
    /// What the sidecar of a stage is told otherwise, where no flag explains it: first its routes, if they are not what the manifests ask
    /// for, then the first value of its configuration that is another. What a known change of Istio explains comes last.
    #[must_use]
    pub fn of_configuration(failed: &WalkedStage, differences: &[Difference]) -> Self {
        let missing = failed.routes.iter().find_map(RouteDiff::expected);
        let instead = failed.routes.iter().find_map(RouteDiff::found);
        if let (Some(missing), Some(instead)) = (missing, instead) {
            return Self::Routes { missing, instead };
        }
        let stage = failed.row.stage;
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
    /// All settings of the control plane then, as `istioctl --set` takes them.
    pub set: Vec<String>,
}

impl Probe {
    /// A control plane with one more setting.
    #[must_use]
    pub fn with(plane: &ControlPlane, setting: String) -> Self {
        let set = plane.set.iter().chain([&setting]).cloned().collect();
        Self { name: setting, set }
    }
}

/// A walk that brings a stage about at once on a control plane with the first of these settings, and then tries it under each of the others.
#[must_use]
pub fn probe(scenario: &Scenario, stage: usize, plane: &ControlPlane, probes: &[Probe]) -> Leg {
    let with = |probe: &Probe| ControlPlane { set: probe.set.clone(), ..plane.clone() };
    let mut scenario = at_once(scenario, stage);
    let first = scenario.stages[0].clone();
    let later = probes.iter().skip(1).map(|probe| {
        let steps = vec![Step::Mesh(MeshStep::Install(with(probe))), Step::Mesh(MeshStep::Restart)];
        Stage { name: probe.name.clone(), steps, ..first.clone() }
    });
    let later: Vec<Stage> = later.collect();
    scenario.stages.extend(later);
    let mut first = plane.clone();
    if let Some(probe) = probes.first() {
        first = with(probe);
        scenario.stages[0].name.clone_from(&probe.name);
    }
    Leg { name: format!("Istio {}, looking for the cause", plane.version), first, scenario }
}

/// A probe for each setting that a control plane was given, without it.
#[must_use]
pub fn without_each(plane: &ControlPlane) -> Vec<Probe> {
    let without = |setting: &String| {
        let set = plane.set.iter().filter(|own| *own != setting).cloned().collect();
        Probe { name: format!("without {setting}"), set }
    };
    plane.set.iter().map(without).collect()
}

/// A probe for each flag that the behaviour of an older version sets otherwise, alone; with the flag's name and that value.
#[must_use]
pub fn single_flags(
    plane: &ControlPlane,
    now: &BTreeMap<String, String>,
    compatible: &BTreeMap<String, String>,
) -> Vec<(Probe, String, String)> {
    let other = compatible.iter().filter(|(name, value)| now.get(*name) != Some(value));
    let probes = other.map(|(name, value)| {
        let probe = Probe::with(plane, format!("values.pilot.env.{name}={value}"));
        (probe, name.clone(), value.clone())
    });
    probes.collect()
}

/// An object of the scenario that acts on the new version's sidecars alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// `EnvoyFilter/name`.
    pub object: String,
    /// Where it is written.
    pub place: Origin,
    /// What it is limited to.
    pub limit: String,
}

/// The `EnvoyFilter`s that are there at a stage and patch sidecars of the new version, not those of the old one.
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
                let place = object.manifest.origin_of(&format!("/spec/configPatches/{index}"));
                suspects.push(Suspect {
                    object: object.manifest.id(),
                    place,
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
        let plane = ControlPlane { set: vec!["a=1".to_owned()], ..ControlPlane::of("1.31") };
        let probes = single_flags(&plane, &now, &old);
        let told: Vec<(&str, &str)> = probes.iter().map(|(_, name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(told, [("A", "false"), ("B", "false")]);
        assert_eq!(probes[1].0.set, ["a=1", "values.pilot.env.B=false"]);
    }

    #[test]
    fn each_setting_of_the_new_version_alone_is_left_out_once() {
        let plane = ControlPlane { set: vec!["a=1".to_owned(), "b=2".to_owned()], ..ControlPlane::of("1.31") };
        let probes = without_each(&plane);
        assert_eq!(probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>(), ["without a=1", "without b=2"]);
        assert_eq!(probes.into_iter().map(|probe| probe.set).collect::<Vec<_>>(), [["b=2"], ["a=1"]]);
    }

    #[test]
    fn a_probe_changes_the_control_plane_under_the_stage_and_judges_it_again() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let plane = ControlPlane { set: vec!["a=1".to_owned()], ..ControlPlane::of("1.31") };
        let one = |set: &str| Probe::with(&plane, set.to_owned());
        let leg = probe(&scenario, 4, &plane, &[one("b=2"), one("c=3")]);
        assert_eq!(leg.first.set, ["a=1", "b=2"]);
        let stages = &leg.scenario.stages;
        assert_eq!((stages[0].name.as_str(), stages[1].name.as_str(), stages.len()), ("b=2", "c=3", 2));
        assert_eq!(stages[1].claims().count(), 3);
        let Step::Mesh(MeshStep::Install(installed)) = &stages[1].steps[0] else { panic!("an installation") };
        assert_eq!(installed.set, ["a=1", "c=3"]);
    }
}

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::aspect::Aspect;
use super::difference::Difference;
use super::path_record::StageRecord;
use crate::events::Judged;
use crate::plan::{Plan, at_once};
use crate::scenario::{ControlPlane, IstioVersion, MeshStep, Origin, Scenario, Stage, Step};
use crate::session::ComparedRun;

/// Claims that hold on the old version and fail on the new one, and the cause.
#[derive(Debug, Clone)]
pub struct Regression {
    /// The first stage with such claims, from 1.
    pub stage: usize,
    /// These claims of the stage.
    pub claims: Vec<Judged>,
    /// The cause of the failure.
    pub cause: Cause,
    /// The objects of the scenario that act on sidecars of the new version only.
    pub suspects: Vec<Suspect>,
}

/// The cause of a claim that holds on the old version and fails on the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A setting that only the new version has. Without the setting the claim holds.
    Setting(String),
    /// A feature flag of the control plane. With the old value the claim holds on the new version.
    Flag {
        /// The name of the flag.
        name: String,
        /// The old value.
        old: String,
        /// The `compatibilityVersion` that sets the old value.
        compatible_with: IstioVersion,
    },
    /// Several feature flags together, and none of them alone.
    Flags {
        /// The names of the flags.
        names: Vec<String>,
        /// The `compatibilityVersion` that sets the old values.
        compatible_with: IstioVersion,
    },
    /// No flag: the routes of the client's sidecar are not those of the manifests.
    Routes {
        /// The first missing route.
        missing: String,
        /// The first unexpected route.
        instead: String,
    },
    /// No flag: the first value that changed in the configuration of the client's sidecar.
    Configuration {
        /// The path of the value.
        path: String,
        /// The value on the old version.
        before: String,
        /// The value on the new version.
        after: String,
    },
    /// Neither flags nor the configuration of the sidecar explain the failure.
    Unknown,
}

impl Cause {
    /// The cause of a claim that holds with the old values of several flags, each given by name and old value. `alone` is the position of the
    /// first flag that is enough; none if no flag alone is.
    pub fn of_flags(mut flags: Vec<(String, String)>, alone: Option<usize>, compatible_with: IstioVersion) -> Self {
        if let Some(index) = alone {
            let (name, old) = flags.swap_remove(index);
            return Self::Flag { name, old, compatible_with };
        }
        Self::Flags { names: flags.into_iter().map(|(name, _)| name).collect(), compatible_with }
    }

    /// The cause in the configuration of the client's sidecar at a stage: routes that are not those of the manifests, or else the first
    /// changed value. Values that a known change of Istio explains come last.
    pub(super) fn of_configuration(failed: &StageRecord, differences: &[Difference]) -> Self {
        let missing = failed.routes.iter().find_map(|diff| diff.expected.clone());
        let instead = failed.routes.iter().find_map(|diff| diff.found.clone());
        if let (Some(missing), Some(instead)) = (missing, instead) {
            return Self::Routes { missing, instead };
        }
        let stage = failed.row.stage;
        let at = |found: &&Difference| found.number == stage && matches!(found.change.aspect, Aspect::Configuration(_));
        let first = |known: bool| differences.iter().filter(at).find(|found| found.known.is_some() == known);
        first(false).or_else(|| first(true)).map_or(Self::Unknown, |found| Self::Configuration {
            path: found.change.aspect.path().to_owned(),
            before: found.change.before.clone(),
            after: found.change.after.clone(),
        })
    }
}

/// Settings of the new control plane with which a stage is run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    /// The name in output.
    pub name: String,
    /// All settings of the control plane, as `istioctl --set` takes them.
    pub set: Vec<String>,
}

impl Probe {
    /// The settings of a control plane and one more setting.
    pub(super) fn with(plane: &ControlPlane, setting: String) -> Self {
        let set = plane.set.iter().chain([&setting]).cloned().collect();
        Self { name: setting, set }
    }
}

/// A run that applies the objects of a stage at once and repeats the stage with the settings of each probe.
pub(super) fn probe(scenario: &Scenario, stage: usize, plane: &ControlPlane, probes: &[Probe]) -> ComparedRun {
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
    ComparedRun { name: format!("Istio {}, searching for the cause", plane.version), first, scenario }
}

/// A probe for each setting of a control plane, without that setting.
pub(super) fn without_each(plane: &ControlPlane) -> Vec<Probe> {
    let without = |setting: &String| {
        let set = plane.set.iter().filter(|other| *other != setting).cloned().collect();
        Probe { name: format!("without {setting}"), set }
    };
    plane.set.iter().map(without).collect()
}

/// A probe for each flag with another value in compatibility mode, with the name of the flag and that value.
pub(super) fn single_flags(
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

/// An object of the scenario that acts on sidecars of the new version only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// `EnvoyFilter/name`.
    pub object: String,
    /// The position in the manifests.
    pub place: Origin,
    /// The sidecars that the object acts on.
    pub limit: String,
}

/// The `EnvoyFilter`s at a stage that patch sidecars of the new version but not those of the old one.
///
/// `builds` are the versions that the old and the new sidecars report.
pub(super) fn suspects(scenario: &Scenario, stage: usize, builds: [&str; 2]) -> Vec<Suspect> {
    let [from, to] = builds;
    let plan = Plan::new(scenario);
    let mut suspects = Vec::new();
    for object in plan.after(stage).live.all().filter(|object| object.manifest.kind() == "EnvoyFilter") {
        let patches = object.manifest.at("/spec/configPatches").and_then(Value::as_array).into_iter().flatten();
        for (index, patch) in patches.enumerate() {
            let Some(version) = patch.pointer("/match/proxy/proxyVersion").and_then(Value::as_str) else { continue };
            let matches = |proxy: &str| Regex::new(version).is_ok_and(|expression| expression.is_match(proxy));
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
        let plane = ControlPlane { set: vec!["a=1".to_owned()], ..ControlPlane::of(IstioVersion::new(1, 31)) };
        let probes = single_flags(&plane, &now, &old);
        let told: Vec<(&str, &str)> = probes.iter().map(|(_, name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(told, [("A", "false"), ("B", "false")]);
        assert_eq!(probes[1].0.set, ["a=1", "values.pilot.env.B=false"]);
    }

    fn cause(alone: Option<usize>) -> Cause {
        let flags = ["A", "B"].map(|name| (name.to_owned(), "false".to_owned()));
        Cause::of_flags(flags.into(), alone, IstioVersion::new(1, 25))
    }

    #[test]
    fn a_flag_that_is_enough_alone_is_the_cause() {
        let (name, old, compatible_with) = ("B".to_owned(), "false".to_owned(), IstioVersion::new(1, 25));
        assert_eq!(cause(Some(1)), Cause::Flag { name, old, compatible_with });
    }

    #[test]
    fn flags_that_are_enough_only_together_are_the_cause_together() {
        let names = vec!["A".to_owned(), "B".to_owned()];
        assert_eq!(cause(None), Cause::Flags { names, compatible_with: IstioVersion::new(1, 25) });
    }

    #[test]
    fn each_setting_of_the_new_version_alone_is_left_out_once() {
        let plane = ControlPlane {
            set: vec!["a=1".to_owned(), "b=2".to_owned()],
            ..ControlPlane::of(IstioVersion::new(1, 31))
        };
        let probes = without_each(&plane);
        assert_eq!(probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>(), ["without a=1", "without b=2"]);
        assert_eq!(probes.into_iter().map(|probe| probe.set).collect::<Vec<_>>(), [["b=2"], ["a=1"]]);
    }

    #[test]
    fn a_probe_changes_the_control_plane_under_the_stage_and_judges_it_again() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let plane = ControlPlane { set: vec!["a=1".to_owned()], ..ControlPlane::of(IstioVersion::new(1, 31)) };
        let one = |set: &str| Probe::with(&plane, set.to_owned());
        let run = probe(&scenario, 4, &plane, &[one("b=2"), one("c=3")]);
        assert_eq!(run.first.set, ["a=1", "b=2"]);
        let stages = &run.scenario.stages;
        assert_eq!((stages[0].name.as_str(), stages[1].name.as_str(), stages.len()), ("b=2", "c=3", 2));
        assert_eq!(stages[1].claims().count(), 3);
        let Step::Mesh(MeshStep::Install(installed)) = &stages[1].steps[0] else { panic!("an installation") };
        assert_eq!(installed.set, ["a=1", "c=3"]);
    }
}

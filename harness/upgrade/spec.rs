use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use thiserror::Error;

use super::path::{Mode, Phase, Row, UpgradePath, Versions};
use crate::plan::at_once;
use crate::scenario::{
    Component, ControlPlane, ControllerKind, During, ErrorRates, Expectation, IstioVersion, MeshStep, Scenario, Stage,
    Step,
};
use crate::session::ComparedRun;

/// The number of minor versions that Istio supports between a control plane and older sidecars.
const SUPPORTED_SKEW: u32 = 1;

/// An upgrade that cannot be tested.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// Both control planes are the same.
    #[error("both versions are {0}")]
    Same(String),
    /// The new version is older than the old one.
    #[error(
        "from {from} to {to} is a downgrade; to test it, use the mode roll-back of the upgrade from {to} to {from}"
    )]
    Downgrade {
        /// The version given as the old one.
        from: IstioVersion,
        /// The version given as the new one.
        to: IstioVersion,
    },
    /// Istio does not support the version skew of a requested mode.
    #[error(
        "{mode} combines {skew}, which Istio does not support: a control plane may be one minor version newer than its sidecars, never older"
    )]
    Skew {
        /// The mode.
        mode: Mode,
        /// The versions that the mode combines.
        skew: String,
    },
    /// The new version of a controller is older than the old one.
    #[error("from {from} to {to} is a downgrade; compare them from {to} to {from}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    ControllerDowngrade { from: IstioVersion, to: IstioVersion },
    /// The scenario does not use the controller.
    #[error("{0}: the scenario does not install {1}, so that its versions cannot be compared here")]
    NotInstalled(String, ControllerKind),
    /// No stage has a claim about requests.
    #[error("{0}: no stage claims which versions serve requests, so there is nothing to compare")]
    NoClaims(String),
}

/// The software whose versions are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgraded {
    /// Istio.
    Istio,
    /// A rollout controller.
    Controller {
        /// The controller.
        kind: ControllerKind,
        /// The control plane of all clusters.
        plane: ControlPlane,
    },
}

impl fmt::Display for Upgraded {
    /// `Argo Rollouts`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Istio => formatter.write_str("Istio"),
            Self::Controller { kind, .. } => kind.fmt(formatter),
        }
    }
}

/// An upgrade: the two control planes, the stage at which the mesh is changed, and the modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeSpec {
    /// The software whose versions are compared.
    pub upgraded: Upgraded,
    /// The old control plane; of a controller, its version alone.
    pub from: ControlPlane,
    /// The new control plane; of a controller, its version alone.
    pub to: ControlPlane,
    /// The stage at which the mesh is changed, from 1.
    pub at: usize,
    /// The modes to test.
    pub modes: Vec<Mode>,
    /// The claimed limit on failed requests during all changes of the mesh, summed over all modes.
    pub errors: Option<u64>,
}

impl UpgradeSpec {
    /// An upgrade by the requested modes, or by all modes that Istio supports if `modes` is empty.
    ///
    /// # Errors
    /// The versions are not an upgrade, a requested mode has an unsupported skew and `skew_allowed` is false, or no stage has a claim.
    pub fn new(
        scenario: &Scenario,
        from: ControlPlane,
        to: ControlPlane,
        at: Option<usize>,
        modes: &[Mode],
        skew_allowed: bool,
    ) -> Result<Self, UpgradeError> {
        if from == to {
            return Err(UpgradeError::Same(from.to_string()));
        }
        if from.version > to.version {
            return Err(UpgradeError::Downgrade { from: from.version, to: to.version });
        }
        let at = at.or_else(|| usual_stage(scenario));
        let at = at.ok_or_else(|| UpgradeError::NoClaims(scenario.path.display().to_string()))?;
        let mut spec = Self { upgraded: Upgraded::Istio, from, to, at, modes: Vec::new(), errors: None };
        for &mode in Mode::value_variants() {
            let asked = modes.contains(&mode);
            match spec.skew(mode) {
                Some(skew) if asked && !skew_allowed => return Err(UpgradeError::Skew { mode, skew }),
                Some(_) if !skew_allowed => {}
                _ if asked || modes.is_empty() => spec.modes.push(mode),
                _ => {}
            }
        }
        Ok(spec)
    }

    /// A comparison of a version with itself on two clusters. Every difference is due to chance.
    ///
    /// # Errors
    /// No stage has a claim.
    pub fn against_itself(scenario: &Scenario, plane: ControlPlane, at: Option<usize>) -> Result<Self, UpgradeError> {
        let at = at.or_else(|| usual_stage(scenario));
        let at = at.ok_or_else(|| UpgradeError::NoClaims(scenario.path.display().to_string()))?;
        let upgraded = Upgraded::Istio;
        Ok(Self { upgraded, from: plane.clone(), to: plane, at, modes: vec![Mode::Fresh], errors: None })
    }

    /// A comparison of two versions of a rollout controller, each on a cluster of its own with this control plane.
    ///
    /// # Errors
    /// The versions are not an upgrade, where equal versions are allowed only if `same_allowed` is true; the scenario does not install the controller; or no stage has a
    /// claim.
    pub fn of_controller(
        scenario: &Scenario,
        kind: ControllerKind,
        (from, to): (IstioVersion, IstioVersion),
        plane: ControlPlane,
        same_allowed: bool,
    ) -> Result<Self, UpgradeError> {
        let path = || scenario.path.display().to_string();
        if from == to && !same_allowed {
            return Err(UpgradeError::Same(from.to_string()));
        }
        if from > to {
            return Err(UpgradeError::ControllerDowngrade { from, to });
        }
        if !scenario.install.iter().any(|own| own.component == Component::Controller(kind)) {
            return Err(UpgradeError::NotInstalled(path(), kind));
        }
        let at = usual_stage(scenario).ok_or_else(|| UpgradeError::NoClaims(path()))?;
        let (from, to) = (ControlPlane::of(from), ControlPlane::of(to));
        let upgraded = Upgraded::Controller { kind, plane };
        Ok(Self { upgraded, from, to, at, modes: vec![Mode::Fresh], errors: None })
    }

    /// The old and the new version.
    pub fn versions(&self) -> Versions<'_> {
        let controller = match &self.upgraded {
            Upgraded::Istio => None,
            Upgraded::Controller { kind, .. } => Some(*kind),
        };
        Versions { controller, from: &self.from.version, to: &self.to.version }
    }

    /// The unsupported combination of versions in a mode, in words.
    pub fn skew(&self, mode: Mode) -> Option<String> {
        let (from, to) = (&self.from.version, &self.to.version);
        let apart = to.minor.saturating_sub(from.minor);
        match mode {
            Mode::InPlace if apart > SUPPORTED_SKEW => {
                Some(format!("control plane {to} with sidecars {from} ({apart} minor versions older)"))
            }
            Mode::RollBack if apart > 0 => Some(format!("control plane {from} with newer sidecars {to}")),
            _ => None,
        }
    }

    /// The modes that are skipped because Istio does not support their version skew, each with that skew.
    pub fn skipped(&self) -> Vec<(Mode, String)> {
        if self.upgraded != Upgraded::Istio {
            return Vec::new();
        }
        let out = Mode::value_variants().iter().filter(|mode| !self.modes.contains(mode));
        out.filter_map(|mode| Some((*mode, self.skew(*mode)?))).collect()
    }

    /// The runs on each throwaway cluster, in order: each version alone has a cluster. Each run that changes the mesh follows on the cluster whose control plane it
    /// starts with, which saves a start. That cluster has the CRDs of the new version, since an upgrade begins with them.
    pub fn plan(&self, scenario: &Scenario) -> Vec<Vec<(UpgradePath, ComparedRun)>> {
        let groups: [&[UpgradePath]; 3] = if self.modes.contains(&Mode::RollBack) {
            [
                &[UpgradePath::FreshOnOld, UpgradePath::InPlace],
                &[UpgradePath::FreshOnNew, UpgradePath::RollBack, UpgradePath::Revision],
                &[],
            ]
        } else if self.modes.contains(&Mode::InPlace) {
            [&[UpgradePath::FreshOnOld, UpgradePath::InPlace], &[UpgradePath::FreshOnNew], &[UpgradePath::Revision]]
        } else {
            [&[UpgradePath::FreshOnOld, UpgradePath::Revision], &[UpgradePath::FreshOnNew], &[]]
        };
        let wanted = |path: &UpgradePath| self.modes.iter().any(|mode| mode.paths().contains(path));
        let clusters = groups.into_iter().map(|group| {
            let paths = group.iter().copied().filter(wanted);
            paths.map(|path| (path, self.run(scenario, path))).collect::<Vec<_>>()
        });
        clusters.filter(|runs| !runs.is_empty()).collect()
    }

    /// The rows that a run visits, in order. A run that changes the mesh begins at the stage of that change, since the runs on each version
    /// alone cover the stages before.
    pub fn rows(&self, scenario: &Scenario, path: UpgradePath) -> Vec<Row> {
        let mut rows = Vec::new();
        let first = if path.changes_mesh() { self.at } else { 1 };
        for stage in first..=scenario.stages.len() {
            rows.push(Row { stage, phase: Phase::Itself });
            if stage == self.at {
                rows.extend(self.changes(path).into_iter().map(|(phase, _)| Row { stage, phase }));
            }
        }
        rows
    }

    fn run(&self, scenario: &Scenario, path: UpgradePath) -> ComparedRun {
        let mut scenario = scenario.clone();
        if let Upgraded::Controller { kind, plane } = &self.upgraded {
            let version = if path == UpgradePath::FreshOnNew { &self.to } else { &self.from }.to_string();
            let name = format!("{kind} {version}");
            if let Some(install) = scenario.install.iter_mut().find(|own| own.component == Component::Controller(*kind))
            {
                install.version = version;
            }
            return ComparedRun { name, first: plane.clone(), scenario };
        }
        let stage = scenario.stages[self.at - 1].clone();
        if path.changes_mesh() {
            let begun = at_once(&scenario, self.at).stages;
            scenario.stages.splice(..self.at, begun);
        }
        let changes = self.changes(path).into_iter().map(|(phase, steps)| {
            let mut expect: Vec<Expectation> = stage
                .expect
                .iter()
                .filter(|expected| matches!(expected, Expectation::Claim(_) | Expectation::Served { .. }))
                .cloned()
                .collect();
            let during = |errors| {
                Expectation::During(During {
                    errors: Some(errors),
                    excludes: During::EXCLUDES,
                    miss: ErrorRates::default().miss,
                    false_alarm: ErrorRates::default().false_alarm,
                    latency: Vec::new(),
                    gap: None,
                    last_of: BTreeMap::new(),
                    origin: stage.origin.clone(),
                })
            };
            expect.extend(self.errors.map(during));
            Stage {
                name: format!("{}, {phase}", stage.name),
                steps: steps.into_iter().map(Step::Mesh).collect(),
                wait: None,
                growth: None,
                expect,
                origin: stage.origin.clone(),
            }
        });
        let changes: Vec<Stage> = changes.collect();
        let behind = if path.changes_mesh() { 1 } else { self.at };
        scenario.stages.splice(behind..behind, changes);
        let (from, to) = (&self.from, &self.to);
        let heading = path.heading(self.versions());
        let (first, name) = match path {
            UpgradePath::FreshOnOld => (from, format!("Istio {from}")),
            UpgradePath::FreshOnNew => (to, format!("Istio {to}")),
            UpgradePath::InPlace | UpgradePath::Revision => (from, format!("Istio {from}, then {to} {heading}")),
            UpgradePath::RollBack => (to, format!("Istio {to}, then {heading} to {from}")),
        };
        ComparedRun { name, first: first.clone(), scenario }
    }

    /// The changes of the mesh during a run.
    fn changes(&self, path: UpgradePath) -> Vec<(Phase, Vec<MeshStep>)> {
        let over = |plane: &ControlPlane| {
            vec![
                (Phase::ControlPlane, vec![MeshStep::Install(plane.clone())]),
                (Phase::Sidecars, vec![MeshStep::Restart]),
            ]
        };
        match path {
            UpgradePath::FreshOnOld | UpgradePath::FreshOnNew => Vec::new(),
            UpgradePath::InPlace => over(&self.to),
            UpgradePath::RollBack => over(&self.from),
            UpgradePath::Revision => {
                let beside = self.to.clone().beside();
                vec![
                    (Phase::ControlPlane, vec![MeshStep::Install(beside.clone())]),
                    (Phase::Sidecars, vec![MeshStep::Inject(beside), MeshStep::Restart]),
                    (Phase::Removed, vec![MeshStep::Remove(self.from.clone())]),
                ]
            }
        }
    }
}

/// The first stage that splits versions, where an upgrade has the largest risk; otherwise the last stage with a claim.
fn usual_stage(scenario: &Scenario) -> Option<usize> {
    let splits = |stage: &Stage| stage.claims().any(|claim| claim.versions.values().any(|share| share.is_part()));
    let split = scenario.stages.iter().position(splits);
    let claims = || scenario.stages.iter().rposition(|stage| stage.claims().next().is_some());
    split.or_else(claims).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn canary() -> Scenario {
        Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap()
    }

    fn spec(from: &str, to: &str, modes: &[Mode], skew_allowed: bool) -> Result<UpgradeSpec, UpgradeError> {
        let [from, to] = [from, to].map(|version| ControlPlane::of(version.parse().unwrap()));
        UpgradeSpec::new(&canary(), from, to, None, modes, skew_allowed)
    }

    #[test]
    fn all_modes_take_two_clusters_and_change_the_mesh_in_the_middle_of_the_split() {
        let spec = spec("1.22", "1.31", &[], true).unwrap();
        assert_eq!((spec.at, spec.modes.as_slice()), (4, Mode::value_variants()));
        let plan = spec.plan(&canary());
        let shape: Vec<Vec<(UpgradePath, usize)>> = plan
            .iter()
            .map(|runs| runs.iter().map(|(path, run)| (*path, run.scenario.stages.len())).collect())
            .collect();
        assert_eq!(
            shape,
            [
                vec![(UpgradePath::FreshOnOld, 9), (UpgradePath::InPlace, 8)],
                vec![(UpgradePath::FreshOnNew, 9), (UpgradePath::RollBack, 8), (UpgradePath::Revision, 9)],
            ]
        );
        let (_, revision) = &plan[1][2];
        let names: Vec<&str> = revision.scenario.stages[..5].iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "testers' canary",
                "testers' canary, control plane changed",
                "testers' canary, sidecars restarted",
                "testers' canary, previous control plane removed",
                "fault"
            ]
        );
        // each change has the claims of its stage
        assert_eq!(revision.scenario.stages[2].claims().count(), 3);
        assert_eq!(spec.rows(&canary(), UpgradePath::Revision).len(), 9);
    }

    #[test]
    fn what_istio_does_not_support_is_left_out_and_said_or_refused_where_it_is_asked_for() {
        let far = spec("1.22", "1.31", &[], false).unwrap();
        assert_eq!(far.modes, [Mode::Fresh, Mode::Revision]);
        assert_eq!(
            far.skipped(),
            [
                (Mode::InPlace, "control plane 1.31 with sidecars 1.22 (9 minor versions older)".to_owned()),
                (Mode::RollBack, "control plane 1.22 with newer sidecars 1.31".to_owned()),
            ]
        );
        let near = spec("1.30.2", "1.31.0", &[], false).unwrap();
        assert_eq!(near.modes, [Mode::Fresh, Mode::InPlace, Mode::Revision]);
        let error = spec("1.22", "1.31", &[Mode::InPlace], false).unwrap_err().to_string();
        assert!(error.starts_with("in-place combines control plane 1.31 with sidecars 1.22"), "{error}");
        assert_eq!(spec("1.22", "1.31", &[Mode::InPlace], true).unwrap().modes, [Mode::InPlace]);
    }

    #[test]
    fn a_version_is_compared_with_itself_on_two_clusters() {
        let spec = UpgradeSpec::against_itself(&canary(), ControlPlane::of(IstioVersion::new(1, 31)), None).unwrap();
        let plan = spec.plan(&canary());
        let paths: Vec<Vec<UpgradePath>> =
            plan.iter().map(|runs| runs.iter().map(|(path, _)| *path).collect()).collect();
        assert_eq!(paths, [[UpgradePath::FreshOnOld], [UpgradePath::FreshOnNew]]);
        let headings = [UpgradePath::FreshOnOld, UpgradePath::FreshOnNew].map(|path| path.heading(spec.versions()));
        assert_eq!(headings, ["fresh 1.31", "fresh 1.31 again"]);
        assert!(spec.skipped().is_empty());
    }

    fn of_argo_rollouts(fixture: &str, from: &str, to: &str, same_allowed: bool) -> Result<UpgradeSpec, UpgradeError> {
        let scenario = Scenario::read(format!("{}/fixtures/{fixture}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let (plane, versions) =
            (ControlPlane::of(IstioVersion::new(1, 31)), (from.parse().unwrap(), to.parse().unwrap()));
        let spec = UpgradeSpec::of_controller(&scenario, ControllerKind::ArgoRollouts, versions, plane, same_allowed)?;
        // each version has a cluster with the same Istio
        let plan = spec.plan(&scenario);
        let runs: Vec<_> = plan.iter().map(Vec::as_slice).collect();
        let [[(UpgradePath::FreshOnOld, old)], [(UpgradePath::FreshOnNew, new)]] = runs.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(
            [old.name.as_str(), new.name.as_str()],
            [from, to].map(|version| format!("Argo Rollouts {version}"))
        );
        assert_eq!([&old.first, &new.first], [&ControlPlane::of(IstioVersion::new(1, 31)); 2]);
        assert_eq!([&old.scenario, &new.scenario].map(|own| own.install[0].version.as_str()), [from, to]);
        assert_eq!(old.scenario.stages.len(), scenario.stages.len());
        Ok(spec)
    }

    #[test]
    fn versions_of_a_controller_are_compared_on_clusters_with_the_same_istio() {
        let spec = of_argo_rollouts("rollouts-subset", "1.8", "1.10", false).unwrap();
        assert!(spec.skipped().is_empty());
        assert_eq!(spec.upgraded.to_string(), "Argo Rollouts");
        let again = of_argo_rollouts("rollouts-subset", "1.10", "1.10", true).unwrap();
        assert_eq!(UpgradePath::FreshOnNew.heading(again.versions()), "fresh 1.10 again");
    }

    #[rstest]
    #[case::same("rollouts-subset", "1.10", "1.10", "both versions are 1.10")]
    // a text would put 1.10 before 1.8
    #[case::downgrade(
        "rollouts-subset",
        "1.10",
        "1.8",
        "from 1.10 to 1.8 is a downgrade; compare them from 1.8 to 1.10"
    )]
    #[case::no_controller(
        "canary",
        "1.8",
        "1.10",
        "fixtures/canary/scenario.yaml: the scenario does not install Argo Rollouts, "
    )]
    #[case::another(
        "flagger-canary",
        "1.8",
        "1.10",
        "fixtures/flagger-canary/scenario.yaml: the scenario does not install Argo Rollouts, "
    )]
    fn versions_of_a_controller_that_cannot_be_compared_are_refused(
        #[case] fixture: &str,
        #[case] from: &str,
        #[case] to: &str,
        #[case] said: &str,
    ) {
        let error = of_argo_rollouts(fixture, from, to, false).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }

    #[rstest]
    #[case::downgrade("1.31", "1.22", "from 1.31 to 1.22 is a downgrade")]
    #[case::patch_downgrade("1.31.2", "1.31.1", "from 1.31.2 to 1.31.1 is a downgrade")]
    #[case::same("1.31", "1.31", "both versions are 1.31")]
    #[case::build_after_its_release("1.31.0", "1.31.0-dev.eed52", "from 1.31.0 to 1.31.0-dev.eed52 is a downgrade")]
    fn what_is_no_upgrade_is_refused(#[case] from: &str, #[case] to: &str, #[case] said: &str) {
        let error = spec(from, to, &[], true).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

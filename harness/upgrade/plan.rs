use std::collections::BTreeMap;

use thiserror::Error;

use super::course::{Course, Mode, Phase, Row};
use crate::mesh::newer;
use crate::scenario::{ControlPlane, During, ErrorRates, Expectation, MeshStep, Scenario, Stage, Step};
use crate::walk::{Leg, at_once};

/// How many minor versions a control plane may be ahead of its sidecars, as Istio supports it.
const SUPPORTED_SKEW: u32 = 1;

/// Why an upgrade is not walked as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UpgradeError {
    /// A version is not written as one.
    #[error("`{0}` is not a version of Istio, such as 1.31")]
    NoVersion(String),
    /// There is nothing to compare.
    #[error("both versions are {0}")]
    Same(String),
    /// The new version is older than the old one.
    #[error(
        "from {from} to {to} is a downgrade; an upgrade from {to} to {from} has the way back as its mode roll-back"
    )]
    Downgrade {
        /// The version that was called the old one.
        from: String,
        /// The version that was called the new one.
        to: String,
    },
    /// A mode is asked for whose control plane and sidecars Istio does not support together.
    #[error(
        "{mode} puts {skew}, which Istio does not support: it supports a control plane one minor version ahead of its sidecars, never behind"
    )]
    Skew {
        /// The mode.
        mode: Mode,
        /// What it comes to.
        skew: String,
    },
    /// No stage has a claim about requests.
    #[error("{0}: no stage claims who gets which version, so that there is nothing to compare")]
    NoClaims(String),
}

/// An upgrade: from which control plane to which, at which stage of the scenario, by which modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Across {
    /// The old one.
    pub from: ControlPlane,
    /// The new one.
    pub to: ControlPlane,
    /// The stage at which the mesh is changed, from 1.
    pub at: usize,
    /// The modes.
    pub modes: Vec<Mode>,
    /// How many requests may fail in all changes of the mesh together, in all modes, where that is claimed.
    pub errors: Option<u64>,
}

/// The walks of an upgrade.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Those that follow each other on one cluster, for each cluster.
    pub clusters: Vec<Vec<(Course, Leg)>>,
}

impl Across {
    /// Checks the versions, and takes the modes that Istio supports, or those that are asked for.
    ///
    /// # Errors
    /// The versions are no upgrade; a mode is asked for that Istio does not support, and that is not allowed; no stage has a claim.
    pub fn new(
        scenario: &Scenario,
        from: ControlPlane,
        to: ControlPlane,
        at: Option<usize>,
        modes: &[Mode],
        skew_allowed: bool,
    ) -> Result<Self, UpgradeError> {
        for plane in [&from, &to] {
            minor(&plane.version)?;
        }
        if from == to {
            return Err(UpgradeError::Same(from.to_string()));
        }
        if newer(&from.version, &to.version).is_gt() {
            return Err(UpgradeError::Downgrade { from: from.version, to: to.version });
        }
        let at = at.or_else(|| usual_stage(scenario));
        let at = at.ok_or_else(|| UpgradeError::NoClaims(scenario.path.display().to_string()))?;
        let mut own = Self { from, to, at, modes: Vec::new(), errors: None };
        for mode in Mode::ALL {
            let asked = modes.contains(&mode);
            match own.skew(mode)? {
                Some(skew) if asked && !skew_allowed => return Err(UpgradeError::Skew { mode, skew }),
                Some(_) if !skew_allowed => {}
                _ if asked || modes.is_empty() => own.modes.push(mode),
                _ => {}
            }
        }
        Ok(own)
    }

    /// A version compared with itself: walked twice, each time alone. What differs then differs by chance.
    ///
    /// # Errors
    /// The version is not written as one, or no stage has a claim.
    pub fn against_itself(scenario: &Scenario, plane: ControlPlane, at: Option<usize>) -> Result<Self, UpgradeError> {
        minor(&plane.version)?;
        let at = at.or_else(|| usual_stage(scenario));
        let at = at.ok_or_else(|| UpgradeError::NoClaims(scenario.path.display().to_string()))?;
        Ok(Self { from: plane.clone(), to: plane, at, modes: vec![Mode::Fresh], errors: None })
    }

    /// What a mode puts together that Istio does not support, in words.
    ///
    /// # Errors
    /// A version is not written as one.
    pub fn skew(&self, mode: Mode) -> Result<Option<String>, UpgradeError> {
        let (from, to) = (&self.from.version, &self.to.version);
        let apart = minor(to)?.saturating_sub(minor(from)?);
        Ok(match mode {
            Mode::InPlace if apart > SUPPORTED_SKEW => {
                Some(format!("the control plane of {to} over sidecars of {from}, {apart} minor versions behind"))
            }
            Mode::RollBack if apart > 0 => Some(format!("the control plane of {from} over sidecars of {to}")),
            _ => None,
        })
    }

    /// The modes that are not walked because Istio does not support what they put together, each with that.
    #[must_use]
    pub fn left_out(&self) -> Vec<(Mode, String)> {
        let out = Mode::ALL.into_iter().filter(|mode| !self.modes.contains(mode));
        out.filter_map(|mode| Some((mode, self.skew(mode).ok()??))).collect()
    }

    /// The walks: each version alone on a cluster of its own, and a walk across on one whose control plane is then the one that it begins
    /// on, which saves its start. The definitions of Istio's kinds are the new version's there: an upgrade begins with them.
    #[must_use]
    pub fn plan(&self, scenario: &Scenario) -> Plan {
        let groups: [&[Course]; 3] = if self.modes.contains(&Mode::RollBack) {
            [&[Course::FreshOnOld, Course::InPlace], &[Course::FreshOnNew, Course::RollBack, Course::Revision], &[]]
        } else if self.modes.contains(&Mode::InPlace) {
            [&[Course::FreshOnOld, Course::InPlace], &[Course::FreshOnNew], &[Course::Revision]]
        } else {
            [&[Course::FreshOnOld, Course::Revision], &[Course::FreshOnNew], &[]]
        };
        let wanted = |course: &Course| self.modes.iter().any(|mode| mode.courses().contains(course));
        let clusters = groups.into_iter().map(|group| {
            let courses = group.iter().copied().filter(wanted);
            courses.map(|course| (course, self.leg(scenario, course))).collect::<Vec<_>>()
        });
        Plan { clusters: clusters.filter(|legs| !legs.is_empty()).collect() }
    }

    /// The rows that a walk comes to, in its order. A walk across begins at the stage where the mesh is changed: those before it are walked
    /// on each version alone.
    #[must_use]
    pub fn rows(&self, scenario: &Scenario, course: Course) -> Vec<Row> {
        let mut rows = Vec::new();
        let first = if course.is_across() { self.at } else { 1 };
        for stage in first..=scenario.stages.len() {
            rows.push(Row { stage, phase: Phase::Itself });
            if stage == self.at {
                rows.extend(self.changes(course).into_iter().map(|(phase, _)| Row { stage, phase }));
            }
        }
        rows
    }

    fn leg(&self, scenario: &Scenario, course: Course) -> Leg {
        let mut scenario = scenario.clone();
        let stage = scenario.stages[self.at - 1].clone();
        if course.is_across() {
            let begun = at_once(&scenario, self.at).stages;
            scenario.stages.splice(..self.at, begun);
        }
        let changes = self.changes(course).into_iter().map(|(phase, steps)| {
            let mut expect: Vec<Expectation> = stage
                .expect
                .iter()
                .filter(|own| matches!(own, Expectation::Claim(_) | Expectation::Served { .. }))
                .cloned()
                .collect();
            let during = |errors| {
                Expectation::During(During {
                    errors: Some(errors),
                    excludes: During::EXCLUDES,
                    miss: ErrorRates::default().miss,
                    gap: None,
                    last_of: BTreeMap::new(),
                    origin: stage.origin.clone(),
                })
            };
            expect.extend(self.errors.map(during));
            Stage {
                name: format!("{}, {phase}", stage.name),
                steps: steps.into_iter().map(Step::Mesh).collect(),
                expect,
                origin: stage.origin.clone(),
            }
        });
        let changes: Vec<Stage> = changes.collect();
        let behind = if course.is_across() { 1 } else { self.at };
        scenario.stages.splice(behind..behind, changes);
        let (from, to) = (&self.from, &self.to);
        let heading = course.heading(&from.version, &to.version);
        let (first, name) = match course {
            Course::FreshOnOld => (from, format!("Istio {from}")),
            Course::FreshOnNew => (to, format!("Istio {to}")),
            Course::InPlace | Course::Revision => (from, format!("Istio {from}, then {to} {heading}")),
            Course::RollBack => (to, format!("Istio {to}, then {heading} to {from}")),
        };
        Leg { name, first: first.clone(), scenario }
    }

    /// What a walk does to the mesh at the stage where it is changed.
    fn changes(&self, course: Course) -> Vec<(Phase, Vec<MeshStep>)> {
        let over = |plane: &ControlPlane| {
            vec![
                (Phase::ControlPlane, vec![MeshStep::Install(plane.clone())]),
                (Phase::Sidecars, vec![MeshStep::Restart]),
            ]
        };
        match course {
            Course::FreshOnOld | Course::FreshOnNew => Vec::new(),
            Course::InPlace => over(&self.to),
            Course::RollBack => over(&self.from),
            Course::Revision => {
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

/// The first stage that splits versions, in the middle of which an upgrade does the most harm; otherwise the last with a claim.
fn usual_stage(scenario: &Scenario) -> Option<usize> {
    let splits = |stage: &Stage| stage.claims().any(|claim| claim.versions.values().any(|share| share.is_part()));
    let split = scenario.stages.iter().position(splits);
    let claims = || scenario.stages.iter().rposition(|stage| stage.claims().next().is_some());
    split.or_else(claims).map(|index| index + 1)
}

/// The minor version: 31 of `1.31.2`.
fn minor(version: &str) -> Result<u32, UpgradeError> {
    let mut parts = version.split('.');
    let major = parts.next().and_then(|part| part.parse::<u32>().ok());
    let minor = parts.next().and_then(|part| part.parse().ok());
    major.and(minor).ok_or_else(|| UpgradeError::NoVersion(version.to_owned()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn canary() -> Scenario {
        Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap()
    }

    fn across(from: &str, to: &str, modes: &[Mode], skew_allowed: bool) -> Result<Across, UpgradeError> {
        Across::new(&canary(), ControlPlane::of(from), ControlPlane::of(to), None, modes, skew_allowed)
    }

    #[test]
    fn all_modes_take_two_clusters_and_change_the_mesh_in_the_middle_of_the_split() {
        let across = across("1.22", "1.31", &[], true).unwrap();
        assert_eq!((across.at, across.modes.as_slice()), (4, Mode::ALL.as_slice()));
        let plan = across.plan(&canary());
        let shape: Vec<Vec<(Course, usize)>> = plan
            .clusters
            .iter()
            .map(|legs| legs.iter().map(|(course, leg)| (*course, leg.scenario.stages.len())).collect())
            .collect();
        assert_eq!(
            shape,
            [
                vec![(Course::FreshOnOld, 9), (Course::InPlace, 8)],
                vec![(Course::FreshOnNew, 9), (Course::RollBack, 8), (Course::Revision, 9)],
            ]
        );
        let (_, revision) = &plan.clusters[1][2];
        let names: Vec<&str> = revision.scenario.stages[..5].iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "testers' canary",
                "testers' canary, other control plane",
                "testers' canary, other sidecars",
                "testers' canary, control plane before removed",
                "fault"
            ]
        );
        // each change is judged as its stage is
        assert_eq!(revision.scenario.stages[2].claims().count(), 3);
        assert_eq!(across.rows(&canary(), Course::Revision).len(), 9);
    }

    #[test]
    fn what_istio_does_not_support_is_left_out_and_said_or_refused_where_it_is_asked_for() {
        let far = across("1.22", "1.31", &[], false).unwrap();
        assert_eq!(far.modes, [Mode::Fresh, Mode::Revision]);
        assert_eq!(
            far.left_out(),
            [
                (Mode::InPlace, "the control plane of 1.31 over sidecars of 1.22, 9 minor versions behind".to_owned()),
                (Mode::RollBack, "the control plane of 1.22 over sidecars of 1.31".to_owned()),
            ]
        );
        let near = across("1.30.2", "1.31.0", &[], false).unwrap();
        assert_eq!(near.modes, [Mode::Fresh, Mode::InPlace, Mode::Revision]);
        let error = across("1.22", "1.31", &[Mode::InPlace], false).unwrap_err().to_string();
        assert!(error.starts_with("in-place puts the control plane of 1.31 over sidecars of 1.22"), "{error}");
        assert_eq!(across("1.22", "1.31", &[Mode::InPlace], true).unwrap().modes, [Mode::InPlace]);
    }

    #[test]
    fn a_version_is_compared_with_itself_on_two_clusters() {
        let across = Across::against_itself(&canary(), ControlPlane::of("1.31"), None).unwrap();
        let plan = across.plan(&canary());
        let courses: Vec<Vec<Course>> =
            plan.clusters.iter().map(|legs| legs.iter().map(|(course, _)| *course).collect()).collect();
        assert_eq!(courses, [[Course::FreshOnOld], [Course::FreshOnNew]]);
        let headings = [Course::FreshOnOld, Course::FreshOnNew].map(|course| course.heading("1.31", "1.31"));
        assert_eq!(headings, ["fresh 1.31", "fresh 1.31 again"]);
        assert!(across.left_out().is_empty());
    }

    #[rstest]
    #[case::downgrade("1.31", "1.22", "from 1.31 to 1.22 is a downgrade")]
    #[case::patch_downgrade("1.31.2", "1.31.1", "from 1.31.2 to 1.31.1 is a downgrade")]
    #[case::same("1.31", "1.31", "both versions are 1.31")]
    #[case::no_version("1.31", "latest", "`latest` is not a version of Istio")]
    fn what_is_no_upgrade_is_refused(#[case] from: &str, #[case] to: &str, #[case] said: &str) {
        let error = across(from, to, &[], true).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::aspect::Aspect;
use super::cause::Regression;
use super::difference::{Difference, differences, repeated};
use super::path::{Phase, UpgradePath, Versions};
use super::path_record::{PathRecord, StageRecord};
use super::spec::UpgradeSpec;
use crate::events::{Judged, Subject, Transition};
use crate::scenario::Scenario;
use crate::session::SessionError;
use crate::verdict::Ruling;

/// The results of an upgrade test.
#[derive(Debug)]
pub struct UpgradeRecord {
    /// The upgrade.
    pub spec: UpgradeSpec,
    /// The scenario.
    pub scenario: Scenario,
    /// The start of the test.
    pub started: Timestamp,
    /// The duration of the test.
    pub took: Duration,
    /// The runs, in the order of their paths.
    pub runs: Vec<PathRecord>,
    /// The runs that were repeated.
    pub repeated: Vec<PathRecord>,
    /// The claims that the upgrade breaks.
    pub regression: Option<Regression>,
    /// Whether the test was interrupted.
    pub interrupted: bool,
    /// The error that ended a run early. The other runs are complete.
    pub failure: Option<SessionError>,
}

/// The result of an upgrade test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeResult {
    /// Every claim holds in all runs, and known changes explain all differences in behaviour.
    Safe,
    /// A claim fails, a difference in behaviour is new, or too many requests failed.
    Unsafe,
    /// Runs are missing.
    Incomplete,
}

/// The conclusions from an [`UpgradeRecord`].
#[derive(Debug, Clone)]
pub struct Assessment {
    /// The result.
    pub result: UpgradeResult,
    /// The differences between runs. Each comes with the run in which it shows; with none, it is one between the two versions alone.
    pub differences: Vec<(Option<UpgradePath>, Difference)>,
    /// The claims of the scenario at the stages that were run.
    pub claims: usize,
    /// Those of the claims that fail in a run, with their stage.
    pub failing: BTreeSet<(usize, String)>,
    /// The requests that failed during all changes of the mesh, and the claimed limit that they exceed.
    pub too_many_errors: Option<(u64, u64)>,
}

impl Assessment {
    /// The differences in behaviour that no known change explains.
    pub fn unexplained(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().map(|(_, found)| found).filter(|found| is_unexplained(found))
    }
}

fn is_unexplained(found: &Difference) -> bool {
    found.change.aspect.is_behaviour() && found.known.is_none()
}

/// Two runs that are compared.
struct Compared {
    /// The run that changes the mesh; none where the runs on each version alone are compared.
    changing: Option<UpgradePath>,
    /// The run on one version alone.
    fresh: UpgradePath,
    /// The stages that both runs reached.
    stages: BTreeSet<usize>,
    differences: Vec<Difference>,
}

impl UpgradeRecord {
    /// An empty record of a test that starts now.
    pub fn new(spec: UpgradeSpec, scenario: Scenario) -> Self {
        Self {
            spec,
            scenario,
            started: Timestamp::now(),
            took: Duration::ZERO,
            runs: Vec::new(),
            repeated: Vec::new(),
            regression: None,
            interrupted: false,
            failure: None,
        }
    }

    /// Adds runs, in the order of paths and not of clusters.
    pub fn add(&mut self, runs: Vec<PathRecord>) {
        self.runs.extend(runs);
        self.runs.sort_by_key(|run| run.path);
    }

    /// The run along a path.
    pub(super) fn run(&self, path: UpgradePath) -> Option<&PathRecord> {
        self.runs.iter().find(|run| run.path == path)
    }

    /// The first stage, from 1, with claims that hold on the old version and fail on the new one; with these claims.
    pub(super) fn broken_claims(&self) -> Option<(usize, Vec<Judged>)> {
        let (old, new) = (self.run(UpgradePath::FreshOnOld)?, self.run(UpgradePath::FreshOnNew)?);
        new.themselves().find_map(|stage| {
            let held = old.stage(stage.row)?;
            let failed = stage.judged.iter().filter(|judged| judged.verdict.ruling == Ruling::Fail);
            let failed = failed.filter(|judged| {
                let same = |other: &&Judged| other.subject == judged.subject && other.claim == judged.claim;
                held.judged.iter().find(same).is_none_or(|before| before.verdict.ruling == Ruling::Pass)
            });
            let failed: Vec<Judged> = failed.cloned().collect();
            (!failed.is_empty()).then_some((stage.row.stage, failed))
        })
    }

    /// The runs that must be repeated before their differences are reported as new. A stage with a claim that changed its verdict needs no
    /// repetition: the verdict has error probabilities of its own, and the samples of the stage differ as a consequence.
    pub(super) fn to_repeat(&self) -> BTreeSet<UpgradePath> {
        let compared = self.compared(&self.runs);
        let open = compared.iter().filter(|pair| {
            let ruled = |number: usize| {
                let is_claim = |other: &Difference| matches!(other.change.aspect, Aspect::Claim(_));
                pair.differences.iter().any(|other| other.number == number && is_claim(other))
            };
            pair.differences.iter().any(|found| found.has_to_repeat() && !ruled(found.number))
        });
        open.flat_map(|pair| [pair.fresh, pair.changing.unwrap_or(UpgradePath::FreshOnNew)]).collect()
    }

    /// Draws the conclusions.
    pub fn assess(&self) -> Assessment {
        let differences = self.differences();
        let too_many_errors = self.too_many_errors();
        let expected = self.spec.modes.iter().map(|mode| mode.paths().len()).sum::<usize>();
        let complete = !self.interrupted && self.runs.len() == expected;
        let holds = self.runs.iter().all(PathRecord::holds) && too_many_errors.is_none();
        let result = match (complete, holds && !differences.iter().any(|(_, found)| is_unexplained(found))) {
            (false, _) => UpgradeResult::Incomplete,
            (true, true) => UpgradeResult::Safe,
            (true, false) => UpgradeResult::Unsafe,
        };
        // a run that changes the mesh skips the stages before the change
        let run: BTreeSet<usize> = self.stages().map(|stage| stage.row.stage).collect();
        let stages = (1..).zip(&self.scenario.stages).filter(|(number, _)| run.contains(number));
        let claims = stages.map(|(_, stage)| stage.expect.len()).sum();
        Assessment { result, differences, claims, failing: self.failing(), too_many_errors }
    }

    fn stages(&self) -> impl Iterator<Item = &StageRecord> {
        self.runs.iter().flat_map(|run| &run.stages)
    }

    /// The differences between the two versions alone, and those between each change of the mesh and the version it starts from or leads to.
    /// Differences that had to show again and did not are left out.
    fn differences(&self) -> Vec<(Option<UpgradePath>, Difference)> {
        let mut again = self.compared(&self.repeated);
        let mut all = Vec::new();
        for pair in self.compared(&self.runs) {
            let other = again.iter().position(|other| (other.changing, other.fresh) == (pair.changing, pair.fresh));
            let found = match other.map(|index| again.swap_remove(index)) {
                None => pair.differences,
                Some(other) => repeated(pair.differences, &other.differences, |stage| other.stages.contains(&stage)),
            };
            all.extend(found.into_iter().map(|found| (pair.changing, found)));
        }
        all
    }

    /// The pairs of runs that are compared: the two versions alone, and each change of the mesh with each version alone.
    fn compared(&self, runs: &[PathRecord]) -> Vec<Compared> {
        let versions = self.spec.versions();
        let run = |path: UpgradePath| runs.iter().find(|run| run.path == path);
        let stages = |one: &PathRecord, other: &PathRecord| {
            let both = one.themselves().filter(|stage| other.stage(stage.row).is_some());
            both.map(|stage| stage.row.stage).collect()
        };
        let mut all = Vec::new();
        if let (Some(old), Some(new)) = (run(UpgradePath::FreshOnOld), run(UpgradePath::FreshOnNew)) {
            all.push(Compared {
                changing: None,
                fresh: UpgradePath::FreshOnOld,
                stages: stages(old, new),
                differences: differences(old, new, versions),
            });
        }
        let (old, new) = ((UpgradePath::FreshOnOld, versions.from), (UpgradePath::FreshOnNew, versions.to));
        for changing in runs {
            let (before, after) = match changing.path {
                UpgradePath::FreshOnOld | UpgradePath::FreshOnNew => continue,
                UpgradePath::InPlace | UpgradePath::Revision => (old, new),
                UpgradePath::RollBack => (new, old),
            };
            for ((path, version), is_before) in [(before, true), (after, false)] {
                let Some(fresh) = run(path) else { continue };
                let same = Versions { from: version, to: version, ..versions };
                let found = differences(fresh, changing, same).into_iter().filter(|found| {
                    // the configuration differs between namespaces, since it contains their names
                    (found.number <= self.spec.at) == is_before && found.change.aspect.is_behaviour()
                });
                all.push(Compared {
                    changing: Some(changing.path),
                    fresh: path,
                    stages: stages(fresh, changing),
                    differences: found.collect(),
                });
            }
        }
        all
    }

    fn too_many_errors(&self) -> Option<(u64, u64)> {
        let allowed = self.spec.errors?;
        let changes = self.stages().filter(|stage| stage.row.phase != Phase::Itself);
        let failed = changes.filter_map(|stage| stage.transition.as_ref()).map(Transition::failed).sum::<u64>();
        (failed > allowed).then_some((failed, allowed))
    }

    fn failing(&self) -> BTreeSet<(usize, String)> {
        let failing = self.stages().flat_map(|stage| {
            // the scenario does not claim routes, and the claims of a change are those of its stage
            let failed = stage.failed().filter(|judged| judged.subject != Subject::Routes);
            failed.map(|judged| (stage.row.stage, format!("{}: {}", judged.subject, judged.claim)))
        });
        failing.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::events::{Event, Fingerprint, PickOrder};
    use crate::scenario::{ControlPlane, IstioVersion, Origin};
    use crate::upgrade::Row;
    use crate::verdict::Verdict;

    /// A run with a fingerprint of the first stage.
    fn run(path: UpgradePath, order: PickOrder) -> PathRecord {
        let mut run = PathRecord::new(path, vec![Row { stage: 1, phase: Phase::Itself }]);
        run.take(&Event::Stage { number: 1, name: "first release".to_owned(), edits: Vec::new() });
        let flow = ("everyone".to_owned(), "/".to_owned());
        let print = Fingerprint { order: BTreeMap::from([(flow, order)]), ..Fingerprint::default() };
        run.take(&Event::Fingerprinted(Box::new(print)));
        run
    }

    fn record(old: PickOrder, new: PickOrder) -> UpgradeRecord {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let spec = UpgradeSpec::against_itself(&scenario, ControlPlane::of(IstioVersion::new(1, 31)), None).unwrap();
        let mut record = UpgradeRecord::new(spec, scenario);
        record.add(vec![run(UpgradePath::FreshOnOld, old), run(UpgradePath::FreshOnNew, new)]);
        record
    }

    #[test]
    fn what_does_not_repeat_is_no_difference() {
        let mut record = record(PickOrder::Drawn, PickOrder::One);
        assert_eq!(record.to_repeat(), [UpgradePath::FreshOnOld, UpgradePath::FreshOnNew].into());
        record.repeated.push(run(UpgradePath::FreshOnOld, PickOrder::Drawn));
        record.repeated.push(run(UpgradePath::FreshOnNew, PickOrder::Drawn));
        assert!(record.assess().differences.is_empty());
    }

    #[test]
    fn a_stage_whose_claim_fails_is_not_walked_again() {
        let judged = |ruling: Ruling, order: PickOrder| {
            let mut run = run(UpgradePath::FreshOnOld, order);
            run.take(&Event::Judged(Judged {
                subject: Subject::Population { name: "everyone".to_owned(), path: "/".to_owned() },
                claim: "v1".to_owned(),
                verdict: Verdict::counted(ruling, 100, String::new()),
                hints: Vec::new(),
                place: Origin::new("scenario.yaml", 1, 1),
                errors: None,
                layer: None,
            }));
            run
        };
        let mut record = record(PickOrder::Drawn, PickOrder::One);
        record.runs = vec![judged(Ruling::Pass, PickOrder::Drawn), judged(Ruling::Fail, PickOrder::One)];
        record.runs[1].path = UpgradePath::FreshOnNew;
        assert!(record.to_repeat().is_empty());
        // both are reported
        assert_eq!(record.assess().differences.len(), 2);
    }

    #[test]
    fn what_repeats_is_a_new_difference() {
        let mut record = record(PickOrder::Drawn, PickOrder::One);
        record.repeated.push(run(UpgradePath::FreshOnOld, PickOrder::Drawn));
        record.repeated.push(run(UpgradePath::FreshOnNew, PickOrder::One));
        let differences = record.assess().differences;
        assert_eq!(differences.len(), 1);
        let (_, found) = &differences[0];
        assert_eq!((found.change.before.as_str(), found.change.after.as_str()), ("drawn each time", "one server"));
        assert!(found.known.is_none());
    }

    #[test]
    fn what_was_not_looked_for_again_stays_a_difference() {
        let mut other = record(PickOrder::Drawn, PickOrder::One);
        // the run broke off before it reached the stage
        other.repeated.push(PathRecord::new(UpgradePath::FreshOnOld, Vec::new()));
        other.repeated.push(run(UpgradePath::FreshOnNew, PickOrder::Drawn));
        assert_eq!(other.assess().differences.len(), 1);
        assert!(record(PickOrder::Drawn, PickOrder::Drawn).to_repeat().is_empty());
    }
}

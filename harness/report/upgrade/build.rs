use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::model::{
    Cell, Change, Cleared, Difference, Known, LeftOut, RowName, UPGRADE_SCHEMA_VERSION, UpgradeReport, Walk,
};
use crate::report::model::{Outcome, Tool};
use crate::report::terminal::{plural, subject};
use crate::scenario::Scenario;
use crate::upgrade::{Across, Aspect, Cause, Course, Phase, Row, Suspect, Walked, WalkedStage, differences, repeated};
use crate::verdict::Ruling;
use crate::walk::{Judged, Subject, Transition};

/// Two walks that are compared.
struct Compared {
    /// The walk in which the mesh is changed; none where each version is walked alone.
    across: Option<Course>,
    /// The walk on one version alone that it is compared with.
    fresh: Course,
    /// The stages that both came to.
    stages: BTreeSet<usize>,
    differences: Vec<crate::upgrade::Difference>,
}

/// Puts the walks of an upgrade together.
#[derive(Debug)]
pub struct UpgradeRecorder {
    across: Across,
    scenario: Scenario,
    reproduce: String,
    started: String,
    start: Instant,
    walks: Vec<Walked>,
    /// The walks that were walked again.
    again: Vec<Walked>,
    causes: Vec<Cleared>,
}

impl UpgradeRecorder {
    /// A recorder of an upgrade that begins now; `reproduce` is the command that runs it again.
    #[must_use]
    pub fn new(across: Across, scenario: Scenario, reproduce: String) -> Self {
        Self {
            across,
            scenario,
            reproduce,
            started: format!("{:.0}", Timestamp::now()),
            start: Instant::now(),
            walks: Vec::new(),
            again: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Takes a walk.
    pub fn walked(&mut self, walked: Walked) {
        self.walks.push(walked);
        // as they are read, not as clusters were at hand
        self.walks.sort_by_key(|walked| walked.course);
    }

    /// The walk of a course, if it was walked.
    #[must_use]
    pub fn walk(&self, course: Course) -> Option<&Walked> {
        self.walks.iter().find(|walked| walked.course == course)
    }

    /// The first stage, from 1, with claims that hold on the old version and fail on the new one; with these claims.
    #[must_use]
    pub fn broken_claims(&self) -> Option<(usize, Vec<String>)> {
        let (old, new) = (self.walk(Course::FreshOnOld)?, self.walk(Course::FreshOnNew)?);
        new.themselves().find_map(|stage| {
            let held = old.stage(stage.row)?;
            let failed = stage.judged.iter().filter(|judged| judged.verdict.ruling == Ruling::Fail);
            let failed = failed.filter(|judged| {
                let before = held.judged.iter().find(|own| own.subject == judged.subject && own.claim == judged.claim);
                before.is_none_or(|own| own.verdict.ruling == Ruling::Pass)
            });
            let failed: Vec<String> = failed.map(words).collect();
            (!failed.is_empty()).then_some((stage.row.stage, failed))
        })
    }

    /// What was found of the cause of claims that fail at a stage.
    pub fn cleared(&mut self, stage: usize, claims: Vec<String>, cause: &Cause, suspects: Vec<Suspect>) {
        let to = &self.across.to.version;
        let cause = match cause {
            Cause::Setting(setting) => {
                format!("the setting {setting}, which {to} alone was given: without it they hold on {to}, too")
            }
            Cause::Flag { name, old, compatible_with } => format!(
                "the flag {name}: with {name}={old}, its value under compatibilityVersion={compatible_with}, they hold on {to}, too"
            ),
            Cause::Flags { names, compatible_with } => format!(
                "several flags together: with compatibilityVersion={compatible_with} they hold on {to}, too, with none of these alone: {}",
                names.join(", ")
            ),
            Cause::Routes { missing, instead } => {
                format!("no flag; the client's sidecar has {instead}, where the manifests ask for {missing}")
            }
            Cause::Configuration { path, before, after } => {
                format!("no flag; first in the sidecar's configuration: {path}: {before} → {after}")
            }
            Cause::Unknown => "neither a flag nor the sidecar's configuration explains it".to_owned(),
        };
        let suspects = suspects.into_iter().map(|own| format!("{} ({}) acts on {}", own.object, own.place, own.limit));
        let stage = self.scenario.stages[stage - 1].name.clone();
        self.causes.push(Cleared { stage, claims, cause, suspects: suspects.collect() });
    }

    /// The report of an upgrade that ended now; `called_off` if it did not come to its end.
    #[must_use]
    pub fn close(self, called_off: bool) -> UpgradeReport {
        let (from, to) = (&self.across.from.version, &self.across.to.version);
        let mut rows: BTreeSet<Row> = BTreeSet::new();
        for walked in &self.walks {
            rows.extend(self.across.rows(&self.scenario, walked.course));
        }
        let rows: Vec<Row> = rows.into_iter().collect();
        let walks = self.walks.iter().map(|walked| Walk {
            name: walked.course.heading(from, to),
            folder: walked.course.folder(from, to),
            holds: walked.holds(),
            broke: walked.broke.clone(),
            cells: rows.iter().map(|row| walked.stage(*row).map(cell)).collect(),
        });
        let walks: Vec<Walk> = walks.collect();
        let differences = self.differences();
        let new = differences.iter().filter(|own| own.behaviour && own.known.is_none()).count();
        let complete = walks.len() == self.across.modes.iter().map(|mode| mode.courses().len()).sum::<usize>();
        let holds = walks.iter().all(|walk| walk.holds);
        let result = match (called_off || !complete, holds && new == 0 && self.too_many_errors().is_none()) {
            (true, _) => Outcome::Interrupted,
            (false, true) => Outcome::Passed,
            (false, false) => Outcome::Failed,
        };
        let name = |row: &Row| match row.phase {
            Phase::Itself => self.scenario.stages[row.stage - 1].name.clone(),
            phase => phase.to_string(),
        };
        let rows =
            rows.iter().map(|row| RowName { stage: row.stage, name: name(row), is_change: row.phase != Phase::Itself });
        UpgradeReport {
            schema_version: UPGRADE_SCHEMA_VERSION,
            tool: Tool { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            took: seconds(self.start.elapsed()),
            sentence: self.sentence(result, &differences),
            result,
            rows: rows.collect(),
            walks,
            left_out: self
                .across
                .left_out()
                .into_iter()
                .map(|(mode, because)| LeftOut { mode: mode.to_string(), because })
                .collect(),
            differences,
            from: self.across.from.to_string(),
            to: self.across.to.to_string(),
            at: self.scenario.stages[self.across.at - 1].name.clone(),
            scenario: self.scenario.name,
            started: self.started,
            reproduce: self.reproduce,
            causes: self.causes,
        }
    }

    /// What is another on the new version alone, and what is another in a change than on the version that it leads to; without what was
    /// looked for again and did not repeat.
    fn differences(&self) -> Vec<Difference> {
        let (from, to) = (&self.across.from.version, &self.across.to.version);
        let mut again = self.compared(&self.again);
        let mut all = Vec::new();
        for own in self.compared(&self.walks) {
            let heading = own.across.map(|course| course.heading(from, to));
            let other = again.iter().position(|other| (other.across, other.fresh) == (own.across, own.fresh));
            let found = match other.map(|index| again.swap_remove(index)) {
                None => own.differences,
                Some(other) => repeated(own.differences, &other.differences, |stage| other.stages.contains(&stage)),
            };
            all.extend(found.into_iter().map(|own| difference(heading.clone(), own)));
        }
        all
    }

    /// The walks that are to be walked again, since they show what has to repeat before it is called new. A stage with a claim that is
    /// decided otherwise is not: the ruling has error rates of its own, and the samples of the stage differ with it.
    #[must_use]
    pub fn to_repeat(&self) -> BTreeSet<Course> {
        let compared = self.compared(&self.walks);
        let open = compared.iter().filter(|pair| {
            let ruled = |number: usize| {
                pair.differences.iter().any(|other| other.number == number && matches!(other.aspect, Aspect::Claim(_)))
            };
            pair.differences.iter().any(|found| found.has_to_repeat() && !ruled(found.number))
        });
        open.flat_map(|own| [own.fresh, own.across.unwrap_or(Course::FreshOnNew)]).collect()
    }

    /// Takes a walk that was walked again.
    pub fn walked_again(&mut self, walked: Walked) {
        self.again.push(walked);
    }

    /// The pairs of walks that are compared: each version alone, and each change of the mesh with the version that it leads to.
    fn compared(&self, walks: &[Walked]) -> Vec<Compared> {
        let (from, to) = (self.across.from.version.as_str(), self.across.to.version.as_str());
        let walk = |course: Course| walks.iter().find(|walked| walked.course == course);
        let stages = |one: &Walked, other: &Walked| {
            let both = one.themselves().filter(|stage| other.stage(stage.row).is_some());
            both.map(|stage| stage.row.stage).collect()
        };
        let mut all = Vec::new();
        if let (Some(old), Some(new)) = (walk(Course::FreshOnOld), walk(Course::FreshOnNew)) {
            all.push(Compared {
                across: None,
                fresh: Course::FreshOnOld,
                stages: stages(old, new),
                differences: differences(old, new, from, to),
            });
        }
        let (old, new) = ((Course::FreshOnOld, from), (Course::FreshOnNew, to));
        for walked in walks {
            let (before, after) = match walked.course {
                Course::FreshOnOld | Course::FreshOnNew => continue,
                Course::InPlace | Course::Revision => (old, new),
                Course::RollBack => (new, old),
            };
            for ((course, version), is_before) in [(before, true), (after, false)] {
                let Some(fresh) = walk(course) else { continue };
                let own = differences(fresh, walked, version, version).into_iter().filter(|own| {
                    // in another namespace, where names are others, a sidecar is told other things
                    (own.number <= self.across.at) == is_before && own.aspect.is_behaviour()
                });
                all.push(Compared {
                    across: Some(walked.course),
                    fresh: course,
                    stages: stages(fresh, walked),
                    differences: own.collect(),
                });
            }
        }
        all
    }

    /// The requests that failed in all changes of the mesh together and how many may, where those are more.
    fn too_many_errors(&self) -> Option<(u64, u64)> {
        let allowed = self.across.errors?;
        let stages = self.walks.iter().flat_map(|walked| &walked.stages);
        let changes =
            stages.filter(|stage| stage.row.phase != Phase::Itself).filter_map(|stage| stage.transition.as_ref());
        let failed = changes.map(Transition::failed).sum::<u64>();
        (failed > allowed).then_some((failed, allowed))
    }

    /// What a release manager needs.
    fn sentence(&self, result: Outcome, differences: &[Difference]) -> String {
        // a walk across leaves out the stages before the change
        let walked: BTreeSet<usize> =
            self.walks.iter().flat_map(|walked| &walked.stages).map(|stage| stage.row.stage).collect();
        let stages = (1..).zip(&self.scenario.stages).filter(|(number, _)| walked.contains(number));
        let claims = stages.map(|(_, stage)| stage.expect.len()).sum::<usize>();
        let failing = self.failing();
        let modes = plural(self.across.modes.len(), "mode");
        let holding =
            format!("{} of {} hold in {modes}", claims.saturating_sub(failing.len()), plural(claims, "claim"));
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for own in differences.iter().filter(|own| own.behaviour) {
            if let Some(change) = &own.known {
                *known.entry(&change.id).or_default() += 1;
            }
        }
        let names = known.keys().copied().collect::<Vec<_>>().join(", ");
        let known = match known.len() {
            0 => "no known change shows".to_owned(),
            count => format!("{}: {names}", plural(count, "known change")),
        };
        let new: Vec<&Difference> = differences.iter().filter(|own| own.behaviour && own.known.is_none()).collect();
        match result {
            Outcome::Passed => format!("safe for this rollout: {holding}; {known}"),
            Outcome::Interrupted => "called off".to_owned(),
            _ => {
                let broke = self.walks.iter().filter(|walked| walked.broke.is_some()).count();
                let broke = if broke == 0 { String::new() } else { format!("; {} broke off", plural(broke, "walk")) };
                let new = match new.len() {
                    0 => String::new(),
                    count => format!("; {} that no known change explains", plural(count, "difference")),
                };
                let errors = self.too_many_errors().map_or_else(String::new, |(failed, allowed)| {
                    let failed = plural(usize::try_from(failed).unwrap_or(usize::MAX), "request");
                    format!("; {failed} failed in all changes of the mesh, where at most {allowed} may")
                });
                format!("not safe for this rollout: {holding}{new}{errors}{broke}; {known}")
            }
        }
    }

    /// The claims of the scenario that fail in some walk, by stage.
    fn failing(&self) -> BTreeSet<(usize, String)> {
        let stages = self.walks.iter().flat_map(|walked| &walked.stages);
        let failing = stages.flat_map(|stage| {
            // that of the routes is the walk's own, and those of a change are the stage's again
            let failed = stage
                .judged
                .iter()
                .filter(|judged| judged.verdict.ruling != Ruling::Pass && judged.subject != Subject::Routes);
            failed.map(|judged| (stage.row.stage, format!("{}: {}", subject(&judged.subject), judged.claim)))
        });
        failing.collect()
    }
}

fn difference(walk: Option<String>, own: crate::upgrade::Difference) -> Difference {
    Difference {
        walk,
        stage: own.stage,
        what: own.aspect.to_string(),
        behaviour: own.aspect.is_behaviour(),
        before: own.before,
        after: own.after,
        known: own.known.map(|known| Known {
            id: known.id.clone(),
            since: known.since.clone(),
            what: known.what.clone(),
            flag: known.flag.clone(),
        }),
    }
}

fn cell(stage: &WalkedStage) -> Cell {
    let held = stage.held();
    let failed = stage.judged.iter().filter(|judged| judged.verdict.ruling != Ruling::Pass);
    Cell {
        held: held.held,
        of: held.of,
        failed: failed.map(words).collect(),
        change: stage.transition.as_ref().filter(|_| stage.row.phase != Phase::Itself).map(change),
        converged: stage.converged.map(seconds),
        took: seconds(stage.took),
    }
}

fn change(transition: &Transition) -> Change {
    let mut answers: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for tallied in &transition.answers {
        *answers.entry(tallied.from.clone()).or_default().entry(tallied.answer.to_string()).or_default() +=
            tallied.count;
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    let rate = transition.requests as f64 / transition.took.as_secs_f64().max(1e-3);
    Change {
        requests: transition.requests,
        rate: (rate * 10.0).round() / 10.0,
        errors: transition.errors.clone(),
        gap: seconds(transition.gap.lasted),
        answers,
    }
}

fn words(judged: &Judged) -> String {
    let because = judged.hints.first().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}: {} — {}{because}", subject(&judged.subject), judged.claim, judged.verdict.reason)
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{ControlPlane, Origin};
    use crate::upgrade::Mode;
    use crate::verdict::Verdict;
    use crate::walk::{Event, Fingerprint, Order};

    /// A walk of which the first stage was fingerprinted.
    fn walked(course: Course, order: Order) -> Walked {
        let mut walked = Walked::new(course, vec![Row { stage: 1, phase: Phase::Itself }]);
        walked.take(&Event::Stage { number: 1, name: "first release".to_owned(), edits: Vec::new() });
        let flow = ("everyone".to_owned(), "/".to_owned());
        let print = Fingerprint { order: BTreeMap::from([(flow, order)]), ..Fingerprint::default() };
        walked.take(&Event::Fingerprinted(Box::new(print)));
        walked
    }

    fn recorder(old: Order, new: Order) -> UpgradeRecorder {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let across = Across::against_itself(&scenario, ControlPlane::of("1.31"), None).unwrap();
        let mut recorder = UpgradeRecorder::new(across, scenario, String::new());
        recorder.walked(walked(Course::FreshOnOld, old));
        recorder.walked(walked(Course::FreshOnNew, new));
        recorder
    }

    #[test]
    fn what_does_not_repeat_is_no_difference() {
        let mut recorder = recorder(Order::Drawn, Order::One);
        assert_eq!(recorder.to_repeat(), [Course::FreshOnOld, Course::FreshOnNew].into());
        recorder.walked_again(walked(Course::FreshOnOld, Order::Drawn));
        recorder.walked_again(walked(Course::FreshOnNew, Order::Drawn));
        assert!(recorder.close(false).differences.is_empty());
    }

    #[test]
    fn a_stage_whose_claim_fails_is_not_walked_again() {
        let judged = |ruling: Ruling, order: Order| {
            let mut walked = walked(Course::FreshOnOld, order);
            walked.take(&Event::Judged(Judged {
                subject: Subject::Population { name: "everyone".to_owned(), path: "/".to_owned() },
                claim: "v1".to_owned(),
                verdict: Verdict::counted(ruling, 100, String::new()),
                hints: Vec::new(),
                place: Origin::new("scenario.yaml", 1, 1),
                errors: None,
                link: None,
            }));
            walked
        };
        let mut recorder = recorder(Order::Drawn, Order::One);
        recorder.walks = vec![judged(Ruling::Pass, Order::Drawn), judged(Ruling::Fail, Order::One)];
        recorder.walks[1].course = Course::FreshOnNew;
        assert!(recorder.to_repeat().is_empty());
        // both are told
        assert_eq!(recorder.close(false).differences.len(), 2);
    }

    #[test]
    fn what_repeats_is_a_new_difference() {
        let mut recorder = recorder(Order::Drawn, Order::One);
        recorder.walked_again(walked(Course::FreshOnOld, Order::Drawn));
        recorder.walked_again(walked(Course::FreshOnNew, Order::One));
        let report = recorder.close(false);
        assert_eq!(report.differences.len(), 1);
        assert_eq!(
            (report.differences[0].before.as_str(), report.differences[0].after.as_str()),
            ("drawn each time", "one server")
        );
        assert!(report.differences[0].known.is_none());
    }

    #[test]
    fn what_was_not_looked_for_again_stays_a_difference() {
        let mut other = recorder(Order::Drawn, Order::One);
        // the walk broke off before it came to the stage
        other.walked_again(Walked::new(Course::FreshOnOld, Vec::new()));
        other.walked_again(walked(Course::FreshOnNew, Order::Drawn));
        assert_eq!(other.close(false).differences.len(), 1);
        assert!(recorder(Order::Drawn, Order::Drawn).to_repeat().is_empty());
    }

    /// The report of an upgrade with so many errors in each of two walks across, of which ten are allowed in all.
    fn report(errors: u64) -> UpgradeReport {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let planes = [ControlPlane::of("1.30"), ControlPlane::of("1.31")];
        let [from, to] = planes;
        let modes = [Mode::InPlace, Mode::RollBack];
        let across = Across::new(&scenario, from, to, None, &modes, true).unwrap();
        let across = Across { errors: Some(10), ..across };
        let mut recorder = UpgradeRecorder::new(across.clone(), scenario.clone(), String::new());
        for course in [Course::InPlace, Course::RollBack] {
            let rows = across.rows(&scenario, course);
            let mut walked = Walked::new(course, rows.clone());
            for row in rows {
                walked.take(&Event::Stage { number: row.stage, name: String::new(), edits: Vec::new() });
                if row.phase == Phase::Sidecars {
                    let errors = [("503".to_owned(), errors)].into();
                    walked.take(&Event::Changed(Transition { requests: 1000, errors, ..Transition::default() }));
                }
            }
            recorder.walked(walked);
        }
        recorder.close(false)
    }

    #[test]
    fn failed_requests_are_summed_over_all_changes_of_all_modes() {
        let few = report(5);
        assert_eq!(few.result, Outcome::Passed, "{}", few.sentence);
        // no more than ten in either mode, 12 in all
        let many = report(6);
        assert_eq!(many.result, Outcome::Failed);
        assert!(
            many.sentence.contains("; 12 requests failed in all changes of the mesh, where at most 10 may"),
            "{}",
            many.sentence
        );
    }
}

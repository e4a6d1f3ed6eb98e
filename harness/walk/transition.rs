use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::Tallied;
use crate::scenario::{Scenario, Stage, Step};
use crate::verdict::Answer;
use crate::verify::{Given, Seen, Stages};

/// What was seen of the traffic while a stage changed the mesh, from before the first object was applied until its sidecar had converged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transition {
    /// All requests.
    pub requests: u64,
    /// Those whose answer belongs neither to the stage before nor to this one, in words, with their numbers.
    pub errors: BTreeMap<String, u64>,
    /// What came when, in steps of [`STEP`]; steps without an answer are left out.
    pub timeline: Vec<Moment>,
    /// For each population that is given something else from now on, when that was seen.
    pub shifts: Vec<Shift>,
    /// Who was answered what, and how often.
    pub answers: Vec<Tallied>,
    /// The longest time in which no answer came.
    pub gap: Duration,
    /// How long requests were sent.
    pub took: Duration,
}

/// The steps in which the time of a change is told.
pub const STEP: Duration = Duration::from_millis(100);

/// What came to a population in one step of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// The population.
    pub from: String,
    /// The steps before it, since the start of the change.
    pub step: u64,
    /// Answers that only the stage before gives.
    pub old: u64,
    /// Answers that both stages give.
    pub both: u64,
    /// Answers that only this stage gives.
    pub new: u64,
    /// Answers that neither gives.
    pub errors: u64,
}

/// When a population was seen to be given something else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shift {
    /// The population.
    pub from: String,
    /// What is new, in words; empty where nothing is.
    pub new: String,
    /// When that was answered first, since the start of the change.
    pub first_new: Option<Duration>,
    /// When an answer came last that only the stage before gives.
    pub last_old: Option<Duration>,
}

impl Transition {
    /// The number of errors.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// What a population may be answered before a stage, and after it.
type BeforeAndAfter = (BTreeSet<Seen>, BTreeSet<Seen>);

/// What each population is given before and after each stage, by the manifests: what is to be expected of answers in between.
#[derive(Debug)]
pub(super) struct Expected {
    stages: Vec<BTreeMap<String, BeforeAndAfter>>,
    changes: Vec<bool>,
}

impl Expected {
    pub fn new(scenario: &Scenario) -> Self {
        let mut stages = Stages::new(scenario);
        let mut before: BTreeMap<String, BTreeSet<Seen>> = BTreeMap::new();
        let mut table = None;
        let (mut all, mut changes) = (Vec::new(), Vec::new());
        while stages.advance().is_some() {
            let mesh = stages.mesh();
            let outbound = mesh.outbound(stages.client());
            let mut now = BTreeMap::new();
            for population in &scenario.populations {
                let given = Given::to(population, &scenario.service, "/", &outbound);
                now.insert(population.name.clone(), given.seen.into_keys().collect::<BTreeSet<_>>());
            }
            let both = now
                .iter()
                .map(|(name, now)| (name.clone(), (before.get(name).cloned().unwrap_or_default(), now.clone())));
            all.push(both.collect());
            let own = stages.table(&outbound);
            changes.push(table.as_ref() != Some(&own));
            (before, table) = (now, Some(own));
        }
        Self { stages: all, changes }
    }

    /// Whether a stage, by its position from 1, changes the client's routes or their endpoints.
    pub fn changes(&self, number: usize) -> bool {
        self.changes.get(number - 1).copied().unwrap_or(false)
    }

    /// A witness of the change that a stage makes.
    pub fn witness(&self, number: usize, scenario: &Scenario) -> Witness {
        let populations = scenario.populations.iter().map(|population| {
            let (before, after) = self.stages[number - 1][&population.name].clone();
            let new = after.difference(&before).map(words).collect::<Vec<_>>().join(", ");
            (Shift { from: population.name.clone(), new, ..Shift::default() }, before, after)
        });
        Witness {
            populations: populations.collect(),
            steps: BTreeMap::new(),
            transition: Transition::default(),
            last: Duration::ZERO,
        }
    }
}

/// Whether traffic is worth watching while a stage is applied: something is done, somebody is asked, and the client is there already.
pub(super) fn is_watched(number: usize, stage: &Stage) -> bool {
    number > 1 && !stage.steps.is_empty() && stage.claims().next().is_some()
}

/// Whether a stage changes the mesh itself.
pub(super) fn changes_mesh(stage: &Stage) -> bool {
    stage.steps.iter().any(|step| matches!(step, Step::Mesh(_)))
}

/// Watches answers while a stage is applied.
pub(super) struct Witness {
    populations: Vec<(Shift, BTreeSet<Seen>, BTreeSet<Seen>)>,
    /// By step and population.
    steps: BTreeMap<(u64, usize), Moment>,
    transition: Transition,
    /// When the last answer came.
    last: Duration,
}

impl Witness {
    /// An answer to a population, by its position. It counts for the time at which its request was due; answers come in any order.
    pub fn see(&mut self, population: usize, answer: &Answer, due: Duration, at: Duration) {
        self.transition.requests += 1;
        self.transition.gap = self.transition.gap.max(at.saturating_sub(self.last));
        self.last = self.last.max(at);
        let Some((shift, before, after)) = self.populations.get_mut(population) else { return };
        let was = before.iter().any(|seen| is_as(answer, seen));
        let is = after.iter().any(|seen| is_as(answer, seen));
        let step = u64::try_from(due.as_millis() / STEP.as_millis()).unwrap_or(u64::MAX);
        let moment = self.steps.entry((step, population)).or_insert_with(|| Moment {
            from: shift.from.clone(),
            step,
            ..Moment::default()
        });
        match (was, is) {
            (true, false) => {
                shift.last_old = shift.last_old.max(Some(due));
                moment.old += 1;
            }
            (false, true) => {
                shift.first_new = Some(shift.first_new.map_or(due, |first| first.min(due)));
                moment.new += 1;
            }
            (true, true) => moment.both += 1,
            (false, false) => {
                moment.errors += 1;
                *self.transition.errors.entry(answer.to_string()).or_default() += 1;
            }
        }
    }

    pub fn transition(mut self) -> Transition {
        let shifts = self.populations.into_iter().filter(|(_, before, after)| before != after);
        self.transition.shifts = shifts.map(|(shift, _, _)| shift).collect();
        self.transition.timeline = self.steps.into_values().collect();
        self.transition
    }
}

/// A mark that is set when the change is over.
#[derive(Debug, Default)]
pub(super) struct Over(Cell<bool>);

impl Over {
    pub fn set(&self) {
        self.0.set(true);
    }

    pub fn is_set(&self) -> bool {
        self.0.get()
    }
}

fn is_as(answer: &Answer, seen: &Seen) -> bool {
    match answer {
        Answer::Version { version, status } => {
            seen.version.as_ref() == Some(version) && seen.status.is_none_or(|own| own == *status)
        }
        Answer::Unknown { status, .. } => seen.version.is_none() && seen.status == Some(*status),
        Answer::Nothing { .. } => seen.version.is_none() && seen.status.is_none(),
    }
}

fn words(seen: &Seen) -> String {
    seen.version.clone().or_else(|| seen.mesh.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn version(name: &str) -> Answer {
        Answer::Version { version: name.to_owned(), status: 200 }
    }

    /// What the promotion of the canary scenario looks like for everyone.
    fn seen(answers: &[(Answer, Duration)]) -> Transition {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let mut witness = Expected::new(&scenario).witness(7, &scenario);
        for (answer, at) in answers {
            witness.see(0, answer, *at, *at);
        }
        witness.transition()
    }

    #[test]
    fn the_first_new_and_the_last_old_answer_are_kept() {
        let answers = [
            (version("v1"), SECOND),
            (version("v1"), 2 * SECOND),
            (version("v2"), 3 * SECOND),
            (version("v2"), 4 * SECOND),
        ];
        let transition = seen(&answers);
        let shift = &transition.shifts[0];
        assert_eq!((shift.last_old, shift.first_new), (Some(2 * SECOND), Some(3 * SECOND)));
        assert_eq!((shift.new.as_str(), transition.failed(), transition.requests), ("v2", 0, 4));
        assert_eq!(transition.gap, SECOND);
    }

    #[test]
    fn what_neither_stage_gives_is_an_error() {
        let unhealthy = Answer::Unknown { status: 503, excerpt: "no healthy upstream".to_owned() };
        let broken = Answer::Nothing { reason: "no answer in time".to_owned() };
        let transition =
            seen(&[(unhealthy.clone(), SECOND), (unhealthy, SECOND), (broken, SECOND), (version("v3"), SECOND)]);
        assert_eq!(transition.failed(), 4);
        assert_eq!(transition.errors["503 `no healthy upstream`"], 2);
        assert_eq!(transition.errors["v3 with 200"], 1);
    }

    #[test]
    fn stages_that_change_the_routes_are_known() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let expected = Expected::new(&scenario);
        let changing: Vec<usize> = (1..=9).filter(|number| expected.changes(*number)).collect();
        // the label, v2 behind a pinned selector and the fault change no route of the client's
        assert_eq!(changing, [1, 4, 6, 7, 9]);
    }
}

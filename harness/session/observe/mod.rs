mod missing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use self::missing::Missing;
pub(crate) use self::missing::watch_for;
use crate::events::{Event, Events, Failing, Gap, Moment, STEP, Shift, Transition};
use crate::plan::{ExpectedAnswers, PlannedStage, Seen};
use crate::session::judge::{Sighting, Watched, longest_silence, micros};
use crate::session::progress::Progress;
use crate::traffic::{DriverStart, Next, ObservedResponse, WatchOptions};
use crate::verdict::Answer;

/// Observes answers while a stage is applied.
pub(crate) struct TransitionObserver {
    populations: Vec<(Shift, BTreeSet<Seen>, BTreeSet<Seen>)>,
    /// By step and population.
    steps: BTreeMap<(u64, usize), Moment>,
    transition: Transition,
    watched: Watched,
    missing: Missing,
    events: Events,
    progress: Progress,
    /// The first time step that the next event about progress has.
    untold: u64,
    /// When the driver's clock started.
    start: Option<DriverStart>,
    /// When the stage was done and claims were not decided.
    ended: Option<Instant>,
    /// Whether the rate was raised since.
    raised: bool,
    watch: WatchOptions,
}

impl TransitionObserver {
    /// An observer of a stage that is watched in this way. It sends events about progress.
    pub fn new(planned: &PlannedStage<'_>, watch: WatchOptions, events: Events) -> Self {
        let populations = planned.answers().into_iter().map(|ExpectedAnswers { from, before, after }| {
            let new = after.difference(&before).map(words).collect::<Vec<_>>().join(", ");
            (Shift { from, new, ..Shift::default() }, before, after)
        });
        let populations: Vec<_> = populations.collect();
        let path = &planned.after.scenario.service.path;
        let asked = u32::try_from(populations.len()).unwrap_or(u32::MAX);
        Self {
            steps: BTreeMap::new(),
            transition: Transition { step: STEP, ..Transition::default() },
            watched: Watched {
                populations: populations.iter().map(|(shift, ..)| shift.from.clone()).collect(),
                spacing: micros(Duration::from_secs(1) * asked / watch.rate.max(1)),
                ..Watched::default()
            },
            missing: Missing::of(planned.stage, populations.len()),
            progress: Progress::new(populations.iter().map(|(shift, ..)| (shift.from.clone(), path.clone()))),
            untold: u64::MAX,
            events,
            populations,
            start: None,
            ended: None,
            raised: false,
            watch,
        }
    }

    /// Takes an answer to a population, by its position. It counts for the time at which its request was due; answers may come in any order.
    /// `applied` is when the change was applied, once it was.
    pub fn see(&mut self, answered: &ObservedResponse<'_>, applied: Option<Instant>) {
        self.count(answered, applied);
        if self.progress.see(answered) {
            let from = std::mem::replace(&mut self.untold, u64::MAX);
            let timeline = self.steps.range((from, 0)..).map(|(_, moment)| moment.clone()).collect();
            self.events.tell(Event::Watching { answers: self.progress.answers(), timeline });
        }
    }

    fn count(&mut self, answered: &ObservedResponse<'_>, applied: Option<Instant>) {
        self.transition.requests += 1;
        self.start = Some(answered.start);
        let (population, answer, due) = (answered.flow, answered.answer, answered.due);
        let Some((shift, before, after)) = self.populations.get_mut(population) else { return };
        let was = before.iter().any(|seen| is_as(answer, seen));
        let is = after.iter().any(|seen| is_as(answer, seen));
        let step = u64::try_from(due.as_millis() / STEP.as_millis()).unwrap_or(u64::MAX);
        self.untold = self.untold.min(step);
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
                let failing = self.transition.failing.get_or_insert(Failing { first: due, last: due });
                *failing = Failing { first: failing.first.min(due), last: failing.last.max(due) };
            }
        }
        let version = match answer {
            Answer::Version { version, .. } => Some(version.as_str()),
            Answer::Unknown { .. } | Answer::Nothing { .. } => None,
        };
        let sighting = Sighting {
            population,
            due: micros(due),
            sent: micros(answered.sent),
            at: micros(answered.at),
            good: was || is,
            version: version.map(|version| self.watched.version(version)),
        };
        let applied = applied.map(|applied| micros(answered.start.times(applied).1));
        self.missing.see(&sighting, version, applied);
        self.watched.sightings.push(sighting);
    }

    /// Whether to go on when the stage is applied and its routes are as they should be: until nothing is missing for a claim to be decided, with
    /// a raised rate, for as long as that can take.
    pub fn next(&mut self, applied: Option<Instant>) -> Next {
        if self.missing.is_nothing() {
            return Next::StopAll;
        }
        let ended = *self.ended.get_or_insert_with(Instant::now);
        let requests = u32::try_from(self.missing.requests()).unwrap_or(u32::MAX);
        let sending = Duration::from_secs(1) * requests / self.watch.raised.max(1);
        let begin = applied.map_or(ended, |applied| ended.max(applied + self.missing.longest()));
        if begin.elapsed() > 2 * sending + PATIENCE {
            Next::StopAll
        } else if self.missing.is_requests() && !std::mem::replace(&mut self.raised, true) {
            Next::Rate(self.watch.raised)
        } else {
            Next::Continue
        }
    }

    /// When the driver's clock started; none before the first answer.
    pub const fn start(&self) -> Option<DriverStart> {
        self.start
    }

    /// What was seen, for reports and for claims. `applied` is when the change was applied.
    pub fn end(mut self, applied: Option<Instant>) -> (Transition, Watched) {
        let shifts = self.populations.into_iter().filter(|(_, before, after)| before != after);
        self.transition.shifts = shifts.map(|(shift, _, _)| shift).collect();
        self.transition.timeline = self.steps.into_values().collect();
        let times = self.start.zip(applied).map(|(start, applied)| start.times(applied));
        self.watched.applied = times.map(|(earliest, latest)| (micros(earliest), micros(latest)));
        self.transition.applied = times.map(|(_, latest)| latest);
        self.transition.resolution = Duration::from_micros(self.watched.spacing);
        if let Some(silence) = longest_silence(&self.watched) {
            self.transition.gap = Some(Gap {
                from: self.watched.populations[silence.population].clone(),
                began: Duration::from_micros(silence.began),
                lasted: Duration::from_micros(silence.lasted),
            });
        }
        (self.transition, self.watched)
    }
}

/// How much longer than the requests take at the raised rate a stage is watched after its end.
const PATIENCE: Duration = Duration::from_secs(5);

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
    seen.version.clone().or_else(|| seen.mesh.clone()).unwrap_or_else(|| "no response".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::Plan;
    use crate::scenario::Scenario;
    use crate::traffic::{Driver, DriverOptions};

    const SECOND: Duration = Duration::from_secs(1);
    const WATCH: WatchOptions = WatchOptions { rate: 100, raised: 400, busy: 100, connections: 4 };

    fn version(name: &str) -> Answer {
        Answer::Version { version: name.to_owned(), status: 200 }
    }

    /// What the promotion of the canary scenario looks like for everyone.
    fn seen(answers: &[(Answer, Duration, Duration)]) -> Transition {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let mut observer = TransitionObserver::new(&Plan::new(&scenario).stages[6], WATCH, Events::channel().0);
        let now = Instant::now();
        let start = DriverStart { earliest: now, latest: now };
        for (answer, due, took) in answers {
            let (sent, at) = (*due, *due + *took);
            let answered =
                ObservedResponse { flow: 0, kind: 0, answer, pod: None, connection: 0, due: *due, sent, at, start };
            observer.see(&answered, None);
        }
        observer.end(None).0
    }

    #[test]
    fn the_first_new_and_the_last_old_answer_are_kept_by_when_they_were_due() {
        let soon = SECOND / 100;
        // told in the order of coming: the first request took longest
        let answers = [
            (version("v1"), 2 * SECOND, soon),
            (version("v2"), 4 * SECOND, soon),
            (version("v2"), 3 * SECOND, 2 * SECOND),
            (version("v1"), SECOND, 8 * SECOND),
        ];
        let transition = seen(&answers);
        let shift = &transition.shifts[0];
        assert_eq!((shift.last_old, shift.first_new), (Some(2 * SECOND), Some(3 * SECOND)));
        assert_eq!((shift.new.as_str(), transition.failed(), transition.requests), ("v2", 0, 4));
        // the others got no answer until the last request was due
        let Gap { from, began, lasted } = transition.gap.unwrap();
        assert_ne!(from, "everyone");
        assert_eq!((began, lasted), (Duration::ZERO, 4 * SECOND));
    }

    #[test]
    fn what_neither_stage_gives_is_an_error_when_it_was_due() {
        let unhealthy = Answer::Unknown { status: 503, excerpt: "no healthy upstream".to_owned() };
        let broken = Answer::Nothing { reason: "no answer in time".to_owned() };
        let transition = seen(&[
            (unhealthy.clone(), SECOND, SECOND),
            (unhealthy, SECOND, SECOND),
            (broken, SECOND, 10 * SECOND),
            (version("v3"), SECOND, SECOND),
        ]);
        assert_eq!(transition.failed(), 4);
        assert_eq!(transition.errors["503 `no healthy upstream`"], 2);
        assert_eq!(transition.errors["v3 with 200"], 1);
        let errors: Vec<_> = transition.timeline.iter().map(|moment| (moment.step, moment.errors)).collect();
        assert_eq!(errors, [(10, 4)]);
    }

    /// A server of v1 that keeps every request that comes between one and three seconds after its first one until then.
    async fn hanging() -> std::net::SocketAddr {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        // the time of the first request
        let start = Arc::new(std::sync::OnceLock::new());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let start = Arc::clone(&start);
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    while let Ok(1..) = stream.read(&mut request).await {
                        let start: Instant = *start.get_or_init(Instant::now);
                        if start.elapsed() > SECOND {
                            tokio::time::sleep_until((start + 3 * SECOND).into()).await;
                        }
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nHello server - v1";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hang_of_two_seconds_is_watched_as_closely_as_the_time_around_it() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let watch = WatchOptions { rate: 200, raised: 200, busy: 200, connections: 4 };
        let mut observer = TransitionObserver::new(&Plan::new(&scenario).stages[6], watch, Events::channel().0);
        let options = DriverOptions { timeout: SECOND / 2, ..DriverOptions::default() };
        let mut driver = Driver::local(hanging().await, options);
        let watched = driver.watch(&scenario, watch, |answered| {
            observer.see(&answered, None);
            if answered.due > 4 * SECOND { Next::StopAll } else { Next::Continue }
        });
        watched.await.unwrap();
        let (transition, _) = observer.end(None);
        let due = |steps: std::ops::Range<u64>| {
            let own = transition.timeline.iter().filter(|moment| steps.contains(&moment.step));
            own.fold((0, 0), |(all, errors), own| {
                (all + own.old + own.both + own.new + own.errors, errors + own.errors)
            })
        };
        // by when they were due, in steps of 100 ms: as many in the hang as around it
        assert_eq!((due(0..10).0, due(10..30).0, due(30..40).0), (200, 400, 200));
        // those that had to wait for longer than their time-out failed: 300, as a busy machine allows
        let failed = due(10..30).1;
        assert!((150..=350).contains(&failed), "{failed}");
        assert_eq!(transition.errors["no answer in time"], transition.failed());
        let lasted = transition.gap.unwrap().lasted;
        assert!((3 * SECOND / 2..4 * SECOND).contains(&lasted), "{lasted:?}");
    }
}

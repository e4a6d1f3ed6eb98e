use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::path::{Row, UpgradePath};
use super::path_record::PathRecord;
use crate::cluster::IstioSet;
use crate::events::{Event, Events, Timed};
use crate::session::{ComparedRun, ComparedRuns, Ending, Options, SessionError, run_compared};

/// The purpose of a run within an upgrade test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeRun {
    /// The first run along a path.
    First(UpgradePath),
    /// The repetition of a run, for differences that must show twice.
    Repetition(UpgradePath),
    /// A run that tries settings of the new version to find the cause of a failure.
    CauseSearch,
}

/// Receives the events of an upgrade test.
pub trait UpgradeObserver: Send {
    /// Takes an event of a run.
    fn event(&mut self, run: UpgradeRun, event: &Timed);
    /// Takes the record of a run after its last event.
    fn finished(&mut self, run: UpgradeRun, record: &PathRecord);
}

/// Executes runs one cluster at a time.
pub(super) struct Runner<'a> {
    options: &'a Options,
    observer: &'a mut dyn UpgradeObserver,
    cancelled: Shared<BoxFuture<'a, ()>>,
    /// Whether a controller may move the traffic.
    controlled: bool,
    /// Whether a run was cancelled.
    pub interrupted: bool,
}

impl<'a> Runner<'a> {
    pub fn new(
        options: &'a Options,
        observer: &'a mut dyn UpgradeObserver,
        cancelled: impl Future<Output = ()> + Send + 'a,
        controlled: bool,
    ) -> Self {
        Self { options, observer, cancelled: cancelled.boxed().shared(), controlled, interrupted: false }
    }

    /// Executes runs on one cluster. `runs` has the purpose and the rows of each. The records are complete up to an error.
    pub async fn run(
        &mut self,
        compared: Vec<ComparedRun>,
        sets: Vec<IstioSet>,
        runs: Vec<(UpgradeRun, Vec<Row>)>,
    ) -> (Vec<PathRecord>, Result<(), SessionError>) {
        let (events, mut stream) = Events::channel();
        let mut readers = Readers { next: runs.into_iter(), current: None, records: Vec::new() };
        let reading = async {
            while let Some(event) = stream.recv().await {
                readers.take(&event, self.observer);
            }
            readers.finish(self.observer);
        };
        let compared = ComparedRuns { sets, runs: compared, controlled: self.controlled };
        let running = run_compared(compared, self.options.clone(), events, self.cancelled.clone());
        let (outcome, ()) = tokio::join!(Box::pin(running), reading);
        let outcome = outcome.map(|outcome| self.interrupted |= outcome.ending == Ending::Cancelled);
        (readers.records, outcome)
    }
}

/// Assigns the events of consecutive runs on one cluster to the runs.
struct Readers {
    next: std::vec::IntoIter<(UpgradeRun, Vec<Row>)>,
    current: Option<(UpgradeRun, PathRecord)>,
    records: Vec<PathRecord>,
}

impl Readers {
    fn take(&mut self, timed: &Timed, observer: &mut dyn UpgradeObserver) {
        if matches!(timed.event, Event::Started { .. }) {
            self.finish(observer);
            self.current = self.next.next().map(|(run, rows)| {
                let path = match run {
                    UpgradeRun::First(path) | UpgradeRun::Repetition(path) => path,
                    UpgradeRun::CauseSearch => UpgradePath::FreshOnNew,
                };
                (run, PathRecord::new(path, rows))
            });
        }
        if let Some((run, record)) = &mut self.current {
            record.take(&timed.event);
            observer.event(*run, timed);
        }
    }

    fn finish(&mut self, observer: &mut dyn UpgradeObserver) {
        if let Some((run, record)) = self.current.take() {
            observer.finished(run, &record);
            self.records.push(record);
        }
    }
}

use std::any::Any;
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use sha2::{Digest, Sha256};

use super::WalkError;
use super::calibrate::CalibrateOptions;
use super::designs::Designs;
use super::mutate::{sample, trial};
use super::stage::Walk;
use crate::cluster::{Keep, RunId};
use crate::events::{Event, Events, FailureLayer, SourceFile, TrafficPath};
use crate::scenario::Scenario;
use crate::traffic::DriverOptions;
use crate::venue::{Run, Throwaway, Venue};
use crate::verdict::Totals;

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Every claim of every stage is judged.
    Prove,
    /// The first split is sampled again and again, to test whether requests are routed independently.
    Calibrate(CalibrateOptions),
    /// So many mutants of the scenario are brought about on a throwaway cluster, to see whether the mesh does what the model says.
    Mutate(usize),
}

/// How a scenario is walked.
#[derive(Debug, Clone)]
pub struct Options {
    /// What for.
    pub purpose: Purpose,
    /// Where.
    pub venue: Arc<dyn Venue>,
    /// When what was made outlives the run.
    pub keep: Keep,
    /// The folder of the image cache and the run records.
    pub cache: PathBuf,
    /// How the driver sends.
    pub driver: DriverOptions,
    /// Where the state of a cluster is kept on which something failed; nowhere, if none.
    pub state: Option<PathBuf>,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every claim of every stage held.
    Passed,
    /// A claim failed; the stages behind it were not walked.
    Failed,
    /// It was called off.
    Cancelled,
}

impl Ending {
    /// Whether a walk that ended so leaves its cluster or namespace.
    const fn is_kept(self, keep: Keep) -> bool {
        match keep {
            Keep::Never => false,
            Keep::Failed => matches!(self, Self::Failed),
            Keep::Always => !matches!(self, Self::Cancelled),
        }
    }
}

/// What came of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The stages that held.
    pub passed: usize,
    /// All stages of the scenario.
    pub stages: usize,
}

/// Walks a scenario from nothing running to all removed. When `cancelled` completes, the walk ends and everything is removed.
///
/// # Errors
/// The scenario is wrong or the environment failed. Everything is removed then, too, unless it is to be kept.
///
/// # Panics
/// A panic in the walk is passed on after everything is removed.
pub async fn run(
    scenario: Scenario,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, WalkError> {
    let designs = Designs::new(&scenario)?;
    if matches!(options.purpose, Purpose::Calibrate(_)) && designs.first_split().is_none() {
        return Err(WalkError::NothingToCalibrate(scenario.path));
    }
    let venue = Arc::clone(&options.venue);
    let throwaway = match options.purpose {
        Purpose::Mutate(size) => Some((venue.throwaway().ok_or(WalkError::NotThrowaway)?, size)),
        Purpose::Prove | Purpose::Calibrate(_) => None,
    };
    let run = Run::new(Arc::clone(&venue), &scenario, &options.cache, events);
    let reached = AtomicUsize::new(0);
    let body = async {
        let totals = (options.purpose == Purpose::Prove).then(|| designs.totals());
        run.events.tell(started(&run.id, run.scenario, &run.namespace, run.place(), totals));
        match throwaway {
            Some((throwaway, size)) => mutated(&run, throwaway, size, options.driver).await,
            None => walked(&run, &designs, &options, &reached).await,
        }
    };
    let ended = ended(body, cancelled, run.scenario.stages.len()).await;
    close(run, ended, &options, reached.into_inner()).await
}

/// How a walk ended, and the panic that ended it, if one did.
pub(super) type Ended = (Result<Outcome, WalkError>, Option<Box<dyn Any + Send>>);

/// Walks until the end, a panic, or `cancelled`.
pub(super) async fn ended(
    body: impl Future<Output = Result<Outcome, WalkError>>,
    cancelled: impl Future<Output = ()>,
    stages: usize,
) -> Ended {
    let walked = async {
        tokio::select! {
            outcome = body => outcome,
            () = cancelled => Ok(Outcome { ending: Ending::Cancelled, passed: 0, stages }),
        }
    };
    match AssertUnwindSafe(walked).catch_unwind().await {
        Ok(outcome) => (outcome, None),
        Err(panic) => (Ok(Outcome { ending: Ending::Failed, passed: 0, stages }), Some(panic)),
    }
}

/// Collects the state of the cluster where the walk failed, and removes or keeps what the run has created. `reached` is the number of stages
/// that were begun.
pub(super) async fn close(
    run: Run<'_>,
    (outcome, panic): Ended,
    options: &Options,
    reached: usize,
) -> Result<Outcome, WalkError> {
    let events = run.events.clone();
    let ending = match &outcome {
        Ok(outcome) => outcome.ending,
        Err(error) => {
            events.tell(error.event());
            Ending::Failed
        }
    };
    if let (Ending::Failed, Some(folder)) = (ending, &options.state) {
        run.collect(reached, folder).await;
    }
    let closed = run.close(ending.is_kept(options.keep)).await;
    if let Err(error) = &closed {
        events.tell(Event::Broke { layer: FailureLayer::Environment, place: None, message: error.to_string() });
    }
    if let Some(panic) = panic {
        std::panic::resume_unwind(panic);
    }
    match (outcome, closed) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(left)) => Err(WalkError::LeftBehind { left, after: None }),
        // both are told: what ended the run, and what is still there
        (Err(error), Err(left)) => Err(WalkError::LeftBehind { left, after: Some(Box::new(error)) }),
    }
}

/// Tries mutants on a throwaway cluster.
async fn mutated(
    run: &Run<'_>,
    throwaway: &Throwaway,
    size: usize,
    driver: DriverOptions,
) -> Result<Outcome, WalkError> {
    let (cluster, _) = throwaway.start(run).await?;
    let sample = sample(run.scenario, size);
    let stages = sample.len();
    let trialled = trial(&cluster, &run.id, sample, driver, &run.events).await?;
    let passed = trialled.iter().filter(|trialled| trialled.agrees()).count();
    let ending = if passed == stages { Ending::Passed } else { Ending::Failed };
    Ok(Outcome { ending, passed, stages })
}

/// Walks the stages until a claim fails, or takes the samples of a calibration.
async fn walked(
    run: &Run<'_>,
    designs: &Designs,
    options: &Options,
    reached: &AtomicUsize,
) -> Result<Outcome, WalkError> {
    let mut venue = run.open().await?;
    let mut driver = venue.driver(options.driver);
    let mut walk = Walk::new(run.scenario, &mut *venue, &run.namespace, run.events.clone());
    walk.apply_client().await?;
    let stages = run.scenario.stages.len();
    if let (Purpose::Calibrate(options), Some(split)) = (options.purpose, designs.first_split()) {
        let independent = walk.calibrate(split, options, &mut driver).await?.independent();
        let ending = if independent { Ending::Passed } else { Ending::Failed };
        return Ok(Outcome { ending, passed: 0, stages });
    }
    for (index, stage) in run.scenario.stages.iter().enumerate() {
        reached.store(index + 1, Ordering::Relaxed);
        if !walk.stage(index + 1, stage, designs.of(index + 1), &mut driver).await? {
            return Ok(Outcome { ending: Ending::Failed, passed: index, stages });
        }
    }
    Ok(Outcome { ending: Ending::Passed, passed: stages, stages })
}

/// How the walk of a scenario begins.
pub(super) fn started(
    run: &RunId,
    scenario: &Scenario,
    namespace: &str,
    place: String,
    totals: Option<Totals>,
) -> Event {
    Event::Started {
        run: run.to_string(),
        scenario: scenario.name.clone(),
        place,
        stages: scenario.stages.iter().map(|stage| stage.name.clone()).collect(),
        files: files(scenario),
        path: TrafficPath {
            namespace: namespace.to_owned(),
            client: scenario.client.pod.clone(),
            service: format!("{}:{}", scenario.service.host, scenario.service.port),
        },
        totals,
    }
}

/// The files that a scenario is made of, itself first.
fn files(scenario: &Scenario) -> Vec<SourceFile> {
    let mut known = BTreeSet::new();
    scenario
        .files()
        .filter(|path| known.insert(path.to_owned()))
        .filter_map(|path| {
            let digest = Sha256::digest(std::fs::read(path).ok()?);
            let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(SourceFile { path: path.to_owned(), sha256: digits.concat() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::never(Keep::Never, [false, false, false])]
    #[case::failed(Keep::Failed, [false, true, false])]
    #[case::always(Keep::Always, [true, true, false])]
    fn a_cluster_outlives_its_walk_as_asked_for(#[case] keep: Keep, #[case] expected: [bool; 3]) {
        let endings = [Ending::Passed, Ending::Failed, Ending::Cancelled];
        assert_eq!(endings.map(|ending| ending.is_kept(keep)), expected);
    }
}

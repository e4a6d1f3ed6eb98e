use std::any::Any;
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::SessionError;
use super::pause::Pause;
use super::stage::{Mode, Session};
use crate::cluster::{Keep, RunId};
use crate::events::{Event, Events, FailureLayer, SourceFile, TrafficPath};
use crate::plan::{Designs, Plan};
use crate::scenario::{IstioVersion, Scenario, Scheme, Sensitive, Service, VersionRule};
use crate::traffic::DriverOptions;
use crate::venue::{OpenVenue, Run, Venue};
use crate::verdict::{Ruling, Totals};

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct Options {
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
    /// The stage after which the run waits.
    pub pause: Pause,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Every claim of every stage held.
    Passed,
    /// A claim failed; the stages after it were not run.
    Failed,
    /// No claim failed, but one could not be decided; the stages after it were not run.
    Undecided,
    /// It was cancelled.
    Cancelled,
}

impl Ending {
    /// Whether a run that ended so leaves its cluster or namespace.
    const fn is_kept(self, keep: Keep) -> bool {
        match keep {
            Keep::Never => false,
            Keep::Failed => matches!(self, Self::Failed | Self::Undecided),
            Keep::Always => !matches!(self, Self::Cancelled),
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The stages that held.
    pub passed: usize,
    /// All stages of the scenario.
    pub stages: usize,
}

/// Runs a scenario: opens the venue, applies and judges stage by stage until a claim fails, and removes everything. When `cancelled` completes,
/// the run ends and everything is removed.
///
/// # Errors
/// The scenario is wrong or the environment failed. Everything is removed then, too, unless it is to be kept.
///
/// # Panics
/// A panic of the session is passed on after everything is removed.
pub async fn run(
    scenario: Scenario,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, SessionError> {
    let prepared = Prepared::new(&scenario, &options, events)?;
    let body = async {
        let Prepared { run, designs, reached, .. } = &prepared;
        prepared.tell_started(Some(designs.totals()));
        let mut venue = run.open().await?;
        let plan = prepared.plan_on(&*venue);
        let mut driver = venue.driver(options.driver).await?;
        let mut session = Session::new(&plan, &mut *venue, run.events.clone(), Mode::Judge);
        session.pause = options.pause.clone();
        let (passed, ruling) = session.stages(designs, &mut driver, reached, |_, _| {}).await?;
        let ending = match ruling {
            Ruling::Pass => Ending::Passed,
            Ruling::Inconclusive => Ending::Undecided,
            Ruling::Fail => Ending::Failed,
        };
        Ok(Outcome { ending, passed, stages: plan.stages.len() })
    };
    let ended = prepared.ended(body, cancelled).await;
    prepared.close(ended).await
}

/// How long after an error of the environment the loss of the node may be noticed.
const LOST_LIMIT: Duration = Duration::from_secs(1);

/// A run with its plan, before its venue is opened.
pub(super) struct Prepared<'a> {
    pub run: Run<'a>,
    pub plan: Plan<'a>,
    pub designs: Designs,
    pub options: &'a Options,
    /// The number of stages that were begun.
    pub reached: AtomicUsize,
    /// The version of Istio on the cluster, once the venue is open; none where it is not known.
    istio: OnceLock<Option<IstioVersion>>,
}

/// How a run ended, and the panic that ended it, if one did.
pub(super) type Ended = (Result<Outcome, SessionError>, Option<Box<dyn Any + Send>>);

impl<'a> Prepared<'a> {
    /// Plans the scenario.
    ///
    /// # Errors
    /// A claim cannot be decided, or the API would refuse an object.
    pub fn new(scenario: &'a Scenario, options: &'a Options, events: Events) -> Result<Self, SessionError> {
        let run = Run::new(Arc::clone(&options.venue), scenario, &options.cache, events);
        let plan = Plan::of(scenario, &run.namespace, None);
        let refused = plan.refused();
        if !refused.is_empty() && options.venue.has_known_definitions() {
            return Err(SessionError::Refused(refused));
        }
        let designs = Designs::new(&plan)?;
        Ok(Self { run, plan, designs, options, reached: AtomicUsize::new(0), istio: OnceLock::new() })
    }

    /// The plan for the version of Istio of an open venue.
    pub fn plan_on(&self, venue: &dyn OpenVenue) -> Plan<'a> {
        self.plan.on(self.istio.get_or_init(|| venue.istio()).as_ref())
    }

    /// Sends the event with which the run begins.
    pub fn tell_started(&self, totals: Option<Totals>) {
        self.run.events.tell(started(&self.run.id, &self.plan, self.run.place(), totals));
    }

    /// Waits for the end of the run, a panic, or `cancelled`.
    pub async fn ended(
        &self,
        body: impl Future<Output = Result<Outcome, SessionError>>,
        cancelled: impl Future<Output = ()>,
    ) -> Ended {
        let stages = self.plan.stages.len();
        let ended = async {
            let mut lost = Box::pin(self.run.lost());
            tokio::select! {
                outcome = body => match outcome {
                    // what the run has noticed first may be a consequence: an API server that does not answer, for example
                    Err(error) if error.is_consequence() => match timeout(LOST_LIMIT, &mut lost).await {
                        Ok(lost) => Err(lost.into()),
                        Err(_) => Err(error),
                    },
                    outcome => outcome,
                },
                error = &mut lost => Err(error.into()),
                () = cancelled => Ok(Outcome { ending: Ending::Cancelled, passed: 0, stages }),
            }
        };
        match AssertUnwindSafe(ended).catch_unwind().await {
            Ok(outcome) => (outcome, None),
            Err(panic) => (Ok(Outcome { ending: Ending::Failed, passed: 0, stages }), Some(panic)),
        }
    }

    /// Collects the state of the cluster after a failure, and removes or keeps what the run has created.
    ///
    /// # Errors
    /// Why the run ended, or what could not be removed.
    ///
    /// # Panics
    /// The panic that ended the run is passed on.
    pub async fn close(self, (outcome, panic): Ended) -> Result<Outcome, SessionError> {
        let Self { run, plan, options, reached, istio, .. } = self;
        let events = run.events.clone();
        let ending = match &outcome {
            Ok(outcome) => outcome.ending,
            Err(error) => {
                events.tell(error.event());
                Ending::Failed
            }
        };
        // nothing answers any more
        let is_lost = matches!(&outcome, Err(SessionError::Cluster(error)) if error.is_silence());
        if let (Ending::Failed | Ending::Undecided, Some(folder), false) = (ending, &options.state, is_lost) {
            let plan = plan.on(istio.into_inner().flatten().as_ref());
            run.collect(plan.after(reached.into_inner()), folder).await;
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
            (Ok(_), Err(left)) => Err(SessionError::LeftBehind { left, after: None }),
            // both are told: what ended the run, and what is still there
            (Err(error), Err(left)) => Err(SessionError::LeftBehind { left, after: Some(Box::new(error)) }),
        }
    }
}

/// The event with which the run of a plan begins.
pub(super) fn started(run: &RunId, plan: &Plan<'_>, place: String, totals: Option<Totals>) -> Event {
    let scenario = plan.scenario;
    Event::Started {
        run: run.to_string(),
        scenario: scenario.name.clone(),
        place,
        stages: scenario.stages.iter().map(|stage| stage.name.clone()).collect(),
        claims: scenario.stages.iter().map(|stage| stage.expect.len()).sum(),
        files: files(scenario),
        sensitive: Sensitive::of(scenario),
        path: TrafficPath {
            namespace: plan.namespace().to_owned(),
            client: scenario.client.pod.clone(),
            service: match &scenario.service {
                Service { scheme, host, port, .. } if scheme.is_of_connections() => format!("{scheme}://{host}:{port}"),
                Service { host, port, .. } => format!("{host}:{port}"),
            },
            connections: connections(scenario).map(str::to_owned),
        },
        totals,
    }
}

/// What each request of a scenario is, where it is a connection of its own.
fn connections(scenario: &Scenario) -> Option<&'static str> {
    match (scenario.service.scheme, &scenario.version) {
        (Scheme::Http | Scheme::H2c | Scheme::Grpc, _) => None,
        (Scheme::Tcp, _) => {
            Some("each request is a connection of TCP, and its answer the first line that the server sends")
        }
        (Scheme::Ws, VersionRule::Body(_) | VersionRule::Json(_)) => {
            Some("each request is a WebSocket connection, and its answer the first message that the server sends")
        }
        (Scheme::Ws, _) => Some("each request is a WebSocket connection, and its answer that to the handshake"),
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
            Some(SourceFile { path: path.display().to_string(), sha256: hex::encode(digest) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::session::{CalibrateOptions, ComparedRuns, calibrate, run_compared, try_mutants};

    #[test]
    fn a_session_can_be_moved_to_another_thread() {
        fn is_send(_: impl Future<Output = Result<Outcome, SessionError>> + Send) {}
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let options = Options {
            venue: Arc::new(crate::venue::Embedded),
            keep: Keep::Never,
            cache: PathBuf::new(),
            driver: DriverOptions::default(),
            state: None,
            pause: Pause::default(),
        };
        let given = || (scenario.clone(), options.clone(), Events::channel().0, std::future::pending());
        let (scenario, options, events, cancelled) = given();
        is_send(run(scenario, options, events, cancelled));
        let (scenario, options, events, cancelled) = given();
        is_send(calibrate(scenario, CalibrateOptions::default(), options, events, cancelled));
        let (scenario, options, events, cancelled) = given();
        is_send(try_mutants(scenario, 1, options, events, cancelled));
        let (_, options, events, cancelled) = given();
        is_send(run_compared(
            ComparedRuns { sets: Vec::new(), runs: Vec::new(), controlled: false },
            options,
            events,
            cancelled,
        ));
    }

    #[rstest]
    #[case::never(Keep::Never, [false, false, false, false])]
    #[case::failed(Keep::Failed, [false, true, true, false])]
    #[case::always(Keep::Always, [true, true, true, false])]
    fn a_cluster_outlives_its_run_as_asked_for(#[case] keep: Keep, #[case] expected: [bool; 4]) {
        let endings = [Ending::Passed, Ending::Failed, Ending::Undecided, Ending::Cancelled];
        assert_eq!(endings.map(|ending| ending.is_kept(keep)), expected);
    }
}

//! Execution of a scenario, shared by the commands that need a cluster or the embedded mesh.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::advice::{self, Failure};
use super::args::{ClusterKind, JudgeArgs, WalkArgs};
use super::discovery;
use super::exit::ExitCode;
use super::options::{cluster_of, inside, on, options};
use super::process::{Stream, When, output_at, reproduce};
use super::reports::Reports;
use crate::events::{Events, FailureLayer, Timed};
use crate::report::{self, Live, Recorder, Report, Terminal};
use crate::scenario::{Scenario, Sensitive};
use crate::session::{self, CalibrateOptions, Ending, Interrupt, Options, Outcome, SessionError};
use crate::venue::{SharedCluster, Venue};

/// The result of a run that has none, in words.
const DID_NOT_COMPLETE: &str = "did not complete";

/// What a scenario is executed for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    /// To judge its claims.
    Run,
    /// To test whether requests are routed independently.
    Calibrate(CalibrateOptions),
    /// To try so many mutants on the mesh.
    TryMutants(usize),
    /// To judge the claims of the stage at which a controlled object is now.
    Judge,
}

/// Where a scenario is executed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Where the arguments say.
    Of(&'a WalkArgs),
    /// On a throwaway cluster that other scenarios use, too.
    Shared(&'a WalkArgs, &'a Arc<SharedCluster>),
    /// In the cluster in which this process runs, as a pod of it, with these options for traffic.
    Inside(&'a JudgeArgs),
}

impl Place<'_> {
    fn options(self, scenario: &Scenario, state: Option<PathBuf>) -> Result<Options, Failure> {
        match self {
            Self::Of(args) => options(args, scenario, state),
            Self::Shared(args, cluster) => Ok(on(Arc::clone(cluster) as Arc<dyn Venue>, args, scenario, state)),
            Self::Inside(args) => inside(args, scenario, state),
        }
    }

    fn is_embedded(self) -> bool {
        matches!(self, Self::Of(args) if cluster_of(args) == ClusterKind::Embedded)
    }
}

/// The execution of a scenario by a command.
pub(super) struct Execution<'a> {
    /// The scenario that the user named, if any.
    pub scenario: Option<&'a Path>,
    pub place: Place<'a>,
    pub task: Task,
    pub when: When,
    /// Whether to print only failures and the result.
    pub quiet: bool,
    pub reports: Reports,
    /// The live page; none if none is requested.
    pub live: Option<&'a Live>,
    /// Selects the stages to run.
    pub part: &'a dyn Fn(Scenario) -> Result<Scenario, Failure>,
    /// The result in words, unless the run was interrupted.
    pub note: &'a dyn Fn(&Outcome) -> String,
}

impl Execution<'_> {
    /// Runs the scenario, shows progress and writes reports.
    pub async fn run(self, interrupt: Interrupt) -> ExitCode {
        self.run_reported(interrupt).await.0
    }

    /// Runs the scenario as [`run`](Self::run) does, and returns the report, too.
    pub async fn run_reported(mut self, interrupt: Interrupt) -> (ExitCode, Report) {
        let mut terminal = self.terminal();
        if (self.reports.asked || self.reports.has_earlier())
            && let Err(failure) = self.reports.begin()
        {
            terminal.abandon();
            advice::print(&failure);
            return (failure.code, Self::unstarted(&failure));
        }
        let (scenario, options) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(failure) => {
                terminal.abandon();
                advice::print(&failure);
                let report = Self::unstarted(&failure);
                self.reports.publish(&report, &mut terminal);
                return (failure.code, report);
            }
        };
        let embedded = self.place.is_embedded().then(|| options.venue.description(&scenario, &scenario.namespace));
        let hidden = Sensitive::of(&scenario);
        let (events, stream) = Events::channel();
        let live = self.live.cloned();
        let shown = tokio::spawn(read(stream, terminal, Recorder::new(reproduce()), live));
        let mut signal = ExitCode::Interrupted;
        let signalled = async { signal = interrupt.signalled().await.into() };
        let result = match self.task {
            Task::Run => Box::pin(session::run(scenario, options, events, signalled)).await,
            Task::Calibrate(calibration) => {
                Box::pin(session::calibrate(scenario, calibration, options, events, signalled)).await
            }
            Task::Judge => Box::pin(session::judge_reached(scenario, options, events, signalled)).await,
            Task::TryMutants(size) => Box::pin(session::try_mutants(scenario, size, options, events, signalled)).await,
        };
        let (mut terminal, recorder) = match shown.await {
            Ok(readers) => readers,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let (code, note, failure) = self.conclude(result, signal, &hidden);
        // the result must not be taken for that of a real mesh
        let note = if let Some(place) = embedded { format!("{note} on {place}") } else { note };
        if code == ExitCode::BadInput {
            // nothing was decided, so that there is nothing to sum up
            terminal.abandon();
        } else {
            terminal.close(&note);
        }
        let report = recorder.close(code.outcome(), &note, failure.as_ref().map(reported));
        if let Some(live) = self.live {
            live.end(&report);
        }
        if let Some(failure) = failure {
            advice::print(&failure);
        }
        let written = self.reports.publish(&report, &mut terminal);
        (if written || code != ExitCode::Pass { code } else { ExitCode::Environment }, report)
    }

    /// The report of a run that did not start.
    fn unstarted(failure: &Failure) -> Report {
        Recorder::new(reproduce()).close(failure.code.outcome(), DID_NOT_COMPLETE, Some(reported(failure)))
    }

    fn terminal(&self) -> Terminal<Stream> {
        let (out, marks) = output_at(self.when);
        let terminal = Terminal::new(out, marks).quiet(self.quiet);
        if self.when == When::AtTheEnd {
            terminal.hide_progress();
        }
        terminal
    }

    /// The exit code, the result in words, and the failure that ended the run early.
    fn conclude(
        &self,
        result: Result<Outcome, SessionError>,
        signal: ExitCode,
        hidden: &Sensitive,
    ) -> (ExitCode, String, Option<Failure>) {
        match result {
            Ok(Outcome { ending: Ending::Cancelled, .. }) => (signal, "interrupted".to_owned(), None),
            Ok(outcome) => {
                let code = match outcome.ending {
                    Ending::Passed => ExitCode::Pass,
                    Ending::Undecided => ExitCode::Undecided,
                    Ending::Failed | Ending::Cancelled => ExitCode::Fail,
                };
                (code, (self.note)(&outcome), None)
            }
            Err(error) => {
                let failure = Failure::of(&error).without(hidden);
                (failure.code, DID_NOT_COMPLETE.to_owned(), Some(failure))
            }
        }
    }

    /// Checks everything that can be checked before anything starts.
    fn prepare(&mut self) -> Result<(Scenario, Options), Failure> {
        let scenario = discovery::read(self.scenario)?;
        let scenario = (self.part)(scenario)?;
        let state = self.reports.folder.as_ref().map(|folder| folder.join("state"));
        let mut options = self.place.options(&scenario, state)?;
        if let Some(live) = self.live {
            options.pause = live.pause().clone();
        }
        self.reports.begin()?;
        Ok((scenario, options))
    }
}

/// Passes events on to their readers.
async fn read(
    mut stream: UnboundedReceiver<Timed>,
    mut terminal: Terminal<Stream>,
    mut recorder: Recorder,
    live: Option<Live>,
) -> (Terminal<Stream>, Recorder) {
    while let Some(event) = stream.recv().await {
        recorder.record(&event);
        if let Some(live) = &live {
            live.show(&event, &recorder);
        }
        terminal.show(event);
    }
    (terminal, recorder)
}

/// A failure as it is in reports.
fn reported(failure: &Failure) -> report::Failure {
    let layer = match failure.code {
        ExitCode::BadInput => FailureLayer::Manifest,
        _ => FailureLayer::Environment,
    };
    report::Failure {
        link: layer.to_string(),
        message: failure.message.clone(),
        place: failure.place.clone(),
        hint: failure.hint.clone(),
    }
}

//! For tests of one's own: runs a scenario and gives its report.
//!
//! ```no_run
//! # async fn test() -> Result<(), shiftcheck::prove::ProveError> {
//! use shiftcheck::prove::Prover;
//!
//! // a throwaway cluster, as `shiftcheck run` has one; `Prover::embedded()` needs no Docker
//! let report = Prover::throwaway().prove("rollouts/web/scenario.yaml").await?;
//! report.assert_passed();
//! # Ok(())
//! # }
//! ```

mod program;
mod running;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use self::program::program;
use self::running::Running;
use crate::cluster::{Keep, default_cache};
use crate::report::{Granularity, Outcome, Recorder, Report, ReportError};
use crate::scenario::{Scenario, ScenarioError};
use crate::traffic::DriverOptions;
use crate::venue::{Embedded, Throwaway, Venue};
use crate::walk::{Ending, Options, Purpose, WalkError};

/// Why there is no report of a run.
#[derive(Debug, Error)]
pub enum ProveError {
    /// The scenario is wrong, or the environment failed.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The reports cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The run cannot be started.
    #[error("cannot start the run: {0}")]
    Start(#[from] std::io::Error),
}

impl From<ScenarioError> for ProveError {
    fn from(error: ScenarioError) -> Self {
        Self::Walk(error.into())
    }
}

/// Walks scenarios and gives their reports.
#[derive(Debug, Clone)]
pub struct Prover {
    venue: Arc<dyn Venue>,
    reports: Option<PathBuf>,
    until: Option<String>,
}

impl Prover {
    /// On the embedded mesh, which checks your manifests, not an Istio release. Needs no Docker.
    #[must_use]
    pub fn embedded() -> Self {
        Self::on(Embedded)
    }

    /// On a throwaway cluster with the newest Istio in the image cache. Needs Docker, the cache, and the `shiftcheck` program on the `PATH` or
    /// where `SHIFTCHECK_PROGRAM` says, for it becomes the image of client and demo server.
    #[must_use]
    pub fn throwaway() -> Self {
        Self::on(Throwaway::new(program()))
    }

    /// In this venue.
    #[must_use]
    pub fn on(venue: impl Venue + 'static) -> Self {
        Self { venue: Arc::new(venue), reports: None, until: None }
    }

    /// Also writes all reports into a folder, and beside them the state of a cluster where something failed.
    #[must_use]
    pub fn reports(mut self, folder: impl Into<PathBuf>) -> Self {
        self.reports = Some(folder.into());
        self
    }

    /// Stops behind a stage, by name or number.
    #[must_use]
    pub fn until(mut self, stage: &str) -> Self {
        self.until = Some(stage.to_owned());
        self
    }

    /// Runs a scenario, by its file or folder, from nothing running to all removed.
    ///
    /// Everything is removed in every ending. Where the future is dropped, such as by a timeout or a panic of the test, the drop calls the run off
    /// and blocks until everything is removed. SIGINT (Ctrl-C) and SIGTERM call all runs of the process off; when they have cleaned up, the
    /// process ends with 130 or 143, as it would have at once without a run. A second signal more than a second later ends it at once.
    ///
    /// # Errors
    /// The scenario is wrong, the environment failed, or the reports cannot be written. A claim that fails is no error but in the report.
    ///
    /// # Panics
    /// A panic of the run is passed on after everything is removed.
    pub async fn prove(&self, scenario: impl AsRef<Path>) -> Result<Report, ProveError> {
        let reproduce = format!("shiftcheck run {}", scenario.as_ref().display());
        if let Some(folder) = &self.reports {
            Report::begin(folder, Granularity::Claim, reproduce.clone())?;
        }
        let mut scenario = Scenario::read(scenario)?;
        if let Some(stage) = &self.until {
            let number = scenario.stage(stage)?;
            scenario = scenario.until(number);
        }
        let options = Options {
            purpose: Purpose::Prove,
            venue: Arc::clone(&self.venue),
            keep: Keep::Never,
            cache: std::env::var_os("SHIFTCHECK_CACHE").map_or_else(default_cache, PathBuf::from),
            driver: DriverOptions::default(),
            state: self.reports.as_ref().map(|folder| folder.join("state")),
        };
        let (outcome, recorder) = Running::start(scenario, options, Recorder::new(reproduce))?.finished().await;
        let (result, note) = match &outcome {
            Ok(outcome) => match outcome.ending {
                Ending::Passed => (Outcome::Passed, "all stages passed".to_owned()),
                Ending::Failed => {
                    (Outcome::Failed, format!("stage {} of {} failed", outcome.passed + 1, outcome.stages))
                }
                Ending::Cancelled => (Outcome::Interrupted, "called off".to_owned()),
            },
            Err(error) if error.is_bad_input() => (Outcome::BadInput, "not proven".to_owned()),
            Err(_) => (Outcome::EnvironmentFailed, "not proven".to_owned()),
        };
        let report = recorder.close(result, &note, None);
        if let Some(folder) = &self.reports {
            report.write(folder, Granularity::Claim)?;
        }
        outcome?;
        Ok(report)
    }
}

impl Report {
    /// Says what failed and why, where anything did.
    ///
    /// # Panics
    /// A claim failed.
    pub fn assert_passed(&self) {
        let failed = self.stages.iter().flat_map(|stage| stage.claims.iter().map(move |claim| (stage, claim)));
        let failed = failed.filter(|(_, claim)| claim.result != Outcome::Passed);
        let lines: Vec<String> = failed
            .map(|(stage, claim)| {
                let because: Vec<String> = claim.hints.iter().map(|hint| format!("\n    because {hint}")).collect();
                let (subject, claimed, reason) = (&claim.subject, &claim.claim, &claim.reason);
                let place = claim.place.iter().map(|place| format!("\n    claimed in {place}"));
                let place = place.collect::<String>();
                format!("  {} {}: {subject}: {claimed} — {reason}{}{place}", stage.number, stage.name, because.concat())
            })
            .collect();
        assert!(self.result == Outcome::Passed, "{}: {}\n{}", self.scenario.name, self.note, lines.join("\n"));
    }
}

//! Library entry for tests: runs a scenario and returns the report.
//!
//! ```no_run
//! # async fn test() -> Result<(), shiftcheck::prove::ProveError> {
//! use shiftcheck::prove::Prover;
//!
//! // a throwaway cluster, as with `shiftcheck run`; `Prover::embedded()` needs no Docker
//! let report = Prover::throwaway().prove("rollouts/web/scenario.yaml").await?;
//! report.assert_passed();
//! # Ok(())
//! # }
//! ```
//!
//! [`Prover::test_stages`] makes a test of each stage.

mod program;
mod running;
mod stages;
mod suite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use self::program::program;
use self::running::Running;
use self::suite::Suite;
use crate::cluster::{Keep, default_cache};
use crate::report::{Granularity, Outcome, Recorder, Report, ReportError, Stage, note};
use crate::scenario::{Scenario, ScenarioError};
use crate::session::{Ending, Options, Pause, SessionError};
use crate::traffic::DriverOptions;
use crate::venue::{Embedded, Throwaway, Venue};

/// An error that prevents a report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The scenario is invalid, or the environment failed.
    #[error(transparent)]
    Walk(#[from] SessionError),
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

/// Runs scenarios and returns reports.
#[derive(Debug, Clone)]
pub struct Prover {
    venue: Arc<dyn Venue>,
    /// Scenarios that share a cluster instead.
    suite: Option<Arc<Suite>>,
    reports: Option<PathBuf>,
    until: Option<String>,
}

impl Prover {
    /// Uses the embedded mesh, which checks your manifests, not an Istio release. Needs no Docker.
    pub fn embedded() -> Self {
        Self::on(Embedded)
    }

    /// Uses a throwaway cluster with the newest Istio in the image cache. Needs Docker, the image cache, and the `shiftcheck` executable, which
    /// becomes the image of the client and the demo server. The executable is on the `PATH` or at the path in `SHIFTCHECK_PROGRAM`.
    pub fn throwaway() -> Self {
        Self::on(Throwaway::new(program()))
    }

    /// In this venue.
    pub fn on(venue: impl Venue + 'static) -> Self {
        Self { venue: Arc::new(venue), suite: None, reports: None, until: None }
    }

    /// Writes all reports into a folder, and after a failure the cluster state.
    #[must_use]
    pub fn reports(mut self, folder: impl Into<PathBuf>) -> Self {
        self.reports = Some(folder.into());
        self
    }

    /// Stops after a stage, by name or number.
    #[must_use]
    pub fn until(mut self, stage: &str) -> Self {
        self.until = Some(stage.to_owned());
        self
    }

    /// Runs a scenario, given by its file or folder, and cleans up.
    ///
    /// If the future is dropped, for example by a timeout or a panic of the test, the drop cancels the run and blocks until the clean-up is
    /// finished. SIGINT (Ctrl-C) and SIGTERM cancel all runs of the process. After the clean-up, the process exits with code 130 or 143. A second
    /// signal more than a second later ends the process at once.
    ///
    /// # Errors
    /// The scenario is invalid, the environment failed, or the reports cannot be written. A failed claim is in the report and not an error.
    ///
    /// # Panics
    /// Resumes a panic of the run after the clean-up.
    pub async fn prove(&self, scenario: impl AsRef<Path>) -> Result<Report, ProveError> {
        let path = scenario.as_ref();
        let reproduce = format!("shiftcheck run {}", path.display());
        let reports = self.reports_of(path);
        if let Some(folder) = &reports {
            Report::begin(folder, Granularity::Claim, reproduce.clone())?;
        }
        let scenario = self.part(Scenario::read(path)?)?;
        let suite = self.suite.as_ref().filter(|suite| suite.shares(path));
        let _turn = match suite {
            Some(suite) => Some(suite.turn().await?),
            None => None,
        };
        let options = Options {
            venue: suite.map_or_else(|| Arc::clone(&self.venue), |suite| Arc::clone(&suite.cluster) as Arc<dyn Venue>),
            keep: Keep::Never,
            cache: cache(),
            driver: DriverOptions::default(),
            state: reports.as_ref().map(|folder| folder.join("state")),
            pause: Pause::default(),
        };
        let (outcome, recorder) = Running::start(scenario, options, Recorder::new(reproduce))?.finished().await;
        let (result, note) = match &outcome {
            Ok(outcome) => {
                let result = match outcome.ending {
                    Ending::Passed => Outcome::Passed,
                    Ending::Failed => Outcome::Failed,
                    Ending::Undecided => Outcome::Inconclusive,
                    Ending::Cancelled => Outcome::Interrupted,
                };
                (result, note(outcome))
            }
            Err(error) => {
                let bad = error.is_bad_input();
                let result = if bad { Outcome::BadInput } else { Outcome::EnvironmentFailed };
                (result, "did not complete".to_owned())
            }
        };
        let report = recorder.close(result, &note, None);
        if let Some(folder) = &reports {
            report.write(folder, Granularity::Claim)?;
        }
        outcome?;
        Ok(report)
    }

    /// The folder for the reports of a scenario: a folder of its own where several share a cluster.
    fn reports_of(&self, scenario: &Path) -> Option<PathBuf> {
        let folder = self.reports.as_ref()?;
        let is_file = |path: &Path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let named = if is_file(scenario) { scenario.parent() } else { Some(scenario) };
        let name = self.suite.as_ref().and(named).and_then(Path::file_name);
        Some(name.map_or_else(|| folder.clone(), |name| folder.join(name)))
    }

    /// The stages of a scenario that are run.
    fn part(&self, scenario: Scenario) -> Result<Scenario, ScenarioError> {
        let Some(stage) = &self.until else { return Ok(scenario) };
        let number = scenario.stage(stage)?;
        Ok(scenario.until(number))
    }
}

/// The folder of the image cache and the run records.
fn cache() -> PathBuf {
    std::env::var_os("SHIFTCHECK_CACHE").map_or_else(default_cache, PathBuf::from)
}

impl Report {
    /// Asserts that the run passed.
    ///
    /// # Panics
    /// The run did not pass. The message has the failed claims and the reasons.
    pub fn assert_passed(&self) {
        assert!(
            self.result == Outcome::Passed,
            "{}: {}\n{}",
            self.scenario.name,
            self.note,
            Self::failures(&self.stages)
        );
    }

    /// The claims of stages that did not pass, with reasons.
    fn failures<'a>(stages: impl IntoIterator<Item = &'a Stage>) -> String {
        let failed = stages.into_iter().flat_map(|stage| stage.claims.iter().map(move |claim| (stage, claim)));
        let failed = failed.filter(|(_, claim)| claim.result != Outcome::Passed);
        let lines = failed.map(|(stage, claim)| {
            let (subject, claimed, reason) = (&claim.subject, &claim.claim, &claim.reason);
            let explanation = claim.explanation().into_iter().map(|line| format!("\n    {line}"));
            let explanation = explanation.collect::<String>();
            format!("  {} {}: {subject}: {claimed} — {reason}{explanation}", stage.number, stage.name)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// How the run ended: its error, or the note.
    fn ending(&self) -> &str {
        self.failure.as_ref().map_or(&self.note, |failure| &failure.message)
    }
}

//! For tests of one's own: walks a scenario and gives its report.
//!
//! ```no_run
//! # async fn test() -> Result<(), shiftcheck::walk::WalkError> {
//! use shiftcheck::prove::Prover;
//!
//! // a throwaway cluster, as `shiftcheck run` has one; `Prover::embedded()` needs no Docker
//! let report = Prover::throwaway().prove("rollouts/web/scenario.yaml").await?;
//! report.assert_passed();
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};

use crate::cluster::{Keep, default_cache};
use crate::mesh::IstioChoice;
use crate::report::{Granularity, Outcome, Recorder, Report};
use crate::scenario::Scenario;
use crate::traffic::DriverOptions;
use crate::walk::{Choice, Ending, Events, Options, Purpose, WalkError, run};
use crate::workload::program;

/// Walks scenarios and gives their reports.
#[derive(Debug, Clone)]
pub struct Prover {
    choice: Choice,
    reports: Option<PathBuf>,
    until: Option<String>,
}

impl Prover {
    /// On the embedded mesh: what the manifests mean, not what a release of Istio does. Needs no Docker.
    #[must_use]
    pub const fn embedded() -> Self {
        Self::on(Choice::Embedded)
    }

    /// On a throwaway cluster with the newest Istio in the image cache. Needs Docker, the cache, and the `shiftcheck` program on the `PATH` or
    /// where `SHIFTCHECK_PROGRAM` says, for it becomes the image of client and demo server.
    #[must_use]
    pub fn throwaway() -> Self {
        Self::on(Choice::K3s { node: None, istio: IstioChoice::default(), snapshotter: "overlayfs".to_owned() })
    }

    /// On this cluster.
    #[must_use]
    pub const fn on(choice: Choice) -> Self {
        Self { choice, reports: None, until: None }
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

    /// Walks a scenario, by its file or folder, from nothing running to all removed.
    ///
    /// # Errors
    /// The scenario is wrong, or the environment failed. A claim that fails is no error but in the report.
    pub async fn prove(&self, scenario: impl AsRef<Path>) -> Result<Report, WalkError> {
        let mut scenario = Scenario::read(scenario)?;
        if let Some(stage) = &self.until {
            let number = scenario.stage(stage)?;
            scenario = scenario.until(number);
        }
        if let Some(folder) = &self.reports
            && let Err(error) = Report::forget(folder)
        {
            tracing::warn!(%error, "an earlier report cannot be removed");
        }
        let options = Options {
            purpose: Purpose::Prove,
            choice: self.choice.clone(),
            keep: Keep::Never,
            cache: std::env::var_os("SHIFTCHECK_CACHE").map_or_else(default_cache, PathBuf::from),
            binary: program(),
            driver: DriverOptions::default(),
            state: self.reports.as_ref().map(|folder| folder.join("state")),
        };
        let reproduce = format!("shiftcheck run {}", scenario.path.display());
        let (events, mut stream) = Events::channel();
        let mut recorder = Recorder::new(reproduce);
        // ends with the walk, which owns the other end
        let recording = async {
            while let Some(event) = stream.recv().await {
                recorder.record(&event);
            }
        };
        let walking = Box::pin(run(scenario, options, events, std::future::pending()));
        let (walked, ()) = tokio::join!(walking, recording);
        let (result, note) = match &walked {
            Ok(outcome) if outcome.ending == Ending::Passed => (Outcome::Passed, "all stages passed".to_owned()),
            Ok(outcome) => (Outcome::Failed, format!("stage {} of {} failed", outcome.passed + 1, outcome.stages)),
            Err(error) if error.is_bad_input() => (Outcome::BadInput, "not proven".to_owned()),
            Err(_) => (Outcome::EnvironmentFailed, "not proven".to_owned()),
        };
        let report = recorder.close(result, &note, None);
        if let Some(folder) = &self.reports
            && let Err(error) = report.write(folder, Granularity::Claim)
        {
            tracing::warn!(%error, "the reports cannot be written");
        }
        walked.map(|_| report)
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

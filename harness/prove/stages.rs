//! Stages of scenarios as tests of their own.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Deserialize, Serialize};

use super::{Prover, cache};
use crate::report::{Outcome, Report};
use crate::scenario::Scenario;

/// Set by cargo-nextest, which starts a process for each test: the id of all these processes together.
pub(super) const NEXTEST_RUN: &str = "NEXTEST_RUN_ID";

impl Prover {
    /// The main function of a test target with `harness = false`. Each stage of each scenario is a test, named by the path of the scenario, the
    /// number and the name of the stage, such as `rollouts/web::4 canary`. Accepts the arguments of `cargo test`.
    ///
    /// The tests of a scenario share one run, also under cargo-nextest, which starts a process for each test. One scenario runs at a time.
    /// A test fails if its stage was not reached.
    ///
    /// ```no_run
    /// use shiftcheck::prove::Prover;
    ///
    /// fn main() -> std::process::ExitCode {
    ///     Prover::throwaway().test_stages(["rollouts/web", "rollouts/checkout"])
    /// }
    /// ```
    pub fn test_stages<P: Into<PathBuf>>(&self, scenarios: impl IntoIterator<Item = P>) -> ExitCode {
        let trials = scenarios.into_iter().flat_map(|path| self.trials(path.into())).collect();
        libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
    }

    fn trials(&self, path: PathBuf) -> Vec<Trial> {
        let name = path.display().to_string();
        let stages = match Scenario::read(&path).and_then(|scenario| self.part(scenario)) {
            Ok(scenario) => scenario.stages,
            Err(error) => return vec![Trial::test(name, move || Err(Failed::from(error)))],
        };
        let run = Arc::new(SharedRun { prover: self.clone(), path, outcome: OnceLock::new() });
        let trial = |(number, title): (usize, &str)| {
            let run = Arc::clone(&run);
            Trial::test(format!("{name}::{number} {title}"), move || run.stage(number).map_err(Failed::from))
        };
        (1..).zip(stages.iter().map(|stage| stage.name.as_str())).map(trial).collect()
    }
}

/// The report of a run, or the error that prevents it.
type Proved = Result<Report, String>;

/// A run of a scenario for the tests of its stages.
struct SharedRun {
    prover: Prover,
    path: PathBuf,
    outcome: OnceLock<Proved>,
}

impl SharedRun {
    /// Succeeds if a stage passed. The first call runs the scenario.
    fn stage(&self, number: usize) -> Result<(), String> {
        let report = self.outcome.get_or_init(|| self.proved()).as_ref().map_err(Clone::clone)?;
        let stage = report.stages.iter().find(|stage| stage.number == number);
        match stage.map(|stage| (stage, stage.result)) {
            Some((_, Some(Outcome::Passed | Outcome::NotJudged))) => Ok(()),
            Some((stage, Some(_))) => Err(Report::failures([stage])),
            Some((_, None)) => Err(format!("not finished: {}", report.ending())),
            None => Err(format!("not run: {}", report.ending())),
        }
    }

    /// Runs the scenario, or takes the report from another process of the same nextest run.
    fn proved(&self) -> Proved {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        match std::env::var(NEXTEST_RUN) {
            Ok(run) => self.shared(run).unwrap_or_else(|error| Err(format!("cannot share the run: {error}"))),
            Err(_) => self.prove_now(),
        }
    }

    fn prove_now(&self) -> Proved {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        runtime.block_on(self.prover.prove(&self.path)).map_err(|error| error.to_string())
    }

    fn shared(&self, run: String) -> io::Result<Proved> {
        let program = std::env::current_exe()?;
        let folder = cache().join("tests");
        create_dir_all(&folder)?;
        let path = folder.join(program.file_name().unwrap_or_default()).with_extension("json");
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        // unlocked at the end of this function, or by the kernel if the process ends
        file.lock()?;
        let mut earlier = RunsOfProcesses::read(&mut file)?;
        if earlier.run != run {
            earlier = RunsOfProcesses { run, proved: BTreeMap::new() };
        }
        if let Some(proved) = earlier.proved.remove(&self.path) {
            return Ok(proved);
        }
        let proved = self.prove_now();
        earlier.proved.insert(self.path.clone(), proved.clone());
        earlier.write(&mut file)?;
        Ok(proved)
    }
}

/// The runs that the processes of one nextest run share.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RunsOfProcesses {
    /// The id of the nextest run.
    run: String,
    /// By the path of the scenario.
    proved: BTreeMap<PathBuf, Proved>,
}

impl RunsOfProcesses {
    /// Reads a file. Content that is incomplete or has another form counts as none.
    fn read(file: &mut File) -> io::Result<Self> {
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(prover: Prover, scenario: &str) -> SharedRun {
        let path = PathBuf::from(format!("{}/fixtures/{scenario}", env!("CARGO_MANIFEST_DIR")));
        SharedRun { prover, path, outcome: OnceLock::new() }
    }

    #[test]
    fn the_test_of_a_stage_that_passed_passes() {
        assert_eq!(run(Prover::embedded().until("1"), "canary").stage(1), Ok(()));
    }

    #[test]
    fn the_test_of_a_stage_that_failed_names_the_claim() {
        let message = run(Prover::embedded(), "canary-pinned-selector").stage(1).unwrap_err();
        assert!(message.starts_with("  1 testers' canary, selector pinned: testers: v1 50 %, v2 50 % — "), "{message}");
        assert!(message.contains("\n    claimed in "), "{message}");
    }

    #[test]
    fn the_test_of_a_stage_that_was_not_reached_fails() {
        let message = run(Prover::embedded().until("1"), "canary").stage(2);
        assert_eq!(message, Err("not run: all stages passed".to_owned()));
    }

    #[test]
    fn a_scenario_that_cannot_be_read_is_a_test_that_fails() {
        let run = run(Prover::embedded(), "nowhere");
        let [trial] = &run.prover.trials(run.path.clone())[..] else { panic!("one test") };
        assert_eq!(trial.name(), run.path.display().to_string());
        assert!(run.stage(1).unwrap_err().starts_with("cannot read "), "{:?}", run.stage(1));
    }
}

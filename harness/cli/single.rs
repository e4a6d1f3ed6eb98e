use std::path::{Path, PathBuf};

use super::advice::Failure;
use super::args::{ClusterKind, RunArgs};
use super::execute::{Execution, Place, Task};
use super::exit::ExitCode;
use super::options::cluster_of;
use super::process::{When, in_github};
use super::reports::{Printed, Reports};
use crate::report::{Live, note};
use crate::scenario::Scenario;
use crate::session::{Interrupt, SessionError};

/// The folder of the reports; none without reports.
pub(super) fn folder(args: &RunArgs) -> Option<PathBuf> {
    let folder = || args.report.clone().unwrap_or_else(|| PathBuf::from("shiftcheck-report"));
    (!args.no_report).then(folder)
}

/// Runs a scenario. Its reports are in the folder of the reports, or below it if they have a name.
pub(super) async fn run(
    args: &RunArgs,
    (scenario, name): (Option<&Path>, Option<&str>),
    place: Place<'_>,
    when: When,
    live: Option<&Live>,
    interrupt: Interrupt,
) -> ExitCode {
    let folder = folder(args).map(|folder| name.map_or_else(|| folder.clone(), |name| folder.join(name)));
    let execution = Execution {
        scenario,
        place,
        when,
        task: Task::Run,
        quiet: args.several.quiet,
        reports: Reports {
            folder,
            asked: !args.no_report && args.report.is_some(),
            begun: false,
            printed: if in_github() { Printed::Annotations } else { Printed::Nothing },
            junit: args.junit,
        },
        live,
        part: &|scenario| part_of(scenario, args, live),
        note: &note,
    };
    execution.run(interrupt).await
}

/// A scenario with so many client pods.
pub(super) fn with_clients(scenario: Scenario, number: u16) -> Result<Scenario, Failure> {
    scenario.with_clients(number).map_err(|error| Failure::of(&SessionError::from(error)))
}

/// The requested stages of a scenario.
fn part_of(scenario: Scenario, args: &RunArgs, live: Option<&Live>) -> Result<Scenario, Failure> {
    let scenario = match args.clients {
        Some(number) => with_clients(scenario, number)?,
        None => scenario,
    };
    let number = |stage: &String| scenario.stage(stage).map_err(|error| Failure::of(&SessionError::from(error)));
    if let (Some(live), Some(stage)) = (live, &args.pause) {
        live.pause().set(number(stage)?);
        return Ok(scenario);
    }
    if args.pause.is_some() && cluster_of(&args.walk) == ClusterKind::Embedded {
        let message =
            "--pause needs a cluster, since the embedded mesh ends with this process; with --live, the run only waits";
        return Err(Failure::bad_input(message.to_owned()));
    }
    match (&args.only, args.until.as_ref().or(args.pause.as_ref())) {
        (Some(stage), _) => number(stage).map(|number| scenario.only(number)),
        (None, Some(stage)) => number(stage).map(|number| scenario.until(number)),
        (None, None) => Ok(scenario),
    }
}

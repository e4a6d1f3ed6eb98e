use std::path::{Path, PathBuf};

use super::advice::Failure;
use super::args::{ClusterKind, RunArgs};
use super::discovery;
use super::execute::{Execution, Place, Task};
use super::exit::ExitCode;
use super::options::cluster_of;
use super::process::in_github;
use super::reports::{Printed, Reports};
use crate::cluster::Keep;
use crate::report::note;
use crate::scenario::Scenario;
use crate::session::{Interrupt, SessionError};

/// Runs scenarios and decides every claim.
pub(super) async fn run(args: &RunArgs, interrupt: &Interrupt) -> ExitCode {
    let mut names = discovery::names(&args.several.scenarios).into_iter();
    discovery::each(&args.several, true, async |scenario| {
        // several scenarios have a folder each
        let name = names.next().filter(|_| args.several.scenarios.len() > 1);
        Box::pin(one(args, scenario, name, interrupt.clone())).await
    })
    .await
}

/// Runs a scenario. Its reports are in the folder of the reports, or below it if they have a name.
async fn one(args: &RunArgs, scenario: Option<&Path>, name: Option<String>, interrupt: Interrupt) -> ExitCode {
    let mut walk = args.walk.clone();
    if args.pause.is_some() {
        walk.keep = Keep::Always;
    }
    let folder = args.report.clone().unwrap_or_else(|| PathBuf::from("shiftcheck-report"));
    let folder = name.map_or_else(|| folder.clone(), |name| folder.join(name));
    let execution = Execution {
        scenario,
        place: Place::Of(&walk),
        task: Task::Run,
        quiet: args.several.quiet,
        reports: Reports {
            folder: (!args.no_report).then_some(folder),
            asked: !args.no_report && args.report.is_some(),
            begun: false,
            printed: if in_github() { Printed::Annotations } else { Printed::Nothing },
            junit: args.junit,
        },
        part: &|scenario| part_of(scenario, args),
        note: &note,
    };
    execution.run(interrupt).await
}

/// The requested stages of a scenario.
fn part_of(scenario: Scenario, args: &RunArgs) -> Result<Scenario, Failure> {
    if args.pause.is_some() && cluster_of(&args.walk) == ClusterKind::Embedded {
        let message = "--pause needs a cluster: the embedded mesh ends with this process";
        return Err(Failure::bad_input(message.to_owned()));
    }
    let number = |stage: &String| scenario.stage(stage).map_err(|error| Failure::of(&SessionError::from(error)));
    match (&args.only, args.until.as_ref().or(args.pause.as_ref())) {
        (Some(stage), _) => number(stage).map(|number| scenario.only(number)),
        (None, Some(stage)) => number(stage).map(|number| scenario.until(number)),
        (None, None) => Ok(scenario),
    }
}

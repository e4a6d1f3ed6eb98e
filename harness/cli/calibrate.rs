use super::args::CalibrateArgs;
use super::execute::{Execution, Place, Task};
use super::exit::ExitCode;
use super::process::{When, interrupt};
use super::reports::Reports;
use super::single::with_clients;
use crate::session::{CalibrateOptions, Ending, Outcome};

/// Tests whether the mesh routes requests independently.
pub(super) async fn run(args: &CalibrateArgs) -> ExitCode {
    let options = CalibrateOptions { samples: usize::from(args.samples), requests: u64::from(args.requests) };
    let execution = Execution {
        scenario: args.scenario.as_deref(),
        place: Place::Of(&args.walk),
        task: Task::Calibrate(options),
        when: When::AtOnce,
        quiet: false,
        reports: Reports::none(),
        live: None,
        // requests of several pods are routed independently in any case
        part: &|scenario| with_clients(scenario, 1),
        note: &note,
    };
    execution.run(interrupt()).await
}

fn note(outcome: &Outcome) -> String {
    let not = if outcome.ending == Ending::Passed { "" } else { "not " };
    format!("requests are {not}routed independently")
}

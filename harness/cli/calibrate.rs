use super::advice::Failure;
use super::args::CalibrateArgs;
use super::execute::{Execution, Place, Task};
use super::exit::ExitCode;
use super::live::LivePage;
use super::process::{When, interrupt};
use super::reports::Reports;
use super::single::with_clients;
use crate::session::{CalibrateOptions, Ending, Outcome};

/// Tests whether the mesh routes requests independently, with a live page if one is requested.
pub(super) async fn run(args: &CalibrateArgs) -> Result<ExitCode, Failure> {
    if args.pause.is_some() {
        let message = "calibrate judges no stage after which it could wait: use run --live --pause";
        return Err(Failure::bad_input(message.to_owned()));
    }
    let interrupt = interrupt();
    let page = LivePage::start(&args.page, false).await?;
    let options = CalibrateOptions { samples: usize::from(args.samples), requests: u64::from(args.requests) };
    let execution = Execution {
        scenario: args.scenario.as_deref(),
        place: Place::Of(&args.walk),
        task: Task::Calibrate(options),
        when: When::AtOnce,
        quiet: false,
        reports: Reports::none(),
        live: page.as_ref().map(|page| &page.live),
        // requests of several pods are routed independently in any case
        part: &|scenario| with_clients(scenario, 1),
        note: &note,
    };
    let code = Box::pin(execution.run(interrupt.clone())).await;
    if let Some(page) = page {
        page.close(&interrupt).await;
    }
    Ok(code)
}

fn note(outcome: &Outcome) -> String {
    let not = if outcome.ending == Ending::Passed { "" } else { "not " };
    format!("requests are {not}routed independently")
}

use std::path::Path;

use super::advice::{self, Failure};
use super::args::MutantsArgs;
use super::execute::{Execution, Task};
use super::exit::ExitCode;
use super::process::{interrupt, output};
use super::reports::Reports;
use crate::plan::Plan;
use crate::report::mutated;
use crate::scenario::Scenario;
use crate::session::{Ending, Outcome, SessionError};
use crate::verify::{Mutant, MutantStatus, evaluate, mutants};

/// Evaluates the mutants of a scenario with the routing model, and a sample of them on a cluster if one is requested.
pub(super) async fn run(args: &MutantsArgs) -> ExitCode {
    let code = evaluated(&args.walk.scenario).unwrap_or_else(|failure| {
        advice::print(&failure);
        failure.code
    });
    if args.walk.cluster.is_none() || code == ExitCode::BadInput {
        return code;
    }
    let execution = Execution {
        args: &args.walk,
        task: Task::TryMutants(usize::from(args.sample)),
        reports: Reports::none(),
        part: &Ok,
        note: &note,
    };
    execution.run(interrupt()).await
}

fn note(Outcome { ending, passed, stages }: &Outcome) -> String {
    if *ending == Ending::Passed {
        format!("the mesh agrees with the routing model on all {stages} mutants")
    } else {
        format!("the mesh agrees with the routing model on {passed} of {stages} mutants")
    }
}

/// Evaluates the mutants of a scenario and prints the mutation report.
fn evaluated(path: &Path) -> Result<ExitCode, Failure> {
    let scenario = Scenario::read(path).map_err(|error| Failure::of(&SessionError::from(error)))?;
    let plan = Plan::new(&scenario);
    let mutants = mutants(&scenario);
    let evaluated: Vec<(&Mutant, MutantStatus)> =
        mutants.iter().map(|mutant| (mutant, evaluate(&plan, mutant))).collect();
    let (mut out, marks) = output();
    // a closed pipe is not an error
    let _ = mutated(&mut out, marks, &scenario.name, &evaluated);
    let any = |is: fn(&MutantStatus) -> bool| evaluated.iter().any(|(_, status)| is(status));
    Ok(if any(|status| matches!(status, MutantStatus::Survived(_))) {
        ExitCode::Fail
    } else if any(|status| matches!(status, MutantStatus::Undecided)) {
        ExitCode::Undecided
    } else {
        ExitCode::Pass
    })
}

use std::path::Path;

use super::advice::{self, Failure};
use super::args::{Format, MutantsArgs};
use super::discovery;
use super::execute::{Execution, Place, Task};
use super::exit::ExitCode;
use super::process::{When, interrupt, output, print_structured};
use super::reports::Reports;
use crate::plan::Plan;
use crate::report::{Mutation, mutated};
use crate::scenario::Sensitive;
use crate::session::{Ending, Outcome};
use crate::verify::{Mutant, MutantStatus, evaluate, mutants};

/// Evaluates the mutants of scenarios with the routing model, and a sample of them on a cluster if one is requested.
pub(super) async fn run(args: &MutantsArgs) -> ExitCode {
    let mut signals = None;
    discovery::each(&args.several, args.format == Format::Text, async |scenario| {
        let code = evaluated(args, scenario).unwrap_or_else(|failure| {
            advice::print(&failure);
            failure.code
        });
        if args.walk.cluster.is_none() || code == ExitCode::BadInput {
            return code;
        }
        let execution = Execution {
            scenario,
            place: Place::Of(&args.walk),
            task: Task::TryMutants(usize::from(args.sample)),
            when: When::AtOnce,
            quiet: args.several.quiet,
            reports: Reports::none(),
            live: None,
            part: &Ok,
            note: &note,
        };
        Box::pin(execution.run(signals.get_or_insert_with(interrupt).clone())).await
    })
    .await
}

fn note(Outcome { ending, passed, stages }: &Outcome) -> String {
    if *ending == Ending::Passed {
        format!("the mesh agrees with the routing model on all {stages} mutants")
    } else {
        format!("the mesh agrees with the routing model on {passed} of {stages} mutants")
    }
}

/// Evaluates the mutants of a scenario and prints the mutation report.
fn evaluated(args: &MutantsArgs, scenario: Option<&Path>) -> Result<ExitCode, Failure> {
    let scenario = discovery::read(scenario)?;
    let plan = Plan::of(&scenario, &scenario.namespace, args.walk.istio.as_ref());
    let mutants = mutants(&scenario);
    let evaluated: Vec<(&Mutant, MutantStatus)> =
        mutants.iter().map(|mutant| (mutant, evaluate(&plan, mutant))).collect();
    let (mut out, marks) = output();
    let hidden = Sensitive::of(&scenario);
    out.hide(hidden.clone());
    // a closed pipe is not an error
    let _ = match args.format {
        Format::Text => mutated(&mut out, marks, args.several.quiet, &scenario.name, &evaluated),
        format => print_structured(&Mutation::new(&scenario.name, &evaluated), format, &hidden),
    };
    let any = |is: fn(&MutantStatus) -> bool| evaluated.iter().any(|(_, status)| is(status));
    Ok(if any(|status| matches!(status, MutantStatus::Survived(_))) {
        ExitCode::Fail
    } else if any(|status| matches!(status, MutantStatus::Undecided)) {
        ExitCode::Undecided
    } else {
        ExitCode::Pass
    })
}

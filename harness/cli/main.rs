use std::io::{IsTerminal, stderr, stdout};

use clap::{CommandFactory, Parser};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::advice::{self, Failure};
use super::args::{Args, Command};
use super::exit::ExitCode;
use super::process::{coloured, interrupt, own_binary};
use super::{
    calibrate, compare, images, init, judge, man, mutants, run, schema, sweep, upgrade, verify, watch, workload,
};
use crate::cluster::{ImageCache, write_archive};

/// The logged events, by a filter such as `shiftcheck=debug` or `debug,hyper=off`. The default is errors.
fn logged(wanted: Option<&str>) -> Targets {
    let wanted = wanted.and_then(|wanted| wanted.parse().ok());
    wanted
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::ERROR).with_target("kube_client", LevelFilter::OFF))
}

/// The number of tasks that the workload runs before it looks for what has arrived, if there are so many. Each request takes three tasks: with
/// tokio's default of 61, a connection of HTTP/2 with eight streams gets its next responses before their requests are all sent, and sends them in
/// twice as many parts.
const POLLS_BETWEEN_READS: u32 = 1024;

/// Runs the program.
pub fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(coloured(stderr().is_terminal()));
    tracing_subscriber::registry().with(lines).with(logged(std::env::var("SHIFTCHECK_LOG").ok().as_deref())).init();
    let mut builder = match args.command {
        // the workload leaves the other cores to its sidecar, and passing requests between threads costs more than it gains
        Command::Workload { .. } => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.event_interval(POLLS_BETWEEN_READS);
            builder
        }
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            advice::print(&Failure::environment(format!("cannot start: {error}")));
            return ExitCode::Environment.into();
        }
    };
    let code = runtime.block_on(dispatch(args));
    // does not wait for watches and tunnels of a removed cluster
    runtime.shutdown_background();
    code.into()
}

async fn dispatch(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Run(args) if args.watch => return Box::pin(watch::watch(&args)).await,
        Command::Run(args) => Box::pin(run::run(&args, &interrupt())).await,
        Command::Upgrade(args) => Box::pin(upgrade::run(&args)).await,
        Command::Verify(args) => return verify::run(&args).await,
        Command::Mutants(args) => return Box::pin(mutants::run(&args)).await,
        Command::Calibrate(args) => Box::pin(calibrate::run(&args)).await,
        Command::Judge(args) => Box::pin(judge::run(&args)).await,
        Command::Init(args) => passed(init::run(&args).await),
        Command::Images(args) => images::run(&args, &ImageCache::new(&args.cache.folder)).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), env!("CARGO_PKG_NAME"), &mut stdout());
            Ok(ExitCode::Pass)
        }
        Command::Man { folder } => passed(man::run(folder.as_deref())),
        Command::Schema { what } => {
            schema::run(what);
            Ok(ExitCode::Pass)
        }
        Command::Compare { before, after, format } => compare::run(&before, &after, format),
        Command::Sweep(args) => passed(sweep::run(&args).await),
        Command::Image { archive } => passed(own_binary().and_then(|binary| {
            write_archive(&binary, &archive).map_err(|error| Failure::environment(error.to_string()))
        })),
        Command::Workload { part } => passed(workload::run(part).await),
    };
    done.unwrap_or_else(|failure| {
        advice::print(&failure);
        failure.code
    })
}

fn passed(done: Result<(), Failure>) -> Result<ExitCode, Failure> {
    done.map(|()| ExitCode::Pass)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::not_set(None, [true, false, false])]
    #[case::a_target(Some("shiftcheck=debug"), [false, true, false])]
    #[case::all_but_one(Some("debug,kube_client=off"), [true, true, false])]
    #[case::the_client(Some("kube_client=error"), [false, false, true])]
    #[case::cannot_be_read(Some("shiftcheck=loud"), [true, false, false])]
    fn what_is_logged(#[case] wanted: Option<&str>, #[case] expected: [bool; 3]) {
        let targets = logged(wanted);
        let seen = [
            targets.would_enable("hyper", &tracing::Level::ERROR),
            targets.would_enable("shiftcheck_workload::serve", &tracing::Level::DEBUG),
            targets.would_enable("kube_client::client", &tracing::Level::ERROR),
        ];
        assert_eq!(seen, expected);
    }
}

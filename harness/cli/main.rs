use std::io::{IsTerminal, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use super::advice::{self, Failure};
use super::args::{Args, CalibrateArgs, ClusterKind, Command, RunArgs, SweepArgs, Workload};
use crate::cluster::{Docker, NodeImage, RunRecords, default_cache, sweep};
use crate::report::{Terminal, plural};
use crate::scenario::Scenario;
use crate::traffic::DriverOptions;
use crate::walk::{CalibrateOptions, Choice, Ending, Events, Options, Purpose, WalkError, run};
use crate::workload::{self, Order};

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Every claim held.
    Pass = 0,
    /// A claim failed.
    Fail = 1,
    /// The scenario, the manifests or the arguments are wrong.
    BadInput = 2,
    /// The environment failed: engine, images, cluster, mesh.
    Environment = 3,
    /// Called off by SIGINT.
    Interrupted = 130,
    /// Called off by SIGTERM.
    Terminated = 143,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// The program.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("SHIFTCHECK_LOG").unwrap_or_else(|_| EnvFilter::new("error,kube_client=off")),
        )
        .with_writer(stderr)
        .with_ansi(coloured(stderr().is_terminal()))
        .init();
    let mut builder = match args.command {
        // what runs beside a sidecar leaves the other cores to it: handing requests from thread to thread costs more than it gains
        Command::Workload { .. } => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            advice::tell(&Failure::environment(format!("cannot start: {error}")));
            return ExitCode::Environment.into();
        }
    };
    let code = runtime.block_on(dispatch(args));
    // watches and tunnels of a removed cluster are not waited for
    runtime.shutdown_background();
    code.into()
}

async fn dispatch(args: Args) -> ExitCode {
    let cache = args.cache.unwrap_or_else(default_cache);
    let done = match args.command {
        Command::Run(args) => return walk(args, Purpose::Prove, cache).await,
        Command::Verify(args) => return super::verify::run(&args),
        Command::Mutants(args) => {
            let code = super::verify::mutate(&args.walk.scenario);
            let done = args.walk.cluster.is_none() || code == ExitCode::BadInput;
            return if done { code } else { walk(args.walk, Purpose::Mutate(usize::from(args.sample)), cache).await };
        }
        Command::Calibrate(CalibrateArgs { walk: args, samples, requests }) => {
            let options = CalibrateOptions { samples: usize::from(samples), requests: u64::from(requests) };
            return walk(args, Purpose::Calibrate(options), cache).await;
        }
        Command::Sweep(args) => sweep_all(args, &cache).await,
        Command::Image { archive } => own_binary().and_then(|binary| {
            workload::write_archive(&binary, &archive).map_err(|error| Failure::environment(error.to_string()))
        }),
        Command::Workload { part } => run_workload(part).await,
    };
    match done {
        Ok(()) => ExitCode::Pass,
        Err(failure) => {
            advice::tell(&failure);
            failure.code
        }
    }
}

async fn walk(args: RunArgs, purpose: Purpose, cache: PathBuf) -> ExitCode {
    let start = Instant::now();
    let mut terminal = Terminal::new(stdout(), coloured(stdout().is_terminal()));
    let cluster = match args.cluster {
        Some(cluster) => cluster,
        None => usual_cluster().await,
    };
    let prepared = Scenario::read(&args.scenario)
        .map_err(|error| Failure::of(&WalkError::from(error)))
        .and_then(|scenario| options(&args, cluster, &scenario, purpose, cache).map(|options| (scenario, options)));
    let (scenario, options) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            terminal.abandon();
            advice::tell(&failure);
            return failure.code;
        }
    };
    let (events, mut stream) = Events::channel();
    let shown = tokio::spawn(async move {
        while let Some(event) = stream.recv().await {
            terminal.show(event);
        }
        terminal
    });
    let mut called_off = ExitCode::Interrupted;
    let result = run(scenario, options, events, async { called_off = signalled().await }).await;
    let mut terminal = match shown.await {
        Ok(terminal) => terminal,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let (code, note, failure) = match result {
        Ok(outcome) => match outcome.ending {
            Ending::Passed if purpose == Purpose::Prove => (ExitCode::Pass, "all stages passed".to_owned(), None),
            Ending::Passed if matches!(purpose, Purpose::Mutate(_)) => {
                (ExitCode::Pass, format!("the mesh does what the model says of all {} mutants", outcome.stages), None)
            }
            Ending::Passed => (ExitCode::Pass, "each request is routed on its own".to_owned(), None),
            Ending::Failed if matches!(purpose, Purpose::Mutate(_)) => {
                let text =
                    format!("the mesh does what the model says of {} of {} mutants", outcome.passed, outcome.stages);
                (ExitCode::Fail, text, None)
            }
            Ending::Failed if purpose != Purpose::Prove => {
                (ExitCode::Fail, "the verdicts' model does not hold".to_owned(), None)
            }
            Ending::Failed => {
                let missed = outcome.stages - outcome.passed - 1;
                let rest =
                    if missed == 0 { String::new() } else { format!("; {} not walked", plural(missed, "stage")) };
                (ExitCode::Fail, format!("stage {} of {} failed{rest}", outcome.passed + 1, outcome.stages), None)
            }
            Ending::Cancelled => (called_off, "called off".to_owned(), None),
        },
        Err(error) => {
            let failure = Failure::of(&error);
            (failure.code, "not proven".to_owned(), Some(failure))
        }
    };
    terminal.close(start.elapsed(), &note);
    if let Some(failure) = failure {
        advice::tell(&failure);
    }
    code
}

/// A throwaway cluster where an engine answers; elsewhere the embedded mesh, but not in CI, where a missing engine is an error.
async fn usual_cluster() -> ClusterKind {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    if in_ci || Docker::connect().await.is_ok() { ClusterKind::K3s } else { ClusterKind::Embedded }
}

fn options(
    args: &RunArgs,
    cluster: ClusterKind,
    scenario: &Scenario,
    purpose: Purpose,
    cache: PathBuf,
) -> Result<Options, Failure> {
    let choice = match cluster {
        ClusterKind::K3s => Choice::K3s {
            node: args.node_image.as_deref().map(node_image).transpose()?,
            istio: args.istio.clone(),
            snapshotter: args.snapshotter.clone(),
        },
        ClusterKind::Embedded => Choice::Embedded,
        ClusterKind::Kubeconfig => Choice::Kubeconfig {
            file: args.kubeconfig.clone(),
            context: args.context.clone(),
            namespace: args.namespace.clone(),
        },
    };
    Ok(Options { purpose, choice, keep: args.keep, cache, binary: own_binary()?, driver: driver(args, scenario) })
}

/// The command line's word counts before the scenario's.
fn driver(args: &RunArgs, scenario: &Scenario) -> DriverOptions {
    let written = scenario.traffic;
    let usual = DriverOptions::default();
    DriverOptions {
        connections: args.connections.or(written.connections).map_or(usual.connections, usize::from),
        qps: args.qps.or(written.qps),
        keep_alive: !args.no_keep_alive && written.keep_alive.unwrap_or(usual.keep_alive),
        ..usual
    }
}

fn node_image(text: &str) -> Result<NodeImage, Failure> {
    match text.rsplit_once(':') {
        Some((image, tag)) if !image.is_empty() && !tag.is_empty() && !tag.contains('/') => {
            Ok(NodeImage { image: image.to_owned(), tag: tag.to_owned() })
        }
        _ => Err(Failure::bad_input(format!("`{text}` is not an image with a tag, such as rancher/k3s:v1.34.4-k3s1"))),
    }
}

async fn sweep_all(args: SweepArgs, cache: &Path) -> Result<(), Failure> {
    let docker = Docker::connect().await.ok();
    let run = args.run.as_deref().map(Into::into);
    let swept = sweep(docker.as_ref(), &RunRecords::new(cache), args.kept, run.as_ref())
        .await
        .map_err(|error| Failure::of(&error.into()))?;
    crate::report::swept(&mut stdout(), &swept, docker.is_some());
    match swept.failures.first() {
        None => Ok(()),
        Some(failure) => Err(Failure::environment(failure.clone())),
    }
}

async fn run_workload(part: Workload) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::environment(error.to_string());
    match part {
        Workload::Serve { version, mended, pod, listen } => {
            workload::serve(listen, version, pod, !mended).await.map_err(|error| failed(&error))
        }
        Workload::Idle => {
            workload::idle().await;
            Ok(())
        }
        Workload::Drive => {
            workload::drive_all(orders(), workload::Lines::new(stdout())).await.map_err(|error| failed(&error))
        }
        Workload::Files => workload::print_files(stdout()).map_err(|error| failed(&error)),
    }
}

/// The orders on stdin, as they come.
fn orders() -> mpsc::Receiver<Order> {
    let (sender, receiver) = mpsc::channel(16);
    // a thread of its own: a read of stdin cannot be called off
    std::thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => {
                    if sender.blocking_send(order).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    advice::tell(&Failure::bad_input(format!("`{line}` is not an order: {error}")));
                    return;
                }
            }
        }
    });
    receiver
}

/// Completes at the first SIGINT or SIGTERM. A second one ends the process at once: the clean-up is then left to `sweep`.
async fn signalled() -> ExitCode {
    let (Ok(mut interrupt), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    let first = tokio::select! {
        _ = interrupt.recv() => ExitCode::Interrupted,
        _ = term.recv() => ExitCode::Terminated,
    };
    tokio::spawn(async move {
        let code = tokio::select! {
            _ = interrupt.recv() => ExitCode::Interrupted,
            _ = term.recv() => ExitCode::Terminated,
        };
        advice::tell(&Failure::abandoned());
        #[expect(clippy::exit, reason = "the user asked twice")]
        std::process::exit(code as i32);
    });
    first
}

fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::environment(format!("cannot find the own binary: {error}")))
}

/// Whether a stream gets colours: a terminal, unless `NO_COLOR` is set.
pub(super) fn coloured(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

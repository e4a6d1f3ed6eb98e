use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Stdout, Write, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{CommandFactory, Parser};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::advice::{self, Failure};
use super::args::{
    Args, CalibrateArgs, ClusterKind, Command, RunArgs, SchemaOf, SweepArgs, TrafficArgs, WalkArgs, Workload,
};
use super::signals::Calls;
use crate::cluster::{
    ClusterError, Docker, ImageCache, Keep, NodeImage, RunRecords, Wanted, default_cache, print_files, sweep,
    write_archive,
};
use crate::events::{Events, FailureLayer};
use crate::mesh::IstioChoice;
use crate::report::{
    self, Granularity, Outcome, Recorder, Report, Terminal, UpgradeReport, checked_images, compare, compared, images,
    plural,
};
use crate::scenario::Scenario;
use crate::traffic::DriverOptions;
use crate::venue::{Embedded, Existing, Throwaway, Venue};
use crate::walk::{CalibrateOptions, Ending, Options, Purpose, WalkError, run};
use crate::workload::{self, DriverCommand, JsonLines};

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

/// The events that are logged: those that `SHIFTCHECK_LOG` asks for, such as `shiftcheck=debug` or `debug,hyper=off`; errors where it is not
/// set or cannot be read.
fn logged(wanted: Option<&str>) -> Targets {
    let wanted = wanted.and_then(|wanted| wanted.parse().ok());
    wanted
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::ERROR).with_target("kube_client", LevelFilter::OFF))
}

/// The program.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(coloured(stderr().is_terminal()));
    tracing_subscriber::registry().with(lines).with(logged(std::env::var("SHIFTCHECK_LOG").ok().as_deref())).init();
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
        Command::Run(args) if args.watch => return Box::pin(watch(args, cache)).await,
        Command::Run(args) => return Box::pin(walk(args, Purpose::Prove, cache, Calls::listen())).await,
        Command::Upgrade(args) => return Box::pin(super::upgrade::run(*args, cache)).await,
        Command::Verify(args) => return super::verify::run(&args),
        Command::Mutants(args) => {
            let code = super::verify::mutate(&args.walk.scenario);
            let done = args.walk.cluster.is_none() || code == ExitCode::BadInput;
            if done {
                return code;
            }
            return Box::pin(walk(args.walk.into(), Purpose::Mutate(usize::from(args.sample)), cache, Calls::listen()))
                .await;
        }
        Command::Calibrate(CalibrateArgs { walk: args, samples, requests }) => {
            let options = CalibrateOptions { samples: usize::from(samples), requests: u64::from(requests) };
            return Box::pin(walk(args.into(), Purpose::Calibrate(options), cache, Calls::listen())).await;
        }
        Command::Init(args) => super::init::run(&args).await,
        Command::Images { pull: Some(version), hub, .. } => pull(&version, &hub, &ImageCache::new(&cache)).await,
        Command::Images { check: true, .. } => {
            // a closed pipe is no failure
            let whole = checked_images(&mut stdout(), &ImageCache::new(&cache)).unwrap_or(true);
            return if whole { ExitCode::Pass } else { ExitCode::Environment };
        }
        Command::Images { .. } => {
            let _ = images(&mut stdout(), &ImageCache::new(&cache));
            Ok(())
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), env!("CARGO_PKG_NAME"), &mut stdout());
            Ok(())
        }
        Command::Man => {
            // a closed pipe is no failure
            let _ = clap_mangen::Man::new(Args::command()).render(&mut stdout());
            Ok(())
        }
        Command::Schema { what } => {
            let schema = match what {
                SchemaOf::Scenario => Scenario::schema(),
                SchemaOf::Report => Report::schema(),
                SchemaOf::Upgrade => UpgradeReport::schema(),
            };
            // a closed pipe is no failure
            let _ = writeln!(stdout(), "{schema:#}");
            Ok(())
        }
        Command::Compare { before, after } => match compare_reports(&before, &after) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Sweep(args) => sweep_all(args, &cache).await,
        Command::Image { archive } => own_binary().and_then(|binary| {
            write_archive(&binary, &archive).map_err(|error| Failure::environment(error.to_string()))
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

async fn walk(args: RunArgs, purpose: Purpose, cache: PathBuf, calls: Calls) -> ExitCode {
    let mut terminal = Terminal::new(stdout(), coloured(stdout().is_terminal()));
    let cluster = args.walk.cluster.unwrap_or_else(|| default_cluster(in_ci(), Docker::is_configured()));
    let mut reports = Reports::new(&args, purpose);
    if (reports.asked || reports.stand())
        && let Err(failure) = reports.begin()
    {
        terminal.abandon();
        advice::tell(&failure);
        return failure.code;
    }
    let prepared = Scenario::read(&args.walk.scenario)
        .map_err(|error| Failure::of(&WalkError::from(error)))
        .and_then(|scenario| part_of(scenario, &args, cluster))
        .and_then(|scenario| options(&args, cluster, &scenario, purpose, cache).map(|options| (scenario, options)))
        .and_then(|prepared| reports.begin().map(|()| prepared));
    let (scenario, options) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            terminal.abandon();
            advice::tell(&failure);
            let recorder = Recorder::new(reproduce());
            let report = recorder.close(result_of(failure.code), "not proven", Some(told(&failure)));
            reports.publish(&report, &mut terminal);
            return failure.code;
        }
    };
    let (events, mut stream) = Events::channel();
    let mut recorder = Recorder::new(reproduce());
    let shown = tokio::spawn(async move {
        while let Some(event) = stream.recv().await {
            recorder.record(&event);
            terminal.show(event);
        }
        (terminal, recorder)
    });
    let mut called_off = ExitCode::Interrupted;
    let result = Box::pin(run(scenario, options, events, async { called_off = calls.off().await })).await;
    let (mut terminal, recorder) = match shown.await {
        Ok(readers) => readers,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let (code, note, failure) = match result {
        Ok(outcome) => match outcome.ending {
            Ending::Passed if purpose == Purpose::Prove => (ExitCode::Pass, "all stages passed".to_owned(), None),
            Ending::Passed if matches!(purpose, Purpose::Mutate(_)) => {
                (ExitCode::Pass, format!("the mesh does what the model says of all {} mutants", outcome.stages), None)
            }
            Ending::Passed => (ExitCode::Pass, "requests are routed independently".to_owned(), None),
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
    let note = if cluster == ClusterKind::Embedded {
        // nobody is to take this for a run on a real mesh
        format!("{note} on the embedded mesh, which checks your manifests, not an Istio release")
    } else {
        note
    };
    terminal.close(&note);
    let report = recorder.close(result_of(code), &note, failure.as_ref().map(told));
    if let Some(failure) = failure {
        advice::tell(&failure);
    }
    let written = reports.publish(&report, &mut terminal);
    if written || code != ExitCode::Pass { code } else { ExitCode::Environment }
}

/// Walks again and again on the embedded mesh, whenever something is saved, until a signal.
async fn watch(args: RunArgs, cache: PathBuf) -> ExitCode {
    if args.walk.cluster != Some(ClusterKind::Embedded) {
        let message = "--watch walks at every save, which takes --cluster embedded".to_owned();
        advice::tell(&Failure::bad_input(message));
        return ExitCode::BadInput;
    }
    let calls = Calls::listen();
    let mut interval = tokio::time::interval(SAVED_INTERVAL);
    loop {
        let before = saved(&args.walk.scenario);
        let code = Box::pin(walk(args.clone(), Purpose::Prove, cache.clone(), calls.clone())).await;
        if matches!(code, ExitCode::Interrupted | ExitCode::Terminated) {
            return code;
        }
        let _ = writeln!(stdout(), "\nwaiting for a change\n");
        let changed = async {
            while saved(&args.walk.scenario) == before {
                interval.tick().await;
            }
        };
        tokio::select! {
            () = changed => {}
            code = calls.clone().off() => return code,
        }
    }
}

/// How often files are looked at for a change.
const SAVED_INTERVAL: Duration = Duration::from_millis(200);

/// The files of a scenario with when they were saved and how long they are: those that it names, and all others beside it.
fn saved(scenario: &Path) -> BTreeMap<PathBuf, (Option<SystemTime>, u64)> {
    let mut folders = BTreeSet::new();
    folders.insert(if scenario.is_dir() { scenario } else { scenario.parent().unwrap_or(Path::new("")) }.to_owned());
    if let Ok(read) = Scenario::read(scenario) {
        folders.extend(read.files().filter_map(|path| Some(path.parent()?.to_owned())));
    }
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let entries = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((entry.path(), (metadata.modified().ok(), metadata.len())))
    });
    entries.collect()
}

/// How a run ended that ends the process so.
const fn result_of(code: ExitCode) -> Outcome {
    match code {
        ExitCode::Pass => Outcome::Passed,
        ExitCode::Fail => Outcome::Failed,
        ExitCode::BadInput => Outcome::BadInput,
        ExitCode::Environment => Outcome::EnvironmentFailed,
        ExitCode::Interrupted | ExitCode::Terminated => Outcome::Interrupted,
    }
}

fn told(failure: &Failure) -> report::Failure {
    let layer = match failure.code {
        ExitCode::BadInput => FailureLayer::Manifest,
        _ => FailureLayer::Environment,
    };
    report::Failure {
        link: layer.to_string(),
        message: failure.message.clone(),
        place: failure.place.clone(),
        hint: failure.hint.clone(),
    }
}

/// Where and how reports are written.
#[derive(Debug, Clone)]
struct Reports {
    /// None where no report is written.
    folder: Option<PathBuf>,
    /// Whether somebody has named the folder.
    asked: bool,
    /// Whether the folder says that this run has not ended.
    begun: bool,
    /// Whether the run proves anything that could be reported.
    proves: bool,
    junit: Granularity,
}

impl Reports {
    fn new(args: &RunArgs, purpose: Purpose) -> Self {
        let folder = args.report.clone().unwrap_or_else(|| PathBuf::from("shiftcheck-report"));
        let proves = purpose == Purpose::Prove;
        let folder = (!args.no_report && proves).then_some(folder);
        let asked = folder.is_some() && args.report.is_some();
        Self { folder, asked, begun: false, proves, junit: args.junit }
    }

    /// Whether reports of an earlier run are in the folder.
    fn stand(&self) -> bool {
        self.folder.as_deref().is_some_and(Report::is_in)
    }

    /// Marks the reports in the folder as those of a run that has not ended.
    fn begin(&mut self) -> Result<(), Failure> {
        let Some(folder) = self.folder.as_ref().filter(|_| !self.begun) else { return Ok(()) };
        Report::begin(folder, self.junit, reproduce()).map_err(|error| Failure::unwritable(&error))?;
        self.begun = true;
        Ok(())
    }

    /// Writes the reports of a run and says where the page is; whether they are written, if there are to be any.
    fn publish(&self, report: &Report, terminal: &mut Terminal<Stdout>) -> bool {
        if self.proves && std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
            report.annotations().iter().for_each(|line| terminal.note(line));
        }
        // where the scenario was refused and nobody has asked for reports, there are none
        let Some(folder) = self.folder.as_ref().filter(|_| self.begun) else { return true };
        match report.write(folder, self.junit) {
            Ok(()) if report.run.is_empty() => true,
            Ok(()) => {
                terminal.note(&format!("report: {}", folder.join("report.html").display()));
                true
            }
            Err(error) => {
                advice::tell(&Failure::unwritable(&error));
                false
            }
        }
    }
}

/// The command line as it was written, so that it can be written again.
pub(super) fn reproduce() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program =
        Path::new(&program).file_name().map_or_else(|| program.clone(), |name| name.to_string_lossy().into_owned());
    let quoted = words.map(|word| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
        if !word.is_empty() && word.bytes().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    std::iter::once(program).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Where a scenario runs by default: on a throwaway cluster where there is an engine, whether it answers or not, and always in CI; on the
/// embedded mesh elsewhere.
const fn default_cluster(in_ci: bool, engine: bool) -> ClusterKind {
    if in_ci || engine { ClusterKind::K3s } else { ClusterKind::Embedded }
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

fn options(
    args: &RunArgs,
    cluster: ClusterKind,
    scenario: &Scenario,
    purpose: Purpose,
    cache: PathBuf,
) -> Result<Options, Failure> {
    let venue: Arc<dyn Venue> = match cluster {
        ClusterKind::K3s => Arc::new(Throwaway {
            binary: own_binary()?,
            node: args.walk.node_image.as_deref().map(node_image).transpose()?,
            istio: istio(&args.walk),
            snapshotter: args.walk.snapshotter.clone(),
        }),
        ClusterKind::Embedded => Arc::new(Embedded),
        ClusterKind::Kubeconfig => Arc::new(Existing {
            kubeconfig: args.walk.kubeconfig.clone(),
            context: args.walk.context.clone(),
            namespace: args.walk.namespace.clone(),
            allow_reach: args.walk.allow_reach,
        }),
    };
    let state = Reports::new(args, purpose).folder.map(|folder| folder.join("state"));
    Ok(Options {
        purpose,
        venue,
        keep: if args.pause.is_some() { Keep::Always } else { args.walk.keep },
        cache,
        driver: driver(&args.walk.traffic, scenario),
        state,
    })
}

/// Which Istio is asked for.
fn istio(args: &WalkArgs) -> IstioChoice {
    IstioChoice {
        version: args.istio.clone(),
        profile: args.istio_profile.clone(),
        set: args.istio_set.clone(),
        istioctl: args.istioctl.clone(),
    }
}

/// The part of a scenario that is asked for.
fn part_of(scenario: Scenario, args: &RunArgs, cluster: ClusterKind) -> Result<Scenario, Failure> {
    if args.pause.is_some() && cluster == ClusterKind::Embedded {
        let message = "--pause needs a cluster: the embedded mesh ends with this process";
        return Err(Failure::bad_input(message.to_owned()));
    }
    let number = |stage: &String| scenario.stage(stage).map_err(|error| Failure::of(&WalkError::from(error)));
    match (&args.only, args.until.as_ref().or(args.pause.as_ref())) {
        (Some(stage), _) => number(stage).map(|number| scenario.only(number)),
        (None, Some(stage)) => number(stage).map(|number| scenario.until(number)),
        (None, None) => Ok(scenario),
    }
}

/// The command line's word counts before the scenario's.
pub(super) fn driver(args: &TrafficArgs, scenario: &Scenario) -> DriverOptions {
    let written = scenario.traffic;
    let usual = DriverOptions::default();
    DriverOptions {
        connections: args.connections.or(written.connections).map_or(usual.connections, usize::from),
        qps: args.qps.or(written.qps),
        keep_alive: !args.no_keep_alive && written.keep_alive.unwrap_or(usual.keep_alive),
        ..usual
    }
}

pub(super) fn node_image(text: &str) -> Result<NodeImage, Failure> {
    match text.rsplit_once(':') {
        Some((image, tag)) if !image.is_empty() && !tag.is_empty() && !tag.contains('/') => {
            Ok(NodeImage { image: image.to_owned(), tag: tag.to_owned() })
        }
        _ => Err(Failure::bad_input(format!("`{text}` is not an image with a tag, such as rancher/k3s:v1.34.4-k3s1"))),
    }
}

/// Exit code 1 says that something got worse.
fn compare_reports(before: &Path, after: &Path) -> Result<ExitCode, Failure> {
    let read = |path: &Path| Report::read(path).map_err(|error| Failure::bad_input(error.to_string()));
    let differences = compare(&read(before)?, &read(after)?);
    // a closed pipe is no failure
    let _ = compared(&mut stdout(), &differences);
    let worse = differences.iter().any(|difference| difference.worse);
    Ok(if worse { ExitCode::Fail } else { ExitCode::Pass })
}

/// Pulls a version of Istio into the cache, unless it is there.
async fn pull(version: &str, hub: &str, cache: &ImageCache) -> Result<(), Failure> {
    let failed = |error: ClusterError| Failure::of(&error.into());
    // a closed pipe is no failure
    if cache.istio(version).is_ok() {
        let _ = writeln!(stdout(), "istio-{version} is in the cache already");
        return Ok(());
    }
    let docker = Docker::connect().await.map_err(failed)?;
    let folder = docker
        .pull_istio(cache, version, hub, |state| {
            let _ = writeln!(stdout(), "{state}");
        })
        .await
        .map_err(failed)?;
    let _ = writeln!(stdout(), "istio-{version} is in the cache: {}", folder.display());
    Ok(())
}

async fn sweep_all(args: SweepArgs, cache: &Path) -> Result<(), Failure> {
    let failed = |error: ClusterError| Failure::of(&error.into());
    // an engine that hangs is an error: what is left there would not be seen
    let docker = if Docker::is_configured() { Some(Docker::connect().await.map_err(failed)?) } else { None };
    let wanted = Wanted { kept: args.kept, only: args.run.as_ref() };
    let swept = sweep(docker.as_ref(), &RunRecords::new(cache), wanted).await.map_err(failed)?;
    crate::report::swept(&mut stdout(), &swept, docker.is_some());
    match swept.failures.first() {
        None => Ok(()),
        Some(_) => Err(Failure::environment(swept.failures.join("\n"))),
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
            workload::drive_all(driver_commands(), JsonLines::new(stdout())).await.map_err(|error| failed(&error))
        }
        Workload::Files => print_files(stdout()).map_err(|error| failed(&error)),
    }
}

/// The commands for the driver on stdin, one JSON line each.
fn driver_commands() -> mpsc::Receiver<DriverCommand> {
    let (sender, receiver) = mpsc::channel(16);
    // a thread, because a read of stdin cannot be cancelled
    std::thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(command) => {
                    if sender.blocking_send(command).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    advice::tell(&Failure::bad_input(format!("`{line}` is not a command for the driver: {error}")));
                    return;
                }
            }
        }
    });
    receiver
}

pub(super) fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::environment(format!("cannot find the own binary: {error}")))
}

/// Whether a stream gets colours: a terminal, unless `NO_COLOR` is set.
pub(super) fn coloured(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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

    #[rstest]
    #[case::an_engine(false, true, ClusterKind::K3s)]
    #[case::an_engine_in_ci(true, true, ClusterKind::K3s)]
    #[case::no_engine(false, false, ClusterKind::Embedded)]
    #[case::no_engine_in_ci(true, false, ClusterKind::K3s)]
    fn the_embedded_mesh_is_the_default_only_where_there_is_no_engine(
        #[case] in_ci: bool,
        #[case] engine: bool,
        #[case] expected: ClusterKind,
    ) {
        assert_eq!(default_cluster(in_ci, engine), expected);
    }
}

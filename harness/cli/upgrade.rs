use std::io::{Stdout, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::advice::{self, Failure, images_hint};
use super::args::UpgradeArgs;
use super::discovery;
use super::exit::ExitCode;
use super::live::LivePage;
use super::nodes;
use super::options::{driver, istio, throwaway};
use super::process::{interrupt, output, reproduce};
use crate::cluster::{ClusterError, ImageCache, Keep};
use crate::events::{Event, Timed};
use crate::mesh::{IstioChoice, MeshError};
use crate::report::{Granularity, Live, Outcome, Recorder, Report, ReportError, Terminal, UpgradeReport, matrix};
use crate::scenario::{Component, ControlPlane, ControllerKind, Install, IstioVersion, Scenario};
use crate::session::{Interrupt, Options, Pause, SessionError};
use crate::upgrade::{PathRecord, Upgrade, UpgradeObserver, UpgradeRun, UpgradeSpec};

/// Runs a scenario on two versions of Istio and during the upgrade from one to the other, and compares the runs, with a live page if one is
/// requested.
pub(super) async fn run(args: &UpgradeArgs) -> Result<ExitCode, Failure> {
    if args.pause.is_some() && args.page.live.is_none() {
        let message = "--pause needs --live here, since the clusters of an upgrade are not kept";
        return Err(Failure::bad_input(message.to_owned()));
    }
    let interrupt = interrupt();
    let page = LivePage::start(&args.page, args.pause.is_some()).await?;
    let done = Box::pin(upgrade(args, page.as_ref().map(|page| &page.live), &interrupt)).await;
    let Some(page) = page else { return done };
    // before somebody closes the page
    let code = done.unwrap_or_else(|failure| {
        advice::print(&failure);
        failure.code
    });
    page.close(&interrupt).await;
    Ok(code)
}

async fn upgrade(args: &UpgradeArgs, live: Option<&Live>, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    let folder = args.report.clone().unwrap_or_else(|| PathBuf::from("shiftcheck-upgrade"));
    let folder = (!args.no_report).then_some(folder);
    if let Some(folder) = &folder {
        UpgradeReport::begin(folder, &reproduce()).map_err(|error| Failure::unwritable(&error))?;
    }
    let pause = live.map_or_else(Pause::default, |live| live.pause().clone());
    let (spec, upgrade) = prepare(args, folder.clone(), pause).await?;
    let (out, marks) = output();
    let mut output = Output {
        spec,
        terminal: Terminal::new(out, marks).brief(),
        folder,
        live: live.cloned(),
        recorder: None,
        last: None,
        repeats: false,
        unwritable: None,
    };
    let signal = interrupt.clone();
    let cancelled = async {
        signal.signalled().await;
    };
    let record = Box::pin(upgrade.run(&mut output, cancelled)).await;
    output.terminal.abandon();
    let record = record.map_err(|error| Failure::of(&error))?;
    if let Some(error) = &output.unwritable {
        return Err(Failure::unwritable(error));
    }
    let report = UpgradeReport::of(&record, reproduce());
    let published = output.publish(&report);
    output.show_result(&report);
    match (record.failure, report.result) {
        (_, _) if record.interrupted => {}
        (Some(error), _) => return Err(Failure::of(&error)),
        (None, Outcome::Passed) => return published.map(|()| ExitCode::Pass),
        (None, _) => {}
    }
    if let Err(failure) = published {
        advice::print(&failure);
    }
    Ok(if record.interrupted { interrupt.clone().signalled().await.into() } else { ExitCode::Fail })
}

/// Checks everything that can be checked before a cluster starts.
async fn prepare(args: &UpgradeArgs, folder: Option<PathBuf>, pause: Pause) -> Result<(UpgradeSpec, Upgrade), Failure> {
    let scenario = discovery::read(args.scenario.as_deref())?;
    nodes::enough(args.throwaway.nodes, &scenario)?;
    let (spec, istio) = match args.controller {
        Some(kind) => of_controller(args, kind, &scenario).await?,
        None => (
            of_istio(args, &scenario)?,
            [(&args.from, &args.from_istioctl), (&args.to, &args.to_istioctl)]
                .map(|(version, istioctl)| istio(&args.throwaway, Some(version.clone()), istioctl.clone())),
        ),
    };
    if let Some(stage) = &args.pause {
        pause.set_in_each(pause_of(stage, &spec, &scenario)?);
    }
    let options = Options {
        venue: Arc::new(throwaway(&args.throwaway)?),
        keep: Keep::Never,
        cache: args.cache.folder.clone(),
        driver: driver(&args.traffic, &scenario),
        state: folder.map(|folder| folder.join("state")),
        pause,
    };
    let upgrade =
        Upgrade::prepare(spec.clone(), scenario, istio, options).await.map_err(|error| not_cached(&error.into()))?;
    Ok((spec, upgrade))
}

/// The name of the stage after which runs wait, which one of them has.
fn pause_of(stage: &str, spec: &UpgradeSpec, scenario: &Scenario) -> Result<String, Failure> {
    let number = scenario.stage(stage).map_err(|error| Failure::of(&SessionError::from(error)))?;
    let name = &scenario.stages[number - 1].name;
    let runs = spec.plan(scenario).into_iter().flatten().map(|(_, run)| run);
    if runs.flat_map(|run| run.scenario.stages).any(|own| own.name == *name) {
        return Ok(name.clone());
    }
    let first = &scenario.stages[spec.at - 1].name;
    let message = format!("no run waits after stage `{name}`: all of these runs begin at stage `{first}`");
    let hint = Some("pause after that stage or a later one, or add --mode fresh, which runs all stages".to_owned());
    Err(Failure { hint, ..Failure::bad_input(message) })
}

fn of_istio(args: &UpgradeArgs, scenario: &Scenario) -> Result<UpgradeSpec, Failure> {
    let stage = |stage: &String| scenario.stage(stage).map_err(|error| Failure::of(&SessionError::from(error)));
    let at = args.at.as_ref().map(stage).transpose()?;
    let plane = |version: &IstioVersion, set: &[String]| ControlPlane {
        set: set.to_vec(),
        ..ControlPlane::of(version.clone())
    };
    let (from, to) = (plane(&args.from, &args.from_set), plane(&args.to, &args.to_set));
    let spec = if args.allow_same && from == to {
        UpgradeSpec::against_itself(scenario, from, at)
    } else {
        UpgradeSpec::new(scenario, from, to, at, &args.mode, args.allow_skew)
    };
    Ok(UpgradeSpec { errors: args.errors, ..spec.map_err(|error| Failure::unsupported(&error))? })
}

async fn of_controller(
    args: &UpgradeArgs,
    kind: ControllerKind,
    scenario: &Scenario,
) -> Result<(UpgradeSpec, [IstioChoice; 2]), Failure> {
    let cache = ImageCache::new(&args.cache.folder);
    let istio = istio(&args.throwaway, args.istio.clone(), None);
    let plane = |version: IstioVersion| {
        let versions = (args.from.clone(), args.to.clone());
        let spec = UpgradeSpec::of_controller(scenario, kind, versions, ControlPlane::of(version), args.allow_same);
        spec.map_err(|error| Failure::unsupported(&error))
    };
    // arguments come before images
    plane(IstioVersion::new(0, 0))?;
    for version in [&args.from, &args.to] {
        let component = Component::Controller(kind);
        let install = Install { component, version: version.to_string(), origin: scenario.version_origin.clone() };
        cache.controller(&install).map_err(|error| {
            let hint = if let ClusterError::NoSet { set, known, .. } = &error {
                let longer = format!("{set}0");
                Some(if known.contains(&longer) {
                    format!("did you mean {version}0? YAML reads {version}0 without quotes as {version}")
                } else {
                    images_hint("choose a version that the cache has", Some(set))
                })
            } else {
                None
            };
            let failure = not_cached(&error.into());
            Failure { hint: hint.or(failure.hint), ..failure }
        })?;
    }
    let set = istio.find(&cache).await.map_err(|error| not_cached(&error.into()))?;
    Ok((plane(set.version)?, [istio.clone(), istio]))
}

/// The failure of a look at the cache. A version that it does not have is an error of the arguments.
fn not_cached(error: &SessionError) -> Failure {
    let unknown = matches!(
        error,
        SessionError::Cluster(ClusterError::NoSet { .. })
            | SessionError::Mesh(MeshError::Cluster(ClusterError::NoSet { .. }))
    );
    let failure = Failure::of(error);
    if unknown { Failure { code: ExitCode::BadInput, ..failure } } else { failure }
}

/// The terminal and the reports.
struct Output {
    spec: UpgradeSpec,
    terminal: Terminal<Stdout>,
    /// The folder of the reports; none without reports.
    folder: Option<PathBuf>,
    live: Option<Live>,
    /// The recorder of the current run.
    recorder: Option<Recorder>,
    /// The report of the last run.
    last: Option<Report>,
    /// Whether a run was repeated.
    repeats: bool,
    /// The first error in writing the report of a run.
    unwritable: Option<ReportError>,
}

impl Output {
    /// Shows the result of all runs on the live page.
    fn show_result(&mut self, report: &UpgradeReport) {
        if let (Some(live), Some(mut last)) = (&self.live, self.last.take()) {
            (last.result, last.note) = (report.result, report.sentence.clone());
            live.end(&last);
        }
    }

    fn publish(&self, report: &UpgradeReport) -> Result<(), Failure> {
        let (mut out, marks) = output();
        // a closed pipe is not an error
        let _ = matrix(&mut out, report, marks);
        let _ = writeln!(out, "\n{} ({:.0} s)", report.sentence, report.took);
        let Some(folder) = &self.folder else { return Ok(()) };
        report.write(folder).map_err(|error| Failure::unwritable(&error))?;
        let _ = writeln!(out, "report: {}", folder.join("upgrade.html").display());
        Ok(())
    }
}

impl UpgradeObserver for Output {
    fn event(&mut self, run: UpgradeRun, timed: &Timed) {
        if matches!(timed.event, Event::Started { .. }) {
            self.recorder = Some(Recorder::new(reproduce()));
            if matches!(run, UpgradeRun::Repetition(_)) && !self.repeats {
                self.repeats = true;
                self.terminal.note("\nrepeating runs: differences without a known change must show twice");
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.record(timed);
            if let Some(live) = &self.live {
                live.show(timed, recorder);
            }
        }
        self.terminal.show(timed.clone());
    }

    fn finished(&mut self, run: UpgradeRun, record: &PathRecord) {
        let Some(recorder) = self.recorder.take() else { return };
        let (result, note) = match (&record.broke, record.holds()) {
            (Some(_), _) => (Outcome::EnvironmentFailed, "ended early"),
            (None, true) => (Outcome::Passed, "all stages passed"),
            (None, false) => (Outcome::Failed, "a claim failed"),
        };
        let report = recorder.close(result, note, None);
        if let Some(live) = &self.live {
            live.end(&report);
        }
        let name = match run {
            UpgradeRun::First(path) => Some(path.folder(self.spec.versions())),
            UpgradeRun::Repetition(path) => Some(format!("{}-repeated", path.folder(self.spec.versions()))),
            UpgradeRun::CauseSearch => None,
        };
        if let (Some(name), Some(folder)) = (name, &self.folder) {
            let folder = folder.join(name);
            // a report that cannot be removed is overwritten
            let _ = Report::forget(&folder);
            if let Err(error) = report.write(&folder, Granularity::default()) {
                self.unwritable.get_or_insert(error);
            }
        }
        self.last = Some(report);
    }
}

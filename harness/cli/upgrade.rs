use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::advice::{self, Failure};
use super::args::UpgradeArgs;
use super::main::{ExitCode, coloured, driver, node_image, own_binary, reproduce};
use super::signals::Calls;
use crate::cluster::{ClusterError, ImageCache, IstioSet, Keep};
use crate::events::{Event, Events, Timed};
use crate::mesh::{IstioChoice, MeshError, Planes, newer};
use crate::report::{Granularity, Marks, Outcome, Recorder, Report, Terminal, UpgradeRecorder, UpgradeReport, matrix};
use crate::scenario::{ControlPlane, Scenario};
use crate::upgrade::{
    Across, Cause, Course, Phase, Probe, Row, Walked, differences, probe, single_flags, suspects, without_each,
};
use crate::venue::Throwaway;
use crate::walk::{Ending, Leg, Legs, Options, Purpose, WalkError, walk_legs};

/// Settings that make the client's sidecar count what it sends to services, and that give sidecars the larger part of the machine while a
/// control plane starts beside them.
const SETTINGS: [&str; 4] = [
    "values.pilot.resources.requests.cpu=50m",
    "values.global.proxy.resources.requests.cpu=100m",
    "meshConfig.defaultConfig.proxyStatsMatcher.inclusionPrefixes[0]=cluster.outbound",
    "meshConfig.defaultConfig.proxyStatsMatcher.inclusionPrefixes[1]=http.outbound",
];

/// Walks a scenario on two versions of Istio and across the change from one to the other.
pub(super) async fn run(args: UpgradeArgs, cache: PathBuf) -> ExitCode {
    let calls = Calls::listen();
    if let Some(folder) = folder_of(&args)
        && let Err(error) = UpgradeReport::begin(&folder, &reproduce())
    {
        let failure = Failure::unwritable(&error);
        advice::tell(&failure);
        return failure.code;
    }
    let prepared = Upgrade::prepare(args, cache).await;
    let upgrade = match prepared {
        Ok(upgrade) => upgrade,
        Err(failure) => {
            advice::tell(&failure);
            return failure.code;
        }
    };
    match upgrade.walk(&calls).await {
        Ok(code) => code,
        Err(failure) => {
            advice::tell(&failure);
            failure.code
        }
    }
}

/// An upgrade that is ready to be walked.
struct Upgrade {
    args: UpgradeArgs,
    cache: PathBuf,
    scenario: Scenario,
    across: Across,
    sets: Vec<IstioSet>,
    folder: Option<PathBuf>,
}

impl Upgrade {
    /// Checks everything that can be checked before anything starts.
    async fn prepare(args: UpgradeArgs, cache: PathBuf) -> Result<Self, Failure> {
        let scenario = Scenario::read(&args.scenario).map_err(|error| Failure::of(&error.into()))?;
        let stage = |stage: &String| scenario.stage(stage).map_err(|error| Failure::of(&WalkError::from(error)));
        let at = args.at.as_ref().map(stage).transpose()?;
        let plane = |version: &str, set: &[String]| ControlPlane { set: set.to_vec(), ..ControlPlane::of(version) };
        let (from, to) = (plane(&args.from, &args.from_set), plane(&args.to, &args.to_set));
        let across = if args.allow_same && from == to {
            Across::against_itself(&scenario, from, at)
        } else {
            Across::new(&scenario, from, to, at, &args.mode, args.allow_skew)
        };
        let across = across.map_err(|error| Failure::unsupported(&error))?;
        let across = Across { errors: args.errors, ..across };
        let images = ImageCache::new(&cache);
        let mut sets = Vec::new();
        for (version, istioctl) in [(&args.from, &args.from_istioctl), (&args.to, &args.to_istioctl)] {
            let choice = IstioChoice {
                version: Some(version.clone()),
                profile: args.istio_profile.clone(),
                set: SETTINGS.map(str::to_owned).into_iter().chain(args.istio_set.iter().cloned()).collect(),
                istioctl: istioctl.clone(),
            };
            sets.push(choice.find(&images).await.map_err(|error| {
                // a version that is not there is a slip of whoever asked for it
                let known = matches!(error, MeshError::Cluster(ClusterError::NoSet { .. }));
                let failure = Failure::of(&error.into());
                if known { Failure { code: ExitCode::BadInput, ..failure } } else { failure }
            })?);
        }
        let folder = folder_of(&args);
        Ok(Self { args, cache, scenario, across, sets, folder })
    }

    async fn walk(self, calls: &Calls) -> Result<ExitCode, Failure> {
        let mut recorder = UpgradeRecorder::new(self.across.clone(), self.scenario.clone(), reproduce());
        let (mut off, mut broke) = (None, None);
        for cluster in self.across.plan(&self.scenario).clusters {
            let courses: Vec<Course> = cluster.iter().map(|(course, _)| *course).collect();
            let legs: Vec<Leg> = cluster.into_iter().map(|(_, leg)| leg).collect();
            let sets = self.sets_of(&courses);
            let (walks, outcome) = self.on_a_cluster(legs, sets, &courses, "", calls).await?;
            // nothing that can be compared came of it
            let came_to_nothing = walks.iter().all(|walked| walked.stages.is_empty());
            for walked in walks {
                recorder.walked(walked);
            }
            match outcome {
                Ok(None) => {}
                Ok(Some(code)) => {
                    off = Some(code);
                    break;
                }
                Err(failure) if came_to_nothing => return Err(failure),
                Err(failure) => broke = broke.or(Some(failure)),
            }
        }
        if off.is_none() && broke.is_none() {
            off = self.again(&mut recorder, calls).await?;
        }
        if off.is_none()
            && let Some((stage, claims)) = recorder.broken_claims()
        {
            let cause = self.cause(stage, &recorder, calls).await?;
            let [from, to] = [&self.sets[0].tag, &self.sets[1].tag];
            recorder.cleared(stage, claims, &cause, suspects(&self.scenario, stage, from, to));
        }
        let report = recorder.close(off.is_some());
        let written = self.publish(&report);
        let code = match (off, broke, report.result) {
            (Some(code), ..) => code,
            (None, Some(failure), _) => return Err(failure),
            (None, None, Outcome::Passed) => return written.map(|()| ExitCode::Pass),
            (None, None, _) => ExitCode::Fail,
        };
        if let Err(failure) = written {
            advice::tell(&failure);
        }
        Ok(code)
    }

    /// Repeats the runs whose differences have to show twice before they are reported as new. Returns the exit code if a signal interrupts.
    async fn again(&self, recorder: &mut UpgradeRecorder, calls: &Calls) -> Result<Option<ExitCode>, Failure> {
        let wanted = recorder.to_repeat();
        if wanted.is_empty() {
            return Ok(None);
        }
        let text = "\nwalking again: differences that no known change explains have to repeat\n";
        let _ = std::io::Write::write_all(&mut stdout(), text.as_bytes());
        for cluster in self.across.plan(&self.scenario).clusters {
            let cluster: Vec<(Course, Leg)> =
                cluster.into_iter().filter(|(course, _)| wanted.contains(course)).collect();
            if cluster.is_empty() {
                continue;
            }
            let (courses, legs): (Vec<Course>, Vec<Leg>) = cluster.into_iter().unzip();
            let sets = self.sets_of(&courses);
            let (walks, outcome) = self.on_a_cluster(legs, sets, &courses, "-repeated", calls).await?;
            for walked in walks {
                recorder.walked_again(walked);
            }
            if let Some(code) = outcome? {
                return Ok(Some(code));
            }
        }
        Ok(None)
    }

    /// The versions that walks need: a cluster imports no more than that.
    fn sets_of(&self, courses: &[Course]) -> Vec<IstioSet> {
        let [old, new] = [&self.sets[0], &self.sets[1]];
        match courses {
            [Course::FreshOnOld] => vec![old.clone()],
            [Course::FreshOnNew] => vec![new.clone()],
            _ => vec![old.clone(), new.clone()],
        }
    }

    /// Runs these legs on one cluster and writes their reports to folders whose names end with `suffix`. Returns the exit code if a signal
    /// interrupts.
    async fn on_a_cluster(
        &self,
        legs: Vec<Leg>,
        sets: Vec<IstioSet>,
        courses: &[Course],
        suffix: &str,
        calls: &Calls,
    ) -> Result<(Vec<Walked>, Result<Option<ExitCode>, Failure>), Failure> {
        let rows: Vec<(Course, Vec<Row>)> =
            courses.iter().map(|course| (*course, self.across.rows(&self.scenario, *course))).collect();
        let readers = Readers::new(rows);
        let (outcome, readers) = self.legs(legs, sets, readers, calls).await;
        let (from, to) = (&self.across.from.version, &self.across.to.version);
        for (course, report) in &readers.reports {
            if let Some(folder) = &self.folder {
                let folder = folder.join(format!("{}{suffix}", course.folder(from, to)));
                let _ = Report::forget(&folder);
                report.write(&folder, Granularity::default()).map_err(|error| Failure::unwritable(&error))?;
            }
        }
        Ok((readers.walks, outcome))
    }

    async fn legs(
        &self,
        legs: Vec<Leg>,
        sets: Vec<IstioSet>,
        readers: Readers,
        calls: &Calls,
    ) -> (Result<Option<ExitCode>, Failure>, Readers) {
        let options = match self.options() {
            Ok(options) => options,
            Err(failure) => return (Err(failure), readers),
        };
        let (events, mut stream) = Events::channel();
        let mut terminal = Terminal::new(stdout(), coloured(stdout().is_terminal())).brief();
        let shown = tokio::spawn(async move {
            let mut readers = readers;
            while let Some(event) = stream.recv().await {
                readers.take(&event);
                terminal.show(event);
            }
            terminal.abandon();
            readers.finish();
            readers
        });
        let code = Arc::new(Mutex::new(None));
        let called = Arc::clone(&code);
        let off = calls.clone();
        let called_off = async move {
            let code = off.off().await;
            *called.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
        };
        let outcome = Box::pin(walk_legs(Legs { sets, legs }, options, events, called_off)).await;
        let readers = match shown.await {
            Ok(readers) => readers,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let outcome = match outcome {
            Ok(outcome) if outcome.ending == Ending::Cancelled => {
                Ok(*code.lock().unwrap_or_else(PoisonError::into_inner))
            }
            // what failed is in the walks
            Ok(_) => Ok(None),
            Err(error) => Err(Failure::of(&error)),
        };
        (outcome, readers)
    }

    /// Looks for what makes claims fail on the new version: first among the settings that it alone was given, then by its own means of
    /// behaving as an older one, then by what its sidecar is told.
    async fn cause(&self, stage: usize, recorder: &UpgradeRecorder, calls: &Calls) -> Result<Cause, Failure> {
        let (Some(old), Some(new)) = (recorder.walk(Course::FreshOnOld), recorder.walk(Course::FreshOnNew)) else {
            return Ok(Cause::Unknown);
        };
        let (from, to) = (&self.across.from, &self.across.to);
        let settings = without_each(to);
        if let Some(index) = self.healing(stage, &settings, calls).await? {
            return Ok(Cause::Setting(to.set[index].clone()));
        }
        if let Some((compatible_with, now, then)) = self.compatible().await {
            let all = Probe::with(to, format!("compatibilityVersion={compatible_with}"));
            if self.healing(stage, &[all], calls).await?.is_some() {
                let (probes, flags): (Vec<Probe>, Vec<_>) =
                    single_flags(to, &now, &then).into_iter().map(|(probe, name, old)| (probe, (name, old))).unzip();
                return Ok(match self.healing(stage, &probes, calls).await? {
                    Some(index) => {
                        let (name, old) = flags[index].clone();
                        Cause::Flag { name, old, compatible_with }
                    }
                    None => Cause::Flags { names: flags.into_iter().map(|(name, _)| name).collect(), compatible_with },
                });
            }
        }
        let (from, to) = (&from.version, &to.version);
        let failed = new.stage(Row { stage, phase: Phase::Itself });
        Ok(failed.map_or(Cause::Unknown, |failed| Cause::of_configuration(failed, &differences(old, new, from, to))))
    }

    /// The oldest version, not older than the old one, whose behaviour the new one can be asked for; with its flags then and now.
    async fn compatible(&self) -> Option<(String, BTreeMap<String, String>, BTreeMap<String, String>)> {
        let planes = Planes::new(vec![self.sets[1].clone()], &self.cache);
        let now = planes.manifests(&self.across.to).await.ok()?.flags();
        let (major, first) = split(&self.across.from.version)?;
        let (_, last) = split(&self.across.to.version)?;
        for minor in first..last {
            let version = format!("{major}.{minor}");
            let mut plane = self.across.to.clone();
            plane.set.push(format!("compatibilityVersion={version}"));
            // it refuses versions that are too old for it
            if let Ok(manifests) = planes.manifests(&plane).await {
                let then = manifests.flags();
                if then != now && newer(&version, &self.across.to.version).is_lt() {
                    return Some((version, now, then));
                }
            }
        }
        None
    }

    /// The first of these settings under which the claims of a stage hold.
    async fn healing(&self, stage: usize, probes: &[Probe], calls: &Calls) -> Result<Option<usize>, Failure> {
        if probes.is_empty() {
            return Ok(None);
        }
        let leg = probe(&self.scenario, stage, &self.across.to, probes);
        let rows = (0..probes.len()).map(|stage| Row { stage, phase: Phase::Itself }).collect();
        let readers = Readers::new(vec![(Course::FreshOnNew, rows)]);
        let (outcome, readers) = self.legs(vec![leg], vec![self.sets[1].clone()], readers, calls).await;
        outcome?;
        let stages = readers.walks.first().map(|walked| walked.stages.as_slice()).unwrap_or_default();
        Ok(stages.iter().position(|stage| stage.held().all()))
    }

    fn options(&self) -> Result<Options, Failure> {
        let node = self.args.node_image.as_deref().map(node_image).transpose()?;
        Ok(Options {
            purpose: Purpose::Prove,
            venue: Arc::new(Throwaway {
                node,
                snapshotter: self.args.snapshotter.clone(),
                ..Throwaway::new(own_binary()?)
            }),
            keep: Keep::Never,
            cache: self.cache.clone(),
            driver: driver(&self.args.traffic, &self.scenario),
            state: self.folder.as_ref().map(|folder| folder.join("state")),
        })
    }

    fn publish(&self, report: &UpgradeReport) -> Result<(), Failure> {
        let marks = Marks { colour: coloured(stdout().is_terminal()) };
        let mut out = stdout();
        // a closed pipe is no failure
        let _ = matrix(&mut out, report, marks);
        let mut told = format!("\n{} ({:.0} s)\n", report.sentence, report.took);
        let mut written = Ok(());
        if let Some(folder) = &self.folder {
            match report.write(folder) {
                Ok(()) => told = format!("{told}report: {}\n", page_of(folder).display()),
                Err(error) => written = Err(Failure::unwritable(&error)),
            }
        }
        let _ = std::io::Write::write_all(&mut out, told.as_bytes());
        written
    }
}

/// The folder of the reports; none where none are wanted.
fn folder_of(args: &UpgradeArgs) -> Option<PathBuf> {
    let folder = args.report.clone().unwrap_or_else(|| PathBuf::from("shiftcheck-upgrade"));
    (!args.no_report).then_some(folder)
}

fn page_of(folder: &Path) -> PathBuf {
    folder.join("upgrade.html")
}

/// Major and minor version.
fn split(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What reads the events of several walks on one cluster, one after the other.
struct Readers {
    to_come: std::vec::IntoIter<(Course, Vec<Row>)>,
    walks: Vec<Walked>,
    reports: Vec<(Course, Report)>,
    recorder: Option<Recorder>,
}

impl Readers {
    fn new(rows: Vec<(Course, Vec<Row>)>) -> Self {
        Self { to_come: rows.into_iter(), walks: Vec::new(), reports: Vec::new(), recorder: None }
    }

    fn take(&mut self, timed: &Timed) {
        if matches!(timed.event, Event::Started { .. }) {
            self.finish();
            if let Some((course, rows)) = self.to_come.next() {
                self.walks.push(Walked::new(course, rows));
                self.recorder = Some(Recorder::new(reproduce()));
            }
        }
        if let Some(walked) = self.walks.last_mut() {
            walked.take(&timed.event);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.record(timed);
        }
    }

    /// Closes the report of the walk that is under way.
    fn finish(&mut self) {
        if let (Some(recorder), Some(walked)) = (self.recorder.take(), self.walks.last()) {
            let (result, note) = match (&walked.broke, walked.holds()) {
                (Some(_), _) => (Outcome::EnvironmentFailed, "broke off"),
                (None, true) => (Outcome::Passed, "all stages passed"),
                (None, false) => (Outcome::Failed, "a claim failed"),
            };
            self.reports.push((walked.course, recorder.close(result, note, None)));
        }
    }
}

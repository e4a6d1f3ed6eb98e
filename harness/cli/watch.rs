use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify_debouncer_mini::notify::{Error, RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{Debouncer, new_debouncer};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::advice::{self, Failure};
use super::args::{ClusterKind, RunArgs};
use super::discovery;
use super::exit::ExitCode;
use super::live::LivePage;
use super::process::interrupt;
use super::run::scenarios;
use crate::scenario::Scenario;

/// The time in which several events count as one save: editors write a new file and rename it.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Runs a scenario on the embedded mesh again whenever a file is saved, until a signal.
pub(super) async fn watch(args: &RunArgs) -> ExitCode {
    watched(args).await.unwrap_or_else(|failure| {
        advice::print(&failure);
        failure.code
    })
}

async fn watched(args: &RunArgs) -> Result<ExitCode, Failure> {
    if args.walk.cluster != Some(ClusterKind::Embedded) {
        let message = "--watch needs --cluster embedded, since it runs the scenario at every save";
        return Err(Failure::bad_input(message.to_owned()));
    }
    if args.several.scenarios.len() > 1 {
        return Err(Failure::bad_input("--watch runs one scenario, not several".to_owned()));
    }
    let scenario = discovery::scenario(args.several.scenarios.first().map(PathBuf::as_path))?;
    let (interrupt, page) = (interrupt(), LivePage::start(&args.page, args.pause.is_some()).await?);
    let live = page.as_ref().map(|page| &page.live);
    loop {
        let before = files(&scenario);
        let unwatched = |error| Failure::environment(format!("cannot watch {}: {error}", scenario.display()));
        let (_watcher, mut events) = events(before.keys()).map_err(unwatched)?;
        let code = Box::pin(scenarios(args, live, &interrupt)).await;
        if matches!(code, ExitCode::Interrupted | ExitCode::Terminated) {
            return Ok(code);
        }
        let _ = writeln!(stdout(), "\nwaiting for a change\n");
        // reading a file is an event too
        while files(&scenario) == before {
            tokio::select! {
                _ = events.recv() => {}
                signal = interrupt.clone().signalled() => return Ok(signal.into()),
            }
        }
    }
}

/// Events in the folders of these files.
fn events<'a>(
    files: impl Iterator<Item = &'a PathBuf>,
) -> Result<(Debouncer<RecommendedWatcher>, UnboundedReceiver<()>), Error> {
    let (sender, receiver) = unbounded_channel();
    let mut debouncer = new_debouncer(DEBOUNCE, move |_| {
        // nobody listens when the program ends
        let _ = sender.send(());
    })?;
    let folders: BTreeSet<&Path> = files.filter_map(|file| file.parent()).collect();
    for folder in folders {
        debouncer.watcher().watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok((debouncer, receiver))
}

/// The modification times and sizes of a scenario's files; if it cannot be read, of all YAML files in its folder except
/// reports.
fn files(scenario: &Path) -> BTreeMap<PathBuf, Option<(SystemTime, u64)>> {
    let full = scenario.canonicalize().or_else(|_| std::path::absolute(scenario)).unwrap_or_default();
    let file = if full.is_dir() { full.join("scenario.yaml") } else { full };
    let beside = file.parent().unwrap_or(Path::new("/"));
    let mut paths = BTreeSet::from([file.clone()]);
    if let Ok(scenario) = Scenario::read(&file) {
        paths.extend(scenario.files().map(Path::to_owned));
    } else {
        let entries = std::fs::read_dir(beside).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_yaml = |path: &PathBuf| path.extension().is_some_and(|name| name == "yaml" || name == "yml");
        paths.extend(entries.filter(|path| is_yaml(path) && !path.ends_with("conformance.yaml")));
    }
    let fingerprint = |path: &PathBuf| {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    paths.into_iter().map(|path| (path.clone(), fingerprint(&path))).collect()
}

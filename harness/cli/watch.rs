use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::advice::{self, Failure};
use super::args::{ClusterKind, RunArgs};
use super::exit::ExitCode;
use super::process::interrupt;
use super::run::run;
use crate::scenario::Scenario;

/// The interval between checks for changed files.
const INTERVAL: Duration = Duration::from_millis(200);

/// Runs a scenario on the embedded mesh again whenever a file changes, until a signal.
pub(super) async fn watch(args: &RunArgs) -> ExitCode {
    if args.walk.cluster != Some(ClusterKind::Embedded) {
        let message = "--watch needs --cluster embedded, since it runs the scenario at every save".to_owned();
        advice::print(&Failure::bad_input(message));
        return ExitCode::BadInput;
    }
    let interrupt = interrupt();
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        let before = files(&args.walk.scenario);
        let code = Box::pin(run(args, interrupt.clone())).await;
        if matches!(code, ExitCode::Interrupted | ExitCode::Terminated) {
            return code;
        }
        let _ = writeln!(stdout(), "\nwaiting for a change\n");
        let changed = async {
            while files(&args.walk.scenario) == before {
                interval.tick().await;
            }
        };
        tokio::select! {
            () = changed => {}
            signal = interrupt.clone().signalled() => return signal.into(),
        }
    }
}

/// The modification times and sizes of all files in the folders of a scenario and its manifests.
fn files(scenario: &Path) -> BTreeMap<PathBuf, (Option<SystemTime>, u64)> {
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

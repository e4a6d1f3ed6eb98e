//! Which scenarios a command means.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::advice::{self, Failure};
use super::exit::ExitCode;
use super::nearest::nearest;
use super::several::{SeveralArgs, Shard};
use crate::scenario::Scenario;
use crate::session::SessionError;

const FILE: &str = "scenario.yaml";

/// Runs a command for each named scenario, in order, and stops at the first that does not pass. Without a name, the command gets the nearest
/// scenario. With a summary, the results of several scenarios are printed at the end.
pub(super) async fn each(
    args: &SeveralArgs,
    summary: bool,
    mut one: impl AsyncFnMut(Option<&Path>) -> ExitCode,
) -> ExitCode {
    let scenarios = match selected(args) {
        Ok(scenarios) if scenarios.is_empty() => return one(None).await,
        Ok(scenarios) => scenarios,
        Err(failure) => {
            advice::print(&failure);
            return failure.code;
        }
    };
    let mut codes = Vec::new();
    for scenario in &scenarios {
        let goes_on = continues(codes.iter().copied().flatten(), args.no_fail_fast);
        codes.push(if goes_on { Some(one(Some(scenario)).await) } else { None });
    }
    if scenarios.len() > 1 && summary {
        summarize(&scenarios, &codes);
    }
    codes.into_iter().flatten().fold(ExitCode::Pass, ExitCode::worst)
}

/// The named scenarios, those in named folders, and of these the requested ones; none if none is named.
pub(super) fn selected(args: &SeveralArgs) -> Result<Vec<PathBuf>, Failure> {
    let mut scenarios = Vec::new();
    for named in &args.scenarios {
        let below = if named.is_dir() && !named.join(FILE).exists() { below(named) } else { Vec::new() };
        // a folder without scenarios is told when its turn comes
        scenarios.extend(if below.is_empty() { vec![named.clone()] } else { below });
    }
    let all = scenarios.len();
    if let Some(filter) = &args.filter {
        scenarios.retain(|path| path.to_string_lossy().contains(filter.as_str()));
        if scenarios.is_empty() {
            return Err(Failure::bad_input(format!("none of {all} scenarios has `{filter}` in its path")));
        }
    }
    if let Some(Shard { number, count }) = args.shard {
        let all = scenarios.len();
        scenarios = scenarios.into_iter().skip(number - 1).step_by(count).collect();
        if scenarios.is_empty() {
            return Err(Failure::bad_input(format!("part {number}/{count} of {all} scenarios is empty")));
        }
    }
    Ok(scenarios)
}

/// The folders below a folder that have a scenario, in the order of their paths.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    // links are not followed: they may lead back
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for folder in folders.map(|entry| entry.path()) {
        if folder.join(FILE).is_file() {
            found.push(folder);
        } else {
            found.extend(below(&folder));
        }
    }
    found.sort();
    found
}

/// Whether another scenario is run after those with these exit codes.
pub(super) fn continues(codes: impl Iterator<Item = ExitCode>, no_fail_fast: bool) -> bool {
    match codes.fold(ExitCode::Pass, ExitCode::worst) {
        ExitCode::Pass => true,
        ExitCode::Interrupted | ExitCode::Terminated => false,
        _ => no_fail_fast,
    }
}

/// Prints the results of scenarios; none is a scenario that was not run.
pub(super) fn summarize(scenarios: &[PathBuf], codes: &[Option<ExitCode>]) {
    let passed = codes.iter().filter(|code| **code == Some(ExitCode::Pass)).count();
    let line = |(scenario, code): (&PathBuf, &Option<ExitCode>)| {
        format!("  {:<11}  {}", code.map_or("not run", ExitCode::word), scenario.display())
    };
    let lines: Vec<String> = scenarios.iter().zip(codes).map(line).collect();
    // a closed pipe is not an error
    let _ = writeln!(stdout(), "\n{passed} of {} scenarios passed\n{}", scenarios.len(), lines.join("\n"));
}

/// The name of each scenario, for a folder of its own: that of its folder, or of a file that is not `scenario.yaml`. No name occurs twice.
pub(super) fn names(scenarios: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for scenario in scenarios {
        let full = scenario.canonicalize().unwrap_or_else(|_| scenario.clone());
        let path = if full.ends_with(FILE) { full.parent().unwrap_or(&full) } else { &full };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut unique = name.clone();
        for number in 2.. {
            if !names.contains(&unique) {
                break;
            }
            unique = format!("{name}-{number}");
        }
        names.push(unique);
    }
    names
}

/// The named scenario, or else `scenario.yaml` in the current folder or the nearest parent folder.
pub(super) fn scenario(named: Option<&Path>) -> Result<PathBuf, Failure> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => nearest(FILE).ok_or_else(|| Failure {
            hint: Some(
                "`shiftcheck init` writes one from manifests, `shiftcheck init --example canary` a bundled one"
                    .to_owned(),
            ),
            ..Failure::bad_input(format!("no {FILE} here or above"))
        }),
    }
}

/// Reads the named scenario, or else the nearest one.
pub(super) fn read(named: Option<&Path>) -> Result<Scenario, Failure> {
    let path = scenario(named)?;
    Scenario::read(&path).map_err(|error| {
        let failure = Failure::of(&SessionError::from(error));
        let hint = path.is_dir() && !path.join(FILE).exists();
        let hint = hint.then(|| format!("`shiftcheck init {}` writes one from manifests", path.display()));
        Failure { hint: hint.or(failure.hint), ..failure }
    })
}

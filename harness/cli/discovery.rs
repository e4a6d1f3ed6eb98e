//! Which scenarios a command means.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::advice::Failure;
use super::args::SeveralArgs;
use super::exit::ExitCode;
use super::nearest::nearest;
use crate::scenario::Scenario;
use crate::session::SessionError;

const FILE: &str = "scenario.yaml";

/// Runs a command for each named scenario, in order, and stops at the first that does not pass. Without a name, the command gets the nearest
/// scenario. With a summary, the results of several scenarios are printed at the end.
pub(super) async fn each(
    SeveralArgs { scenarios, no_fail_fast, .. }: &SeveralArgs,
    summary: bool,
    mut one: impl AsyncFnMut(Option<&Path>) -> ExitCode,
) -> ExitCode {
    let mut worst = ExitCode::Pass;
    if scenarios.is_empty() {
        return one(None).await;
    }
    let mut lines = Vec::new();
    let mut passed = 0;
    for scenario in scenarios {
        let ended = matches!(worst, ExitCode::Interrupted | ExitCode::Terminated);
        let word = if ended || worst != ExitCode::Pass && !*no_fail_fast {
            "not run"
        } else {
            let code = one(Some(scenario)).await;
            worst = worst.worst(code);
            passed += usize::from(code == ExitCode::Pass);
            code.word()
        };
        lines.push(format!("  {word:<11}  {}", scenario.display()));
    }
    if let all @ 2.. = scenarios.len()
        && summary
    {
        // a closed pipe is not an error
        let _ = writeln!(stdout(), "\n{passed} of {all} scenarios passed\n{}", lines.join("\n"));
    }
    worst
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

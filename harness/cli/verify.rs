use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::advice::{self, Failure};
use super::args::VerifyArgs;
use super::main::{ExitCode, coloured};
use crate::report::{Marks, changed, mutated, verified};
use crate::routing::Severity;
use crate::scenario::Scenario;
use crate::verify::{Decided, Mutant, MutantStatus, changes, evaluate, mutants, problems, verify};
use crate::walk::WalkError;

/// Says what the manifests of a scenario give; how they differ from another version in what they do.
pub(super) fn run(args: &VerifyArgs) -> ExitCode {
    match told(args) {
        Ok(code) => code,
        Err(failure) => {
            advice::tell(&failure);
            failure.code
        }
    }
}

fn told(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let scenario = read(&args.scenario)?;
    let stages = verify(&scenario);
    let problems = problems(&scenario);
    let marks = Marks { colour: coloured(stdout().is_terminal()) };
    // a closed pipe is no failure of the manifests
    let _ = verified(&mut stdout(), marks, &scenario, &stages, &problems);
    if let Some(against) = &args.against {
        let other = Other::find(against, &args.scenario)?;
        let before =
            read(&other.scenario).map_err(|failure| Failure { message: other.shown(&failure.message), ..failure })?;
        let _ = changed(&mut stdout(), against, &changes(&before, &scenario));
    }
    let fails = stages.iter().flat_map(|stage| &stage.claims).any(|claim| matches!(claim.decided, Decided::Fails(_)));
    Ok(if problems.iter().any(|problem| problem.severity == Severity::Error) {
        ExitCode::BadInput
    } else if fails {
        ExitCode::Fail
    } else {
        ExitCode::Pass
    })
}

/// Evaluates the mutants of a scenario and prints the mutation report.
pub(super) fn mutate(path: &Path) -> ExitCode {
    let scenario = match read(path) {
        Ok(scenario) => scenario,
        Err(failure) => {
            advice::tell(&failure);
            return failure.code;
        }
    };
    let mutants = mutants(&scenario);
    let evaluated: Vec<(&Mutant, MutantStatus)> =
        mutants.iter().map(|mutant| (mutant, evaluate(&scenario, mutant))).collect();
    let marks = Marks { colour: coloured(stdout().is_terminal()) };
    let _ = mutated(&mut stdout(), marks, &scenario.name, &evaluated);
    let survived = evaluated.iter().any(|(_, status)| matches!(status, MutantStatus::Survived(_)));
    if survived { ExitCode::Fail } else { ExitCode::Pass }
}

fn read(path: &Path) -> Result<Scenario, Failure> {
    Scenario::read(path).map_err(|error| Failure::of(&WalkError::from(error)))
}

/// Whether two paths, of scenario files or their folders, are the same file.
fn same_file(left: &Path, right: &Path) -> bool {
    let file = |path: &Path| if path.is_dir() { path.join("scenario.yaml") } else { path.to_owned() };
    match (file(left).canonicalize(), file(right).canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

/// Another version of a scenario: in a folder, or of a revision, taken out of git for as long as it is looked at.
struct Other {
    scenario: PathBuf,
    revision: Option<(String, tempfile::TempDir)>,
}

impl Other {
    fn find(against: &str, scenario: &Path) -> Result<Self, Failure> {
        let folder = Path::new(against);
        if folder.exists() {
            // joined with an absolute path, a folder would become that path: the scenario itself
            let below = (!scenario.is_absolute()).then(|| folder.join(scenario));
            let own = [Some(folder.to_owned()), below.clone()].into_iter().flatten();
            let found = own.into_iter().find(|path| path.is_file() || path.join("scenario.yaml").is_file());
            let found = found.ok_or_else(|| {
                let nor = below.map(|below| format!(" nor {}", below.display())).unwrap_or_default();
                Failure::bad_input(format!("there is no {}{nor}", folder.join("scenario.yaml").display()))
            })?;
            if same_file(&found, scenario) {
                let message = format!("{against} is the scenario itself; name another folder or a revision of git");
                return Err(Failure::bad_input(message));
            }
            return Ok(Self { scenario: found, revision: None });
        }
        let full = scenario.canonicalize().map_err(|error| Failure::bad_input(error.to_string()))?;
        let beside = if full.is_dir() { full.as_path() } else { full.parent().unwrap_or(Path::new("/")) };
        let wrong = |said: &str| {
            let said = said.lines().next().unwrap_or_default();
            Failure::bad_input(format!("`{against}` is neither a folder nor a revision of git: {said}"))
        };
        let git = |folder: &Path, arguments: &[&str]| -> Result<Vec<u8>, Failure> {
            let output = Command::new("git").arg("-C").arg(folder).args(arguments).output();
            let output = output.map_err(|error| wrong(&error.to_string()))?;
            if output.status.success() {
                Ok(output.stdout)
            } else {
                Err(wrong(&String::from_utf8_lossy(&output.stderr)))
            }
        };
        let root = git(beside, &["rev-parse", "--show-toplevel"])?;
        let root = PathBuf::from(String::from_utf8_lossy(&root).trim_end());
        // with `--end-of-options` a revision is never taken for an option
        let commit = format!("{against}^{{commit}}");
        let commit = git(&root, &["rev-parse", "--verify", "--end-of-options", &commit])?;
        let archive = git(&root, &["archive", "--format=tar", String::from_utf8_lossy(&commit).trim_end()])?;
        let failed = |error: std::io::Error| Failure::environment(format!("cannot lay out {against}: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        tar::Archive::new(archive.as_slice()).unpack(folder.path()).map_err(failed)?;
        let scenario = folder.path().join(full.strip_prefix(&root).unwrap_or(&full));
        Ok(Self { scenario, revision: Some((against.to_owned(), folder)) })
    }

    /// A message with files as the revision has them, not where they lie for the moment.
    fn shown(&self, message: &str) -> String {
        match &self.revision {
            Some((revision, folder)) => {
                message.replace(&format!("{}/", folder.path().display()), &format!("{revision}:"))
            }
            None => message.to_owned(),
        }
    }
}

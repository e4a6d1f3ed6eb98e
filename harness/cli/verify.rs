use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::advice::{self, Failure};
use super::args::{Format, VerifyArgs};
use super::discovery;
use super::exit::ExitCode;
use super::process::{add_summary, in_github, output};
use crate::plan::Plan;
use crate::report::{Structured, Verification, changed, verified, verified_annotations, verified_summary};
use crate::routing::Severity;
use crate::verify::{Decided, GivenChange, changes, problems, verify};

/// Checks every claim of scenarios against the manifests, and compares the manifests with another version.
pub(super) async fn run(args: &VerifyArgs) -> ExitCode {
    discovery::each(&args.several, args.format == Format::Text, async |scenario| {
        one(args, scenario).unwrap_or_else(|failure| {
            advice::print(&failure);
            failure.code
        })
    })
    .await
}

fn one(args: &VerifyArgs, scenario: Option<&Path>) -> Result<ExitCode, Failure> {
    let path = discovery::scenario(scenario)?;
    let scenario = discovery::read(Some(&path))?;
    let plan = Plan::new(&scenario);
    let stages = verify(&plan);
    let problems = problems(&plan);
    let (mut out, marks) = output();
    // a closed pipe is not an error
    if args.format == Format::Text {
        let _ = verified(&mut out, marks, args.several.quiet, &scenario, &stages, &problems);
    }
    if in_github() {
        // annotations are commands to the runner, not data
        for line in verified_annotations(&stages, &problems).iter().filter(|_| args.format == Format::Text) {
            let _ = writeln!(out, "{line}");
        }
        add_summary(&verified_summary(&scenario.name, &stages, &problems));
    }
    let changes = args.against.as_deref().map(|against| compared(against, &path, &plan)).transpose()?;
    let structured = || Verification::new(&scenario, &stages, &problems, changes.as_deref());
    let _ = match (args.format, &args.against, &changes) {
        (Format::Text, Some(against), Some(changes)) => changed(&mut out, against, changes),
        (Format::Text, ..) => Ok(()),
        (Format::Json, ..) => structured().json(&mut stdout()),
        (Format::Markdown, ..) => structured().markdown(&mut stdout()),
    };
    let differs = changes.as_ref().is_some_and(|changes| !changes.is_empty());
    let any = |is: fn(&Decided) -> bool| stages.iter().flat_map(|stage| &stage.claims).any(|claim| is(&claim.decided));
    Ok(if problems.iter().any(|problem| problem.severity == Severity::Error) {
        ExitCode::BadInput
    } else if any(|decided| matches!(decided, Decided::Fails(_))) || (differs && args.fail_on_change) {
        ExitCode::Fail
    } else if any(|decided| matches!(decided, Decided::Undecided(_))) {
        ExitCode::Undecided
    } else {
        ExitCode::Pass
    })
}

/// The changes in behaviour since another version.
fn compared(against: &str, path: &Path, plan: &Plan<'_>) -> Result<Vec<GivenChange>, Failure> {
    let other = Other::find(against, path)?;
    let before = discovery::read(Some(&other.scenario))
        .map_err(|failure| Failure { message: other.shown(&failure.message), ..failure })?;
    Ok(changes(&Plan::new(&before), plan))
}

/// Whether two paths of scenario files or folders name the same file.
fn same_file(left: &Path, right: &Path) -> bool {
    let file = |path: &Path| if path.is_dir() { path.join("scenario.yaml") } else { path.to_owned() };
    match (file(left).canonicalize(), file(right).canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

const SHALLOW: &str = "this clone is shallow: fetch the history with `git fetch --unshallow`, or check out with `fetch-depth: 0` in GitHub \
                       Actions and `GIT_DEPTH: 0` in GitLab CI";

/// Another version of a scenario: in a folder, or in a git revision that is extracted to a temporary folder.
struct Other {
    scenario: PathBuf,
    revision: Option<(String, tempfile::TempDir)>,
}

impl Other {
    fn find(against: &str, scenario: &Path) -> Result<Self, Failure> {
        let folder = Path::new(against);
        if folder.exists() {
            // joining a folder with an absolute path would give that path
            let below = (!scenario.is_absolute()).then(|| folder.join(scenario));
            let candidates = [Some(folder.to_owned()), below.clone()].into_iter().flatten();
            let found = candidates.into_iter().find(|path| path.is_file() || path.join("scenario.yaml").is_file());
            let found = found.ok_or_else(|| {
                let nor = below.map(|below| format!(" or {}", below.display())).unwrap_or_default();
                Failure::bad_input(format!("{}{nor} does not exist", folder.join("scenario.yaml").display()))
            })?;
            if same_file(&found, scenario) {
                let message = format!("{against} is the scenario itself; pass another folder or a git revision");
                return Err(Failure::bad_input(message));
            }
            return Ok(Self { scenario: found, revision: None });
        }
        let full = scenario.canonicalize().map_err(|error| Failure::bad_input(error.to_string()))?;
        let beside = if full.is_dir() { full.as_path() } else { full.parent().unwrap_or(Path::new("/")) };
        let wrong = |said: &str| {
            let said = said.lines().next().unwrap_or_default();
            Failure::bad_input(format!("`{against}` is neither a folder nor a git revision: {said}"))
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
        // `--end-of-options` prevents that git reads a revision as an option
        let commit = format!("{against}^{{commit}}");
        let commit = git(&root, &["rev-parse", "--verify", "--end-of-options", &commit]).map_err(|failure| {
            let shallow =
                git(&root, &["rev-parse", "--is-shallow-repository"]).is_ok_and(|said| said.starts_with(b"true"));
            Failure { hint: shallow.then(|| SHALLOW.to_owned()), ..failure }
        })?;
        let archive = git(&root, &["archive", "--format=tar", String::from_utf8_lossy(&commit).trim_end()])?;
        let failed = |error: std::io::Error| Failure::environment(format!("cannot extract {against}: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        tar::Archive::new(archive.as_slice()).unpack(folder.path()).map_err(failed)?;
        let scenario = folder.path().join(full.strip_prefix(&root).unwrap_or(&full));
        Ok(Self { scenario, revision: Some((against.to_owned(), folder)) })
    }

    /// A message with paths as `REVISION:PATH` instead of paths in the temporary folder.
    fn shown(&self, message: &str) -> String {
        match &self.revision {
            Some((revision, folder)) => {
                message.replace(&format!("{}/", folder.path().display()), &format!("{revision}:"))
            }
            None => message.to_owned(),
        }
    }
}

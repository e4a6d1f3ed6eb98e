use std::path::{Path, PathBuf};

use super::advice::{self, Failure};
use super::args::{Format, VerifyArgs};
use super::discovery;
use super::exit::ExitCode;
use super::process::{add_summary, in_github, output, print_structured};
use super::revision::Revision;
use crate::plan::Plan;
use crate::report::{Verification, changed, verified, verified_annotations, verified_summary};
use crate::routing::Severity;
use crate::scenario::Sensitive;
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
    let plan = Plan::of(&scenario, &scenario.namespace, args.istio.as_ref());
    let stages = verify(&plan);
    let problems = problems(&plan);
    let (mut out, marks) = output();
    let hidden = Sensitive::of(&scenario);
    out.hide(hidden.clone());
    // a closed pipe is not an error
    if args.format == Format::Text {
        let _ = verified(&mut out, marks, args.several.quiet, &scenario, &stages, &problems);
    }
    if in_github() {
        // annotations are commands to the runner, not data
        for line in verified_annotations(&stages, &problems).iter().filter(|_| args.format == Format::Text) {
            let _ = out.annotation(line);
        }
        add_summary(&hidden.hidden_in(&verified_summary(&scenario.name, &stages, &problems)));
    }
    let changes = args.against.as_deref().map(|against| compared(against, &path, &plan)).transpose()?;
    let structured = || Verification::new(&scenario, &stages, &problems, changes.as_deref());
    let _ = match (args.format, &args.against, &changes) {
        (Format::Text, Some(against), Some(changes)) => changed(&mut out, against, changes),
        (Format::Text, ..) => Ok(()),
        (format, ..) => print_structured(&structured(), format, &hidden),
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
    Ok(changes(&Plan::of(&before, &before.namespace, plan.istio.as_ref()), plan))
}

/// Whether two paths of scenario files or folders name the same file.
fn same_file(left: &Path, right: &Path) -> bool {
    let file = |path: &Path| if path.is_dir() { path.join("scenario.yaml") } else { path.to_owned() };
    match (file(left).canonicalize(), file(right).canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

/// Another version of a scenario: in a folder, or in a git revision that is extracted to a temporary folder.
struct Other {
    scenario: PathBuf,
    revision: Option<Revision>,
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
        let revision = Revision::read(against, scenario)?;
        Ok(Self { scenario: revision.scenario.clone(), revision: Some(revision) })
    }

    /// A message with paths as `REVISION:PATH` instead of paths in the temporary folder.
    fn shown(&self, message: &str) -> String {
        self.revision.as_ref().map_or_else(|| message.to_owned(), |revision| revision.shown(message))
    }
}

//! What a check of a draft refuses.

use std::path::{Path, PathBuf};

use super::DraftError;
use super::sources::{ManifestFile, reason};
use crate::plan::{Designs, Plan};
use crate::routing::Severity;
use crate::scenario::{Origin, Scenario};
use crate::verify::{Decided, problems, verify};

/// What is refused first.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A manifest file.
    Manifest {
        /// The path, relative to the folder of the draft.
        path: PathBuf,
        message: String,
    },
    /// A line of the scenario, without indentation.
    Line { line: String, message: String },
}

/// Checks the files of a draft, the first of which is the scenario, in a temporary folder, as `verify` and `run` do before anything starts.
pub(super) fn refusal(files: &[(String, String)], manifests: &[ManifestFile]) -> Result<Option<Refusal>, DraftError> {
    let folder = tempfile::tempdir().map_err(DraftError::at("a temporary folder"))?;
    let own = files.iter().map(|(name, text)| (Path::new(name), text));
    for (name, text) in own.chain(manifests.iter().map(|file| (file.path.as_path(), &file.text))) {
        let path = folder.path().join(name);
        let parent = path.parent().unwrap_or(folder.path());
        std::fs::create_dir_all(parent).map_err(DraftError::at(parent))?;
        std::fs::write(&path, text).map_err(DraftError::at(&path))?;
    }
    let Some((origin, message)) = first_error(folder.path())? else { return Ok(None) };
    let path = origin.path.strip_prefix(folder.path()).unwrap_or(&origin.path).to_owned();
    let message = message.replace(&format!("{}/", folder.path().display()), "");
    let (scenario, text) = &files[0];
    if path != Path::new(scenario) {
        return Ok(Some(Refusal::Manifest { path, message: format!("line {}: {message}", origin.line) }));
    }
    let index = usize::try_from(origin.line).unwrap_or(1).saturating_sub(1);
    let line = text.lines().nth(index).unwrap_or_default().trim().to_owned();
    Ok(Some(Refusal::Line { line, message }))
}

/// The first error of a scenario, with its position.
fn first_error(folder: &Path) -> Result<Option<(Origin, String)>, DraftError> {
    let scenario = match Scenario::read(folder) {
        Ok(scenario) => scenario,
        Err(error) => match error.origin() {
            Some(origin) => return Ok(Some((origin.clone(), reason(&error)))),
            None => return Err(DraftError::Refused(error.to_string())),
        },
    };
    let plan = Plan::new(&scenario);
    if let Some(problem) = problems(&plan).into_iter().find(|problem| problem.severity == Severity::Error) {
        return Ok(Some((problem.origin, problem.message)));
    }
    if let Err(error) = Designs::new(&plan) {
        let place = error.place.clone();
        let message = error.to_string().replacen(&format!("{place}: "), "", 1);
        return Ok(Some((place, message)));
    }
    let stages = verify(&plan);
    let failed = stages.iter().flat_map(|stage| &stage.claims).find_map(|claim| match &claim.decided {
        Decided::Fails(mismatches) => Some((claim, mismatches)),
        Decided::Holds | Decided::Undecided(_) | Decided::Open(_) => None,
    });
    Ok(failed.map(|(claim, mismatches)| {
        let mismatches: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
        (claim.expectation.origin().clone(), mismatches.join("; "))
    }))
}

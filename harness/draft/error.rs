use std::path::PathBuf;

use thiserror::Error;

/// An error in drafting a scenario.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DraftError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The folder is a Helm chart, whose templates are not manifests.
    #[error("{} is a Helm chart, not a folder of manifests", .0.display())]
    Chart(PathBuf),
    /// The kustomization cannot be rendered.
    #[error("`{program} {}` failed: {message}", folder.display())]
    Kustomize {
        /// The program with its command.
        program: &'static str,
        /// The folder with the kustomization.
        folder: PathBuf,
        /// The first line of its error output.
        message: String,
    },
    /// There is no service to call.
    #[error("{from} has no Service with a port{}", listed(skipped))]
    NoService {
        /// The source of the manifests.
        from: String,
        /// What was skipped, in words.
        skipped: Vec<String>,
    },
    /// No scenario can be drafted that would be accepted.
    #[error("these manifests make no scenario that can be checked: {0}")]
    Refused(String),
    /// There is no bundled example of this name.
    #[error("there is no example `{0}`")]
    NoExample(String),
    /// A file already exists.
    #[error("{} already exists", .0.display())]
    Taken(PathBuf),
}

fn listed(notes: &[String]) -> String {
    notes.iter().fold(String::new(), |all, note| all + "\n  " + note)
}

impl DraftError {
    /// Wraps an error of the operating system with the file or folder.
    pub(super) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { path, source }
    }
}

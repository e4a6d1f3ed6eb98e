use std::path::{Path, PathBuf};

use thiserror::Error;

use super::excerpt::excerpt;
use super::origin::Origin;

/// An error in a scenario or its manifests. Every variant names the file.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
#[non_exhaustive]
pub enum ScenarioError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A file has an error: in the syntax, a key, or a value. The message ends with an excerpt of the file if there is one.
    #[error("{origin}: {message}")]
    Malformed { origin: Origin, message: String },
    /// The scenario has no such stage. `meant` is `; did you mean …?` if a name is similar, otherwise empty.
    #[error("{} has no stage `{name}`{meant}; its stages: {names}", path.display())]
    NoStage { path: PathBuf, name: String, meant: String, names: String },
}

impl ScenarioError {
    /// The position; none if it is not within a file.
    pub const fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Malformed { origin, .. } => Some(origin),
            Self::Unreadable { .. } | Self::NoStage { .. } => None,
        }
    }

    /// Adds an excerpt, if the position is in this file and the message has none yet.
    pub(super) fn with_excerpt(self, file: &Path, text: &str) -> Self {
        match self {
            Self::Malformed { origin, message } if origin.path == file && !message.contains('\n') => {
                let excerpt = excerpt(text, origin.line, origin.column, &message);
                let message = if excerpt.is_empty() { message } else { format!("{message}\n{excerpt}") };
                Self::Malformed { origin, message }
            }
            other => other,
        }
    }

    pub(super) fn at(path: &Path, location: serde_saphyr::Location, message: impl Into<String>) -> Self {
        Self::Malformed { origin: Origin::of(path, location), message: message.into() }
    }
}

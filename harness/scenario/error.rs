use std::path::{Path, PathBuf};

use thiserror::Error;

use super::excerpt::excerpt;

/// What can be wrong with a scenario or its manifests. Every variant says where.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not the YAML that is expected: syntax, an unknown key, a wrong type.
    #[error("{path}:{line}:{column}: {message}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong there, with an excerpt of the source where there is one.
        message: String,
    },
    /// A scenario has no such stage.
    #[error("{} has no stage `{name}`{meant}; its stages: {names}", path.display())]
    NoStage {
        /// The scenario file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// `; did you mean …`, where a name is close.
        meant: String,
        /// The stages, with their numbers.
        names: String,
    },
    /// A claim cannot be looked at.
    #[error("{place}: {message}")]
    Claimed {
        /// Where it is claimed.
        place: String,
        /// Why not.
        message: String,
    },
}

impl ScenarioError {
    /// The same with the lines around its place, where that is in this file and has none yet.
    pub(super) fn with_excerpt(self, file: &Path, text: &str) -> Self {
        match self {
            Self::Malformed { path, line, column, message } if path == file && !message.contains('\n') => {
                let excerpt = excerpt(text, line, column, &message);
                let message = if excerpt.is_empty() { message } else { format!("{message}\n{excerpt}") };
                Self::Malformed { path, line, column, message }
            }
            other => other,
        }
    }

    pub(super) fn at(path: impl Into<PathBuf>, location: serde_saphyr::Location, message: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), line: location.line(), column: location.column(), message: message.into() }
    }
}

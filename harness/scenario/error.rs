use std::path::PathBuf;

use thiserror::Error;

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
    pub(super) fn at(path: impl Into<PathBuf>, location: serde_saphyr::Location, message: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), line: location.line(), column: location.column(), message: message.into() }
    }
}

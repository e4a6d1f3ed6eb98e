use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Place;
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
    #[error("{place}: {message}")]
    Malformed {
        /// Where.
        place: Place,
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
}

impl ScenarioError {
    /// Where, in a file that could be read.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Malformed { place, .. } => Some(place),
            Self::Unreadable { .. } | Self::NoStage { .. } => None,
        }
    }

    /// The same with the lines around its place, where that is in this file and has none yet.
    pub(super) fn with_excerpt(self, file: &Path, text: &str) -> Self {
        match self {
            Self::Malformed { place, message } if place.path == file && !message.contains('\n') => {
                let excerpt = excerpt(text, place.line, place.column, &message);
                let message = if excerpt.is_empty() { message } else { format!("{message}\n{excerpt}") };
                Self::Malformed { place, message }
            }
            other => other,
        }
    }

    pub(super) fn at(path: &Path, location: serde_saphyr::Location, message: impl Into<String>) -> Self {
        Self::Malformed { place: Place::of(path, location), message: message.into() }
    }
}

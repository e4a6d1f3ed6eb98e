use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::scenario::Origin;

/// Why an image cannot be loaded.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what variants and fields mean")]
#[non_exhaustive]
pub enum LoadError {
    #[error("the Docker engine at {engine} has no image {image}")]
    NotInEngine { image: String, engine: String },
    #[error("cannot export {image} from the Docker engine: {reason}")]
    Export { image: String, reason: String },
    #[error("cannot load {}: {source}", path.display())]
    Archive { path: PathBuf, source: io::Error },
    /// An archive has no image that a manifest names.
    #[error("{} has {}, which no manifest names; the manifests name {named}", path.display(), if held.is_empty() { "no image with a name" } else { held })]
    NotNamed { path: PathBuf, held: String, named: String },
    /// The node would pull the loaded image.
    #[error("{origin}: the node pulls {image} whenever a container starts, although it is loaded: {policy}")]
    Pulled { origin: Origin, image: String, policy: &'static str },
}

impl LoadError {
    /// Whether the arguments or the manifests caused the error, and not the environment.
    pub(super) const fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Export { .. })
    }

    /// The place in a manifest that caused the error, if any.
    pub(super) const fn place(&self) -> Option<&Origin> {
        match self {
            Self::Pulled { origin, .. } => Some(origin),
            _ => None,
        }
    }
}

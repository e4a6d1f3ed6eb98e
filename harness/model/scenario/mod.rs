//! What a user writes: the scenario file and the manifests beside it.
//!
//! A scenario names a service, the populations that call it and the stages of its rollout. Every error that a file can
//! contain is reported with the file, the line and the column.

mod control_plane;
mod document;
mod error;
mod excerpt;
mod kinds;
mod manifest;
mod model;
mod place;
mod places;
mod rates;
mod raw;
mod read;
mod scalar;
mod shapes;
mod share;
mod suggest;
mod unstructured;

pub use control_plane::{ControlPlane, MeshStep};
pub use error::ScenarioError;
pub use kinds::{ApiKind, KindRef, ObjectId, Scope, UnresolvedKind};
pub use manifest::{Manifest, parse as parse_manifests, read as read_manifests};
pub use model::{
    Claim, Client, Count, DRIVER, During, Expectation, Population, Request, Scenario, Served, Service, Stage, Statuses,
    Step, Target, Traffic, VersionRule,
};
pub use place::{InvalidPlace, Place};
pub use rates::{Errors, Rate};
pub use share::{InvalidShare, Share};
pub(crate) use suggest::nearest;
pub use unstructured::{Metadata, Unstructured};

//! What a user writes: the scenario file and the manifests beside it.
//!
//! A scenario names a service, the populations that call it and the stages of its rollout. Every error that a file can
//! contain is reported with the file, the line and the column.

mod control_plane;
mod error;
mod excerpt;
mod file;
mod kinds;
mod manifest;
mod places;
mod rates;
mod share;

pub use control_plane::{ControlPlane, MeshStep};
pub use error::ScenarioError;
pub(crate) use file::nearest;
pub use file::{
    Claim, Client, Count, DRIVER, Expectation, Population, Request, Scenario, Served, Service, Stage, Statuses, Step,
    Target, Traffic, VersionRule,
};
pub use kinds::{ApiKind, KindRef, ObjectId, Scope, UnresolvedKind};
pub use manifest::{Manifest, Origin, parse as parse_manifests, read as read_manifests};
pub use rates::{Errors, Rate};
pub use share::{InvalidShare, Share};

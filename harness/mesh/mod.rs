//! Istio on a cluster: installing it, finding it, and reading what the client's sidecar is configured to do.

mod converge;
mod error;
mod install;
mod sidecar;

pub use converge::{Converged, Look, converge};
pub use error::MeshError;
pub use install::{Istio, Manifests};
pub use sidecar::{ADMIN_PORT, Sidecar, read_table};

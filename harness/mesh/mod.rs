//! Istio on a cluster: installing it, finding it, and reading what the client's sidecar is configured to do.

mod configuration;
mod converge;
mod counters;
mod error;
mod install;
mod planes;
mod sidecar;

pub use converge::{Converged, Look, MERGE_WINDOW, converge};
pub use error::{MeshError, Mismatch};
pub use install::{Istio, Manifests, Onto};
pub use planes::{IstioChoice, Planes, newer};
pub use sidecar::{ADMIN_PORT, Sidecar, read_table};

//! Istio on a cluster: installs it, finds it, and reads the configuration of the client's sidecar.

mod addons;
mod configuration;
mod converge;
mod counters;
mod envoy;
mod error;
mod ingress;
mod install;
mod istioctl;
mod manifests;
mod planes;
mod sidecar;
mod table;
mod upstream;

pub use addons::Addons;
pub use converge::{Converged, KUBE_PROXY, MERGE_WINDOW, Polling, ReadTable, TableReading, converge};
pub use envoy::ConfigDump;
pub use error::{EnvoyError, MeshError, Mismatch};
pub use ingress::Ingress;
pub use install::{Istio, Onto};
pub use manifests::Manifests;
pub use planes::{IstioChoice, Planes};
pub use sidecar::{ADMIN_PORT, Sidecar};
pub use table::{connections_to, read_gateway, read_listener, read_table, read_virtual_host};

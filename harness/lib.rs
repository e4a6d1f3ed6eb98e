//! Proves, on a real Istio mesh, that a traffic-shifting rollout does at every stage what its manifests promise.

pub mod cli;
pub mod cluster;
pub mod draft;
pub mod events;
pub mod mesh;
pub mod prove;
pub mod report;
pub mod traffic;
pub mod upgrade;
pub mod venue;
pub mod walk;

pub use shiftcheck_model::{demo, routing, scenario, verdict, verify};
pub use shiftcheck_workload as workload;

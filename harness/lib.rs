//! Proves, on a real Istio mesh, that a traffic-shifting rollout does at every stage what its manifests promise.

pub mod cli;
pub mod cluster;
pub mod mesh;
pub mod report;
pub mod routing;
pub mod scenario;
pub mod traffic;
pub mod verdict;
pub mod verify;
pub mod walk;
pub mod workload;

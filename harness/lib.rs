//! Proves, on a real Istio mesh, that a traffic-shifting rollout does at every stage what its manifests promise.

pub mod cluster;
pub mod scenario;
pub mod verdict;
pub mod workload;

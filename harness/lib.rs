//! End-to-end tests for Istio traffic-shifting rollouts.

pub mod cli;
pub mod cluster;
pub mod draft;
pub mod events;
pub mod mesh;
pub mod prove;
pub mod report;
pub mod session;
pub mod traffic;
pub mod upgrade;
pub mod venue;

pub use shiftcheck_model::{demo, plan, routing, scenario, verdict, verify};
pub use shiftcheck_workload as workload;

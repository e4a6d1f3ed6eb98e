//! End-to-end tests for Istio traffic-shifting rollouts.

//!
//! [`prove`] runs scenarios from tests. [`scenario`] reads them, [`verify`] checks them without a cluster, [`events`] says what happens in a run,
//! and [`report`] has the results. Hidden modules are for this repository's own tests; they can change in every version.

mod cli;
#[doc(hidden)]
pub mod cluster;
pub mod controller;
mod draft;
pub mod events;
#[doc(hidden)]
pub mod mesh;
pub mod prove;
pub mod report;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod traffic;
#[doc(hidden)]
pub mod upgrade;
pub mod venue;

#[doc(hidden)]
pub use cli::main;
pub use shiftcheck_model::{admission, demo, plan, routing, scenario, verdict, verify};
#[doc(hidden)]
pub use shiftcheck_workload as workload;

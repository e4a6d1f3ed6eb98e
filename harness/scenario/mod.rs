//! What a user writes: the scenario file and the manifests beside it.
//!
//! A scenario names a service, the populations that call it and the stages of its rollout. Every error that a file can
//! contain is reported with the file, the line and the column.

mod error;
mod file;
mod manifest;
mod share;

pub use error::ScenarioError;
pub use file::{
    Claim, Client, Expectation, Population, Request, Scenario, Served, Service, Stage, Step, Target, VersionRule,
};
pub use manifest::{Manifest, Origin, read as read_manifests};
pub use share::{InvalidShare, Share};

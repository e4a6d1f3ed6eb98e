//! Rollout controllers on a cluster: installs and finds them, reads and changes the state of the objects that they drive.

mod error;
mod install;
mod rollout;

pub use error::ControllerError;
pub use install::{Controllers, FoundController, find};
pub use rollout::{ChangeMark, ControlledObjects, ControllerStatus};

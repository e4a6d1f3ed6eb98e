//! Rollout controllers on a cluster: installs and finds them, reads and changes the state of the objects that they drive, and answers their
//! webhooks.

mod canary;
mod error;
mod gates;
mod install;
mod objects;
mod rollout;
mod status;
mod writes;

pub use error::ControllerError;
pub use gates::Gates;
pub use install::{Controllers, FoundController, find};
pub use objects::ControlledObjects;
pub use status::{ChangeMark, ControllerStatus};
pub use writes::ObservedWrite;

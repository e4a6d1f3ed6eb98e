//! Rollout controllers on a cluster, and metrics-server: installs and finds them. Of controllers, reads and changes the state of the objects that they drive, and answers their
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
pub use install::{Components, FoundComponent, find};
pub use objects::{ControlledObjects, Warning, last_warnings};
pub use status::{ChangeMark, ControllerStatus};
pub use writes::ObservedWrite;

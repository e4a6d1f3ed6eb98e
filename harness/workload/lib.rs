//! What `shiftcheck` runs in the cluster: the demo server, the traffic driver and its protocol.
//!
//! The `shiftcheck` binary contains both and is packed into an image of one layer, so that no image is pulled and both
//! ends speak the same version of the protocol. This package is optimised in every profile: a slow driver would be
//! measured as a slow mesh.

mod connection;
mod drive;
mod idle;
mod serve;

pub use drive::{
    DriveError, DrivePlan, Driving, Failure, FailureKind, Flow, Lines, Order, Outcome, Response, Tell, Told,
    VersionSource, drive_all,
};
pub use idle::{idle, terminated};
pub use serve::{DemoServer, ServeError, Serving, serve};

//! What runs in the cluster: the demo server and the traffic driver. They are this very binary, packed into an image of
//! one layer, so that nothing has to be fetched and both ends speak the same version.

mod connection;
mod drive;
mod idle;
mod image;
mod locate;
mod serve;

pub use drive::{
    DriveError, DrivePlan, Failure, FailureKind, Flow, Lines, Order, Outcome, Response, Tell, Told, VersionSource,
    drive, drive_all,
};
pub use idle::{idle, terminated};
pub use image::{ImageError, WORKLOAD_IMAGES, demo_faulty, demo_status, demo_versions, print_files, write_archive};
pub use locate::program;
pub use serve::{DemoServer, ServeError, serve};

//! Populations that call the service: one program started in the client pod sends a whole sample, all populations interleaved,
//! and tells one line a response in the order of sending.

mod sample;

pub use sample::{DRIVER, DriverOptions, Sample, TrafficError, sample};

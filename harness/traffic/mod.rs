//! Populations that call the service: one program in the client pod sends whole samples, all populations interleaved, and tells
//! one line a response in the order of sending.

mod sample;

pub use sample::{DRIVER, Driver, DriverOptions, Sample, TrafficError};

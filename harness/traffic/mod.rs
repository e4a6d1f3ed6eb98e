//! Populations that call the service: one program in the client pod sends whole samples, all populations in turns, and tells one
//! line a response in the order of sending; a flow that has been seen enough of is stopped.

mod sample;

pub use sample::{
    Answered, Driver, DriverOptions, DriverStart, MOST_IN_FLIGHT, Next, Sample, Tally, TrafficError, Wanted, Watch,
};

//! Traffic to the service under test. The driver runs in the client pod, in the other pods that send requests, and in a pod outside of the mesh for
//! requests through gateways. It sends the requests of all populations in turns and reports every
//! response; a flow is stopped as soon as its tests are decided.

mod decode;
mod driver;
mod error;
mod local;
mod merge;
mod options;
mod reflection;
mod sample;
mod together;

pub use decode::replay;
pub use driver::{Driver, SenderPod};
pub use error::{ProtocolError, TrafficError};
pub use merge::Merge;
pub use options::{DriverOptions, MAX_IN_FLIGHT, SampleFlow, WatchOptions};
pub use sample::{DriverStart, Next, ObservedResponse, Sample, Tally};

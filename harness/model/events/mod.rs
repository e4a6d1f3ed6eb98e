//! What happens in a run, as pure data. A run sends [`Event`]s, each with its time; the terminal and all reports are readers of that stream.

mod claim;
mod configuration;
mod counters;
mod event;
mod fingerprint;
mod layer;
mod mutant;
mod setup;
mod traffic;
mod transition;

pub use claim::{Calibration, Judged, Subject};
pub use configuration::{ConfigChange, Configuration};
pub use counters::Counters;
pub use event::{Event, STATE, Timed};
pub use fingerprint::{Fingerprint, Injection, PickOrder};
pub use layer::FailureLayer;
pub use mutant::TrialledMutant;
pub use setup::{AddonAccess, ClientConvergence, Environment, Reach, Routing, SourceFile, TrafficPath, Workload};
pub use traffic::{ClaimProgress, Latency, OptionalSeconds, Seconds, SecondsRange, Tallied};
pub use transition::{Bound, Failing, Gap, Moment, STEP, Shift, StepTimes, Transition, Write};

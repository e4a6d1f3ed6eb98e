//! The events of a run, and the stream from the run to its readers.

mod stream;

pub use shiftcheck_model::events::*;
pub use stream::Events;

//! A plan, run in a venue: each stage is applied, converges, is sampled and judged, and everything that happens is sent as an
//! [`Event`](crate::events::Event). Whatever a run creates is removed in every ending.

mod calibrate;
mod change;
mod compared;
mod controlled;
mod declared;
mod error;
mod inside;
mod interrupt;
mod judge;
mod mutants;
mod observe;
mod pause;
mod picks;
mod progress;
mod reached;
mod routed;
mod run;
mod sample;
mod senders;
mod stage;

pub use calibrate::{CalibrateOptions, calibrate};
pub use compared::{ComparedRun, ComparedRuns, run_compared};
pub use error::SessionError;
pub use inside::judge_reached;
pub use interrupt::{Interrupt, Signal};
pub use mutants::try_mutants;
pub use pause::Pause;
pub use run::{Ending, Options, Outcome, run};

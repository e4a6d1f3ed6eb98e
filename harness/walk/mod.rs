//! Stage by stage: apply, converge, sample, judge. Whatever happens is told as an [`Event`]; whatever is made is removed in
//! every ending.

mod calibrate;
mod designs;
mod during;
mod edit;
mod error;
mod fingerprint;
mod leg;
mod mutate;
mod run;
mod served;
mod stage;
mod transition;

pub use calibrate::CalibrateOptions;
pub(crate) use during::MOST_A_SECOND;
pub use during::Undecidable;
pub use error::WalkError;
pub use leg::{Leg, Legs, walk_legs};
pub use mutate::at_once;
pub use run::{Ending, Options, Outcome, Purpose, run};

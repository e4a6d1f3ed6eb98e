//! Stage by stage: apply, converge, sample, judge. Whatever happens is told as an [`Event`]; whatever is made is removed in
//! every ending.

mod calibrate;
mod designs;
mod during;
mod edit;
mod error;
mod event;
mod fingerprint;
mod ground;
mod leg;
mod mutate;
mod run;
mod served;
mod site;
mod stage;
mod state;
mod transition;

pub use calibrate::{CalibrateOptions, Calibration};
pub use during::{Bound, Undecidable};
pub use edit::Edit;
pub use error::WalkError;
pub use event::{Deployed, Environment, Event, Events, Judged, Link, Route, Routing, SourceFile, Subject, Tallied};
pub use fingerprint::{Fingerprint, Order};
pub use ground::{Ground, Setting};
pub use leg::{Leg, Legs, walk_legs};
pub use mutate::{Trialled, at_once};
pub use run::{Choice, Ending, Options, Outcome, Purpose, run};
pub use state::STATE;
pub use transition::{Gap, Moment, STEP, Shift, Transition};

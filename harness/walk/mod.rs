//! Stage by stage: apply, converge, sample, judge. Whatever happens is told as an [`Event`]; whatever is made is removed in
//! every ending.

mod calibrate;
mod designs;
mod edit;
mod error;
mod event;
mod fingerprint;
mod ground;
mod leg;
mod mutate;
mod run;
mod site;
mod stage;
mod state;
mod transition;

pub use calibrate::{CALIBRATION_ALARM, CalibrateOptions, Calibration};
pub use edit::Edit;
pub use error::WalkError;
pub use event::{Deployed, Environment, Event, Events, Judged, Link, Route, Routing, SourceFile, Subject, Tallied};
pub use fingerprint::{Fingerprint, Order};
pub use ground::{Ground, Setting};
pub use leg::{Leg, Legs, walk_legs};
pub use mutate::{Trialled, at_once};
pub use run::{Choice, Ending, Options, Outcome, Purpose, run};
pub use state::STATE;
pub use transition::{Moment, STEP, Shift, Transition};

//! What happened, for people and for programs: readers of the event stream.
//!
//! [`Terminal`] shows a run while it goes on; [`Recorder`] turns the same events into a [`Report`], which is written as JSON, YAML, `JUnit` XML,
//! HTML and in the form of Kiali's graphs.

mod annotations;
mod compare;
mod conformance;
mod files;
mod graph;
mod images;
mod junit;
mod model;
mod page;
mod place;
mod recorder;
mod terminal;
mod upgrade;
mod verified;

pub use compare::{Difference, compare, compared};
pub use files::ReportError;
pub use images::{checked_images, images};
pub use junit::Granularity;
pub use model::{
    Answers, Claim, Edit, Environment, Errors, Failure, GrossFault, Moment, Outcome, Path, Ready, Report, Routing,
    SCHEMA_VERSION, ScenarioFiles, Share, Shift, SourceFile, Stage, Tool, Totals, Traffic, Transition, Workload,
};
pub use recorder::Recorder;
pub use terminal::{Terminal, plural, swept};
pub use upgrade::{
    Cell, Change, Cleared, Known, LeftOut, RowName, UPGRADE_SCHEMA_VERSION, UpgradeDifference, UpgradeRecorder,
    UpgradeReport, Walk, matrix,
};
pub use verified::{Marks, changed, mutated, verified};

/// The share of lost requests for which reports say how often a right rollout is refused.
const LOSS: f64 = 1e-6;

//! Output for people and programs: the readers of the event stream.
//!
//! [`Terminal`] shows a run live. [`Recorder`] turns the same events into a [`Report`], which is written as JSON, YAML, `JUnit` XML, HTML and
//! Kiali graphs.

mod annotations;
mod compare;
mod conformance;
mod files;
mod graph;
mod images;
mod junit;
mod marks;
mod model;
mod page;
mod place;
mod recorder;
mod swept;
mod terminal;
mod upgrade;
mod verified;
mod words;

pub use compare::{Difference, compare, compared};
pub use files::ReportError;
pub use images::{checked_images, images};
pub use junit::Granularity;
pub use marks::Marks;
pub use model::{
    Answers, Claim, Edit, Environment, Errors, Failure, GrossFault, Moment, Outcome, Path, Ready, Report, Routing,
    SCHEMA_VERSION, ScenarioFiles, Share, Shift, SourceFile, Stage, Tool, Totals, Traffic, Transition, Workload,
};
pub use recorder::Recorder;
pub use swept::swept;
pub use terminal::Terminal;
pub use upgrade::{
    Cell, Change, Cleared, Known, LeftOut, RowName, UPGRADE_SCHEMA_VERSION, UpgradeDifference, UpgradeReport, Walk,
    matrix,
};
pub use verified::{changed, mutated, verified};
pub use words::plural;

/// The share of lost requests for which reports give the probability that a correct rollout fails.
const LOSS: f64 = 1e-6;

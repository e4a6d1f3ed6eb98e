//! Output for people and programs: the readers of the event stream.
//!
//! [`Terminal`] shows a run live. [`Recorder`] turns the same events into a [`Report`], which is written as JSON, YAML, `JUnit` XML, HTML and
//! Kiali graphs.

mod calibration;
mod compare;
mod conformance;
mod files;
mod github;
mod graph;
mod images;
mod junit;
mod live;
mod marks;
mod model;
mod page;
mod place;
mod recorder;
mod structured;
mod suite;
mod swept;
mod terminal;
mod told;
mod upgrade;
mod verified;
mod versions;
mod view;
mod words;
mod wrap;

pub use compare::{Difference, compare, compared};
pub use files::ReportError;
pub use github::{verified_annotations, verified_summary};
pub use images::{checked_images, images};
pub use junit::Granularity;
pub use live::Live;
pub use marks::Marks;
pub use model::{
    Answers, Claim, Edit, Errors, Failure, GrossFault, Outcome, Path, Ready, Report, SCHEMA_VERSION, ScenarioFiles,
    Share, Stage, Tool, Totals, Traffic,
};
pub use recorder::Recorder;
pub use structured::{Comparison, Mutation, Structured, Verification};
pub use swept::swept;
pub use terminal::Terminal;
pub use upgrade::{
    Cell, Change, Cleared, LeftOut, RowName, UPGRADE_SCHEMA_VERSION, UpgradeDifference, UpgradeReport, Walk, matrix,
};
pub use verified::{changed, mutated, verified};
pub use versions::{Compared, Quantile, Slower, VersionSeen};
pub use words::{note, plural};
pub use wrap::Wrapped;

/// The share of lost requests for which reports give the probability that a correct rollout fails.
const LOSS: f64 = 1e-6;

//! What an upgrade of Istio changes: one report for the pair of versions.

mod build;
mod model;
mod page;
mod shown;

pub use build::UpgradeRecorder;
pub use model::{
    Cell, Change, Cleared, Difference as UpgradeDifference, Known, LeftOut, RowName, UPGRADE_SCHEMA_VERSION,
    UpgradeReport, Walk,
};
pub use shown::matrix;

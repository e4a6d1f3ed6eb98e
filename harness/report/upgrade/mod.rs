//! The report of an upgrade test.

mod files;
mod model;
mod page;
mod render;
mod shown;

pub use model::{
    Cell, Change, Cleared, Difference as UpgradeDifference, LeftOut, RowName, UPGRADE_SCHEMA_VERSION, UpgradeReport,
    Walk,
};
pub use shown::matrix;

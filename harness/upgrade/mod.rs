//! Upgrade tests: run the same scenario on two versions of Istio and during the upgrade from one to the other, or on two versions of a rollout
//! controller, and compare the runs.
//!
//! An [`UpgradeSpec`] plans the runs, [`Upgrade`] executes them, and an [`UpgradeRecord`] has the results.
//! Each [`Difference`] between two runs is explained by a known change, or is new.

mod aspect;
mod cause;
mod difference;
mod known;
mod path;
mod path_record;
mod record;
mod run;
mod runner;
mod search;
mod spec;

pub use aspect::{Aspect, AspectChange};
pub use cause::{Cause, Regression, Suspect};
pub use difference::Difference;
pub use known::{KnownChange, known_changes};
pub use path::{Mode, Phase, Row, UpgradePath, Versions};
pub use path_record::{PathRecord, StageRecord};
pub use record::{Assessment, UpgradeRecord, UpgradeResult};
pub use run::Upgrade;
pub use runner::{UpgradeObserver, UpgradeRun};
pub use spec::{UpgradeError, UpgradeSpec, Upgraded};

//! What changes in behaviour between two versions of Istio: the same scenario walked on both, and across the change from one to the other.
//!
//! A [`Plan`] says which walks that takes, a [`Walked`] what came of one, and [`differences`] what two of them do not share: each
//! explained by a change of Istio that is known, or new.

mod cause;
mod course;
mod difference;
mod known;
mod plan;
mod walked;

pub use cause::{Cause, Probe, Suspect, probe, single_flags, suspects, without_each};
pub use course::{Course, Mode, Phase, Row};
pub use difference::{Aspect, Difference, differences, repeated};
pub use known::{Known, known_changes};
pub use plan::{Across, Plan, UpgradeError};
pub use walked::{Held, Walked, WalkedStage};

//! What the manifests give, without a cluster: every claim of every stage is decided by the model of [`routing`](crate::routing), exactly;
//! two versions of the manifests are compared in what they do; and wrong manifests are made, to see which of them the claims would catch.

mod changes;
mod given;
mod mutants;
mod stages;

pub use changes::{Change, changes};
pub use given::{Given, Seen};
pub use mutants::{Catch, Fate, Gap, Mutant, SLIPS, fate, mutants};
pub use stages::{Decided, Measure, Off, Stages, VerifiedClaim, VerifiedStage, decide, naming, problems, verify};

//! Checks without a cluster: decides every claim of every stage exactly, by the [`routing`](crate::routing) model; compares the behaviour
//! of two versions of the manifests; evaluates mutants of the manifests, to find faults that no claim detects.

mod changes;
mod mutants;
mod operators;
mod stages;

pub use changes::{GivenChange, changes};
pub use mutants::{Gap, Kill, Mutant, MutantStatus, evaluate, mutants};
pub use operators::MUTATION_OPERATORS;
pub use stages::{Decided, Measure, ShareMismatch, VerifiedClaim, VerifiedStage, decide, problems, verify};

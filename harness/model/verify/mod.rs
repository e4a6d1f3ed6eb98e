//! Checks without a cluster: decides every claim of every stage exactly, by the [`routing`](crate::routing) model; compares the behaviour
//! of two versions of the manifests; evaluates mutants of the manifests, to find faults that no claim detects.

mod changes;
mod decided;
mod mutants;
mod operators;
mod sessions;
mod stages;

pub use changes::{GivenChange, changes};
pub use decided::{Decided, Measure, ShareMismatch};
pub use mutants::{Gap, Kill, Mutant, MutantStatus, evaluate, mutants};
pub use operators::MUTATION_OPERATORS;
pub use sessions::{decide_sessions, why_sessions_move};
pub use stages::{VerifiedClaim, VerifiedStage, decide, problems, verify};

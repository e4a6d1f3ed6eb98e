//! A scenario, prepared once for everything that runs, checks or compares it: the objects before and after each stage and what they mean to
//! Istio, the changes, the sample designs, the answers to expect during each change.

mod at_once;
mod canary;
mod comparisons;
mod controlled;
mod cookies;
mod designs;
mod during;
mod edits;
mod follow;
mod given;
mod propagation;
mod rollout;
mod seen;
mod senders;
mod sessions;
mod stages;
mod succession;

pub use at_once::{at_once, in_turn};
pub use comparisons::NotComparable;
pub use designs::{Designs, PlanError, Refused, StageDesigns};
pub use during::{HIGHEST_RATE, Undecidable, during_claims, shown_time, slow_requests, watch_rate};
pub use edits::Edit;
pub use follow::ShortStep;
pub use given::{Given, requests};
pub use rollout::RouteWeights;
pub use seen::Seen;
pub use senders::Senders;
pub use sessions::{NeverKept, NoCookie, Sticky};
pub use stages::{ExpectedAnswers, Plan, PlannedStage, Snapshot};
pub use succession::{Move, Succession};

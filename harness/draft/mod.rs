//! Drafts a scenario from manifests. The draft claims what the routing model computes. Comments mark the decisions for the user.

mod client;
mod live;
mod scenario;

pub use live::export;
pub use scenario::{Draft, DraftError, draft};

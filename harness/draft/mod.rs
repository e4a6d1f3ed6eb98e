//! Drafts a scenario from manifests. The draft claims what the routing model computes. Comments mark the decisions for the user.

mod callers;
mod client;
mod error;
mod examples;
mod gateways;
mod live;
mod refusal;
mod scenario;
mod sources;
mod text;

pub use error::DraftError;
pub use examples::{examples, write_example};
pub use live::export;
pub use scenario::draft;

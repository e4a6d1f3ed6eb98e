//! A first scenario, drafted from manifests: what is there is claimed as the model gives it; what nobody can know from manifests is left open,
//! in comments.

mod client;
mod live;
mod scenario;

pub use live::export;
pub use scenario::{Draft, DraftError, draft};

//! Objects validated as the Kubernetes API validates them: kinds and versions, unknown fields at every depth, types, limits and rules of the
//! definitions, and names and labels. `ci/schemas` takes the definitions from the Go modules of Kubernetes, Istio and the Gateway API.
//!
//! Objects of groups without definitions are not examined, apart from their metadata. Istiod's own checks of its objects, which no definition
//! contains, are part of [`routing`](crate::routing).

mod defaults;
mod definition;
mod problem;
mod rule;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

pub use defaults::with_defaults;
pub use definition::Definitions;
pub use problem::{Problem, Severity};
pub(crate) use rule::nanoseconds;
pub use validate::validate;

use displaydoc::Display;

use crate::scenario::Origin;

/// An error or a suspicious setting in an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Display)]
#[displaydoc("{origin}: {message}")]
pub struct Problem {
    /// The position of the field.
    pub origin: Origin,
    /// The severity.
    pub severity: Severity,
    /// What is wrong, and how to fix it if that is known.
    pub message: String,
}

/// The severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The Kubernetes API rejects the object.
    Error,
    /// Istio accepts the object, but requests are probably not routed as intended.
    Warning,
}

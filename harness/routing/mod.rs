//! What Istio should do with the manifests: objects become a [`RouteTable`], the same type that the client sidecar's own
//! configuration is read into. Pure: it knows no cluster and does no I/O.

mod compile;
mod diagnosis;
mod table;

pub use compile::{Live, RoutingError, compile, replicas};
pub use diagnosis::{Finding, diagnose};
pub use table::{Cluster, Condition, Route, RouteTable, Subject, Test, Unit};

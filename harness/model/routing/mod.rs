//! A model of Istio's routing. Objects become a [`RouteTable`], the same type that a sidecar's configuration is read into; every request has
//! an exact [`Distribution`] of outcomes. Pure: no cluster, no I/O.
//!
//! ```
//! use shiftcheck_model::routing::{Live, Mesh, Naming, Request, client_of, pods_of};
//! use shiftcheck_model::scenario::Scenario;
//!
//! let scenario = Scenario::read("../../fixtures/canary")?;
//! let mut live = Live::new(&scenario.namespace, &scenario.namespace);
//! scenario.client.manifests.iter().for_each(|manifest| live.apply(manifest));
//! scenario.stages[..4].iter().for_each(|stage| live.step_through(stage));
//!
//! let mesh = Mesh::new(&live, pods_of(&live, &Naming { versions: scenario.versions(), ..Naming::default() }));
//! let outbound = mesh.outbound(client_of(&live, "httpbin").unwrap());
//! let testers = outbound.distribution(&Request::get("svc-hello", 8080, "/").with("end-user", "testers"));
//! assert_eq!(testers.chance(|outcome| outcome.version() == Some("v2")).to_string(), "50 %");
//! # Ok::<(), shiftcheck_model::scenario::ScenarioError>(())
//! ```

mod affinity;
mod balancing;
mod behind;
mod chain;
mod check;
mod client;
mod condition;
mod connection;
mod destination_rule;
mod destinations;
mod diagnosis;
mod difference;
mod distribution;
mod endpoints;
#[cfg(test)]
mod fixture;
mod gateway;
mod hash_key;
mod hosts;
mod http_route;
mod injection;
#[cfg(test)]
mod istiod_tests;
mod listener;
mod live;
mod locality;
mod mesh;
mod notes;
mod outbound;
mod pattern;
mod placement;
mod refusal;
mod response;
mod retries;
mod rule;
mod secret;
mod service;
mod table;
mod translate;
mod uncompared;
mod unmodelled;
mod upstream;
mod version;
mod virtual_service;

pub use crate::admission::{Definitions, Problem, Severity};
pub use affinity::Affinity;
pub use chain::{Propagation, SentOn};
pub use check::check;
pub use client::{Client, client_in, client_of};
pub use condition::{Condition, GatewayPods, Polarity, Request, Subject, Test, TlsHandshake};
pub use destinations::AtDestination;
pub use diagnosis::Finding;
pub use difference::RouteDiff;
pub use distribution::{Chance, Distribution, Outcome, Unconnected};
pub use hash_key::{HashKey, HashTable, KeyOf};
pub use hosts::addressed;
pub use live::{Kind, Live, Object};
pub use mesh::Mesh;
pub use notes::{NotModelled, Scope};
pub use outbound::{Decision, Outbound, Routes};
pub use pattern::Pattern;
pub use placement::{Locality, Placement};
pub use response::{HeaderChange, ResponseHeaders};
pub use retries::{Failure, Retries};
pub use rule::RuleRef;
pub use secret::{CertificateFault, CertificateId, SecretFault, ServerCertificate};
pub use service::{Naming, Pod, Protocol, pods_of};
pub use table::{
    Abort, Action, Cluster, Delay, Endpoints, Forward, Redirect, RedirectPath, Rewrite, Route, RouteTable, RoutingUnit,
};
pub use uncompared::Uncompared;
pub use upstream::{Tls, Upstream};

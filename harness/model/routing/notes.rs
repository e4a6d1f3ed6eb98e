//! Notes about what the model does not cover.

use std::collections::{BTreeMap, BTreeSet};

use crate::scenario::Origin;

/// A field or an object that the model does not cover.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotModelled {
    /// Its position in a file.
    pub origin: Origin,
    /// The field, such as `spec.http[0].headers.response`, or the object.
    pub field: String,
    /// The requests that it can affect.
    pub scope: Scope,
    /// Whether it can change the answers to requests alone, not the routes of a sidecar or their endpoints.
    pub only_answers: bool,
}

/// The requests that something unmodelled can affect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Scope {
    /// No request.
    Nothing,
    /// Requests to these hosts, or that a rule forwards to them. Full names or wildcards.
    Hosts(BTreeSet<String>),
    /// Requests that are forwarded to this subset of a host.
    Subset(String, String),
    /// Requests that are forwarded through this port of a host both to pods with these addresses, which respond late, and to others.
    Late(String, u16, BTreeSet<String>),
    /// Requests that are forwarded through this port of a host to pods that may not listen on this target port.
    Port(String, u16, u16),
    /// Requests to these hosts, or to this port of them alone, that are not routed as HTTP.
    Connections(BTreeSet<String>, Option<u16>),
    /// Requests to these hosts that a pod without a sidecar can receive whose image is not the demo's.
    WithoutSidecar(BTreeSet<String>),
    /// Requests to a host, or to this subset of it, that a pod can receive whose image is not the demo's.
    OwnServers(String, Option<String>),
    /// Requests to a host, or to this subset of it, where it is not told which of its pods are the nearest to the client.
    Localities {
        /// The host.
        host: String,
        /// The subset.
        subset: Option<String>,
        /// Whether pods whose manifests tell no locality are taken to be in one.
        is_assumed: bool,
    },
    /// Requests to a host, or to this subset of it, that a hash balances over pods of several versions.
    Hash(String, Option<String>),
    /// Requests from outside of the mesh to this port of a gateway, or to every port.
    Gateway(Option<u16>),
    /// Requests from outside of the mesh to these hosts, or that a rule forwards to them. Full names or wildcards.
    AtGateways(BTreeSet<String>),
    /// Requests that the rule at this position decides.
    Rule(Origin),
    /// Requests from or to the pods of a namespace that carry all of these labels; without a namespace, of every namespace.
    Pods(Option<String>, BTreeMap<String, String>),
    /// Requests to the pods of a namespace that carry all of these labels; without a namespace, of every namespace.
    Servers(Option<String>, BTreeMap<String, String>),
    /// Requests to Services of a namespace that select pods with these labels, because such pods may exist.
    MorePods(String, BTreeMap<String, String>),
    /// Requests that are balanced over pods of this workload of a namespace and of others, because the number of its pods changes.
    Replicas(String, String),
    /// Every request from or to a namespace; without one, every request.
    #[default]
    Everything,
    /// Every request from a namespace or to a Service or pod in it.
    Namespace(String),
}

/// Collects what is not modelled, while objects are read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The scope of what is added next.
    pub scope: Scope,
    /// Whether what is added next can change answers alone.
    pub only_answers: bool,
    found: BTreeSet<NotModelled>,
}

impl Notes {
    pub fn add(&mut self, origin: Origin, field: String) {
        self.found.insert(NotModelled { origin, field, scope: self.scope.clone(), only_answers: self.only_answers });
    }

    pub fn into_sorted(self) -> Vec<NotModelled> {
        self.found.into_iter().collect()
    }
}

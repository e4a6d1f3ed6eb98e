//! Chains of services: requests that servers send on to other services before they answer.

use std::collections::{BTreeMap, BTreeSet};

use super::client::Client;
use super::condition::Request;
use super::diagnosis::Finding;
use super::mesh::Mesh;
use super::notes::{Notes, Scope};
use super::outbound::{Decision, Outbound, Routes};
use super::retries::Failure;
use super::service::Pod;
use super::table::{Action, Route};
use crate::demo::{ARROW, NextHop, is_propagated};
use crate::scenario::Origin;

/// Whether servers that send requests on keep the headers of the requests that they get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// As their manifests say.
    #[default]
    Declared,
    /// All servers keep them.
    Kept,
    /// No server keeps them.
    Lost,
}

/// A request that a server sends on.
#[derive(Debug, Clone)]
pub struct SentOn<'m> {
    /// The server.
    pub pod: &'m Pod,
    /// The server as a client.
    pub client: Client,
    /// The request.
    pub request: Request,
}

impl SentOn<'_> {
    /// Where the manifest of the server says that headers are lost which the request had; none if it keeps them or had none.
    pub fn lost(&self, before: &Request) -> Option<&Origin> {
        let has_any = before.headers.keys().any(|name| is_propagated(name));
        self.pod.loses_headers.as_ref().filter(|_| has_any)
    }
}

impl Mesh {
    /// The request that the pods of a workload send on when they get a request for a path, by the namespace and name of the workload; none if
    /// they answer alone.
    pub fn sent_on(
        &self,
        workload: &str,
        before: &Request,
        path: &str,
        propagation: Propagation,
    ) -> Option<SentOn<'_>> {
        NextHop::of(path)?;
        sent_on(self.pods.of_workload(workload)?, before, path, propagation)
    }

    /// The number of combinations of pods on the way of a request for a path, by their versions along the way: the distribution if no rule
    /// applies.
    pub fn replicas_along(&self, host: &str, namespace: &str, path: &str) -> BTreeMap<String, u64> {
        let own = self.replicas(host, namespace);
        let Some(hop) = NextHop::of(path) else { return own };
        let behind = self.replicas_along(hop.host, namespace, &hop.path);
        let mut all = BTreeMap::new();
        for (version, count) in own {
            for (next, times) in &behind {
                *all.entry(format!("{version}{ARROW}{next}")).or_default() += count * times;
            }
        }
        all
    }

    /// Names what the model does not cover of requests that servers send on: changes of the headers of requests by rules, and of the header of
    /// responses with the versions.
    #[must_use]
    pub fn with_chains(mut self) -> Self {
        let mut notes = Notes::default();
        notes.only_answers = true;
        for rule in self.virtual_services.iter().flat_map(|service| &service.rules) {
            let of_destinations = rule.route.iter().map(|destination| &destination.headers);
            let all: Vec<_> = rule.headers.iter().chain(of_destinations).collect();
            notes.scope = Scope::Rule(rule.at.origin.clone());
            if all.iter().any(|changes| changes.others) {
                let field = "headers.request of this rule, which servers send on";
                notes.add(rule.at.origin.clone(), field.to_owned());
            }
            if let Some(name) = &self.version_header
                && all.iter().any(|changes| changes.response.change(name))
            {
                let field = format!("headers.response of this rule, which change `{name}` along the way");
                notes.add(rule.at.origin.clone(), field);
            }
        }
        self.not_modelled.extend(notes.into_sorted());
        self.not_modelled.sort();
        self
    }
}

impl<'m> Outbound<'m> {
    /// The requests that servers send on if they get a request, or a mirrored copy of it: one for each ready pod that may get it.
    pub fn sent_on(&self, request: &Request, propagation: Propagation) -> Vec<SentOn<'m>> {
        let Ok(routes) = self.routes(request) else { return Vec::new() };
        let decision = routes.decide(request);
        let route = decision.route.and_then(|index| routes.table.routes.get(index));
        let Some(Route { action: Action::Forward(forward), .. }) = route else { return Vec::new() };
        if request.is_grpc() || request.asks_for_websocket() || NextHop::of(&decision.path).is_none() {
            return Vec::new();
        }
        let client = self.client_of(request);
        let clusters = forward.clusters.iter().chain(&forward.mirrors).map(|(cluster, _)| cluster);
        let pods = clusters.filter_map(|cluster| Some(self.mesh.by_distance(cluster, &client)?.nearest)).flatten();
        pods.filter_map(|(pod, _)| sent_on(pod, request, &decision.path, propagation)).collect()
    }

    /// Why a request, or those that servers send on because of it, do not reach the destinations of the rules.
    pub fn diagnose_along(&self, request: &Request) -> Vec<Finding> {
        let (mut findings, mut workloads) = (self.diagnose(request), BTreeSet::new());
        for sent_on in self.sent_on(request, Propagation::Declared) {
            if workloads.insert(sent_on.pod.namespaced_workload()) {
                let behind = self.mesh.outbound(sent_on.client).diagnose_along(&sent_on.request);
                findings.extend(behind.into_iter().filter(|finding| !findings.contains(finding)).collect::<Vec<_>>());
            }
        }
        findings
    }

    /// The workloads that may receive a request, a request that a server sends on because of it, or mirrored copies of them.
    pub fn workloads_along(&self, request: &Request) -> BTreeSet<String> {
        let (mut workloads, mut senders) = (self.workloads(request), BTreeSet::new());
        for sent_on in self.sent_on(request, Propagation::Declared) {
            if senders.insert(sent_on.pod.namespaced_workload()) {
                workloads.extend(self.mesh.outbound(sent_on.client).workloads_along(&sent_on.request));
            }
        }
        workloads
    }

    /// The mesh.
    pub const fn mesh(&self) -> &'m Mesh {
        self.mesh
    }
}

impl Routes {
    /// Whether a request is sent again if the server answers 502, as servers do whose request was not answered.
    pub fn repeats_bad_gateways(&self, decision: &Decision<'_>) -> bool {
        let route = decision.route.and_then(|index| self.table.routes.get(index));
        route.is_some_and(|route| {
            let retries = route.retries();
            retries.attempts > 0 && retries.follow(Failure::BadGateway)
        })
    }
}

fn sent_on<'m>(pod: &'m Pod, before: &Request, path: &str, propagation: Propagation) -> Option<SentOn<'m>> {
    let hop = NextHop::of(path)?;
    let keeps = match propagation {
        Propagation::Declared => pod.loses_headers.is_none(),
        Propagation::Kept => true,
        Propagation::Lost => false,
    };
    let kept = before.headers.iter().filter(|(name, _)| keeps && is_propagated(name));
    let request = Request::get(hop.host, hop.port, &hop.path).by(&before.method);
    let request = kept.fold(request, |request, (name, value)| request.with(name, value));
    Some(SentOn { pod, client: Client::from(pod), request })
}

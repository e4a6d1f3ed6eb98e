//! Istio's `Gateway`s: which of their servers a request from outside of the mesh meets, and the routes behind them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::routing::client::Client;
use crate::routing::condition::Request;
use crate::routing::distribution::Unconnected;
use crate::routing::live::Object;
use crate::routing::notes::{Notes, Scope};
use crate::routing::outbound::{Outbound, Routes};
use crate::routing::rule::{Part, RuleRef};
use crate::routing::table::{Action, Redirect, Route, RoutingUnit};
use crate::routing::translate::{self, Listener, RuleRoute, catches_all};
use crate::routing::unmodelled::{ROOT, contains};
use crate::routing::virtual_service::VirtualService;

/// The labels of the ingress gateway that Istio's own manifests install in `istio-system`.
const INSTALLED: [(&str, &str); 2] = [("app", "istio-ingressgateway"), ("istio", "ingressgateway")];

/// A `Gateway`.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    /// `NAMESPACE/NAME`, by which rules refer to it.
    pub id: String,
    created: u64,
    /// No labels select all gateway pods.
    selector: BTreeMap<String, String>,
    servers: Vec<Server>,
}

/// A server of a `Gateway`.
#[derive(Debug, Clone)]
struct Server {
    port: u16,
    /// The hosts, each with the only namespace whose rules may name it.
    hosts: Vec<(Option<String>, String)>,
    /// Whether the server redirects all requests to HTTPS.
    redirects: bool,
    at: RuleRef,
}

impl Gateway {
    /// Reads an object. One whose pods are not those of the ingress gateway is not modelled.
    pub fn read(object: &Object, notes: &mut Notes) -> Self {
        let root = Part::root(&object.manifest);
        let (spec, name, namespace) = (root.get("spec"), object.manifest.name(), object.namespace.as_str());
        notes.scope = Scope::Gateway(None);
        spec.only(&["selector", "servers"], notes);
        let selector = spec.get("selector").labels();
        if !contains(&Client::ingress_gateway().labels, &selector) {
            spec.get("selector").not_modelled(notes);
        }
        let servers = spec.get("servers");
        let servers = servers.items().filter_map(|part| {
            let port: u16 = part.get("port").get("number").number()?;
            notes.scope = Scope::Gateway(Some(port));
            part.only(&["port", "hosts", "name", "tls"], notes);
            part.get("port").only(&["number", "name", "protocol", "targetPort"], notes);
            let protocol = part.get("port").get("protocol");
            if !["HTTP", "HTTP2", "GRPC"].contains(&protocol.text().unwrap_or_default().to_uppercase().as_str()) {
                protocol.not_modelled(notes);
            }
            part.get("tls").only(&["httpsRedirect"], notes);
            let host = |host: &String| match host.split_once('/') {
                Some((".", host)) => (Some(namespace.to_owned()), host.to_owned()),
                Some(("*", host)) => (None, host.to_owned()),
                Some((own, host)) => (Some(own.to_owned()), host.to_owned()),
                None => (None, host.clone()),
            };
            Some(Server {
                port,
                hosts: part.get("hosts").texts().iter().map(host).collect(),
                redirects: part.get("tls").get("httpsRedirect").value == true,
                at: RuleRef { object: format!("Gateway {name}").into(), origin: part.origin() },
            })
        });
        Self { servers: servers.collect(), id: format!("{namespace}/{name}"), created: object.created, selector }
    }

    /// What the position among the gateways of a pod depends on: the time of creation, name and namespace.
    pub fn order(&self) -> (u64, &str, &str) {
        let (namespace, name) = self.id.split_once('/').unwrap_or_default();
        (self.created, name, namespace)
    }

    /// Whether a server has a host of rules.
    pub fn has_host_of(&self, rules: &VirtualService) -> bool {
        self.servers.iter().any(|server| !server.hosts_of(rules).is_empty())
    }

    /// The hosts of all servers.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().flat_map(|server| &server.hosts).map(|(_, host)| host.as_str())
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        contains(labels, &self.selector)
    }
}

/// Names the servers whose hosts differ from others of their port in capitals alone. Up to 1.22, istiod sends both, and Envoy, which does not
/// tell them apart, refuses all routes of the port.
pub(super) fn note_capitals(gateways: &[Gateway], rules: &[VirtualService], notes: &mut Notes) {
    let mut known: BTreeMap<(u16, String), &String> = BTreeMap::new();
    for gateway in gateways {
        for server in &gateway.servers {
            let own = rules.iter().filter(|rules| rules.gateways.contains(&gateway.id));
            for host in own.flat_map(|rules| server.written_hosts_of(rules)) {
                let other = *known.entry((server.port, host.to_lowercase())).or_insert(host);
                if other != host {
                    notes.scope = Scope::Gateway(Some(server.port));
                    notes.add(server.at.origin.clone(), format!("hosts `{other}` and `{host}` of one port"));
                }
            }
        }
    }
}

impl Server {
    fn redirect(&self) -> Option<RuleRef> {
        self.redirects.then(|| self.at.clone())
    }

    /// The hosts of rules that the server has, in lower case.
    fn hosts_of(&self, rules: &VirtualService) -> BTreeSet<String> {
        self.written_hosts_of(rules).map(|host| host.to_lowercase()).collect()
    }

    /// The hosts of rules that the server has, as they are written.
    fn written_hosts_of<'a>(&'a self, rules: &'a VirtualService) -> impl Iterator<Item = &'a String> {
        let own = self.hosts.iter().filter(|(only, _)| only.as_ref().is_none_or(|only| *only == rules.namespace));
        let pairs = own.flat_map(|(_, own)| rules.hosts.iter().map(move |host| (own, host)));
        pairs.filter_map(|(own, host)| match (covers(host, own), covers(own, host)) {
            (true, _) => Some(own),
            (_, true) => Some(host),
            _ => None,
        })
    }
}

/// Whether a host is a wildcard that covers another host, or the same.
fn covers(host: &str, other: &str) -> bool {
    match (host.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(suffix), Some(other)) => other.len() >= suffix.len() && other.ends_with(suffix),
        (Some(suffix), None) => other.ends_with(suffix),
        (None, Some(_)) => false,
        (None, None) => host == other,
    }
}

/// Whether requests with this `Host` header go to a virtual host with this domain. Envoy asks for a character in place of the `*`.
fn takes(domain: &str, host: &str) -> bool {
    match domain.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => domain == host,
    }
}

/// A virtual host of a gateway pod.
#[derive(Default)]
struct VirtualHost {
    routes: Vec<RuleRoute>,
    /// The server that redirects all requests to HTTPS.
    redirect: Option<RuleRef>,
}

impl Client {
    /// The pods of the ingress gateway that Istio's own manifests install.
    pub fn ingress_gateway() -> Self {
        let labels = INSTALLED.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self { namespace: ROOT.to_owned(), labels, sidecar: true }
    }
}

impl Outbound<'_> {
    /// The routes of the ingress gateway for a request from outside of the mesh.
    pub(super) fn entering(&self, request: &Request) -> Result<Routes, Unconnected> {
        let selecting = self.mesh.gateways.iter().filter(|gateway| gateway.selects(&self.client.labels));
        let servers = selecting.flat_map(|gateway| gateway.servers.iter().map(move |server| (gateway, server)));
        let servers: Vec<_> = servers.filter(|(_, server)| server.port == request.port).collect();
        if servers.is_empty() {
            return Err(Unconnected::Refused);
        }
        let authority = request.authority().to_lowercase();
        let host = authority.split(':').next().unwrap_or_default();
        // the most specific domain comes first
        let own = |domain: String| takes(&domain, host).then_some(Reverse((domain.len(), domain)));
        let mut virtual_hosts: BTreeMap<Reverse<(usize, String)>, VirtualHost> = BTreeMap::new();
        for (gateway, server) in servers {
            for rules in self.visible.iter().filter(|rules| rules.gateways.contains(&gateway.id)) {
                let domains: Vec<_> = server.hosts_of(rules).into_iter().filter_map(own).collect();
                let routes = if domains.is_empty() { None } else { self.behind(gateway, rules, request.port) };
                let Some(routes) = routes else { continue };
                for domain in domains {
                    let virtual_host = virtual_hosts.entry(domain).or_default();
                    virtual_host.routes.extend(routes.iter().cloned());
                    virtual_host.redirect = virtual_host.redirect.take().or_else(|| server.redirect());
                }
            }
            // a redirect needs no rules
            let all = server.hosts.iter().filter(|(only, _)| server.redirects && only.is_none());
            for domain in all.filter_map(|(_, host)| own(host.to_lowercase())) {
                virtual_hosts.entry(domain).or_default().redirect = server.redirect();
            }
        }
        let VirtualHost { mut routes, redirect } = virtual_hosts.into_values().next().unwrap_or_default();
        if let Some(at) = redirect {
            let to = Redirect { status: 301, scheme: Some("https".to_owned()), ..Redirect::default() };
            routes = vec![(Route::with(Vec::new(), Action::Redirect(to)), at)];
        }
        routes.sort_by_key(|(route, ..)| catches_all(self.mesh.version, &route.conditions));
        Ok(self.evaluate(RoutingUnit::Request, routes))
    }

    /// The routes that rules give a gateway; none if no rule applies to it.
    fn behind(&self, gateway: &Gateway, rules: &VirtualService, port: u16) -> Option<Vec<RuleRoute>> {
        let only_port = |host: &str| self.mesh.services.get(host)?.only_port;
        let listener = Listener { client: &self.client, port, gateway: &gateway.id, only_port: &only_port };
        translate::routes(self.mesh.version, rules, &listener)
    }
}

#[cfg(test)]
mod tests;

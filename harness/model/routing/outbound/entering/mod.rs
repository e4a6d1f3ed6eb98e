//! Requests from outside of the mesh: the server of a `Gateway` that they meet, and the routes behind it.

mod chains;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Outbound, Routes};
use crate::routing::condition::{Request, TlsHandshake};
use crate::routing::connection::ConnectionRule;
use crate::routing::distribution::Unconnected;
use crate::routing::gateway::{Gateway, Server, at_port, takes};
use crate::routing::rule::{Destination, RuleRef};
use crate::routing::secret::ServerCertificate;
use crate::routing::table::{Action, Redirect, Route, RoutingUnit};
use crate::routing::translate::{self, Listener, RuleRoute, catches_all};
use crate::routing::virtual_service::VirtualService;
use chains::{Chain, Taker};

/// A virtual host of a gateway pod.
#[derive(Default)]
struct VirtualHost {
    routes: Vec<RuleRoute>,
    /// The server that redirects all requests to HTTPS.
    redirect: Option<RuleRef>,
}

impl<'m> Outbound<'m> {
    /// The servers of the ingress gateway at a port that have an effect, each with its gateway.
    fn servers(&self, port: u16) -> Vec<(&'m Gateway, &'m Server)> {
        let all = at_port(&self.mesh.gateways, &self.client, port).into_iter();
        all.filter(|(.., unused)| unused.is_none()).map(|(gateway, server, _)| (gateway, server)).collect()
    }

    /// What takes a handshake at a port with these chains.
    fn taking(&self, port: u16, chains: &[Chain<'m>], handshake: &TlsHandshake) -> Result<Taker<'m>, Unconnected> {
        if chains.is_empty() {
            let is_plain = |(_, server): &(&Gateway, &Server)| !server.is_tls();
            let takes_http = self.servers(port).iter().any(is_plain);
            return Err(if takes_http { Unconnected::NoTls } else { Unconnected::Refused });
        }
        let fitting = chains.iter().filter_map(|chain| Some((chain.fits(&handshake.server_name)?, chain)));
        let (_, chain) = fitting.max_by_key(|(length, _)| *length).ok_or(Unconnected::UnknownServerName)?;
        Ok(chain.taker)
    }

    /// The certificate of a server.
    fn shown_by(&self, server: &Server) -> Result<&ServerCertificate, Unconnected> {
        let name = server.credential().map(|(name, _)| name).unwrap_or_default();
        self.mesh.secrets.certificate(&self.client.namespace, name).map_err(Unconnected::NoCertificate)
    }

    /// The certificate that the ingress gateway shows for a request over TLS; none if there is no handshake, whatever the client takes, or if
    /// the gateway passes the connection through.
    pub fn certificate(&self, request: &Request) -> Option<ServerCertificate> {
        let gateway = self.mesh.at_gateway(request.entering.as_ref()?);
        let chains = gateway.chains(request.port);
        let taker = gateway.taking(request.port, &chains, request.tls.as_ref()?).ok()?;
        let Taker::Server(_, server) = taker else { return None };
        gateway.shown_by(server).ok().cloned()
    }

    /// The routes of connections that the gateway passes through.
    fn passed_through(&self, rule: &ConnectionRule, request: &Request) -> Routes {
        let only_port = |host: &str| self.mesh.services.get(host)?.only_port;
        let route = translate::connections(rule, request.port, only_port);
        self.evaluate_after(request.tls.as_ref(), RoutingUnit::Connection, vec![route])
    }

    /// The routes of the ingress gateway for a request from outside of the mesh.
    pub(super) fn entering(&self, request: &Request) -> Result<Routes, Unconnected> {
        let chains = self.chains(request.port);
        let taker = match &request.tls {
            Some(handshake) => Some(self.taking(request.port, &chains, handshake)?),
            None => chains.iter().find(|chain| chain.takes_all()).map(|chain| chain.taker),
        };
        let (servers, certificate) = match taker {
            Some(Taker::Rule(rule)) => return Ok(self.passed_through(rule, request)),
            Some(Taker::Server(gateway, server)) if request.tls.is_some() => {
                let certificate = self.shown_by(server)?;
                if let Some(TlsHandshake { server_name, ca: Some(ca) }) = &request.tls {
                    certificate.taken_by(server_name, ca).map_err(Unconnected::Untrusted)?;
                }
                (vec![(gateway, server)], Some(certificate.id.clone()))
            }
            _ => {
                let mut plain = self.servers(request.port);
                plain.retain(|(_, server)| !server.is_tls());
                if plain.is_empty() {
                    return Err(if chains.is_empty() { Unconnected::Refused } else { Unconnected::NeedsTls });
                }
                (plain, None)
            }
        };
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
        let mut routes = self.evaluate(RoutingUnit::Request, routes);
        routes.table.certificate = certificate;
        Ok(routes)
    }

    /// The routes that rules give a gateway; none if no rule applies to it.
    fn behind(&self, gateway: &Gateway, rules: &VirtualService, port: u16) -> Option<Vec<RuleRoute>> {
        let only_port = |host: &str| self.mesh.services.get(host)?.only_port;
        let hash = |destination: &Destination| self.mesh.hash_for(destination, &self.client.namespace);
        let listener =
            Listener { client: &self.client, port, gateway: &gateway.id, only_port: &only_port, hash: &hash };
        translate::routes(self.mesh.version, rules, &listener)
    }
}

#[cfg(test)]
mod passthrough_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "certificates/tests.rs"]
mod tls_tests;

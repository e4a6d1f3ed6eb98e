//! Requests from outside of the mesh: the server of a `Gateway` that they meet, and the routes behind it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Outbound, Routes};
use crate::routing::condition::{Request, TlsHandshake};
use crate::routing::distribution::Unconnected;
use crate::routing::gateway::{Gateway, Server, at_port, takes};
use crate::routing::rule::{Destination, RuleRef};
use crate::routing::secret::ServerCertificate;
use crate::routing::table::{Action, Redirect, Route, RoutingUnit};
use crate::routing::translate::{self, Listener, RuleRoute, catches_all};
use crate::routing::virtual_service::VirtualService;

/// A virtual host of a gateway pod.
#[derive(Default)]
struct VirtualHost {
    routes: Vec<RuleRoute>,
    /// The server that redirects all requests to HTTPS.
    redirect: Option<RuleRef>,
}

impl Outbound<'_> {
    /// The servers of the ingress gateway at a port that have an effect, each with its gateway.
    fn servers(&self, port: u16) -> Vec<(&Gateway, &Server)> {
        let all = at_port(&self.mesh.gateways, &self.client, port).into_iter();
        all.filter(|(.., unused)| unused.is_none()).map(|(gateway, server, _)| (gateway, server)).collect()
    }

    /// The server that takes part in a handshake at a port, with the certificate that it shows.
    fn terminating(
        &self,
        port: u16,
        handshake: &TlsHandshake,
    ) -> Result<((&Gateway, &Server), &ServerCertificate), Unconnected> {
        let servers = self.servers(port);
        if servers.is_empty() {
            return Err(Unconnected::Refused);
        }
        let fitting = servers.into_iter().filter(|(_, server)| server.credential.is_some());
        let mut fitting = fitting.peekable();
        if fitting.peek().is_none() {
            return Err(Unconnected::NoTls);
        }
        let fitting = fitting.filter_map(|own| Some((own.1.fits(&handshake.server_name)?, own)));
        let (_, own) = fitting.max_by_key(|(length, _)| *length).ok_or(Unconnected::UnknownServerName)?;
        let name = own.1.credential.as_ref().map(|(name, _)| name.as_str()).unwrap_or_default();
        let certificate = self.mesh.secrets.certificate(&self.client.namespace, name);
        Ok((own, certificate.map_err(Unconnected::NoCertificate)?))
    }

    /// The certificate that the ingress gateway shows for a request over TLS; none if there is no handshake, whatever the client takes.
    pub fn certificate(&self, request: &Request) -> Option<ServerCertificate> {
        let gateway = self.mesh.at_gateway(request.entering.as_ref()?);
        let (_, certificate) = gateway.terminating(request.port, request.tls.as_ref()?).ok()?;
        Some(certificate.clone())
    }

    /// The routes of the ingress gateway for a request from outside of the mesh.
    pub(super) fn entering(&self, request: &Request) -> Result<Routes, Unconnected> {
        let (servers, certificate) = if let Some(handshake) = &request.tls {
            let (own, certificate) = self.terminating(request.port, handshake)?;
            if let Some(ca) = &handshake.ca {
                certificate.taken_by(&handshake.server_name, ca).map_err(Unconnected::Untrusted)?;
            }
            (vec![own], Some(certificate.id.clone()))
        } else {
            (self.servers(request.port), None)
        };
        if request.tls.is_none() && servers.iter().any(|(_, server)| server.credential.is_some()) {
            return Err(Unconnected::NeedsTls);
        }
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
mod tests;
#[cfg(test)]
#[path = "certificates/tests.rs"]
mod tls_tests;

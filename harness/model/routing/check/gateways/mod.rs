//! Gateways that have no effect, or not the one that is written.

use std::collections::BTreeSet;

use super::Checker;
use crate::admission::{Problem, Severity};
use crate::routing::client::Client;
use crate::routing::gateway::{Gateway, Unused, at_port};
use crate::routing::hosts::resolved;
use crate::routing::live::{Kind, Live, Object};
use crate::routing::rule::{Part, named_gateways};
use crate::routing::secret::{SecretFault, Secrets};
use crate::scenario::nearest;

impl Checker {
    /// Warns of what is wrong with gateways alone.
    pub fn gateways<'a>(
        &mut self,
        live: &Live,
        gateways: &'a [Gateway],
        of_listeners: impl Iterator<Item = &'a Gateway>,
        secrets: &Secrets,
    ) {
        for object in live.of(Kind::Gateway) {
            self.selector(object);
        }
        for gateway in gateways.iter().chain(of_listeners) {
            self.certificates(gateway, secrets);
        }
        self.unused_servers(gateways);
    }

    /// Warns of a selector that is nearly the one of Istio's own gateway. Gateways of other names can be on a cluster.
    fn selector(&mut self, object: &Object) {
        let installed = Client::ingress_gateway().labels;
        let part = Part::root(&object.manifest).get("spec").get("selector");
        for (key, value) in part.entries() {
            let Some(text) = value.text() else { continue };
            let hint = match installed.get(key) {
                Some(own) if own == text => continue,
                Some(own) => nearest(text, std::iter::once(own.as_str())),
                None => nearest(key, installed.keys().map(String::as_str)),
            };
            if !hint.is_empty() {
                let message = format!("the pods of Istio's ingress gateway do not have the label {key}={text}{hint}");
                self.warn(&value, message);
            }
        }
    }

    /// Warns of servers that have no effect because of others at their port.
    fn unused_servers(&mut self, gateways: &[Gateway]) {
        let installed = Client::ingress_gateway();
        let ports: BTreeSet<u16> = gateways.iter().flat_map(Gateway::ports).collect();
        for port in ports {
            for (_, server, unused) in at_port(gateways, &installed, port) {
                let message = match unused {
                    None => continue,
                    Some(Unused::Protocol(plain)) => format!(
                        "this server of {} has no effect, because a server before it at port {port}, of {} ({}), takes HTTP",
                        server.takes(),
                        plain.at.object,
                        plain.at.origin
                    ),
                    Some(Unused::Host(host, first)) => format!(
                        "this server has no effect, because {} ({}) has one for `{host}` at port {port}",
                        first.at.object, first.at.origin
                    ),
                };
                self.problems.insert(Problem {
                    origin: server.at.origin.clone(),
                    severity: Severity::Warning,
                    message,
                });
            }
        }
    }

    /// Warns of a gateway of the object's namespace that is not there, and of gateways that have none of the object's hosts. Where the scenario
    /// has no gateways, those of the cluster are not known.
    pub fn bound(&mut self, object: &Object, gateways: &[Gateway]) {
        let spec = Part::root(&object.manifest).get("spec");
        let part = spec.get("gateways");
        if gateways.is_empty() || !part.is_there() {
            return;
        }
        let named = named_gateways(&spec, &object.namespace);
        let hosts: Vec<String> =
            spec.get("hosts").texts().iter().map(|host| resolved(host, &object.namespace)).collect();
        let own = format!("{}/", object.namespace);
        let known = || gateways.iter().map(|gateway| gateway.id.as_str()).filter(|id| id.starts_with(&own));
        let mut found = Vec::new();
        for (part, id) in part.items().zip(&named) {
            match gateways.iter().find(|gateway| gateway.id == *id) {
                Some(gateway) => found.push(gateway),
                None if !gateways.is_empty() && id.starts_with(&own) => {
                    let hint = nearest(id, known());
                    self.warn(&part, format!("no Gateway is called `{id}`, so the rule has no effect there{hint}"));
                }
                None => {}
            }
        }
        if !found.is_empty() && !found.iter().any(|gateway| gateway.has_host_of(&hosts, &object.namespace)) {
            let hosts: Vec<&str> = found.iter().flat_map(|gateway| gateway.hosts()).collect();
            let message = format!(
                "the gateways of this rule have none of its hosts, so the rule has no effect there; they have {}",
                hosts.join(", ")
            );
            self.warn(&Part::root(&object.manifest).get("spec").get("hosts"), message);
        }
    }

    /// Warns of Secrets of a gateway that are not there, have no certificate, or one for other hosts.
    fn certificates(&mut self, gateway: &Gateway, secrets: &Secrets) {
        for (hosts, name, at) in gateway.credentials().filter(|(_, name, _)| !name.is_empty()) {
            let namespace = gateway.namespace();
            let message = match secrets.certificate(namespace, name) {
                Err(SecretFault::NotThere) if secrets.may_be_made() => continue,
                Err(SecretFault::NotThere) => {
                    let elsewhere: Vec<&str> = secrets.namespaces_of(name).collect();
                    let hint = if elsewhere.is_empty() {
                        nearest(name, secrets.names_in(namespace))
                    } else {
                        format!("; there is one in {}", elsewhere.join(", "))
                    };
                    format!(
                        "no Secret is called `{name}` in {namespace}, the namespace of the gateway's pods, so these connections are closed{hint}"
                    )
                }
                Err(fault) => format!("{fault}, so these connections are closed: Secret `{name}` in {namespace}"),
                Ok(certificate) => {
                    let is_other = |host: &&&str| !certificate.is_for(&host.replacen('*', "a", 1));
                    let others: Vec<&str> =
                        hosts.iter().filter(|host| **host != "*").filter(is_other).copied().collect();
                    if others.is_empty() {
                        continue;
                    }
                    format!("the certificate in Secret `{name}` is not for {}, so clients refuse it", others.join(", "))
                }
            };
            self.problems.insert(Problem { origin: at.clone(), severity: Severity::Warning, message });
        }
    }
}

#[cfg(test)]
mod tests;

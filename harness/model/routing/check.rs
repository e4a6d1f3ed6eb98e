use std::collections::{BTreeMap, BTreeSet};

use super::gateway::Gateway;
use super::hosts::{DOMAIN, Wildcards, falls_under, full_name, is_wildcard, resolved};
use super::live::{Kind, Live, Object};
use super::notes::Notes;
use super::rule::{MESH, Part};
use super::secret::{SecretFault, Secrets};
use super::unmodelled::ROOT;
use super::virtual_service::VirtualService;
use crate::admission::{Definitions, Problem, Severity};
use crate::scenario::nearest;

/// The effect of a destination that does not exist on requests.
const HTTP_FAILS: &str = "so these requests fail with status 503";

/// Checks the applied objects, and the references between them.
pub fn check(live: &Live, definitions: Definitions) -> Vec<Problem> {
    let mut checker = Checker::default();
    for object in live.of(Kind::Service) {
        let name = full_name(object.manifest.name(), &object.namespace);
        checker.domains.extend(name.match_indices('.').map(|(dot, _)| name[dot..].to_owned()));
        checker.services.insert(name);
    }
    for object in live.of(Kind::DestinationRule) {
        let spec = Part::root(&object.manifest).get("spec");
        let host = resolved(spec.get("host").text().unwrap_or_default(), &object.namespace);
        let defined = if is_wildcard(&host) {
            checker.wildcard_subsets.entry(&host)
        } else {
            checker.subsets.entry(host).or_default()
        };
        defined.extend(spec.get("subsets").items().filter_map(|subset| subset.get("name").owned()));
    }
    for object in live.of(Kind::DestinationRule) {
        checker.destination_rule(object);
    }
    let gateways = live.of(Kind::Gateway).map(|object| Gateway::read(object, &mut Notes::default()));
    let gateways: Vec<Gateway> = gateways.collect();
    let secrets = Secrets::read(live);
    for gateway in &gateways {
        checker.certificates(gateway, &secrets);
    }
    for object in live.of(Kind::VirtualService) {
        checker.virtual_service(object);
        checker.bound(object, &gateways);
    }
    checker.problems.extend(live.all().flat_map(|object| object.refused(definitions)).cloned());
    checker.problems.into_iter().collect()
}

#[derive(Default)]
struct Checker {
    /// The full names of all Services.
    services: BTreeSet<String>,
    /// The domains that the names of Services end in, with the dot that they begin with.
    domains: BTreeSet<String>,
    /// The subsets of each host.
    subsets: BTreeMap<String, BTreeSet<String>>,
    wildcard_subsets: Wildcards<BTreeSet<String>>,
    problems: BTreeSet<Problem>,
}

impl Checker {
    fn warn(&mut self, part: &Part<'_>, message: String) {
        self.problems.insert(Problem { origin: part.origin(), severity: Severity::Warning, message });
    }

    fn destination_rule(&mut self, object: &Object) {
        let spec = Part::root(&object.manifest).get("spec");
        let host = spec.get("host");
        self.known_host(
            &host,
            &resolved(host.text().unwrap_or_default(), &object.namespace),
            "so the rule has no effect",
        );
    }

    /// Warns if a host with this full name is no Service.
    fn known_host(&mut self, part: &Part<'_>, full: &str, effect: &str) {
        let Some(host) = part.text() else { return };
        let services = &self.services;
        let known = match full.strip_prefix('*') {
            Some(domain) if domain.starts_with('.') => self.domains.contains(domain),
            Some(_) => services.iter().any(|service| falls_under(service, full)),
            None => services.contains(full),
        };
        if known {
            return;
        }
        let dots = host.matches('.').count();
        let hint = if dots == 1 && services.contains(&format!("{full}.svc.cluster.local")) {
            format!("; write a name with a namespace in full: `{full}.svc.cluster.local`")
        } else {
            nearest(full, services.iter().map(String::as_str))
        };
        self.warn(part, format!("no Service is called `{full}`, {effect}{hint}"));
    }

    fn virtual_service(&mut self, object: &Object) {
        let spec = Part::root(&object.manifest).get("spec");
        // at a gateway, a host is the name by which clients outside of the mesh call it
        let gateways = spec.get("gateways").texts();
        let (mesh, gateways): (Vec<String>, Vec<String>) = gateways.into_iter().partition(|gateway| gateway == MESH);
        let is_of_mesh = |host: &Part<'_>| match (mesh.is_empty(), gateways.is_empty()) {
            (_, true) => true,
            (true, false) => false,
            (false, false) => host.text().is_some_and(|host| !host.contains('.') || host.ends_with(DOMAIN)),
        };
        for host in spec.get("hosts").items().filter(is_of_mesh) {
            // capitals do not matter here, as they do in destinations
            let full = resolved(host.text().unwrap_or_default(), &object.namespace).to_lowercase();
            self.known_host(&host, &full, "so the rule has no effect");
        }
        for key in ["http", "tcp", "tls"] {
            let effect = if key == "http" { HTTP_FAILS } else { "so these connections are closed" };
            spec.get(key).items().for_each(|rule| self.rule(&rule, object, effect));
        }
    }

    /// Warns of a gateway of the object's namespace that is not there, and of gateways that have none of the object's hosts. Where the scenario
    /// has no gateways, those of the cluster are not known.
    fn bound(&mut self, object: &Object, gateways: &[Gateway]) {
        let part = Part::root(&object.manifest).get("spec").get("gateways");
        if gateways.is_empty() || !part.is_there() {
            return;
        }
        let rules = VirtualService::read(object, &mut Notes::default());
        let own = format!("{}/", object.namespace);
        let known = || gateways.iter().map(|gateway| gateway.id.as_str()).filter(|id| id.starts_with(&own));
        let mut found = Vec::new();
        for (part, id) in part.items().zip(&rules.gateways) {
            match gateways.iter().find(|gateway| gateway.id == *id) {
                Some(gateway) => found.push(gateway),
                None if !gateways.is_empty() && id.starts_with(&own) => {
                    let hint = nearest(id, known());
                    self.warn(&part, format!("no Gateway is called `{id}`, so the rule has no effect there{hint}"));
                }
                None => {}
            }
        }
        if !found.is_empty() && !found.iter().any(|gateway| gateway.has_host_of(&rules)) {
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
            let message = match secrets.certificate(ROOT, name) {
                Err(SecretFault::NotThere) if secrets.may_be_made() => continue,
                Err(SecretFault::NotThere) => {
                    let elsewhere: Vec<&str> = secrets.namespaces_of(name).collect();
                    let hint = if elsewhere.is_empty() {
                        nearest(name, secrets.names_in(ROOT))
                    } else {
                        format!("; there is one in {}", elsewhere.join(", "))
                    };
                    format!(
                        "no Secret is called `{name}` in {ROOT}, the namespace of the gateway's pods, so these connections are closed{hint}"
                    )
                }
                Err(fault) => format!("{fault}, so these connections are closed: Secret `{name}` in {ROOT}"),
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

    fn rule(&mut self, rule: &Part<'_>, object: &Object, effect: &str) {
        let route = rule.get("route");
        route.items().for_each(|entry| self.destination(&entry.get("destination"), object, effect));
        let weights = route.items().map(|entry| entry.get("weight"));
        let weights: Option<Vec<u64>> =
            weights.map(|weight| if weight.is_there() { weight.value.as_u64() } else { Some(0) }).collect();
        let total: u64 = weights.iter().flatten().sum();
        if weights.is_some_and(|weights| weights.len() > 1) && ![0, 100].contains(&total) {
            self.warn(&route, format!("the weights sum to {total}, not 100; Istio takes them as proportions"));
        }
        self.destination(&rule.get("mirror"), object, effect);
    }

    fn destination(&mut self, part: &Part<'_>, object: &Object, effect: &str) {
        let host = part.get("host");
        let Some(text) = host.text() else { return };
        let full = resolved(text, &object.namespace);
        self.known_host(&host, &full, effect);
        let subset = part.get("subset");
        let Some(name) = subset.text().filter(|_| self.services.contains(&full)) else { return };
        let wildcards = self.wildcard_subsets.matching(&full).map(|(_, names)| names);
        let known = self.subsets.get(&full).into_iter().chain(wildcards).flatten();
        let known: BTreeSet<&str> = known.map(String::as_str).collect();
        if !known.contains(name) {
            let hint = nearest(name, known.into_iter());
            let message = format!("no DestinationRule for {full} defines the subset `{name}`, {effect}{hint}");
            self.warn(&subset, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{RULES, SERVICE, live};
    use super::*;

    #[test]
    fn gateways_of_rules_are_checked() {
        let of = |gateways: &str, hosts: &str| {
            let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\n\
                           spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.com']}]}\n---\n";
            let rule = format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r}}\n\
                 spec: {{hosts: [{hosts}], gateways: [{gateways}], http: [{{route: [{{destination: {{host: svc}}}}]}}]}}\n"
            );
            let problems = check(&live(&format!("{SERVICE}{gateway}{rule}")), Definitions::of(None)).into_iter();
            let warnings = problems.filter(|problem| problem.severity == Severity::Warning);
            warnings.map(|problem| problem.message).collect::<Vec<_>>()
        };
        assert_eq!(of("gw, elsewhere/gw", "hello.com"), [""; 0]);
        let unknown = "no Gateway is called `here/gv`, so the rule has no effect there; did you mean `here/gw`?";
        assert_eq!(of("gv", "hello.com"), [unknown]);
        let hosts =
            "the gateways of this rule have none of its hosts, so the rule has no effect there; they have *.com";
        assert_eq!(of("gw", "hello.org"), [hosts]);
    }

    #[test]
    fn destinations_of_rules_for_connections_are_checked() {
        let rules = RULES.replacen(
            "  http:\n",
            "  tcp: [{route: [{destination: {host: svc, subset: v3}}, {destination: {host: nxt}, weight: 90}]}]\n  http:\n",
            1,
        );
        let problems = check(&live(&format!("{SERVICE}{rules}")), Definitions::of(None)).into_iter();
        let warnings = problems.filter(|problem| problem.severity == Severity::Warning);
        let messages = warnings.map(|problem| problem.message);
        assert_eq!(
            messages.collect::<Vec<_>>(),
            [
                "the weights sum to 90, not 100; Istio takes them as proportions",
                "no DestinationRule for svc.here.svc.cluster.local defines the subset `v3`, so these connections are closed; \
                 did you mean `v1`?",
                "no Service is called `nxt.here.svc.cluster.local`, so these connections are closed; did you mean \
                 `svc.here.svc.cluster.local`?",
            ]
        );
    }
}

//! What looks wrong in the applied objects, and in the references between them.

mod gateways;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use super::gateway::Gateway;
use super::hosts::{DOMAIN, Wildcards, falls_under, full_name, is_wildcard, resolved};
use super::listener;
use super::live::{Kind, Live, Object};
use super::notes::Notes;
use super::rule::{MESH, Part};
use super::secret::Secrets;
use super::version::RoutingVersion;
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
    let mut gateways: Vec<Gateway> = gateways.collect();
    gateways.sort_by(|left, right| left.order().cmp(&right.order()));
    let listeners = listener::read_all(RoutingVersion::NEWEST, live, &mut Notes::default());
    let made = listeners.iter().map(|listener| &listener.gateway);
    checker.gateways(live, &gateways, made, &Secrets::read(live));
    for object in live.of(Kind::VirtualService) {
        checker.virtual_service(object);
        checker.bound(object, &gateways);
    }
    checker.routes(live, &listeners);
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

use std::collections::{BTreeMap, BTreeSet};

use displaydoc::Display;
use serde_json::Value;

use super::condition::Pattern;
use super::hosts::{DOMAIN, Wildcards, falls_under, full_name, is_wildcard, resolved};
use super::live::{Kind, Live, Object};
use super::rule::{Part, field};
use super::virtual_service::MESH;
use crate::scenario::{Origin, nearest};

/// An error or a suspicious setting in an applied object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Display)]
#[displaydoc("{origin}: {message}")]
pub struct Problem {
    /// The position of the field.
    pub origin: Origin,
    /// The severity.
    pub severity: Severity,
    /// What is wrong, and how to fix it if that is known.
    pub message: String,
}

/// The severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The Kubernetes API rejects the object.
    Error,
    /// Istio accepts the object, but requests are probably not routed as intended.
    Warning,
}

/// Checks the applied objects, and the references between them.
pub fn check(live: &Live) -> Vec<Problem> {
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
    for object in live.of(Kind::VirtualService) {
        checker.virtual_service(object);
    }
    for object in Kind::WORKLOADS.into_iter().flat_map(|kind| live.of(kind)) {
        checker.workload(object);
    }
    for object in live.of(Kind::HttpRoute) {
        for rule in Part::root(&object.manifest).get("spec").get("rules").items() {
            for backend in rule.get("backendRefs").items() {
                checker.whole_number(&backend.get("weight"), 1_000_000);
            }
        }
    }
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
    fn error(&mut self, part: &Part<'_>, message: String) {
        self.problems.insert(Problem { origin: part.origin(), severity: Severity::Error, message });
    }

    fn warn(&mut self, part: &Part<'_>, message: String) {
        self.problems.insert(Problem { origin: part.origin(), severity: Severity::Warning, message });
    }

    fn whole_number(&mut self, part: &Part<'_>, most: u64) {
        if part.is_there() && part.value.as_u64().is_none_or(|number| number > most) {
            let found = match part.value {
                Value::String(text) => format!("the text `{text}`"),
                other => shown(other),
            };
            self.error(part, format!("{} is {found}, not a whole number from 0 to {most}", field(&part.pointer)));
        }
    }

    fn destination_rule(&mut self, object: &Object) {
        let spec = Part::root(&object.manifest).get("spec");
        let host = spec.get("host");
        self.known_host(
            &host,
            &resolved(host.text().unwrap_or_default(), &object.namespace),
            "so the rule has no effect",
        );
        let subsets = spec.get("subsets");
        let mut names = BTreeSet::new();
        for subset in subsets.items() {
            let name = subset.get("name");
            match name.text() {
                None => self.error(&subset, "this subset has no name".to_owned()),
                Some(text) if !names.insert(text) => self.error(&name, format!("there are two subsets `{text}`")),
                Some(_) => {}
            }
        }
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
        for rule in spec.get("http").items() {
            let route = rule.get("route");
            let mut total = 0;
            for entry in route.items() {
                self.whole_number(&entry.get("weight"), u64::from(u32::MAX >> 1));
                total += entry.get("weight").value.as_u64().unwrap_or(0);
                self.destination(&entry.get("destination"), object);
            }
            if route.items().count() > 1 && total == 0 {
                self.error(&route, "the weights sum to 0".to_owned());
            } else if route.items().count() > 1 && total != 100 && route.items().all(|entry| is_weight(&entry)) {
                self.warn(&route, format!("the weights sum to {total}, not 100; Istio takes them as proportions"));
            }
            if rule.get("mirror").is_there() {
                self.destination(&rule.get("mirror"), object);
            }
            for one in rule.get("match").items() {
                self.expressions(&one);
            }
            self.expression(&rule.get("rewrite").get("uriRegexRewrite").get("match"));
            let does = ["route", "redirect", "directResponse", "delegate"];
            if does.iter().all(|key| !rule.get(key).is_there()) {
                self.error(&rule, format!("this rule has none of {}", does.join(", ")));
            }
            let abort = rule.get("fault").get("abort");
            if let Some(percent) = abort.get("percentage").get("value").value.as_f64()
                && !(0.0..=100.0).contains(&percent)
            {
                self.error(&abort.get("percentage"), format!("{percent} is not between 0 and 100"));
            }
        }
    }

    fn destination(&mut self, part: &Part<'_>, object: &Object) {
        let host = part.get("host");
        let Some(text) = host.text() else {
            self.error(part, "this destination has no host".to_owned());
            return;
        };
        let full = resolved(text, &object.namespace);
        self.known_host(&host, &full, "so these requests fail with status 503");
        let subset = part.get("subset");
        let Some(name) = subset.text().filter(|_| self.services.contains(&full)) else { return };
        let wildcards = self.wildcard_subsets.matching(&full).map(|(_, names)| names);
        let known = self.subsets.get(&full).into_iter().chain(wildcards).flatten();
        let known: BTreeSet<&str> = known.map(String::as_str).collect();
        if !known.contains(name) {
            let hint = nearest(name, known.into_iter());
            let message = format!(
                "no DestinationRule for {full} defines the subset `{name}`, so these requests fail with status 503{hint}"
            );
            self.warn(&subset, message);
        }
    }

    fn expressions(&mut self, part: &Part<'_>) {
        match part.value {
            Value::Object(_) => {
                for (key, value) in part.entries() {
                    if key == "regex" { self.expression(&value) } else { self.expressions(&value) }
                }
            }
            Value::Array(_) => part.items().for_each(|item| self.expressions(&item)),
            _ => {}
        }
    }

    fn expression(&mut self, part: &Part<'_>) {
        if let Some(error) = part.text().filter(|text| *text != "*").and_then(Pattern::error) {
            let found = shown(part.value);
            self.error(part, format!("{found} is not a regular expression: {error}"));
        }
    }

    fn workload(&mut self, object: &Object) {
        let spec = Part::root(&object.manifest).get("spec");
        self.whole_number(&spec.get("replicas"), u64::from(u32::MAX >> 1));
        let selector = spec.get("selector").get("matchLabels");
        let labels = spec.get("template").get("metadata").get("labels").labels();
        for (key, value) in selector.labels() {
            if labels.get(&key) != Some(&value) {
                let message = format!("the selector requires {key}={value}, which the template's labels lack");
                self.error(&selector.get(&key), message);
            }
        }
    }
}

/// Whether an entry of a route has no weight or a valid one.
fn is_weight(entry: &Part<'_>) -> bool {
    let weight = entry.get("weight");
    !weight.is_there() || weight.value.is_u64()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixture::{SERVICE, live};
    use super::*;

    const UNKNOWN: &str = "no Service is called `shop.acme.io`, so the rule has no effect";
    const MISSPELT: &str = "no Service is called `svcc.here.svc.cluster.local`, so the rule has no effect; \
                            did you mean `svc.here.svc.cluster.local`?";

    #[rstest]
    #[case::in_the_mesh("hosts: [shop.acme.io]", &[UNKNOWN])]
    #[case::at_a_gateway("hosts: [shop.acme.io], gateways: [public]", &[])]
    #[case::at_both("hosts: [shop.acme.io, svc], gateways: [public, mesh]", &[])]
    #[case::misspelt_at_both("hosts: [shop.acme.io, svcc], gateways: [public, mesh]", &[MISSPELT])]
    #[case::wildcard("hosts: ['*.here.svc.cluster.local']", &[])]
    #[case::everything("hosts: ['*']", &[])]
    #[case::wildcard_of_nothing("hosts: ['*.there.svc.cluster.local']", &[
        "no Service is called `*.there.svc.cluster.local`, so the rule has no effect; did you mean `svc.here.svc.cluster.local`?",
    ])]
    fn hosts_of_rules_are_those_of_services(#[case] spec: &str, #[case] expected: &[&str]) {
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
             spec: {{{spec}, http: [{{route: [{{destination: {{host: svc}}}}]}}]}}\n"
        );
        let problems = check(&live(&format!("{SERVICE}{rule}")));
        assert_eq!(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_subset_may_be_defined_by_a_wildcard() {
        let rules = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\n\
                     spec: {hosts: [svc], http: [{route: [{destination: {host: svc, subset: one}}]}]}\n---\n\
                     apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: dr}\n\
                     spec: {host: '*.svc.cluster.local', subsets: [{name: one, labels: {version: v1}}]}\n";
        assert_eq!(check(&live(&format!("{SERVICE}{rules}"))), []);
    }

    #[test]
    fn a_selector_has_to_fit_the_template_of_every_kind_of_workload() {
        let text = SERVICE
            .replace("Deployment", "StatefulSet")
            .replace("{template", "{selector: {matchLabels: {app: b}}, template");
        let message = "the selector requires app=b, which the template's labels lack";
        assert_eq!(
            check(&live(&text)).iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(),
            [message, message]
        );
    }
}

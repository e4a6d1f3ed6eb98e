use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::compile::{Live, contradicts, destination_rule, labels, rule_for, subset_labels, tcp_port};
use super::table::RouteTable;
use crate::scenario::Origin;

/// Why a route leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No `DestinationRule` defines the subset.
    UndefinedSubset {
        /// The subset.
        subset: String,
        /// The service's full name.
        host: String,
    },
    /// The Service selects none of the pods that the subset selects.
    Excluded {
        /// The subset.
        subset: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// The `DestinationRule`.
        rule: Origin,
        /// The Service's name.
        service: String,
        /// Its selector.
        selector: BTreeMap<String, String>,
        /// The Service.
        origin: Origin,
    },
    /// The rules for requests are not used.
    NotHttp {
        /// The `VirtualService`'s name.
        rule: String,
        /// Where it is written.
        rule_origin: Origin,
        /// The Service's name.
        service: String,
        /// Where it is written.
        origin: Origin,
        /// The port.
        port: u16,
        /// How it is declared as TCP.
        declared: String,
    },
    /// No ready pod carries the labels.
    NoPods {
        /// The subset, or none for the Service itself.
        subset: Option<String>,
        /// The labels.
        labels: BTreeMap<String, String>,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp { rule, rule_origin, service, origin, port, declared } => write!(
                formatter,
                "VirtualService {rule} ({rule_origin}) is not used: port {port} of Service {service} ({origin}) {declared}, so that \
                 connections are balanced over all pods, not requests by rules"
            ),
            Self::UndefinedSubset { subset, host } => {
                write!(formatter, "no DestinationRule for {host} defines the subset {subset}")
            }
            Self::Excluded { subset, labels, rule, service, selector, origin } => write!(
                formatter,
                "subset {subset} ({}, {rule}) has no endpoints: the selector of Service {service} ({}, {origin}) excludes its pods",
                shown(labels),
                shown(selector),
            ),
            Self::NoPods { subset: Some(subset), labels } => {
                write!(formatter, "subset {subset} has no endpoints: no ready pod carries {}", shown(labels))
            }
            Self::NoPods { subset: None, labels } => {
                write!(formatter, "the service has no endpoints: no ready pod carries {}", shown(labels))
            }
        }
    }
}

/// Why the clusters without endpoints in this table have none.
#[must_use]
pub fn diagnose(live: &Live, namespace: &str, service: &str, port: u16, table: &RouteTable) -> Vec<Finding> {
    let Some(object) = live.get("Service", service) else { return Vec::new() };
    let selector = labels(object.object.data.pointer("/spec/selector").filter(|value| Value::is_object(value)));
    let empty = table.endpoints.iter().filter(|(_, addresses)| addresses.is_empty());
    let unused =
        rule_for(live, namespace, service).zip(tcp_port(object, port)).map(|(rule, declared)| Finding::NotHttp {
            rule: rule.name().to_owned(),
            rule_origin: rule.origin.clone(),
            service: service.to_owned(),
            origin: object.origin.clone(),
            port,
            declared,
        });
    let empty = empty.map(|(cluster, _)| {
        let Some(subset) = &cluster.subset else {
            return Finding::NoPods { subset: None, labels: selector.clone() };
        };
        let (Some(wanted), Some(rule)) =
            (subset_labels(live, namespace, &cluster.host, subset), destination_rule(live, namespace, &cluster.host))
        else {
            return Finding::UndefinedSubset { subset: subset.clone(), host: cluster.host.clone() };
        };
        if contradicts(&selector, &wanted) {
            return Finding::Excluded {
                subset: subset.clone(),
                labels: wanted,
                rule: rule.origin.clone(),
                service: service.to_owned(),
                selector: selector.clone(),
                origin: object.origin.clone(),
            };
        }
        let labels = selector.iter().chain(&wanted).map(|(key, value)| (key.clone(), value.clone())).collect();
        Finding::NoPods { subset: Some(subset.clone()), labels }
    });
    unused.into_iter().chain(empty).collect()
}

fn shown(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::compile::compile;
    use super::super::compile::tests::{live, pods};
    use super::*;

    fn findings(files: &[&str], pods: impl Fn(&BTreeMap<String, String>) -> BTreeSet<String>) -> Vec<String> {
        let live = live(files);
        let table = compile(&live, "canary", "svc-hello", 8080, pods).unwrap();
        diagnose(&live, "canary", "svc-hello", 8080, &table).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pinned_selector_is_named_with_subset_and_places() {
        assert_eq!(
            findings(&["svc-hello-v1.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"], pods),
            ["subset v2 (version=v2, dr-hello.yaml:1) has no endpoints: the selector of Service svc-hello \
              (app=hello,version=v1, svc-hello-v1.yaml:1) excludes its pods"]
        );
    }

    #[test]
    fn a_tcp_port_is_named_with_the_rules_that_it_makes_useless() {
        assert_eq!(
            findings(&["../canary-tcp-port/svc-hello.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"], pods),
            ["VirtualService vs-hello (vs-hello-testers.yaml:1) is not used: port 8080 of Service svc-hello \
              (../canary-tcp-port/svc-hello.yaml:1) is named `tcp-hello`, so that connections are balanced over all pods, not \
              requests by rules"]
        );
    }

    #[test]
    fn a_subset_that_nobody_defines_is_named() {
        assert_eq!(
            findings(&["svc-hello.yaml", "vs-hello-rollback.yaml"], pods),
            ["no DestinationRule for svc-hello.canary.svc.cluster.local defines the subset v1"]
        );
    }

    #[test]
    fn a_subset_without_pods_is_named() {
        assert_eq!(
            findings(&["svc-hello.yaml", "dr-hello.yaml", "vs-hello-rollback.yaml"], |_| BTreeSet::new()),
            ["subset v1 has no endpoints: no ready pod carries app=hello,version=v1"]
        );
    }
}

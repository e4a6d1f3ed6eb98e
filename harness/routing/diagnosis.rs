use std::collections::BTreeMap;
use std::fmt;

use super::condition::Request;
use super::mesh::Outbound;
use super::service::Protocol;
use super::table::{Behind, Cluster, Unit};
use crate::scenario::Origin;

/// Why requests do not get where a rule sends them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No `DestinationRule` defines the subset.
    UndefinedSubset {
        /// The subset.
        subset: String,
        /// The service's full name.
        host: String,
    },
    /// There is no such service, or it has no such port.
    NoService {
        /// The service's full name.
        host: String,
        /// The port.
        port: u16,
    },
    /// The Service selects none of the pods that the subset selects.
    Excluded {
        /// The subset.
        subset: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Where it is written.
        rule: Origin,
        /// The Service's name.
        service: String,
        /// Its selector.
        selector: BTreeMap<String, String>,
        /// Where the Service is written.
        origin: Origin,
    },
    /// The rules for requests are not used.
    NotHttp {
        /// The rule's kind and name.
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
    /// The client has no sidecar, so that no rule holds for it.
    NoSidecar {
        /// The rule's kind and name.
        rule: String,
        /// Where it is written.
        rule_origin: Origin,
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
                "{rule} ({rule_origin}) is not used: port {port} of Service {service} ({origin}) {declared}, so that \
                 connections are balanced over all pods, not requests by rules"
            ),
            Self::NoSidecar { rule, rule_origin } => {
                write!(formatter, "{rule} ({rule_origin}) is not used: the client has no sidecar")
            }
            Self::UndefinedSubset { subset, host } => {
                write!(formatter, "no DestinationRule for {host} that the client sees defines the subset {subset}")
            }
            Self::NoService { host, port } => write!(formatter, "there is no service {host} with a port {port}"),
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

impl Outbound<'_> {
    /// Why requests to a host and port do not get where the rules send them.
    #[must_use]
    pub fn diagnose(&self, request: &Request) -> Vec<Finding> {
        let Ok(routes) = self.routes(request) else { return Vec::new() };
        let unused = (routes.table.unit == Unit::Connection).then(|| self.unused(request)).flatten();
        let wanting = routes.table.clusters.iter().filter_map(|(cluster, behind)| match behind {
            Behind::Nothing => Some(self.missing(cluster)),
            Behind::Endpoints(addresses) if addresses.is_empty() => self.empty(cluster),
            Behind::Endpoints(_) => None,
        });
        unused.into_iter().chain(wanting).collect()
    }

    fn unused(&self, request: &Request) -> Option<Finding> {
        let service = self.service(&request.host)?;
        let rule = &self.rules_for(&service.host).next()?.object;
        let (rule, rule_origin) = (rule.object.to_string(), rule.origin.clone());
        match &service.port(request.port)?.protocol {
            _ if !self.has_sidecar() => Some(Finding::NoSidecar { rule, rule_origin }),
            Protocol::Tcp(declared) => Some(Finding::NotHttp {
                rule,
                rule_origin,
                service: service.name.clone(),
                origin: service.origin.clone(),
                port: request.port,
                declared: declared.clone(),
            }),
            _ => None,
        }
    }

    fn missing(&self, cluster: &Cluster) -> Finding {
        match (&cluster.subset, self.service(&cluster.host).and_then(|service| service.port(cluster.port))) {
            (Some(subset), Some(_)) => Finding::UndefinedSubset { subset: subset.clone(), host: cluster.host.clone() },
            _ => Finding::NoService { host: cluster.host.clone(), port: cluster.port },
        }
    }

    fn empty(&self, cluster: &Cluster) -> Option<Finding> {
        let service = self.service(&cluster.host)?;
        let selector = service.selector.clone().unwrap_or_default();
        let Some(name) = &cluster.subset else {
            return Some(Finding::NoPods { subset: None, labels: selector });
        };
        let subset = self.subset(service, name)?;
        if subset.labels.iter().any(|(key, value)| selector.get(key).is_some_and(|other| other != value)) {
            return Some(Finding::Excluded {
                subset: name.clone(),
                labels: subset.labels.clone(),
                rule: subset.origin.clone(),
                service: service.name.clone(),
                selector,
                origin: service.origin.clone(),
            });
        }
        let labels = selector.into_iter().chain(subset.labels.clone()).collect();
        Some(Finding::NoPods { subset: Some(name.clone()), labels })
    }
}

fn shown(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

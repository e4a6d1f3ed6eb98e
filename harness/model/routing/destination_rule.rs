use std::collections::{BTreeMap, HashMap};

use super::hosts::{falls_under, is_wildcard, resolved};
use super::live::Object;
use super::rule::{Export, Part};
use super::unmodelled::{Notes, ROOT, Scope};
use crate::scenario::Origin;

/// A subset of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subset {
    pub labels: BTreeMap<String, String>,
    pub origin: Origin,
}

/// The subsets of one host, merged from all rules of a namespace.
#[derive(Debug, Clone)]
pub(super) struct Subsets {
    pub by_name: BTreeMap<String, Subset>,
    export: Export,
    namespace: String,
}

/// The `DestinationRule`s, by namespace and host.
#[derive(Debug, Default)]
pub(super) struct DestinationRules {
    exact: HashMap<(String, String), Subsets>,
    /// Wildcards by namespace, the longest first.
    wildcards: HashMap<String, Vec<(String, Subsets)>>,
}

impl DestinationRules {
    pub fn read<'a>(objects: impl Iterator<Item = &'a Object>, notes: &mut Notes) -> Self {
        let mut objects: Vec<&Object> = objects.collect();
        objects.sort_by_key(|object| (object.created, object.manifest.name(), &object.namespace));
        let mut merged: BTreeMap<(String, String), Subsets> = BTreeMap::new();
        for object in objects {
            let root = Part::root(&object.manifest);
            let spec = root.get("spec");
            let host = resolved(spec.get("host").text().unwrap_or_default(), &object.namespace);
            notes.scope = Scope::Hosts([host.clone()].into());
            spec.only(&["host", "subsets", "exportTo", "trafficPolicy"], notes);
            traffic_policy(&spec.get("trafficPolicy"), &host, notes);
            let subsets = merged.entry((object.namespace.clone(), host.clone())).or_insert_with(|| Subsets {
                by_name: BTreeMap::new(),
                export: Export::of(&spec.get("exportTo"), &object.namespace),
                namespace: object.namespace.clone(),
            });
            for part in spec.get("subsets").items() {
                notes.scope = Scope::Hosts([host.clone()].into());
                part.only(&["name", "labels", "trafficPolicy"], notes);
                notes.scope = Scope::Subset(host.clone(), part.get("name").owned().unwrap_or_default());
                traffic_policy(&part.get("trafficPolicy"), &host, notes);
                let subset = Subset { labels: part.get("labels").labels(), origin: part.origin() };
                // of two subsets with one name, the older one applies
                subsets.by_name.entry(part.get("name").owned().unwrap_or_default()).or_insert(subset);
            }
        }
        let mut rules = Self::default();
        for ((namespace, host), subsets) in merged {
            if is_wildcard(&host) {
                rules.wildcards.entry(namespace).or_default().push((host, subsets));
            } else {
                rules.exact.insert((namespace, host), subsets);
            }
        }
        for wildcards in rules.wildcards.values_mut() {
            wildcards.sort_by_key(|(host, _)| std::cmp::Reverse(host.len()));
        }
        rules
    }

    /// The subsets of a service for a client in some namespace: from the rules of the client's namespace, otherwise of the service's
    /// namespace, otherwise of the root namespace.
    pub fn of(&self, host: &str, service_namespace: &str, client_namespace: &str) -> Option<&Subsets> {
        let local = self.within(client_namespace, host).filter(|subsets| subsets.export.to(client_namespace));
        local.or_else(|| {
            let elsewhere = [service_namespace, ROOT].into_iter().filter_map(|namespace| self.within(namespace, host));
            elsewhere
                .into_iter()
                .find(|subsets| subsets.export.to(client_namespace) && subsets.namespace != client_namespace)
        })
    }

    fn within(&self, namespace: &str, host: &str) -> Option<&Subsets> {
        self.exact.get(&(namespace.to_owned(), host.to_owned())).or_else(|| {
            let wildcards = self.wildcards.get(namespace)?;
            wildcards.iter().find(|(wildcard, _)| falls_under(host, wildcard)).map(|(_, subsets)| subsets)
        })
    }
}

/// Adds the parts of a traffic policy that can move shares or fail requests.
///
/// The number of connections and outlier detection are covered for servers that answer in time and without errors.
fn traffic_policy(part: &Part<'_>, host: &str, notes: &mut Notes) {
    part.only(&["loadBalancer", "connectionPool", "outlierDetection", "tls", "portLevelSettings", "port"], notes);
    let balancer = part.get("loadBalancer");
    balancer.only(&["simple", "localityLbSetting"], notes);
    let locality = balancer.get("localityLbSetting");
    if locality.is_there() && locality.get("enabled").value != false {
        locality.not_modelled(notes);
    }
    let mode = part.get("tls").get("mode");
    match mode.text() {
        None | Some("DISABLE") => {}
        Some("ISTIO_MUTUAL") => {
            let outer = std::mem::replace(&mut notes.scope, Scope::WithoutSidecar([host.to_owned()].into()));
            mode.not_modelled(notes);
            notes.scope = outer;
        }
        Some(_) => mode.not_modelled(notes),
    }
    part.get("portLevelSettings").items().for_each(|port| traffic_policy(&port, host, notes));
}

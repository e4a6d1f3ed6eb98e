use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::hosts::{falls_under, is_wildcard, resolved};
use super::live::Object;
use super::rule::{Export, NotModelled, Part};
use crate::scenario::Origin;

/// Istio's root namespace, whose rules apply in all namespaces.
const ROOT: &str = "istio-system";

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
    pub fn read<'a>(objects: impl Iterator<Item = &'a Object>, notes: &mut BTreeSet<NotModelled>) -> Self {
        let mut objects: Vec<&Object> = objects.collect();
        objects.sort_by_key(|object| (object.created, object.manifest.name(), &object.namespace));
        let mut merged: BTreeMap<(String, String), Subsets> = BTreeMap::new();
        for object in objects {
            let root = Part::root(&object.manifest);
            let spec = root.get("spec");
            spec.only(&["host", "subsets", "exportTo"], notes);
            let host = resolved(spec.get("host").text().unwrap_or_default(), &object.namespace);
            let subsets = merged.entry((object.namespace.clone(), host)).or_insert_with(|| Subsets {
                by_name: BTreeMap::new(),
                export: Export::of(&spec.get("exportTo"), &object.namespace),
                namespace: object.namespace.clone(),
            });
            for part in spec.get("subsets").items() {
                part.only(&["name", "labels"], notes);
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

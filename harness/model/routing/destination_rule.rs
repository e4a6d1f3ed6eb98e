use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::hosts::{Wildcards, is_wildcard, resolved};
use super::live::Object;
use super::notes::{Notes, Scope};
use super::rule::Part;
use super::unmodelled::ROOT;
use super::version::RoutingVersion;
use crate::scenario::Origin;

/// A subset of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subset {
    pub labels: BTreeMap<String, String>,
    pub origin: Origin,
}

/// The subsets of one host, merged from rules of a namespace.
#[derive(Debug, Clone)]
pub(super) struct Subsets {
    pub by_name: BTreeMap<String, Subset>,
    /// The values of `exportTo` as written; an empty set exports to all namespaces.
    export: BTreeSet<String>,
}

/// The rules of one namespace, by host.
#[derive(Debug, Default)]
struct Rules {
    exact: HashMap<String, Vec<Subsets>>,
    wildcards: Wildcards<Vec<Subsets>>,
}

/// The `DestinationRule`s by namespace: those that clients of the same namespace see, and those that clients of others may see.
#[derive(Debug, Default)]
pub(super) struct DestinationRules {
    local: HashMap<String, Rules>,
    exported: HashMap<String, Rules>,
}

impl DestinationRules {
    pub fn read<'a>(version: RoutingVersion, objects: impl Iterator<Item = &'a Object>, notes: &mut Notes) -> Self {
        let mut objects: Vec<&Object> = objects.collect();
        objects.sort_by_cached_key(|object| (object.created, version.order(object.manifest.name(), &object.namespace)));
        let mut rules = Self::default();
        for object in objects {
            let root = Part::root(&object.manifest);
            let spec = root.get("spec");
            let host = resolved(spec.get("host").text().unwrap_or_default(), &object.namespace);
            notes.scope = Scope::Hosts([host.clone()].into());
            spec.only(&["host", "subsets", "exportTo", "trafficPolicy"], notes);
            notes.only_answers = true;
            traffic_policy(&spec.get("trafficPolicy"), &host, notes);
            let mut subsets =
                Subsets { by_name: BTreeMap::new(), export: spec.get("exportTo").texts().into_iter().collect() };
            for part in spec.get("subsets").items() {
                notes.scope = Scope::Hosts([host.clone()].into());
                part.only(&["name", "labels", "trafficPolicy"], notes);
                notes.scope = Scope::Subset(host.clone(), part.get("name").owned().unwrap_or_default());
                traffic_policy(&part.get("trafficPolicy"), &host, notes);
                let subset = Subset { labels: part.get("labels").labels(), origin: part.origin() };
                subsets.by_name.entry(part.get("name").owned().unwrap_or_default()).or_insert(subset);
            }
            notes.only_answers = false;
            let own = |name: &str| name == "." || name == object.namespace;
            if subsets.is_exported(|name| name == "*" || own(name)) {
                rules.local.entry(object.namespace.clone()).or_default().add(version, &host, &subsets);
            }
            if !(subsets.export.len() == 1 && subsets.export.iter().all(|name| own(name))) {
                rules.exported.entry(object.namespace.clone()).or_default().add(version, &host, &subsets);
            }
        }
        rules
    }

    /// The subsets of a service for a client in some namespace: from the rules of the client's namespace, otherwise of the service's
    /// namespace, otherwise of the root namespace. Of several rules for one host that were not merged, the youngest applies.
    pub fn of(&self, host: &str, service_namespace: &str, client_namespace: &str) -> Option<&Subsets> {
        let local = self.local.get(client_namespace).filter(|_| client_namespace != ROOT);
        local.and_then(|rules| rules.of(host)?.last()).or_else(|| {
            [service_namespace, ROOT].into_iter().find_map(|namespace| {
                let subsets = self.exported.get(namespace)?.of(host)?;
                subsets.iter().rfind(|subsets| subsets.is_exported(|name| name == "*" || name == client_namespace))
            })
        })
    }
}

impl Rules {
    /// Adds the subsets of a rule: to those of older rules, or beside them if the older ones are exported more widely or elsewhere.
    fn add(&mut self, version: RoutingVersion, host: &str, added: &Subsets) {
        let others =
            if is_wildcard(host) { self.wildcards.entry(host) } else { self.exact.entry(host.to_owned()).or_default() };
        let mut apart = true;
        for other in &mut *others {
            let narrower = !other.export.is_empty() && added.export.is_superset(&other.export);
            apart = version.merges_by_export() && !narrower && added.export != other.export;
            if !apart {
                if other.export.is_empty() {
                    other.export.clone_from(&added.export);
                }
                for (name, subset) in &added.by_name {
                    // of two subsets with one name, the older one applies
                    other.by_name.entry(name.clone()).or_insert_with(|| subset.clone());
                }
            }
        }
        if apart {
            others.push(added.clone());
        }
    }

    /// The rules for the most specific host.
    fn of(&self, host: &str) -> Option<&Vec<Subsets>> {
        self.exact.get(host).or_else(|| self.wildcards.matching(host).next().map(|(_, subsets)| subsets))
    }
}

impl Subsets {
    fn is_exported(&self, to: impl Fn(&str) -> bool) -> bool {
        self.export.is_empty() || self.export.iter().any(|name| to(name))
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
    // it connects to the address that was called, past the endpoints
    if balancer.get("simple").text() == Some("PASSTHROUGH") {
        balancer.get("simple").not_modelled(notes);
    }
    let http = part.get("connectionPool").get("http");
    for protocol in [http.get("h2UpgradePolicy"), http.get("useClientProtocol")] {
        if protocol.text() == Some("UPGRADE") || protocol.value == true {
            protocol.not_modelled(notes);
        }
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

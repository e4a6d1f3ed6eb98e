use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::balancing::{self, BalancingPolicy, HashRule};
use super::hosts::{Wildcards, is_wildcard, resolved};
use super::live::Object;
use super::locality::{self, LocalityPolicy, Preference};
use super::notes::{Notes, Scope};
use super::rule::Part;
use super::unmodelled::ROOT;
use super::upstream::Tls;
use super::version::RoutingVersion;
use crate::scenario::Origin;

/// The part of a traffic policy about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TlsPolicy {
    /// None if the policy does not mention TLS.
    all: Option<Tls>,
    /// A port does not inherit from the policy.
    ports: BTreeMap<u16, Tls>,
}

impl TlsPolicy {
    /// None if there is no policy.
    fn read(part: &Part<'_>) -> Option<Self> {
        let settings = part.get("portLevelSettings");
        let ports = settings.items().filter_map(|own| {
            Some((own.get("port").get("number").number()?, Self::mode(&own.get("tls")).unwrap_or_default()))
        });
        part.is_there().then(|| Self { all: Self::mode(&part.get("tls")), ports: ports.collect() })
    }

    fn mode(part: &Part<'_>) -> Option<Tls> {
        part.is_there().then(|| match part.get("mode").text() {
            Some("ISTIO_MUTUAL") => Tls::Istio,
            Some("SIMPLE" | "MUTUAL") if !names_secret(part) => Tls::Server,
            _ => Tls::Disabled,
        })
    }

    /// The TLS on a port; none if the policy does not mention it.
    fn of(&self, port: u16) -> Option<Tls> {
        self.ports.get(&port).copied().or(self.all)
    }
}

/// A subset of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subset {
    pub labels: BTreeMap<String, String>,
    pub origin: Origin,
    tls: Option<TlsPolicy>,
    balancing: Option<BalancingPolicy>,
    localities: Option<LocalityPolicy>,
}

/// The subsets of one host, merged from rules of a namespace.
#[derive(Debug, Clone)]
pub(super) struct Subsets {
    pub by_name: BTreeMap<String, Subset>,
    /// The policy of the first rule that has one.
    tls: Option<TlsPolicy>,
    /// The same.
    balancing: Option<BalancingPolicy>,
    /// The same.
    localities: Option<LocalityPolicy>,
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
            let policy = spec.get("trafficPolicy");
            let mut reader = PolicyReader { host: &host, subset: None, notes: &mut *notes, ejects: ejects(&spec) };
            reader.read(&policy);
            let mut subsets = Subsets {
                by_name: BTreeMap::new(),
                tls: TlsPolicy::read(&policy),
                balancing: BalancingPolicy::read(&policy),
                localities: LocalityPolicy::read(&policy),
                export: spec.get("exportTo").texts().into_iter().collect(),
            };
            for part in spec.get("subsets").items() {
                notes.scope = Scope::Hosts([host.clone()].into());
                part.only(&["name", "labels", "trafficPolicy"], notes);
                let policy = part.get("trafficPolicy");
                let name = part.get("name").owned();
                notes.scope = Scope::Subset(host.clone(), name.clone().unwrap_or_default());
                PolicyReader { host: &host, subset: name, notes: &mut *notes, ejects: ejects(&spec) }.read(&policy);
                let subset = Subset {
                    labels: part.get("labels").labels(),
                    origin: part.origin(),
                    tls: TlsPolicy::read(&policy),
                    balancing: BalancingPolicy::read(&policy),
                    localities: LocalityPolicy::read(&policy),
                };
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
                if other.tls.is_none() {
                    other.tls.clone_from(&added.tls);
                }
                if other.balancing.is_none() {
                    other.balancing.clone_from(&added.balancing);
                }
                if other.localities.is_none() {
                    other.localities.clone_from(&added.localities);
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
    /// The TLS towards a port of the host or of a subset. A subset inherits what its policy does not mention.
    pub fn tls(&self, port: u16, subset: Option<&str>) -> Tls {
        let of_host = || self.tls.as_ref().and_then(|policy| policy.of(port));
        let subset = subset.and_then(|name| self.by_name.get(name)?.tls.as_ref()?.of(port));
        subset.or_else(of_host).unwrap_or_default()
    }

    /// The hash with which a cluster of a port chooses an endpoint.
    pub fn hash_of_cluster(&self, port: u16, subset: Option<&str>) -> Option<&HashRule> {
        balancing::of_cluster(self.balancing.as_ref(), self.balancing_of(subset), port)
    }

    /// The hash of requests to a destination of a rule, which may name a port.
    pub fn hash_of_destination(&self, port: Option<u16>, subset: Option<&str>) -> Option<&HashRule> {
        balancing::of_destination(self.balancing.as_ref(), self.balancing_of(subset), port)
    }

    /// Which endpoints a cluster of a port prefers.
    pub fn preference(&self, port: u16, subset: Option<&str>) -> Preference {
        let subset = subset.and_then(|name| self.by_name.get(name)?.localities.as_ref());
        locality::of_cluster(self.localities.as_ref(), subset, port)
    }

    fn balancing_of(&self, subset: Option<&str>) -> Option<&BalancingPolicy> {
        self.by_name.get(subset?)?.balancing.as_ref()
    }

    fn is_exported(&self, to: impl Fn(&str) -> bool) -> bool {
        self.export.is_empty() || self.export.iter().any(|name| to(name))
    }
}

/// Whether TLS settings name a secret. Sidecars do not read it, and use no TLS then; gateways do.
fn names_secret(tls: &Part<'_>) -> bool {
    tls.get("credentialName").text().is_some_and(|name| !name.is_empty() && !name.starts_with("configmap://"))
}

/// Whether any policy of a rule ejects endpoints: this alone makes Istio prefer localities.
fn ejects(spec: &Part<'_>) -> bool {
    let subsets = spec.get("subsets");
    let of_subsets = subsets.items().map(|subset| subset.get("trafficPolicy"));
    let mut policies = std::iter::once(spec.get("trafficPolicy")).chain(of_subsets);
    policies.any(|policy| {
        let ports = policy.get("portLevelSettings");
        let ejects = |part: &Part<'_>| part.get("outlierDetection").is_there();
        ejects(&policy) || ports.items().any(|port| ejects(&port))
    })
}

/// The modelled fields of a `consistentHash`.
const KNOWN_OF_HASHES: [&str; 7] =
    ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName", "minimumRingSize", "ringHash", "maglev"];

/// Adds the parts of a traffic policy that can move shares or fail requests to the notes.
///
/// The number of connections and outlier detection are covered for servers that answer in time and without errors.
struct PolicyReader<'a> {
    host: &'a str,
    subset: Option<String>,
    notes: &'a mut Notes,
    /// Whether the rule ejects endpoints.
    ejects: bool,
}

impl PolicyReader<'_> {
    fn read(&mut self, part: &Part<'_>) {
        let known = ["loadBalancer", "connectionPool", "outlierDetection", "tls", "portLevelSettings", "port"];
        part.only(&known, self.notes);
        let balancer = part.get("loadBalancer");
        balancer.only(&["simple", "localityLbSetting", "consistentHash"], self.notes);
        let hash = balancer.get("consistentHash");
        if hash.is_there() {
            hash.only(&KNOWN_OF_HASHES, self.notes);
            self.note(&hash, Scope::Hash(self.host.to_owned(), self.subset.clone()));
        }
        self.localities(part);
        // it connects to the address that was called, past the endpoints
        if balancer.get("simple").text() == Some("PASSTHROUGH") {
            balancer.get("simple").not_modelled(self.notes);
        }
        let http = part.get("connectionPool").get("http");
        for protocol in [http.get("h2UpgradePolicy"), http.get("useClientProtocol")] {
            if protocol.text() == Some("UPGRADE") || protocol.value == true {
                protocol.not_modelled(self.notes);
            }
        }
        let tls = part.get("tls");
        let mode = tls.get("mode");
        match mode.text() {
            Some("ISTIO_MUTUAL") => self.note(&mode, Scope::WithoutSidecar([self.host.to_owned()].into())),
            Some("SIMPLE" | "MUTUAL") => self.note(&mode, Scope::OwnServers(self.host.to_owned(), self.subset.clone())),
            _ => {}
        }
        if names_secret(&tls) {
            self.note(&tls.get("credentialName"), Scope::AtGateways([self.host.to_owned()].into()));
        }
        part.get("portLevelSettings").items().for_each(|port| self.read(&port));
    }

    /// Localities matter where endpoints are ejected, or where the policy distributes requests over them.
    fn localities(&mut self, part: &Part<'_>) {
        let balancer = part.get("loadBalancer");
        let setting = balancer.get("localityLbSetting");
        if setting.get("enabled").value == false {
            return;
        }
        if setting.get("distribute").is_there() {
            setting.not_modelled(self.notes);
        } else if self.ejects {
            setting.only(&["enabled", "failover"], self.notes);
            let outlier = part.get("outlierDetection");
            // a policy that mentions load balancing alone does not inherit that no place is preferred
            let places = [(setting, false), (outlier, true), (balancer, true)];
            if let Some((place, is_assumed)) = places.into_iter().find(|(place, _)| place.is_there()) {
                let scope = Scope::Localities { host: self.host.to_owned(), subset: self.subset.clone(), is_assumed };
                self.note(&place, scope);
            }
        }
    }

    fn note(&mut self, part: &Part<'_>, scope: Scope) {
        let outer = std::mem::replace(&mut self.notes.scope, scope);
        part.not_modelled(self.notes);
        self.notes.scope = outer;
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::Request;
    use super::super::fixture::{client, mesh};

    /// A Service of the demo's server v1, or of images of one's own, behind a rule for a subset of all pods, with these parts of policies.
    fn outcome(pod: &str, policy: &str, of_subset: &str) -> String {
        let mesh = mesh(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: svc}}\n\
             spec: {{selector: {{app: a}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: a{pod}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr}}\n\
             spec: {{host: svc, {policy} subsets: [{{name: all, labels: {{app: a}}, {of_subset}}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
             spec: {{hosts: [svc], http: [{{route: [{{destination: {{host: svc, subset: all}}}}]}}]}}\n"
        ));
        let outbound = mesh.outbound(client());
        let request = Request::get("svc", 80, "/");
        let routes = outbound.routes(&request).unwrap();
        if let Some(note) = outbound.not_modelled(&request, Some(&routes)).first() {
            return note.field.clone();
        }
        let decision = routes.decide(&request);
        decision
            .distribution
            .iter()
            .map(|(outcome, chance)| format!("{outcome} {chance}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    const DEMO: &str =
        ", sidecar.istio.io/inject: 'false'}}\nspec: {containers: [{name: a, image: 'hello-server:v1'}]}";
    const WITH_SIDECAR: &str =
        ", sidecar.istio.io/inject: 'true'}}\nspec: {containers: [{name: a, image: 'hello-server:v1'}]}";
    const OWN: &str = "}}\nspec: {containers: [{name: a, image: 'a:v1'}]}";
    const FAILS: &str = "503, the pod does not speak TLS, as a DestinationRule asks for 100 %";
    const SIMPLE: &str = "trafficPolicy: {tls: {mode: SIMPLE}},";

    #[rstest]
    #[case::simple(DEMO, SIMPLE, "", FAILS)]
    #[case::simple_behind_a_sidecar(WITH_SIDECAR, SIMPLE, "", FAILS)]
    #[case::mutual(DEMO, "trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: a, privateKey: b}},", "", FAILS)]
    #[case::a_secret_that_sidecars_do_not_read(
        DEMO,
        "trafficPolicy: {tls: {mode: SIMPLE, credentialName: a}},",
        "",
        "v1 100 %"
    )]
    #[case::disabled(DEMO, "trafficPolicy: {tls: {mode: DISABLE}},", "", "v1 100 %")]
    #[case::of_istio_without_a_sidecar(DEMO, "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}},", "", FAILS)]
    #[case::of_istio(WITH_SIDECAR, "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}},", "", "v1 100 %")]
    #[case::of_the_subset(DEMO, "", SIMPLE, FAILS)]
    #[case::disabled_for_the_subset(DEMO, SIMPLE, "trafficPolicy: {tls: {mode: DISABLE}}", "v1 100 %")]
    #[case::not_mentioned_for_the_subset(DEMO, SIMPLE, "trafficPolicy: {connectionPool: {}}", FAILS)]
    #[case::of_the_port(
        DEMO,
        "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]},",
        "",
        FAILS
    )]
    #[case::a_port_does_not_inherit(
        DEMO,
        "trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, connectionPool: {}}]},",
        "",
        "v1 100 %"
    )]
    #[case::of_another_port(
        DEMO,
        "trafficPolicy: {portLevelSettings: [{port: {number: 90}, tls: {mode: SIMPLE}}]},",
        "",
        "v1 100 %"
    )]
    #[case::of_servers_of_ones_own(OWN, SIMPLE, "", "spec.trafficPolicy.tls.mode")]
    fn tls(#[case] pod: &str, #[case] policy: &str, #[case] of_subset: &str, #[case] expected: &str) {
        assert_eq!(outcome(pod, policy, of_subset.trim_end_matches(',')), expected);
    }

    #[rstest]
    #[case::without_ejection("loadBalancer: {localityLbSetting: {enabled: true}}", ["", ""], "v1 50 %, v2 50 %")]
    #[case::disabled("outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}", ["", ""], "v1 50 %, v2 50 %")]
    #[case::not_known("outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}", ["", ""], SETTING)]
    #[case::the_same(
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}",
        [", istio-locality: a", ", istio-locality: a"],
        "v1 50 %, v2 50 %"
    )]
    #[case::distributed(
        "loadBalancer: {localityLbSetting: {distribute: []}}", [", istio-locality: a", ", istio-locality: a"], SETTING
    )]
    #[case::ejection_alone("outlierDetection: {}", ["", ""], "v1 50 %, v2 50 %")]
    #[case::ejection_in_two(
        "outlierDetection: {}", [", istio-locality: a", ", istio-locality: b"], "spec.trafficPolicy.outlierDetection"
    )]
    fn localities(#[case] policy: &str, #[case] labels: [&str; 2], #[case] expected: &str) {
        let second = format!(
            "{}{OWN}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: q, labels: {{app: a{}{}",
            labels[0],
            labels[1],
            OWN.replace("v1", "v2")
        );
        assert_eq!(outcome(&second, &format!("trafficPolicy: {{{policy}}},"), ""), expected);
    }

    #[rstest]
    #[case("loadBalancer: {simple: LEAST_REQUEST}")]
    #[case("loadBalancer: {simple: RANDOM}")]
    #[case(
        "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}"
    )]
    #[case("outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}")]
    #[case(
        "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {interval: 1s}}]"
    )]
    fn these_policies_leave_the_shares_of_healthy_pods_alone(#[case] policy: &str) {
        let second = format!(
            "{OWN}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: q, labels: {{app: a{}",
            OWN.replace("v1", "v2")
        );
        assert_eq!(outcome(&second, &format!("trafficPolicy: {{{policy}}},"), ""), "v1 50 %, v2 50 %");
    }

    const SETTING: &str = "spec.trafficPolicy.loadBalancer.localityLbSetting";
}

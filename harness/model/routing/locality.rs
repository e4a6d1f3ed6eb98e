//! The part of traffic policies that has clients prefer the nearest pods.

use std::collections::BTreeMap;

use super::placement::Placement;
use super::rule::Part;
use super::service::Pod;

/// Which endpoints a cluster prefers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Preference {
    /// None: requests are balanced over all endpoints.
    Nothing,
    /// The nearest. Requests go farther only if none of these is ready, to another region as in this list, from one to the other.
    Nearest(Vec<(String, String)>),
    /// Something that is not modelled.
    NotModelled,
}

/// The part of a traffic policy about localities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalityPolicy {
    all: Settings,
    /// A port does not inherit from the policy.
    ports: BTreeMap<u16, Settings>,
}

/// What a policy says of a host, a subset or a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    /// Whether endpoints that fail are ejected, without which requests never go farther.
    ejects: bool,
    /// What the load balancing prefers; none if the policy does not mention load balancing.
    balancing: Option<Preference>,
}

impl Preference {
    /// What a mesh prefers where no rule says otherwise.
    const BY_DEFAULT: Self = Self::Nearest(Vec::new());

    /// Reads the `loadBalancer` of a policy.
    fn read(balancer: &Part<'_>) -> Self {
        let setting = balancer.get("localityLbSetting");
        if balancer.get("zoneAwareLbSetting").is_there() {
            return Self::NotModelled;
        }
        if setting.get("enabled").value == false {
            return Self::Nothing;
        }
        if setting.get("distribute").is_there() || setting.get("failoverPriority").items().next().is_some() {
            return Self::NotModelled;
        }
        let failover = setting.get("failover");
        let name = |part: &Part<'_>, key: &str| part.get(key).owned().unwrap_or_default();
        Self::Nearest(failover.items().map(|one| (name(&one, "from"), name(&one, "to"))).collect())
    }
}

impl Settings {
    fn read(part: &Part<'_>) -> Self {
        let balancer = part.get("loadBalancer");
        Self {
            ejects: part.get("outlierDetection").is_there(),
            balancing: balancer.is_there().then(|| Preference::read(&balancer)),
        }
    }
}

impl LocalityPolicy {
    /// None if there is no policy.
    pub fn read(part: &Part<'_>) -> Option<Self> {
        let ports = part.get("portLevelSettings");
        let ports = ports
            .items()
            .filter_map(|own| Some((own.get("port").get("number").number()?, Settings::read(&own))))
            .collect();
        part.is_there().then(|| Self { all: Settings::read(part), ports })
    }
}

/// What a cluster of a port prefers. A subset inherits what its policy does not mention.
pub(super) fn of_cluster(host: Option<&LocalityPolicy>, subset: Option<&LocalityPolicy>, port: u16) -> Preference {
    let of_port = |policy: Option<&LocalityPolicy>| policy.and_then(|policy| policy.ports.get(&port).cloned());
    let inherited = of_port(host).or_else(|| Some(host?.all.clone()));
    let inherited = inherited.unwrap_or(Settings { ejects: false, balancing: None });
    let own = of_port(subset).unwrap_or_else(|| match subset {
        Some(LocalityPolicy { all, .. }) => Settings {
            ejects: all.ejects || inherited.ejects,
            balancing: all.balancing.clone().or(inherited.balancing),
        },
        None => inherited,
    });
    match own.balancing.unwrap_or(Preference::BY_DEFAULT) {
        Preference::Nearest(_) if !own.ejects => Preference::Nothing,
        preference => preference,
    }
}

/// The ready pods of a cluster, by whether they get the requests of a client.
#[derive(Debug)]
pub(super) struct ByDistance<'a> {
    /// The pods that get the requests, each with its target port.
    pub nearest: Vec<(&'a Pod, u16)>,
    /// The pods that get requests only when none of the nearest is ready.
    pub farther: Vec<(&'a Pod, u16)>,
    /// Whether it is told which pods are the nearest, if that matters. Where it is not, all are taken to be.
    pub is_told: bool,
}

impl<'a> ByDistance<'a> {
    /// Sorts the ready pods of a cluster with this preference for a client that is placed like this.
    pub fn new(ready: Vec<(&'a Pod, u16)>, preference: &Preference, client: &Placement) -> Self {
        let failover = match preference {
            Preference::Nothing => return Self { nearest: ready, farther: Vec::new(), is_told: true },
            Preference::NotModelled => return Self { nearest: ready, farther: Vec::new(), is_told: false },
            Preference::Nearest(failover) => failover,
        };
        let places = ready.iter().map(|(pod, _)| &pod.placement).collect();
        let is_told = ready.len() < 2 || client.tells_nearest(&places);
        let priority = |pod: &Pod| if is_told { client.priority(&pod.placement, failover) } else { 0 };
        let first = ready.iter().map(|(pod, _)| priority(pod)).min();
        let (nearest, farther) = ready.into_iter().partition(|(pod, _)| Some(priority(pod)) == first);
        Self { nearest, farther, is_told }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use rstest::rstest;

    use super::super::fixture::mesh;
    use super::super::{Client, Request};
    use super::Placement;

    /// What a client in a place gets from pods of v1 and v2 in two places, by a policy of the host and one of the subset that is called.
    fn given([client, first, second]: [&str; 3], policy: &str, of_subset: &str) -> String {
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: svc}}\nspec: {{selector: {{app: a}}, ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr}}\n\
             spec: {{host: svc, trafficPolicy: {{{policy}}}, subsets: [{{name: all, labels: {{app: a}}, trafficPolicy: {{{of_subset}}}}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
             spec: {{hosts: [svc], http: [{{route: [{{destination: {{host: svc, subset: all}}}}]}}]}}\n"
        );
        for (version, place) in [("v1", first), ("v2", second)] {
            write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {version}, labels: {{app: a, istio-locality: '{place}'}}}}\n\
                 spec: {{containers: [{{name: a, image: 'a:{version}'}}]}}\n"
            )
            .unwrap();
        }
        let mesh = mesh(&text);
        let labels = [("istio-locality".to_owned(), client.to_owned())].into();
        let placement = Placement::of(&labels, &BTreeMap::new(), &serde_json::Value::Null);
        let outbound = mesh.outbound(Client { placement, ..Client::new("here", labels) });
        let request = Request::get("svc", 80, "/");
        let routes = outbound.routes(&request).unwrap();
        if let Some(note) = outbound.not_modelled(&request, Some(&routes)).first() {
            return note.field.clone();
        }
        let decision = routes.decide(&request);
        let outcomes = decision.distribution.iter().map(|(outcome, chance)| format!("{outcome} {chance}"));
        outcomes.collect::<Vec<_>>().join(", ")
    }

    const EJECTS: &str = "outlierDetection: {}";
    const HALVES: &str = "v1 50 %, v2 50 %";

    #[rstest]
    #[case::own_zone(["r.a", "r.a", "r.b"], "v1 100 %")]
    #[case::the_other_zone(["r.b", "r.a", "r.b"], "v2 100 %")]
    #[case::no_pods_in_the_own_zone(["r.c", "r.a", "r.b"], HALVES)]
    #[case::own_region(["r.c", "s.c", "r.b"], "v2 100 %")]
    #[case::no_pods_in_the_own_region(["r.a", "s.a", "t.a"], HALVES)]
    #[case::own_subzone(["r.a.1", "r.a.2", "r.a.1"], "v2 100 %")]
    #[case::no_pods_in_the_own_subzone(["r.a.3", "r.a.2", "r.b.3"], "v1 100 %")]
    #[case::one_place(["", "r.a", "r.a"], HALVES)]
    #[case::the_client_tells_no_place(["", "r.a", "r.b"], "spec.trafficPolicy.outlierDetection")]
    #[case::the_client_tells_no_zone(["r", "r.a", "r.b"], "spec.trafficPolicy.outlierDetection")]
    #[case::a_pod_tells_no_place(["r.a", "r.a", ""], "spec.trafficPolicy.outlierDetection")]
    #[case::no_pod_tells_a_place(["r.a", "", ""], HALVES)]
    fn the_nearest_pods_get_the_requests(#[case] places: [&str; 3], #[case] expected: &str) {
        assert_eq!(given(places, EJECTS, ""), expected);
    }

    #[rstest]
    #[case::without_ejection("loadBalancer: {localityLbSetting: {enabled: true}}", "", HALVES)]
    #[case::disabled("outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}", "", HALVES)]
    #[case::enabled("outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}", "", "v1 100 %")]
    #[case::simple("outlierDetection: {}, loadBalancer: {simple: RANDOM}", "", "v1 100 %")]
    #[case::ejection_of_the_subset("", EJECTS, "v1 100 %")]
    #[case::disabled_for_the_subset(EJECTS, "loadBalancer: {localityLbSetting: {enabled: false}}", HALVES)]
    #[case::a_balancer_of_the_subset_inherits_no_setting(
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}",
        "loadBalancer: {simple: RANDOM}",
        "v1 100 %"
    )]
    #[case::of_the_port("portLevelSettings: [{port: {number: 80}, outlierDetection: {}}]", "", "v1 100 %")]
    #[case::of_another_port("portLevelSettings: [{port: {number: 81}, outlierDetection: {}}]", "", HALVES)]
    #[case::a_port_does_not_inherit(
        "outlierDetection: {}, portLevelSettings: [{port: {number: 80}, tls: {}}]",
        "",
        HALVES
    )]
    #[case::a_port_of_the_subset_does_not_inherit(EJECTS, "portLevelSettings: [{port: {number: 80}, tls: {}}]", HALVES)]
    #[case::distributed(
        "loadBalancer: {localityLbSetting: {distribute: [{from: 'r/*', to: {r/b: 100}}]}}",
        "",
        "spec.trafficPolicy.loadBalancer.localityLbSetting"
    )]
    #[case::by_labels(
        "outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [version]}}",
        "",
        "spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority"
    )]
    #[case::by_labels_without_ejection("loadBalancer: {localityLbSetting: {failoverPriority: [version]}}", "", HALVES)]
    fn a_policy_decides_whether_the_nearest_are_preferred(
        #[case] policy: &str,
        #[case] of_subset: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(given(["r.a", "r.a", "r.b"], policy, of_subset), expected);
    }

    #[rstest]
    #[case::to_the_second("r.a", "v2 100 %")]
    #[case::from_another_region("u.a", HALVES)]
    #[case::within_the_region("s.b", "v1 100 %")]
    fn a_region_fails_over_to_another(#[case] client: &str, #[case] expected: &str) {
        let failover =
            "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r, to: t}, {from: s, to: t}]}}";
        assert_eq!(given([client, "s.a", "t.a"], failover, ""), expected);
    }
}

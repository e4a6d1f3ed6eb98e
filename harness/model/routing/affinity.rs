//! Whether requests of one session go to the same pod.

use std::collections::BTreeSet;
use std::fmt;

use super::condition::Request;
use super::hash_key::{HashKey, HashTable, KeyOf};
use super::outbound::{Outbound, Routes};
use super::table::{Action, Cluster, Forward, Route, RoutingUnit};
use crate::scenario::Origin;

/// How the pod is chosen that answers a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Affinity {
    /// There is one pod at most.
    Single,
    /// Requests with these keys go to the same pod.
    ByKey {
        /// The keys of the request.
        keys: Vec<KeyOf>,
        /// The position of the `consistentHash`.
        place: Origin,
    },
    /// Weights choose a destination for each request.
    Weights {
        /// The destinations.
        destinations: Vec<String>,
        /// The position of a `consistentHash` for one of the destinations.
        hash: Option<Origin>,
    },
    /// A hash chooses the pod, and the request has no such key, so that each request goes to any pod.
    NoKey {
        /// What is hashed. Nothing is, if the route to the destination has no hash.
        hashes: Vec<HashKey>,
        /// The position of the `consistentHash`.
        place: Origin,
    },
    /// Each request goes to any pod of a destination.
    Balanced(String),
    /// Connections are routed, not requests.
    Connections,
    /// Callers have no cookie by which a pod could be chosen, because the proxy sets none that they send with these requests.
    NoCookie {
        /// The name of the cookie.
        name: String,
        /// What is hashed, with the position of the `consistentHash`; none if there is none.
        hash: Option<(Vec<HashKey>, Origin)>,
    },
}

impl Affinity {
    /// Whether requests with the same key go to the same pod. Connections are not known to.
    pub fn keeps_pod(&self) -> bool {
        match self {
            Self::Single => true,
            Self::ByKey { keys, .. } => !keys.contains(&KeyOf::Connection),
            Self::Weights { .. }
            | Self::NoKey { .. }
            | Self::Balanced(_)
            | Self::Connections
            | Self::NoCookie { .. } => false,
        }
    }

    /// Whether it depends on connections, and not on requests.
    pub fn depends_on_connections(&self) -> bool {
        match self {
            Self::ByKey { keys, .. } => keys.contains(&KeyOf::Connection),
            Self::Connections => true,
            _ => false,
        }
    }
}

impl fmt::Display for Affinity {
    /// Why requests stay at a pod, or do not.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single => formatter.write_str("there is one pod"),
            Self::ByKey { place, .. } => {
                write!(formatter, "consistentHash ({place}) sends requests with the same key to the same pod")
            }
            Self::Weights { destinations, hash } => {
                let list = destinations.join(" or ");
                write!(formatter, "the rule chooses {list} by weight, separately for each request")?;
                hash.as_ref().map_or(Ok(()), |place| {
                    write!(formatter, "; consistentHash ({place}) only chooses among the pods of one destination. To keep sessions in a split, use one destination with the pods of both versions")
                })
            }
            Self::NoKey { hashes, place } if hashes.is_empty() => {
                write!(
                    formatter,
                    "consistentHash ({place}) is for a port that the destination of the rule does not name, so that each request goes to any pod"
                )
            }
            Self::NoKey { hashes, place } => {
                let keys: Vec<String> = hashes.iter().map(ToString::to_string).collect();
                let keys = keys.join(" and ");
                write!(
                    formatter,
                    "consistentHash ({place}) hashes the {keys}, which these requests do not have, so that each of them goes to any pod"
                )
            }
            Self::Balanced(destination) => {
                write!(formatter, "no consistentHash applies to {destination}, so that each request goes to any pod")
            }
            Self::Connections => formatter.write_str("connections are routed, not requests"),
            Self::NoCookie { name, hash } => {
                write!(formatter, "the proxy does not set the cookie `{name}`: ")?;
                let Some((hashes, place)) = hash else { return formatter.write_str("no consistentHash applies") };
                let same = hashes.iter().find_map(|hash| match hash {
                    HashKey::Cookie { name: own, ttl, path } if own == name => Some((ttl, path)),
                    _ => None,
                });
                match same {
                    Some((None, _)) => write!(formatter, "its `httpCookie` ({place}) has no `ttl`, such as `ttl: 0s`"),
                    Some((Some(_), path)) => {
                        write!(formatter, "`httpCookie` ({place}) sets it for requests below {path} alone")
                    }
                    None if hashes.is_empty() => write!(formatter, "consistentHash ({place}) does not apply"),
                    None => {
                        let keys: Vec<String> = hashes.iter().map(ToString::to_string).collect();
                        write!(formatter, "consistentHash ({place}) hashes the {}", keys.join(" and "))
                    }
                }
            }
        }
    }
}

impl Outbound<'_> {
    /// How the pod is chosen that answers a request, given the routes of the request.
    pub fn affinity(&self, request: &Request, routes: &Routes) -> Affinity {
        let table = &routes.table;
        let route = routes.decide(request).route.and_then(|index| table.routes.get(index));
        let Some(Route { action: Action::Forward(forward), .. }) = route else { return Affinity::Single };
        let pods = |cluster: &Cluster| table.active(cluster);
        let all: BTreeSet<String> = forward.clusters.iter().flat_map(|(cluster, _)| pods(cluster)).collect();
        if all.len() < 2 && forward.clusters.iter().all(|(cluster, _)| !pods(cluster).is_empty()) {
            return Affinity::Single;
        }
        if table.unit == RoutingUnit::Connection {
            return Affinity::Connections;
        }
        self.among(forward, request)
    }

    /// Why callers have no cookie of this name to send with a request after the first response; none if the proxy sets it.
    pub fn lacks_cookie(&self, name: &str, request: &Request, routes: &Routes) -> Option<Affinity> {
        let route = routes.decide(request).route.and_then(|index| routes.table.routes.get(index));
        let forward = match route {
            Some(Route { action: Action::Forward(forward), .. }) if routes.table.unit == RoutingUnit::Request => {
                Some(forward)
            }
            _ => None,
        };
        let client = self.client_of(request);
        let hash = forward.and_then(|forward| {
            let mut clusters = forward.clusters.iter();
            let rule = clusters.find_map(|(cluster, _)| self.mesh.hash_of(cluster, &client.namespace))?;
            Some((forward.hashes.clone(), rule.origin.clone()))
        });
        let is_set = |hash: &HashKey| match hash {
            HashKey::Cookie { name: own, path, ttl: Some(_) } => own == name && is_sent(request, path),
            _ => false,
        };
        match hash {
            Some((hashes, _)) if hashes.iter().any(is_set) => None,
            hash => Some(Affinity::NoCookie { name: name.to_owned(), hash }),
        }
    }

    /// The size of the table in which the pod of a hash is found, if a hash chooses the pod of a request.
    pub fn hash_table(&self, request: &Request, routes: &Routes) -> Option<HashTable> {
        let route = routes.decide(request).route.and_then(|index| routes.table.routes.get(index));
        let Some(Route { action: Action::Forward(forward), .. }) = route else { return None };
        let [(cluster, _)] = forward.clusters.as_slice() else { return None };
        routes.table.upstreams.get(cluster)?.table
    }

    fn among(&self, forward: &Forward, request: &Request) -> Affinity {
        let client = self.client_of(request);
        let hash = |cluster: &Cluster| self.mesh.hash_of(cluster, &client.namespace).map(|hash| hash.origin.clone());
        let [(only, _)] = forward.clusters.as_slice() else {
            let destinations = forward.clusters.iter().map(|(cluster, _)| shown(cluster));
            let hash = forward.clusters.iter().find_map(|(cluster, _)| hash(cluster));
            return Affinity::Weights { destinations: destinations.collect(), hash };
        };
        let Some(place) = hash(only) else { return Affinity::Balanced(shown(only)) };
        let keys: Vec<KeyOf> = forward.hashes.iter().filter_map(|key| key.of(request)).collect();
        if keys.is_empty() {
            return Affinity::NoKey { hashes: forward.hashes.clone(), place };
        }
        Affinity::ByKey { keys, place }
    }
}

/// Whether a client sends a cookie for a path with a request, as RFC 6265 says in 5.1.4.
fn is_sent(request: &Request, of_cookie: &str) -> bool {
    let path = request.path.split('?').next().unwrap_or_default();
    // what is no path stands for that of the first request
    !of_cookie.starts_with('/')
        || path
            .strip_prefix(of_cookie)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || of_cookie.ends_with('/'))
}

/// `subset v1`, or `svc-hello`.
fn shown(cluster: &Cluster) -> String {
    let host = || cluster.host.split('.').next().unwrap_or_default().to_owned();
    cluster.subset.as_ref().map_or_else(host, |subset| format!("subset {subset}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixture::{RULES, SERVICE, client, mesh};
    use super::*;

    const SPLIT: &str = "route: [{destination: {host: svc, subset: v1}, weight: 50}, {destination: {host: svc, subset: v2}, weight: 50}]";
    const WHOLE: &str = "route: [{destination: {host: svc}}]";

    /// Why requests stay at a pod or do not, for a rule with this route and this policy for the host.
    fn affinity(route: &str, policy: &str) -> String {
        let rules = RULES.replacen("route: [{destination: {host: svc, subset: v1}}]", route, 1);
        let rules = rules.replacen("  host: svc\n", &format!("  host: svc\n  trafficPolicy: {{{policy}}}\n"), 1);
        let mesh = mesh(&format!("{SERVICE}{rules}"));
        let outbound = mesh.outbound(client());
        let request = Request::get("svc", 8080, "/?user=ann").with("x-user", "ann");
        outbound.affinity(&request, &outbound.routes(&request).unwrap()).to_string()
    }

    const BY_HEADER: &str = "loadBalancer: {consistentHash: {httpHeaderName: x-user}}";
    const KEEPS: &str = "consistentHash (a.yaml:21:34) sends requests with the same key to the same pod";

    #[rstest]
    #[case::set("{name: user, ttl: 0s}", None)]
    #[case::set_for_all_paths("{name: user, ttl: 0s, path: /}", None)]
    #[case::set_for_paths_above("{name: user, ttl: 0s, path: /shop}", None)]
    #[case::set_for_another_path(
        "{name: user, ttl: 0s, path: /sho}",
        Some("`httpCookie` (a.yaml:21:34) sets it for requests below /sho alone")
    )]
    #[case::without_a_lifetime("{name: user}", Some("its `httpCookie` (a.yaml:21:34) has no `ttl`, such as `ttl: 0s`"))]
    #[case::another_cookie(
        "{name: usr, ttl: 0s}",
        Some("consistentHash (a.yaml:21:34) hashes the cookie usr, which is set without a lifetime")
    )]
    fn the_proxy_sets_the_cookie_of_a_hash_that_has_a_lifetime(#[case] cookie: &str, #[case] lacks: Option<&str>) {
        let policy =
            format!("  host: svc\n  trafficPolicy: {{loadBalancer: {{consistentHash: {{httpCookie: {cookie}}}}}}}\n");
        let rules = RULES.replacen("route: [{destination: {host: svc, subset: v1}}]", WHOLE, 1);
        let mesh = mesh(&format!("{SERVICE}{}", rules.replacen("  host: svc\n", &policy, 1)));
        let outbound = mesh.outbound(client());
        let request = Request::get("svc", 8080, "/shop/cart?user=ann");
        let lacking = outbound.lacks_cookie("user", &request, &outbound.routes(&request).unwrap());
        let expected = lacks.map(|why| format!("the proxy does not set the cookie `user`: {why}"));
        assert_eq!(lacking.map(|lacking| lacking.to_string()), expected);
    }

    #[rstest]
    #[case::header(WHOLE, BY_HEADER, KEEPS)]
    #[case::header_in_other_letters(WHOLE, "loadBalancer: {consistentHash: {httpHeaderName: X-User}}", KEEPS)]
    #[case::query(WHOLE, "loadBalancer: {consistentHash: {httpQueryParameterName: user}}", KEEPS)]
    #[case::source(WHOLE, "loadBalancer: {consistentHash: {useSourceIp: true}}", KEEPS)]
    #[case::maglev(WHOLE, "loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {}}}", KEEPS)]
    #[case::another_header(
        WHOLE,
        "loadBalancer: {consistentHash: {httpHeaderName: x-usr}}",
        "consistentHash (a.yaml:21:34) hashes the header x-usr, which these requests do not have, so that each of them goes to any pod"
    )]
    #[case::no_hash(
        WHOLE,
        "loadBalancer: {simple: RANDOM}",
        "no consistentHash applies to svc, so that each request goes to any pod"
    )]
    #[case::one_pod("route: [{destination: {host: svc, subset: v1}}]", "connectionPool: {}", "there is one pod")]
    #[case::weights(
        SPLIT,
        "connectionPool: {}",
        "the rule chooses subset v1 or subset v2 by weight, separately for each request"
    )]
    #[case::weights_and_a_hash(
        SPLIT,
        BY_HEADER,
        "the rule chooses subset v1 or subset v2 by weight, separately for each request; consistentHash (a.yaml:21:34) only chooses among the pods of one destination. To keep sessions in a split, use one destination with the pods of both versions"
    )]
    #[case::a_port_that_the_rule_names(
        "route: [{destination: {host: svc, port: {number: 8080}}}]",
        "portLevelSettings: [{port: {number: 8080}, loadBalancer: {consistentHash: {httpHeaderName: x-user}}}]",
        "consistentHash (a.yaml:21:77) sends requests with the same key to the same pod"
    )]
    #[case::a_port_that_the_rule_does_not_name(
        WHOLE,
        "portLevelSettings: [{port: {number: 8080}, loadBalancer: {consistentHash: {httpHeaderName: x-user}}}]",
        "consistentHash (a.yaml:21:77) is for a port that the destination of the rule does not name, so that each request goes to any pod"
    )]
    #[case::a_port_of_its_own_without_a_hash(
        WHOLE,
        "loadBalancer: {consistentHash: {httpHeaderName: x-user}}, portLevelSettings: [{port: {number: 8080}, connectionPool: {}}]",
        "no consistentHash applies to svc, so that each request goes to any pod"
    )]
    fn requests_stay_at_a_pod_where_one_destination_hashes_them(
        #[case] route: &str,
        #[case] policy: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(affinity(route, policy), expected);
    }
}

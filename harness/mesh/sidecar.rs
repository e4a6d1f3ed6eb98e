use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;

use super::MeshError;
use super::configuration::configuration;
use super::counters::counters;
use crate::cluster::{Tunnel, TunnelError};
use crate::events::{Configuration, Counters};
use crate::routing::{
    Abort, Action, Behind, Cluster, Condition, Forward, Holds, Pattern, Redirect, RedirectPath, Rewrite, Route,
    RouteTable, Subject, Test, Unit,
};

/// The port of Envoy's admin interface, on the pod's loopback address.
pub const ADMIN_PORT: u16 = 15000;

/// The sidecar of a pod, asked over its admin interface.
#[derive(Debug)]
pub struct Sidecar {
    pods: Api<Pod>,
    pod: String,
    tunnel: Option<Tunnel>,
}

impl Sidecar {
    /// The sidecar of that pod.
    #[must_use]
    pub const fn new(pods: Api<Pod>, pod: String) -> Self {
        Self { pods, pod, tunnel: None }
    }

    /// Reads how the sidecar routes requests to a service port now, and which healthy endpoints it knows.
    ///
    /// # Errors
    /// The sidecar does not answer, or says something that is not understood.
    pub async fn table(&mut self, host: &str, port: u16) -> Result<RouteTable, MeshError> {
        let routes = self.ask("/config_dump?resource=dynamic_route_configs").await?;
        // a port that is declared as TCP has no routes; its listener leads to a cluster
        let listeners = match virtual_host(&routes, &format!("{host}:{port}")) {
            Some(_) => Value::Null,
            None => self.ask("/config_dump?resource=dynamic_listeners").await?,
        };
        let clusters = self.ask("/clusters?format=json").await?;
        read_table(&routes, &listeners, &clusters, host, port)
            .map_err(|reason| MeshError::Unreadable { pod: self.pod.clone(), reason })
    }

    /// What of the configuration that was pushed to it the sidecar has rejected, in its own words.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn rejected(&mut self) -> Result<Vec<String>, MeshError> {
        let mut rejected = Vec::new();
        for resource in ["dynamic_listeners", "dynamic_route_configs", "dynamic_active_clusters"] {
            rejected.extend(read_rejected(&self.ask(&format!("/config_dump?resource={resource}")).await?));
        }
        Ok(rejected)
    }

    /// The version of Envoy.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn envoy(&mut self) -> Result<Option<String>, MeshError> {
        let info = self.ask("/server_info").await?;
        // `REVISION/1.38.0/Clean/RELEASE/BoringSSL`
        let version = info["version"].as_str().unwrap_or_default();
        Ok(version.split('/').nth(1).map(ToOwned::to_owned))
    }

    /// The versions of what the control plane has pushed last, as it numbers them: others as soon as another one pushes.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn pushed(&mut self) -> Result<BTreeSet<String>, MeshError> {
        let routes = self.ask("/config_dump?resource=dynamic_route_configs").await?;
        let versions = items(&routes["configs"]).filter_map(|config| config["version_info"].as_str());
        Ok(versions.map(ToOwned::to_owned).collect())
    }

    /// What the sidecar has counted of the requests that it has sent to services. It counts them where the mesh is told to.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn counters(&mut self) -> Result<Counters, MeshError> {
        Ok(counters(&self.ask("/stats?format=json&filter=outbound").await?))
    }

    /// The configuration that has to do with a service port, without what is another on every mesh.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn configuration(&mut self, host: &str, port: u16) -> Result<Configuration, MeshError> {
        let routes = self.ask("/config_dump?resource=dynamic_route_configs").await?;
        let clusters = self.ask("/config_dump?resource=dynamic_active_clusters").await?;
        let listeners = self.ask("/config_dump?resource=dynamic_listeners").await?;
        Ok(configuration(&routes, &clusters, &listeners, host, port))
    }

    async fn ask(&mut self, path: &str) -> Result<Value, MeshError> {
        // a tunnel that broke off is opened again once
        let body = match self.get(path).await {
            Err(TunnelError::Broken { .. }) => {
                self.tunnel = None;
                self.get(path).await?
            }
            other => other?,
        };
        serde_json::from_slice(&body)
            .map_err(|error| MeshError::Unreadable { pod: self.pod.clone(), reason: error.to_string() })
    }

    async fn get(&mut self, path: &str) -> Result<bytes::Bytes, TunnelError> {
        let tunnel = match &mut self.tunnel {
            Some(tunnel) => tunnel,
            none => none.insert(Tunnel::open(&self.pods, &self.pod, ADMIN_PORT).await?),
        };
        tunnel.get(path).await
    }
}

/// Reads a route table from Envoy's `config_dump` of dynamic route configurations and listeners, and its `clusters` in JSON.
///
/// # Errors
/// The sidecar has no route for the service, or one in words that are not understood.
pub fn read_table(
    routes: &Value,
    listeners: &Value,
    clusters: &Value,
    host: &str,
    port: u16,
) -> Result<RouteTable, String> {
    let domain = format!("{host}:{port}");
    let mut table = RouteTable::default();
    if let Some(virtual_host) = virtual_host(routes, &domain) {
        for route in items(&virtual_host["routes"]) {
            table.routes.push(read_route(route)?);
        }
    } else if let Some(cluster) = connections_to(listeners, host, port) {
        table.unit = Unit::Connection;
        table.routes.push(Route::all_to(cluster));
    } else {
        return Err(format!("it has no route for {domain} yet"));
    }
    for route in &table.routes {
        let Action::Forward(forward) = &route.action else { continue };
        table.clusters.extend(forward.clusters.iter().map(|(cluster, _)| (cluster.clone(), Behind::Nothing)));
    }
    for status in items(&clusters["cluster_statuses"]) {
        let Some(cluster) = status["name"].as_str().and_then(cluster) else { continue };
        let Some(behind) = table.clusters.get_mut(&cluster) else { continue };
        *behind = Behind::Endpoints(items(&status["host_statuses"]).filter_map(endpoint).collect());
    }
    Ok(table)
}

fn read_rejected(dump: &Value) -> Vec<String> {
    let rejected = items(&dump["configs"]).filter_map(|config| {
        let details = config["error_state"]["details"].as_str()?;
        let name = config["name"].as_str().or_else(|| config["route_config"]["name"].as_str());
        let name = name.or_else(|| config["cluster"]["name"].as_str()).unwrap_or("a resource");
        Some(format!("{name}: {details}"))
    });
    rejected.collect()
}

/// The address of an endpoint, if it is healthy.
fn endpoint(status: &Value) -> Option<String> {
    let health = &status["health_status"]["eds_health_status"];
    let socket = &status["address"]["socket_address"];
    let address = socket["address"].as_str().filter(|_| health.is_null() || health == "HEALTHY")?;
    Some(format!("{address}:{}", socket["port_value"].as_u64().unwrap_or(0)))
}

pub(super) fn virtual_host<'a>(routes: &'a Value, domain: &str) -> Option<&'a Value> {
    let mut hosts = items(&routes["configs"]).flat_map(|config| items(&config["route_config"]["virtual_hosts"]));
    hosts.find(|host| host["name"] == domain || items(&host["domains"]).any(|name| name == domain))
}

/// The cluster of a service port to which a listener passes whole connections on.
fn connections_to(listeners: &Value, host: &str, port: u16) -> Option<Cluster> {
    let active = items(&listeners["configs"]).map(|config| &config["active_state"]["listener"]);
    let filters =
        active.flat_map(|listener| items(&listener["filter_chains"])).flat_map(|chain| items(&chain["filters"]));
    filters
        .filter(|filter| filter["name"] == "envoy.filters.network.tcp_proxy")
        .filter_map(|filter| filter["typed_config"]["cluster"].as_str())
        .filter_map(cluster)
        .find(|cluster| cluster.host == host && cluster.port == port)
}

fn read_route(route: &Value) -> Result<Route, String> {
    let matched = &route["match"];
    let mut conditions: Vec<Condition> =
        path_test(matched)?.map(|test| Condition::new(Subject::Path, test)).into_iter().collect();
    for header in items(&matched["headers"]) {
        conditions.push(header_condition(header)?);
    }
    for query in items(&matched["query_parameters"]) {
        let name = query["name"].as_str().unwrap_or_default().to_owned();
        conditions.push(Condition::new(Subject::Query(name), string_test(query)?));
    }
    if items(&matched["dynamic_metadata"]).next().is_some() {
        return Err(format!("it matches claims of tokens, which is not understood: {matched}"));
    }
    conditions.sort();
    conditions.dedup();
    let action = if let Some(action) = route.get("route") {
        Action::Forward(forward(action)?)
    } else if let Some(action) = route.get("redirect") {
        Action::Redirect(redirect(action))
    } else if let Some(action) = route.get("direct_response") {
        let body = action["body"]["inline_string"].as_str().unwrap_or_default().to_owned();
        Action::Respond { status: small(&action["status"]), body }
    } else {
        return Err(format!("it does with requests what is not understood: {route}"));
    };
    let abort = &route["typed_per_filter_config"]["envoy.filters.http.fault"]["abort"];
    let per_million = per_million(&abort["percentage"]);
    let abort = (per_million > 0).then(|| Abort { per_million, status: small(&abort["http_status"]) });
    Ok(Route { conditions, abort, action })
}

fn path_test(matched: &Value) -> Result<Option<Test>, String> {
    let any_case = matched["case_sensitive"] == false;
    let text = |key: &str| matched[key].as_str().map(ToOwned::to_owned);
    Ok(Some(if let Some(prefix) = text("prefix") {
        match prefix {
            prefix if prefix == "/" => return Ok(None),
            prefix if any_case => Test::PrefixInAnyCase(prefix),
            prefix => Test::Prefix(prefix),
        }
    } else if let Some(exact) = text("path") {
        if any_case { Test::ExactInAnyCase(exact) } else { Test::Exact(exact) }
    } else if let Some(prefix) = text("path_separated_prefix") {
        Test::PathPrefix(prefix)
    } else if let Some(regex) = matched["safe_regex"]["regex"].as_str() {
        Test::Regex(Pattern::new(regex))
    } else {
        return Err(format!("it matches paths in a way that is not understood: {matched}"));
    }))
}

fn header_condition(header: &Value) -> Result<Condition, String> {
    let subject = match header["name"].as_str().unwrap_or_default().to_lowercase() {
        name if name == ":method" => Subject::Method,
        name if name == ":authority" => Subject::Authority,
        name if name == ":scheme" => Subject::Scheme,
        name => Subject::Header(name),
    };
    let holds = if header["invert_match"] == true { Holds::No } else { Holds::Yes };
    Ok(Condition { subject, test: string_test(header)?, holds })
}

/// The test of a header or a query parameter.
fn string_test(part: &Value) -> Result<Test, String> {
    let wanted = &part["string_match"];
    Ok(if let Some(exact) = wanted["exact"].as_str() {
        Test::Exact(exact.to_owned())
    } else if let Some(prefix) = wanted["prefix"].as_str() {
        Test::Prefix(prefix.to_owned())
    } else if let Some(regex) = wanted["safe_regex"]["regex"].as_str() {
        Test::Regex(Pattern::new(regex))
    } else if part["present_match"] == true {
        Test::Present
    } else {
        return Err(format!("it matches a header or a parameter in a way that is not understood: {part}"));
    })
}

fn forward(action: &Value) -> Result<Forward, String> {
    let named = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        cluster(name).ok_or_else(|| format!("it routes to `{name}`, which is no service"))
    };
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let mut clusters = match action["weighted_clusters"]["clusters"].as_array() {
        Some(weighted) => {
            let read = weighted.iter().map(|one| Ok((named(&one["name"])?, number(&one["weight"]).unwrap_or(0))));
            read.collect::<Result<Vec<_>, String>>()?
        }
        None => vec![(named(&action["cluster"])?, 1)],
    };
    if let [(_, weight)] = clusters.as_mut_slice() {
        // a single destination gets everything, whatever its weight
        *weight = 1;
    }
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let regex = &action["regex_rewrite"];
    let rewrite = match (text(&action["prefix_rewrite"]), text(&regex["pattern"]["regex"])) {
        (Some(prefix), _) => Some(Rewrite::Matched(prefix)),
        (None, Some(pattern)) => {
            Some(Rewrite::Regex(Pattern::new(&pattern), text(&regex["substitution"]).unwrap_or_default()))
        }
        (None, None) => None,
    };
    let mirrors = items(&action["request_mirror_policies"])
        .map(|policy| Ok((named(&policy["cluster"])?, per_million(&policy["runtime_fraction"]["default_value"]))));
    Ok(Forward {
        clusters,
        rewrite,
        host: text(&action["host_rewrite_literal"]),
        mirrors: mirrors.collect::<Result<_, String>>()?,
        missing: if action["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR" { 500 } else { 503 },
    })
}

fn redirect(action: &Value) -> Redirect {
    let text = |key: &str| action[key].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let port = small(&action["port_redirect"]);
    Redirect {
        status: match action["response_code"].as_str() {
            Some("FOUND") => 302,
            Some("SEE_OTHER") => 303,
            Some("TEMPORARY_REDIRECT") => 307,
            Some("PERMANENT_REDIRECT") => 308,
            _ => 301,
        },
        scheme: text("scheme_redirect"),
        host: text("host_redirect"),
        port: (port > 0).then_some(port),
        path: text("prefix_rewrite")
            .map(RedirectPath::Matched)
            .or_else(|| text("path_redirect").map(RedirectPath::Full)),
    }
}

/// A percentage of Envoy's.
fn per_million(percentage: &Value) -> u32 {
    let numerator = percentage["numerator"].as_u64().unwrap_or(0);
    let factor = match percentage["denominator"].as_str() {
        Some("MILLION") => 1,
        Some("TEN_THOUSAND") => 100,
        _ => 10_000,
    };
    u32::try_from(numerator.saturating_mul(factor)).unwrap_or(u32::MAX)
}

/// A status or a port.
fn small(value: &Value) -> u16 {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

/// `outbound|8080|v1|svc-hello.canary.svc.cluster.local`, as Istio names clusters.
fn cluster(name: &str) -> Option<Cluster> {
    let mut parts = name.split('|');
    (parts.next()? == "outbound").then_some(())?;
    let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    let subset = (!subset.is_empty()).then(|| subset.to_owned());
    Some(Cluster { host: host.to_owned(), port: port.parse().ok()?, subset })
}

pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::routing::RouteDiff;

    const HOST: &str = "svc-hello.canary.svc.cluster.local";

    fn routes() -> Value {
        json!({"configs": [{"route_config": {"name": "8080", "virtual_hosts": [
            {"name": "other.canary.svc.cluster.local:8080", "domains": [], "routes": []},
            {"name": format!("{HOST}:8080"), "domains": ["svc-hello:8080"], "routes": [
                {"match": {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "testers"}}]},
                 "route": {"weighted_clusters": {"clusters": [
                     {"name": format!("outbound|8080|v1|{HOST}"), "weight": 50},
                     {"name": format!("outbound|8080|v2|{HOST}"), "weight": 50}]}}},
                {"match": {"prefix": "/"}, "route": {"cluster": format!("outbound|8080|v1|{HOST}")}},
            ]},
        ]}}]})
    }

    fn clusters() -> Value {
        let endpoint = |address: &str, health: &str| {
            json!({"address": {"socket_address": {"address": address, "port_value": 8080}},
                   "health_status": {"eds_health_status": health}})
        };
        json!({"cluster_statuses": [
            {"name": format!("outbound|8080|v1|{HOST}"), "host_statuses": [endpoint("10.0.0.1", "HEALTHY"), endpoint("10.0.0.2", "UNHEALTHY")]},
            {"name": format!("outbound|9090|v1|{HOST}"), "host_statuses": [endpoint("10.0.0.9", "HEALTHY")]},
            {"name": format!("outbound|8080|v2|{HOST}")},
            {"name": "xds-grpc", "host_statuses": [endpoint("10.0.0.7", "HEALTHY")]},
        ]})
    }

    #[test]
    fn envoys_words_become_a_route_table() {
        let table = read_table(&routes(), &Value::Null, &clusters(), HOST, 8080).unwrap();
        assert_eq!(
            RouteDiff::lines(&table.difference(&RouteTable::default())),
            [
                format!(
                    "+ route 1: end-user is `testers` to subset v1 of {HOST}:8080 (50), subset v2 of {HOST}:8080 (50)"
                ),
                format!("+ route 2: any request to subset v1 of {HOST}:8080"),
                format!("+ endpoints of subset v1 of {HOST}:8080: 10.0.0.1:8080"),
                format!("+ endpoints of subset v2 of {HOST}:8080: none"),
            ]
        );
    }

    #[test]
    fn a_listener_that_passes_connections_on_is_a_route_of_connections() {
        let filter =
            |cluster: &str| json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": cluster}});
        let chain =
            |cluster: String| json!({"filter_chains": [{"filters": [{"name": "istio.stats"}, filter(&cluster)]}]});
        let listeners = json!({"configs": [
            {"name": "virtualOutbound", "active_state": {"listener": chain("PassthroughCluster".to_owned())}},
            {"name": "10.43.0.7_9090", "active_state": {"listener": chain(format!("outbound|9090||{HOST}"))}},
            {"name": "10.43.0.7_8080", "active_state": {"listener": chain(format!("outbound|8080||{HOST}"))}},
        ]});
        let clusters = json!({"cluster_statuses": [{"name": format!("outbound|8080||{HOST}"), "host_statuses": [
            {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 8080}}, "health_status": {"eds_health_status": "HEALTHY"}},
        ]}]});
        let table = read_table(&json!({"configs": []}), &listeners, &clusters, HOST, 8080).unwrap();
        assert_eq!(
            RouteDiff::lines(&table.difference(&RouteTable::default())),
            [
                format!("+ route of connections 1: any request to {HOST}:8080"),
                format!("+ endpoints of {HOST}:8080: 10.0.0.1:8080"),
            ]
        );
        assert!(read_table(&Value::Null, &listeners, &clusters, HOST, 7070).is_err());
    }

    #[test]
    fn a_rejected_push_is_told_in_the_sidecars_words() {
        let dump = json!({"configs": [
            {"name": "10.43.0.7_8080"},
            {"name": "0.0.0.0_9090", "error_state": {"details": "duplicate filter chain", "version_info": "7"}},
        ]});
        assert_eq!(read_rejected(&dump), ["0.0.0.0_9090: duplicate filter chain"]);
    }

    #[test]
    fn a_service_without_a_route_is_told() {
        let error =
            read_table(&routes(), &Value::Null, &clusters(), "none.canary.svc.cluster.local", 8080).unwrap_err();
        assert_eq!(error, "it has no route for none.canary.svc.cluster.local:8080 yet");
    }

    #[test]
    fn a_match_that_is_not_understood_is_told() {
        let mut routes = routes();
        routes["configs"][0]["route_config"]["virtual_hosts"][1]["routes"][1]["match"] = json!({"connect_matcher": {}});
        let error = read_table(&routes, &Value::Null, &clusters(), HOST, 8080).unwrap_err();
        assert_eq!(error, r#"it matches paths in a way that is not understood: {"connect_matcher":{}}"#);
    }
}

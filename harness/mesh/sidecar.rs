use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;

use super::MeshError;
use crate::cluster::{Tunnel, TunnelError};
use crate::routing::{Cluster, Condition, Route, RouteTable, Subject, Test, Unit};

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
        table.routes.push(Route { conditions: BTreeSet::new(), clusters: vec![(cluster, 1)] });
    } else {
        return Err(format!("it has no route for {domain} yet"));
    }
    let wanted: BTreeSet<Cluster> =
        table.routes.iter().flat_map(|route| route.clusters.iter().map(|(cluster, _)| cluster.clone())).collect();
    table.endpoints = wanted.into_iter().map(|cluster| (cluster, BTreeSet::new())).collect();
    for status in items(&clusters["cluster_statuses"]) {
        let Some(cluster) = status["name"].as_str().and_then(cluster) else { continue };
        let Some(addresses) = table.endpoints.get_mut(&cluster) else { continue };
        // one host and port: endpoints of the service's other ports are not looked at
        if status["name"].as_str().and_then(cluster_port) != Some(port) {
            continue;
        }
        for endpoint in items(&status["host_statuses"]) {
            let health = &endpoint["health_status"]["eds_health_status"];
            if let Some(address) = endpoint["address"]["socket_address"]["address"].as_str()
                && (health.is_null() || health == "HEALTHY")
            {
                addresses.insert(address.to_owned());
            }
        }
    }
    Ok(table)
}

fn virtual_host<'a>(routes: &'a Value, domain: &str) -> Option<&'a Value> {
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
        .filter(|name| cluster_port(name) == Some(port))
        .filter_map(cluster)
        .find(|cluster| cluster.host == host)
}

fn read_route(route: &Value) -> Result<Route, String> {
    let mut conditions = BTreeSet::new();
    let matched = &route["match"];
    let path = if let Some(prefix) = matched["prefix"].as_str() {
        (prefix != "/").then(|| Test::Prefix(prefix.to_owned()))
    } else if let Some(exact) = matched["path"].as_str() {
        Some(Test::Exact(exact.to_owned()))
    } else if let Some(regex) = matched["safe_regex"]["regex"].as_str() {
        Some(Test::Regex(regex.to_owned()))
    } else {
        return Err(format!("it matches paths in a way that is not understood: {matched}"));
    };
    conditions.extend(path.map(|test| Condition { subject: Subject::Path, test }));
    for header in items(&matched["headers"]) {
        let wanted = &header["string_match"];
        let test = if let Some(exact) = wanted["exact"].as_str() {
            Test::Exact(exact.to_owned())
        } else if let Some(prefix) = wanted["prefix"].as_str() {
            Test::Prefix(prefix.to_owned())
        } else if let Some(regex) = wanted["safe_regex"]["regex"].as_str() {
            Test::Regex(regex.to_owned())
        } else if header["present_match"] == true {
            Test::Present
        } else {
            return Err(format!("it matches a header in a way that is not understood: {header}"));
        };
        let name = header["name"].as_str().unwrap_or_default().to_lowercase();
        conditions.insert(Condition { subject: Subject::Header(name), test });
    }
    let action = &route["route"];
    let named = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        cluster(name).ok_or_else(|| format!("it routes to `{name}`, which is no service"))
    };
    let clusters = if let Some(weighted) = action["weighted_clusters"]["clusters"].as_array() {
        weighted
            .iter()
            .map(|entry| {
                let weight = entry["weight"].as_u64().unwrap_or(0);
                Ok((named(&entry["name"])?, u32::try_from(weight).unwrap_or(u32::MAX)))
            })
            .collect::<Result<_, String>>()?
    } else {
        vec![(named(&action["cluster"])?, 1)]
    };
    Ok(Route { conditions, clusters })
}

/// `outbound|8080|v1|svc-hello.canary.svc.cluster.local`, as Istio names clusters.
fn cluster(name: &str) -> Option<Cluster> {
    let mut parts = name.split('|');
    (parts.next()? == "outbound").then_some(())?;
    let (_port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Cluster { host: host.to_owned(), subset: (!subset.is_empty()).then(|| subset.to_owned()) })
}

fn cluster_port(name: &str) -> Option<u16> {
    name.split('|').nth(1)?.parse().ok()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The endpoints that the manifests' labels select among these pods.
pub(super) fn endpoints_of<'a>(
    pods: impl IntoIterator<Item = &'a crate::cluster::PodState>,
    labels: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    pods.into_iter()
        .filter(|pod| pod.ready && labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
        .filter_map(|pod| pod.address.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            table.difference(&RouteTable::default()),
            [
                format!("+ route 1: end-user is `testers` to subset v1 of {HOST} (50), subset v2 of {HOST} (50)"),
                format!("+ route 2: any request to subset v1 of {HOST}"),
                format!("+ endpoints of subset v1 of {HOST}: 10.0.0.1"),
                format!("+ endpoints of subset v2 of {HOST}: none"),
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
            {"address": {"socket_address": {"address": "10.0.0.1"}}, "health_status": {"eds_health_status": "HEALTHY"}},
        ]}]});
        let table = read_table(&json!({"configs": []}), &listeners, &clusters, HOST, 8080).unwrap();
        assert_eq!(
            table.difference(&RouteTable::default()),
            [format!("+ route of connections 1: any request to {HOST}"), format!("+ endpoints of {HOST}: 10.0.0.1")]
        );
        assert!(read_table(&Value::Null, &listeners, &clusters, HOST, 7070).is_err());
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

use std::collections::BTreeMap;

use serde_json::Value;

use super::sidecar::{items, virtual_host};
use crate::events::Configuration;

/// What is another on every mesh, or at every push, and says nothing of what the mesh does.
const PASSING: [&str; 10] = [
    "version_info",
    "last_updated",
    "socket_address",
    "client_status",
    "@type",
    "domains",
    "stat_prefix",
    "alt_stat_name",
    "additional_addresses",
    // the names of the objects that it was made from
    "filter_metadata",
];

/// Reads Envoy's `config_dump` of dynamic routes, clusters and listeners.
pub(super) fn configuration(
    routes: &Value,
    clusters: &Value,
    listeners: &Value,
    host: &str,
    port: u16,
) -> Configuration {
    let mut values = BTreeMap::new();
    if let Some(virtual_host) = virtual_host(routes, &format!("{host}:{port}")) {
        flatten("route", virtual_host, &mut values);
    }
    for config in items(&clusters["configs"]) {
        let cluster = &config["cluster"];
        let name = cluster["name"].as_str().unwrap_or_default();
        // `outbound|8080|v1|HOST`; since 1.26 with a `;` and more behind it in some places
        let mut parts = name.split('|');
        let own = parts.next() == Some("outbound") && parts.next() == Some(&port.to_string());
        let subset = parts.next().unwrap_or_default();
        if own && parts.next().is_some_and(|of| of.split(';').next() == Some(host)) {
            let subset = if subset.is_empty() { "all" } else { subset };
            flatten(&format!("cluster {subset}"), cluster, &mut values);
        }
    }
    let route_config = items(&routes["configs"])
        .map(|config| &config["route_config"])
        .find(|config| items(&config["virtual_hosts"]).any(|own| own["name"] == format!("{host}:{port}")));
    let route_config = route_config.map(|config| &config["name"]);
    for listener in items(&listeners["configs"]).map(|config| &config["active_state"]["listener"]) {
        let chains = items(&listener["filter_chains"]).chain([&listener["default_filter_chain"]]);
        for filter in chains.flat_map(|chain| items(&chain["filters"])) {
            let named = &filter["typed_config"]["rds"]["route_config_name"];
            if named.is_string() && Some(named) == route_config {
                flatten("listener", &filter["typed_config"], &mut values);
            }
        }
    }
    values.into()
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| !PASSING.contains(&key.as_str())) {
                flatten(&format!("{path}/{key}"), value, into);
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            into.insert(path.to_owned(), items.join(", "));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // what has a name is the same wherever it stands
                let key = item["name"].as_str().map_or_else(|| index.to_string(), ToOwned::to_owned);
                flatten(&format!("{path}/{key}"), item, into);
            }
        }
        Value::Null => {}
        other => {
            into.insert(path.to_owned(), plain(other));
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOST: &str = "svc-hello.canary.svc.cluster.local";

    fn read(version: &str, retry_on: &str, ip: &str) -> Configuration {
        let routes = json!({"configs": [{"version_info": version, "route_config": {"name": "8080", "virtual_hosts": [
            {"name": format!("{HOST}:8080"), "domains": [ip], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "c", "retry_policy": {"retry_on": retry_on}}},
            ]},
            {"name": "other:8080", "routes": [{"route": {"cluster": ip}}]},
        ]}}]});
        let clusters = json!({"configs": [
            {"version_info": version, "cluster": {"name": format!("outbound|8080|v1|{HOST}"), "lb_policy": "LEAST_REQUEST"}},
            {"cluster": {"name": format!("outbound|9090|v1|{HOST}"), "lb_policy": version}},
        ]});
        let filter = |route: &str| json!({"filters": [{"typed_config": {"rds": {"route_config_name": route}, "http_filters": [{"name": version}]}}]});
        let listeners = json!({"configs": [
            {"active_state": {"listener": {"filter_chains": [filter("9090")]}}},
            {"active_state": {"listener": {"default_filter_chain": filter("8080"), "address": ip}}},
        ]});
        configuration(&routes, &clusters, &listeners, HOST, 8080)
    }

    #[test]
    fn what_passes_is_left_out_and_the_rest_has_paths() {
        let one = read("1", "503", "10.0.0.1");
        assert!(one.changes(&read("1", "503", "10.0.0.2")).is_empty());
        let expected = [
            ("cluster v1/lb_policy", "LEAST_REQUEST"),
            ("cluster v1/name", "outbound|8080|v1|svc-hello.canary.svc.cluster.local"),
            ("listener/http_filters/1/name", "1"),
            ("listener/rds/route_config_name", "8080"),
            ("route/name", "svc-hello.canary.svc.cluster.local:8080"),
            ("route/routes/0/match/prefix", "/"),
            ("route/routes/0/route/cluster", "c"),
            ("route/routes/0/route/retry_policy/retry_on", "503"),
        ];
        let values: Vec<_> = one.values().iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn a_route_that_changed_is_told_before_a_filter() {
        let changes = read("1", "503", "").changes(&read("2", "reset", ""));
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "route/routes/0/route/retry_policy/retry_on",
                "listener/http_filters/1/name",
                "listener/http_filters/2/name"
            ]
        );
        assert_eq!((changes[0].before.as_deref(), changes[0].after.as_deref()), (Some("503"), Some("reset")));
    }
}

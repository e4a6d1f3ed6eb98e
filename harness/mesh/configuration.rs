use std::collections::BTreeMap;

use serde_json::Value;

use super::envoy::{ConfigDump, cluster, items};
use crate::events::Configuration;

/// Keys whose values differ between clusters or pushes without a difference in behaviour.
const IGNORED: [&str; 10] = [
    "version_info",
    "last_updated",
    "socket_address",
    "client_status",
    "@type",
    "domains",
    "stat_prefix",
    "alt_stat_name",
    "additional_addresses",
    // the names of the Istio objects behind a resource
    "filter_metadata",
];

/// Reads the routes, clusters and listeners of a service port.
pub(super) fn configuration(dump: &ConfigDump, host: &str, port: u16) -> Configuration {
    let mut values = BTreeMap::new();
    let virtual_host = dump.virtual_host(host, port);
    if let Some(virtual_host) = &virtual_host {
        flatten("route", virtual_host.value, &mut values);
    }
    for config in items(&dump.clusters["configs"]).map(|config| &config["cluster"]) {
        let cluster = config["name"].as_str().and_then(cluster);
        if let Some(cluster) = cluster.filter(|cluster| cluster.host == host && cluster.port == port) {
            flatten(&format!("cluster {}", cluster.subset.as_deref().unwrap_or("all")), config, &mut values);
        }
    }
    let route_config = virtual_host.and_then(|virtual_host| virtual_host.route_config);
    for listener in dump.active_listeners() {
        let chains = items(&listener["filter_chains"]).chain([&listener["default_filter_chain"]]);
        for filter in chains.flat_map(|chain| items(&chain["filters"])) {
            let named = filter["typed_config"]["rds"]["route_config_name"].as_str();
            if named.is_some() && named == route_config {
                flatten("listener", &filter["typed_config"], &mut values);
            }
        }
    }
    Configuration(values)
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| !IGNORED.contains(&key.as_str())) {
                flatten(&format!("{path}/{key}"), value, into);
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            into.insert(path.to_owned(), items.join(", "));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // a named element keeps its path when others are inserted before it
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
        let dump = ConfigDump { routes, listeners, clusters, ..ConfigDump::default() };
        configuration(&dump, HOST, 8080)
    }

    #[test]
    fn ignored_keys_are_left_out_and_values_have_paths() {
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
        let values: Vec<_> = one.0.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn a_changed_route_comes_before_a_changed_filter() {
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

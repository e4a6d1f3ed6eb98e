use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::envoy::{cluster, items};
use crate::routing::{Cluster, HashTable, RouteTable, Tls, Upstream};

/// Reads the protocols towards the endpoints of the clusters of a table, where they are not the default, from a dump of clusters.
pub(super) fn upstreams(clusters: &Value, table: &RouteTable) -> BTreeMap<Cluster, Upstream> {
    let configs = items(&clusters["configs"]).map(|config| &config["cluster"]);
    let named = configs.filter_map(|config| Some((cluster(config["name"].as_str()?)?, upstream(config))));
    named.filter(|(cluster, own)| table.clusters.contains_key(cluster) && *own != Upstream::default()).collect()
}

/// The regular expression for the names of a table's clusters, as part of a URL; none if it has no cluster.
pub(super) fn names(table: &RouteTable) -> Option<String> {
    let plain = |host: &str| host.replace(|one: char| !one.is_ascii_alphanumeric() && one != '-', ".");
    let hosts: BTreeSet<String> = table.clusters.keys().map(|cluster| plain(&cluster.host)).collect();
    let hosts: Vec<String> = hosts.into_iter().collect();
    // `%7C` is `|`
    (!hosts.is_empty()).then(|| format!(".*({}).*", hosts.join("%7C")))
}

fn upstream(cluster: &Value) -> Upstream {
    let matches = || items(&cluster["transport_socket_matches"]);
    let has_labels = |one: &Value| one["match"].as_object().is_some_and(|labels| !labels.is_empty());
    // the socket for endpoints that do not announce Istio's mutual TLS
    let plain =
        matches().find(|one| !has_labels(one)).map_or(&cluster["transport_socket"], |one| &one["transport_socket"]);
    let context = &plain["typed_config"]["common_tls_context"];
    let mut certificates = items(&context["tls_certificate_sds_secret_configs"]);
    let tls = if !context.is_null() {
        // the certificate that Istio gives to each sidecar
        if certificates.any(|one| one["name"] == "default") { Tls::Istio } else { Tls::Server }
    } else if matches().any(|one| one["match"]["tlsMode"] == "istio") {
        Tls::Automatic
    } else {
        Tls::Disabled
    };
    let options =
        &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let table = hash_table(cluster);
    Upstream { tls, table, is_http2: !options["explicit_http_config"]["http2_protocol_options"].is_null() }
}

/// Where a cluster finds the endpoint of a hash; none if no hash decides.
fn hash_table(cluster: &Value) -> Option<HashTable> {
    // a number of 64 bits is a text in JSON
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    match cluster["lb_policy"].as_str()? {
        "RING_HASH" => {
            let size = number(&cluster["ring_hash_lb_config"]["minimum_ring_size"]);
            Some(size.map_or(HashTable::RING, HashTable::Ring))
        }
        "MAGLEV" => {
            let size = number(&cluster["maglev_lb_config"]["table_size"]);
            Some(size.map_or(HashTable::MAGLEV, HashTable::Maglev))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::routing::Endpoints;

    fn table() -> RouteTable {
        let name = |host: &str| Cluster { host: host.to_owned(), port: 80, subset: None };
        let clusters = ["svc.a.svc.cluster.local", "*.acme.io"].map(|host| (name(host), Endpoints::NoCluster));
        RouteTable { clusters: clusters.into(), ..RouteTable::default() }
    }

    fn tls(certificate: &str) -> Value {
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {"common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": certificate}],
        }}})
    }

    fn raw() -> Value {
        json!({"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": "raw"}})
    }

    #[rstest]
    #[case::none(json!({}), Tls::Disabled)]
    #[case::automatic(
        json!({"transport_socket_matches": [
            {"match": {"tlsMode": "istio"}, "transport_socket": tls("default")}, {"match": {}, "transport_socket": raw()},
        ]}),
        Tls::Automatic
    )]
    #[case::of_istio(json!({"transport_socket": tls("default")}), Tls::Istio)]
    #[case::of_servers(json!({"transport_socket": tls("file-cert:/a~/b")}), Tls::Server)]
    #[case::of_servers_without_a_client_certificate(
        json!({"transport_socket": {"typed_config": {"common_tls_context": {"alpn_protocols": ["h2"]}}}}),
        Tls::Server
    )]
    #[case::of_istio_in_an_ambient_mesh(
        json!({"transport_socket_matches": [
            {"match": {"tunnel": "http"}, "transport_socket": raw()}, {"name": "tlsMode-istio", "transport_socket": tls("default")},
        ]}),
        Tls::Istio
    )]
    #[case::none_in_an_ambient_mesh(
        json!({"transport_socket_matches": [
            {"match": {"tunnel": "http"}, "transport_socket": raw()}, {"match": {}, "transport_socket": raw()},
        ]}),
        Tls::Disabled
    )]
    fn tls_is_read_from_the_sockets_of_a_cluster(#[case] cluster: Value, #[case] expected: Tls) {
        assert_eq!(upstream(&cluster), Upstream { tls: expected, is_http2: false, table: None });
    }

    #[rstest]
    #[case::http2(json!({"explicit_http_config": {"http2_protocol_options": {}}}), true)]
    #[case::http1(json!({"explicit_http_config": {"http_protocol_options": {}}}), false)]
    #[case::as_the_client(json!({"use_downstream_protocol_config": {"http2_protocol_options": {}}}), false)]
    fn http2_is_read_from_the_options_of_a_cluster(#[case] options: Value, #[case] expected: bool) {
        let options = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options});
        let cluster = json!({"typed_extension_protocol_options": options});
        assert_eq!(upstream(&cluster).is_http2, expected);
    }

    #[rstest]
    #[case::least_request(json!({"lb_policy": "LEAST_REQUEST"}), None)]
    #[case::round_robin(json!({}), None)]
    #[case::ring(
        json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": "4096"}}),
        Some(HashTable::Ring(4096))
    )]
    #[case::ring_of_the_default_size(json!({"lb_policy": "RING_HASH"}), Some(HashTable::Ring(1024)))]
    #[case::maglev(json!({"lb_policy": "MAGLEV"}), Some(HashTable::Maglev(65_537)))]
    #[case::maglev_of_a_size(
        json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 101}}),
        Some(HashTable::Maglev(101))
    )]
    fn the_table_of_a_hash_is_read_from_a_cluster(#[case] cluster: Value, #[case] expected: Option<HashTable>) {
        assert_eq!(upstream(&cluster).table, expected);
    }

    #[test]
    fn clusters_of_the_table_alone_are_read() {
        let config = |host: &str| json!({"cluster": {"name": format!("outbound|80||{host}")}});
        let dump = json!({"configs": [config("svc.a.svc.cluster.local"), config("next.a.svc.cluster.local")]});
        let read = upstreams(&dump, &table());
        let hosts: Vec<&str> = read.keys().map(|cluster| &*cluster.host).collect();
        assert_eq!(hosts, ["svc.a.svc.cluster.local"]);
        assert_eq!(names(&table()).as_deref(), Some(".*(..acme.io%7Csvc.a.svc.cluster.local).*"));
        assert_eq!(names(&RouteTable::default()), None);
    }
}

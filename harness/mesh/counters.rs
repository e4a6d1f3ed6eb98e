use serde_json::Value;

use super::envoy::items;
use crate::events::Counters;

/// Reads the counters of requests to services from the response of `/stats?format=json`.
pub(super) fn counters(stats: &Value) -> Counters {
    let known = items(&stats["stats"]).filter_map(|stat| {
        let (name, value) = (stat["name"].as_str()?, stat["value"].as_u64()?);
        if !name.starts_with("cluster.outbound") && !name.starts_with("http.outbound") {
            return None;
        }
        let ends = |counter: &&str| name.strip_suffix(*counter).is_some_and(|rest| rest.ends_with('.'));
        Counters::names().find(ends).map(|counter| (counter, value))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn counters_of_services_are_summed() {
        let stats = |retries: u64, total: u64| {
            json!({"stats": [
                {"name": "cluster.outbound|8080|v1|svc-hello.canary.svc.cluster.local;.upstream_rq_total", "value": total},
                {"name": "cluster.outbound|8080|v2|svc-hello.canary.svc.cluster.local;.upstream_rq_total", "value": 1},
                {"name": "cluster.outbound|8080|v1|svc-hello.canary.svc.cluster.local;.upstream_rq_retry", "value": retries},
                {"name": "cluster.outbound|8080|v1|svc-hello.canary.svc.cluster.local;.upstream_rq_retry_limit_exceeded", "value": 2},
                {"name": "cluster.outbound|8080|v1|svc-hello.canary.svc.cluster.local;.ssl.handshake", "value": 3},
                {"name": "cluster.xds-grpc.upstream_rq_total", "value": 99},
                {"name": "http.outbound_0.0.0.0_8080;.no_route", "value": 0},
                {"histograms": {}},
            ]})
        };
        let since = &counters(&stats(7, 13)) - &counters(&stats(1, 4));
        assert_eq!((since.attempts(), since.retries(), since.connections()), (9, 6, (0, 0)));
        assert!(since.flags().is_empty());
        assert_eq!(counters(&stats(7, 13)).flags(), BTreeMap::from([("URX", 2)]));
        assert!(!counters(&json!({"stats": []})).is_counting());
    }
}

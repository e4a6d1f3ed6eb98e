use std::collections::BTreeMap;
use std::ops::Sub;

use serde_json::Value;

use super::sidecar::items;

/// Envoy's counters of what went wrong with a request, with the response flag that its access log gives such a request.
const FLAGS: [(&str, &str); 8] = [
    ("no_route", "NR"),
    ("upstream_cx_connect_fail", "UF"),
    ("upstream_cx_connect_timeout", "UF"),
    ("upstream_cx_none_healthy", "UH"),
    ("upstream_cx_destroy_remote_with_active_rq", "UC"),
    ("upstream_rq_pending_overflow", "UO"),
    ("upstream_rq_retry_limit_exceeded", "URX"),
    ("upstream_rq_timeout", "UT"),
];
const ATTEMPTS: &str = "upstream_rq_total";
const RETRIES: &str = "upstream_rq_retry";
const CONNECTIONS: &str = "upstream_cx_total";
const HANDSHAKES: &str = "ssl.handshake";

/// What a sidecar has counted of the requests that it sends to services, all services together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    /// Reads Envoy's `stats` in JSON.
    #[must_use]
    pub fn read(stats: &Value) -> Self {
        let known = FLAGS.iter().map(|(counter, _)| *counter);
        let known: Vec<&str> = known.chain([ATTEMPTS, RETRIES, CONNECTIONS, HANDSHAKES]).collect();
        let mut counters = BTreeMap::new();
        for stat in items(&stats["stats"]) {
            let (Some(name), Some(value)) = (stat["name"].as_str(), stat["value"].as_u64()) else { continue };
            if !name.starts_with("cluster.outbound") && !name.starts_with("http.outbound") {
                continue;
            }
            let ends = |counter: &&&str| name.strip_suffix(**counter).is_some_and(|rest| rest.ends_with('.'));
            if let Some(counter) = known.iter().find(ends) {
                *counters.entry(*counter).or_default() += value;
            }
        }
        Self(counters)
    }

    fn of(&self, counter: &str) -> u64 {
        self.0.get(counter).copied().unwrap_or(0)
    }

    /// Whether anything is counted.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        self.0.contains_key(ATTEMPTS)
    }

    /// Requests to servers, those that were tried again counted each time.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.of(ATTEMPTS)
    }

    /// Requests that were tried again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.of(RETRIES)
    }

    /// Connections to servers, and how many of them are secured by TLS of the mesh.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        (self.of(CONNECTIONS), self.of(HANDSHAKES))
    }

    /// Envoy's response flags of what went wrong, with how often.
    #[must_use]
    pub fn flags(&self) -> BTreeMap<&'static str, u64> {
        let mut flags = BTreeMap::new();
        for (counter, flag) in FLAGS {
            let count = self.of(counter);
            if count > 0 {
                *flags.entry(flag).or_default() += count;
            }
        }
        flags
    }
}

impl Sub for &Counters {
    type Output = Counters;

    /// What was counted since.
    fn sub(self, before: &Counters) -> Counters {
        Counters(self.0.iter().map(|(name, count)| (*name, count.saturating_sub(before.of(name)))).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_counted_of_services_is_summed_by_its_meaning() {
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
        let since = &Counters::read(&stats(7, 13)) - &Counters::read(&stats(1, 4));
        assert_eq!((since.attempts(), since.retries(), since.connections()), (9, 6, (0, 0)));
        assert!(since.flags().is_empty());
        assert_eq!(Counters::read(&stats(7, 13)).flags(), BTreeMap::from([("URX", 2)]));
        assert!(!Counters::read(&json!({"stats": []})).is_counting());
    }
}

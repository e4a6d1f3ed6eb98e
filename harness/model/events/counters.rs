use std::collections::BTreeMap;
use std::ops::Sub;

/// Envoy's counters of failed requests, with the response flag that its access log gives such a request.
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

/// A sidecar's counters of the requests that it sends to services, summed over all services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    /// The names of the counters, as Envoy calls them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FLAGS.into_iter().map(|(counter, _)| counter).chain([ATTEMPTS, RETRIES, CONNECTIONS, HANDSHAKES])
    }

    fn of(&self, counter: &str) -> u64 {
        self.0.get(counter).copied().unwrap_or(0)
    }

    /// Whether the sidecar counts requests to services.
    pub fn is_counting(&self) -> bool {
        self.0.contains_key(ATTEMPTS)
    }

    /// Requests to servers, each retry counted.
    pub fn attempts(&self) -> u64 {
        self.of(ATTEMPTS)
    }

    /// Retries.
    pub fn retries(&self) -> u64 {
        self.of(RETRIES)
    }

    /// Connections to servers, and how many of them use the mesh's mutual TLS.
    pub fn connections(&self) -> (u64, u64) {
        (self.of(CONNECTIONS), self.of(HANDSHAKES))
    }

    /// Envoy's response flags of failed requests, counted.
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

impl FromIterator<(&'static str, u64)> for Counters {
    /// Sums values of the same name, one of [`Counters::names`].
    fn from_iter<I: IntoIterator<Item = (&'static str, u64)>>(values: I) -> Self {
        let mut counters = Self::default();
        for (name, value) in values {
            *counters.0.entry(name).or_default() += value;
        }
        counters
    }
}

impl Sub for &Counters {
    type Output = Counters;

    /// What was counted since `before`.
    fn sub(self, before: &Counters) -> Counters {
        Counters(self.0.iter().map(|(name, count)| (*name, count.saturating_sub(before.of(name)))).collect())
    }
}

use std::collections::{BTreeMap, BTreeSet};

use displaydoc::Display;

use super::configuration::Configuration;
use super::counters::Counters;

/// The behaviour of a mesh in a stage that no claim is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fingerprint {
    /// The requests of the stage's sample.
    pub sent: u64,
    /// The requests that the servers counted during the sample: more than were sent where some were retried. None where servers do not count.
    pub served: Option<u64>,
    /// What the client's sidecar counted during the sample; none where it does not count.
    pub counters: Option<Counters>,
    /// Whether connections to servers use the mesh's mutual TLS; none where the sidecar does not count connections.
    pub secured: Option<bool>,
    /// The order in which servers were picked, for each population and path.
    pub order: BTreeMap<(String, String), PickOrder>,
    /// How sidecars are injected into pods.
    pub injection: BTreeSet<Injection>,
    /// The configuration of the client's sidecar for the service.
    pub configuration: Configuration,
}

impl Fingerprint {
    /// Requests to servers for each request of the client: 1 where none is retried.
    #[expect(clippy::cast_precision_loss, reason = "numbers of requests are far below 2^52")]
    pub fn attempts(&self) -> Option<f64> {
        let served = self.served?;
        (self.sent > 0).then(|| served as f64 / self.sent as f64)
    }
}

/// The order in which servers are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
pub enum PickOrder {
    /// There is one server.
    #[displaydoc("one server")]
    One,
    /// Each pick is independent of the one before.
    #[displaydoc("drawn each time")]
    Drawn,
    /// One server after the other.
    #[displaydoc("in turns")]
    Turns,
    /// The same server several times in a row.
    #[displaydoc("the same in a row")]
    Sticks,
}

/// How a sidecar is injected into a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display)]
pub enum Injection {
    /// As an ordinary container.
    #[displaydoc("a container")]
    Classic,
    /// As an init container that keeps running (a native sidecar), which starts before the other containers and ends after them.
    #[displaydoc("a native sidecar")]
    Native,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_requests_served_for_each_one_sent() {
        let print = Fingerprint { sent: 200, served: Some(600), ..Fingerprint::default() };
        assert_eq!(print.attempts(), Some(3.0));
        assert_eq!(Fingerprint { sent: 200, ..Fingerprint::default() }.attempts(), None);
    }
}

//! The part of traffic policies about balancing by a hash.

use std::collections::BTreeMap;

use super::hash_key::{HashKey, HashTable};
use super::rule::Part;
use crate::scenario::Origin;

/// A `consistentHash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashRule {
    /// What is hashed; nothing if it names no key.
    pub key: Option<HashKey>,
    pub table: HashTable,
    pub origin: Origin,
}

/// The part of a traffic policy about load balancing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BalancingPolicy {
    /// None if the policy does not mention load balancing.
    all: Option<Balancing>,
    /// A port does not inherit from the policy.
    ports: BTreeMap<u16, Balancing>,
}

/// The load balancing of a host, a subset or a port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Balancing {
    WithoutHash,
    Hash(HashRule),
}

impl Balancing {
    /// Reads the `loadBalancer` of a policy.
    fn read(balancer: &Part<'_>) -> Self {
        HashRule::read(balancer).map_or(Self::WithoutHash, Self::Hash)
    }

    const fn hash(&self) -> Option<&HashRule> {
        match self {
            Self::WithoutHash => None,
            Self::Hash(hash) => Some(hash),
        }
    }
}

impl HashRule {
    /// Reads the `loadBalancer` of a policy.
    fn read(balancer: &Part<'_>) -> Option<Self> {
        let part = balancer.get("consistentHash");
        if !part.is_there() {
            return None;
        }
        let (cookie, maglev) = (part.get("httpCookie"), part.get("maglev"));
        let text = |part: Part<'_>| part.owned().filter(|text| !text.is_empty());
        let key = if let Some(name) = text(part.get("httpHeaderName")) {
            Some(HashKey::Header(name.to_lowercase()))
        } else if cookie.is_there() {
            Some(HashKey::Cookie {
                name: cookie.get("name").owned().unwrap_or_default(),
                path: cookie.get("path").owned().unwrap_or_default(),
                ttl: cookie.get("ttl").is_there().then(|| cookie.get("ttl").duration().unwrap_or_default()),
            })
        } else if part.get("useSourceIp").value == true {
            Some(HashKey::SourceIp)
        } else {
            text(part.get("httpQueryParameterName")).map(HashKey::Query)
        };
        let size = |part: Part<'_>| part.value.as_u64().filter(|size| *size > 0);
        let table = if maglev.is_there() {
            size(maglev.get("tableSize")).map_or(HashTable::MAGLEV, HashTable::Maglev)
        } else {
            let ring = part.get("ringHash");
            let written = if ring.is_there() { ring.get("minimumRingSize") } else { part.get("minimumRingSize") };
            size(written).map_or(HashTable::RING, HashTable::Ring)
        };
        Some(Self { key, table, origin: part.origin() })
    }
}

impl BalancingPolicy {
    /// None if there is no policy.
    pub fn read(part: &Part<'_>) -> Option<Self> {
        let settings = part.get("portLevelSettings");
        let ports = settings.items().filter_map(|own| {
            Some((own.get("port").get("number").number()?, Balancing::read(&own.get("loadBalancer"))))
        });
        let balancer = part.get("loadBalancer");
        part.is_there()
            .then(|| Self { all: balancer.is_there().then(|| Balancing::read(&balancer)), ports: ports.collect() })
    }

    /// The balancing of a cluster of this port; none if the policy does not mention it.
    fn of_cluster(&self, port: u16) -> Option<&Balancing> {
        self.ports.get(&port).or(self.all.as_ref())
    }

    fn of_port(&self, port: Option<u16>) -> Option<&HashRule> {
        self.ports.get(&port?)?.hash()
    }

    fn of_all(&self) -> Option<&HashRule> {
        self.all.as_ref()?.hash()
    }
}

/// The hash with which a cluster chooses an endpoint. A subset inherits what its policy does not mention.
pub(super) fn of_cluster<'p>(
    host: Option<&'p BalancingPolicy>,
    subset: Option<&'p BalancingPolicy>,
    port: u16,
) -> Option<&'p HashRule> {
    subset.and_then(|policy| policy.of_cluster(port)).or_else(|| host?.of_cluster(port))?.hash()
}

/// The hash of requests to a destination of a rule. Settings of a port count only if the destination names the port.
pub(super) fn of_destination<'p>(
    host: Option<&'p BalancingPolicy>,
    subset: Option<&'p BalancingPolicy>,
    port: Option<u16>,
) -> Option<&'p HashRule> {
    subset
        .and_then(|policy| policy.of_port(port).or_else(|| policy.of_all()))
        .or_else(|| host?.of_port(port).or_else(|| host?.of_all()))
}

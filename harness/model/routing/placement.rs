//! Where pods run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The label of a pod that tells another locality than that of its node: `REGION.ZONE.SUBZONE`.
const LABEL: &str = "istio-locality";

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";

/// A place, as Istio knows it. Parts that are not told are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Locality {
    region: String,
    zone: String,
    subzone: String,
}

/// Where a pod runs, as far as its manifest tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Placement {
    /// The manifest tells nothing.
    #[default]
    Untold,
    /// The manifest asks for nodes by their topology, but does not name one region and one zone.
    Partial,
    /// The locality.
    In(Locality),
}

impl Locality {
    /// The locality in the value of a label.
    fn of_label(value: &str) -> Self {
        let mut parts = value.split('.').map(ToOwned::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }

    /// The priority of endpoints there for a client here, by the targets of a failover between regions: the lowest goes first.
    fn priority(&self, other: &Self, failover: &[(String, String)]) -> u8 {
        if self.region != other.region {
            let target = failover.iter().find(|(from, _)| *from == self.region);
            return if target.is_none_or(|(_, to)| *to == other.region) { 3 } else { 4 };
        }
        match (self.zone == other.zone, self.subzone == other.subzone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        }
    }
}

impl Placement {
    /// The placement of a pod with these labels, node selector and node affinity. Nodes are taken to have no subzone, unless the selector
    /// names it.
    pub fn of(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>, affinity: &Value) -> Self {
        if let Some(label) = labels.get(LABEL).filter(|label| !label.is_empty()) {
            return Self::In(Locality::of_label(label));
        }
        let affinity = affinity.to_string();
        let asks = [REGION, ZONE, SUBZONE].iter().any(|key| selector.contains_key(*key) || affinity.contains(*key));
        match (selector.get(REGION), selector.get(ZONE)) {
            (Some(region), Some(zone)) => {
                let subzone = selector.get(SUBZONE).cloned().unwrap_or_default();
                Self::In(Locality { region: region.clone(), zone: zone.clone(), subzone })
            }
            _ if asks => Self::Partial,
            _ => Self::Untold,
        }
    }

    /// The region, the zone and the subzone, each empty if it is not told.
    pub fn parts(&self) -> [&str; 3] {
        self.locality().map_or([""; 3], |own| [&own.region, &own.zone, &own.subzone])
    }

    const fn locality(&self) -> Option<&Locality> {
        match self {
            Self::In(locality) => Some(locality),
            Self::Untold | Self::Partial => None,
        }
    }

    /// The locality of a pod that sends requests. Of one whose label tells no zone, Istio may take that of the node.
    fn of_client(&self) -> Option<&Locality> {
        self.locality().filter(|own| !own.zone.is_empty())
    }

    /// The priority of the endpoints of a pod for a client that is placed like this: the lowest goes first. The same for all where the
    /// client's place is not known.
    pub(super) fn priority(&self, pod: &Self, failover: &[(String, String)]) -> u8 {
        let places = self.of_client().zip(pod.locality());
        places.map_or(0, |(client, pod)| client.priority(pod, failover))
    }

    /// Whether it is told which of these pods are the nearest to a client that is placed like this.
    pub(super) fn tells_nearest(&self, pods: &BTreeSet<&Self>) -> bool {
        let are_told = pods.iter().all(|pod| pod.locality().is_some());
        are_told && (pods.len() < 2 || self.of_client().is_some())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn pairs(written: &[(&str, &str)]) -> BTreeMap<String, String> {
        written.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn there(region: &str, zone: &str, subzone: &str) -> Placement {
        let [region, zone, subzone] = [region, zone, subzone].map(str::to_owned);
        Placement::In(Locality { region, zone, subzone })
    }

    #[rstest]
    #[case::nothing(&[], &[], Placement::Untold)]
    #[case::another_selector(&[], &[("disk", "ssd")], Placement::Untold)]
    #[case::region_and_zone(&[], &[(REGION, "r"), (ZONE, "a")], there("r", "a", ""))]
    #[case::subzone(&[], &[(REGION, "r"), (ZONE, "a"), (SUBZONE, "1")], there("r", "a", "1"))]
    #[case::zone_alone(&[], &[(ZONE, "a")], Placement::Partial)]
    #[case::region_alone(&[], &[(REGION, "r")], Placement::Partial)]
    #[case::label_before_the_node(&[(LABEL, "s.b")], &[(REGION, "r"), (ZONE, "a")], there("s", "b", ""))]
    #[case::label_with_subzone(&[(LABEL, "s.b.1")], &[], there("s", "b", "1"))]
    #[case::empty_label(&[(LABEL, "")], &[(ZONE, "a")], Placement::Partial)]
    fn labels_and_the_node_selector_tell_the_place(
        #[case] labels: &[(&str, &str)],
        #[case] selector: &[(&str, &str)],
        #[case] expected: Placement,
    ) {
        assert_eq!(Placement::of(&pairs(labels), &pairs(selector), &Value::Null), expected);
    }

    #[rstest]
    #[case::zones(ZONE, Placement::Partial)]
    #[case::something_else("disk", Placement::Untold)]
    fn an_affinity_to_nodes_tells_a_part(#[case] key: &str, #[case] expected: Placement) {
        let terms = json!([{"matchExpressions": [{"key": key, "operator": "In", "values": ["a", "b"]}]}]);
        let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        assert_eq!(Placement::of(&pairs(&[]), &pairs(&[]), &affinity), expected);
    }
}

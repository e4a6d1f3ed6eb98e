//! Tables of routes as text, and where two of them differ.

use std::collections::BTreeSet;

use super::table::{Cluster, Endpoints, RouteTable, RoutingUnit};
use super::upstream::Upstream;

/// A difference between the expected routes and those found: the routes at one position, or the endpoints of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteDiff {
    /// The expected route or endpoints, as text; none if the table has no such route or cluster.
    pub expected: Option<String>,
    /// The route or endpoints found, as text; none if the table has no such route or cluster.
    pub found: Option<String>,
}

impl RouteDiff {
    /// The differences as lines of a diff: expected lines with `-`, then found lines with `+`.
    pub fn lines(all: &[Self]) -> Vec<String> {
        let expected = all.iter().filter_map(|diff| Some(format!("- {}", diff.expected.as_ref()?)));
        let found = all.iter().filter_map(|diff| Some(format!("+ {}", diff.found.as_ref()?)));
        expected.chain(found).collect()
    }
}

impl RouteTable {
    /// The differences from the expected table: first routes, then clusters.
    pub fn difference(&self, expected: &Self) -> Vec<RouteDiff> {
        let differs =
            |index: &usize| self.unit != expected.unit || self.routes.get(*index) != expected.routes.get(*index);
        let routes = (0..self.routes.len().max(expected.routes.len())).filter(differs);
        let routes =
            routes.map(|index| RouteDiff { expected: expected.route_line(index), found: self.route_line(index) });
        let names: BTreeSet<&Cluster> = self.clusters.keys().chain(expected.clusters.keys()).collect();
        let behind =
            |table: &Self, name: &Cluster| (table.clusters.get(name).cloned(), table.standby.get(name).cloned());
        let differ = names.iter().filter(|name| behind(self, name) != behind(expected, name));
        let clusters =
            differ.map(|name| RouteDiff { expected: expected.cluster_line(name), found: self.cluster_line(name) });
        let differ = names.iter().filter(|name| self.upstream(name) != expected.upstream(name));
        let upstreams = differ.map(|name| RouteDiff {
            expected: Some(expected.upstream_line(name)),
            found: Some(self.upstream_line(name)),
        });
        let line = |table: &Self| table.certificate.as_ref().map(ToString::to_string);
        let certificate = (self.certificate != expected.certificate)
            .then(|| RouteDiff { expected: line(expected), found: line(self) });
        routes.chain(clusters).chain(upstreams).chain(certificate).collect()
    }

    /// The table as text: one line for each route and each cluster, one for each cluster with a protocol of its own, and one for a certificate.
    pub fn lines(&self) -> Vec<String> {
        let routes = (0..self.routes.len()).filter_map(|index| self.route_line(index));
        let clusters = self.clusters.keys().filter_map(|cluster| self.cluster_line(cluster));
        let upstreams = self.upstreams.keys().map(|cluster| self.upstream_line(cluster));
        routes.chain(clusters).chain(upstreams).chain(self.certificate.iter().map(ToString::to_string)).collect()
    }

    fn upstream(&self, cluster: &Cluster) -> Upstream {
        self.upstreams.get(cluster).copied().unwrap_or_default()
    }

    fn upstream_line(&self, cluster: &Cluster) -> String {
        format!("protocol of {cluster}: {}", self.upstream(cluster))
    }

    fn route_line(&self, index: usize) -> Option<String> {
        let of = if self.unit == RoutingUnit::Connection { "route of connections" } else { "route" };
        Some(format!("{of} {}: {}", index + 1, self.routes.get(index)?))
    }

    fn cluster_line(&self, cluster: &Cluster) -> Option<String> {
        Some(match self.clusters.get(cluster)? {
            Endpoints::NoCluster => format!("there is no {cluster}"),
            Endpoints::Ready(addresses) if addresses.is_empty() => format!("endpoints of {cluster}: none"),
            Endpoints::Ready(addresses) => {
                let listed =
                    |addresses: &BTreeSet<String>| addresses.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let standby = self.standby.get(cluster).map(|own| format!("; too far away: {}", listed(own)));
                format!("endpoints of {cluster}: {}{}", listed(addresses), standby.unwrap_or_default())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::table::Route;
    use super::*;

    fn cluster(subset: &str) -> Cluster {
        Cluster { host: "h".to_owned(), port: 80, subset: Some(subset.to_owned()) }
    }

    fn table(subset: &str, endpoints: &[&str]) -> RouteTable {
        let endpoints = endpoints.iter().map(|address| (*address).to_owned()).collect();
        RouteTable {
            routes: vec![Route::all_to(cluster(subset))],
            clusters: BTreeMap::from([(cluster(subset), Endpoints::Ready(endpoints))]),
            ..RouteTable::default()
        }
    }

    #[test]
    fn a_difference_has_both_sides_and_reads_missing_first() {
        let (found, expected) = (table("v2", &["10.0.0.2:80"]), table("v1", &[]));
        let differences = found.difference(&expected);
        let route = |subset: &str| Some(format!("route 1: any request to subset {subset} of h:80"));
        assert_eq!(differences[0], RouteDiff { expected: route("v1"), found: route("v2") });
        assert_eq!(differences.len(), 3);
        assert_eq!(
            RouteDiff::lines(&differences),
            [
                "- route 1: any request to subset v1 of h:80",
                "- endpoints of subset v1 of h:80: none",
                "+ route 1: any request to subset v2 of h:80",
                "+ endpoints of subset v2 of h:80: 10.0.0.2:80",
            ]
        );
        assert!(found.difference(&found).is_empty());
    }

    #[test]
    fn an_endpoint_that_is_missing_is_a_difference_of_its_cluster() {
        let differences = table("v1", &["10.0.0.1:80"]).difference(&table("v1", &["10.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(differences.len(), 1);
        assert_eq!(
            differences[0].expected.as_ref().unwrap(),
            "endpoints of subset v1 of h:80: 10.0.0.1:80, 10.0.0.2:80"
        );
        assert_eq!(differences[0].found.as_ref().unwrap(), "endpoints of subset v1 of h:80: 10.0.0.1:80");
    }

    #[test]
    fn an_endpoint_that_another_is_preferred_to_is_a_difference() {
        let all = || table("v1", &["10.0.0.1:80", "10.0.0.2:80"]);
        let expected = RouteTable { standby: [(cluster("v1"), ["10.0.0.2:80".to_owned()].into())].into(), ..all() };
        assert_eq!(
            RouteDiff::lines(&all().difference(&expected)),
            [
                "- endpoints of subset v1 of h:80: 10.0.0.1:80, 10.0.0.2:80; too far away: 10.0.0.2:80",
                "+ endpoints of subset v1 of h:80: 10.0.0.1:80, 10.0.0.2:80",
            ]
        );
    }
}

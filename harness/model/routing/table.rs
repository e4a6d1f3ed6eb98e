use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::condition::{Condition, Pattern, Request, Subject};

/// How the requests to one service port are routed, and which endpoints stand behind it. Computed from manifests, or read from a sidecar:
/// equal tables route equally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// What a route is chosen for.
    pub unit: Unit,
    /// The routes; the first that matches decides.
    pub routes: Vec<Route>,
    /// What stands behind each cluster that a route leads to.
    pub clusters: BTreeMap<Cluster, Behind>,
}

/// What a route is chosen for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// Each request: HTTP.
    #[default]
    Request,
    /// Each connection, with all requests on it: a port that is declared as TCP, whatever is spoken on it.
    Connection,
}

/// A route: conditions that all have to hold, and what happens to the requests then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The conditions, sorted; none means every request.
    pub conditions: Vec<Condition>,
    /// The requests that are answered with an error instead.
    pub abort: Option<Abort>,
    /// What happens to the others.
    pub action: Action,
}

/// A fault that is injected into some of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// How many of a million requests.
    pub per_million: u32,
    /// The status of the answer.
    pub status: u16,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is passed on.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The proxy answers itself.
    Respond {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
}

/// A request that is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The clusters with their weights.
    pub clusters: Vec<(Cluster, u32)>,
    /// What becomes of the path.
    pub rewrite: Option<Rewrite>,
    /// The host that the server is told instead of the client's.
    pub host: Option<String>,
    /// Clusters that get a copy of so many of a million requests; what they answer is thrown away.
    pub mirrors: Vec<(Cluster, u32)>,
    /// The status of the answer where a cluster does not exist.
    pub missing: u16,
}

/// What becomes of a path on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// What the route matches of the path is replaced by this.
    Matched(String),
    /// Whatever the expression matches is replaced; `\1` names a group.
    Regex(Pattern, String),
}

/// Where a client is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The status: 301 unless another is asked for.
    pub status: u16,
    /// The scheme, if it changes.
    pub scheme: Option<String>,
    /// The host, if it changes.
    pub host: Option<String>,
    /// The port, if it changes.
    pub port: Option<u16>,
    /// The path, if it changes.
    pub path: Option<RedirectPath>,
}

/// The path of a redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectPath {
    /// This path.
    Full(String),
    /// What the route matches of the path is replaced by this.
    Matched(String),
}

/// The endpoints of a service port, or those of one of its subsets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cluster {
    /// The service's full name.
    pub host: String,
    /// The service port.
    pub port: u16,
    /// The subset.
    pub subset: Option<String>,
}

/// What stands behind a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// There is no such cluster: the service, the port or the subset is defined nowhere.
    Nothing,
    /// The addresses of its ready endpoints.
    Endpoints(BTreeSet<String>),
}

/// A difference between how requests are routed and how they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteDiff {
    /// The route at a position.
    Route {
        /// The position, from 1.
        number: usize,
        /// The expected route, and what it is chosen for; none where no route is expected there.
        expected: Option<Box<(Unit, Route)>>,
        /// The route that is there, if there is one.
        found: Option<Box<(Unit, Route)>>,
    },
    /// The endpoints of a cluster.
    Cluster {
        /// The cluster.
        cluster: Cluster,
        /// The expected endpoints; none where no route should lead to the cluster.
        expected: Option<Behind>,
        /// The endpoints that are there; none where no route leads to the cluster.
        found: Option<Behind>,
    },
}

impl RouteDiff {
    /// Whether the two sides differ.
    fn is_one(&self) -> bool {
        match self {
            Self::Route { expected, found, .. } => expected != found,
            Self::Cluster { expected, found, .. } => expected != found,
        }
    }

    /// The expected route or endpoints in words.
    #[must_use]
    pub fn expected(&self) -> Option<String> {
        match self {
            Self::Route { number, expected, .. } => {
                expected.as_deref().map(|(unit, route)| route_line(*unit, *number, route))
            }
            Self::Cluster { cluster, expected, .. } => expected.as_ref().map(|behind| cluster_line(cluster, behind)),
        }
    }

    /// The route or the endpoints that are there, in words.
    #[must_use]
    pub fn found(&self) -> Option<String> {
        match self {
            Self::Route { number, found, .. } => {
                found.as_deref().map(|(unit, route)| route_line(*unit, *number, route))
            }
            Self::Cluster { cluster, found, .. } => found.as_ref().map(|behind| cluster_line(cluster, behind)),
        }
    }

    /// Differences for people, line by line: what is missing with `-`, then what is there instead with `+`.
    #[must_use]
    pub fn lines(all: &[Self]) -> Vec<String> {
        let missing = all.iter().filter_map(Self::expected).map(|line| format!("- {line}"));
        let instead = all.iter().filter_map(Self::found).map(|line| format!("+ {line}"));
        missing.chain(instead).collect()
    }
}

fn route_line(unit: Unit, number: usize, route: &Route) -> String {
    match unit {
        Unit::Request => format!("route {number}: {route}"),
        Unit::Connection => format!("route of connections {number}: {route}"),
    }
}

fn cluster_line(cluster: &Cluster, behind: &Behind) -> String {
    match behind {
        Behind::Nothing => format!("there is no {cluster}"),
        Behind::Endpoints(addresses) if addresses.is_empty() => format!("endpoints of {cluster}: none"),
        Behind::Endpoints(addresses) => {
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            format!("endpoints of {cluster}: {}", addresses.join(", "))
        }
    }
}

impl RouteTable {
    /// The addresses of all endpoints.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let endpoints = self.clusters.values().filter_map(|behind| match behind {
            Behind::Endpoints(addresses) => Some(addresses),
            Behind::Nothing => None,
        });
        endpoints.flatten().map(String::as_str)
    }

    /// The index of the route that a request takes, if there is one.
    #[must_use]
    pub fn route(&self, request: &Request) -> Option<usize> {
        self.routes.iter().position(|route| route.conditions.iter().all(|condition| condition.met_by(request)))
    }

    /// The names of the headers that the routes look at.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().flat_map(|route| &route.conditions).filter_map(|condition| match &condition.subject {
            Subject::Header(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The differences to the expected table: first those of routes, then those of clusters and their endpoints.
    #[must_use]
    pub fn difference(&self, expected: &Self) -> Vec<RouteDiff> {
        let route =
            |table: &Self, index: usize| table.routes.get(index).map(|route| Box::new((table.unit, route.clone())));
        let routes = (0..self.routes.len().max(expected.routes.len())).map(|index| RouteDiff::Route {
            number: index + 1,
            expected: route(expected, index),
            found: route(self, index),
        });
        let names: BTreeSet<&Cluster> = self.clusters.keys().chain(expected.clusters.keys()).collect();
        let clusters = names.into_iter().map(|cluster| RouteDiff::Cluster {
            cluster: cluster.clone(),
            expected: expected.clusters.get(cluster).cloned(),
            found: self.clusters.get(cluster).cloned(),
        });
        routes.chain(clusters).filter(RouteDiff::is_one).collect()
    }

    /// The table in words, a line a route and a line a cluster.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let routes = self.routes.iter().enumerate().map(|(index, route)| route_line(self.unit, index + 1, route));
        let clusters = self.clusters.iter().map(|(cluster, behind)| cluster_line(cluster, behind));
        routes.chain(clusters).collect()
    }

    /// The clusters that the routes lead requests to, mirrors left out.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Cluster> {
        self.routes
            .iter()
            .flat_map(|route| match &route.action {
                Action::Forward(forward) => forward.clusters.as_slice(),
                _ => &[],
            })
            .map(|(cluster, _)| cluster)
    }
}

impl Route {
    /// Every request to one cluster.
    #[must_use]
    pub fn all_to(cluster: Cluster) -> Self {
        Self { conditions: Vec::new(), abort: None, action: Action::Forward(Forward::to(cluster)) }
    }

    /// The path that the server sees.
    #[must_use]
    pub fn path(&self, request: &Request) -> String {
        let Action::Forward(Forward { rewrite: Some(rewrite), .. }) = &self.action else {
            return request.path.clone();
        };
        let bare = request.bare_path();
        let query = &request.path[bare.len()..];
        let rewritten = match rewrite {
            Rewrite::Regex(pattern, substitution) => pattern.replace_all(bare, substitution),
            Rewrite::Matched(replacement) => {
                let matched =
                    self.conditions.iter().find_map(|condition| match (&condition.subject, &condition.test) {
                        (
                            super::Subject::Path,
                            super::Test::Prefix(text)
                            | super::Test::PrefixInAnyCase(text)
                            | super::Test::PathPrefix(text),
                        ) => Some(text.len()),
                        (super::Subject::Path, _) => Some(bare.len()),
                        _ => None,
                    });
                // a route for all paths matches their first character
                format!("{replacement}{}", bare.get(matched.unwrap_or(1)..).unwrap_or_default())
            }
        };
        format!("{rewritten}{query}")
    }
}

impl Forward {
    /// Everything to one cluster.
    #[must_use]
    pub fn to(cluster: Cluster) -> Self {
        Self { clusters: vec![(cluster, 1)], rewrite: None, host: None, mirrors: Vec::new(), missing: 503 }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.conditions.is_empty() {
            formatter.write_str("any request")?;
        }
        for (index, condition) in self.conditions.iter().enumerate() {
            write!(formatter, "{}{condition}", if index == 0 { "" } else { " and " })?;
        }
        write!(formatter, " {}", self.action)?;
        match self.abort {
            Some(Abort { per_million, status }) => {
                write!(formatter, ", {} % aborted with {status}", f64::from(per_million) / 1e4)
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(forward) => forward.fmt(formatter),
            Self::Redirect(redirect) => redirect.fmt(formatter),
            Self::Respond { status, body } if body.is_empty() => write!(formatter, "is answered {status}"),
            Self::Respond { status, body } => write!(formatter, "is answered {status} `{body}`"),
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("to ")?;
        if self.clusters.is_empty() {
            formatter.write_str("nothing")?;
        }
        for (index, (cluster, weight)) in self.clusters.iter().enumerate() {
            write!(formatter, "{}{cluster}", if index == 0 { "" } else { ", " })?;
            if self.clusters.len() > 1 {
                write!(formatter, " ({weight})")?;
            }
        }
        match &self.rewrite {
            Some(Rewrite::Matched(text)) => write!(formatter, ", what matched rewritten to `{text}`")?,
            Some(Rewrite::Regex(pattern, text)) => {
                write!(formatter, ", `{}` rewritten to `{text}`", pattern.as_str())?;
            }
            None => {}
        }
        if let Some(host) = &self.host {
            write!(formatter, ", as host `{host}`")?;
        }
        for (cluster, per_million) in &self.mirrors {
            write!(formatter, ", {} % mirrored to {cluster}", f64::from(*per_million) / 1e4)?;
        }
        if self.missing != 503 {
            write!(formatter, ", {} where that is missing", self.missing)?;
        }
        Ok(())
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "is redirected with {}", self.status)?;
        if let Some(scheme) = &self.scheme {
            write!(formatter, ", scheme {scheme}")?;
        }
        if let Some(host) = &self.host {
            write!(formatter, ", host {host}")?;
        }
        if let Some(port) = self.port {
            write!(formatter, ", port {port}")?;
        }
        match &self.path {
            Some(RedirectPath::Full(path)) => write!(formatter, ", path {path}"),
            Some(RedirectPath::Matched(path)) => write!(formatter, ", what matched replaced by {path}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subset) = &self.subset {
            write!(formatter, "subset {subset} of ")?;
        }
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(subset: &str) -> Cluster {
        Cluster { host: "h".to_owned(), port: 80, subset: Some(subset.to_owned()) }
    }

    fn table(subset: &str, endpoints: &[&str]) -> RouteTable {
        let endpoints = endpoints.iter().map(|own| (*own).to_owned()).collect();
        RouteTable {
            routes: vec![Route::all_to(cluster(subset))],
            clusters: BTreeMap::from([(cluster(subset), Behind::Endpoints(endpoints))]),
            ..RouteTable::default()
        }
    }

    #[test]
    fn a_difference_has_both_sides_and_reads_missing_first() {
        let (found, expected) = (table("v2", &["10.0.0.2:80"]), table("v1", &[]));
        let differences = found.difference(&expected);
        let route = |subset: &str| Some(Box::new((Unit::Request, Route::all_to(cluster(subset)))));
        assert_eq!(differences[0], RouteDiff::Route { number: 1, expected: route("v1"), found: route("v2") });
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
        assert_eq!(differences[0].expected().unwrap(), "endpoints of subset v1 of h:80: 10.0.0.1:80, 10.0.0.2:80");
        assert_eq!(differences[0].found().unwrap(), "endpoints of subset v1 of h:80: 10.0.0.1:80");
    }
}

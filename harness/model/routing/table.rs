use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::condition::{Condition, Request, Subject, Test, normalized};
use super::hash_key::HashKey;
use super::pattern::Pattern;
use super::response::ResponseHeaders;
use super::retries::Retries;
use super::secret::CertificateId;
use super::upstream::Upstream;
use crate::scenario::StatusCode;

/// The routes for one service port, with the endpoints of their clusters. Computed from manifests, or read from a sidecar: equal tables
/// route equally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// The unit that a route is chosen for.
    pub unit: RoutingUnit,
    /// The routes; the first that matches applies.
    pub routes: Vec<Route>,
    /// The endpoints of each cluster that is a destination of a route.
    pub clusters: BTreeMap<Cluster, Endpoints>,
    /// The ready endpoints of these clusters that get no requests as long as nearer ones are ready.
    pub standby: BTreeMap<Cluster, BTreeSet<String>>,
    /// The protocols towards the endpoints of these clusters, where they differ from HTTP/1.1 with automatic mutual TLS.
    pub upstreams: BTreeMap<Cluster, Upstream>,
    /// The certificate that a gateway shows; none where clients send HTTP.
    pub certificate: Option<CertificateId>,
}

/// The unit that a route is chosen for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RoutingUnit {
    /// Every request: HTTP.
    #[default]
    Request,
    /// Every connection, with all of its requests: a port that is declared as TCP, whatever protocol it carries.
    Connection,
}

/// A route: conditions, all of which have to hold, and the action for matching requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The conditions, sorted; an empty list matches every request.
    pub conditions: Vec<Condition>,
    /// The injected abort.
    pub abort: Option<Abort>,
    /// The injected delay.
    pub delay: Option<Delay>,
    /// The action for requests without the abort.
    pub action: Action,
    /// The changes of the headers of responses.
    pub response: ResponseHeaders,
}

/// A fault that aborts a share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// The share, in requests per million.
    pub per_million: u32,
    /// The status of the response, of HTTP or gRPC.
    pub status: StatusCode,
}

/// A fault that delays a share of the requests, whether they are aborted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// The share, in requests per million.
    pub per_million: u32,
    /// The delay.
    pub duration: Duration,
}

/// The action of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The proxy forwards the request.
    Forward(Forward),
    /// The proxy redirects the client.
    Redirect(Redirect),
    /// The proxy responds directly.
    Respond {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
}

/// Destinations of forwarded requests, and changes to the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The clusters with their weights.
    pub clusters: Vec<(Cluster, u32)>,
    /// The changes of the headers of responses from a cluster, by its position, before those of the route.
    pub responses: BTreeMap<usize, ResponseHeaders>,
    /// The rewrite of the path.
    pub rewrite: Option<Rewrite>,
    /// The host that replaces the `Host` header.
    pub host: Option<String>,
    /// Clusters that receive mirrored copies, with the share in requests per million; their responses are discarded.
    pub mirrors: Vec<(Cluster, u32)>,
    /// The status of the response if a cluster does not exist.
    pub missing: u16,
    /// When a request is sent again.
    pub retries: Retries,
    /// How long a response may take, with all retries.
    pub timeout: Option<Duration>,
    /// What is hashed of a request, for clusters that choose an endpoint by a hash.
    pub hashes: Vec<HashKey>,
}

/// A rewrite of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Replaces the part of the path that the route matches.
    Matched(String),
    /// Replaces every match of the expression; `\1` refers to a group.
    Regex(Pattern, String),
}

/// A redirect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The status; 301 by default.
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

/// The path of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectPath {
    /// Replaces the whole path.
    Full(String),
    /// Replaces the part of the path that the route matches.
    Matched(String),
}

/// The name of a cluster: a service port, or one of its subsets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cluster {
    /// The service's full name.
    pub host: String,
    /// The service port.
    pub port: u16,
    /// The subset, if there is one.
    pub subset: Option<String>,
}

/// The endpoints of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    /// The cluster does not exist: the service, the port or the subset is not defined.
    NoCluster,
    /// The addresses of the ready endpoints.
    Ready(BTreeSet<String>),
}

impl RouteTable {
    /// The table of a port on which nothing listens: connections are refused.
    pub fn of_closed_port() -> Self {
        Self { unit: RoutingUnit::Connection, ..Self::default() }
    }

    /// The addresses of all endpoints.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let endpoints = self.clusters.values().filter_map(|endpoints| match endpoints {
            Endpoints::Ready(addresses) => Some(addresses),
            Endpoints::NoCluster => None,
        });
        endpoints.flatten().map(String::as_str)
    }

    /// The addresses of the endpoints of a cluster that get requests.
    pub fn active(&self, cluster: &Cluster) -> BTreeSet<String> {
        let Some(Endpoints::Ready(all)) = self.clusters.get(cluster) else { return BTreeSet::new() };
        self.standby.get(cluster).map_or_else(|| all.clone(), |standby| all - standby)
    }

    /// The index of the route that a request takes, if there is one.
    pub fn route(&self, request: &Request) -> Option<usize> {
        self.routes.iter().position(|route| route.conditions.iter().all(|condition| condition.met_by(request)))
    }

    /// The names of the headers that routing depends on: in the conditions of routes, and where a hash is taken of them.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let forwards = self.routes.iter().filter_map(|route| match &route.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        });
        let hashed = forwards.flat_map(|forward| &forward.hashes).filter_map(HashKey::header);
        let matched =
            self.routes.iter().flat_map(|route| &route.conditions).filter_map(|condition| match &condition.subject {
                Subject::Header(name) => Some(name.as_str()),
                Subject::Scheme => Some("x-forwarded-proto"),
                _ => None,
            });
        matched.chain(hashed)
    }

    /// The clusters that are destinations of routes, without mirrors.
    pub fn targets(&self) -> impl Iterator<Item = &Cluster> {
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
    /// A route for every request, to one cluster.
    pub fn all_to(cluster: Cluster) -> Self {
        Self::all(Forward::new(vec![(cluster, 1)]))
    }

    /// A route for every request.
    pub fn all(forward: Forward) -> Self {
        Self::with(Vec::new(), Action::Forward(forward))
    }

    /// A route without a fault that leaves responses as they are.
    pub fn with(conditions: Vec<Condition>, action: Action) -> Self {
        Self { conditions, abort: None, delay: None, action, response: ResponseHeaders::default() }
    }

    /// When a request is sent again.
    pub(super) const fn retries(&self) -> Retries {
        match &self.action {
            Action::Forward(forward) => forward.retries,
            _ => Retries::NONE,
        }
    }

    /// The path that the server of an HTTP request receives.
    pub fn path<'r>(&self, request: &'r Request) -> Cow<'r, str> {
        let query = &request.path[request.bare_path().len()..];
        let bare = normalized(request.bare_path());
        let rewritten = match (&self.action, &bare) {
            (Action::Forward(Forward { rewrite: Some(rewrite), .. }), _) => self.rewritten(rewrite, &bare),
            (_, Cow::Borrowed(_)) => return Cow::Borrowed(&request.path),
            (_, Cow::Owned(bare)) => bare.clone(),
        };
        Cow::Owned(format!("{rewritten}{query}"))
    }

    fn rewritten(&self, rewrite: &Rewrite, bare: &str) -> String {
        match rewrite {
            Rewrite::Regex(pattern, substitution) => pattern.replace_all(bare, substitution),
            Rewrite::Matched(replacement) => {
                let matched =
                    self.conditions.iter().find_map(|condition| match (&condition.subject, &condition.test) {
                        (Subject::Path, Test::Prefix(text) | Test::PrefixInAnyCase(text) | Test::PathPrefix(text)) => {
                            Some(text.len())
                        }
                        (Subject::Path, _) => Some(bare.len()),
                        _ => None,
                    });
                // a route without a condition on the path matches its first character
                format!("{replacement}{}", bare.get(matched.unwrap_or(1)..).unwrap_or_default())
            }
        }
    }
}

impl Forward {
    /// Requests or connections to these clusters, by their weights, as they are, with the retries of the newest version of Istio.
    pub const fn new(clusters: Vec<(Cluster, u32)>) -> Self {
        Self {
            clusters,
            responses: BTreeMap::new(),
            rewrite: None,
            host: None,
            mirrors: Vec::new(),
            missing: 503,
            retries: Retries::DEFAULT,
            timeout: None,
            hashes: Vec::new(),
        }
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
        if let Some(Abort { per_million, status }) = self.abort {
            write!(formatter, ", {} % aborted with {status}", f64::from(per_million) / 1e4)?;
        }
        if let Some(Delay { per_million, duration }) = self.delay {
            write!(formatter, ", {} % delayed by {duration:?}", f64::from(per_million) / 1e4)?;
        }
        self.response.fmt(formatter)
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
            self.responses.get(&index).map_or(Ok(()), |own| own.fmt(formatter))?;
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
        if self.retries != Retries::DEFAULT {
            write!(formatter, ", {}", self.retries)?;
        }
        self.timeout.map_or(Ok(()), |timeout| write!(formatter, ", timeout {timeout:?}"))?;
        self.hashes.iter().try_for_each(|key| write!(formatter, ", hashed by {key}"))
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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How the requests to one service port are routed, and which endpoints stand behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// What a route is chosen for.
    pub unit: Unit,
    /// The routes; the first that matches decides.
    pub routes: Vec<Route>,
    /// The addresses behind each cluster that a route leads to.
    pub endpoints: BTreeMap<Cluster, BTreeSet<String>>,
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

/// A route: conditions that all have to hold, and where the requests then go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The conditions; none means every request.
    pub conditions: BTreeSet<Condition>,
    /// The clusters with their weights.
    pub clusters: Vec<(Cluster, u32)>,
}

/// The endpoints of a service, or those of one of its subsets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cluster {
    /// The service's full name.
    pub host: String,
    /// The subset.
    pub subset: Option<String>,
}

/// What a request has to look like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// What it has to be.
    pub test: Test,
}

/// The part of a request that a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The path.
    Path,
    /// A header, by its lower-case name.
    Header(String),
}

/// What a part of a request has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// This very text.
    Exact(String),
    /// A text that begins so.
    Prefix(String),
    /// A text that the regular expression matches as a whole.
    Regex(String),
    /// Anything, as long as it is there.
    Present,
}

impl RouteTable {
    /// The differences to what was expected, line by line: what is missing with `-`, what is there instead with `+`.
    #[must_use]
    pub fn difference(&self, expected: &Self) -> Vec<String> {
        let (want, have) = (expected.lines(), self.lines());
        let missing = want.iter().filter(|line| !have.contains(line)).map(|line| format!("- {line}"));
        let instead = have.iter().filter(|line| !want.contains(line)).map(|line| format!("+ {line}"));
        missing.chain(instead).collect()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let unit = match self.unit {
            Unit::Request => "route",
            Unit::Connection => "route of connections",
        };
        let routes = self.routes.iter().enumerate().map(|(index, route)| format!("{unit} {}: {route}", index + 1));
        let endpoints = self.endpoints.iter().map(|(cluster, addresses)| {
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let addresses = if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") };
            format!("endpoints of {cluster}: {addresses}")
        });
        routes.chain(endpoints).collect()
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
        formatter.write_str(" to ")?;
        for (index, (cluster, weight)) in self.clusters.iter().enumerate() {
            write!(formatter, "{}{cluster}", if index == 0 { "" } else { ", " })?;
            if self.clusters.len() > 1 {
                write!(formatter, " ({weight})")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subset {
            Some(subset) => write!(formatter, "subset {subset} of {}", self.host),
            None => formatter.write_str(&self.host),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Path => formatter.write_str("path")?,
            Subject::Header(name) => write!(formatter, "{name}")?,
        }
        match &self.test {
            Test::Exact(text) => write!(formatter, " is `{text}`"),
            Test::Prefix(text) => write!(formatter, " begins with `{text}`"),
            Test::Regex(text) => write!(formatter, " matches `{text}`"),
            Test::Present => formatter.write_str(" is present"),
        }
    }
}

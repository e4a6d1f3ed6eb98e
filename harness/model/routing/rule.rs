//! Rules for requests, independent of the API that they are written in, and before a client and a port are known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::condition::{Condition, Polarity, Subject, Test};
use super::hosts::resolved;
use super::notes::Notes;
use super::pattern::Pattern;
use super::response::ResponseHeaders;
use super::retries::RetryRule;
use super::table::{Abort, Delay, Redirect, Rewrite};
use crate::scenario::{Manifest, Origin, escaped, field};

/// The name of the gateway that stands for all sidecars.
pub(super) const MESH: &str = "mesh";

/// A reference to a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// Kind and name of the object: `VirtualService vs-hello`.
    pub object: Arc<str>,
    /// The position of the rule.
    pub origin: Origin,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub at: RuleRef,
    pub matches: Vec<Match>,
    pub route: Vec<Destination>,
    /// The redirect, without its port, which depends on the port of the request.
    pub redirect: Option<(Redirect, RedirectPort)>,
    pub response: Option<(u16, String)>,
    pub rewrite: Option<RewriteRule>,
    pub headers: Option<HeaderChanges>,
    pub mirrors: Vec<(Destination, u32)>,
    pub fault: Option<Fault>,
    pub timeout: Option<Duration>,
    /// None stands for Istio's default.
    pub retries: Option<RetryRule>,
    /// Namespace and name; an empty namespace is that of the rule.
    pub delegate: Option<(String, String)>,
    /// The status of the response if a destination does not exist.
    pub missing: u16,
}

/// The injected faults.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fault {
    pub abort: Option<Abort>,
    pub delay: Option<Delay>,
}

#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub host: String,
    pub subset: Option<String>,
    pub port: Option<u16>,
    pub weight: u32,
    pub headers: HeaderChanges,
}

impl Destination {
    /// All of a service's port.
    pub fn to(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), subset: None, port: Some(port), weight: 1, headers: HeaderChanges::default() }
    }
}

/// The changes of headers that affect routing, or what a client reads in responses.
#[derive(Debug, Clone, Default)]
pub(super) struct HeaderChanges {
    /// The new value of the `Host` header of requests.
    pub host: Option<String>,
    /// Whether other headers of requests change, which affects the requests that a server sends on.
    pub others: bool,
    pub response: ResponseHeaders,
}

impl HeaderChanges {
    /// Reads one change of a request, in the order of precedence: the first value for the authority applies.
    pub fn add(&mut self, name: &str, value: Option<&str>) {
        if name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority") {
            self.host = self.host.take().or_else(|| value.map(ToOwned::to_owned));
        } else {
            self.others = true;
        }
    }
}

/// The port that a redirect names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RedirectPort {
    /// The default port of the scheme.
    OfScheme,
    /// The port of the request.
    OfRequest,
    Number(u16),
}

#[derive(Debug, Clone, Default)]
pub(super) struct RewriteRule {
    pub path: Option<Rewrite>,
    pub host: Option<String>,
}

/// One entry of a rule's matches, any of which has to match.
#[derive(Debug, Clone, Default)]
pub(super) struct Match {
    /// The test of the path, as written.
    pub uri: Option<Test>,
    pub ignore_case: bool,
    /// The tests of other parts of the request.
    pub tests: BTreeMap<(Subject, Polarity), Test>,
    pub port: Option<u16>,
    pub source_labels: BTreeMap<String, String>,
    pub source_namespace: Option<String>,
    /// An empty list stands for every gateway and the mesh.
    pub gateways: Vec<String>,
}

impl Match {
    /// The conditions on the request. A prefix of `/` is no condition.
    pub fn conditions(&self) -> Vec<Condition> {
        let path = self.path().map(|test| Condition::new(Subject::Path, test));
        let others = self.tests.iter().map(|((subject, polarity), test)| Condition {
            subject: subject.clone(),
            test: test.clone(),
            polarity: *polarity,
        });
        let mut conditions: Vec<Condition> = path.into_iter().chain(others).collect();
        conditions.sort();
        conditions
    }

    fn path(&self) -> Option<Test> {
        match self.uri.clone()? {
            Test::Present => None,
            Test::Prefix(text) | Test::PathPrefix(text) if text == "/" => None,
            Test::Exact(text) if self.ignore_case => Some(Test::ExactInAnyCase(text)),
            Test::Prefix(text) if self.ignore_case => Some(Test::PrefixInAnyCase(text)),
            other => Some(other),
        }
    }
}

/// A part of an object, while it is read. Fields that the model does not cover are collected as notes.
pub(super) struct Part<'a> {
    pub manifest: &'a Manifest,
    pub value: &'a Value,
    pub pointer: String,
}

impl<'a> Part<'a> {
    pub fn root(manifest: &'a Manifest) -> Self {
        Self { manifest, value: &manifest.object.data, pointer: String::new() }
    }

    /// The value of a key; null if there is none.
    pub fn get(&self, key: &str) -> Self {
        Self {
            manifest: self.manifest,
            value: &self.value[key],
            pointer: [&self.pointer, "/", &*escaped(key)].concat(),
        }
    }

    pub fn items(&self) -> impl Iterator<Item = Self> + use<'_, 'a> {
        self.value.as_array().into_iter().flatten().enumerate().map(|(index, value)| Part {
            manifest: self.manifest,
            value,
            pointer: format!("{}/{index}", self.pointer),
        })
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'_, 'a> {
        self.value.as_object().into_iter().flatten().map(|(key, _)| (key.as_str(), self.get(key)))
    }

    pub fn is_there(&self) -> bool {
        !self.value.is_null()
    }

    pub fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    pub fn owned(&self) -> Option<String> {
        self.text().map(ToOwned::to_owned)
    }

    pub fn texts(&self) -> Vec<String> {
        self.items().filter_map(|item| item.owned()).collect()
    }

    pub fn number<T: TryFrom<u64>>(&self) -> Option<T> {
        self.value.as_u64().and_then(|number| T::try_from(number).ok())
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        self.entries().filter_map(|(key, value)| Some((key.to_owned(), value.owned()?))).collect()
    }

    pub fn origin(&self) -> Origin {
        self.manifest.origin_of(&self.pointer)
    }

    /// Adds this part to the notes.
    pub fn not_modelled(&self, notes: &mut Notes) {
        notes.add(self.origin(), field(&self.pointer));
    }

    /// Adds all keys except the known ones to the notes.
    pub fn only(&self, known: &[&str], notes: &mut Notes) {
        let keys = self.value.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        keys.filter(|key| !known.contains(key)).for_each(|key| self.get(key).not_modelled(notes));
    }

    /// Reads a string match: `{exact: …}`, `{prefix: …}`, `{regex: …}`; anything else tests presence.
    pub fn test(&self) -> Test {
        let text = |key: &str| self.value[key].as_str().map(ToOwned::to_owned);
        if let Some(exact) = text("exact") {
            Test::Exact(exact)
        } else if let Some(prefix) = text("prefix") {
            Test::Prefix(prefix)
        } else if let Some(regex) = text("regex").filter(|regex| regex != "*") {
            Test::Regex(Pattern::new(&regex))
        } else {
            Test::Present
        }
    }

    /// Reads a duration such as `1m30s`; none if it is 0.
    pub fn duration(&self) -> Option<Duration> {
        let duration: jiff::SignedDuration = self.text()?.parse().ok()?;
        Duration::try_from(duration).ok().filter(|duration| !duration.is_zero())
    }

    /// Reads a percentage, `{value: 12.5}`, as requests per million.
    pub fn per_million(&self) -> Option<u32> {
        let percent = self.value["value"].as_f64().or_else(|| self.value.is_object().then_some(0.0))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Istio truncates as well")]
        Some((percent * 10_000.0) as u32)
    }
}

/// Reads an Istio destination: host, subset and port.
pub(super) fn destination(part: &Part<'_>, namespace: &str, weight: u32) -> Destination {
    Destination {
        host: resolved(part.get("host").text().unwrap_or_default(), namespace),
        subset: part.get("subset").owned().filter(|subset| !subset.is_empty()),
        port: part.get("port").get("number").number(),
        weight,
        headers: HeaderChanges::default(),
    }
}

/// The gateways that a rule or a match names: `mesh`, or `NAMESPACE/NAME`.
pub(super) fn named_gateways(part: &Part<'_>, namespace: &str) -> Vec<String> {
    let full = |name: String| match name.split_once('/') {
        None if name == MESH => name,
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => name,
        None => match name.split_once('.') {
            // the name of a Service, as in early versions
            Some((name, rest)) => format!("{}/{name}", rest.split('.').next().unwrap_or_default()),
            None => format!("{namespace}/{name}"),
        },
    };
    part.get("gateways").texts().into_iter().map(full).collect()
}

/// The namespaces that an object is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Export {
    Everyone,
    Namespaces(BTreeSet<String>),
}

impl Export {
    pub fn of(part: &Part<'_>, namespace: &str) -> Self {
        let names = part.texts();
        if names.is_empty() || names.iter().any(|name| name == "*") {
            return Self::Everyone;
        }
        let names = names.into_iter().filter(|name| name != "~");
        Self::Namespaces(names.map(|name| if name == "." { namespace.to_owned() } else { name }).collect())
    }

    pub fn to(&self, namespace: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }
}

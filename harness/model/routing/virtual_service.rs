use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::{Polarity, Subject, Test};
use super::connection::ConnectionRule;
use super::hosts::resolved;
use super::live::Object;
use super::notes::{Notes, Scope};
use super::pattern::Pattern;
use super::response::HeaderChange;
use super::retries::RetryRule;
use super::rule::{
    Destination, Export, Fault, HeaderChanges, MESH, Match, Part, RedirectPort, RewriteRule, Rule, RuleRef,
    destination, named_gateways,
};
use super::table::{Abort, Delay, Redirect, RedirectPath, Rewrite};
use crate::scenario::StatusCode;

/// The fields of a match.
#[rustfmt::skip]
const MATCH_FIELDS: [&str; 14] = [
    "name", "uri", "scheme", "method", "authority", "headers", "port", "sourceLabels", "gateways",
    "queryParams", "ignoreUriCase", "withoutHeaders", "sourceNamespace", "statPrefix",
];

/// The modelled fields of a rule.
///
/// Timeouts are covered for servers that answer in time: they do not affect such requests.
/// A `corsPolicy` answers preflight requests alone, with the method `OPTIONS`, which populations do not send.
#[rustfmt::skip]
const RULE_FIELDS: [&str; 17] = [
    "name", "match", "route", "redirect", "rewrite", "directResponse", "fault", "delegate", "mirror", "mirrors",
    "mirrorPercentage", "mirrorPercent", "mirror_percent", "timeout", "retries", "headers", "corsPolicy",
];

/// The rules for requests to some hosts: a `VirtualService`, or one converted from `HTTPRoute`s or `GRPCRoute`s.
#[derive(Debug, Clone)]
pub(super) struct VirtualService {
    pub name: String,
    pub namespace: String,
    pub created: u64,
    /// Full names; an empty list for a delegate.
    pub hosts: Vec<String>,
    /// Whether the rules apply to sidecars.
    pub mesh: bool,
    /// The gateways that the rules apply to, each as `NAMESPACE/NAME`.
    pub gateways: Vec<String>,
    pub export: Export,
    pub rules: Vec<Rule>,
    /// The `tcp` and `tls` routes.
    pub connections: Vec<ConnectionRule>,
    /// Whether a rule delegates: up to 1.22, such objects come after all others.
    pub delegates: bool,
    /// Whether the rules come from `HTTPRoute`s or `GRPCRoute`s.
    pub gateway_api: bool,
    pub object: RuleRef,
}

impl VirtualService {
    pub fn read(object: &Object, notes: &mut Notes) -> Self {
        let root = Part::root(&object.manifest);
        let spec = root.get("spec");
        let named: Arc<str> = format!("VirtualService {}", object.manifest.name()).into();
        let namespace = &object.namespace;
        let gateways = named_gateways(&spec, namespace);
        let mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH);
        let hosts: Vec<String> = spec.get("hosts").texts().iter().map(|host| resolved(host, namespace)).collect();
        let called = hosts.iter().map(|host| host.to_lowercase()).collect();
        notes.scope = if mesh { Scope::Connections(called, None) } else { Scope::AtGateways(called) };
        let connections = ConnectionRule::read(&spec, namespace, &named, notes);
        notes.scope = match std::mem::take(&mut notes.scope) {
            // a delegate: any host may delegate to it
            Scope::Connections(called, _) if called.is_empty() => Scope::Everything,
            Scope::Connections(called, _) => Scope::Hosts(called),
            other => other,
        };
        spec.only(&["hosts", "gateways", "http", "exportTo", "tcp", "tls"], notes);
        Self {
            name: object.manifest.name().to_owned(),
            namespace: namespace.clone(),
            created: object.created,
            hosts,
            mesh,
            gateways,
            export: Export::of(&spec.get("exportTo"), namespace),
            rules: spec.get("http").items().map(|http| rule(&http, namespace, &named, notes)).collect(),
            connections,
            delegates: spec.get("http").items().any(|http| http.get("delegate").is_there()),
            gateway_api: false,
            object: RuleRef { object: named, origin: object.manifest.origin.clone() },
        }
    }

    /// Whether one of the hosts is exactly this.
    pub fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|name| name == host)
    }

    /// Replaces delegating rules with the rules of their delegates. A rule whose delegate is missing or not visible is dropped.
    pub fn merged(mut self, delegates: &BTreeMap<(String, String), Self>) -> Self {
        let rules = std::mem::take(&mut self.rules);
        for rule in rules {
            let Some((namespace, name)) = rule.delegate.clone() else {
                self.rules.push(rule);
                continue;
            };
            let namespace = if namespace.is_empty() { self.namespace.clone() } else { namespace };
            let delegate = delegates.get(&(namespace, name)).filter(|delegate| delegate.export.to(&self.namespace));
            self.rules.extend(
                delegate.into_iter().flat_map(|delegate| &delegate.rules).filter_map(|inner| merge(&rule, inner)),
            );
        }
        self
    }
}

fn rule(http: &Part<'_>, namespace: &str, named: &Arc<str>, notes: &mut Notes) -> Rule {
    let delegate = http.get("delegate");
    let outer = notes.scope.clone();
    // the rules of a delegate have positions of their own
    if !delegate.is_there() && outer != Scope::Nothing {
        notes.scope = Scope::Rule(http.origin());
    }
    http.only(&RULE_FIELDS, notes);
    let changes = headers(&http.get("headers"), notes);
    let route = http.get("route");
    let destinations = route.items().map(|entry| {
        entry.only(&["destination", "weight", "headers"], notes);
        let headers = headers(&entry.get("headers"), notes).unwrap_or_default();
        let weight = entry.get("weight").number().unwrap_or(0);
        Destination { headers, ..destination(&entry.get("destination"), namespace, weight) }
    });
    let route = destinations.collect();
    let redirect = redirect(&http.get("redirect"), notes);
    let response = response(&http.get("directResponse"), notes);
    let rewrite = rewrite(&http.get("rewrite"), notes);
    let fault = fault(&http.get("fault"), notes);
    notes.scope = outer;
    Rule {
        at: RuleRef { object: Arc::clone(named), origin: http.origin() },
        matches: http.get("match").items().map(|part| one_match(&part, namespace, notes)).collect(),
        route,
        redirect,
        response,
        rewrite,
        headers: changes,
        mirrors: mirrors(http, namespace),
        fault,
        timeout: http.get("timeout").duration(),
        retries: retries(&http.get("retries")),
        delegate: delegate.is_there().then(|| {
            let text = |key: &str| delegate.get(key).owned().unwrap_or_default();
            (text("namespace"), text("name"))
        }),
        missing: 503,
    }
}

fn headers(part: &Part<'_>, notes: &mut Notes) -> Option<HeaderChanges> {
    part.only(&["request", "response"], notes);
    let mut changes = HeaderChanges::default();
    for change in ["set", "add"].map(|key| part.get("request").get(key)) {
        change.entries().for_each(|(name, value)| changes.add(name, value.text()));
    }
    changes.others |= !part.get("request").get("remove").texts().is_empty();
    let response = part.get("response");
    for name in response.get("remove").texts() {
        changes.response.add(&name, HeaderChange::Remove);
    }
    for (key, change) in HeaderChange::KINDS {
        for (name, value) in response.get(key).entries() {
            changes.response.add(name, change(value.owned().unwrap_or_default()));
        }
    }
    part.is_there().then_some(changes)
}

fn one_match(part: &Part<'_>, namespace: &str, notes: &mut Notes) -> Match {
    part.only(&MATCH_FIELDS, notes);
    let mut tests = BTreeMap::new();
    let parts = [("scheme", Subject::Scheme), ("method", Subject::Method), ("authority", Subject::Authority)];
    for (key, subject) in parts.into_iter().filter(|(key, _)| part.get(key).is_there()) {
        tests.insert((subject, Polarity::Positive), part.get(key).test());
    }
    for (key, polarity) in [("headers", Polarity::Positive), ("withoutHeaders", Polarity::Negative)] {
        for (name, value) in part.get(key).entries() {
            // claims of a JWT, not headers
            if name.starts_with('@') {
                value.not_modelled(notes);
            }
            tests.insert((Subject::header(name), polarity), value.test());
        }
    }
    for (name, value) in part.get("queryParams").entries() {
        tests.insert((Subject::Query(name.to_owned()), Polarity::Positive), value.test());
    }
    Match {
        uri: part.get("uri").is_there().then(|| part.get("uri").test()),
        ignore_case: part.get("ignoreUriCase").value.as_bool().unwrap_or(false),
        tests,
        port: part.get("port").number(),
        source_labels: part.get("sourceLabels").labels(),
        source_namespace: part.get("sourceNamespace").owned().filter(|name| !name.is_empty()),
        gateways: named_gateways(part, namespace),
    }
}

fn redirect(part: &Part<'_>, notes: &mut Notes) -> Option<(Redirect, RedirectPort)> {
    part.is_there().then(|| {
        part.only(&["uri", "prefixRewrite", "authority", "port", "derivePort", "scheme", "redirectCode"], notes);
        let text = |key: &str| part.get(key).owned().filter(|text| !text.is_empty());
        let target = match (part.get("port").number(), part.get("derivePort").text()) {
            (Some(number), _) => RedirectPort::Number(number),
            (None, Some("FROM_REQUEST_PORT")) => RedirectPort::OfRequest,
            _ => RedirectPort::OfScheme,
        };
        let redirect = Redirect {
            status: part.get("redirectCode").number().filter(|status| *status != 0).unwrap_or(301),
            scheme: text("scheme"),
            host: text("authority"),
            port: None,
            path: text("prefixRewrite").map(RedirectPath::Matched).or_else(|| text("uri").map(RedirectPath::Full)),
        };
        (redirect, target)
    })
}

fn response(part: &Part<'_>, notes: &mut Notes) -> Option<(u16, String)> {
    part.is_there().then(|| {
        part.only(&["status", "body"], notes);
        let body = part.get("body");
        body.only(&["string"], notes);
        (part.get("status").number().unwrap_or(0), body.get("string").owned().unwrap_or_default())
    })
}

fn rewrite(part: &Part<'_>, notes: &mut Notes) -> Option<RewriteRule> {
    part.is_there().then(|| {
        part.only(&["uri", "authority", "uriRegexRewrite"], notes);
        let text = |part: &Part<'_>| part.owned().filter(|text| !text.is_empty());
        let regex = part.get("uriRegexRewrite");
        let by_regex = text(&regex.get("match"))
            .map(|pattern| Rewrite::Regex(Pattern::new(&pattern), text(&regex.get("rewrite")).unwrap_or_default()));
        RewriteRule {
            path: by_regex.or_else(|| text(&part.get("uri")).map(Rewrite::Matched)),
            host: text(&part.get("authority")),
        }
    })
}

fn mirrors(http: &Part<'_>, namespace: &str) -> Vec<(Destination, u32)> {
    let mut mirrors = Vec::new();
    let single = http.get("mirror");
    if single.is_there() {
        let percent = ["mirrorPercent", "mirror_percent"].iter().find_map(|key| http.get(key).number::<u32>());
        let share = http.get("mirrorPercentage").per_million().or_else(|| percent.map(|percent| percent * 10_000));
        mirrors.push((destination(&single, namespace, 1), share.unwrap_or(1_000_000)));
    }
    for part in http.get("mirrors").items() {
        let share = part.get("percentage").per_million().unwrap_or(1_000_000);
        mirrors.push((destination(&part.get("destination"), namespace, 1), share));
    }
    mirrors.retain(|(_, share)| *share > 0);
    mirrors
}

fn fault(part: &Part<'_>, notes: &mut Notes) -> Option<Fault> {
    part.only(&["abort", "delay"], notes);
    part.is_there().then(|| Fault { abort: abort(&part.get("abort"), notes), delay: delay(&part.get("delay")) })
}

fn delay(part: &Part<'_>) -> Option<Delay> {
    let of_percent = || Some(part.get("percent").number::<u32>()?.saturating_mul(10_000));
    let per_million = part.get("percentage").per_million().or_else(of_percent).filter(|share| *share > 0)?;
    Some(Delay { per_million, duration: part.get("fixedDelay").duration()? })
}

fn abort(part: &Part<'_>, notes: &mut Notes) -> Option<Abort> {
    part.only(&["percentage", "httpStatus", "grpcStatus"], notes);
    let of_grpc = || part.get("grpcStatus").text().and_then(StatusCode::grpc);
    let status = part.get("httpStatus").number().map(StatusCode).or_else(of_grpc)?;
    // without a percentage Istio aborts nothing
    let per_million = part.get("percentage").per_million().unwrap_or(0);
    (per_million > 0).then_some(Abort { per_million, status })
}

fn retries(part: &Part<'_>) -> Option<RetryRule> {
    part.is_there().then(|| RetryRule {
        attempts: part.get("attempts").number().unwrap_or(0),
        to_others: part.get("retryIgnorePreviousHosts").value.as_bool(),
        per_try: part.get("perTryTimeout").duration(),
        retry_on: part.get("retryOn").owned().unwrap_or_default(),
    })
}

/// Merges a delegate's rule with the rule that delegates to it; none if the two are mutually exclusive.
fn merge(root: &Rule, delegate: &Rule) -> Option<Rule> {
    let mut merged = delegate.clone();
    merged.matches = merge_matches(&root.matches, &delegate.matches)?;
    merged.rewrite = merged.rewrite.or_else(|| root.rewrite.clone());
    merged.headers = merged.headers.or_else(|| root.headers.clone());
    merged.response = merged.response.or_else(|| root.response.clone());
    merged.fault = merged.fault.or(root.fault);
    merged.timeout = merged.timeout.or(root.timeout);
    merged.retries = merged.retries.or_else(|| root.retries.clone());
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
    }
    Some(merged)
}

fn merge_matches(root: &[Match], delegate: &[Match]) -> Option<Vec<Match>> {
    if root.is_empty() {
        return Some(delegate.to_vec());
    }
    if delegate.is_empty() {
        return Some(root.to_vec());
    }
    let mut merged = Vec::new();
    for inner in delegate {
        let before = merged.len();
        merged.extend(root.iter().filter(|outer| !excludes(outer, inner)).map(|outer| merge_match(outer, inner)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &Match, delegate: &Match) -> Match {
    fn both<K: Ord + Clone, V: Clone>(root: &BTreeMap<K, V>, delegate: &BTreeMap<K, V>) -> BTreeMap<K, V> {
        root.iter().chain(delegate).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
    Match {
        uri: delegate.uri.clone().or_else(|| root.uri.clone()),
        ignore_case: delegate.ignore_case,
        tests: both(&root.tests, &delegate.tests),
        port: delegate.port.or(root.port),
        source_labels: both(&root.source_labels, &delegate.source_labels),
        source_namespace: delegate.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: if delegate.gateways.is_empty() { root.gateways.clone() } else { delegate.gateways.clone() },
    }
}

/// Whether Istio rejects a delegate's match because the root's match does not contain it.
fn excludes(root: &Match, delegate: &Match) -> bool {
    let mut tests = delegate.tests.iter();
    tests_exclude(root.uri.as_ref(), delegate.uri.as_ref())
        || tests.any(|(subject, test)| tests_exclude(root.tests.get(subject), Some(test)))
        || root.ignore_case != delegate.ignore_case
        || root.port.zip(delegate.port).is_some_and(|(root, delegate)| root != delegate)
        || root.source_namespace.is_some() && delegate.source_namespace != root.source_namespace
        || delegate
            .source_labels
            .iter()
            .any(|(key, value)| root.source_labels.get(key).is_some_and(|other| other != value))
        || !root.gateways.is_empty() && delegate.gateways.iter().any(|gateway| !root.gateways.contains(gateway))
}

fn tests_exclude(root: Option<&Test>, delegate: Option<&Test>) -> bool {
    let (Some(root), Some(delegate)) = (root, delegate) else { return false };
    match (root, delegate) {
        (Test::Exact(root), Test::Exact(delegate)) => root != delegate,
        (Test::Prefix(root), Test::Prefix(delegate) | Test::Exact(delegate)) => !delegate.starts_with(root.as_str()),
        // regular expressions, and tests of different kinds that do not contain each other
        _ => true,
    }
}

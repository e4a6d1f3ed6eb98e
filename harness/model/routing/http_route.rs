use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::condition::{Pattern, Test};
use super::hosts::full_name;
use super::live::Object;
use super::rule::{Destination, Export, Match, Part, RedirectPort, RedirectRule, RewriteRule, Rule, RuleRef};
use super::table::{RedirectPath, Rewrite};
use super::unmodelled::{Notes, Scope};
use super::virtual_service::VirtualService;

/// Converts the `HTTPRoute`s whose parent is a Service into virtual services, as Istio does: one for each namespace, service and port, with
/// the most specific rules first.
pub(super) fn read_all<'a>(objects: impl Iterator<Item = &'a Object>, notes: &mut Notes) -> Vec<VirtualService> {
    let mut objects: Vec<&Object> = objects.collect();
    objects.sort_by_key(|object| (object.created, object.manifest.name(), &object.namespace));
    let mut merged: BTreeMap<(String, Option<u16>, String), VirtualService> = BTreeMap::new();
    for object in objects {
        for (host, port, rules) in read(object, notes) {
            let named: Arc<str> = format!("HTTPRoute {}", object.manifest.name()).into();
            let service =
                merged.entry((object.namespace.clone(), port, host.clone())).or_insert_with(|| VirtualService {
                    name: object.manifest.name().to_owned(),
                    namespace: object.namespace.clone(),
                    created: object.created,
                    hosts: vec![host],
                    mesh: true,
                    export: Export::Everyone,
                    rules: Vec::new(),
                    gateway_api: true,
                    object: RuleRef { object: named, origin: object.manifest.origin.clone() },
                });
            service.rules.extend(rules);
        }
    }
    let mut merged: Vec<VirtualService> = merged.into_values().collect();
    for service in &mut merged {
        service.rules.sort_by_key(|rule| std::cmp::Reverse(rank(rule)));
    }
    merged
}

/// The precedence of a rule: by the kind of its path match, its length, a method, and the numbers of headers and query parameters.
fn rank(rule: &Rule) -> (u8, usize, bool, usize, usize) {
    let Some(first) = rule.matches.first() else { return (0, 0, false, 0, 0) };
    let (kind, length) = match &first.uri {
        Some(Test::Exact(text)) => (3, text.len()),
        Some(Test::PathPrefix(text)) => (2, text.len()),
        Some(Test::Regex(pattern)) => (1, pattern.as_str().len()),
        _ => (0, 0),
    };
    (kind, length, first.method.is_some(), first.headers.len(), first.query.len())
}

fn read(object: &Object, notes: &mut Notes) -> Vec<(String, Option<u16>, Vec<Rule>)> {
    let root = Part::root(&object.manifest);
    let spec = root.get("spec");
    let parents = spec.get("parentRefs");
    let services = parents.items().filter(|parent| parent.get("kind").text() == Some("Service")).filter_map(|parent| {
        Some(full_name(parent.get("name").text()?, parent.get("namespace").text().unwrap_or(&object.namespace)))
    });
    let services: BTreeSet<String> = services.collect();
    let scope = if services.is_empty() { Scope::Nothing } else { Scope::Hosts(services) };
    notes.scope = scope.clone();
    spec.only(&["parentRefs", "hostnames", "rules"], notes);
    let named: Arc<str> = format!("HTTPRoute {}", object.manifest.name()).into();
    let rules: Vec<Rule> =
        spec.get("rules").items().flat_map(|part| rules(&part, &object.namespace, &named, notes)).collect();
    let mut routes = Vec::new();
    for parent in parents.items() {
        if parent.get("kind").text() != Some("Service") {
            // a gateway: no client of the mesh is affected
            notes.scope = Scope::Nothing;
            parent.not_modelled(notes);
            continue;
        }
        notes.scope = scope.clone();
        parent.only(&["group", "kind", "name", "namespace", "port"], notes);
        let namespace = parent.get("namespace").text().unwrap_or(&object.namespace);
        let host = full_name(parent.get("name").text().unwrap_or_default(), namespace);
        let port = parent.get("port").number();
        let mut rules = rules.clone();
        rules.iter_mut().flat_map(|rule| &mut rule.matches).for_each(|one| one.port = port);
        routes.push((host, port, rules));
    }
    routes
}

/// Converts a rule of an `HTTPRoute`: one Istio rule for each match.
fn rules(part: &Part<'_>, namespace: &str, named: &Arc<str>, notes: &mut Notes) -> Vec<Rule> {
    let outer = notes.scope.clone();
    if outer != Scope::Nothing {
        notes.scope = Scope::Rule(part.origin());
    }
    part.only(&["name", "matches", "filters", "backendRefs", "timeouts"], notes);
    let mut rule = Rule {
        at: RuleRef { object: Arc::clone(named), origin: part.origin() },
        matches: Vec::new(),
        route: Vec::new(),
        redirect: None,
        response: None,
        rewrite: None,
        mirrors: Vec::new(),
        abort: None,
        delegate: None,
        missing: 500,
    };
    for filter in part.get("filters").items() {
        read_filter(&filter, namespace, &mut rule, notes);
    }
    rule.route = backends(&part.get("backendRefs"), namespace, notes);
    if rule.route.is_empty() && rule.redirect.is_none() {
        rule.response = Some((500, String::new()));
    }
    notes.scope = outer;
    let matches: Vec<Match> = part.get("matches").items().map(|part| one_match(&part, notes)).collect();
    // a rule without matches applies to every request
    let matches = if matches.is_empty() { vec![Match::default()] } else { matches };
    matches.into_iter().map(|one| Rule { matches: vec![one], ..rule.clone() }).collect()
}

fn one_match(part: &Part<'_>, notes: &mut Notes) -> Match {
    part.only(&["path", "headers", "queryParams", "method"], notes);
    let path = part.get("path");
    let value = path.get("value").text().unwrap_or("/");
    let uri = match path.get("type").text() {
        Some("Exact") => Test::Exact(value.to_owned()),
        Some("RegularExpression") => Test::Regex(Pattern::new(value)),
        _ if value == "/" => Test::PathPrefix(value.to_owned()),
        _ => Test::PathPrefix(value.trim_end_matches('/').to_owned()),
    };
    let tests = |key: &str| -> BTreeMap<String, Test> {
        let list = part.get(key);
        let tests = list.items().filter_map(|item| {
            let value = item.get("value").text().unwrap_or_default();
            let test = match item.get("type").text() {
                Some("RegularExpression") => Test::Regex(Pattern::new(value)),
                _ => Test::Exact(value.to_owned()),
            };
            Some((item.get("name").owned()?, test))
        });
        // of several entries for one name, the first applies
        let mut first = BTreeMap::new();
        for (name, test) in tests {
            first.entry(name).or_insert(test);
        }
        first
    };
    Match {
        uri: Some(uri),
        method: part.get("method").owned().map(Test::Exact),
        headers: tests("headers"),
        query: tests("queryParams"),
        ..Match::default()
    }
}

fn backends(part: &Part<'_>, namespace: &str, notes: &mut Notes) -> Vec<Destination> {
    let read = part.items().map(|entry| {
        entry.only(&["group", "kind", "name", "namespace", "port", "weight"], notes);
        if entry.get("kind").text().is_some_and(|kind| kind != "Service") {
            entry.get("kind").not_modelled(notes);
        }
        backend(&entry, namespace)
    });
    let mut backends: Vec<Destination> = read.collect();
    backends.retain(|backend| backend.weight > 0);
    backends
}

fn backend(part: &Part<'_>, namespace: &str) -> Destination {
    let namespace = part.get("namespace").text().unwrap_or(namespace);
    Destination {
        host: full_name(part.get("name").text().unwrap_or_default(), namespace),
        subset: None,
        port: part.get("port").number(),
        weight: part.get("weight").number().unwrap_or(1),
    }
}

fn read_filter(filter: &Part<'_>, namespace: &str, rule: &mut Rule, notes: &mut Notes) {
    match filter.get("type").text() {
        Some("RequestRedirect") => rule.redirect = Some(redirect(&filter.get("requestRedirect"))),
        Some("URLRewrite") => {
            let part = filter.get("urlRewrite");
            let path = part.get("path");
            let by_path = match path.get("type").text() {
                Some("ReplaceFullPath") => {
                    path.get("replaceFullPath").text().map(|full| Rewrite::Regex(Pattern::new("/.*"), full.to_owned()))
                }
                Some("ReplacePrefixMatch") => {
                    let prefix = path.get("replacePrefixMatch").text().unwrap_or_default().trim_end_matches('/');
                    Some(Rewrite::Matched(if prefix.is_empty() { "/" } else { prefix }.to_owned()))
                }
                _ => None,
            };
            rule.rewrite = Some(RewriteRule { path: by_path, host: part.get("hostname").owned() });
        }
        Some("RequestMirror") => {
            let part = filter.get("requestMirror");
            part.only(&["backendRef", "percent"], notes);
            let percent: u32 = part.get("percent").number().unwrap_or(100);
            if percent > 0 {
                rule.mirrors.push((backend(&part.get("backendRef"), namespace), percent * 10_000));
            }
        }
        _ => filter.not_modelled(notes),
    }
}

fn redirect(part: &Part<'_>) -> RedirectRule {
    let path = part.get("path");
    let scheme = part.get("scheme").owned();
    let target = match part.get("port").number() {
        Some(number) => RedirectPort::Number(number),
        None if scheme.is_some() => RedirectPort::OfScheme,
        None => RedirectPort::OfRequest,
    };
    RedirectRule {
        status: part.get("statusCode").number().unwrap_or(302),
        scheme,
        host: part.get("hostname").owned(),
        port: target,
        path: match path.get("type").text() {
            Some("ReplaceFullPath") => path.get("replaceFullPath").owned().map(RedirectPath::Full),
            Some("ReplacePrefixMatch") => path.get("replacePrefixMatch").owned().map(RedirectPath::Matched),
            _ => None,
        },
    }
}

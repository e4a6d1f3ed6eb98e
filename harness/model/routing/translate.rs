//! Translation of rules into routes, for one client and port.

use super::balancing::HashRule;
use super::client::Client;
use super::condition::{Condition, Polarity, Subject, Test};
use super::connection::ConnectionRule;
use super::pattern::Pattern;
use super::response::ResponseHeaders;
use super::retries::Retries;
use super::rule::{Destination, Fault, Match, RedirectPort, Rule, RuleRef};
use super::table::{Action, Cluster, Forward, Redirect, Rewrite, Route};
use super::version::RoutingVersion;
use super::virtual_service::VirtualService;

/// A route, and the rule that it comes from.
pub(super) type RuleRoute = (Route, RuleRef);

/// Where rules are applied: a port of a client's sidecar, or of a gateway.
pub(super) struct Listener<'a> {
    /// The client, or the pods of the gateway.
    pub client: &'a Client,
    pub port: u16,
    /// The name by which rules refer to it: `mesh`, or that of a gateway.
    pub gateway: &'a str,
    /// The port of a service that has no other, if that is where requests go to that the rules send to no port.
    pub only_port: &'a dyn Fn(&str) -> Option<u16>,
    /// The hash of requests to a destination.
    pub hash: &'a dyn Fn(&Destination) -> Option<&'a HashRule>,
}

/// Whether every request meets these conditions, as far as Istio sees it.
pub(super) fn catches_all(version: RoutingVersion, conditions: &[Condition]) -> bool {
    match conditions {
        [] => true,
        // later versions of Istio take the regular expression `.*` for a path that matches every request
        [Condition { subject: Subject::Path, test: Test::Regex(pattern), polarity: Polarity::Positive }] => {
            version.is_after_1_22() && pattern.as_str() == ".*"
        }
        _ => false,
    }
}

/// The routes that a `VirtualService` gives a listener; none if no rule applies to it, so that Istio ignores the object.
pub(super) fn routes(
    version: RoutingVersion,
    service: &VirtualService,
    listener: &Listener<'_>,
) -> Option<Vec<RuleRoute>> {
    let mut routes = Vec::new();
    'rules: for rule in &service.rules {
        let route = |conditions, uri| {
            let mut route = route(rule, conditions, uri, listener, service.gateway_api);
            if let Action::Forward(forward) = &mut route.action {
                let is_hashed = matches!(rule.route.as_slice(), [only] if (listener.hash)(only).is_some());
                forward.retries = match &rule.retries {
                    Some(own) => own.resolved(version, is_hashed),
                    None => Retries::of_rule_without(version, is_hashed),
                };
            }
            (route, rule.at.clone())
        };
        if rule.matches.is_empty() {
            routes.push(route(Vec::new(), None));
            break;
        }
        for one in rule.matches.iter().filter(|one| applies(one, listener)) {
            let conditions = one.conditions();
            let catches_all = catches_all(version, &conditions);
            routes.push(route(conditions, one.uri.as_ref()));
            // Istio sends no routes after one that matches every request
            if catches_all {
                break 'rules;
            }
        }
    }
    (!routes.is_empty()).then_some(routes)
}

/// The route that a rule for connections gives on a port. `only_port` is the port of a service that has no other.
pub(super) fn connections(rule: &ConnectionRule, port: u16, only_port: impl Fn(&str) -> Option<u16>) -> RuleRoute {
    let cluster = |destination: &Destination| cluster(destination, only_port(&destination.host).unwrap_or(port));
    let clusters = weighed(rule.route.iter().map(|destination| (cluster(destination), destination.weight)).collect());
    (Route::all(Forward::new(clusters)), rule.at.clone())
}

/// Whether a match applies to requests at a listener.
fn applies(one: &Match, &Listener { client, port, gateway, .. }: &Listener<'_>) -> bool {
    if one.port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if !one.gateways.is_empty() {
        return one.gateways.iter().any(|own| own == gateway);
    }
    one.source_labels.iter().all(|(key, value)| client.labels.get(key) == Some(value))
        && one.source_namespace.as_ref().is_none_or(|namespace| *namespace == client.namespace)
}

fn route(
    rule: &Rule,
    conditions: Vec<Condition>,
    uri: Option<&Test>,
    listener: &Listener<'_>,
    gateway_api: bool,
) -> Route {
    let action = if let Some((target, named)) = &rule.redirect {
        Action::Redirect(redirect(target, *named, listener.port))
    } else if let Some((status, body)) = &rule.response {
        Action::Respond { status: *status, body: body.clone() }
    } else {
        Action::Forward(forward(rule, uri, listener, gateway_api))
    };
    let of_rule = rule.headers.as_ref().map(|headers| headers.response.clone()).unwrap_or_default();
    let response = match (&action, rule.route.as_slice()) {
        (Action::Forward(_), [only]) => of_rule.and(&only.headers.response),
        _ => of_rule,
    };
    let Fault { abort, delay } = rule.fault.unwrap_or_default();
    Route { conditions, abort, delay, action, response }
}

fn redirect(redirect: &Redirect, named: RedirectPort, port: u16) -> Redirect {
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let target = match named {
        RedirectPort::OfScheme => None,
        RedirectPort::OfRequest => Some(port),
        RedirectPort::Number(number) => Some(number),
    };
    let target = target.filter(|port| !matches!((port, scheme), (80, "http") | (443, "https")));
    Redirect { port: target, ..redirect.clone() }
}

fn forward(rule: &Rule, uri: Option<&Test>, listener: &Listener<'_>, gateway_api: bool) -> Forward {
    let port = |host: &str| (listener.only_port)(host).unwrap_or(listener.port);
    let cluster = |destination: &Destination| cluster(destination, port(&destination.host));
    let clusters = weighed(rule.route.iter().map(|destination| (cluster(destination), destination.weight)).collect());
    let is_one = rule.route.len() == 1;
    let chosen = rule.route.iter().filter(|destination| !is_one && destination.weight > 0);
    let responses = chosen.map(|destination| destination.headers.response.clone()).enumerate();
    // a single destination gets everything, whatever its weight
    let weighty = rule.route.iter().filter(|destination| is_one || destination.weight > 0);
    let rewrite = rule.rewrite.as_ref().and_then(|rewrite| rewrite.path.clone());
    let rewrite = rewrite.map(|rewrite| match (rewrite, uri) {
        (Rewrite::Matched(text), uri) if gateway_api && text == "/" => without_prefix(uri),
        (other, _) => other,
    });
    Forward {
        responses: responses.filter(|(_, own)| *own != ResponseHeaders::default()).collect(),
        rewrite,
        host: host(rule),
        mirrors: rule.mirrors.iter().map(|(destination, share)| (cluster(destination), *share)).collect(),
        missing: rule.missing,
        timeout: rule.timeout,
        hashes: weighty.filter_map(|destination| (listener.hash)(destination)?.key.clone()).collect(),
        ..Forward::new(clusters)
    }
}

fn cluster(destination: &Destination, port: u16) -> Cluster {
    Cluster {
        host: destination.host.clone(),
        port: destination.port.unwrap_or(port),
        subset: destination.subset.clone(),
    }
}

/// The clusters that get a share.
fn weighed(mut clusters: Vec<(Cluster, u32)>) -> Vec<(Cluster, u32)> {
    if clusters.len() > 1 {
        clusters.retain(|(_, weight)| *weight > 0);
    }
    if let [(_, weight)] = clusters.as_mut_slice() {
        // a single destination gets everything, whatever its weight
        *weight = 1;
    }
    clusters
}

/// The host that replaces the `Host` header. Several destinations have hosts of their own, which move no share.
fn host(rule: &Rule) -> Option<String> {
    let rewritten = rule.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_ref());
    let changed = || rule.headers.as_ref().and_then(|headers| headers.host.as_ref());
    let of_destination = || match rule.route.as_slice() {
        [destination] => destination.headers.host.as_ref(),
        _ => None,
    };
    rewritten.or_else(changed).or_else(of_destination).cloned()
}

/// The rewrite that removes a prefix as the Gateway API defines it: whole path elements, and at least a `/` remains.
fn without_prefix(uri: Option<&Test>) -> Rewrite {
    let prefix = match uri {
        Some(Test::PathPrefix(text)) if text != "/" => text.as_str(),
        _ => "",
    };
    let mut quoted = String::new();
    for character in prefix.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    Rewrite::Regex(Pattern::new(&format!("^{quoted}(/?)(.*)")), r"/\2".to_owned())
}

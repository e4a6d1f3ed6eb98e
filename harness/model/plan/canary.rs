//! What Flagger makes of a Canary: a primary copy of the workload, Services and routes to both, and the weights of the routes.

use serde_json::{Value, json};

use super::rollout::RouteWeights;
use crate::routing::{Kind, Live};
use crate::scenario::{Canary, Controlled, Manifest, Phase, Share, Stage};

/// The state of a Canary after a stage.
#[derive(Debug, Clone)]
pub(super) struct CanaryState {
    /// The Canary as applied last.
    canary: Manifest,
    /// The Deployment as applied last; none if there is none.
    target: Option<Manifest>,
    /// The Deployment that was promoted last; none before the first one.
    promoted: Option<Manifest>,
    /// What requests get; none where the stage does not say it.
    routed: Option<Routed>,
    /// Whether the new version has had a weight, with which callers got the cookie of the session affinity.
    has_set_cookie: bool,
}

/// How requests are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Routed {
    /// The new version has no pods.
    Primary,
    /// The new version has pods and this weight in percent.
    Split(u32),
    /// The new version has pods, and gets copies of the requests.
    Mirrored,
}

impl CanaryState {
    /// The state after a stage, whose objects are `live`; none if there is no Canary.
    pub fn after(before: Option<&Self>, controlled: &Controlled, stage: &Stage, live: &Live) -> Option<Self> {
        let canary = live.all().map(|object| &object.manifest).find(|manifest| controlled.is(manifest))?;
        let target = live.get(Kind::Deployment, Canary::new(&canary.object.data).target());
        let target = target.map(|object| Manifest::clone(&object.manifest));
        let mut next = Self {
            canary: Manifest::clone(canary),
            target,
            promoted: before.and_then(|before| before.promoted.clone()),
            routed: before.and_then(|before| before.routed),
            has_set_cookie: before.is_some_and(|before| before.has_set_cookie),
        };
        let has_changed =
            before.is_none_or(|before| template(before.target.as_ref()) != template(next.target.as_ref()));
        next.routed = match &stage.wait {
            None if has_changed => None,
            None => next.routed,
            Some(wait) => next.reached(wait.phase, wait.weight),
        };
        let phase = stage.wait.as_ref().and_then(|wait| wait.phase);
        if matches!(phase, Some(Phase::Initialized | Phase::Succeeded)) {
            next.promoted.clone_from(&next.target);
        }
        next.has_set_cookie |=
            phase == Some(Phase::Succeeded) || matches!(next.routed, Some(Routed::Split(weight)) if weight > 0);
        Some(next)
    }

    /// What requests get in a phase, with a weight if it is known.
    fn reached(&self, phase: Option<Phase>, weight: Option<Share>) -> Option<Routed> {
        let canary = Canary::new(&self.canary.object.data);
        match phase {
            Some(Phase::Initialized | Phase::Waiting | Phase::Succeeded | Phase::Failed) => {
                return Some(Routed::Primary);
            }
            // the pods of the primary are replaced
            Some(Phase::Promoting | Phase::Finalising) => return None,
            _ => {}
        }
        if let Some(weight) = weight {
            // another weight is never reached
            let own = canary.all_weights().into_iter().find(|own| weight.is_percent(*own));
            return own.map(Routed::Split);
        }
        if phase != Some(Phase::WaitingPromotion) {
            return None;
        }
        match (canary.matches(), canary.iterations(), canary.weights().last()) {
            ([], 0, last) => last.map(|weight| Routed::Split(*weight)),
            ([], ..) if canary.mirrors() => Some(Routed::Mirrored),
            ([], ..) => Some(Routed::Split(0)),
            _ => Some(Routed::Split(100)),
        }
    }

    /// The objects as Flagger leaves them. Where the state or a setting is not covered, the Canary stays, which the model does not cover.
    pub fn apply_to(&self, live: &Live) -> Live {
        let mut live = live.clone();
        let canary = Canary::new(&self.canary.object.data);
        let Some(target) = &self.target else {
            // Flagger does nothing
            live.remove(&self.canary);
            return live;
        };
        let label = Canary::selector_label(&target.object.data);
        let (Some(routed), Some(promoted), Some((label, value))) = (self.routed, &self.promoted, label) else {
            return live;
        };
        if is_beyond(canary, &self.canary.object.data) {
            return live;
        }
        live.remove(&self.canary);
        let replicas =
            |manifest: &Manifest| manifest.at("/spec/replicas").and_then(Value::as_u64).filter(|own| *own > 0);
        let of_primary = replicas(promoted).unwrap_or(1);
        let of_canary = if routed == Routed::Primary { 0 } else { replicas(target).unwrap_or(of_primary) };
        live.edit(Kind::Deployment, canary.target(), |own| own["spec"]["replicas"] = json!(of_canary));
        let primary = format!("{value}-primary");
        let mut data = promoted.object.data.clone();
        data["spec"]["replicas"] = json!(of_primary);
        data["spec"]["selector"] = json!({"matchLabels": {label: primary}});
        data["spec"]["template"]["metadata"]["labels"][label] = json!(primary);
        live.put(Kind::Deployment, &format!("{}-primary", canary.target()), data, &self.canary);
        let apex = canary.apex();
        let names =
            [(apex.to_owned(), &*primary), (format!("{apex}-primary"), &*primary), (format!("{apex}-canary"), value)];
        for (number, (name, pods)) in names.into_iter().enumerate() {
            let port = port(canary.service());
            let data = json!({"spec": {"selector": {label: pods}, "ports": [port]}});
            live.put(Kind::Service, &name, data, &self.canary);
            if number > 0 {
                let policy = canary.service()["trafficPolicy"].clone();
                live.put(
                    Kind::DestinationRule,
                    &name,
                    without_null(json!({"spec": {"host": name, "trafficPolicy": policy}})),
                    &self.canary,
                );
            }
        }
        live.put(Kind::VirtualService, apex, virtual_service(canary, routed, self.has_set_cookie), &self.canary);
        live
    }
}

/// Whether a setting is one that the model does not cover.
fn is_beyond(canary: Canary<'_>, data: &Value) -> bool {
    let service = canary.service();
    let is_set = |value: Option<&Value>| value.is_some_and(|value| !value.is_null() && *value != json!(false));
    let of_spec = ["suspend", "skipAnalysis"].map(|key| data["spec"].get(key));
    let of_service = ["delegation", "gateways", "appProtocol", "portDiscovery", "rewrite"].map(|key| service.get(key));
    let is_elsewhere = data["spec"]["provider"].as_str().is_some_and(|provider| provider != "istio");
    // Flagger adds the cookie of a session affinity to the headers of the Canary, where there are any
    let is_mixed = canary.session_cookie().is_some() && is_set(service.get("headers"));
    is_elsewhere
        || is_mixed
        || of_spec.into_iter().chain(of_service).any(is_set)
        || canary.target_kind() != "Deployment"
}

fn port(service: &Value) -> Value {
    let name = service["portName"].as_str().unwrap_or("http");
    let target = service.get("targetPort").unwrap_or(&service["port"]);
    json!({"name": name, "port": service["port"], "targetPort": target})
}

/// The value of the cookie of a session affinity, for which Flagger takes ten random letters.
const COOKIE: &str = "ofFlagger";

/// The rules of sessions and of all others, with a session affinity: the first matches the cookie that the second sets with the new version. Once
/// the new version has no weight, the first deletes the cookie.
fn with_affinity(
    (name, max_age): (&str, i64),
    mut others: Value,
    to_canary: &[Value],
    own: &[Value],
    weight: u32,
) -> Vec<Value> {
    let matches = merged(&[json!({"headers": {"cookie": {"regex": format!(".*{name}.*{COOKIE}.*")}}})], own);
    let set_cookie =
        |max_age: i64| json!({"response": {"add": {"Set-Cookie": format!("{name}={COOKIE}; Max-Age={max_age}")}}});
    let mut of_sessions = others.clone();
    of_sessions["name"] = json!(Canary::ROUTE_OF_SESSIONS);
    of_sessions["match"] = matches;
    if weight == 0 {
        of_sessions["headers"] = set_cookie(-1);
    } else {
        of_sessions["route"] = json!(to_canary);
        others["route"][1]["headers"] = set_cookie(max_age);
    }
    vec![of_sessions, others]
}

fn virtual_service(canary: Canary<'_>, routed: Routed, has_set_cookie: bool) -> Value {
    let (service, apex) = (canary.service(), canary.apex());
    let weight = if let Routed::Split(weight) = routed { weight } else { 0 };
    let destination =
        |version: &str, weight: u32| json!({"destination": {"host": format!("{apex}-{version}")}, "weight": weight});
    let route = |matches: Value, destinations: Vec<Value>| {
        let mut route = json!({"match": matches, "route": destinations});
        for key in ["timeout", "retries", "corsPolicy", "headers"] {
            route[key] = service[key].clone();
        }
        without_null(route)
    };
    let both = vec![destination("primary", 100 - weight), destination("canary", weight)];
    let mut hosts = service["hosts"].as_array().cloned().unwrap_or_default();
    if !hosts.iter().any(|host| *host == json!(apex) || *host == json!("*")) {
        hosts.push(json!(apex));
    }
    let own = &service["match"];
    let http = if canary.matches().is_empty() {
        let only = route(own.clone(), both);
        let mut http = match canary.session_cookie().filter(|_| weight > 0 || has_set_cookie) {
            Some(cookie) => {
                let to_canary = [destination("primary", 0), destination("canary", 100)];
                with_affinity(cookie, only, &to_canary, own.as_array().map_or(&[], Vec::as_slice), weight)
            }
            None => vec![only],
        };
        if routed == Routed::Mirrored {
            http[0]["mirror"] = json!({"host": format!("{apex}-canary")});
            if let Some(weight) = canary.analysis()["mirrorWeight"].as_u64().filter(|weight| *weight > 0) {
                http[0]["mirrorPercentage"] = json!({"value": weight});
            }
        }
        http
    } else {
        let tested = merged(canary.matches(), own.as_array().map_or(&[], Vec::as_slice));
        vec![route(tested, both), route(own.clone(), vec![destination("primary", 100 - weight)])]
    };
    json!({"spec": {"hosts": hosts, "gateways": ["mesh"], "http": http}})
}

/// The matches of an A/B test together with those of the Service.
fn merged(tests: &[Value], own: &[Value]) -> Value {
    if own.is_empty() {
        return json!(tests);
    }
    let pairs = tests.iter().flat_map(|test| own.iter().map(move |own| (test, own)));
    let merged = pairs.map(|(test, own)| {
        let mut own = own.clone();
        for key in ["headers", "sourceLabels"] {
            if let Some(value) = test.get(key) {
                own[key] = value.clone();
            }
        }
        own
    });
    merged.collect()
}

/// The value without the keys of objects that hold nothing.
fn without_null(mut value: Value) -> Value {
    match &mut value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            for value in entries.values_mut() {
                *value = without_null(value.take());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_null(item.take())),
        _ => {}
    }
    value
}

fn template(deployment: Option<&Manifest>) -> Option<&Value> {
    deployment?.at("/spec/template")
}

/// The weights in the route of a Canary; none if there is no route to both versions.
pub(super) fn route_weights(object: &Manifest, live: &Live) -> Option<RouteWeights> {
    let canary = Canary::new(&object.object.data);
    let route = &live.get(Kind::VirtualService, canary.apex())?.manifest.object.data;
    let mut routes = Canary::weighted_routes(route);
    routes.find_map(|destinations| RouteWeights::of(destinations, |own| canary.is_canary(own)))
}

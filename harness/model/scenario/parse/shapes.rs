use serde_json::Value;

use super::forms::{FORMS, misplaced_key};
use crate::scenario::document::{self, Document};
use crate::scenario::positions::{Part, Position};

/// The YAML form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Scalar,
    List,
    Mapping,
    /// A single value or a mapping.
    ScalarOrMapping,
    /// Anything but nothing.
    Any,
}

use Form::{Any, List, Mapping, Scalar, ScalarOrMapping};

/// The expected form of each value of a scenario file, with a description. `*` stands for any key or list item.
const SHAPES: &[(&str, Form, &str)] = &[
    ("", Mapping, "a mapping with `name`, `namespace`, `service`, `client`, `version`, `populations` and `stages`"),
    ("name", Scalar, "a text"),
    ("namespace", Scalar, "a text"),
    ("install", Mapping, "what the scenario needs with its version, such as {argo-rollouts: '1.10'}"),
    ("install/*", Scalar, "a version in quotes, such as '1.10'"),
    ("addons", List, "a list of addons of Istio, such as [prometheus, kiali]"),
    ("addons/*", Scalar, "the name of an addon, such as prometheus"),
    ("nodes", Scalar, "a number of nodes, such as 2"),
    (
        "controller",
        Mapping,
        "the object that a controller moves traffic with, such as {rollout: hello} or {canary: hello}",
    ),
    ("controller/*", Scalar, "the name of an object"),
    ("service", Scalar, "an address, such as http://svc-hello:8080 or grpc://svc-hello:8080"),
    ("client", Mapping, "the client pod, such as {manifest: client.yaml, pod: client}"),
    (
        "version",
        Mapping,
        "one of five: {body: 'version (?<version>[^ ]+)'}, an expression with the group `version`; {header: x-version}; {json: /version}, a JSON pointer; {field: build.version}, a field of a gRPC message; {line: 'version (?<version>[^ ]+)'}, the first line of a server of TCP",
    ),
    ("version/*", Scalar, "a text"),
    ("descriptors", Scalar, "a file with a descriptor set, such as hello.binpb"),
    ("messages", Mapping, "the request messages by method, such as {/helloworld.Greeter/SayHello: {name: world}}"),
    ("messages/*", Mapping, "a message as JSON, such as {name: world}"),
    ("pod", Mapping, "the response header that names the pod, such as {header: x-pod}"),
    ("pod/*", Scalar, "the name of a header"),
    ("served", Mapping, "the request counter of a pod, such as {path: /served, port: 8080}"),
    ("served/*", Scalar, "one value, as in {path: /served, port: 8080}"),
    ("client/*", Scalar, "a text"),
    ("traffic", Mapping, "the traffic settings, such as {connections: 8, qps: 500, keep-alive: true}"),
    ("traffic/*", Scalar, "one value"),
    ("error-rates", Mapping, ERROR_RATES),
    ("error-rates/*", Scalar, "one value"),
    ("errors", Mapping, ERROR_RATES),
    ("errors/*", Scalar, "one value"),
    (
        "populations",
        Mapping,
        "the populations by name, such as {everyone: {}, testers: {headers: {end-user: testers}}}",
    ),
    ("populations/*", Mapping, "a population: {}, {headers: {NAME: VALUE}} or {any-of: [{headers: {NAME: VALUE}}]}"),
    ("populations/*/headers", Mapping, HEADERS),
    ("populations/*/headers/*", Scalar, "the value of a header"),
    (
        "populations/*/sessions",
        Mapping,
        "the callers that send many requests each, such as {header: x-user, count: 200}",
    ),
    ("populations/*/sessions/*", Scalar, "one value, as in {header: x-user, count: 200}"),
    ("populations/*/any-of", List, "a list of variants, such as [{headers: {end-user: Testers}}]"),
    ("populations/*/any-of/*", Mapping, "a variant, such as {headers: {end-user: Testers}}"),
    ("populations/*/any-of/*/headers", Mapping, HEADERS),
    ("populations/*/any-of/*/headers/*", Scalar, "the value of a header"),
    (
        "stages",
        List,
        "a list of stages, such as - {name: first release, apply: [hello.yaml], expect: [{from: everyone, get: {v1: 100%}}]}",
    ),
    (
        "stages/*",
        Mapping,
        "a stage, such as {name: first release, apply: [hello.yaml], expect: [{from: everyone, get: {v1: 100%}}]}",
    ),
    ("stages/*/name", Scalar, "a text"),
    ("stages/*/apply", List, "a list of manifest files, such as [hello.yaml]"),
    ("stages/*/apply/*", Scalar, "a manifest file"),
    ("stages/*/delete", List, "a list of objects or manifest files, such as [deployment/hello, svc.yaml]"),
    ("stages/*/delete/*", Scalar, "an object, such as deployment/hello, or a manifest file"),
    ("stages/*/do", Any, ACTS),
    ("stages/*/do/restart", Scalar, "a Deployment, such as deployment/hello"),
    ("stages/*/do/*/restart", Scalar, "a Deployment, such as deployment/hello"),
    ("stages/*/do/scale", Mapping, PODS),
    ("stages/*/do/*/scale", Mapping, PODS),
    ("stages/*/do/*", Any, ACTS),
    ("stages/*/wait", Mapping, "the state to wait for, such as {step: 1, phase: Paused, within: 60s}"),
    ("stages/*/wait/pods", Mapping, PODS),
    ("stages/*/wait/*", Scalar, "one value, as in {step: 1, phase: Paused, within: 60s}"),
    ("stages/*/expect", List, "a list of expectations, such as [{from: everyone, get: {v1: 100%}}]"),
    ("stages/*/expect/*", Mapping, FORMS),
    ("stages/*/follow", Mapping, FOLLOW),
    ("stages/*/follow/weights", List, "the weights of the route on the way, such as [10%, 50%, 100%]"),
    ("stages/*/follow/weights/*", Any, "a share, such as 20%, or {experiment: 10%}"),
    ("stages/*/follow/pods", Mapping, PODS),
    ("stages/*/follow/*", Scalar, "one value, as in {until: Healthy, within: 5m}"),
    (
        "stages/*/expect/*/get",
        ScalarOrMapping,
        "the share of each version, such as {v1: 50%, v2: 50%}, or `as-declared`",
    ),
    ("stages/*/expect/*/lag", Scalar, "a duration, such as 2s"),
    ("stages/*/expect/*/get/*", Scalar, "a share, such as 50%"),
    (
        "stages/*/expect/*/path-of-versions",
        Any,
        "the version of each service along the way, such as [front-v1, back-v2], or the share of each such path, such as {front-v1 > back-v1: 90%, front-v1 > back-v2: 10%}",
    ),
    (
        "stages/*/expect/*/status",
        ScalarOrMapping,
        "a status such as 503 or UNAVAILABLE, or the share of each, such as {200: 90%, 503: 10%}",
    ),
    ("stages/*/expect/*/error-rates", Mapping, ERROR_RATES),
    ("stages/*/expect/*/errors", ScalarOrMapping, "a factor, such as 2x"),
    ("stages/*/expect/*/compare", Mapping, "the version to judge and the one to compare with, such as {v2: v1}"),
    ("stages/*/expect/*/compare/*", Scalar, "a version"),
    ("stages/*/expect/*/slower-than", Mapping, "a factor for each share, such as {95%: 2x}"),
    ("stages/*/expect/*/slower-than/*", Scalar, "a factor, such as 2x"),
    ("stages/*/expect/*/errors-at-most", Scalar, "a share, such as 1%"),
    ("stages/*/expect/*/latency", Mapping, "a time for each share of the answers, such as {99%: 50ms}"),
    ("stages/*/expect/*/latency/*", Scalar, "a duration, such as 50ms"),
    ("stages/*/expect/*/sessions", Mapping, "what sessions get, such as {stay: 100%} or {get: {v1: 50%, v2: 50%}}"),
    ("stages/*/expect/*/sessions/stay", Scalar, "`100%`"),
    (
        "stages/*/expect/*/sessions/get",
        Mapping,
        "the share of the sessions that each version gets, such as {v1: 50%, v2: 50%}",
    ),
    ("stages/*/expect/*/sessions/get/*", Scalar, "a share, such as 50%"),
    ("stages/*/expect/*/excess", Scalar, "a share, such as 1%"),
    ("stages/*/expect/*/served", Mapping, "the requests of each workload, such as {hello-server-v2: 0}"),
    (
        "stages/*/expect/*/during",
        Mapping,
        "at least one of `errors`, `gap`, `last-of` and `latency`, such as {errors: 0}, {gap: 200ms} or {last-of: {v1: 5s}}",
    ),
    ("stages/*/expect/*/weights", Mapping, "the weights in the route, such as {canary: 20%, stable: 80%}"),
    ("stages/*/expect/*/weights/*", Scalar, "a share, such as 20%"),
    ("stages/*/expect/*/reports", Mapping, "what the controller reports, such as {weight: 20%}"),
    ("stages/*/expect/*/reports/*", Scalar, "a share, such as 20%"),
    ("stages/*/expect/*/during/last-of", Mapping, "a duration for each version, such as {v1: 5s}"),
    ("stages/*/expect/*/during/last-of/*", Scalar, "a duration, such as 5s"),
    ("stages/*/expect/*/during/latency", Mapping, "a time for each share of the requests, such as {99%: 200ms}"),
    ("stages/*/expect/*/during/latency/*", Scalar, "a duration, such as 200ms"),
    ("stages/*/expect/*/during/*", Scalar, "one value, as in {errors: 0, excludes: 1%, gap: 200ms}"),
    ("stages/*/expect/*/served/*", Scalar, "a number of requests, or `some`"),
    ("stages/*/expect/*/status/*", Scalar, "a share, such as 50%"),
    ("stages/*/expect/*/error-rates/*", Scalar, "one value"),
    ("stages/*/expect/*/errors/*", Scalar, "one value"),
    ("stages/*/expect/*/from", Scalar, "the name of a population"),
    ("stages/*/expect/*/path", Scalar, "a path, such as /"),
    ("stages/*/expect/*/objects", Scalar, "`none`"),
];

const ERROR_RATES: &str = "the error rates of verdicts, such as {false-alarm: 1e-6, miss: 1e-3, deviation: 10%, leak: 1%, max-requests: 100000}";
const ACTS: &str = "what the controller does, such as promote, answers to webhooks, such as {open: promotion}, or changes of Deployments, such as {restart: deployment/hello} and {scale: {deployment/hello: 3}}";
const PODS: &str = "the number of pods by Deployment, such as {deployment/hello: 3}";
const FOLLOW: &str = "the state to which the controller moves by itself, such as {until: Healthy, within: 5m, weights: [10%, 50%, 100%]}";
const HEADERS: &str = "a mapping of header names to values, such as {end-user: testers}";

/// Explains why the parser rejects a scenario file at a line: the value of an unexpected form, or the misplaced key of an expectation, with
/// its position. None if the cause is another.
pub(super) fn explain(text: &str, line: u64) -> Option<(Position, String)> {
    let Document { value, start, part } = document::read(text).ok()?.into_iter().next()?;
    find(&value, &part, start, &mut Vec::new(), line)
}

fn find<'v>(
    value: &'v Value,
    part: &Part,
    at: Position,
    path: &mut Vec<&'v str>,
    line: u64,
) -> Option<(Position, String)> {
    let here = at.line == line || part.first().is_some_and(|first| first.line == line);
    if here && let Some(found) = unexpected_form(value, path) {
        return Some((at, found));
    }
    match (value, part) {
        (Value::Object(entries), Part::Mapping(parts)) => {
            if is_expectation(path)
                && parts.iter().any(|(_, at, _)| at.line == line)
                && let Some((index, message)) = misplaced_key(parts.iter().map(|(key, ..)| key.as_str()))
            {
                return Some((parts[index].1, message));
            }
            parts.iter().find_map(|(key, at, part)| {
                let (key, value) = entries.get_key_value(key)?;
                path.push(key);
                let found = find(value, part, *at, path, line);
                path.pop();
                found
            })
        }
        (Value::Array(items), Part::Sequence(parts)) => items.iter().zip(parts).find_map(|(item, (at, part))| {
            path.push("*");
            let found = find(item, part, *at, path, line);
            path.pop();
            found
        }),
        _ => None,
    }
}

fn is_expectation(path: &[&str]) -> bool {
    matches!(path, ["stages", "*", "expect", "*"])
}

/// The message about a value whose form is not the expected one.
fn unexpected_form(value: &Value, path: &[&str]) -> Option<String> {
    let matches = |pattern: &str| {
        let mut parts = pattern.split('/').filter(|part| !part.is_empty());
        path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == *name)) && parts.next().is_none()
    };
    let (_, form, description) = SHAPES.iter().find(|(pattern, ..)| matches(pattern))?;
    let (written, fits) = match value {
        Value::Object(_) => ("a mapping", matches!(form, Mapping | ScalarOrMapping | Any)),
        Value::Array(_) => ("a list", matches!(form, List | Any)),
        Value::Null => ("nothing", false),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            ("a single value", matches!(form, Scalar | ScalarOrMapping | Any))
        }
    };
    if fits {
        return None;
    }
    let name = match path.last() {
        None | Some(&"*") => String::new(),
        Some(name) => format!("`{name}`: "),
    };
    Some(format!("{name}expected {description}; found {written}"))
}

//! The validation of objects by the API server, as far as the embedded mesh knows it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::ClusterError;
use crate::routing::{Kind, Live, MATCH_FIELDS, Severity, check};
use crate::scenario::{ApiKind, Manifest, Target};

/// The fields of Istio's string matches, destinations and traffic policies.
const TEXT: [&str; 3] = ["exact", "prefix", "regex"];
const DESTINATION: [&str; 3] = ["host", "subset", "port"];
const POLICY: [&str; 8] = [
    "loadBalancer",
    "connectionPool",
    "outlierDetection",
    "tls",
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];

/// The fields that objects of Istio and the Gateway API may have, by JSON pointer. `*` is an item of a list.
const KNOWN: [(&str, &str, &[&str]); 45] = [
    ("VirtualService", "/spec", &["hosts", "gateways", "http", "tls", "tcp", "exportTo"]),
    (
        "VirtualService",
        "/spec/http/*",
        &[
            "name",
            "match",
            "route",
            "redirect",
            "directResponse",
            "delegate",
            "rewrite",
            "timeout",
            "retries",
            "fault",
            "mirror",
            "mirrors",
            "mirrorPercent",
            "mirror_percent",
            "mirrorPercentage",
            "corsPolicy",
            "headers",
        ],
    ),
    ("VirtualService", "/spec/http/*/match/*", &MATCH_FIELDS),
    ("VirtualService", "/spec/http/*/match/*/headers/*", &TEXT),
    ("VirtualService", "/spec/http/*/match/*/withoutHeaders/*", &TEXT),
    ("VirtualService", "/spec/http/*/match/*/queryParams/*", &TEXT),
    ("VirtualService", "/spec/http/*/match/*/uri", &TEXT),
    ("VirtualService", "/spec/http/*/match/*/method", &TEXT),
    ("VirtualService", "/spec/http/*/match/*/authority", &TEXT),
    ("VirtualService", "/spec/http/*/match/*/scheme", &TEXT),
    ("VirtualService", "/spec/http/*/route/*", &["destination", "weight", "headers"]),
    ("VirtualService", "/spec/http/*/route/*/destination", &DESTINATION),
    ("VirtualService", "/spec/http/*/route/*/destination/port", &["number"]),
    ("VirtualService", "/spec/http/*/route/*/headers", &["request", "response"]),
    ("VirtualService", "/spec/http/*/headers", &["request", "response"]),
    ("VirtualService", "/spec/http/*/headers/*", &["set", "add", "remove"]),
    ("VirtualService", "/spec/http/*/fault", &["abort", "delay"]),
    ("VirtualService", "/spec/http/*/fault/abort", &["httpStatus", "grpcStatus", "http2Error", "percentage"]),
    ("VirtualService", "/spec/http/*/fault/delay", &["fixedDelay", "exponentialDelay", "percent", "percentage"]),
    ("VirtualService", "/spec/http/*/fault/*/percentage", &["value"]),
    ("VirtualService", "/spec/http/*/mirror", &DESTINATION),
    ("VirtualService", "/spec/http/*/mirrors/*", &["destination", "percentage"]),
    ("VirtualService", "/spec/http/*/mirrors/*/destination", &DESTINATION),
    ("VirtualService", "/spec/http/*/mirrorPercentage", &["value"]),
    (
        "VirtualService",
        "/spec/http/*/retries",
        &["attempts", "backoff", "perTryTimeout", "retryOn", "retryRemoteLocalities", "retryIgnorePreviousHosts"],
    ),
    (
        "VirtualService",
        "/spec/http/*/redirect",
        &["uri", "authority", "port", "derivePort", "scheme", "redirectCode", "prefixRewrite"],
    ),
    ("VirtualService", "/spec/http/*/directResponse", &["status", "body"]),
    ("VirtualService", "/spec/http/*/directResponse/body", &["string", "bytes"]),
    ("VirtualService", "/spec/http/*/delegate", &["name", "namespace"]),
    ("VirtualService", "/spec/http/*/rewrite", &["uri", "authority", "uriRegexRewrite"]),
    ("VirtualService", "/spec/http/*/rewrite/uriRegexRewrite", &["match", "rewrite"]),
    (
        "VirtualService",
        "/spec/http/*/corsPolicy",
        &[
            "allowOrigin",
            "allowOrigins",
            "allowMethods",
            "allowHeaders",
            "exposeHeaders",
            "maxAge",
            "allowCredentials",
            "unmatchedPreflights",
        ],
    ),
    ("DestinationRule", "/spec", &["host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"]),
    ("DestinationRule", "/spec/trafficPolicy", &POLICY),
    ("DestinationRule", "/spec/subsets/*", &["name", "labels", "trafficPolicy"]),
    ("DestinationRule", "/spec/subsets/*/trafficPolicy", &POLICY),
    ("HTTPRoute", "/spec", &["parentRefs", "hostnames", "rules", "useDefaultGateways"]),
    ("HTTPRoute", "/spec/parentRefs/*", &["group", "kind", "namespace", "name", "sectionName", "port"]),
    (
        "HTTPRoute",
        "/spec/rules/*",
        &["name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"],
    ),
    ("HTTPRoute", "/spec/rules/*/matches/*", &["path", "headers", "queryParams", "method"]),
    ("HTTPRoute", "/spec/rules/*/matches/*/path", &["type", "value"]),
    ("HTTPRoute", "/spec/rules/*/matches/*/headers/*", &["type", "name", "value"]),
    ("HTTPRoute", "/spec/rules/*/matches/*/queryParams/*", &["type", "name", "value"]),
    (
        "HTTPRoute",
        "/spec/rules/*/filters/*",
        &[
            "type",
            "requestHeaderModifier",
            "responseHeaderModifier",
            "requestMirror",
            "requestRedirect",
            "urlRewrite",
            "cors",
            "externalAuth",
            "extensionRef",
        ],
    ),
    ("HTTPRoute", "/spec/rules/*/backendRefs/*", &["group", "kind", "name", "namespace", "port", "weight", "filters"]),
];

/// Validates an object as the API server would.
pub(super) fn admit(live: &Live, manifest: &Manifest) -> Result<(), ClusterError> {
    let of_kind = match manifest.kind() {
        "Service" => unknown_in::<Service>(manifest),
        "Deployment" => unknown_in::<Deployment>(manifest),
        "Pod" => unknown_in::<Pod>(manifest),
        "Namespace" => unknown_in::<Namespace>(manifest),
        _ => Ok(unknown_among(manifest)),
    };
    let unknown = unknown_in_metadata(manifest)
        .and_then(|unknown| of_kind.map(|other| unknown.or(other)))
        .map_err(|reason| rejected(manifest, "", format!("failed to create typed patch object: {reason}"), 400))?;
    if let Some(pointer) = unknown {
        let field = pointer.replace('/', ".");
        return Err(rejected(manifest, &pointer, format!("{field}: field not declared in schema"), 400));
    }
    immutable(live, manifest)?;
    // an object can be invalid by itself or in conflict with existing objects
    let mut then = live.clone();
    then.apply(manifest);
    let before = check(live);
    let worse = check(&then).into_iter().find(|problem| {
        problem.severity == Severity::Error && problem.origin.path == manifest.origin.path && !before.contains(problem)
    });
    match worse {
        None => Ok(()),
        Some(problem) => Err(ClusterError::Rejected {
            origin: problem.origin,
            id: manifest.id(),
            status: status(problem.message, 422),
        }),
    }
}

/// Checks that the object to be deleted exists.
pub(super) fn find(live: &Live, target: &Target) -> Result<(), ClusterError> {
    let id = live.resolve(target).map_err(|source| ClusterError::Target { place: target.origin.clone(), source })?;
    if live.named(target).is_some() {
        return Ok(());
    }
    let kind = ApiKind::of(&id.group, &id.kind);
    let resource = if kind.group.is_empty() { kind.plural } else { format!("{}.{}", kind.plural, kind.group) };
    Err(ClusterError::Rejected {
        origin: target.origin.clone(),
        id: format!("the deletion of {}/{}", target.kind, target.name),
        status: status(format!("{resource} \"{}\" not found", target.name), 404),
    })
}

fn immutable(live: &Live, manifest: &Manifest) -> Result<(), ClusterError> {
    let (kind, pointer) = match manifest.kind() {
        "Deployment" => (Kind::Deployment, "/spec/selector"),
        "Pod" => (Kind::Pod, "/spec/containers/0/name"),
        _ => return Ok(()),
    };
    let Some(earlier) = live.get(kind, manifest.name()) else { return Ok(()) };
    if earlier.manifest.at(pointer) == manifest.at(pointer) {
        return Ok(());
    }
    let (plural, field) = match kind {
        Kind::Deployment => ("Deployment.apps", "spec.selector"),
        _ => ("Pod", "spec"),
    };
    let message = format!("{plural} \"{}\" is invalid: {field}: Invalid value: field is immutable", manifest.name());
    Err(rejected(manifest, pointer, message, 422))
}

fn rejected(manifest: &Manifest, pointer: &str, message: String, code: u16) -> ClusterError {
    ClusterError::Rejected { origin: manifest.origin_of(pointer), id: manifest.id(), status: status(message, code) }
}

fn status(message: String, code: u16) -> Box<Status> {
    Box::new(Status { message, code, ..Status::default() })
}

/// The pointer of an unknown field in the metadata of an object.
fn unknown_in_metadata(manifest: &Manifest) -> Result<Option<String>, String> {
    let written = serde_json::to_value(&manifest.object.metadata).unwrap_or_default();
    let typed: ObjectMeta = serde_json::from_value(written.clone()).map_err(|error| format!(".metadata: {error}"))?;
    let kept = serde_json::to_value(typed).unwrap_or_default();
    Ok(lost(&written, &kept, "/metadata"))
}

/// The pointer of a field that a type does not have. Deserialization drops it.
fn unknown_in<T: Serialize + DeserializeOwned>(manifest: &Manifest) -> Result<Option<String>, String> {
    let mut written = manifest.object.data.clone();
    if let Some(object) = written.as_object_mut() {
        object.insert("metadata".to_owned(), serde_json::json!({}));
    }
    let typed: T = serde_json::from_value(written.clone()).map_err(|error| error.to_string())?;
    let kept = serde_json::to_value(typed).unwrap_or_default();
    Ok(lost(&written, &kept, ""))
}

fn lost(written: &Value, kept: &Value, pointer: &str) -> Option<String> {
    match (written, kept) {
        (Value::Object(written), kept) => {
            written.iter().filter(|(_, value)| !value.is_null()).find_map(|(key, value)| {
                let own = format!("{pointer}/{key}");
                match kept.get(key) {
                    Some(kept) => lost(value, kept, &own),
                    // types do not serialize empty values
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => None,
                    None if value.as_array().is_some_and(Vec::is_empty) => None,
                    None => Some(own),
                }
            })
        }
        (Value::Array(written), Value::Array(kept)) => written
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (written, kept))| lost(written, kept, &format!("{pointer}/{index}"))),
        _ => None,
    }
}

fn unknown_among(manifest: &Manifest) -> Option<String> {
    let mut of_kind = KNOWN.iter().filter(|(kind, _, _)| *kind == manifest.kind());
    of_kind.find_map(|(_, pattern, known)| {
        let parts: Vec<&str> = pattern.split('/').skip(1).collect();
        unknown_under(&manifest.object.data, &parts, known, "")
    })
}

fn unknown_under(value: &Value, parts: &[&str], known: &[&str], pointer: &str) -> Option<String> {
    let Some((part, rest)) = parts.split_first() else {
        let key = value.as_object()?.keys().find(|key| !known.contains(&key.as_str()))?;
        return Some(format!("{pointer}/{key}"));
    };
    match (part, value) {
        (&"*", Value::Array(items)) => {
            (0..).zip(items).find_map(|(index, item)| unknown_under(item, rest, known, &format!("{pointer}/{index}")))
        }
        (&"*", Value::Object(entries)) => {
            entries.iter().find_map(|(key, item)| unknown_under(item, rest, known, &format!("{pointer}/{key}")))
        }
        (part, value) => unknown_under(value.get(part)?, rest, known, &format!("{pointer}/{part}")),
    }
}

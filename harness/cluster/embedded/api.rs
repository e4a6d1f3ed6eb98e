//! The validation of objects by the API server, as far as the embedded mesh knows it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::ClusterError;
use crate::routing::{Kind, Live, Severity, check};
use crate::scenario::{ApiKind, Manifest, Target};

/// The fields that objects of a kind may have, by JSON pointer.
type Fields = BTreeMap<String, Vec<String>>;

/// The known fields of objects of Istio and the Gateway API, by kind.
static KNOWN: LazyLock<BTreeMap<String, Fields>> =
    LazyLock::new(|| serde_yaml::from_str(include_str!("fields.yaml")).unwrap_or_default());

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
    KNOWN.get(manifest.kind())?.iter().find_map(|(pattern, known)| {
        let parts: Vec<&str> = pattern.split('/').skip(1).collect();
        unknown_under(&manifest.object.data, &parts, known, "")
    })
}

fn unknown_under(value: &Value, parts: &[&str], known: &[String], pointer: &str) -> Option<String> {
    let Some((part, rest)) = parts.split_first() else {
        let key = value.as_object()?.keys().find(|key| !known.contains(key))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::MATCH_FIELDS;

    #[test]
    fn the_known_fields_are_read_and_those_of_a_match_are_the_ones_of_the_model() {
        assert_eq!(KNOWN.keys().collect::<Vec<_>>(), ["DestinationRule", "HTTPRoute", "VirtualService"]);
        assert_eq!(KNOWN["VirtualService"]["/spec/http/*/match/*"], MATCH_FIELDS);
        assert_eq!(KNOWN.values().map(BTreeMap::len).sum::<usize>(), 45);
    }
}

//! The validation of objects by the API server, as far as the embedded mesh knows it.

use kube::core::Status;

use crate::cluster::ClusterError;
use crate::routing::{Definitions, Kind, Live};
use crate::scenario::{ApiKind, Manifest, Target};

/// Validates an object as the API server would.
pub(super) fn admit(live: &Live, manifest: &Manifest) -> Result<(), ClusterError> {
    let mut then = live.clone();
    then.apply(manifest);
    if let Some(problem) = then.like(manifest).and_then(|object| object.refused(Definitions::Newest).first()) {
        let (origin, status) = (problem.origin.clone(), status(problem.message.clone(), 422));
        return Err(ClusterError::Rejected { origin, id: manifest.id(), status });
    }
    immutable(live, manifest)
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

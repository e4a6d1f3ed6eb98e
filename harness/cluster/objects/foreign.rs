//! Changes that something else has made to the objects of a run.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::api::{ObjectMeta, PartialObjectMeta};
use kube::core::DynamicObject;

use super::{FIELD_MANAGER, Objects, RESTARTER};
use crate::scenario::ObjectId;

/// An object as the run has left it.
#[derive(Debug, Clone)]
pub(super) struct Left {
    uid: Option<String>,
    generation: Option<i64>,
}

impl Left {
    pub fn of(made: &ObjectMeta) -> Self {
        Self { uid: made.uid.clone(), generation: made.generation }
    }

    /// What something else did to the object, which is there now with this metadata; none if nothing did.
    fn difference(&self, id: &ObjectId, now: Option<&ObjectMeta>) -> Option<String> {
        let name = format!("{}/{}", id.kind, id.name);
        let Some(now) = now else { return Some(format!("{name} was deleted by something else")) };
        if now.uid != self.uid {
            return Some(format!("{name} was deleted and created again by something else"));
        }
        if now.generation == self.generation {
            return None;
        }
        let by = now.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
        let by = by.filter_map(|entry| Some((entry.time.as_ref()?, entry.manager.as_deref()?)));
        let by = by.filter(|(_, manager)| ![FIELD_MANAGER, RESTARTER].contains(manager));
        let by = by.max_by_key(|(time, _)| time.0).map_or("something else", |(_, manager)| manager);
        Some(format!("{name} was changed by {by}"))
    }
}

/// Forgets an object that the run deletes; with a namespace, all objects in it.
pub(super) fn forget(left: &mut BTreeMap<ObjectId, Left>, id: &ObjectId) {
    left.remove(id);
    if id.kind == "Namespace" && id.group.is_empty() {
        left.retain(|other, _| other.namespace != id.name);
    }
}

/// Remembers a Deployment as the run has left it by restarting it. One that the run has not applied stays unknown.
pub(super) fn remember_restarted(left: &mut BTreeMap<ObjectId, Left>, namespace: &str, made: &ObjectMeta) {
    let is_it =
        |id: &ObjectId| id.kind == "Deployment" && Some(&id.name) == made.name.as_ref() && id.namespace == namespace;
    if let Some((_, left)) = left.iter_mut().find(|(id, _)| is_it(id)) {
        *left = Left::of(made);
    }
}

impl Objects {
    /// What something else has done to the objects that the run has applied and not deleted. Objects that the API server does not return are left
    /// out.
    pub async fn foreign_changes(&self) -> Vec<String> {
        let looked = self.left.iter().map(async |(id, left)| {
            let resource = self.applied.get(id)?;
            let now: Result<Option<PartialObjectMeta<DynamicObject>>, _> =
                self.api(&id.namespace, resource).get_metadata_opt(&id.name).await;
            left.difference(id, now.ok()?.map(|object| object.metadata).as_ref())
        });
        join_all(looked).await.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_run_deletes_itself_is_not_a_change_of_something_else() {
        let id = |kind: &str, namespace: &str, name: &str| {
            let [kind, namespace, name] = [kind, namespace, name].map(str::to_owned);
            ObjectId { group: String::new(), kind, namespace, name }
        };
        let ids = [id("Namespace", "", "a"), id("Service", "a", "s"), id("Service", "b", "s"), id("Service", "b", "t")];
        let left = |id: &ObjectId| (id.clone(), Left::of(&metadata("a", 1, "x")));
        let mut left: BTreeMap<ObjectId, Left> = ids.iter().map(left).collect();
        forget(&mut left, &ids[0]);
        forget(&mut left, &ids[3]);
        assert_eq!(left.into_keys().collect::<Vec<_>>(), [ids[2].clone()]);
    }

    #[test]
    fn a_restart_by_the_run_itself_is_not_a_change_of_something_else() {
        let id = |kind: &str, namespace: &str| {
            let [kind, namespace, name] = [kind, namespace, "hello"].map(str::to_owned);
            ObjectId { group: "apps".to_owned(), kind, namespace, name }
        };
        let ids = [id("Deployment", "a"), id("Deployment", "b"), id("StatefulSet", "a")];
        let first = |id: &ObjectId| (id.clone(), Left::of(&metadata("u", 1, FIELD_MANAGER)));
        let mut left: BTreeMap<ObjectId, Left> = ids.iter().map(first).collect();
        let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..metadata("u", 2, RESTARTER) };
        remember_restarted(&mut left, "a", &named("hello"));
        remember_restarted(&mut left, "a", &named("another"));
        let told = |id: &ObjectId| left[id].difference(id, Some(&metadata("u", 2, RESTARTER)));
        assert_eq!(ids.each_ref().map(|id| told(id).is_some()), [false, true, true]);
        assert_eq!(left.len(), 3);
        // what comes after the restart is
        let later = left[&ids[0]].difference(&ids[0], Some(&metadata("u", 3, "kubectl-edit")));
        assert_eq!(later.as_deref(), Some("Deployment/hello was changed by kubectl-edit"));
    }

    fn metadata(uid: &str, generation: i64, manager: &str) -> ObjectMeta {
        let fields = json!([
            {"manager": FIELD_MANAGER, "operation": "Apply", "time": "2026-01-01T00:00:00Z"},
            {"manager": manager, "operation": "Update", "time": "2026-01-01T00:00:09Z"},
            {"manager": "status", "operation": "Update", "time": "2026-01-01T00:00:10Z", "subresource": "status"},
        ]);
        serde_json::from_value(json!({"uid": uid, "generation": generation, "managedFields": fields})).unwrap()
    }

    #[rstest]
    #[case::nothing(Some(metadata("a", 1, "kubectl")), None)]
    #[case::changed(Some(metadata("a", 2, "kubectl-edit")), Some("VirtualService/vs was changed by kubectl-edit"))]
    #[case::created_again(
        Some(metadata("b", 1, "x")),
        Some("VirtualService/vs was deleted and created again by something else")
    )]
    #[case::deleted(None, Some("VirtualService/vs was deleted by something else"))]
    fn what_something_else_did_is_told(#[case] now: Option<ObjectMeta>, #[case] expected: Option<&str>) {
        let id = ObjectId {
            group: "networking.istio.io".to_owned(),
            kind: "VirtualService".to_owned(),
            namespace: "canary".to_owned(),
            name: "vs".to_owned(),
        };
        let left = Left::of(&metadata("a", 1, FIELD_MANAGER));
        assert_eq!(left.difference(&id, now.as_ref()).as_deref(), expected);
    }
}

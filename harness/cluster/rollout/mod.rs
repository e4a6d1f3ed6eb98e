mod growth;

use std::collections::{BTreeMap, HashSet};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ClusterError;
use super::health::{OUTAGE_LIMIT, outage};
use super::objects::{Applied, Deleted};
use super::pod::{PodState, Trouble, is_staying, pod_state, trouble};
use super::wait::{Again, Awaited, Failure, Progress, WaitError, until};

/// The annotation with the revision, on a Deployment and on the `ReplicaSet` of each revision.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The Deployments, `ReplicaSet`s and pods of a namespace or of all, updated by watches.
///
/// One watch may lag behind another. [`Workloads::rolled_out`] therefore waits until all of them show the same complete rollouts.
#[derive(Debug)]
pub struct Workloads {
    pods: Store<Pod>,
    replica_sets: Store<ReplicaSet>,
    deployments: Store<Deployment>,
    changes: watch::Receiver<u64>,
    _watches: JoinSet<()>,
}

impl Workloads {
    /// Starts the watches of a namespace.
    pub fn watch(client: &Client, namespace: &str) -> Self {
        let client = || client.clone();
        Self::follow(
            Api::namespaced(client(), namespace),
            Api::namespaced(client(), namespace),
            Api::namespaced(client(), namespace),
        )
    }

    /// Starts the watches of all namespaces.
    pub fn watch_all(client: &Client) -> Self {
        let client = || client.clone();
        Self::follow(Api::all(client()), Api::all(client()), Api::all(client()))
    }

    fn follow(pods: Api<Pod>, replica_sets: Api<ReplicaSet>, deployments: Api<Deployment>) -> Self {
        let (sender, changes) = watch::channel(0);
        let mut watches = JoinSet::new();
        let pods = follow(pods, sender.clone(), &mut watches);
        let replica_sets = follow(replica_sets, sender.clone(), &mut watches);
        let deployments = follow(deployments, sender, &mut watches);
        Self { pods, replica_sets, deployments, changes, _watches: watches }
    }

    /// The current pods.
    pub fn pods(&self) -> Vec<PodState> {
        self.pods.state().iter().map(|pod| pod_state(pod)).collect()
    }

    /// The images of the current pods, with the digests that the container runtime reports.
    pub fn images(&self) -> BTreeMap<String, String> {
        let mut images = BTreeMap::new();
        for pod in self.pods.state() {
            let Some(status) = &pod.status else { continue };
            let all = [&status.init_container_statuses, &status.container_statuses];
            for container in all.into_iter().flatten().flatten().filter(|own| !own.image_id.is_empty()) {
                images.insert(container.image.clone(), container.image_id.clone());
            }
        }
        images
    }

    /// A wait's trigger: every change of a watched object.
    pub fn changes(&self) -> Again {
        Again::OnChange(self.changes.clone())
    }

    /// Waits until the Deployments and Pods among the applied objects are rolled out and ready, and the pods of the deleted ones are
    /// terminating. The watched pods must be exactly those of the complete rollouts.
    ///
    /// # Errors
    /// A workload cannot become ready, it was deleted, or the timeout has passed.
    pub async fn rolled_out(
        &self,
        applied: &[Applied],
        deleted: &[Deleted],
        limit: Duration,
        seen: impl FnMut(&str),
    ) -> Result<(), ClusterError> {
        let is_workload = |kind: &str| matches!(kind, "Deployment" | "Pod");
        let there = applied.iter().filter(|object| is_workload(&object.kind)).map(|object| &object.name);
        let gone = deleted.iter().filter(|object| is_workload(&object.kind)).map(|object| &object.name);
        let workloads: Vec<&str> = there.chain(gone).map(String::as_str).collect();
        if workloads.is_empty() {
            return Ok(());
        }
        // an object that was seen before and is missing now was deleted by someone else
        let mut known = HashSet::new();
        let look = || ready(self.progress(applied, deleted, &mut known));
        let what = Awaited::Rollout(workloads.join(", "));
        tokio::select! {
            waited = until(what.clone(), limit, self.changes(), seen, look) => Ok(waited?),
            unseen = outage(OUTAGE_LIMIT, || ready(self.unseen(applied))) => {
                Err(WaitError::Failed { what: what.clone(), source: Failure::Reported(unseen) }.into())
            }
        }
    }

    /// A Deployment that no controller looks at: its status is behind what was applied, or behind its own pods.
    fn unseen(&self, applied: &[Applied]) -> Option<String> {
        let sets = self.replica_sets.state();
        let is_behind = |deployment: &Deployment| {
            let (meta, status) = (deployment.meta(), deployment.status.clone().unwrap_or_default());
            let mut own = sets.iter().filter(|set| is_controlled_by(set.meta(), meta));
            let uids: HashSet<_> = own.clone().filter_map(|set| set.meta().uid.as_ref()).collect();
            let is_ready = |pod: &&Arc<Pod>| {
                replica_set_of(pod).is_some_and(|owner| uids.contains(&owner.uid)) && pod_state(pod).ready
            };
            let ready = i32::try_from(self.pods.state().iter().filter(is_ready).count()).unwrap_or(i32::MAX);
            status.observed_generation < meta.generation
                || own.any(|set| {
                    set.status.as_ref().and_then(|status| status.observed_generation) < set.meta().generation
                })
                || status.ready_replicas.unwrap_or(0) < ready
        };
        let is_own =
            |object: &Applied, one: &Deployment| one.meta().uid.as_ref() == Some(&object.uid) && is_behind(one);
        let behind = applied.iter().find(|object| self.deployments.find(|one| is_own(object, one)).is_some())?;
        let seconds = OUTAGE_LIMIT.as_secs();
        Some(format!("no controller has looked at the Deployment {} for {seconds} s", behind.name))
    }

    fn progress(&self, applied: &[Applied], deleted: &[Deleted], known: &mut HashSet<String>) -> Progress<()> {
        let mut pending = Vec::new();
        for object in applied {
            let is_it = |meta: &ObjectMeta| meta.uid.as_ref() == Some(&object.uid);
            let found = match object.kind.as_str() {
                "Deployment" => self.deployments.find(|own| is_it(own.meta())).map(|own| self.deployment(object, &own)),
                "Pod" => self.pods.find(|own| is_it(own.meta())).map(|own| pod_progress(&object.name, &own)),
                _ => continue,
            };
            let progress = match found {
                Some(progress) => {
                    known.insert(object.uid.clone());
                    progress
                }
                None if known.contains(&object.uid) => Progress::Failed(Failure::Deleted(object.name.clone())),
                None => Progress::NotYet(format!("{}: not created yet", object.name)),
            };
            match progress {
                Progress::Done(()) => {}
                Progress::NotYet(state) => pending.push(state),
                failed @ Progress::Failed(_) => return failed,
            }
        }
        pending.extend(deleted.iter().filter_map(|object| self.not_gone_yet(object)));
        if pending.is_empty() { Progress::Done(()) } else { Progress::NotYet(pending.join("; ")) }
    }

    fn deployment(&self, object: &Applied, deployment: &Deployment) -> Progress<()> {
        let name = &object.name;
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        if is_complete(deployment, object.generation) {
            return match self.not_seen_yet(deployment, usize::try_from(wanted).unwrap_or(0)) {
                None => Progress::Done(()),
                Some(state) => Progress::NotYet(format!("{name}: rolled out, but {state}")),
            };
        }
        let ready = format!("{name}: {} of {wanted} ready", status.available_replicas.unwrap_or(0));
        self.starting(deployment, &ready).map_or_else(Progress::Failed, Progress::NotYet)
    }

    /// How many pods of a Deployment are ready, with what keeps others from starting.
    fn starting(&self, deployment: &Deployment, ready: &str) -> Result<String, Failure> {
        let mut state = ready.to_owned();
        let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
        for condition in conditions.into_iter().flatten() {
            if condition.type_ == "ReplicaFailure" && condition.status == "True" {
                state = format!("{state}, {}", condition.message.clone().unwrap_or_default());
            }
            if condition.reason.as_deref() == Some("ProgressDeadlineExceeded") {
                return Err(Failure::Reported(format!("{state}, its progress deadline has passed")));
            }
        }
        for pod in self.pods.state() {
            if selects(deployment, &pod) && pod.meta().deletion_timestamp.is_none() {
                match trouble(&pod) {
                    Some(Trouble::Permanent(why)) => return Err(Failure::Reported(format!("{state}, {why}"))),
                    Some(Trouble::NoImage { image, why }) => {
                        // other pods lack the same image
                        return Err(Failure::NoImage { image, message: format!("{ready}, {why}") });
                    }
                    Some(Trouble::Starting(why)) => state = format!("{state}, {why}"),
                    None => {}
                }
            }
        }
        Ok(state)
    }

    /// What the watches do not show yet of a rollout that is complete by the Deployment's status: `wanted` ready pods of the current
    /// `ReplicaSet`, and no pod of another one unless it is terminating.
    fn not_seen_yet(&self, deployment: &Deployment, wanted: usize) -> Option<String> {
        let sets = self.replica_sets.state();
        let own = |set: &&Arc<ReplicaSet>| is_controlled_by(set.meta(), deployment.meta());
        let revision = deployment.annotations().get(REVISION);
        let current =
            sets.iter().filter(own).find(|set| revision.is_some() && set.annotations().get(REVISION) == revision);
        if current.is_none() && wanted > 0 {
            return Some("its current ReplicaSet is not seen yet".to_owned());
        }
        let (mut ready, mut others) = (0, 0);
        for pod in self.pods.state() {
            if !is_staying(&pod) {
                continue;
            }
            let Some(owner) = replica_set_of(&pod) else { continue };
            match sets.iter().find(|set| set.meta().uid.as_ref() == Some(&owner.uid)) {
                Some(set) if current.is_some_and(|current| current.meta().uid == set.meta().uid) => {
                    let state = pod_state(&pod);
                    if !state.ready || state.address.is_none() {
                        return Some(format!("pod {} is not seen as ready yet", state.name));
                    }
                    ready += 1;
                }
                Some(set) if is_controlled_by(set.meta(), deployment.meta()) => others += 1,
                // its ReplicaSet is deleted or not watched yet
                None if selects(deployment, &pod) => others += 1,
                _ => {}
            }
        }
        if ready != wanted {
            return Some(format!("{ready} of {wanted} pods of its current ReplicaSet are seen"));
        }
        (others > 0).then(|| format!("{others} pods of other ReplicaSets are seen"))
    }

    /// What the watches still show of a deleted workload: the object, or pods that are not terminating.
    fn not_gone_yet(&self, deleted: &Deleted) -> Option<String> {
        let is_deleted = |meta: &ObjectMeta| meta.uid.as_ref() == Some(&deleted.uid);
        let name = &deleted.name;
        match deleted.kind.as_str() {
            "Pod" => self
                .pods
                .find(|pod| is_deleted(pod.meta()) && is_staying(pod))
                .map(|_| format!("pod {name} is not terminating yet")),
            "Deployment" => {
                if self.deployments.find(|deployment| is_deleted(deployment.meta())).is_some() {
                    return Some(format!("{name} is still seen"));
                }
                let sets = self.replica_sets.state();
                let orphaned = |pod: &Pod| {
                    is_staying(pod)
                        && replica_set_of(pod).is_some_and(|owner| {
                            let set = sets.iter().find(|set| set.meta().uid.as_ref() == Some(&owner.uid));
                            // the garbage collector deletes the ReplicaSet before the pods
                            set.is_none_or(|set| controller(set.meta()).is_some_and(|owner| owner.uid == deleted.uid))
                        })
                };
                let pod = self.pods.find(orphaned)?;
                Some(format!("pod {} of the deleted {name} is not terminating yet", pod.name_any()))
            }
            _ => None,
        }
    }
}

/// Whether all pods of a Deployment of this generation are up to date and available, and no others are left.
pub(crate) fn is_complete(deployment: &Deployment, generation: i64) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let counts = [status.updated_replicas, status.replicas, status.available_replicas];
    status.observed_generation.unwrap_or(0) >= generation && counts.map(|count| count.unwrap_or(0)) == [wanted; 3]
}

fn pod_progress(name: &str, pod: &Pod) -> Progress<()> {
    if pod_state(pod).ready {
        return Progress::Done(());
    }
    match trouble(pod) {
        Some(Trouble::Permanent(why)) => Progress::Failed(Failure::Reported(why)),
        Some(Trouble::NoImage { image, why }) => Progress::Failed(Failure::NoImage { image, message: why }),
        Some(Trouble::Starting(why)) => Progress::NotYet(format!("{name}: {why}")),
        None => Progress::NotYet(format!("{name}: not ready")),
    }
}

/// The owner that controls an object.
fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller(meta).is_some_and(|own| Some(&own.uid) == owner.uid.as_ref())
}

fn replica_set_of(pod: &Pod) -> Option<&OwnerReference> {
    controller(pod.meta()).filter(|owner| owner.kind == "ReplicaSet")
}

/// Whether a Deployment's selector selects a pod.
fn selects(deployment: &Deployment, pod: &Pod) -> bool {
    let labels = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    deployment.namespace() == pod.namespace()
        && labels.into_iter().flatten().all(|(key, value)| pod.labels().get(key) == Some(value))
}

fn follow<K>(api: Api<K>, changed: watch::Sender<u64>, watches: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + for<'de> serde::Deserialize<'de> + 'static,
{
    let (reader, writer) = store();
    let stream = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    watches.spawn(async move {
        // a failed watch restarts by itself
        let mut stream = stream.inspect_err(|error| tracing::debug!(%error, "a watch failed")).boxed();
        while stream.next().await.is_some() {
            changed.send_modify(|revision| *revision += 1);
        }
    });
    reader
}

#[cfg(test)]
mod tests;

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
use super::objects::{Applied, Deleted};
use super::pod::{PodState, Trouble, is_staying, pod_state, trouble};
use super::wait::{Again, Awaited, Failure, Progress, until};

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
        Ok(until(Awaited::Rollout(workloads.join(", ")), limit, self.changes(), seen, look).await?)
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
        let mut state = ready.clone();
        let failed = |why: String| Progress::Failed(Failure::Reported(why));
        for condition in status.conditions.iter().flatten() {
            if condition.type_ == "ReplicaFailure" && condition.status == "True" {
                state = format!("{state}, {}", condition.message.clone().unwrap_or_default());
            }
            if condition.reason.as_deref() == Some("ProgressDeadlineExceeded") {
                return failed(format!("{state}, its progress deadline has passed"));
            }
        }
        for pod in self.pods.state() {
            if selects(deployment, &pod) && pod.meta().deletion_timestamp.is_none() {
                match trouble(&pod) {
                    Some(Trouble::Permanent(why)) => return failed(format!("{state}, {why}")),
                    Some(Trouble::NoImage { image, why }) => {
                        // other pods lack the same image
                        return Progress::Failed(Failure::NoImage { image, message: format!("{ready}, {why}") });
                    }
                    Some(Trouble::Starting(why)) => state = format!("{state}, {why}"),
                    None => {}
                }
            }
        }
        Progress::NotYet(state)
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
mod tests {
    use assert_matches::assert_matches;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;

    use super::super::wait::WaitError;
    use super::*;

    /// Watches whose events a test sends.
    struct Watches {
        pods: Writer<Pod>,
        replica_sets: Writer<ReplicaSet>,
        deployments: Writer<Deployment>,
        changed: watch::Sender<u64>,
    }

    impl Watches {
        fn new() -> (Self, Workloads) {
            let ((pods, pod_writer), (replica_sets, set_writer)) = (store(), store());
            let (deployments, deployment_writer) = store();
            let (sender, changes) = watch::channel(0);
            let watches =
                Self { pods: pod_writer, replica_sets: set_writer, deployments: deployment_writer, changed: sender };
            (watches, Workloads { pods, replica_sets, deployments, changes, _watches: JoinSet::new() })
        }

        fn deployment(&mut self, uid: &str, revision: u32, replicas: u32) {
            let text = format!(
                "metadata: {{name: hello, uid: {uid}, generation: {revision}, annotations: {{{REVISION}: '{revision}'}}}}
spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: hello}}}}, template: {{}}}}
status: {{observedGeneration: {revision}, updatedReplicas: {replicas}, replicas: {replicas}, availableReplicas: {replicas}}}"
            );
            self.deployments.apply_watcher_event(&Event::Apply(serde_yaml::from_str(&text).unwrap()));
            self.changed.send_modify(|change| *change += 1);
        }

        fn no_deployment(&mut self, uid: &str) {
            let text = format!("metadata: {{name: hello, uid: {uid}}}");
            self.deployments.apply_watcher_event(&Event::Delete(serde_yaml::from_str(&text).unwrap()));
            self.changed.send_modify(|change| *change += 1);
        }

        fn replica_set(&mut self, uid: &str, owner: &str, revision: u32) {
            let text = format!(
                "metadata:
  name: hello-{uid}
  uid: {uid}
  annotations: {{{REVISION}: '{revision}'}}
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: hello, uid: {owner}, controller: true}}]
spec: {{selector: {{}}}}"
            );
            self.replica_sets.apply_watcher_event(&Event::Apply(serde_yaml::from_str(&text).unwrap()));
            self.changed.send_modify(|change| *change += 1);
        }

        fn pod(&mut self, name: &str, set: &str, state: &str) {
            let (leaving, ready) = match state {
                "leaving" => (", deletionTimestamp: '2026-01-01T00:00:00Z'", "True"),
                "ready" => ("", "True"),
                _ => ("", "False"),
            };
            let text = format!(
                "metadata:
  {{name: {name}, uid: {name}, labels: {{app: hello, pod-template-hash: {set}}}, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: hello-{set}, uid: {set}, controller: true}}]{leaving}}}
status: {{podIP: 10.0.0.1, phase: Running, conditions: [{{type: Ready, status: '{ready}'}}]}}"
            );
            self.pods.apply_watcher_event(&Event::Apply(pod(&text)));
            self.changed.send_modify(|change| *change += 1);
        }
    }

    fn applied(uid: &str, generation: i64) -> Vec<Applied> {
        vec![Applied { kind: "Deployment".to_owned(), name: "hello".to_owned(), uid: uid.to_owned(), generation }]
    }

    /// What the wait still waits for; none if it ends.
    fn waits_for(workloads: &Workloads, applied: &[Applied], deleted: &[Deleted]) -> Option<String> {
        match workloads.progress(applied, deleted, &mut HashSet::new()) {
            Progress::Done(()) => None,
            Progress::NotYet(state) => Some(state),
            failed @ Progress::Failed(_) => panic!("{failed:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_does_not_end_while_the_watch_of_pods_lags_behind() {
        let (mut watches, workloads) = Watches::new();
        watches.replica_set("a", "d", 1);
        watches.pod("hello-a-1", "a", "ready");
        // the Deployment is complete with two pods; only one of them is seen
        watches.deployment("d", 1, 2);
        let events = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            watches.pod("hello-a-2", "a", "starting");
            tokio::time::sleep(Duration::from_secs(1)).await;
            watches.pod("hello-a-2", "a", "ready");
        };
        let start = tokio::time::Instant::now();
        let mut states = Vec::new();
        let applied = applied("d", 1);
        let gate = workloads.rolled_out(&applied, &[], Duration::from_secs(9), |state| states.push(state.to_owned()));
        let gate = async { (gate.await, start.elapsed()) };
        let ((passed, took), ()) = tokio::join!(gate, events);
        passed.unwrap();
        assert_eq!(took, Duration::from_secs(2));
        assert_eq!(
            states,
            [
                "hello: rolled out, but 1 of 2 pods of its current ReplicaSet are seen",
                "hello: rolled out, but pod hello-a-2 is not seen as ready yet",
            ]
        );
    }

    #[test]
    fn the_wait_ends_when_new_pods_are_ready_and_old_ones_terminating() {
        let (mut watches, workloads) = Watches::new();
        let applied = applied("d", 2);
        watches.replica_set("a", "d", 1);
        watches.pod("hello-a-1", "a", "ready");
        watches.deployment("d", 2, 1);
        let told = |workloads: &Workloads| waits_for(workloads, &applied, &[]).unwrap_or_default();
        assert_eq!(told(&workloads), "hello: rolled out, but its current ReplicaSet is not seen yet");
        watches.replica_set("b", "d", 2);
        assert_eq!(told(&workloads), "hello: rolled out, but 0 of 1 pods of its current ReplicaSet are seen");
        watches.pod("hello-b-1", "b", "ready");
        assert_eq!(told(&workloads), "hello: rolled out, but 1 pods of other ReplicaSets are seen");
        // pods of another Deployment with the same labels do not count
        watches.replica_set("x", "other", 1);
        watches.pod("other-x-1", "x", "ready");
        watches.pod("hello-a-1", "a", "leaving");
        assert_eq!(waits_for(&workloads, &applied, &[]), None);
        // a pod of a ReplicaSet that is not watched yet may belong to the Deployment
        watches.pod("hello-c-1", "c", "ready");
        assert_eq!(told(&workloads), "hello: rolled out, but 1 pods of other ReplicaSets are seen");
    }

    #[test]
    fn the_wait_ends_when_pods_of_a_deleted_deployment_are_terminating() {
        let (mut watches, workloads) = Watches::new();
        let deleted = [Deleted { kind: "Deployment".to_owned(), name: "hello".to_owned(), uid: "d".to_owned() }];
        watches.deployment("d", 1, 1);
        watches.replica_set("a", "d", 1);
        watches.pod("hello-a-1", "a", "ready");
        assert_eq!(waits_for(&workloads, &[], &deleted).unwrap(), "hello is still seen");
        watches.no_deployment("d");
        let told = "pod hello-a-1 of the deleted hello is not terminating yet";
        assert_eq!(waits_for(&workloads, &[], &deleted).unwrap(), told);
        watches.pod("hello-a-1", "a", "leaving");
        assert_eq!(waits_for(&workloads, &[], &deleted), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_that_someone_else_deletes_ends_the_wait() {
        let (mut watches, workloads) = Watches::new();
        watches.deployment("d", 1, 2);
        let applied = applied("d", 1);
        let gate = workloads.rolled_out(&applied, &[], Duration::from_secs(9), |_| {});
        let events = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            watches.no_deployment("d");
        };
        let (gate, ()) = tokio::join!(gate, events);
        let Err(ClusterError::Wait(WaitError::Failed { source, .. })) = gate else { panic!("it ends with the wait") };
        assert_matches!(source, Failure::Deleted(name) => {
            assert_eq!(name, "hello");
        });
    }

    fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(yaml).unwrap()
    }
}

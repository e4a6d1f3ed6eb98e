use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ClusterError;
use super::objects::{Applied, Deleted};
use super::wait::{Again, Awaited, Failure, Progress, until};
use crate::events::Injection;

/// Reasons for which a container will not start however long one waits.
const HOPELESS: [&str; 6] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "RunContainerError",
];

/// The annotation with the number of a rollout, on a Deployment and on the `ReplicaSet` of that rollout.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The Deployments, `ReplicaSet`s and pods of a namespace, kept current by watches.
///
/// The watches are independent of each other: one may lag behind another. [`Workloads::rolled_out`] therefore ends only when all of them
/// show the same finished rollouts.
#[derive(Debug)]
pub struct Workloads {
    pods: Store<Pod>,
    replica_sets: Store<ReplicaSet>,
    deployments: Store<Deployment>,
    changes: watch::Receiver<u64>,
    _watches: JoinSet<()>,
}

/// What matters of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The ports that its containers declare, by name where they have one.
    pub ports: Vec<(Option<String>, u16)>,
    /// Whether it is ready for traffic and not on its way out.
    pub ready: bool,
    /// How it has a proxy of the mesh, if it has one.
    pub sidecar: Option<Injection>,
}

impl Workloads {
    /// Begins to watch a namespace.
    #[must_use]
    pub fn watch(client: &Client, namespace: &str) -> Self {
        let (sender, changes) = watch::channel(0);
        let mut watches = JoinSet::new();
        let pods = follow(Api::namespaced(client.clone(), namespace), sender.clone(), &mut watches);
        let replica_sets = follow(Api::namespaced(client.clone(), namespace), sender.clone(), &mut watches);
        let deployments = follow(Api::namespaced(client.clone(), namespace), sender, &mut watches);
        Self { pods, replica_sets, deployments, changes, _watches: watches }
    }

    /// The pods that are there now.
    #[must_use]
    pub fn pods(&self) -> Vec<PodState> {
        self.pods.state().iter().map(|pod| pod_state(pod)).collect()
    }

    /// The images of the pods that are there now, with their digests as the container runtime tells them.
    #[must_use]
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

    /// Tells of every change.
    #[must_use]
    pub fn changes(&self) -> Again {
        Again::OnChange(self.changes.clone())
    }

    /// Waits until the Deployments and Pods among the applied objects are rolled out and ready, and the pods of the deleted ones are on
    /// their way out. The wait ends only when the watched pods are exactly those of the finished rollouts.
    ///
    /// # Errors
    /// A workload cannot become ready any more, with the reason, it was deleted meanwhile, or the limit has passed.
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
        let workloads: Vec<String> = there.chain(gone).cloned().collect();
        if workloads.is_empty() {
            return Ok(());
        }
        // an object that was seen once and is not there any more has been deleted by somebody else
        let mut known = HashSet::new();
        let look = async || self.progress(applied, deleted, &mut known);
        until(Awaited::Rollout { workloads }, limit, self.changes(), seen, look).await.map_err(Into::into)
    }

    fn progress(&self, applied: &[Applied], deleted: &[Deleted], known: &mut HashSet<String>) -> Progress<()> {
        let mut pending = Vec::new();
        for object in applied {
            let found = match object.kind.as_str() {
                "Deployment" => {
                    self.deployments.find(|own| own.meta().uid.as_ref() == Some(&object.uid)).map(Workload::Deployment)
                }
                "Pod" => self.pods.find(|own| own.meta().uid.as_ref() == Some(&object.uid)).map(Workload::Pod),
                _ => continue,
            };
            let progress = match found {
                Some(workload) => {
                    known.insert(object.uid.clone());
                    match workload {
                        Workload::Deployment(deployment) => self.deployment(object, &deployment),
                        Workload::Pod(pod) => pod_progress(&object.name, &pod),
                    }
                }
                None if known.contains(&object.uid) => Progress::Gone(object.name.clone()),
                None => Progress::NotYet(format!("{}: not there yet", object.name)),
            };
            match progress {
                Progress::Done(()) => {}
                Progress::NotYet(state) => pending.push(state),
                ended @ (Progress::Failed(_) | Progress::Gone(_)) => return ended,
            }
        }
        pending.extend(deleted.iter().filter_map(|object| self.not_gone_yet(object)));
        if pending.is_empty() { Progress::Done(()) } else { Progress::NotYet(pending.join("; ")) }
    }

    fn deployment(&self, object: &Applied, deployment: &Deployment) -> Progress<()> {
        let name = &object.name;
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let count = |number: Option<i32>| number.unwrap_or(0);
        let complete = status.observed_generation.unwrap_or(0) >= object.generation
            && count(status.updated_replicas) == wanted
            && count(status.replicas) == wanted
            && count(status.available_replicas) == wanted;
        if complete {
            return match self.not_seen_yet(deployment, usize::try_from(wanted).unwrap_or(0)) {
                None => Progress::Done(()),
                Some(state) => Progress::NotYet(format!("{name}: rolled out, but {state}")),
            };
        }
        let mut state = format!("{name}: {} of {wanted} ready", count(status.available_replicas));
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
                    Some(Trouble::Hopeless(why)) => return failed(format!("{state}, {why}")),
                    Some(Trouble::Starting(why)) => state = format!("{state}, {why}"),
                    None => {}
                }
            }
        }
        Progress::NotYet(state)
    }

    /// What the watches have not shown yet of a rollout that the Deployment's status reports as finished: `wanted` ready pods of the
    /// current `ReplicaSet`, and no pod of another one that is not on its way out.
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
                // of a ReplicaSet that is deleted already, or whose creation is not seen yet
                None if selects(deployment, &pod) => others += 1,
                _ => {}
            }
        }
        if ready != wanted {
            return Some(format!("{ready} of {wanted} pods of its current ReplicaSet are seen"));
        }
        (others > 0).then(|| format!("{others} pods of other ReplicaSets are seen"))
    }

    /// What is still seen of a deleted workload: the object, or pods that are not on their way out.
    fn not_gone_yet(&self, deleted: &Deleted) -> Option<String> {
        let is_deleted = |meta: &ObjectMeta| meta.uid.as_ref() == Some(&deleted.uid);
        let name = &deleted.name;
        match deleted.kind.as_str() {
            "Pod" => self
                .pods
                .find(|pod| is_deleted(pod.meta()) && is_staying(pod))
                .map(|_| format!("pod {name} is still seen as staying")),
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
                Some(format!("pod {} of the deleted {name} is not on its way out yet", pod.name_any()))
            }
            _ => None,
        }
    }
}

/// A workload whose rollout is waited for.
enum Workload {
    Deployment(Arc<Deployment>),
    Pod(Arc<Pod>),
}

fn pod_progress(name: &str, pod: &Pod) -> Progress<()> {
    if pod_state(pod).ready {
        return Progress::Done(());
    }
    match trouble(pod) {
        Some(Trouble::Hopeless(why)) => Progress::Failed(Failure::Reported(why)),
        Some(Trouble::Starting(why)) => Progress::NotYet(format!("{name}: {why}")),
        None => Progress::NotYet(format!("{name}: not ready")),
    }
}

/// The object that controls another one.
fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller(meta).is_some_and(|own| Some(&own.uid) == owner.uid.as_ref())
}

fn replica_set_of(pod: &Pod) -> Option<&OwnerReference> {
    controller(pod.meta()).filter(|owner| owner.kind == "ReplicaSet")
}

/// Whether a pod is neither being deleted nor at its end: only such pods have endpoints.
fn is_staying(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.meta().deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a Deployment's selector selects a pod.
fn selects(deployment: &Deployment, pod: &Pod) -> bool {
    let labels = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    labels.into_iter().flatten().all(|(key, value)| pod.labels().get(key) == Some(value))
}

fn follow<K>(api: Api<K>, changed: watch::Sender<u64>, watches: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + for<'de> serde::Deserialize<'de> + 'static,
{
    let (reader, writer) = store();
    let stream = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    watches.spawn(async move {
        // a watch that breaks off begins anew by itself; the error is told where debugging is asked for
        let mut stream = stream.inspect_err(|error| tracing::debug!(%error, "a watch broke off")).boxed();
        while stream.next().await.is_some() {
            changed.send_modify(|revision| *revision += 1);
        }
    });
    reader
}

pub(crate) fn pod_state(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let spec = pod.spec.as_ref();
    let is_proxy = |container: &Container| container.name == "istio-proxy";
    let sidecar = spec.and_then(|spec| {
        let native = spec.init_containers.iter().flatten().any(is_proxy).then_some(Injection::Native);
        native.or_else(|| spec.containers.iter().any(is_proxy).then_some(Injection::Classic))
    });
    let ports =
        spec.into_iter().flat_map(|spec| &spec.containers).flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter_map(|port| Some((port.name.clone(), u16::try_from(port.container_port).ok()?)));
    PodState {
        name: pod.name_any(),
        address: status.and_then(|status| status.pod_ip.clone()),
        labels: pod.labels().clone(),
        ports: ports.collect(),
        ready: ready && pod.meta().deletion_timestamp.is_none(),
        sidecar,
    }
}

/// Why a pod is not ready.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// It may still become so.
    Starting(String),
    /// It will not.
    Hopeless(String),
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let mut starting = None;
    let containers: Vec<&ContainerStatus> =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()).collect();
    for container in containers {
        let Some(state) = container.state.as_ref() else { continue };
        let Some(waiting) = state.waiting.as_ref() else { continue };
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        let detail = ended(container).or_else(|| waiting.message.clone()).unwrap_or_default();
        let text = format!("{reason} in container {} of {name} ({}){}", container.name, container.image, {
            if detail.is_empty() { detail } else { format!(": {detail}") }
        });
        if HOPELESS.contains(&reason) {
            return Some(Trouble::Hopeless(text));
        }
        if reason != "PodInitializing" && reason != "ContainerCreating" {
            starting.get_or_insert(text);
        }
    }
    starting.map(Trouble::Starting).or_else(|| {
        let unscheduled = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
        Some(Trouble::Starting(format!("{name} finds no node: {}", unscheduled.message.clone().unwrap_or_default())))
    })
}

/// How a container ended the last time.
fn ended(container: &ContainerStatus) -> Option<String> {
    let ended = container.last_state.as_ref()?.terminated.as_ref()?;
    let said = ended.message.as_deref().map(|message| format!(", {}", message.trim())).unwrap_or_default();
    Some(format!("it ended with exit code {}{said}", ended.exit_code))
}

#[cfg(test)]
mod tests {
    use assert_matches::assert_matches;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use rstest::rstest;

    use super::*;

    /// Watches whose events come when a test says so.
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

    /// What the gate waits for; none where it lets pass.
    fn waits_for(workloads: &Workloads, applied: &[Applied], deleted: &[Deleted]) -> Option<String> {
        match workloads.progress(applied, deleted, &mut HashSet::new()) {
            Progress::Done(()) => None,
            Progress::NotYet(state) => Some(state),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_waits_for_pods_whose_watch_lags_behind_that_of_the_deployment() {
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
    fn the_gate_waits_for_pods_of_the_new_template_and_for_the_end_of_the_old_ones() {
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
        // pods of another Deployment that carry the same labels are none of its own
        watches.replica_set("x", "other", 1);
        watches.pod("other-x-1", "x", "ready");
        watches.pod("hello-a-1", "a", "leaving");
        assert_eq!(waits_for(&workloads, &applied, &[]), None);
        // a pod of a ReplicaSet that is not seen yet may be one of its own
        watches.pod("hello-c-1", "c", "ready");
        assert_eq!(told(&workloads), "hello: rolled out, but 1 pods of other ReplicaSets are seen");
    }

    #[test]
    fn the_gate_waits_until_pods_of_a_deleted_deployment_are_on_their_way_out() {
        let (mut watches, workloads) = Watches::new();
        let deleted = [Deleted { kind: "Deployment".to_owned(), name: "hello".to_owned(), uid: "d".to_owned() }];
        watches.deployment("d", 1, 1);
        watches.replica_set("a", "d", 1);
        watches.pod("hello-a-1", "a", "ready");
        assert_eq!(waits_for(&workloads, &[], &deleted).unwrap(), "hello is still seen");
        watches.no_deployment("d");
        let told = "pod hello-a-1 of the deleted hello is not on its way out yet";
        assert_eq!(waits_for(&workloads, &[], &deleted).unwrap(), told);
        watches.pod("hello-a-1", "a", "leaving");
        assert_eq!(waits_for(&workloads, &[], &deleted), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_that_somebody_else_deletes_ends_the_wait() {
        let (mut watches, workloads) = Watches::new();
        watches.deployment("d", 1, 2);
        let applied = applied("d", 1);
        let gate = workloads.rolled_out(&applied, &[], Duration::from_secs(9), |_| {});
        let events = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            watches.no_deployment("d");
        };
        let (gate, ()) = tokio::join!(gate, events);
        assert_matches!(gate, Err(ClusterError::Wait(super::super::wait::WaitError::Gone { name, .. })) => {
            assert_eq!(name, "hello");
        });
    }

    fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn waiting(reason: &str) -> Pod {
        pod(&format!(
            "metadata: {{name: p}}
status:
  containerStatuses:
    - {{name: c, image: 'i:1', imageID: '', ready: false, restartCount: 1, state: {{waiting: {{reason: {reason}, message: m}}}}}}"
        ))
    }

    #[rstest]
    #[case("ImagePullBackOff", Some(Trouble::Hopeless("ImagePullBackOff in container c of p (i:1): m".into())))]
    #[case("CrashLoopBackOff", Some(Trouble::Hopeless("CrashLoopBackOff in container c of p (i:1): m".into())))]
    #[case("ErrImagePull", Some(Trouble::Starting("ErrImagePull in container c of p (i:1): m".into())))]
    #[case("ContainerCreating", None)]
    fn trouble_is_told_from_hopelessness(#[case] reason: &str, #[case] expected: Option<Trouble>) {
        assert_eq!(trouble(&waiting(reason)), expected);
    }

    #[test]
    fn a_crash_tells_how_the_container_ended() {
        let pod = pod("metadata: {name: p}
status:
  containerStatuses:
    - name: c
      image: i:1
      imageID: ''
      ready: false
      restartCount: 1
      state: {waiting: {reason: CrashLoopBackOff}}
      lastState: {terminated: {exitCode: 3}}");
        let Some(Trouble::Hopeless(why)) = trouble(&pod) else { panic!() };
        assert_eq!(why, "CrashLoopBackOff in container c of p (i:1): it ended with exit code 3");
    }

    #[rstest]
    #[case::ready("status: {conditions: [{type: Ready, status: 'True'}]}", true)]
    #[case::not_ready("status: {conditions: [{type: Ready, status: 'False'}]}", false)]
    #[case::no_status("spec: {containers: []}", false)]
    fn a_pod_is_ready_by_its_condition(#[case] rest: &str, #[case] ready: bool) {
        assert_eq!(pod_state(&pod(&format!("metadata: {{name: p}}\n{rest}"))).ready, ready);
    }

    #[test]
    fn a_pod_on_its_way_out_is_not_ready() {
        let text = "metadata: {name: p, deletionTimestamp: '2026-01-01T00:00:00Z'}
status: {conditions: [{type: Ready, status: 'True'}]}";
        assert!(!pod_state(&pod(text)).ready);
    }

    #[rstest]
    #[case::container("containers: [{name: a}, {name: istio-proxy}]", Some(Injection::Classic))]
    #[case::native("containers: [{name: a}]\n  initContainers: [{name: istio-proxy}]", Some(Injection::Native))]
    #[case::none("containers: [{name: a}]", None)]
    fn a_sidecar_is_found_in_both_lists(#[case] spec: &str, #[case] sidecar: Option<Injection>) {
        assert_eq!(pod_state(&pod(&format!("metadata: {{name: p}}\nspec:\n  {spec}"))).sidecar, sidecar);
    }
}

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ClusterError;
use super::objects::Applied;
use super::wait::{Again, Progress, until};

/// Reasons for which a container will not start however long one waits.
const HOPELESS: [&str; 6] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "RunContainerError",
];

/// The pods and Deployments of a namespace as the API server tells them, kept current by watches.
#[derive(Debug)]
pub struct Workloads {
    pods: Store<Pod>,
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

/// How a proxy of the mesh is put into a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Injection {
    /// As a container beside the others.
    Classic,
    /// As an init container that goes on, which starts before the others and ends after them.
    Native,
}

impl fmt::Display for Injection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Classic => "a container",
            Self::Native => "a native sidecar",
        })
    }
}

impl Workloads {
    /// Begins to watch a namespace.
    #[must_use]
    pub fn watch(client: &Client, namespace: &str) -> Self {
        let (sender, changes) = watch::channel(0);
        let mut watches = JoinSet::new();
        let pods = follow(Api::namespaced(client.clone(), namespace), sender.clone(), &mut watches);
        let deployments = follow(Api::namespaced(client.clone(), namespace), sender, &mut watches);
        Self { pods, deployments, changes, _watches: watches }
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

    /// Waits until the Deployments and Pods among these objects are rolled out and ready.
    ///
    /// # Errors
    /// One cannot become ready any more, with the reason, or they take longer than the limit.
    pub async fn rolled_out(
        &self,
        applied: &[Applied],
        limit: Duration,
        seen: impl FnMut(&str),
    ) -> Result<(), ClusterError> {
        let names: Vec<&str> = applied
            .iter()
            .filter(|object| matches!(object.kind.as_str(), "Deployment" | "Pod"))
            .map(|object| object.name.as_str())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let what = format!("the rollout of {}", names.join(", "));
        until(what, limit, self.changes(), seen, async || self.progress(applied)).await.map_err(Into::into)
    }

    fn progress(&self, applied: &[Applied]) -> Progress<()> {
        let mut pending = Vec::new();
        for object in applied {
            let progress = match object.kind.as_str() {
                "Deployment" => self.deployment(object),
                "Pod" => self.pod(object),
                _ => continue,
            };
            match progress {
                Progress::Done(()) => {}
                Progress::NotYet(state) => pending.push(state),
                never @ Progress::Never(_) => return never,
            }
        }
        if pending.is_empty() { Progress::Done(()) } else { Progress::NotYet(pending.join("; ")) }
    }

    fn deployment(&self, object: &Applied) -> Progress<()> {
        let name = &object.name;
        let Some(deployment) = self.deployments.find(|deployment| deployment.meta().uid.as_ref() == Some(&object.uid))
        else {
            return Progress::NotYet(format!("{name}: not there yet"));
        };
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let count = |number: Option<i32>| number.unwrap_or(0);
        let complete = status.observed_generation.unwrap_or(0) >= object.generation
            && count(status.updated_replicas) == wanted
            && count(status.replicas) == wanted
            && count(status.available_replicas) == wanted;
        if complete {
            return Progress::Done(());
        }
        let mut state = format!("{name}: {} of {wanted} ready", count(status.available_replicas));
        for condition in status.conditions.iter().flatten() {
            if condition.type_ == "ReplicaFailure" && condition.status == "True" {
                state = format!("{state}, {}", condition.message.clone().unwrap_or_default());
            }
            if condition.reason.as_deref() == Some("ProgressDeadlineExceeded") {
                return Progress::Never(format!("{state}, its progress deadline has passed"));
            }
        }
        let labels = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
        for pod in self.pods.state() {
            let own = labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
            if own && pod.meta().deletion_timestamp.is_none() {
                match trouble(&pod) {
                    Some(Trouble::Hopeless(why)) => return Progress::Never(format!("{state}, {why}")),
                    Some(Trouble::Starting(why)) => state = format!("{state}, {why}"),
                    None => {}
                }
            }
        }
        Progress::NotYet(state)
    }

    fn pod(&self, object: &Applied) -> Progress<()> {
        let name = &object.name;
        let Some(pod) = self.pods.find(|pod| pod.meta().uid.as_ref() == Some(&object.uid)) else {
            return Progress::NotYet(format!("{name}: not there yet"));
        };
        if pod_state(&pod).ready {
            return Progress::Done(());
        }
        match trouble(&pod) {
            Some(Trouble::Hopeless(why)) => Progress::Never(why),
            Some(Trouble::Starting(why)) => Progress::NotYet(format!("{name}: {why}")),
            None => Progress::NotYet(format!("{name}: not ready")),
        }
    }
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
    use rstest::rstest;

    use super::*;

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

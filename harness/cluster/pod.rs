use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::events::Injection;
use crate::routing::Placement;

/// Reasons for which a waiting container will not start without a change.
const PERMANENT: [&str; 4] =
    ["CrashLoopBackOff", "InvalidImageName", "CreateContainerConfigError", "RunContainerError"];

/// Those of them where the image is missing.
const NO_IMAGE: [&str; 2] = ["ImagePullBackOff", "ErrImageNeverPull"];

/// The timeout for listing the pods that do not start.
const TROUBLES_LIMIT: Duration = Duration::from_secs(5);
/// The number of pods that do not start in a message.
const TROUBLES: usize = 2;

/// The relevant state of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The IP address, once it is assigned.
    pub address: Option<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The image of the first container, without the sidecar.
    pub image: String,
    /// The declared container ports with their names.
    pub ports: Vec<(Option<String>, u16)>,
    /// Where it runs, as far as its manifest tells.
    pub placement: Placement,
    /// Whether it is ready and not terminating.
    pub ready: bool,
    /// How the sidecar was injected, if there is one.
    pub sidecar: Option<Injection>,
    /// Whether a container other than the sidecar has a `preStop` hook.
    pub has_pre_stop: bool,
}

pub(crate) fn pod_state(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let spec = pod.spec.as_ref();
    let is_proxy = |container: &Container| container.name == "istio-proxy";
    let sidecar = spec.and_then(|spec| {
        let native = spec.init_containers.iter().flatten().any(is_proxy).then_some(Injection::Native);
        native.or_else(|| spec.containers.iter().any(is_proxy).then_some(Injection::Classic))
    });
    let ports =
        spec.into_iter().flat_map(|spec| &spec.containers).flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter_map(|port| Some((port.name.clone(), u16::try_from(port.container_port).ok()?)));
    let mut containers = spec.into_iter().flat_map(|spec| &spec.containers).filter(|container| !is_proxy(container));
    let own = containers.clone().next();
    let selector = spec.and_then(|spec| spec.node_selector.clone()).unwrap_or_default();
    let affinity = spec.and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    // without an affinity, there is nothing that names a topology
    let affinity = serde_json::to_value(affinity).unwrap_or_default();
    let has_hook = |own: &Container| own.lifecycle.as_ref().is_some_and(|own| own.pre_stop.is_some());
    PodState {
        name: pod.name_any(),
        namespace: pod.namespace().unwrap_or_default(),
        address: status.and_then(|status| status.pod_ip.clone()),
        labels: pod.labels().clone(),
        image: own.and_then(|own| own.image.clone()).unwrap_or_default(),
        ports: ports.collect(),
        placement: Placement::of(pod.labels(), &selector, &affinity),
        ready: ready && pod.metadata.deletion_timestamp.is_none(),
        sidecar,
        has_pre_stop: containers.any(has_hook),
    }
}

/// Why a pod is not ready.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may still become ready.
    Starting(String),
    /// It will not become ready without a change.
    Permanent(String),
    /// The image of a container cannot be pulled.
    NoImage { image: String, why: String },
}

pub(super) fn trouble(pod: &Pod) -> Option<Trouble> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let mut starting = None;
    let all = [&status.init_container_statuses, &status.container_statuses];
    for container in all.into_iter().flatten().flatten() {
        let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else { continue };
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        let detail = ended(container).or_else(|| waiting.message.clone()).unwrap_or_default();
        let text = format!("{reason} in container {} of {name} ({}){}", container.name, container.image, {
            if detail.is_empty() { detail } else { format!(": {detail}") }
        });
        if NO_IMAGE.contains(&reason) {
            return Some(Trouble::NoImage { image: container.image.clone(), why: text });
        }
        if PERMANENT.contains(&reason) {
            return Some(Trouble::Permanent(text));
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
        Some(Trouble::Starting(format!(
            "{name} cannot be scheduled: {}",
            unscheduled.message.clone().unwrap_or_default()
        )))
    })
}

/// Why pods of a namespace do not start, of a few of them; none if they cannot be listed.
pub(crate) async fn pod_troubles(client: &Client, namespace: &str) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let listed = tokio::time::timeout(TROUBLES_LIMIT, pods.list(&ListParams::default())).await;
    let pods = listed.ok().and_then(Result::ok).map(|listed| listed.items).unwrap_or_default();
    pods.iter().filter_map(pod_trouble).take(TROUBLES).collect()
}

/// Why a pod is not ready, in words; none if it is ready, or nothing is known to be wrong.
fn pod_trouble(pod: &Pod) -> Option<String> {
    let words = trouble(pod).map(|trouble| match trouble {
        Trouble::Starting(why) | Trouble::Permanent(why) | Trouble::NoImage { why, .. } => why,
    });
    words.filter(|_| is_staying(pod))
}

/// Whether a pod is neither terminating nor completed. Other pods have no endpoints.
pub(crate) fn is_staying(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// How the container ended the last time.
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
    #[case("ImagePullBackOff", Some(Trouble::NoImage { image: "i:1".into(), why: "ImagePullBackOff in container c of p (i:1): m".into() }))]
    #[case("CrashLoopBackOff", Some(Trouble::Permanent("CrashLoopBackOff in container c of p (i:1): m".into())))]
    #[case("ErrImagePull", Some(Trouble::Starting("ErrImagePull in container c of p (i:1): m".into())))]
    #[case("ContainerCreating", None)]
    fn permanent_failures_are_recognised(#[case] reason: &str, #[case] expected: Option<Trouble>) {
        assert_eq!(trouble(&waiting(reason)), expected);
    }

    #[test]
    fn a_crash_is_reported_with_the_exit_code() {
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
        let Some(Trouble::Permanent(why)) = trouble(&pod) else { panic!() };
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
    fn a_terminating_pod_is_not_ready() {
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

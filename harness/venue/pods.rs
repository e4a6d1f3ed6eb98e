use std::collections::BTreeMap;

use crate::cluster::PodState;
use crate::routing;

/// A pod's own counter, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCounter {
    /// The pod's name.
    pub pod: String,
    /// An identifier of the start of each container that may hold the counter; the sidecar is left out.
    pub starts: BTreeMap<String, String>,
    /// Whether the pod is being deleted or has ended, so that it gets no more requests.
    pub leaving: bool,
    /// The requests served since that start, or why they are not known.
    pub count: Result<u64, String>,
}

/// The counters of the pods of a workload, by the UID of the pod.
pub type Reading = BTreeMap<String, PodCounter>;

/// The ready pods. Their versions are not known.
pub fn ready_pods(pods: Vec<PodState>) -> Vec<routing::Pod> {
    let ready = pods.into_iter().filter(|pod| pod.ready);
    ready
        .filter_map(|pod| {
            // the name of a Deployment's pod begins with the Deployment and the hash of its template
            let before = |hash: &str| Some(pod.name.split_once(&format!("-{hash}"))?.0.to_owned());
            let of_deployment = pod.labels.get("pod-template-hash").and_then(|hash| before(hash));
            // the versions of a Rollout are told apart by their ReplicaSets
            let of_rollout = pod.labels.get("rollouts-pod-template-hash");
            let workload = of_deployment.or_else(|| Some(format!("{}-{}", before(of_rollout?)?, of_rollout?)));
            Some(routing::Pod {
                workload: workload.unwrap_or_else(|| pod.name.clone()),
                name: pod.name,
                namespace: pod.namespace,
                labels: pod.labels,
                address: pod.address?,
                ports: pod.ports,
                image: pod.image,
                sidecar: pod.sidecar.is_some(),
                placement: pod.placement,
                ..routing::Pod::default()
            })
        })
        .collect()
}

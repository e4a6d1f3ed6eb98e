use std::collections::BTreeMap;

use crate::cluster::PodState;
use crate::routing;

/// A pod's own counter, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCounter {
    /// The pod's name.
    pub pod: String,
    /// What identifies the start of each container that may hold the counter; a sidecar of the mesh is left out.
    pub starts: BTreeMap<String, String>,
    /// Whether the pod is at its end, so that it gets no requests any more.
    pub leaving: bool,
    /// The requests served since that start, or why they are not known.
    pub count: Result<u64, String>,
}

/// The counters of a workload's pods, by what identifies the pod.
pub type Reading = BTreeMap<String, PodCounter>;

/// The pods that are ready now. Who answers with which version is not known of them.
#[must_use]
pub fn ready_pods(pods: Vec<PodState>, namespace: &str) -> Vec<routing::Pod> {
    let ready = pods.into_iter().filter(|pod| pod.ready);
    ready
        .filter_map(|pod| {
            // a Deployment's pod is named after it and its template's hash
            let hash = pod.labels.get("pod-template-hash");
            let workload =
                hash.and_then(|hash| pod.name.split_once(&format!("-{hash}"))).map(|(name, _)| name.to_owned());
            Some(routing::Pod {
                workload: workload.unwrap_or_else(|| pod.name.clone()),
                name: pod.name,
                namespace: namespace.to_owned(),
                labels: pod.labels,
                address: pod.address?,
                ports: pod.ports,
                ..routing::Pod::default()
            })
        })
        .collect()
}

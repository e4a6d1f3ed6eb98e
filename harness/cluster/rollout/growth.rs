use std::collections::BTreeMap;
use std::future::ready;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Workloads, selects};
use crate::cluster::pod::{is_staying, pod_state};
use crate::cluster::wait::{Awaited, Progress, WaitError, until};
use crate::scenario::Growth;

impl Workloads {
    /// Waits until Deployments of a namespace have as many ready pods as a stage waits for. Returns a line for each, with the number at the
    /// beginning: `Deployment/hello: 3 pods, 1 before`.
    ///
    /// # Errors
    /// A pod cannot start, or the timeout has passed.
    pub async fn grown(
        &self,
        namespace: &str,
        growth: &Growth,
        seen: impl FnMut(&str),
    ) -> Result<Vec<String>, WaitError> {
        let mut before = BTreeMap::new();
        let look = || ready(self.growth(namespace, growth, &mut before));
        until(Awaited::Pods(growth.to_string()), growth.within, self.changes(), seen, look).await
    }

    /// The state of a growth. `before` has the number of pods of each Deployment when it was seen first.
    pub(super) fn growth(
        &self,
        namespace: &str,
        growth: &Growth,
        before: &mut BTreeMap<String, usize>,
    ) -> Progress<Vec<String>> {
        let (mut grown, mut pending) = (Vec::new(), Vec::new());
        for (name, wanted) in &growth.pods {
            let is_it = |own: &Deployment| own.name_any() == *name && own.namespace().as_deref() == Some(namespace);
            let Some(deployment) = self.deployments.find(is_it) else {
                pending.push(format!("{name}: not created yet"));
                continue;
            };
            let now = self.ready_pods(&deployment);
            let before = *before.entry(name.clone()).or_insert(now);
            if usize::try_from(*wanted).is_ok_and(|wanted| now >= wanted) {
                let pods = if now == 1 { "pod" } else { "pods" };
                grown.push(format!("Deployment/{name}: {now} {pods}, {before} before"));
                continue;
            }
            match self.starting(&deployment, &format!("{name}: {now} of {wanted} ready")) {
                Ok(state) => pending.push(state),
                Err(failure) => return Progress::Failed(failure),
            }
        }
        if pending.is_empty() { Progress::Done(grown) } else { Progress::NotYet(pending.join("; ")) }
    }

    /// The number of available pods by the status of a Deployment or, if fewer, of ready ones in the watch of pods: one may lag behind the other.
    fn ready_pods(&self, deployment: &Deployment) -> usize {
        let is_ready = |pod: &Pod| selects(deployment, pod) && is_staying(pod) && pod_state(pod).ready;
        let seen = self.pods.state().iter().filter(|pod| is_ready(pod)).count();
        let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
        seen.min(usize::try_from(available).unwrap_or(0))
    }
}

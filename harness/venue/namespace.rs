use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::cluster::{ProvisionedCluster, account_ready};
use super::turns::{Neighbours, Turn, Turns};
use super::{OpenVenue, PodCounter, Reading, VenueError, Watches};
use crate::cluster::wait::{Again, Awaited, Progress, Wait};
use crate::cluster::{
    Applied, ClusterError, Deleted, FindPods, OUTAGE_LIMIT, Objects, PodState, PortForward, Tunnel, TunnelError,
    Workloads, answered, autoscalers, is_staying, outage,
};
use crate::controller::ControlledObjects;
use crate::events::{Environment, Event, Events};
use crate::mesh::{Ingress, MeshError, Sidecar};
use crate::plan::HIGHEST_RATE;
use crate::routing::RouteTable;
use crate::scenario::{
    Client, ControlPlane, GatewayApi, Growth, IngressGateway, IstioVersion, Manifest, MeshStep, Outside, Scenario,
    Served, Service, Target,
};
use crate::traffic::{Driver, DriverOptions, SenderPod, TrafficError, WatchOptions};

/// The timeout for the first push of a control plane that has replaced another.
const PUSH_LIMIT: Duration = Duration::from_secs(120);
/// The timeout for listing the pods, and for reading the counter of each.
const COUNTER_LIMIT: Duration = Duration::from_secs(10);
/// The timeout for asking the API server whether it runs.
const ALIVE_LIMIT: Duration = Duration::from_secs(5);
const PUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Requests per second that do not disturb a rollout.
const LOW_RATE: u32 = 50;
/// Requests per second while a change with a claim is observed: the 688 requests that exclude an error probability of 1 % take 2.5 s.
const CLAIMED_RATE: u32 = 275;

/// A namespace of a cluster with Istio, open for the objects of one scenario.
pub struct OpenNamespace {
    cluster: ProvisionedCluster,
    name: String,
    /// The client of the scenario.
    client: Client,
    /// The service under test.
    service: Service,
    pods: Api<Pod>,
    objects: Objects,
    workloads: Workloads,
    sidecar: Sidecar,
    /// The sidecars of the other pods that send requests, by the name of the pod.
    sidecars: BTreeMap<String, Sidecar>,
    /// The sidecars of servers that send requests on, by the namespace and the name of the pod, once they are read.
    servers: BTreeMap<(String, String), Sidecar>,
    /// None where no controller moves the traffic and no stage is followed.
    controlled: Option<ControlledObjects>,
    /// The gateways through which populations come, once they are found.
    ingresses: BTreeMap<IngressGateway, Option<Ingress>>,
    /// Where requests from outside of the mesh are sent from.
    outside: Outside,
    /// The connections of this machine to gateways.
    forwards: Vec<PortForward>,
    /// The addresses of endpoints that the client's sidecar uses, as far as stages have waited for them.
    endpoints: BTreeSet<String>,
    /// The stages of other runs on the cluster; none where it runs nothing else.
    turns: Option<Turns>,
    events: Events,
}

impl OpenNamespace {
    /// The namespace of these objects, which is there.
    pub fn new(cluster: &ProvisionedCluster, objects: Objects, scenario: &Scenario, events: &Events) -> Self {
        let name = objects.namespace().to_owned();
        let client = &scenario.client;
        let pods = pods_in(cluster, &name);
        let injected = client.others.iter().filter(|own| own.sidecar);
        let is_elsewhere = |manifest: &Manifest| {
            // a Secret has no pods
            let namespace = manifest.object.metadata.namespace.as_ref().filter(|_| manifest.kind() != "Secret");
            namespace.is_some_and(|own| *own != scenario.namespace && *own != name)
        };
        Self {
            workloads: if scenario.manifests().any(is_elsewhere) {
                Workloads::watch_all(&cluster.client)
            } else {
                Workloads::watch(&cluster.client, &name)
            },
            sidecar: Sidecar::new(pods.clone(), client.pod.clone()),
            controlled: (scenario.controller.is_some() || scenario.stages.iter().any(|own| own.followed().is_some()))
                .then(|| ControlledObjects::watch(&cluster.client, &name, scenario.controller.as_ref())),
            ingresses: scenario.ingress_gateways().into_iter().map(|gateway| (gateway.clone(), None)).collect(),
            outside: scenario.traffic.outside,
            forwards: Vec::new(),
            endpoints: BTreeSet::new(),
            cluster: cluster.clone(),
            sidecars: injected
                .map(|own| (own.name.clone(), Sidecar::new(pods_in(cluster, own.namespace(&name)), own.name.clone())))
                .collect(),
            servers: BTreeMap::new(),
            client: client.clone(),
            service: scenario.service.clone(),
            turns: None,
            events: events.clone(),
            name,
            pods,
            objects,
        }
    }

    /// Beside other runs, whose stages take turns with those of this one.
    pub(super) fn beside(self, turns: &Turns) -> Self {
        Self { turns: Some(turns.clone()), ..self }
    }

    /// Why the API server does not answer; none if it does. Whatever goes through it, such as a port-forward, then fails for that reason.
    async fn outage(&self) -> Option<ClusterError> {
        match answered("the API server", ALIVE_LIMIT, self.cluster.client.apiserver_version()).await {
            Err(late) => Some(late),
            Ok(Err(error)) => Some(ClusterError::api("asking for its version")(error)),
            Ok(Ok(_)) => None,
        }
    }
}

#[async_trait]
impl OpenVenue for OpenNamespace {
    async fn turn(&self, neighbours: Neighbours) -> Turn {
        match &self.turns {
            Some(turns) => turns.next(neighbours).await,
            None => Turn::Only,
        }
    }

    async fn driver(&mut self, options: DriverOptions) -> Result<Driver, VenueError> {
        let new = |pods: &Api<Pod>| Driver::new(pods.clone(), options).program(&self.client.driver);
        let outside = self.client.outside.as_deref().unwrap_or("outside");
        let mut driver = new(&self.pods);
        for other in &self.client.others {
            let Service { host, port, .. } = other.addressed(&self.service, &self.name);
            let pod = SenderPod {
                name: other.name.clone(),
                address: format!("{host}:{port}"),
                connects_each: !other.sidecar,
                tls: None,
            };
            let own = new(&pods_in(&self.cluster, other.namespace(&self.name))).within_pod(pod);
            driver = driver.beside(&other.name, own);
        }
        for (gateway, found) in &mut self.ingresses {
            let address = match gateway.api {
                GatewayApi::Istio => {
                    found.insert(Ingress::find(&self.cluster.client, gateway, None).await?).address.clone()
                }
                // istiod makes it once the manifest is applied
                GatewayApi::Kubernetes => format!("{}-istio.{}:{}", gateway.name, self.name, gateway.port),
            };
            let pod = SenderPod { name: outside.to_owned(), address, connects_each: false, tls: gateway.tls.clone() };
            let own = match self.outside {
                Outside::Pod => new(&self.pods),
                Outside::Host => {
                    let forward = PortForward::listen(pods_of(gateway, &self.cluster.client, &self.name)).await;
                    let forward = forward.map_err(TrafficError::Start)?;
                    let own = Driver::local(forward.address, options);
                    self.forwards.push(forward);
                    own
                }
            };
            driver = driver.entering(gateway.clone(), own.within_pod(pod));
        }
        Ok(driver)
    }

    async fn gateway(&mut self, gateway: &IngressGateway, host: &str) -> Result<Vec<RouteTable>, MeshError> {
        let Some(found) = self.ingresses.get_mut(gateway) else {
            return Err(MeshError::NoGateway(gateway.to_string()));
        };
        if found.is_none() {
            match Ingress::find(&self.cluster.client, gateway, Some(&self.name)).await {
                Ok(ingress) => *found = Some(ingress),
                // not there yet, or no longer
                Err(MeshError::NoGatewayPods { .. } | MeshError::NoGatewayPort { .. }) => {
                    return Ok(vec![RouteTable::of_closed_port()]);
                }
                Err(error) => return Err(error),
            }
        }
        let Some(ingress) = found else { return Err(MeshError::NoGateway(gateway.to_string())) };
        let tables = ingress.tables(host).await;
        if tables.is_err() && gateway.api == GatewayApi::Kubernetes {
            // its pods may have been replaced
            *found = None;
        }
        tables
    }

    async fn table_of(&mut self, pod: &str, host: &str, port: u16) -> Result<RouteTable, MeshError> {
        match self.sidecars.get_mut(pod) {
            Some(sidecar) => sidecar.table(host, port).await,
            None => Err(MeshError::NoSidecar { pod: pod.to_owned() }),
        }
    }

    async fn table_of_server(
        &mut self,
        namespace: &str,
        pod: &str,
        host: &str,
        port: u16,
    ) -> Result<RouteTable, MeshError> {
        let key = (namespace.to_owned(), pod.to_owned());
        let new = || Sidecar::new(pods_in(&self.cluster, namespace), pod.to_owned());
        self.servers.entry(key).or_insert_with(new).table(host, port).await
    }

    async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        let applied = self.objects.apply(manifest).await?;
        if manifest.kind() == "Namespace" && manifest.group().is_empty() {
            account_ready(&self.cluster.client, manifest.name(), self.events.waiting()).await?;
        }
        Ok(applied)
    }

    async fn delete(&mut self, target: &Target) -> Result<Option<Deleted>, ClusterError> {
        self.objects.delete(target).await.map(Some)
    }

    async fn rolled_out(&self, applied: &[Applied], deleted: &[Deleted], limit: Duration) -> Result<(), ClusterError> {
        let istio = &self.cluster.istio;
        tokio::select! {
            // also where there is nothing to wait for
            biased;
            waited = self.workloads.rolled_out(applied, deleted, limit, self.events.waiting()) => waited,
            reason = outage(OUTAGE_LIMIT, || istio.outage(&self.cluster.client)) => {
                Err(ClusterError::NoIstiod { namespace: istio.namespace.clone(), limit: OUTAGE_LIMIT, reason })
            }
        }
    }

    async fn grown(&self, growth: &Growth) -> Result<Vec<String>, ClusterError> {
        match self.workloads.grown(&self.name, growth, self.events.waiting()).await {
            Ok(grown) => Ok(grown),
            Err(mut error) => {
                for state in autoscalers(&self.cluster.client, &self.name, growth).await {
                    error.add(&state);
                }
                Err(error.into())
            }
        }
    }

    async fn change_mesh(&mut self, step: &MeshStep) -> Result<Vec<Applied>, VenueError> {
        let mut planes = self.cluster.planes.as_ref().ok_or(VenueError::NotThrowaway)?.lock().await;
        let client = &self.cluster.client;
        self.events.tell(Event::SettingUp(step.to_string()));
        match step {
            MeshStep::Install(plane) => {
                let before = self.sidecar.pushed().await?;
                // a control plane of another revision does not inject here before the namespace has its label
                let own = plane.revision.is_empty();
                planes.install(client, plane, own.then_some(&self.name), self.events.waiting()).await?;
                if own {
                    first_push(&mut self.sidecar, &before, plane, &self.events).await?;
                }
            }
            MeshStep::Inject(plane) => {
                let istio = planes.istio(plane)?;
                let (label, value) = istio.injection_label();
                let mut labels =
                    BTreeMap::from(["istio-injection", "istio.io/rev"].map(|label| (label.to_owned(), None)));
                labels.insert(label, Some(value));
                self.objects.label_namespace(&labels).await?;
                istio.ready(client, Some(&self.name), self.events.waiting()).await?;
            }
            MeshStep::Restart => return Ok(self.objects.restart().await?),
            MeshStep::Remove(plane) => planes.remove(client, plane).await?,
        }
        Ok(Vec::new())
    }

    async fn end_client(&mut self) -> Result<(), ClusterError> {
        // the next pods have other sidecars
        let new = |pod: &str| Sidecar::new(self.pods.clone(), pod.to_owned());
        self.sidecar = new(&self.client.pod);
        let replicas: Vec<String> = self.client.replicas().map(|own| own.name.clone()).collect();
        self.sidecars.extend(replicas.iter().map(|pod| (pod.clone(), new(pod))));
        for pod in std::iter::once(&self.client.pod).chain(&replicas) {
            self.objects.end_pod(pod, self.events.waiting()).await?;
        }
        Ok(())
    }

    fn istio(&self) -> Option<IstioVersion> {
        self.cluster.istio.parsed_version()
    }

    fn pods(&self) -> Vec<PodState> {
        self.workloads.pods()
    }

    async fn table(&mut self, host: &str, port: u16) -> Result<RouteTable, MeshError> {
        match self.sidecar.table(host, port).await {
            Err(error @ MeshError::Tunnel(_)) => Err(self.outage().await.map_or(error, MeshError::Cluster)),
            other => other,
        }
    }

    fn sidecar(&mut self) -> Option<&mut Sidecar> {
        Some(&mut self.sidecar)
    }

    fn controlled(&self) -> Option<&ControlledObjects> {
        self.controlled.as_ref()
    }

    fn endpoints(&mut self) -> Option<&mut BTreeSet<String>> {
        Some(&mut self.endpoints)
    }

    async fn counters(&self, labels: &BTreeMap<String, String>, served: &Served) -> Result<Reading, ClusterError> {
        // listed, since a watch may lag behind
        let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let selector = ListParams::default().labels(&selector.join(","));
        let listed = timeout(COUNTER_LIMIT, self.pods.list(&selector)).await;
        let listed = listed.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())));
        let listed = listed.map_err(ClusterError::api("listing the pods that count requests"))?;
        let mut reading = Reading::new();
        for pod in listed {
            let name = pod.name_any();
            let leaving = !is_staying(&pod);
            let count = if leaving {
                Err("the pod is at its end".to_owned())
            } else {
                let read = timeout(COUNTER_LIMIT, count(&self.pods, &name, served)).await;
                read.unwrap_or_else(|_| Err(format!("no answer in {} s", COUNTER_LIMIT.as_secs())))
            };
            reading
                .insert(pod.uid().unwrap_or_default(), PodCounter { pod: name, starts: starts(&pod), leaving, count });
        }
        Ok(reading)
    }

    async fn environment(&mut self) -> Option<Environment> {
        let envoy = self.sidecar.envoy().await.ok().flatten();
        Some(Environment { envoy, images: self.workloads.images(), ..Environment::default() })
    }

    async fn foreign_changes(&self) -> Vec<String> {
        self.objects.foreign_changes().await
    }

    async fn remaining(&self) -> Result<Vec<String>, ClusterError> {
        self.objects.remaining().await
    }

    fn watches(&self) -> Watches {
        Watches {
            objects: WatchOptions { rate: LOW_RATE, raised: LOW_RATE, busy: LOW_RATE, connections: 4 },
            // a rate that does not disturb a rollout, then the highest until the claims are decided
            claimed: WatchOptions { rate: CLAIMED_RATE, raised: HIGHEST_RATE, busy: CLAIMED_RATE, connections: 4 },
            // on a machine that is busy for seconds, thousands of new connections would overflow the accept queues of the proxies, and
            // the requests on them would time out
            mesh: WatchOptions { rate: HIGHEST_RATE, raised: HIGHEST_RATE, busy: LOW_RATE, connections: 8 },
        }
    }
}

/// Finds the pods of a gateway that are ready.
fn pods_of(gateway: &IngressGateway, client: &kube::Client, namespace: &str) -> FindPods {
    let own = (gateway.api == GatewayApi::Kubernetes).then(|| namespace.to_owned());
    let (gateway, client) = (gateway.clone(), client.clone());
    Box::new(move || {
        let (gateway, client, own) = (gateway.clone(), client.clone(), own.clone());
        Box::pin(async move {
            match Ingress::find(&client, &gateway, own.as_deref()).await {
                Ok(ingress) => ingress.ports(),
                Err(error) => {
                    tracing::debug!(%error, "a gateway has no pods");
                    Vec::new()
                }
            }
        })
    })
}

fn pods_in(cluster: &ProvisionedCluster, namespace: &str) -> Api<Pod> {
    Api::namespaced(cluster.client.clone(), namespace)
}

/// Waits until a control plane that has replaced another has pushed its configuration to the client's sidecar.
async fn first_push(
    sidecar: &mut Sidecar,
    before: &BTreeSet<String>,
    plane: &ControlPlane,
    events: &Events,
) -> Result<(), MeshError> {
    let what = Awaited::FirstPush(plane.to_string());
    let mut wait = Wait::new(what, PUSH_LIMIT, Again::Every(PUSH_INTERVAL), events.waiting());
    loop {
        let check = async {
            match sidecar.pushed().await {
                Ok(now) if now.is_disjoint(before) => Progress::Done(()),
                Ok(_) => Progress::NotYet("the sidecar has the configuration of the control plane before".to_owned()),
                Err(error) => Progress::NotYet(error.to_string()),
            }
        };
        if wait.check(check).await?.is_some() {
            return Ok(());
        }
    }
}

/// The number of requests that a pod has served, by its own counter.
async fn count(pods: &Api<Pod>, pod: &str, served: &Served) -> Result<u64, String> {
    let failed = |error: TunnelError| error.to_string();
    let mut tunnel = Tunnel::open(pods, pod, served.port).await.map_err(failed)?;
    let body = tunnel.get(&served.path).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&body);
    text.trim()
        .parse()
        .map_err(|_| format!("GET {} gave `{}`, which is not a number of requests", served.path, text.trim()))
}

/// An identifier of the start of each container. The sidecar is left out: its restart does not reset the counter of the service.
fn starts(pod: &Pod) -> BTreeMap<String, String> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let own = containers.filter(|container| container.name != "istio-proxy");
    own.map(|container| {
        let id = container.container_id.as_deref().unwrap_or("not started");
        (container.name.clone(), format!("{id}, {} restarts", container.restart_count))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::running("status: {phase: Running}", false)]
    #[case::deleted("metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}", true)]
    #[case::evicted("status: {phase: Failed, reason: Evicted}", true)]
    fn a_pod_at_its_end_is_known(#[case] yaml: &str, #[case] leaving: bool) {
        assert_eq!(is_staying(&serde_yaml::from_str(yaml).unwrap()), !leaving);
    }

    #[test]
    fn a_container_that_was_started_again_is_known_by_its_id_and_its_restarts() {
        let pod = |id: &str, restarts: i32, sidecar: &str| -> Pod {
            let yaml = format!(
                "status:
  containerStatuses:
    - {{name: hello, image: i, imageID: '', ready: true, restartCount: {restarts}, containerID: '{id}'}}
    - {{name: istio-proxy, image: i, imageID: '', ready: true, restartCount: 0, containerID: '{sidecar}'}}"
            );
            serde_yaml::from_str(&yaml).unwrap()
        };
        let first = starts(&pod("containerd://a", 0, "containerd://s"));
        assert_eq!(first, starts(&pod("containerd://a", 0, "containerd://t")));
        assert_ne!(first, starts(&pod("containerd://b", 1, "containerd://s")));
        assert_ne!(first, starts(&pod("containerd://a", 1, "containerd://s")));
        assert_eq!(first.keys().collect::<Vec<_>>(), ["hello"]);
    }
}

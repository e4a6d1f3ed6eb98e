use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::controlled::{ControlledState, route_weights};
use super::given::{Along, Given};
use super::rollout::RouteWeights;
use super::seen::Seen;
use super::senders::Senders;
use crate::demo::{DemoImage, demo_versions};
use crate::routing::{
    Client, Definitions, Kind, Live, Mesh, Naming, NotModelled, Outbound, Pod, Problem, Propagation, Request,
    RouteTable, Scope, client_in, client_of, pods_of,
};
use crate::scenario::{
    IstioVersion, Manifest, MeshStep, OtherClient, Population, Scenario, Service, Stage, Step, VersionRule,
};

/// A scenario with the objects before and after each of its stages.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The version of Istio before the first stage; none stands for the newest that the model knows.
    pub istio: Option<IstioVersion>,
    /// The stages, in their order.
    pub stages: Vec<PlannedStage<'a>>,
    /// The objects before the first stage: the client's alone.
    start: Arc<Snapshot<'a>>,
}

/// A stage of a plan.
#[derive(Debug)]
pub struct PlannedStage<'a> {
    /// Its position, from 1.
    pub number: usize,
    /// The stage as the scenario writes it.
    pub stage: &'a Stage,
    /// The objects before it.
    pub before: Arc<Snapshot<'a>>,
    /// The objects after it.
    pub after: Arc<Snapshot<'a>>,
}

/// The applied objects at one point of a plan.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    naming: Arc<Naming>,
    /// The version of Istio that configures the client's sidecar; none stands for the newest that the model knows.
    istio: Option<IstioVersion>,
    /// The definitions that the cluster has.
    pub definitions: Definitions,
    /// The applied objects.
    pub live: Live,
    /// The objects as a controller has changed them; none where no controller does.
    controlled: Option<Live>,
    /// The pods that were seen; none where they follow from the objects.
    seen: Option<Vec<Pod>>,
    mesh: OnceLock<Mesh>,
}

/// The answers that a population gets before and after a stage, by the manifests. During the change either is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedAnswers {
    /// The population.
    pub from: String,
    /// The answers before.
    pub before: BTreeSet<Seen>,
    /// The answers after.
    pub after: BTreeSet<Seen>,
}

impl<'a> Plan<'a> {
    /// The plan of a scenario in the namespace that it declares, for the newest version of Istio.
    pub fn new(scenario: &'a Scenario) -> Self {
        Self::of(scenario, &scenario.namespace, None)
    }

    /// The plan of a scenario whose objects are applied to another namespace than it declares, for a version of Istio.
    pub fn of(scenario: &'a Scenario, namespace: &str, istio: Option<&IstioVersion>) -> Self {
        let mut live = Live::new(&scenario.namespace, namespace);
        scenario.client.manifests.iter().for_each(|manifest| live.apply(manifest));
        let naming = Arc::new(Naming { versions: scenario.versions(), images: demo_versions() });
        let snapshot = |live: &Live, planes: &ControlPlanes, controlled: Option<Live>| {
            let (naming, live, istio) = (Arc::clone(&naming), live.clone(), planes.current.clone());
            let (definitions, mesh) = (planes.definitions, OnceLock::new());
            Arc::new(Snapshot { scenario, naming, istio, definitions, live, controlled, seen: None, mesh })
        };
        let mut planes = ControlPlanes { current: istio.cloned(), injected: None, definitions: Definitions::of(istio) };
        let start = snapshot(&live, &planes, None);
        let mut before = Arc::clone(&start);
        let mut state: Option<ControlledState> = None;
        let stages = (1..).zip(&scenario.stages).map(|(number, stage)| {
            live.step_through(stage);
            planes.step_through(stage);
            let controlled = scenario.controller.as_ref();
            state = controlled.and_then(|own| ControlledState::after(state.as_ref(), own, stage, &live));
            let after = snapshot(&live, &planes, state.as_ref().map(|state| state.apply_to(&live)));
            let before = std::mem::replace(&mut before, Arc::clone(&after));
            PlannedStage { number, stage, before, after }
        });
        let stages = stages.collect();
        Self { scenario, istio: istio.cloned(), stages, start }
    }

    /// The same plan for another version of Istio.
    #[must_use]
    pub fn on(&self, istio: Option<&IstioVersion>) -> Self {
        Self::of(self.scenario, self.namespace(), istio)
    }

    /// The namespace of the objects.
    pub fn namespace(&self) -> &str {
        self.start.live.namespace()
    }

    /// What the API would refuse of the objects of all stages, in the order of files and lines.
    pub fn refused(&self) -> Vec<Problem> {
        let snapshots = self.stages.iter().map(|planned| &planned.after).chain([&self.start]);
        let refused = snapshots.flat_map(|snapshot| {
            let definitions = snapshot.definitions;
            snapshot.live.all().flat_map(move |object| object.refused(definitions))
        });
        refused.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// The objects after so many stages, or after the last.
    pub fn after(&self, stages: usize) -> &Arc<Snapshot<'a>> {
        self.stages[..stages.min(self.stages.len())].last().map_or(&self.start, |planned| &planned.after)
    }
}

/// The version of Istio that configures the client's sidecar, through changes of the mesh.
struct ControlPlanes {
    current: Option<IstioVersion>,
    /// The version whose sidecars are injected into pods that start from now on, if it is another.
    injected: Option<IstioVersion>,
    /// The definitions that came with the control plane that was installed last.
    definitions: Definitions,
}

impl ControlPlanes {
    fn step_through(&mut self, stage: &Stage) {
        for step in &stage.steps {
            if let Step::Mesh(MeshStep::Install(plane)) = step {
                self.definitions = Definitions::of(Some(&plane.version));
            }
            match step {
                // it replaces the control plane that the sidecar is connected to
                Step::Mesh(MeshStep::Install(plane)) if plane.revision.is_empty() => {
                    self.current = Some(plane.version.clone());
                }
                Step::Mesh(MeshStep::Inject(plane)) => self.injected = Some(plane.version.clone()),
                Step::Mesh(MeshStep::Restart) => self.current = self.injected.take().or_else(|| self.current.take()),
                _ => {}
            }
        }
    }
}

impl PlannedStage<'_> {
    /// The number of kinds of requests of a population.
    pub(super) fn variants(&self, population: &str) -> usize {
        self.after
            .scenario
            .population(population)
            .map_or(1, |own| if own.sessions.is_some() { 1 } else { own.variants.len() })
    }

    /// Whether traffic is watched while the stage is applied: it changes something or waits for pods, it claims something about requests, and
    /// the client is running already.
    pub fn is_watched(&self) -> bool {
        self.number > 1 && !(self.stage.steps.is_empty() && self.stage.growth.is_none()) && self.stage.sends()
    }

    /// Whether the stage changes the mesh itself.
    pub fn changes_mesh(&self) -> bool {
        self.stage.steps.iter().any(|step| matches!(step, Step::Mesh(_)))
    }

    /// Whether a controller moves the traffic in the stage.
    pub fn is_controlled(&self) -> bool {
        self.stage.wait.is_some() || self.after.controlled.is_some()
    }

    /// Whether the stage changes the client's routes or their endpoints.
    pub fn changes_routes(&self) -> bool {
        self.before.table() != self.after.table()
    }

    /// Whether the client's routes after the stage differ from those before. A controller may move the routes and move them back.
    pub fn shows_in_routes(&self) -> bool {
        self.changes_routes() && !self.is_controlled()
    }

    /// What the stage routes requests to although the stage itself starts the pods behind it: a subset or a service, each with the workload.
    pub fn routed_early(&self) -> BTreeSet<(String, String)> {
        let old: BTreeSet<String> = self.before.pods().into_iter().map(|pod| pod.workload).collect();
        let outbound = self.after.outbound();
        let table = self.after.table();
        let behind = table.targets().flat_map(|cluster| {
            let what = match &cluster.subset {
                Some(subset) => format!("subset {subset}"),
                None => format!("service {}", cluster.host),
            };
            outbound.workloads_of(cluster).into_iter().map(move |workload| (what.clone(), workload))
        });
        behind.filter(|(_, workload)| !old.contains(workload)).collect()
    }

    /// What is not modelled and can affect the answers that are right while the stage is applied.
    pub fn not_modelled(&self) -> Option<NotModelled> {
        [&self.before, &self.after].into_iter().find_map(|snapshot| {
            let (senders, path) = (snapshot.senders(), &snapshot.scenario.service.path);
            let given = snapshot.scenario.populations.iter().map(|own| snapshot.given(own, path, &senders));
            // a hash moves shares, and does not change which answers are right
            let notes = given.flat_map(|given| given.not_modelled);
            notes.into_iter().find(|note| !matches!(note.scope, Scope::Hash(..)))
        })
    }

    /// The answers to expect while the stage is applied, for each population.
    pub fn answers(&self) -> Vec<ExpectedAnswers> {
        let populations = &self.after.scenario.populations;
        let (before, after) = (self.before.senders(), self.after.senders());
        let answers = populations.iter().map(|own| {
            let seen = |snapshot: &Snapshot<'_>, senders| {
                snapshot.given(own, &snapshot.scenario.service.path, senders).seen.into_keys().collect()
            };
            ExpectedAnswers {
                from: own.name.clone(),
                before: seen(&self.before, &before),
                after: seen(&self.after, &after),
            }
        });
        answers.collect()
    }
}

impl Snapshot<'_> {
    /// The snapshot with the rules and services as a controller has changed them, and with pods that were seen.
    #[must_use]
    pub fn observed(&self, rules: &[(Kind, String, serde_json::Value)], pods: Vec<Pod>) -> Self {
        let mut live = self.live.clone();
        if let Some(controlled) = self.controlled_object() {
            live.remove(&controlled);
            for (kind, name, data) in rules {
                live.put(*kind, name, data.clone(), &controlled);
            }
        }
        // what pods do not tell is as in the manifests, where there are any
        let declared = pods_of(&live, &self.naming);
        let is_of = |own: &Pod, pod: &Pod| {
            DemoImage::find(&pod.image).is_some()
                && own.namespace == pod.namespace
                && own.image == pod.image
                && own.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
        };
        let version = |pod: Pod| match declared.iter().find(|own| is_of(own, &pod)) {
            Some(own) => {
                let (version, loses_headers) = (own.version.clone(), own.loses_headers.clone());
                Pod { version, loses_headers, ..pod }
            }
            None => Pod { version: self.naming.version(&pod.image, &pod.labels, &pod.workload), ..pod },
        };
        Self {
            scenario: self.scenario,
            naming: Arc::clone(&self.naming),
            istio: self.istio.clone(),
            definitions: self.definitions,
            live: self.live.clone(),
            controlled: Some(live),
            seen: Some(pods.into_iter().map(version).collect()),
            mesh: OnceLock::new(),
        }
    }

    /// The controlled object, if it is applied.
    fn controlled_object(&self) -> Option<Arc<Manifest>> {
        let controlled = self.scenario.controller.as_ref()?;
        self.live.all().map(|object| &object.manifest).find(|manifest| controlled.is(manifest)).cloned()
    }

    /// The weights in the route of the controlled object; none if there is no such route.
    pub fn weights(&self) -> Option<RouteWeights> {
        route_weights(self.scenario.controller.as_ref()?.kind, &*self.controlled_object()?, self.effective())
    }

    /// The note that what a controller makes of its object is not modelled; empty where it is.
    pub fn unknown_controller(&self) -> Vec<NotModelled> {
        let controlled = self.scenario.controller.as_ref().map(ToString::to_string);
        let notes = self.mesh().not_modelled.iter().filter(|note| Some(&note.field) == controlled.as_ref());
        notes.cloned().collect()
    }

    /// The objects as they are after what a controller does.
    fn effective(&self) -> &Live {
        self.controlled.as_ref().unwrap_or(&self.live)
    }

    /// The pods that the objects ask for, with the versions that they answer with, as far as the scenario and the demo images tell.
    pub fn pods(&self) -> Vec<Pod> {
        self.seen.clone().unwrap_or_else(|| pods_of(self.effective(), &self.naming))
    }

    /// What the objects mean to Istio with these pods.
    pub fn mesh_of(&self, pods: Vec<Pod>) -> Mesh {
        let mesh = match &self.istio {
            Some(version) => Mesh::of(version, self.effective(), pods),
            None => Mesh::new(self.effective(), pods),
        };
        let version_header = match &self.scenario.version {
            VersionRule::Header(name) => Some(name.as_str()),
            VersionRule::Body(_) | VersionRule::Json(_) | VersionRule::Field(_) | VersionRule::Line(_) => None,
        };
        let mesh = mesh.read_in(version_header, self.scenario.pod_header.as_deref());
        if self.scenario.has_chains() { mesh.with_chains() } else { mesh }
    }

    /// What the objects mean to Istio, once all pods that they ask for are ready.
    pub fn mesh(&self) -> &Mesh {
        self.mesh.get_or_init(|| self.mesh_of(self.pods()))
    }

    /// The client; one that is not applied is taken for one in the mesh, without labels.
    pub fn client(&self) -> Client {
        client_of(self.effective(), &self.scenario.client.pod)
            .unwrap_or_else(|| Client::new(self.live.namespace(), BTreeMap::new()))
    }

    /// What becomes of the client's requests.
    pub fn outbound(&self) -> Outbound<'_> {
        self.mesh().outbound(self.client())
    }

    /// Another pod that sends requests; one that is not applied is taken for one without labels.
    pub fn other_client(&self, other: &OtherClient) -> Client {
        let namespace = other.namespace(self.live.namespace());
        client_in(&self.live, namespace, &other.name)
            .unwrap_or_else(|| Client { sidecar: other.sidecar, ..Client::new(namespace, BTreeMap::new()) })
    }

    /// What becomes of the requests of all pods that send some.
    pub fn senders(&self) -> Senders<'_> {
        Senders::new(self.mesh(), self.client(), &self.scenario.client.others, |other| self.other_client(other))
    }

    /// The service as the sender of a population addresses it.
    pub fn service(&self, population: &Population) -> Service {
        let service = &self.scenario.service;
        let other = population.from_pod.as_ref().and_then(|name| self.scenario.other_client(name));
        other.map_or_else(|| service.clone(), |other| other.addressed(service, self.live.namespace()))
    }

    /// A request of a population's sender to the scenario's service.
    pub fn request_of(&self, population: &Population) -> Request {
        self.request_for(population, "/")
    }

    /// A request of a population's sender to the scenario's service, for a path.
    pub fn request_for(&self, population: &Population, path: &str) -> Request {
        let Service { host, port, .. } = self.service(population);
        Request::get(&host, port, path)
    }

    /// What a population is given on a path.
    pub fn given(&self, population: &Population, path: &str, senders: &Senders<'_>) -> Given {
        self.given_if(population, path, senders, Propagation::Declared)
    }

    /// What a population is given on a path, where servers keep or lose the headers of requests that they send on.
    pub fn given_if(
        &self,
        population: &Population,
        path: &str,
        senders: &Senders<'_>,
        propagation: Propagation,
    ) -> Given {
        let mut claims = self.scenario.stages.iter().flat_map(Stage::claims);
        let is_claimed = claims.any(|claim| claim.path == path && claim.is_along_a_path());
        let along = Along { propagation, is_claimed, connects: false };
        Given::along(population, &self.service(population), path, senders.of(population), along)
    }

    /// A request to the scenario's service.
    pub fn request(&self) -> Request {
        Request::get(&self.scenario.service.host, self.scenario.service.port, "/")
    }

    /// The client's routes to the scenario's service; empty where there is no connection.
    pub fn table(&self) -> RouteTable {
        self.outbound().routes(&self.request()).map(|routes| routes.table).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_change_the_routes_are_known() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary")).unwrap();
        let plan = Plan::new(&scenario);
        let changing: Vec<usize> =
            plan.stages.iter().filter(|stage| stage.changes_routes()).map(|stage| stage.number).collect();
        // the label, v2 behind a pinned selector and the fault change no route of the client's
        assert_eq!(changing, [1, 4, 6, 7, 9]);
    }
}

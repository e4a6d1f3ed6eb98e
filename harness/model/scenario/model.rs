use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::addon::WantedAddon;
use super::control_plane::MeshStep;
use super::controller::{Action, Controlled, ControllerWait, Gate, Install};
use super::descriptors::Messages;
use super::error::ScenarioError;
use super::expectation::{Claim, DeclaredClaim, Expectation};
use super::growth::Growth;
use super::kinds::Target;
use super::manifest::Manifest;
use super::origin::Origin;
use super::population::{IngressGateway, Population, Sender};
use super::scheme::Scheme;
use super::service_level::{Objective, ServiceLevel};
use super::sessions::SessionClaim;
use super::suggest::nearest;
use crate::demo::ARROW;

/// A rollout test: the service, its callers, and the stages of the rollout.
///
/// ```no_run
/// let scenario = shiftcheck_model::scenario::Scenario::read("../../fixtures/canary/scenario.yaml")?;
/// assert_eq!(scenario.stages.len(), 9);
/// # Ok::<(), shiftcheck_model::scenario::ScenarioError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The scenario file.
    pub path: PathBuf,
    /// The scenario's name.
    pub name: String,
    /// The namespace of the scenario's objects.
    pub namespace: String,
    /// The rollout controllers that the scenario needs.
    pub install: Vec<Install>,
    /// The addons of Istio that the scenario names.
    pub addons: Vec<WantedAddon>,
    /// The least number of nodes of the cluster, if the scenario asks for several.
    pub nodes: Option<Nodes>,
    /// The object with which a controller moves the traffic; none if the stages move it.
    pub controller: Option<Controlled>,
    /// The service that the populations call.
    pub service: Service,
    /// The pod that sends the traffic.
    pub client: Client,
    /// How to read the version from a response.
    pub version: VersionRule,
    /// Where the scenario says how to read the version.
    pub version_origin: Origin,
    /// The messages of calls of gRPC.
    pub messages: Messages,
    /// The response header with the pod's name, if the service sends one.
    pub pod_header: Option<String>,
    /// Where a server pod reports the number of requests that it has served.
    pub served: Option<Served>,
    /// How traffic is driven, as far as the scenario sets it.
    pub traffic: Traffic,
    /// Names of request headers whose values no report shows, in addition to well-known ones.
    pub sensitive_headers: Vec<String>,
    /// The populations of callers.
    pub populations: Vec<Population>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// How many nodes a scenario needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// The number.
    pub number: u8,
    /// The position in the scenario file.
    pub origin: Origin,
}

impl Nodes {
    /// How many nodes a throwaway cluster may have.
    pub const RANGE: RangeInclusive<u8> = 1..=8;
}

/// The service under test, as the client addresses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The host: a short name, or a name with namespace and domain.
    pub host: String,
    /// The service port.
    pub port: u16,
    /// The protocol that clients speak.
    pub scheme: Scheme,
    /// The path of requests that name no other.
    pub path: String,
}

impl Service {
    /// A service of HTTP/1.1.
    pub fn http(host: &str, port: u16) -> Self {
        let scheme = Scheme::Http;
        Self { host: host.to_owned(), port, scheme, path: scheme.default_path().to_owned() }
    }

    /// The name of the Service object: the host up to its first dot.
    pub fn name(&self) -> &str {
        self.host.split('.').next().unwrap_or(&self.host)
    }
}

/// The path of the traffic driver in the bundled client image.
pub const DRIVER: &str = "/shiftcheck";

/// The pod that sends the traffic.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's manifests, applied before the first stage.
    pub manifests: Vec<Manifest>,
    /// The pod's name.
    pub pod: String,
    /// The name of the pod without a sidecar that sends requests from outside of the mesh; none if no population needs it.
    pub outside: Option<String>,
    /// The other pods that send requests, by name. Their manifests are among those of the client.
    pub others: Vec<OtherClient>,
    /// The container with the traffic driver.
    pub container: String,
    /// The path of the traffic driver in that container: this program.
    pub driver: String,
}

impl Client {
    /// Whether a pod of this name sends requests.
    pub fn is_driver(&self, pod: &str) -> bool {
        self.pod == pod || self.outside.as_deref() == Some(pod) || self.others.iter().any(|own| own.name == pod)
    }
}

/// A pod that sends requests, besides the client pod and like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherClient {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace, as its manifest names it; none for that of the scenario.
    pub namespace: Option<String>,
    /// Whether the pod has a sidecar. Without one, the node balances its connections over all pods of a service.
    pub sidecar: bool,
    /// Which requests it sends.
    pub sends: Sends,
    /// The position of its name.
    pub origin: Origin,
}

/// Which requests a pod besides the client pod sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Those of the populations that name it.
    ItsPopulations,
    /// A share of those of the client pod, of which it is a replica.
    Share,
}

impl OtherClient {
    /// The pod's namespace, where objects of the scenario are in another namespace than it declares.
    pub fn namespace<'a>(&'a self, of_scenario: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(of_scenario)
    }

    /// The service as the pod addresses it: a name without a dot is that of a Service in the scenario's namespace.
    pub fn addressed(&self, service: &Service, of_scenario: &str) -> Service {
        let is_elsewhere = self.namespace.is_some() && !service.host.contains('.');
        let host = if is_elsewhere { format!("{}.{of_scenario}", service.host) } else { service.host.clone() };
        Service { host, ..service.clone() }
    }
}

/// How to read the version from a response.
#[derive(Debug, Clone)]
pub enum VersionRule {
    /// By the group `version` of a regular expression on the body.
    Body(Regex),
    /// By the value of a header.
    Header(String),
    /// By the value at a JSON pointer in the body.
    Json(String),
    /// By a field of the message of gRPC, by its names from the outermost, `build.version`.
    Field(String),
    /// By the group `version` of a regular expression on the first line that a server of TCP sends.
    Line(Regex),
}

impl fmt::Display for VersionRule {
    /// `{body: 'build (?<version>[^ ]+)'}`, as in a scenario file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = match self {
            Self::Body(expression) => ("body", expression.as_str()),
            Self::Header(name) => ("header", name.as_str()),
            Self::Json(pointer) => ("json", pointer.as_str()),
            Self::Field(path) => ("field", path.as_str()),
            Self::Line(expression) => ("line", expression.as_str()),
        };
        write!(formatter, "{{{key}: '{value}'}}")
    }
}

/// Where a server pod reports the number of requests that it has served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The path that returns the number.
    pub path: String,
    /// The port of the pod.
    pub port: u16,
}

/// How traffic is driven. The command line and its defaults determine what is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// The number of connections.
    pub connections: Option<u16>,
    /// The number of requests in flight on each connection of HTTP/2. A connection of HTTP/1.1 has one.
    pub streams: Option<u16>,
    /// Requests per second, of all populations together; none means as fast as answers arrive.
    pub qps: Option<f64>,
    /// Whether to use keep-alive.
    pub keep_alive: Option<bool>,
    /// Where requests from outside of the mesh are sent from.
    pub outside: Outside,
}

/// Where requests from outside of the mesh are sent from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outside {
    /// A pod without a sidecar, beside the client.
    #[default]
    Pod,
    /// The machine on which shiftcheck runs, by a port-forward to a pod of the gateway.
    Host,
}

/// A stage of the rollout, with the claims that have to hold after it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The name.
    pub name: String,
    /// The changes, in the order written.
    pub steps: Vec<Step>,
    /// The state of the controlled object that the stage waits for after its changes.
    pub wait: Option<ControllerWait>,
    /// The numbers of pods that the stage waits for after its changes.
    pub growth: Option<Growth>,
    /// The claims.
    pub expect: Vec<Expectation>,
    /// The position of the stage's name.
    pub origin: Origin,
}

impl Stage {
    /// The objects that the stage applies, in order.
    pub fn applied(&self) -> impl Iterator<Item = &Manifest> {
        self.steps.iter().filter_map(|step| match step {
            Step::Apply(manifest) => Some(&**manifest),
            Step::Delete(_) | Step::Act(_) | Step::Gate(_) | Step::Mesh(_) => None,
        })
    }

    /// The position of the state that the stage follows while requests are judged all the time; none for other stages.
    pub fn followed(&self) -> Option<&Origin> {
        let wait = self.wait.as_ref().filter(|wait| wait.follows.is_some()).map(|wait| &wait.origin);
        wait.or_else(|| self.growth.as_ref().filter(|growth| growth.is_followed).map(|growth| &growth.origin))
    }

    /// The claims about what a controller does by itself.
    pub fn declared(&self) -> impl Iterator<Item = &DeclaredClaim> {
        self.expect.iter().filter_map(|expectation| match expectation {
            Expectation::Declared(claim) => Some(claim),
            _ => None,
        })
    }

    /// Whether the stage claims something about time, which depends on how busy the cluster is. While a stage is applied, a request without an
    /// answer in time is a failed one.
    pub fn is_timed(&self) -> bool {
        self.expect.iter().any(|expectation| match expectation {
            Expectation::Claim(claim) => claim.slower_than.is_some(),
            Expectation::Declared(_) | Expectation::During(_) => true,
            Expectation::ServiceLevel(level) => {
                matches!(&level.objective, Objective::Limit(limits) if !limits.latency.is_empty())
            }
            Expectation::Sessions(_)
            | Expectation::Served { .. }
            | Expectation::Weights { .. }
            | Expectation::Reports { .. }
            | Expectation::NoObjects(_) => false,
        })
    }

    /// Whether the stage claims something about requests.
    pub fn sends(&self) -> bool {
        self.asked().next().is_some() || self.declared().next().is_some()
    }

    /// The claims about populations.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.expect.iter().filter_map(|expectation| match expectation {
            Expectation::Claim(claim) => Some(claim),
            _ => None,
        })
    }

    /// The claims about errors and latency.
    pub fn service_levels(&self) -> impl Iterator<Item = &ServiceLevel> {
        self.expect.iter().filter_map(|expectation| match expectation {
            Expectation::ServiceLevel(level) => Some(level),
            _ => None,
        })
    }

    /// The claims about sessions.
    pub fn session_claims(&self) -> impl Iterator<Item = &SessionClaim> {
        self.expect.iter().filter_map(|expectation| match expectation {
            Expectation::Sessions(claim) => Some(claim),
            _ => None,
        })
    }

    /// The populations and paths of the requests that the stage's claims take.
    pub fn asked(&self) -> impl Iterator<Item = (&str, &str)> {
        let claims = self.claims().map(|claim| (claim.from.as_str(), claim.path.as_str()));
        let sessions = self.session_claims().map(|claim| (claim.from.as_str(), claim.path.as_str()));
        let levels = self.service_levels().map(|level| (level.from.as_str(), level.path.as_str()));
        claims.chain(levels).chain(sessions)
    }
}

/// A change of the cluster.
#[derive(Debug, Clone)]
pub enum Step {
    /// Apply an object.
    Apply(Arc<Manifest>),
    /// Delete an object.
    Delete(Target),
    /// Have the controller act on its object.
    Act(Action),
    /// Answer a webhook of the controlled object.
    Gate(Gate),
    /// Change the mesh. Scenario files have no such steps: upgrade runs insert them between stages.
    Mesh(MeshStep),
}

impl Scenario {
    /// The number of the stage with a name or a number.
    ///
    /// # Errors
    /// There is no such stage.
    pub fn stage(&self, wanted: &str) -> Result<usize, ScenarioError> {
        let by_number = || wanted.parse().ok().filter(|number| (1..=self.stages.len()).contains(number));
        let by_name = self.stages.iter().position(|stage| stage.name == wanted);
        by_name.map(|index| index + 1).or_else(by_number).ok_or_else(|| {
            let names: Vec<&str> = self.stages.iter().map(|stage| stage.name.as_str()).collect();
            let meant = nearest(wanted, names.iter().copied());
            let names: Vec<String> =
                names.iter().enumerate().map(|(index, name)| format!("{} {name}", index + 1)).collect();
            ScenarioError::NoStage { path: self.path.clone(), name: wanted.to_owned(), meant, names: names.join(", ") }
        })
    }

    /// Keeps the stages up to a number.
    #[must_use]
    pub fn until(mut self, number: usize) -> Self {
        self.stages.truncate(number);
        self
    }

    /// Keeps the claims of one stage only, by its number: earlier stages are applied without claims, later stages are dropped.
    #[must_use]
    pub fn only(mut self, number: usize) -> Self {
        self.stages.truncate(number);
        for stage in self.stages.iter_mut().rev().skip(1) {
            stage.expect.clear();
        }
        self
    }

    /// The versions in the claims.
    pub fn versions(&self) -> BTreeSet<String> {
        let claimed = self.stages.iter().flat_map(Stage::claims);
        let claimed = claimed.filter(|claim| claim.slower_than.is_none()).flat_map(|claim| claim.versions.keys());
        let claimed = claimed.flat_map(|versions| versions.split(ARROW).map(ToOwned::to_owned));
        let compared = self.stages.iter().flat_map(Stage::service_levels).filter_map(ServiceLevel::versions);
        let of_sessions = self.stages.iter().flat_map(Stage::session_claims).flat_map(|claim| claim.versions.keys());
        claimed.chain(compared.flatten().cloned()).chain(of_sessions.cloned()).collect()
    }

    /// Whether a claim is about the versions of several services along the way of a request.
    pub fn has_chains(&self) -> bool {
        self.stages.iter().flat_map(Stage::claims).any(Claim::is_along_a_path)
    }

    /// The scenario file, the manifest files, those of certificates and that of descriptors. A file may occur several times.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let manifests = self.manifests().map(|manifest| manifest.origin.path.as_path());
        let tls = self.populations.iter().filter_map(|own| own.through.as_ref()?.tls.as_ref());
        std::iter::once(self.path.as_path())
            .chain(manifests)
            .chain(tls.map(|tls| tls.ca_file.as_path()))
            .chain(self.messages.descriptors.as_deref())
    }

    /// All objects that are applied: those of the client, then those of the stages in order.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.client.manifests.iter().chain(self.stages.iter().flat_map(Stage::applied))
    }

    /// Whether a stage applies an object of the Kubernetes Gateway API, whose CRDs the cluster needs.
    pub fn uses_gateway_api(&self) -> bool {
        self.stages.iter().flat_map(Stage::applied).any(|manifest| manifest.group() == "gateway.networking.k8s.io")
    }

    /// Refuses populations whose requests the client pod does not send, at a place that has no other sender.
    ///
    /// # Errors
    /// There are such populations.
    pub fn refuse_other_senders(&self, place: &str) -> Result<(), ScenarioError> {
        self.refuse_senders(place, |sender| sender != Sender::Client)
    }

    /// Refuses claims about the versions of several services, at a place that does not see the sidecars of the services.
    ///
    /// # Errors
    /// There is such a claim.
    pub fn refuse_chains(&self, place: &str) -> Result<(), ScenarioError> {
        let Some(claim) = self.stages.iter().flat_map(Stage::claims).find(|claim| claim.is_along_a_path()) else {
            return Ok(());
        };
        let message = format!("`path-of-versions`, which {place} does not support; `run` does");
        Err(ScenarioError::Malformed { origin: claim.origin.clone(), message })
    }

    fn refuse_senders(&self, place: &str, is_refused: impl Fn(Sender<'_>) -> bool) -> Result<(), ScenarioError> {
        let Some(population) = self.populations.iter().find(|population| is_refused(population.sender())) else {
            return Ok(());
        };
        let (origin, what) = match population.sender() {
            Sender::Client => return Ok(()),
            Sender::Outside(gateway) => (gateway.origin.clone(), format!("comes through {gateway}")),
            Sender::Pod(name) => {
                let other = self.other_client(name).map(|own| own.origin.clone());
                (other.unwrap_or_else(|| self.version_origin.clone()), format!("is sent from pod {name}"))
            }
        };
        let message =
            format!("`{}` {what}, which {place} does not support; `run` on a throwaway cluster does", population.name);
        Err(ScenarioError::Malformed { origin, message })
    }

    /// The other pod with a name that sends requests.
    pub fn other_client(&self, name: &str) -> Option<&OtherClient> {
        self.client.others.iter().find(|own| own.name == name)
    }

    /// The gateways through which populations come.
    pub fn ingress_gateways(&self) -> BTreeSet<&IngressGateway> {
        self.populations.iter().filter_map(|population| population.through.as_ref()).collect()
    }

    /// The population with a name.
    pub fn population(&self, name: &str) -> Option<&Population> {
        self.populations.iter().find(|population| population.name == name)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::errors_and_a_gap_during_a_change("blue-green", &[false, true, true, false])]
    #[case::errors_during_a_change("gateway-api", &[false, true, true])]
    #[case::versions_compared_with_each_other("slow-canary", &[false; 2])]
    #[case::slow_answers("fault-injection", &[false, false, true, true])]
    #[case::as_the_route_declares("rollouts-timed", &[false, true])]
    fn stages_that_claim_something_about_time(#[case] fixture: &str, #[case] timed: &[bool]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(fixture);
        let stages = Scenario::read(&folder).unwrap().stages;
        assert_eq!(stages.iter().map(Stage::is_timed).collect::<Vec<_>>(), timed);
    }
}

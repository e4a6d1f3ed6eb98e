use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use super::kinds::KindRef;
use super::manifest::Manifest;
use super::rates::{Errors, Rate};
use super::suggest::nearest;
use super::{MeshStep, Place, ScenarioError, Share};

/// A rollout to be proven: the service, who calls it, and its stages.
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
    /// Its name, for people.
    pub name: String,
    /// The namespace that its objects live in.
    pub namespace: String,
    /// The service that the populations call.
    pub service: Service,
    /// The pod that they call it from.
    pub client: Client,
    /// How a response tells which version gave it.
    pub version: VersionRule,
    /// The response header that names the pod, where the service sends one.
    pub pod_header: Option<String>,
    /// Where a server pod tells how many requests it has served.
    pub served: Option<Served>,
    /// How the traffic is driven, where the scenario says so.
    pub traffic: Traffic,
    /// Who calls, by name.
    pub populations: Vec<Population>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// The service under test, as the client addresses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The host: a short name, or a name with namespace and domain.
    pub host: String,
    /// The service port.
    pub port: u16,
}

impl Service {
    /// The Service object's name: the host up to its first dot.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.split('.').next().unwrap_or(&self.host)
    }
}

/// Where the driver is in the image of the client that comes along.
pub const DRIVER: &str = "/shiftcheck";

/// The pod from which the traffic comes.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its manifests, applied before the first stage.
    pub manifests: Vec<Manifest>,
    /// The pod's name.
    pub pod: String,
    /// The container that holds the driver.
    pub container: String,
    /// Where the driver is in it: this program.
    pub driver: String,
}

/// How a response tells its version.
#[derive(Debug, Clone)]
pub enum VersionRule {
    /// By the group `version` of a regular expression on the body.
    Body(Regex),
    /// By the value of a header.
    Header(String),
    /// By the value at a JSON pointer in the body.
    Json(String),
}

/// Where a server pod tells how many requests it has served.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Served {
    /// The path that answers with the number.
    pub path: String,
    /// The port of the pod.
    pub port: u16,
}

/// How the traffic is driven; what is not said is left to the command line and its defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// The number of connections; each has one request in flight.
    pub connections: Option<u16>,
    /// Requests a second, of all populations together; none means as fast as the answers come.
    pub qps: Option<f64>,
    /// Whether a connection carries more than one request.
    pub keep_alive: Option<bool>,
}

/// A group of callers that share what the routes look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Population {
    /// Its name.
    pub name: String,
    /// What its requests look like; they take turns.
    pub variants: Vec<Request>,
}

/// What a population sends beside the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Request headers.
    pub headers: BTreeMap<String, String>,
}

/// One step of the rollout and what has to be true after it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What is done, in the order written.
    pub steps: Vec<Step>,
    /// What has to hold then.
    pub expect: Vec<Expectation>,
    /// Where the scenario describes it.
    pub place: Place,
}

impl Stage {
    /// The objects that it applies, in order.
    pub fn applied(&self) -> impl Iterator<Item = &Manifest> {
        let applied = self.steps.iter().filter_map(|step| match step {
            Step::Apply(manifests) => Some(manifests),
            Step::Delete(_) | Step::Mesh(_) => None,
        });
        applied.flatten()
    }

    /// Whether it applies, deletes or changes anything.
    #[must_use]
    pub fn does_something(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Apply(manifests) => !manifests.is_empty(),
            Step::Delete(targets) => !targets.is_empty(),
            Step::Mesh(_) => true,
        })
    }

    /// Who is claimed to get which version.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.expect.iter().filter_map(|expectation| match expectation {
            Expectation::Claim(claim) => Some(claim),
            _ => None,
        })
    }
}

/// Something that is done to the cluster.
#[derive(Debug, Clone)]
pub enum Step {
    /// Objects are applied, in this order.
    Apply(Vec<Manifest>),
    /// Objects are deleted, in this order.
    Delete(Vec<Target>),
    /// The mesh itself is changed. No scenario file says so: an upgrade puts it between the stages of one.
    Mesh(MeshStep),
}

/// An object to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kind.
    pub kind: KindRef,
    /// The name.
    pub name: String,
    /// Where the scenario says so.
    pub place: Place,
}

/// What has to hold in a stage.
#[derive(Debug, Clone)]
pub enum Expectation {
    /// A population gets these versions in these shares.
    Claim(Claim),
    /// The pods of a workload serve this many requests during the stage's sample.
    Served {
        /// The Deployment.
        workload: String,
        /// How many.
        requests: Count,
        /// Where the scenario claims it.
        place: Place,
    },
    /// What the callers see while the stage is applied.
    During(During),
    /// Nothing that the scenario applied is left in the namespace.
    NoObjects {
        /// Where the scenario claims it.
        place: Place,
    },
}

impl Expectation {
    /// Where the scenario claims it.
    #[must_use]
    pub const fn place(&self) -> &Place {
        match self {
            Self::Claim(Claim { place, .. })
            | Self::Served { place, .. }
            | Self::During(During { place, .. })
            | Self::NoObjects { place } => place,
        }
    }
}

/// What the callers see while a stage is applied. At least one of `errors`, `gap` and `last_of` is given.
#[derive(Debug, Clone, PartialEq)]
pub struct During {
    /// At most so many requests are answered with what neither the stage before nor this one gives.
    pub errors: Option<u64>,
    /// The share of errors that a pass has to exclude: a pass needs at least as many watched requests as that takes.
    pub excludes: Share,
    /// β: the probability of a pass although the share of errors is `excludes`.
    pub miss: Rate,
    /// The longest time without a right answer.
    pub gap: Option<Duration>,
    /// By version, the time after the change was applied from which it gives no answer any more.
    pub last_of: BTreeMap<String, Duration>,
    /// Where the scenario claims it.
    pub place: Place,
}

impl During {
    /// The share of errors that a pass excludes where the scenario does not say it.
    pub const EXCLUDES: Share = Share::ONE_PERCENT;
}

impl fmt::Display for During {
    /// `at most 0 errors, at most 200ms without a right answer, no v2 after 5s`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors.map(|errors| format!("at most {errors} errors"));
        let gap = self.gap.map(|gap| format!("at most {} without a right answer", shown(gap)));
        let last = self.last_of.iter().map(|(version, after)| format!("no {version} after {}", shown(*after)));
        let parts: Vec<String> = errors.into_iter().chain(gap).chain(last).collect();
        formatter.write_str(&parts.join(", "))
    }
}

/// A duration as the scenario writes it: `1m 30s`, `200ms`.
fn shown(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// How many requests a workload serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// This many.
    Exactly(u64),
    /// At least one, as with copies of requests, which come when they come.
    Some,
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(requests) => write!(formatter, "{requests}"),
            Self::Some => formatter.write_str("some"),
        }
    }
}

/// Who gets which version in what share.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The population.
    pub from: String,
    /// The path that it asks for.
    pub path: String,
    /// The share of each version; they sum to 100 %. None where only the status is claimed.
    pub versions: BTreeMap<String, Share>,
    /// The share of each status; they sum to 100 %. Without a word in the scenario, all are 200.
    pub statuses: Statuses,
    /// The errors that the verdict may make.
    pub errors: Errors,
    /// Where the scenario claims it.
    pub place: Place,
}

impl fmt::Display for Claim {
    /// `v1 50 %, v2 50 %, status 503`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |name: String, share: Share| if share.is_all() { name } else { format!("{name} {share}") };
        let versions = self.versions.iter().filter(|(_, share)| !share.is_none());
        let mut parts: Vec<String> = versions.map(|(version, share)| one(version.clone(), *share)).collect();
        if let Statuses::Claimed(statuses) = &self.statuses {
            let statuses = statuses.iter().filter(|(_, share)| !share.is_none());
            parts.extend(statuses.map(|(status, share)| one(format!("status {status}"), *share)));
        }
        formatter.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Expectation {
    /// `testers /error: v1, status 503`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(claim) if claim.path == "/" => write!(formatter, "{}: {claim}", claim.from),
            Self::Claim(claim) => write!(formatter, "{} {}: {claim}", claim.from, claim.path),
            Self::Served { workload, requests, .. } => write!(formatter, "{workload}: {requests} served"),
            Self::During(during) => write!(formatter, "during the change: {during}"),
            Self::NoObjects { .. } => formatter.write_str("objects: none"),
        }
    }
}

/// The statuses that a claim allows.
#[derive(Debug, Clone, PartialEq)]
pub enum Statuses {
    /// Nothing is said: 200, on the side.
    Implied,
    /// Claimed, in these shares.
    Claimed(BTreeMap<u16, Share>),
}

impl Statuses {
    /// The share that is claimed of a status.
    #[must_use]
    pub fn share(&self, status: u16) -> Share {
        match self {
            Self::Implied if status == 200 => Share::ALL,
            Self::Implied => Share::NONE,
            Self::Claimed(shares) => shares.get(&status).copied().unwrap_or(Share::NONE),
        }
    }
}

impl Scenario {
    /// The stage of that name or number.
    ///
    /// # Errors
    /// There is none.
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

    /// The scenario up to a stage, by its number.
    #[must_use]
    pub fn until(mut self, number: usize) -> Self {
        self.stages.truncate(number);
        self
    }

    /// The scenario with one stage's claims alone, by its number: the stages before are walked for what they apply, those behind it are not.
    #[must_use]
    pub fn only(mut self, number: usize) -> Self {
        self.stages.truncate(number);
        for stage in self.stages.iter_mut().rev().skip(1) {
            stage.expect.clear();
        }
        self
    }

    /// The versions that the claims name.
    #[must_use]
    pub fn versions(&self) -> BTreeSet<String> {
        self.stages.iter().flat_map(Stage::claims).flat_map(|claim| claim.versions.keys().cloned()).collect()
    }

    /// The files that it is made of, itself first; one that is named several times comes several times.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.manifests().map(|manifest| manifest.origin.path.as_path()))
    }

    /// All objects that are applied: those of the client, and those of the stages in their order.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        let applied = self.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match step {
            Step::Apply(manifests) => Some(manifests),
            Step::Delete(_) | Step::Mesh(_) => None,
        });
        self.client.manifests.iter().chain(applied.flatten())
    }

    /// Whether a manifest is of the Kubernetes Gateway API, whose kinds have to be known to the cluster then.
    #[must_use]
    pub fn uses_gateway_api(&self) -> bool {
        let applied = self.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match step {
            Step::Apply(manifests) => Some(manifests),
            Step::Delete(_) | Step::Mesh(_) => None,
        });
        applied.flatten().any(|manifest| manifest.group() == "gateway.networking.k8s.io")
    }

    /// The population of that name.
    #[must_use]
    pub fn population(&self, name: &str) -> Option<&Population> {
        self.populations.iter().find(|population| population.name == name)
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::kinds::KindRef;
use super::manifest::{self, Manifest};
use super::rates::{Errors, Rate};
use super::{MeshStep, ScenarioError, Share};

/// A rollout to be proven: the service, who calls it, and its stages.
///
/// ```no_run
/// let scenario = shiftcheck::scenario::Scenario::read("fixtures/canary/scenario.yaml")?;
/// assert_eq!(scenario.stages.len(), 9);
/// # Ok::<(), shiftcheck::scenario::ScenarioError>(())
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
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
}

impl Stage {
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
    pub place: String,
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
    },
    /// While the stage is applied, at most so many requests are answered with what neither the stage before nor this one gives.
    During {
        /// The number of requests.
        errors: u64,
        /// Where the scenario claims it.
        place: String,
    },
    /// Nothing that the scenario applied is left in the namespace.
    NoObjects,
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
    /// Where the scenario claims it: `scenario.yaml:27:9`.
    pub place: String,
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
            Self::Served { workload, requests } => write!(formatter, "{workload}: {requests} served"),
            Self::During { errors, .. } => write!(formatter, "during the change: at most {errors} errors"),
            Self::NoObjects => formatter.write_str("objects: none"),
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
    /// Reads a scenario file and the manifests that it names.
    ///
    /// # Errors
    /// A file cannot be read or is not YAML, a key is unknown or of the wrong type, a name leads nowhere, shares do not
    /// sum to 100 %: each with file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join("scenario.yaml") } else { path.to_owned() };
        Self::parse(&path, &manifest::text(&path)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let raw: raw::Scenario = serde_saphyr::from_str(text).map_err(|error| {
            let location = error.location().unwrap_or(Location::UNKNOWN);
            ScenarioError::at(path, location, with_nearest(&without_place(&error.render())))
        })?;
        let reader = Reader { path, folder: path.parent().unwrap_or(Path::new("")) };
        reader.scenario(raw).map_err(|error| error.with_excerpt(path, text))
    }

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

    /// The form of a scenario file as a JSON schema, for editors.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(raw::Scenario).to_value()
    }

    /// The versions that the claims name.
    #[must_use]
    pub fn versions(&self) -> BTreeSet<String> {
        self.stages.iter().flat_map(Stage::claims).flat_map(|claim| claim.versions.keys().cloned()).collect()
    }

    /// The files that it is made of, itself first; one that is named several times comes several times.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let applied = self.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match step {
            Step::Apply(manifests) => Some(manifests),
            Step::Delete(_) | Step::Mesh(_) => None,
        });
        let manifests = self.client.manifests.iter().chain(applied.flatten());
        std::iter::once(self.path.as_path()).chain(manifests.map(|manifest| manifest.origin.path.as_path()))
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

/// The file as it is written, before its names are followed.
mod raw {
    use std::borrow::Cow;
    use std::collections::BTreeMap;
    use std::fmt;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::de::{self, MapAccess, Visitor};
    use serde::{Deserialize, Deserializer};
    use serde_saphyr::Spanned;

    use super::{Count, Served, Share};

    /// A rollout to be proven: the service, who calls it, and its stages.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Scenario {
        /// The scenario's name.
        pub name: String,
        /// The namespace that its objects live in.
        #[schemars(with = "String")]
        pub namespace: Spanned<String>,
        /// The service that the populations call: `http://HOST:PORT`.
        #[schemars(with = "String", regex(pattern = "^http://"))]
        pub service: Spanned<String>,
        /// The pod from which the traffic comes.
        pub client: Client,
        /// How a response tells its version.
        pub version: Version,
        /// How a response tells its pod.
        pub pod: Option<PodRule>,
        /// Where a server pod tells how many requests it has served.
        pub served: Option<Served>,
        /// How the traffic is driven.
        #[serde(default)]
        pub traffic: Traffic,
        /// The errors that verdicts may make, where a claim does not say otherwise.
        #[serde(default)]
        pub errors: Errors,
        /// Who calls, by name.
        pub populations: BTreeMap<String, Population>,
        /// The stages, in order.
        #[schemars(with = "Vec<Stage>", length(min = 1))]
        pub stages: Spanned<Vec<Stage>>,
    }

    /// The pod from which the traffic comes.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Client {
        /// The file with its manifest.
        #[schemars(with = "String")]
        pub manifest: Spanned<String>,
        /// Its name.
        #[schemars(with = "String")]
        pub pod: Spanned<String>,
        /// The container that holds the driver; by default the one named as the pod is.
        pub container: Option<String>,
        /// Where the shiftcheck program is in it; by default `/shiftcheck`, as in the client's image that comes along.
        pub driver: Option<String>,
    }

    /// How a response tells its version: one of these.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Version {
        /// By the group `version` of a regular expression on the body.
        #[schemars(with = "Option<String>")]
        pub body: Option<Spanned<String>>,
        /// By the value of a response header.
        #[schemars(with = "Option<String>")]
        pub header: Option<Spanned<String>>,
        /// By the value at a JSON pointer in the body, such as `/build/version`.
        #[schemars(with = "Option<String>")]
        pub json: Option<Spanned<String>>,
    }

    /// How a response tells its pod.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct PodRule {
        /// By the value of this response header.
        pub header: String,
    }

    /// A group of callers that share what the routes look at.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub struct Population {
        /// Request headers.
        #[serde(default)]
        pub headers: BTreeMap<String, String>,
        /// Several kinds of requests that take turns.
        #[serde(default)]
        pub any_of: Vec<Variant>,
    }

    /// One kind of requests.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Variant {
        /// Request headers, beside those of the population.
        pub headers: BTreeMap<String, String>,
    }

    /// One step of the rollout.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Stage {
        /// Its name.
        pub name: String,
        /// Manifest files to apply, in this order.
        #[schemars(with = "Option<Vec<String>>")]
        pub apply: Option<Spanned<Vec<Spanned<String>>>>,
        /// Objects (KIND/NAME) or manifest files to delete, in this order.
        #[schemars(with = "Option<Vec<String>>")]
        pub delete: Option<Spanned<Vec<Spanned<String>>>>,
        /// What has to hold then.
        #[serde(default)]
        #[schemars(with = "Vec<Expectation>")]
        pub expect: Vec<Spanned<Expectation>>,
    }

    /// Something that has to hold: who gets which version in what share, what a workload serves, what goes wrong during the change, or that no
    /// objects are left.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Expectation {
        /// The population.
        #[schemars(with = "Option<String>")]
        pub from: Option<Spanned<String>>,
        /// The path that it asks for; by default `/`.
        #[schemars(with = "Option<String>")]
        pub path: Option<Spanned<String>>,
        /// The share of each version; they sum to 100%.
        #[schemars(with = "Option<BTreeMap<String, Share>>")]
        pub get: Option<Spanned<BTreeMap<String, Share>>>,
        /// The status, or the share of each; by default 200.
        #[schemars(with = "Option<Status>")]
        pub status: Option<Spanned<Status>>,
        /// The errors that the verdict may make.
        pub errors: Option<Errors>,
        /// How many requests of the sample the pods of workloads serve, by Deployment: a number, or `some`.
        pub served: Option<BTreeMap<String, Count>>,
        /// What may go wrong while the stage is applied.
        pub during: Option<During>,
        /// `none`: nothing that the scenario applied is left.
        #[schemars(with = "Option<String>")]
        pub objects: Option<Spanned<String>>,
    }

    /// What may go wrong while a stage is applied.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct During {
        /// At most so many requests are answered with what neither the stage before nor this one gives.
        pub errors: u64,
    }

    /// The errors that a verdict may make.
    #[derive(Default, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub struct Errors {
        /// The chance that a right route is refused; by default 1e-6.
        #[schemars(with = "Option<f64>")]
        pub false_alarm: Option<Spanned<f64>>,
        /// The chance that a route that is off by the deviation is accepted; by default 1e-3.
        #[schemars(with = "Option<f64>")]
        pub miss: Option<Spanned<f64>>,
        /// The smallest deviation that is to be seen; by default 10%.
        #[schemars(with = "Option<Share>")]
        pub deviation: Option<Spanned<Share>>,
        /// The leak that a claim without tolerance excludes; by default 1%.
        #[schemars(with = "Option<Share>")]
        pub leak: Option<Spanned<Share>>,
        /// The most requests that a claim may cost; by default 100000.
        #[schemars(with = "Option<u64>")]
        pub max_requests: Option<Spanned<u64>>,
    }

    /// How the traffic is driven.
    #[derive(Default, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub struct Traffic {
        /// The number of connections, from 1 to 256; each has one request in flight.
        #[schemars(with = "Option<u16>")]
        pub connections: Option<Spanned<u16>>,
        /// Requests a second, of all populations together; by default as fast as the answers come.
        #[schemars(with = "Option<f64>")]
        pub qps: Option<Spanned<f64>>,
        /// Whether a connection carries more than one request; by default it does.
        pub keep_alive: Option<bool>,
    }

    impl JsonSchema for Share {
        fn schema_name() -> Cow<'static, str> {
            "Share".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "A share of traffic, from 0% to 100%.",
                "type": "string",
                "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$",
                "examples": ["50%", "12.5%"],
            })
        }
    }

    impl JsonSchema for Status {
        fn schema_name() -> Cow<'static, str> {
            "Status".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let shares = generator.subschema_for::<BTreeMap<u16, Share>>();
            json_schema!({
                "description": "A status, or the share of each.",
                "anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, shares],
                "examples": [503, {"200": "90%", "503": "10%"}],
            })
        }
    }

    impl<'de> Deserialize<'de> for Count {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct CountVisitor;

            impl Visitor<'_> for CountVisitor {
                type Value = Count;

                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("a number of requests, or `some`")
                }

                fn visit_u64<E: de::Error>(self, requests: u64) -> Result<Count, E> {
                    Ok(Count::Exactly(requests))
                }

                fn visit_i64<E: de::Error>(self, requests: i64) -> Result<Count, E> {
                    u64::try_from(requests)
                        .map(Count::Exactly)
                        .map_err(|_| E::invalid_value(de::Unexpected::Signed(requests), &self))
                }

                fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                    if text == "some" {
                        Ok(Count::Some)
                    } else {
                        Err(E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
            }

            deserializer.deserialize_any(CountVisitor)
        }
    }

    impl JsonSchema for Count {
        fn schema_name() -> Cow<'static, str> {
            "Count".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "A number of requests; `some` is at least one.",
                "anyOf": [{"type": "integer", "minimum": 0}, {"const": "some"}],
            })
        }
    }

    /// `503`, or `{200: 90%, 503: 10%}`.
    pub struct Status(pub BTreeMap<u16, Share>);

    impl<'de> Deserialize<'de> for Status {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(StatusVisitor)
        }
    }

    struct StatusVisitor;

    impl<'de> Visitor<'de> for StatusVisitor {
        type Value = Status;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a status such as 503, or shares such as {200: 90%, 503: 10%}")
        }

        fn visit_u64<E: de::Error>(self, status: u64) -> Result<Status, E> {
            let status = u16::try_from(status).map_err(|_| E::custom(format!("{status} is not an HTTP status")))?;
            Ok(Status(BTreeMap::from([(status, Share::ALL)])))
        }

        fn visit_i64<E: de::Error>(self, status: i64) -> Result<Status, E> {
            let status = u64::try_from(status).map_err(|_| E::custom(format!("{status} is not an HTTP status")))?;
            self.visit_u64(status)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Status, A::Error> {
            let mut shares = BTreeMap::new();
            while let Some((status, share)) = map.next_entry()? {
                shares.insert(status, share);
            }
            Ok(Status(shares))
        }
    }
}

/// What an expectation may refer to.
struct Context<'a> {
    populations: &'a [Population],
    /// Whether pods tell how many requests they served.
    counts: bool,
    errors: Errors,
}

struct Reader<'a> {
    path: &'a Path,
    folder: &'a Path,
}

impl Reader<'_> {
    fn error<T>(&self, at: Location, message: impl Into<String>) -> Result<T, ScenarioError> {
        Err(ScenarioError::at(self.path, at, message))
    }

    fn place(&self, at: Location) -> String {
        format!("{}:{}:{}", self.path.display(), at.line(), at.column())
    }

    fn scenario(&self, raw: raw::Scenario) -> Result<Scenario, ScenarioError> {
        let populations: Vec<Population> =
            raw.populations.into_iter().map(|(name, population)| self.population(name, population)).collect();
        if !is_dns_label(&raw.namespace.value) {
            return self.error(
                raw.namespace.referenced,
                format!("`{}` is not a namespace: letters, digits and dashes, at most 63", raw.namespace.value),
            );
        }
        if raw.stages.value.is_empty() {
            return self.error(raw.stages.referenced, "a scenario needs at least one stage");
        }
        let client = self.client(raw.client)?;
        let context = Context {
            populations: &populations,
            counts: raw.served.is_some(),
            errors: self.errors(raw.errors, Errors::default())?,
        };
        let traffic = self.traffic(raw.traffic)?;
        let stages = raw.stages.value.into_iter().map(|stage| self.stage(stage, &context)).collect::<Result<_, _>>()?;
        Ok(Scenario {
            path: self.path.to_owned(),
            name: raw.name,
            namespace: raw.namespace.value,
            service: self.service(&raw.service)?,
            client,
            version: self.version(raw.version)?,
            pod_header: raw.pod.map(|pod| pod.header),
            served: raw.served,
            traffic,
            populations,
            stages,
        })
    }

    fn service(&self, url: &Spanned<String>) -> Result<Service, ScenarioError> {
        let Some((host, port)) = url
            .value
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .map(|rest| rest.split_once(':').unwrap_or((rest, "80")))
            .filter(|(host, _)| !host.is_empty() && !host.contains('/'))
            .and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port > 0)?)))
        else {
            return self.error(
                url.referenced,
                format!("`{}` is not a service address such as http://svc-hello:8080", url.value),
            );
        };
        Ok(Service { host: host.to_owned(), port })
    }

    fn client(&self, client: raw::Client) -> Result<Client, ScenarioError> {
        let manifests = self.manifests(&client.manifest)?;
        if !manifests.iter().any(|manifest| manifest.kind() == "Pod" && manifest.name() == client.pod.value) {
            return self.error(
                client.pod.referenced,
                format!("{} holds no Pod `{}`", self.resolve(&client.manifest.value).display(), client.pod.value),
            );
        }
        let container = client.container.unwrap_or_else(|| client.pod.value.clone());
        let driver = client.driver.unwrap_or_else(|| DRIVER.to_owned());
        Ok(Client { manifests, pod: client.pod.value, container, driver })
    }

    fn version(&self, version: raw::Version) -> Result<VersionRule, ScenarioError> {
        let told = [version.body.is_some(), version.header.is_some(), version.json.is_some()];
        if told.into_iter().filter(|told| *told).count() > 1 {
            let at = [version.body, version.header, version.json].into_iter().flatten().map(|own| own.referenced);
            let at = at.max_by_key(|at| (at.line(), at.column())).unwrap_or(Location::UNKNOWN);
            return self.error(at, "a version is told by one of `body`, `header` and `json`");
        }
        if let Some(body) = version.body {
            let regex = Regex::new(&body.value)
                .or_else(|error| self.error(body.referenced, format!("not a regular expression: {error}")))?;
            if !regex.capture_names().flatten().any(|name| name == "version") {
                return self.error(
                    body.referenced,
                    "this expression has no group `version`; write the part that tells it as (?<version>…)",
                );
            }
            Ok(VersionRule::Body(regex))
        } else if let Some(header) = version.header {
            Ok(VersionRule::Header(header.value))
        } else if let Some(pointer) = version.json {
            if !pointer.value.starts_with('/') {
                return self
                    .error(pointer.referenced, format!("`{}` is not a JSON pointer such as /version", pointer.value));
            }
            Ok(VersionRule::Json(pointer.value))
        } else {
            self.error(Location::UNKNOWN, "`version` needs `body`, `header` or `json`")
        }
    }

    #[expect(clippy::unused_self, reason = "one of the reader's steps")]
    fn population(&self, name: String, population: raw::Population) -> Population {
        let variants = if population.any_of.is_empty() {
            vec![Request { headers: population.headers }]
        } else {
            population
                .any_of
                .into_iter()
                .map(|variant| {
                    let mut headers = population.headers.clone();
                    headers.extend(variant.headers);
                    Request { headers }
                })
                .collect()
        };
        Population { name, variants }
    }

    fn stage(&self, stage: raw::Stage, context: &Context<'_>) -> Result<Stage, ScenarioError> {
        let mut steps = Vec::new();
        if let Some(files) = &stage.apply {
            let mut manifests = Vec::new();
            for file in &files.value {
                manifests.extend(self.manifests(file)?);
            }
            self.each_once(&manifests)?;
            steps.push((files.referenced, Step::Apply(manifests)));
        }
        if let Some(targets) = &stage.delete {
            let mut resolved = Vec::new();
            for target in &targets.value {
                resolved.extend(self.targets(target)?);
            }
            steps.push((targets.referenced, Step::Delete(resolved)));
        }
        steps.sort_by_key(|(at, _)| (at.line(), at.column()));
        let mut expect = Vec::new();
        for expectation in stage.expect {
            let at = expectation.referenced;
            expect.extend(self.expectation(expectation, context)?);
            if matches!(expect.last(), Some(Expectation::During { .. })) && steps.is_empty() {
                return self
                    .error(at, "nothing is applied or deleted in this stage, so that there is no change to watch");
            }
        }
        let claims = |expectation: &Expectation| matches!(expectation, Expectation::Claim(_));
        if let Some(Expectation::During { place, .. }) =
            expect.iter().find(|own| matches!(own, Expectation::During { .. }))
            && !expect.iter().any(claims)
        {
            return Err(ScenarioError::Claimed {
                place: place.clone(),
                message: "the change is watched only where the stage also claims what a population gets".to_owned(),
            });
        }
        Ok(Stage { name: stage.name, steps: steps.into_iter().map(|(_, step)| step).collect(), expect })
    }

    /// Of two objects with one name the first would be gone as soon as it is there.
    #[expect(clippy::unused_self, reason = "one of the reader's steps")]
    fn each_once(&self, manifests: &[Manifest]) -> Result<(), ScenarioError> {
        for (index, manifest) in manifests.iter().enumerate() {
            let same = |other: &&Manifest| {
                other.id() == manifest.id()
                    && other.group() == manifest.group()
                    && other.object.metadata.namespace == manifest.object.metadata.namespace
            };
            if let Some(first) = manifests[..index].iter().find(same) {
                return Err(ScenarioError::Malformed {
                    path: manifest.origin.path.clone(),
                    line: manifest.origin.line as u64,
                    column: 1,
                    message: format!("{} is applied in this stage already, from {}", manifest.id(), first.origin),
                });
            }
        }
        Ok(())
    }

    fn expectation(
        &self,
        expectation: Spanned<raw::Expectation>,
        context: &Context<'_>,
    ) -> Result<Vec<Expectation>, ScenarioError> {
        let at = expectation.referenced;
        let mut raw = expectation.value;
        if let Some(during) = &raw.during
            && raw.from.is_none()
            && raw.served.is_none()
            && raw.objects.is_none()
        {
            return Ok(vec![Expectation::During { errors: during.errors, place: self.place(at) }]);
        }
        match (raw.from.take(), &raw.served, &raw.objects) {
            (Some(from), None, None) if raw.get.is_some() || raw.status.is_some() => {
                self.claim(from, raw, at, context).map(|claim| vec![Expectation::Claim(claim)])
            }
            (None, Some(served), None) => {
                if !context.counts {
                    return self.error(
                        at,
                        "`served` needs to know where a pod tells its count: `served: {path: …, port: …}` at the top",
                    );
                }
                let served = served.iter();
                Ok(served
                    .map(|(workload, requests)| Expectation::Served { workload: workload.clone(), requests: *requests })
                    .collect())
            }
            (None, None, Some(objects)) if objects.value == "none" => Ok(vec![Expectation::NoObjects]),
            (None, None, Some(objects)) => {
                self.error(objects.referenced, format!("`objects` can only be `none`, not `{}`", objects.value))
            }
            _ => self.error(
                at,
                "an expectation is {from: …, get: …}, {from: …, status: …}, {served: {WORKLOAD: REQUESTS}}, {during: {errors: NUMBER}} or {objects: none}",
            ),
        }
    }

    fn claim(
        &self,
        from: Spanned<String>,
        raw: raw::Expectation,
        at: Location,
        context: &Context<'_>,
    ) -> Result<Claim, ScenarioError> {
        if !context.populations.iter().any(|population| population.name == from.value) {
            let names = context.populations.iter().map(|population| population.name.as_str());
            return self.error(
                from.referenced,
                format!("there is no population `{}`{}", from.value, nearest(&from.value, names)),
            );
        }
        if let Some(path) = raw.path.as_ref().filter(|path| !path.value.starts_with('/')) {
            return self.error(path.referenced, format!("the path `{}` does not begin with `/`", path.value));
        }
        let errors = self.errors(raw.errors.unwrap_or_default(), context.errors)?;
        if let Some(get) = &raw.get {
            let versions = get.value.iter().map(|(version, share)| (format!("`{version}`"), *share));
            self.shares(&versions.collect::<Vec<_>>(), errors, get.referenced)?;
        }
        let statuses = match raw.status {
            None => Statuses::Implied,
            Some(status) => {
                let shares = status.value.0;
                if let Some(wrong) = shares.keys().find(|status| !(100..600).contains(*status)) {
                    return self.error(status.referenced, format!("{wrong} is not an HTTP status"));
                }
                let named = shares.iter().map(|(status, share)| (format!("status {status}"), *share));
                self.shares(&named.collect::<Vec<_>>(), errors, status.referenced)?;
                Statuses::Claimed(shares)
            }
        };
        Ok(Claim {
            from: from.value,
            path: raw.path.map_or_else(|| "/".to_owned(), |path| path.value),
            versions: raw.get.map(|get| get.value).unwrap_or_default(),
            statuses,
            errors,
            place: self.place(at),
        })
    }

    /// Shares that sum to 100 % and stay between 0 and 100 % when they are off by the smallest deviation to be seen.
    fn shares(&self, shares: &[(String, Share)], errors: Errors, at: Location) -> Result<(), ScenarioError> {
        let points = |fraction: f64| (fraction * 1e6).round() / 1e4;
        let sum: f64 = shares.iter().map(|(_, share)| share.fraction()).sum();
        if (sum - 1.0).abs() > 1e-9 {
            return self.error(at, format!("the shares sum to {} %, not to 100 %", points(sum)));
        }
        for (name, share) in shares.iter().filter(|(_, share)| share.is_part()) {
            let room = share.fraction().min(1.0 - share.fraction());
            if errors.deviation > room + 1e-9 {
                let beyond = if share.fraction() < 0.5 { "below 0 %" } else { "above 100 %" };
                return self.error(
                    at,
                    format!(
                        "a deviation of {} points from {share} of {name} reaches {beyond}; claim with `errors: {{deviation: {}%}}` or less",
                        points(errors.deviation),
                        points(room),
                    ),
                );
            }
        }
        Ok(())
    }

    fn errors(&self, raw: raw::Errors, base: Errors) -> Result<Errors, ScenarioError> {
        let rate = |name: &str, written: Option<Spanned<f64>>, base: Rate| match written {
            None => Ok(base),
            Some(chance) => Rate::new(chance.value).map_or_else(
                || {
                    self.error(
                        chance.referenced,
                        format!("`{name}` is a chance above 0 and below 0.5, not {}", chance.value),
                    )
                },
                Ok,
            ),
        };
        let share = |name: &str, written: Option<Spanned<Share>>, base: f64| match written {
            None => Ok(base),
            Some(share) if share.value.is_none() || share.value.is_all() => {
                self.error(share.referenced, format!("`{name}` lies between 0% and 100%, not at {}", share.value))
            }
            Some(share) => Ok(share.value.fraction()),
        };
        let max_requests = match raw.max_requests {
            Some(requests) if requests.value == 0 => {
                return self.error(requests.referenced, "`max-requests` has to allow at least one request");
            }
            Some(requests) => requests.value,
            None => base.max_requests,
        };
        Ok(Errors {
            false_alarm: rate("false-alarm", raw.false_alarm, base.false_alarm)?,
            miss: rate("miss", raw.miss, base.miss)?,
            deviation: share("deviation", raw.deviation, base.deviation)?,
            leak: share("leak", raw.leak, base.leak)?,
            max_requests,
        })
    }

    fn traffic(&self, raw: raw::Traffic) -> Result<Traffic, ScenarioError> {
        if let Some(connections) = raw.connections.as_ref().filter(|number| !(1..=256).contains(&number.value)) {
            return self.error(connections.referenced, format!("{} is not between 1 and 256", connections.value));
        }
        if let Some(qps) = raw.qps.as_ref().filter(|qps| !(0.1..=1e6).contains(&qps.value)) {
            return self
                .error(qps.referenced, format!("{} requests a second is not between 0.1 and 1,000,000", qps.value));
        }
        Ok(Traffic {
            connections: raw.connections.map(|connections| connections.value),
            qps: raw.qps.map(|qps| qps.value),
            keep_alive: raw.keep_alive,
        })
    }

    /// The file beside the scenario, without the detours of `..`.
    fn resolve(&self, file: &str) -> PathBuf {
        let mut path = PathBuf::new();
        for part in self.folder.join(file).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir if matches!(path.components().next_back(), Some(Component::Normal(_))) => {
                    path.pop();
                }
                other => path.push(other),
            }
        }
        path
    }

    fn manifests(&self, file: &Spanned<String>) -> Result<Vec<Manifest>, ScenarioError> {
        let path = self.resolve(&file.value);
        if path.is_file() {
            return manifest::read(&path);
        }
        let present: Vec<String> = std::fs::read_dir(path.parent().unwrap_or(self.folder))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.error(
            file.referenced,
            format!("there is no file {}{}", path.display(), nearest(&name, present.iter().map(String::as_str))),
        )
    }

    fn targets(&self, target: &Spanned<String>) -> Result<Vec<Target>, ScenarioError> {
        let place = self.place(target.referenced);
        if let Some((kind, name)) = target.value.split_once('/').filter(|(_, name)| !is_yaml(name)) {
            return Ok(vec![Target { kind: KindRef::Written(kind.to_owned()), name: name.to_owned(), place }]);
        }
        if !is_yaml(&target.value) {
            return self.error(
                target.referenced,
                format!(
                    "`{}` is neither KIND/NAME, such as deployment/hello-server-v1, nor a manifest file",
                    target.value
                ),
            );
        }
        let manifests = self.manifests(target)?;
        Ok(manifests.iter().map(|manifest| Target::of(manifest, place.clone())).collect())
    }
}

/// A rendered parser message without the places that stand in front of it anyway: the message, then the excerpt.
fn without_place(rendered: &str) -> String {
    let mut lines = rendered.lines().filter(|line| !line.trim_start().starts_with("--> "));
    let first = lines.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let message = match message.split_once(": ") {
        Some((place, message)) if place.starts_with("line ") && place.contains(" column ") => message,
        _ => message,
    };
    let lines: Vec<&str> = std::iter::once(message).chain(lines).map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// The message about an unknown key with the known one that is close to it.
fn with_nearest(message: &str) -> String {
    let (first, rest) = message.split_once('\n').map_or((message, None), |(first, rest)| (first, Some(rest)));
    let meant = first.strip_prefix("unknown field `").and_then(|unknown| {
        let (unknown, known) = unknown.split_once("`, expected one of ")?;
        Some(nearest(unknown, known.split(", ")))
    });
    let meant = meant.unwrap_or_default();
    match rest {
        Some(rest) => format!("{first}{meant}\n{rest}"),
        None => format!("{first}{meant}"),
    }
}

fn is_yaml(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// `; did you mean …`, where a known name is close to the one given.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 3)
        .min()
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

/// Levenshtein's edit distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, to) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[index + 1];
            row[index + 1] = substituted.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canary scenario with a change.
    fn canary(from: &str, to: &str) -> Scenario {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/canary/scenario.yaml");
        let text = manifest::text(&path).unwrap();
        assert!(text.contains(from), "the scenario does not hold `{from}`");
        Scenario::parse(&path, &text.replacen(from, to, 1)).unwrap()
    }

    fn claims(stage: &Stage) -> Vec<&Claim> {
        stage.claims().collect()
    }

    #[test]
    fn a_claim_has_the_errors_of_the_scenario_but_for_its_own() {
        let scenario = canary("populations:", "errors: {false-alarm: 1e-4, deviation: 5%}\npopulations:");
        let errors = claims(&scenario.stages[3])[1].errors;
        let defaults = Errors::default();
        assert_eq!((errors.false_alarm, errors.miss), (Rate::new(1e-4).unwrap(), defaults.miss));
        assert!((errors.deviation - 0.05).abs() < 1e-12);

        let own = "get: {v1: 50%, v2: 50%}, errors: {miss: 1e-2, leak: 0.5%, max-requests: 5000}}";
        let scenario = canary("get: {v1: 50%, v2: 50%}}", own);
        let split = claims(&scenario.stages[3]);
        assert_eq!((split[1].errors.miss, split[1].errors.max_requests), (Rate::new(1e-2).unwrap(), 5000));
        assert!((split[1].errors.leak - 0.005).abs() < 1e-12);
        assert_eq!(split[0].errors, defaults, "another claim is left alone");
    }

    #[test]
    fn a_status_is_one_or_a_split_or_200_on_the_side() {
        let scenario = canary("status: 503", "status: {200: 90%, 503: 10%}");
        let [split, all] = claims(&scenario.stages[4])[..] else { panic!("two claims") };
        let shares = [200, 503, 404].map(|status| split.statuses.share(status).to_string());
        assert_eq!(shares, ["90 %", "10 %", "0 %"]);
        assert!(all.statuses.share(503).is_all() && all.statuses.share(200).is_none());
        let implied = claims(&scenario.stages[0])[0];
        assert_eq!(implied.statuses, Statuses::Implied);
        assert!(implied.statuses.share(200).is_all() && implied.statuses.share(204).is_none());
    }

    #[test]
    fn only_the_status_may_be_claimed() {
        let scenario = canary("path: /error, get: {v1: 100%}, status: 503", "path: /error, status: 503");
        assert!(claims(&scenario.stages[4])[0].versions.is_empty());
    }

    #[test]
    fn traffic_is_driven_as_the_scenario_says() {
        let scenario = canary("populations:", "traffic: {connections: 4, qps: 250.5, keep-alive: false}\npopulations:");
        assert_eq!(scenario.traffic, Traffic { connections: Some(4), qps: Some(250.5), keep_alive: Some(false) });
        assert_eq!(canary("name: canary", "name: other").traffic, Traffic::default());
    }
}

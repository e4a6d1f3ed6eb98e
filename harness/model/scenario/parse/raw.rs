//! The scenario file as it is written, before references are resolved. The doc comments are the descriptions in the JSON schema.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::acts::{Acts, Pods};
use super::expectation::{Expectation, Keys};
pub use super::sessions::Sessions;
use super::values::{ErrorRates, QuotedVersion, Time};
use crate::scenario::controller::{FollowedWeight, Phase};
use crate::scenario::{Addon, Outside, Share};

/// A rollout test: the service, its callers, and the stages of the rollout.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The scenario's name.
    pub name: String,
    /// The namespace of the scenario's objects.
    #[schemars(with = "String")]
    pub namespace: Spanned<String>,
    /// The rollout controllers and the metrics-server that the scenario needs.
    #[serde(default)]
    pub install: Install,
    /// Addons of the Istio release to look at the mesh with. A throwaway cluster gets them, and the run prints how to reach them; no claim
    /// depends on them.
    #[serde(default)]
    #[schemars(with = "Vec<Addon>", extend("uniqueItems" = true))]
    pub addons: Vec<Spanned<String>>,
    /// The least number of nodes of the cluster, each in a zone of its own; from 1 to 8, by default 1. A throwaway cluster gets them; on an
    /// existing cluster they have to be there.
    #[schemars(with = "Option<u8>", range(min = 1, max = 8))]
    pub nodes: Option<Spanned<u8>>,
    /// The object with which a controller moves the traffic.
    #[schemars(with = "Option<Controller>")]
    pub controller: Option<Spanned<Controller>>,
    /// The service that the populations call: `http://HOST:PORT`; `h2c://HOST:PORT` for HTTP/2 with prior knowledge; `grpc://HOST:PORT`, which
    /// may end in the method that claims are about by default, `/PACKAGE.SERVICE/METHOD`; `tcp://HOST:PORT`, where each request is
    /// a connection; or `ws://HOST:PORT`, where each request is a WebSocket connection, which may end in the path of its handshake.
    #[schemars(with = "String", regex(pattern = "^(http|h2c|grpc|tcp|ws)://"))]
    pub service: Spanned<String>,
    /// The pod that sends the traffic.
    pub client: Client,
    /// Other pods that send the requests of populations, by name. Each is like the client pod.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, OtherClient>")]
    pub clients: HashMap<Spanned<String>, OtherClient>,
    /// How to read the version from a response.
    #[schemars(with = "Version")]
    pub version: Spanned<Version>,
    /// A file with the descriptor set of the gRPC services, as `protoc --include_imports --descriptor_set_out` writes it.
    /// Needed by `version: {field: …}` and by `messages`.
    #[schemars(with = "Option<String>")]
    pub descriptors: Option<Spanned<String>>,
    /// The request messages of gRPC by method, `/PACKAGE.SERVICE/METHOD`, as JSON. Calls of other methods send an empty message.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Map<String, serde_json::Value>>")]
    pub messages: HashMap<Spanned<String>, Spanned<serde_json::Value>>,
    /// How to read the pod's name from a response.
    pub pod: Option<PodRule>,
    /// Where a server pod reports the number of requests that it has served.
    pub served: Option<Counter>,
    /// How traffic is driven.
    #[serde(default)]
    pub traffic: Traffic,
    /// The error rates of verdicts, unless a claim sets its own.
    #[serde(rename = "error-rates")]
    #[schemars(with = "Option<ErrorRates>")]
    pub error_rates: Option<Spanned<ErrorRates>>,
    /// The former name of `error-rates`.
    #[schemars(with = "Option<ErrorRates>", extend("deprecated" = true))]
    pub errors: Option<Spanned<ErrorRates>>,
    /// Names of request headers whose values no report shows, besides `authorization`, `cookie` and the like.
    #[serde(default, rename = "redact-headers")]
    #[schemars(with = "Vec<String>")]
    pub redact_headers: Vec<Spanned<String>>,
    /// The populations of callers, by name.
    pub populations: BTreeMap<String, Population>,
    /// The stages, in order.
    #[schemars(with = "Vec<Stage>", length(min = 1))]
    pub stages: Spanned<Vec<Stage>>,
}

/// The rollout controllers and the metrics-server that the scenario needs, each with its version. A throwaway cluster gets them; on an existing
/// cluster they have to be there.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Install {
    /// The version of Argo Rollouts, in quotes, such as `'1.10'`.
    #[schemars(with = "Option<QuotedVersion>")]
    pub argo_rollouts: Option<Spanned<QuotedVersion>>,
    /// The version of Flagger, in quotes, such as `'1.36'`.
    #[schemars(with = "Option<QuotedVersion>")]
    pub flagger: Option<Spanned<QuotedVersion>>,
    /// The version of metrics-server, in quotes, such as `'0.8'`. A `HorizontalPodAutoscaler` needs it for CPU and memory.
    #[schemars(with = "Option<QuotedVersion>")]
    pub metrics_server: Option<Spanned<QuotedVersion>>,
}

/// The object with which a controller moves the traffic: one of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["rollout"]}, {"required": ["canary"]}]))]
pub struct Controller {
    /// The name of a Rollout of Argo Rollouts.
    #[schemars(with = "Option<String>")]
    pub rollout: Option<Spanned<String>>,
    /// The name of a Canary of Flagger.
    #[schemars(with = "Option<String>")]
    pub canary: Option<Spanned<String>>,
}

/// The pod that sends the traffic.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The pod's manifest file.
    #[schemars(with = "String")]
    pub manifest: Spanned<String>,
    /// The pod's name.
    #[schemars(with = "String")]
    pub pod: Spanned<String>,
    /// The container with the traffic driver; by default the container with the pod's name.
    pub container: Option<String>,
    /// The path of the shiftcheck program in that container; by default `/shiftcheck`, as in the bundled client image.
    pub driver: Option<String>,
    /// The number of pods like it, itself included, which share its requests; from 1 to 64, by default 1.
    #[schemars(with = "Option<u16>")]
    pub replicas: Option<Spanned<u16>>,
}

/// A pod like the client pod, with properties of its own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "ClientPod")]
pub struct OtherClient {
    /// The pod's labels; by default none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: HashMap<Spanned<String>, Spanned<String>>,
    /// The pod's namespace, which the client's manifest file creates; by default that of the scenario.
    #[schemars(with = "Option<String>")]
    pub namespace: Option<Spanned<String>>,
    /// The pod's service account, which the client's manifest file creates; by default `default`.
    #[schemars(with = "Option<String>")]
    pub service_account: Option<Spanned<String>>,
    /// Whether the pod has a sidecar; by default true.
    pub sidecar: Option<bool>,
    /// The labels of the nodes on which the pod may run; by default those that the client pod asks for.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub node_selector: Option<BTreeMap<String, String>>,
}

/// How to read the version from a response: one of these.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// By the group `version` of a regular expression on the body.
    #[schemars(with = "Option<String>")]
    pub body: Option<Spanned<String>>,
    /// By the value of a response header, or of a trailer.
    #[schemars(with = "Option<String>")]
    pub header: Option<Spanned<String>>,
    /// By the value at a JSON pointer in the body, such as `/build/version`.
    #[schemars(with = "Option<String>")]
    pub json: Option<Spanned<String>>,
    /// By a field of the message of gRPC, by its names from the outermost, such as `build.version`.
    #[schemars(with = "Option<String>")]
    pub field: Option<Spanned<String>>,
    /// By the group `version` of a regular expression on the first line that a server of TCP sends.
    #[schemars(with = "Option<String>")]
    pub line: Option<Spanned<String>>,
}

/// How to read the pod's name from a response.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodRule {
    /// By the value of this response header.
    #[schemars(with = "String")]
    pub header: Spanned<String>,
}

/// Where a server pod reports the number of requests that it has served.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Served")]
pub struct Counter {
    /// The path that returns the number.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// The port of the pod.
    pub port: u16,
}

/// Request headers by name.
pub type Headers = HashMap<Spanned<String>, Spanned<String>>;

/// A group of callers whose requests are alike in everything that routes match.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Population {
    /// The Gateway, of Istio or of the Gateway API, through which the requests come from outside of the mesh: `gateway/NAME`. By default the client pod sends them.
    #[schemars(with = "Option<String>", regex(pattern = "^gateway/"))]
    pub through: Option<Spanned<String>>,
    /// The pod that sends the requests, one of `clients`. By default the client pod sends them.
    #[schemars(with = "Option<String>")]
    pub from_pod: Option<Spanned<String>>,
    /// The port of the gateway; by default 80, or 443 with `tls`.
    #[schemars(with = "Option<u16>")]
    pub port: Option<Spanned<u16>>,
    /// HTTPS instead of HTTP, to a gateway. The name in the handshake is `host`.
    #[schemars(with = "Option<Tls>")]
    pub tls: Option<Spanned<Tls>>,
    /// The method; by default `GET`.
    #[schemars(with = "Option<String>")]
    pub method: Option<Spanned<String>>,
    /// The `Host` header; by default the host of the service.
    #[schemars(with = "Option<String>")]
    pub host: Option<Spanned<String>>,
    /// Request headers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: Headers,
    /// Variants of the requests, which take turns.
    #[serde(default)]
    pub any_of: Vec<Variant>,
    /// Callers that send many requests each. They take turns.
    #[schemars(with = "Option<Sessions>")]
    pub sessions: Option<Spanned<Sessions>>,
}

/// How callers outside of the mesh speak TLS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A file with the certificates of the authorities that the callers trust, in PEM.
    #[schemars(with = "String")]
    pub ca: Spanned<String>,
}

/// A variant of a population's requests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Request headers, in addition to those of the population.
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: Headers,
}

/// A stage of the rollout.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The stage's name.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// Manifest files to apply, in this order.
    #[schemars(with = "Option<Vec<String>>")]
    pub apply: Option<Spanned<Vec<Spanned<String>>>>,
    /// Objects (KIND/NAME) or manifest files to delete, in this order.
    #[schemars(with = "Option<Vec<String>>")]
    pub delete: Option<Spanned<Vec<Spanned<String>>>>,
    /// What the controller does with its object, how webhooks of the object are answered, or what is done with Deployments.
    #[serde(rename = "do")]
    #[schemars(with = "Option<Acts>")]
    pub act: Option<Spanned<Acts>>,
    /// The state of the controlled object, or the numbers of pods, that the stage waits for after the change.
    #[schemars(with = "Option<Wait>")]
    pub wait: Option<Spanned<Wait>>,
    /// The state to which the controller brings its object by itself, or the numbers of pods, while requests are sent all the time.
    #[schemars(with = "Option<Follow>")]
    pub follow: Option<Spanned<Follow>>,
    /// The claims that have to hold after the change.
    #[serde(default)]
    #[schemars(with = "Vec<Expectation>")]
    pub expect: Vec<Spanned<Keys>>,
}

/// The state of the controlled object that a stage waits for, which is at least one of `step`, `weight` and `phase`; or the numbers of pods.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["step"]}, {"required": ["weight"]}, {"required": ["phase"]}, {"required": ["pods"]}]))]
pub struct Wait {
    /// The index of the current step of a Rollout, from 0.
    pub step: Option<u32>,
    /// The weight of the new version in the route of a Canary.
    pub weight: Option<Share>,
    /// The phase that the controller reports.
    pub phase: Option<Phase>,
    /// The least number of available pods by Deployment, such as `{deployment/hello: 3}`.
    #[schemars(with = "Option<BTreeMap<String, u32>>")]
    pub pods: Option<PodsOf>,
    /// The timeout, such as `60s`.
    pub within: Time,
}

/// Numbers of pods by Deployment.
pub type PodsOf = HashMap<Spanned<String>, Spanned<Pods>>;

/// The state to which the controller brings its object by itself, or the numbers of pods, while requests are sent all the time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["until"]}, {"required": ["pods"]}]))]
pub struct Follow {
    /// The phase that the controller reports in the end.
    pub until: Option<Phase>,
    /// The least number of available pods by Deployment in the end, such as `{deployment/hello: 3}`.
    #[schemars(with = "Option<BTreeMap<String, u32>>")]
    pub pods: Option<PodsOf>,
    /// The timeout, such as `5m`.
    pub within: Time,
    /// The weights of the new version in the route on the way, in order, such as `[10%, 50%, 100%]`; `{experiment: 10%}` is the weight of the
    /// pods of an experiment.
    #[serde(default)]
    pub weights: Vec<FollowedWeight>,
}

/// How traffic is driven.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Traffic {
    /// The number of connections, from 1 to 256. A connection of HTTP/1.1 has one request in flight.
    #[schemars(with = "Option<u16>")]
    pub connections: Option<Spanned<u16>>,
    /// The number of requests in flight on each connection of HTTP/2, from 1 to 256; by default 4.
    #[schemars(with = "Option<u16>")]
    pub streams: Option<Spanned<u16>>,
    /// Requests per second, of all populations together; by default as fast as answers arrive.
    #[schemars(with = "Option<f64>")]
    pub qps: Option<Spanned<f64>>,
    /// Whether to use keep-alive; by default true.
    #[schemars(with = "Option<bool>")]
    pub keep_alive: Option<Spanned<bool>>,
    /// Where requests from outside of the mesh are sent from; by default `pod`.
    #[schemars(with = "Option<Outside>")]
    pub outside: Option<Spanned<Outside>>,
}

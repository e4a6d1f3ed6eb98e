use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::model::{Answers, Claim, Outcome, Report, Stage};
use super::words::float;
use crate::events::Workload;
use crate::scenario::StatusCode;

/// The health of a node or an edge, with Kiali's default tolerances. Degraded: any 5xx, or 10 % of 4xx. Failing: 10 % of 5xx, 20 % of 4xx, or
/// 10 % without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// No traffic.
    Idle,
    Good,
    Degraded,
    Failing,
}

impl Health {
    /// The name in Kiali's API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "Healthy",
            Self::Degraded => "Degraded",
            Self::Failing => "Failure",
            Self::Idle => "NA",
        }
    }
}

/// The numbers of requests by kind of answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flow {
    pub requests: u64,
    pub client_errors: u64,
    pub server_errors: u64,
    pub unanswered: u64,
}

impl Flow {
    fn add(&mut self, answers: &Answers) {
        self.requests += answers.count;
        match answers.status {
            None => self.unanswered += answers.count,
            Some(status) if StatusCode(status).is_server_error() => self.server_errors += answers.count,
            Some(status) if StatusCode(status).is_error() => self.client_errors += answers.count,
            Some(_) => {}
        }
    }

    /// The answers by status class, in the format of Kiali's API.
    fn responses(self, host: &str) -> Value {
        let good = self.requests - self.errors();
        let counts = [("200", good), ("4xx", self.client_errors), ("5xx", self.server_errors), ("-", self.unanswered)];
        let responses = counts.into_iter().filter(|(_, count)| *count > 0).map(|(code, count)| {
            let part = percent(count, self.requests);
            (code.to_owned(), json!({"flags": {"-": part}, "hosts": {host: part}}))
        });
        Value::Object(responses.collect())
    }

    pub const fn errors(self) -> u64 {
        self.client_errors + self.server_errors + self.unanswered
    }

    pub fn health(self) -> Health {
        let part = |count: u64| share(count, self.requests);
        if self.requests == 0 {
            Health::Idle
        } else if part(self.server_errors) >= 0.1 || part(self.client_errors) >= 0.2 || part(self.unanswered) >= 0.1 {
            Health::Failing
        } else if self.server_errors > 0 || part(self.client_errors) >= 0.1 || self.unanswered > 0 {
            Health::Degraded
        } else {
            Health::Good
        }
    }
}

/// Requests by population and path.
type Flows<'a> = BTreeMap<(&'a str, &'a str), Flow>;

/// The requests of a population on a path that went to one node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub from: String,
    pub path: String,
    pub flow: Flow,
    /// The share of the population's requests on this path: the one that the verdict counted, where a claim is about it.
    pub share: f64,
    /// Whether a claim about the population on this path failed.
    pub failed: bool,
}

impl Part {
    pub fn health(&self) -> Health {
        if self.failed { Health::Failing } else { self.flow.health() }
    }
}

/// A workload with the requests to it, or the mesh with the requests that it answered itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub kind: NodeKind,
    pub flow: Flow,
    pub parts: Vec<Part>,
}

impl Node {
    /// The health by Kiali's tolerances, or failing where a claim about these requests failed.
    pub fn health(&self) -> Health {
        if self.parts.iter().any(|part| part.failed) { Health::Failing } else { self.flow.health() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeKind {
    Workload(Workload),
    /// An answer without a workload.
    Mesh(String),
}

/// The traffic graph of a stage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Graph {
    pub namespace: String,
    pub client: String,
    pub service: String,
    /// The virtual services and routes that applied.
    pub rules: Vec<String>,
    pub shifting: bool,
    pub fault: bool,
    pub all: Flow,
    pub nodes: Vec<Node>,
    /// Whether a claim of the stage failed.
    pub failed: bool,
}

impl Graph {
    pub fn of(report: &Report, stage: &Stage) -> Self {
        let answers: &[Answers] = stage.traffic.as_ref().map_or(&[], |traffic| &traffic.answers);
        let serves = |answer: &Answers| {
            let version = answer.version.as_ref()?;
            let workloads = || stage.workloads.iter();
            let by_pod =
                answer.pod.as_ref().and_then(|pod| workloads().position(|workload| workload.pods.contains(pod)));
            by_pod.or_else(|| workloads().position(|workload| workload.version == *version))
        };
        let mut all = Flow::default();
        let mut asked: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        // the workloads by position, then the answers without a workload
        let mut reached: BTreeMap<Result<usize, String>, (Flow, Flows<'_>)> = BTreeMap::new();
        reached.extend((0..stage.workloads.len()).map(|index| (Ok(index), Default::default())));
        for answer in answers {
            let population = (answer.from.as_str(), answer.path.as_str());
            all.add(answer);
            *asked.entry(population).or_default() += answer.count;
            let (flow, parts) = reached.entry(serves(answer).ok_or_else(|| described(answer))).or_default();
            flow.add(answer);
            parts.entry(population).or_default().add(answer);
        }
        let failed = |from: &str, path: &str| {
            let failed = |claim: &Claim| claim.result == Outcome::Failed && claim.is_about(from, path);
            stage.claims.iter().any(failed)
        };
        let nodes = reached.into_iter().map(|(node, (flow, parts))| Node {
            kind: match node {
                Ok(index) => NodeKind::Workload(stage.workloads[index].clone()),
                Err(said) => NodeKind::Mesh(said),
            },
            flow,
            parts: parts
                .into_iter()
                .map(|((from, path), flow)| Part {
                    from: from.to_owned(),
                    path: path.to_owned(),
                    flow,
                    share: share(flow.requests, asked[&(from, path)]),
                    failed: failed(from, path),
                })
                .collect(),
        });
        let mut nodes: Vec<Node> = nodes.collect();
        for claim in &stage.claims {
            claimed_shares(&mut nodes, claim);
        }
        let routing = stage.routing.as_ref();
        Self {
            namespace: report.scenario.namespace.clone(),
            client: report.scenario.client.clone(),
            service: report.scenario.service.split([':', '.']).next().unwrap_or_default().to_owned(),
            rules: routing.map(|routing| routing.rules.clone()).unwrap_or_default(),
            shifting: routing.is_some_and(|routing| routing.traffic_shifting),
            fault: routing.is_some_and(|routing| routing.fault_injection),
            all,
            nodes,
            failed: stage.result == Some(Outcome::Failed),
        }
    }

    /// The health of all requests, or failing in a stage with a claim that failed.
    pub fn health(&self) -> Health {
        if self.failed { Health::Failing } else { self.all.health() }
    }

    /// The graph in the format of Kiali's API. Rates are requests per second of the stage's sample.
    pub fn kiali(&self, stage: &Stage) -> Value {
        let seconds = stage.traffic.as_ref().map_or(1.0, |traffic| float(traffic.requests) / traffic.rate.max(1e-9));
        let rate = |count: u64| format!("{:.2}", float(count) / seconds);
        let namespace = &self.namespace;
        let mut nodes = vec![
            json!({"data": {
                "id": "client", "nodeType": "workload", "cluster": "Kubernetes", "namespace": namespace, "workload": self.client,
                "app": self.client, "version": "latest", "isRoot": true,
                "traffic": [{"protocol": "http", "rates": {"httpOut": rate(self.all.requests)}}],
            }}),
            json!({"data": {
                "id": "service", "nodeType": "service", "cluster": "Kubernetes", "namespace": namespace, "service": self.service,
                "app": self.service, "hasVS": {"hostnames": if self.rules.is_empty() { vec![] } else { vec![self.service.clone()] }},
                "hasTrafficShifting": self.shifting, "hasFaultInjection": self.fault, "hasRequestRouting": !self.rules.is_empty(),
                "traffic": [{"protocol": "http", "rates": {"httpIn": rate(self.all.requests)}}],
            }}),
        ];
        let traffic = |flow: Flow, host: &str| {
            json!({
                "protocol": "http",
                "rates": {
                    "http": rate(flow.requests), "httpPercentReq": percent(flow.requests, self.all.requests),
                    "httpPercentErr": percent(flow.errors(), flow.requests),
                },
                "responses": flow.responses(host),
            })
        };
        let mut edges = Vec::new();
        if self.all.requests > 0 {
            edges.push(json!({"data": {
                "id": "client-service", "source": "client", "target": "service", "healthStatus": self.all.health().word(),
                "traffic": traffic(self.all, &self.service),
            }}));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let NodeKind::Workload(workload) = &node.kind else { continue };
            let id = format!("workload-{index}");
            let mut data = json!({
                "id": id, "nodeType": "app", "cluster": "Kubernetes", "namespace": namespace, "workload": workload.name,
                "app": self.service, "version": workload.version, "isIdle": node.flow.requests == 0,
                "traffic": [{"protocol": "http", "rates": {"httpIn": rate(node.flow.requests)}}],
            });
            if !workload.sidecar {
                data["isOutOfMesh"] = json!(true);
            }
            nodes.push(json!({ "data": data }));
            if node.flow.requests > 0 {
                edges.push(json!({"data": {
                    "id": format!("service-{id}"), "source": "service", "target": id,
                    "healthStatus": node.flow.health().word(), "traffic": traffic(node.flow, &self.service),
                }}));
            }
        }
        json!({"graphType": "versionedApp", "elements": {"nodes": nodes, "edges": edges}})
    }
}

/// Sets the shares of a claim's population to those that the verdict counted: it counts the requests up to its decision only.
fn claimed_shares(nodes: &mut [Node], claim: &Claim) {
    // a verdict at the first excluded answer has no counts
    for counted in claim.shares.iter().filter(|_| claim.stop != "excluded") {
        let mut parts = nodes
            .iter_mut()
            .filter(|node| matches!(&node.kind, NodeKind::Workload(workload) if workload.version == counted.part));
        // workloads of one version divide its share
        let (Some(node), None) = (parts.next(), parts.next()) else { continue };
        for part in node.parts.iter_mut().filter(|part| claim.is_about(&part.from, &part.path)) {
            part.share = share(counted.count, claim.requests);
        }
    }
}

/// A percentage as Kiali writes it.
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1}", share(part, whole) * 100.0)
}

/// An answer without a workload, in words.
fn described(answers: &Answers) -> String {
    let said = answers.said.as_deref().unwrap_or_default();
    match (answers.status, &answers.version) {
        (Some(status), Some(version)) => format!("{version} with {}", StatusCode(status)),
        (Some(status), None) if said.is_empty() => StatusCode(status).to_string(),
        (Some(status), None) => format!("{} {said}", StatusCode(status)),
        (None, _) => said.to_owned(),
    }
}

/// A fraction.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    float(part) / float(whole.max(1))
}

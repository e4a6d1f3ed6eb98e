use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::model::{Answers, Report, Stage, Workload};

/// The health of a node or an edge, with Kiali's default tolerances. Degraded: any 5xx, or 10 % of 4xx. Failing: 10 % of 5xx, 20 % of 4xx, or
/// 10 % without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Degraded,
    Failing,
    /// No traffic.
    Idle,
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
            Some(400..500) => self.client_errors += answers.count,
            Some(500..) => self.server_errors += answers.count,
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

/// The requests of a population on a path that went to one node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub from: String,
    pub path: String,
    pub flow: Flow,
    /// All requests of the population on this path.
    pub of: u64,
}

impl Part {
    pub fn share(&self) -> f64 {
        share(self.flow.requests, self.of)
    }
}

/// A workload with the requests to it, or the mesh with the requests that it answered itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub kind: NodeKind,
    pub flow: Flow,
    pub parts: Vec<Part>,
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
}

impl Graph {
    pub fn of(report: &Report, stage: &Stage) -> Self {
        let answers: &[Answers] = stage.traffic.as_ref().map_or(&[], |traffic| &traffic.answers);
        let mut all = Flow::default();
        let mut asked: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for answer in answers {
            all.add(answer);
            *asked.entry((&answer.from, &answer.path)).or_default() += answer.count;
        }
        let serves = |answers: &Answers| {
            let version = answers.version.as_ref()?;
            let by_pod = answers
                .pod
                .as_ref()
                .and_then(|pod| stage.workloads.iter().position(|workload| workload.pods.contains(pod)));
            by_pod.or_else(|| stage.workloads.iter().position(|workload| workload.version == *version))
        };
        let to = |of: &dyn Fn(&Answers) -> bool| {
            let (mut flow, mut parts) = (Flow::default(), BTreeMap::<(&str, &str), Flow>::new());
            for answer in answers.iter().filter(|answer| of(answer)) {
                flow.add(answer);
                parts.entry((&answer.from, &answer.path)).or_default().add(answer);
            }
            let parts = parts.into_iter().map(|((from, path), flow)| Part {
                from: from.to_owned(),
                path: path.to_owned(),
                flow,
                of: asked[&(from, path)],
            });
            (flow, parts.collect::<Vec<_>>())
        };
        let mut nodes: Vec<Node> = stage
            .workloads
            .iter()
            .enumerate()
            .map(|(index, workload)| {
                let (flow, parts) = to(&|answer| serves(answer) == Some(index));
                Node { kind: NodeKind::Workload(workload.clone()), flow, parts }
            })
            .collect();
        let mut others: Vec<String> = answers.iter().filter(|answer| serves(answer).is_none()).map(described).collect();
        others.sort();
        others.dedup();
        for other in others {
            let (flow, parts) = to(&|answer| serves(answer).is_none() && described(answer) == other);
            nodes.push(Node { kind: NodeKind::Mesh(other), flow, parts });
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
        }
    }

    /// The graph in the format of Kiali's API. Rates are requests per second of the stage's sample.
    pub fn kiali(&self, stage: &Stage) -> Value {
        let seconds = stage.traffic.as_ref().map_or(1.0, |traffic| share(traffic.requests, 1) / traffic.rate.max(1e-9));
        let rate = |count: u64| format!("{:.2}", share(count, 1) / seconds);
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

/// A percentage as Kiali writes it.
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1}", share(part, whole) * 100.0)
}

/// An answer without a workload, in words.
fn described(answers: &Answers) -> String {
    let said = answers.said.as_deref().unwrap_or_default();
    match (answers.status, &answers.version) {
        (Some(status), Some(version)) => format!("{version} with {status}"),
        (Some(status), None) if said.is_empty() => status.to_string(),
        (Some(status), None) => format!("{status} {said}"),
        (None, _) => said.to_owned(),
    }
}

/// A fraction.
#[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use super::WalkError;
use super::event::{Event, Events, Judged, Subject};
use crate::cluster::wait::{Again, Progress, until};
use crate::cluster::{Applied, ClusterError, Objects, Tunnel, Workloads};
use crate::mesh::{MeshError, Sidecar, converge};
use crate::routing::{Live, diagnose};
use crate::scenario::{Claim, Expectation, Manifest, Scenario, Share, Stage, Step};
use crate::traffic::{Driver, Sample};
use crate::verdict::{Errors, Plan, Ruling, Verdict, judge};

/// The longest that the rollouts of a stage may take.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(180);
/// The longest that the sidecar may take to do what the manifests ask for.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(60);
/// How often deleted objects are looked for; they are of too many kinds to be watched.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(100);
/// The longest that deleted objects may take to go.
const REMOVAL_LIMIT: Duration = Duration::from_secs(60);

/// The stages of a scenario, walked one after the other on one cluster.
pub(super) struct Walk<'a> {
    pub scenario: &'a Scenario,
    pub client: Client,
    pub namespace: String,
    pub objects: Objects,
    pub workloads: Workloads,
    pub sidecar: Sidecar,
    pub live: Live,
    pub driver: Driver,
    pub errors: Errors,
    pub events: Events,
    /// What was applied for the client; it starts beside the first stage's objects.
    pub client_pod: Vec<Applied>,
}

impl Walk<'_> {
    /// Walks one stage; whether everything in it held.
    pub async fn stage(&mut self, number: usize, stage: &Stage) -> Result<bool, WalkError> {
        let start = Instant::now();
        self.events.tell(Event::Stage { number, name: stage.name.clone() });
        self.roll_out(stage).await?;
        let claims: Vec<&Claim> = stage
            .expect
            .iter()
            .filter_map(|expectation| match expectation {
                Expectation::Claim(claim) => Some(claim),
                _ => None,
            })
            .collect();
        let mut judged = Vec::new();
        if !claims.is_empty() {
            judged.extend(self.traffic(stage, &claims).await?);
        }
        if stage.expect.iter().any(|expectation| matches!(expectation, Expectation::NoObjects)) {
            judged.push(self.nothing_left().await?);
        }
        let passed = judged.iter().all(|judged| judged.verdict.ruling == Ruling::Pass);
        for judged in judged {
            self.events.tell(Event::Judged(judged));
        }
        self.events.tell(Event::StageDone { passed, took: start.elapsed() });
        Ok(passed)
    }

    async fn roll_out(&mut self, stage: &Stage) -> Result<(), WalkError> {
        let start = Instant::now();
        let mut applied = std::mem::take(&mut self.client_pod);
        let with_client = !applied.is_empty();
        for step in &stage.steps {
            match step {
                Step::Apply(manifests) => applied.extend(self.apply(manifests).await?),
                Step::Delete(targets) => {
                    for target in targets {
                        self.objects.delete(target).await?;
                        self.live.delete(&target.kind, &target.name);
                    }
                }
            }
        }
        self.workloads.rolled_out(&applied, ROLLOUT_LIMIT, self.events.waiting()).await?;
        if with_client && !self.workloads.pods().iter().any(|pod| pod.name == self.scenario.client.pod && pod.sidecar) {
            return Err(MeshError::NoSidecar { pod: self.scenario.client.pod.clone() }.into());
        }
        self.events.tell(Event::RolledOut { took: start.elapsed() });
        Ok(())
    }

    /// Applies these objects, in this order.
    pub async fn apply(&mut self, manifests: &[Manifest]) -> Result<Vec<Applied>, ClusterError> {
        let mut applied = Vec::new();
        for manifest in manifests {
            applied.push(self.objects.apply(manifest).await?);
            self.live.apply(manifest);
        }
        Ok(applied)
    }

    async fn traffic(&mut self, stage: &Stage, claims: &[&Claim]) -> Result<Vec<Judged>, WalkError> {
        let converged = converge(
            &mut self.sidecar,
            &self.live,
            &self.workloads,
            &self.namespace,
            self.scenario.service.name(),
            self.scenario.service.port,
            CONVERGENCE_LIMIT,
            self.events.waiting(),
        )
        .await?;
        self.events.tell(Event::Converged { took: converged.took, readings: converged.readings });
        let plans: Vec<Plan> = claims
            .iter()
            .map(|claim| {
                Plan::new(&claim.shares, self.errors)
                    .map_err(|source| WalkError::Plan { place: claim.place.clone(), source })
            })
            .collect::<Result<_, _>>()?;
        let counted = counted(stage);
        let before = self.served(&counted).await?;
        let sample = self.sample(claims, &plans).await?;
        let after = self.served(&counted).await?;
        let hints: Vec<String> = diagnose(&self.live, &self.namespace, self.scenario.service.name(), &converged.table)
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut judged: Vec<Judged> = claims
            .iter()
            .zip(&plans)
            .zip(&sample.tallies)
            .map(|((claim, plan), tally)| {
                let verdict = judge(&claim.shares, claim.status, plan, self.errors, tally);
                let hints = if verdict.ruling == Ruling::Fail { hints.clone() } else { Vec::new() };
                Judged {
                    subject: Subject::Population { name: claim.from.clone(), path: claim.path.clone() },
                    claim: shown(claim),
                    verdict,
                    hints,
                    place: claim.place.clone(),
                }
            })
            .collect();
        for (workload, expected) in counted {
            let served = total(&after, &workload).saturating_sub(total(&before, &workload));
            judged.push(judge_served(&workload, expected, served, &sample));
        }
        Ok(judged)
    }

    async fn sample(&mut self, claims: &[&Claim], plans: &[Plan]) -> Result<Sample, WalkError> {
        let flows: Vec<(&Claim, u64)> = claims.iter().zip(plans).map(|(claim, plan)| (*claim, plan.requests)).collect();
        let total = plans.iter().map(|plan| plan.requests).sum();
        let mut told = Instant::now();
        let events = &self.events;
        let sample = self
            .driver
            .sample(self.scenario, &flows, |done| {
                // a line a response is more than a person reads
                if told.elapsed() > Duration::from_millis(100) {
                    told = Instant::now();
                    events.tell(Event::Sampling { done, total });
                }
            })
            .await?;
        self.events.tell(Event::Sampled { requests: sample.requests(), rate: sample.rate() });
        Ok(sample)
    }

    /// How many requests each pod of these workloads has served, as its own counter tells.
    async fn served(&self, counted: &BTreeMap<String, u64>) -> Result<BTreeMap<(String, String), u64>, WalkError> {
        let mut counts = BTreeMap::new();
        let Some(served) = &self.scenario.served else { return Ok(counts) };
        for workload in counted.keys() {
            let Some(manifest) = self.live.get("Deployment", workload) else { continue };
            let labels = manifest.object.data.pointer("/spec/selector/matchLabels").cloned().unwrap_or_default();
            let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap_or_default();
            for pod in self.workloads.pods() {
                if pod.ready && labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value)) {
                    let mut tunnel =
                        Tunnel::open(&self.pods(), &pod.name, served.port).await.map_err(MeshError::from)?;
                    let body = tunnel.get(&served.path).await.map_err(MeshError::from)?;
                    let text = String::from_utf8_lossy(&body);
                    let count = text.trim().parse().map_err(|_| ClusterError::Exec {
                        command: format!("GET {}", served.path),
                        pod: pod.name.clone(),
                        reason: format!("`{}` is not a number of requests", text.trim()),
                    })?;
                    counts.insert((workload.clone(), pod.name), count);
                }
            }
        }
        Ok(counts)
    }

    async fn nothing_left(&self) -> Result<Judged, WalkError> {
        let mut last = Vec::new();
        let waited = until(
            "the removal of all objects",
            REMOVAL_LIMIT,
            Again::Every(REMOVAL_INTERVAL),
            self.events.waiting(),
            async || match self.objects.remaining().await {
                Ok(remaining) if remaining.is_empty() => Progress::Done(()),
                Ok(remaining) => {
                    last.clone_from(&remaining);
                    Progress::NotYet(format!("left: {}", remaining.join(", ")))
                }
                Err(error) => Progress::NotYet(error.to_string()),
            },
        )
        .await;
        let verdict = match waited {
            Ok(()) => Verdict { ruling: Ruling::Pass, requests: 0, reason: "nothing is left".to_owned() },
            Err(_) => Verdict { ruling: Ruling::Fail, requests: 0, reason: format!("left: {}", last.join(", ")) },
        };
        Ok(Judged {
            subject: Subject::Objects,
            claim: "none".to_owned(),
            verdict,
            hints: Vec::new(),
            place: self.scenario.path.display().to_string(),
        })
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn counted(stage: &Stage) -> BTreeMap<String, u64> {
    stage
        .expect
        .iter()
        .filter_map(|expectation| match expectation {
            Expectation::Served { workload, requests } => Some((workload.clone(), *requests)),
            _ => None,
        })
        .collect()
}

fn total(counts: &BTreeMap<(String, String), u64>, workload: &str) -> u64 {
    counts.iter().filter(|((own, _), _)| own == workload).map(|(_, count)| count).sum()
}

fn judge_served(workload: &str, expected: u64, served: u64, sample: &Sample) -> Judged {
    let ruling = if served == expected { Ruling::Pass } else { Ruling::Fail };
    Judged {
        subject: Subject::Workload(workload.to_owned()),
        claim: format!("{expected} served"),
        verdict: Verdict {
            ruling,
            requests: sample.requests(),
            reason: format!("its pods counted {served} requests while {} were sent", sample.requests()),
        },
        hints: Vec::new(),
        place: String::new(),
    }
}

fn shown(claim: &Claim) -> String {
    let shares = claim.shares.iter().filter(|(_, share)| **share != Share::NONE);
    let mut text = shares
        .map(|(version, share)| if share.is_all() { version.clone() } else { format!("{version} {share}") })
        .collect::<Vec<_>>()
        .join(", ");
    if claim.status != 200 {
        text = format!("{text}, status {}", claim.status);
    }
    text
}

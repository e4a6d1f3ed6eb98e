use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::SessionError;
use super::judge::{ServedRequests, judge_sample, judge_service_level, judge_sessions};
use super::picks::Picks;
use super::progress::Progress;
use super::stage::{Mode, Session};
use crate::events::{ClaimProgress, Counters, Event, Fingerprint, Judged, Tallied};
use crate::plan::StageDesigns;
use crate::routing::{Kind, addressed};
use crate::scenario::{Claim, Count, Expectation, Origin, Stage};
use crate::traffic::{Driver, Next, ObservedResponse, Sample, SampleFlow};
use crate::venue::Reading;
use crate::verdict::{Answer, AnswerTimes, Design, Ruling, ServiceLevelTrial, SessionTrial, Trial};

impl Session<'_> {
    /// Takes a sample and judges the claims about its requests.
    pub async fn traffic(
        &mut self,
        stage: &Stage,
        designs: &StageDesigns,
        driver: &mut Driver,
    ) -> Result<Vec<Judged>, SessionError> {
        let counted = counted(stage);
        let mut servers: BTreeSet<String> = counted.keys().cloned().collect();
        if self.mode == Mode::Compare {
            servers.extend(self.deployed().into_iter().map(|own| own.name));
        }
        let counters = self.counters().await;
        let before = self.served(&servers).await?;
        let (sample, trials, picks) = self.sample(designs, driver).await?;
        let after = self.served(&servers).await?;
        let between = |own| Some((own, ServedRequests::between(before.get(own)?, after.get(own)?, &sample.pods)));
        let served: BTreeMap<&String, ServedRequests> = servers.iter().filter_map(between).collect();
        if self.mode == Mode::Compare {
            // where a counter was lost, nobody knows how many there were
            let told = self.plan.scenario.served.is_some() && served.values().all(|own| own.lost.is_empty());
            let print = Fingerprint {
                sent: sample.requests,
                served: told.then(|| served.values().map(|own| own.at_least).sum()),
                ..self.fingerprint(counters, &designs.claims, &picks).await?
            };
            self.events.tell(Event::Fingerprinted(Box::new(print)));
        }
        let mesh = self.mesh();
        // with the pods' own versions, as the manifests have them
        let (live, planned) = (self.senders(&mesh), self.senders(self.snapshot.mesh()));
        let judge = |trial: &Trial| judge_sample(trial, &self.snapshot, &planned, &live);
        let mut judged: Vec<Judged> = trials.claims.iter().map(judge).collect();
        judged.extend(trials.levels.iter().map(judge_service_level));
        judged.extend(trials.sessions.iter().map(|trial| judge_sessions(trial, &self.snapshot, &planned, &live)));
        for (workload, (expected, place)) in counted {
            let served = served.get(&workload).cloned().unwrap_or_else(|| ServedRequests::unknown(&workload));
            judged.push(served.judge(&workload, expected, sample.requests, place));
        }
        Ok(judged)
    }

    /// What the client's sidecar has counted so far; none where nobody compares, or it does not count.
    async fn counters(&mut self) -> Option<Counters> {
        let sidecar = self.venue.sidecar().filter(|_| self.mode == Mode::Compare)?;
        sidecar.counters().await.ok().filter(Counters::is_counting)
    }

    async fn fingerprint(
        &mut self,
        before: Option<Counters>,
        designs: &[Design],
        picks: &Picks,
    ) -> Result<Fingerprint, SessionError> {
        let host = addressed(&self.plan.scenario.service.host, self.namespace());
        let after = self.counters().await;
        let order = designs.iter().enumerate().filter_map(|(flow, design)| {
            Some(((design.claim.from.clone(), design.claim.path.clone()), picks.order(flow)?))
        });
        let mut print = Fingerprint {
            order: order.collect(),
            injection: self.venue.pods().into_iter().filter_map(|pod| pod.sidecar).collect(),
            ..Fingerprint::default()
        };
        if let Some(after) = after {
            let (connections, handshakes) = after.connections();
            print.secured = (connections > 0).then_some(handshakes > 0);
            print.counters = Some(&after - &before.unwrap_or_default());
        }
        if let Some(sidecar) = self.venue.sidecar() {
            print.configuration = sidecar.configuration(&host, self.plan.scenario.service.port).await?;
        }
        Ok(print)
    }

    /// Sends until every claim is decided.
    async fn sample(
        &self,
        designs: &StageDesigns,
        driver: &mut Driver,
    ) -> Result<(Sample, Trials, Picks), SessionError> {
        let mut picks = Picks::default();
        let comparing = self.mode == Mode::Compare;
        let mut trials = Trials::new(designs);
        let wanted = flows(designs);
        let claims = wanted.len();
        let (mut done, mut decided) = (0, 0);
        let mut progress = Progress::new(wanted.iter().map(|flow| (flow.from.to_owned(), flow.path.to_owned())));
        let events = &self.events;
        let sample = driver
            .sample(self.plan.scenario, &wanted, |answered| {
                if comparing {
                    picks.see(&answered);
                }
                let (before, ruling) = trials.observe(&answered);
                done += 1;
                decided += usize::from(before.is_none() && ruling.is_some());
                if progress.see(&answered) {
                    let (answers, progress) = (progress.answers(), trials.progress());
                    events.tell(Event::Sampling { done, decided, claims, answers, progress });
                }
                if ruling.is_some() { Next::Stop } else { Next::Continue }
            })
            .await?;
        trials.keep_cookies(&sample.cookies);
        let tallies = sample.tallies.iter().map(|tally| Tallied {
            from: wanted[tally.flow].from.to_owned(),
            path: wanted[tally.flow].path.to_owned(),
            answer: tally.answer.clone(),
            pod: tally.pod.clone(),
            count: tally.count,
        });
        self.events.tell(Event::Sampled {
            requests: sample.requests,
            rate: sample.rate(),
            latency: sample.latency(),
            tallies: tallies.collect(),
        });
        Ok((sample, trials, picks))
    }

    /// The counters of the pods of each of these Deployments, where their pods can be found by labels.
    async fn served(&self, workloads: &BTreeSet<String>) -> Result<BTreeMap<String, Reading>, SessionError> {
        let mut counters = BTreeMap::new();
        let Some(served) = &self.plan.scenario.served else { return Ok(counters) };
        for workload in workloads {
            let Some(object) = self.snapshot.live.get(Kind::Deployment, workload) else { continue };
            let labels = object.manifest.at("/spec/selector/matchLabels").cloned().unwrap_or_default();
            let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap_or_default();
            // no labels would select all pods of the namespace
            if labels.is_empty() {
                continue;
            }
            counters.insert(workload.clone(), self.venue.counters(&labels, served).await?);
        }
        Ok(counters)
    }
}

/// The trials of a sample.
struct Trials {
    claims: Vec<Trial>,
    levels: Vec<ServiceLevelTrial>,
    sessions: Vec<SessionTrial>,
}

impl Trials {
    fn new(designs: &StageDesigns) -> Self {
        Self {
            claims: designs.claims.iter().cloned().map(Trial::new).collect(),
            levels: designs.levels.iter().cloned().map(ServiceLevelTrial::new).collect(),
            sessions: designs.sessions.iter().cloned().map(SessionTrial::new).collect(),
        }
    }

    /// Takes a response, and returns the ruling on the claim of its flow before and after it.
    fn observe(&mut self, response: &ObservedResponse<'_>) -> (Option<Ruling>, Option<Ruling>) {
        let ObservedResponse { flow, answer, pod, due, sent, at: answered, .. } = *response;
        if let Some(trial) = self.claims.get_mut(flow) {
            let before = trial.ruling();
            let kind = match trial.design().claim.slower_than {
                Some(limit) => trial.kind(&by_speed(answer, limit, answered.saturating_sub(sent))),
                None => trial.kind(answer),
            };
            (before, trial.observe(kind))
        } else if let Some(trial) = self.levels.get_mut(flow - self.claims.len()) {
            (trial.ruling(), trial.observe(answer, AnswerTimes { due, sent, answered }))
        } else {
            let trial = &mut self.sessions[flow - self.claims.len() - self.levels.len()];
            (trial.ruling(), trial.observe(answer, pod, AnswerTimes { due, sent, answered }))
        }
    }
}

impl Trials {
    /// Takes the number of sessions with a cookie in each flow.
    fn keep_cookies(&mut self, of_flows: &[u64]) {
        let first = self.claims.len() + self.levels.len();
        for (trial, position) in self.sessions.iter_mut().zip(first..) {
            trial.kept_cookies(of_flows.get(position).copied().unwrap_or_default());
        }
    }

    /// The state of each claim.
    fn progress(&self) -> Vec<ClaimProgress> {
        let claims = self.claims.iter().map(|trial| {
            let (claim, (requests, shares)) = (&trial.design().claim, trial.served());
            let (from, path, claim) = (claim.from.clone(), claim.path.clone(), claim.to_string());
            ClaimProgress { from, path, claim, requests, shares, ruling: trial.ruling() }
        });
        let levels = self.levels.iter().map(|trial| {
            let claim = &trial.design().claim;
            let (from, path, claim) = (claim.from.clone(), claim.path.clone(), claim.to_string());
            ClaimProgress { from, path, claim, requests: trial.requests(), shares: Vec::new(), ruling: trial.ruling() }
        });
        let sessions = self.sessions.iter().map(|trial| {
            let claim = &trial.design().claim;
            let (from, path, claim) = (claim.from.clone(), claim.path.clone(), claim.to_string());
            ClaimProgress { from, path, claim, requests: trial.requests(), shares: Vec::new(), ruling: trial.ruling() }
        });
        claims.chain(levels).chain(sessions).collect()
    }
}

/// An answer as a claim about slow answers counts it: by the time that it took. No answer at all is slow.
fn by_speed(answer: &Answer, limit: Duration, took: Duration) -> Answer {
    let [slow, within] = Claim::speeds(limit);
    let is_slow = took > limit || matches!(answer, Answer::Nothing { .. });
    Answer::Version { version: if is_slow { slow } else { within }, status: 200 }
}

/// The requests that designs take: those of claims about shares first.
fn flows(designs: &StageDesigns) -> Vec<SampleFlow<'_>> {
    let claims = designs.claims.iter().map(|design| SampleFlow {
        from: &design.claim.from,
        path: &design.claim.path,
        requests: design.allowed,
        least: design.least(),
    });
    let levels = designs.levels.iter().map(|design| SampleFlow {
        from: &design.claim.from,
        path: &design.claim.path,
        requests: design.allowed(),
        least: design.least(),
    });
    let sessions = designs.sessions.iter().map(|design| SampleFlow {
        from: &design.claim.from,
        path: &design.claim.path,
        requests: design.requests(),
        least: design.least(),
    });
    claims.chain(levels).chain(sessions).collect()
}

fn counted(stage: &Stage) -> BTreeMap<String, (Count, Origin)> {
    stage
        .expect
        .iter()
        .filter_map(|expectation| match expectation {
            Expectation::Served { workload, requests, origin } => Some((workload.clone(), (*requests, origin.clone()))),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_after_the_time_and_none_at_all_are_slow() {
        let limit = Duration::from_millis(400);
        let name = |answer: &Answer, took: u64| match by_speed(answer, limit, Duration::from_millis(took)) {
            Answer::Version { version, status: 200 } => version,
            other => panic!("{other}"),
        };
        let failed = Answer::Unknown { status: 503, excerpt: String::new() };
        let nothing = Answer::Nothing { reason: "a timeout".to_owned() };
        let names = [name(&failed, 400), name(&failed, 401), name(&nothing, 10)];
        assert_eq!(names, ["within 400ms", "slower than 400ms", "slower than 400ms"]);
    }
}

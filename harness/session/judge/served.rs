//! How many requests the pods of a workload served while a sample was taken, by their own counters. A counter that was lost is never taken for
//! one that did not move. Nothing here does any I/O.

use std::collections::BTreeMap;

use super::claim::counted;
use crate::events::{FailureLayer, Judged, Subject};
use crate::scenario::{Count, Origin};
use crate::venue::{PodCounter, Reading};
use crate::verdict::{Ruling, Verdict};

/// The requests that a workload served between two readings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServedRequests {
    /// As many as the counters prove: all of them, where none was lost.
    pub at_least: u64,
    /// Why counters do not tell everything.
    pub lost: Vec<String>,
}

impl ServedRequests {
    /// The requests between two readings. `answered` is how many answers came from each pod meanwhile, where the service tells its pod.
    pub fn between(before: &Reading, after: &Reading, answered: &BTreeMap<String, u64>) -> Self {
        let mut served = Self::default();
        for (id, was) in before {
            // it got no requests before, and gets none now
            if was.leaving {
                continue;
            }
            match after.get(id) {
                Some(now) => served.add(was, now, answered.get(&was.pod).copied().unwrap_or(0)),
                None => served.lost.push(format!("pod {} is gone", was.pod)),
            }
        }
        for (_, now) in after.iter().filter(|(id, _)| !before.contains_key(*id)) {
            // it has counted nothing but what came meanwhile
            served.at_least += now.count.as_ref().map_or(0, |count| *count);
            served.lost.push(format!("pod {} started meanwhile", now.pod));
        }
        served
    }

    /// Of a workload whose pods cannot be found.
    pub fn unknown(workload: &str) -> Self {
        let why = format!("no Deployment `{workload}` with `spec.selector.matchLabels` is applied");
        Self { at_least: 0, lost: vec![why] }
    }

    fn add(&mut self, was: &PodCounter, now: &PodCounter, answered: u64) {
        let pod = &was.pod;
        let restarted = was.starts != now.starts;
        match (&was.count, &now.count) {
            (_, Err(why)) | (Err(why), _) => {
                if restarted && let Ok(count) = now.count {
                    self.at_least += count;
                }
                self.lost.push(format!("the counter of pod {pod} cannot be read: {why}"));
            }
            (Ok(_), Ok(count)) if restarted => {
                self.at_least += count;
                self.lost.push(format!("a container of pod {pod} was started again"));
            }
            (Ok(from), Ok(to)) if to < from => {
                self.at_least += to;
                self.lost.push(format!("the counter of pod {pod} went from {from} back to {to}"));
            }
            (Ok(from), Ok(to)) => {
                let grown = to - from;
                self.at_least += grown.max(answered);
                if grown < answered {
                    self.lost.push(format!("pod {pod} gave {answered} answers, and its counter grew by {grown}"));
                } else if now.leaving {
                    self.lost.push(format!("pod {pod} is being removed"));
                }
            }
        }
    }

    /// Whether the workload served as many requests as claimed, of so many that were sent.
    pub fn judge(&self, workload: &str, expected: Count, sent: u64, place: Origin) -> Judged {
        let ruling = match expected {
            // what is proven is too much already
            Count::Exactly(requests) if self.at_least > requests => Ruling::Fail,
            _ if !self.lost.is_empty() => Ruling::Inconclusive,
            Count::Exactly(requests) if self.at_least == requests => Ruling::Pass,
            Count::Some if self.at_least > 0 => Ruling::Pass,
            Count::Exactly(_) | Count::Some => Ruling::Fail,
        };
        let at_least = if self.lost.is_empty() { "" } else { "at least " };
        let mut reason = format!("its pods counted {at_least}{} requests while {sent} were sent", self.at_least);
        if !self.lost.is_empty() {
            reason = format!("{reason}; a counter was lost: {}", self.lost.join(", "));
        }
        let (subject, claim) = (Subject::Workload(workload.to_owned()), format!("{expected} served"));
        let layer = (ruling == Ruling::Fail).then_some(FailureLayer::Route);
        counted(subject, claim, Verdict::counted(ruling, sent, reason), place, layer)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::cluster::EmbeddedMesh;
    use crate::scenario::Scenario;
    use crate::venue::OpenVenue;

    /// `POD START COUNT`, with `?` for a counter that cannot be read and a `-` in front of a pod that is at its end.
    fn reading(pods: &[&str]) -> Reading {
        let counter = |pod: &&str| {
            let words: Vec<&str> = pod.split(' ').collect();
            let [name, start, count] = words[..] else { panic!("{pod}") };
            let (leaving, name) = name.strip_prefix('-').map_or((false, name), |name| (true, name));
            let starts = BTreeMap::from([("hello".to_owned(), start.to_owned())]);
            let count = count.parse().map_err(|_| "no connection".to_owned());
            (name.to_owned(), PodCounter { pod: format!("v2-{name}"), starts, leaving, count })
        };
        pods.iter().map(counter).collect()
    }

    const ZERO: Count = Count::Exactly(0);

    fn place() -> Origin {
        Origin::new("scenario.yaml", 4, 9)
    }

    #[rstest]
    #[case::nothing_served(&["a 1 7", "b 1 0"], &["a 1 7", "b 1 0"], ZERO, Ruling::Pass, "its pods counted 0 requests while 688 were sent")]
    #[case::no_pods(&[], &[], ZERO, Ruling::Pass, "its pods counted 0 requests while 688 were sent")]
    #[case::served(&["a 1 7", "b 1 0"], &["a 1 9", "b 1 1"], ZERO, Ruling::Fail, "its pods counted 3 requests while 688 were sent")]
    #[case::some(&["a 1 7"], &["a 1 9"], Count::Some, Ruling::Pass, "its pods counted 2 requests while 688 were sent")]
    #[case::none(&["a 1 7"], &["a 1 7"], Count::Some, Ruling::Fail, "its pods counted 0 requests while 688 were sent")]
    #[case::exactly(&["a 1 7"], &["a 1 9"], Count::Exactly(2), Ruling::Pass, "its pods counted 2 requests while 688 were sent")]
    #[case::too_few(&["a 1 7"], &["a 1 8"], Count::Exactly(2), Ruling::Fail, "its pods counted 1 requests while 688 were sent")]
    #[case::restarted(&["a 1 7"], &["a 2 0"], ZERO, Ruling::Inconclusive, "its pods counted at least 0 requests while 688 were sent; a counter was lost: a container of pod v2-a was started again")]
    #[case::restarted_before_any(&["a 1 0"], &["a 2 0"], ZERO, Ruling::Inconclusive, "at least 0 requests while 688 were sent; a counter was lost: a container of pod v2-a was started again")]
    #[case::restarted_and_served(&["a 1 7"], &["a 2 1"], ZERO, Ruling::Fail, "at least 1 requests while 688 were sent; a counter was lost: a container of pod v2-a was started again")]
    #[case::went_back(&["a 1 7"], &["a 1 0"], ZERO, Ruling::Inconclusive, "a counter was lost: the counter of pod v2-a went from 7 back to 0")]
    #[case::gone(&["a 1 7", "b 1 0"], &["b 1 0"], ZERO, Ruling::Inconclusive, "a counter was lost: pod v2-a is gone")]
    #[case::replaced(&["a 1 7"], &["c 1 0"], ZERO, Ruling::Inconclusive, "a counter was lost: pod v2-a is gone, pod v2-c started meanwhile")]
    #[case::came_in_between(&["a 1 7"], &["a 1 7", "c 1 0"], ZERO, Ruling::Inconclusive, "a counter was lost: pod v2-c started meanwhile")]
    #[case::came_and_served(&["a 1 7"], &["a 1 7", "c 1 4"], ZERO, Ruling::Fail, "its pods counted at least 4 requests")]
    #[case::some_with_a_loss(&["a 1 7"], &["a 1 9", "c 1 0"], Count::Some, Ruling::Inconclusive, "its pods counted at least 2 requests")]
    #[case::unreadable_after(&["a 1 7"], &["a 1 ?"], ZERO, Ruling::Inconclusive, "a counter was lost: the counter of pod v2-a cannot be read: no connection")]
    #[case::unreadable_before(&["a 1 ?"], &["a 1 7"], ZERO, Ruling::Inconclusive, "a counter was lost: the counter of pod v2-a cannot be read: no connection")]
    #[case::being_removed(&["a 1 7"], &["-a 1 7"], ZERO, Ruling::Inconclusive, "a counter was lost: pod v2-a is being removed")]
    #[case::left_before(&["-a 1 7", "b 1 0"], &["b 1 0"], ZERO, Ruling::Pass, "its pods counted 0 requests while 688 were sent")]
    #[case::still_leaving(&["-a 1 7", "b 1 0"], &["-a 1 ?", "b 1 0"], ZERO, Ruling::Pass, "its pods counted 0 requests while 688 were sent")]
    fn a_count_between_two_readings(
        #[case] before: &[&str],
        #[case] after: &[&str],
        #[case] expected: Count,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        let served = ServedRequests::between(&reading(before), &reading(after), &BTreeMap::new());
        let judged = served.judge("hello-server-v2", expected, 688, place());
        assert_eq!(judged.verdict.ruling, ruling, "{}", judged.verdict.reason);
        assert!(judged.verdict.reason.contains(reason), "{}", judged.verdict.reason);
    }

    #[rstest]
    #[case(ZERO)]
    #[case(Count::Some)]
    fn a_workload_whose_pods_cannot_be_found_passes_no_claim(#[case] expected: Count) {
        let judged = ServedRequests::unknown("db").judge("db", expected, 688, place());
        assert_eq!(judged.verdict.ruling, Ruling::Inconclusive);
        assert!(judged.verdict.reason.contains("no Deployment `db` with"), "{}", judged.verdict.reason);
    }

    #[test]
    fn answers_of_a_pod_that_its_counter_does_not_have_are_counted() {
        let same = reading(&["a 1 7"]);
        let served = ServedRequests::between(&same, &same, &BTreeMap::from([("v2-a".to_owned(), 3)]));
        assert_eq!(served.judge("v2", ZERO, 688, place()).verdict.ruling, Ruling::Fail);
        let judged = served.judge("v2", Count::Exactly(3), 688, place());
        assert_eq!(judged.verdict.ruling, Ruling::Inconclusive);
        assert!(judged.verdict.reason.contains("pod v2-a gave 3 answers, and its counter grew by 0"));
    }

    #[tokio::test]
    async fn a_server_of_the_embedded_mesh_that_starts_again_loses_its_counter() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mirror")).unwrap();
        let client = &scenario.client;
        let mut mesh = EmbeddedMesh::start(&scenario.namespace, &client.pod, &scenario.service).unwrap();
        for manifest in client.manifests.iter().chain(scenario.stages[0].applied()) {
            mesh.apply(manifest).unwrap();
        }
        let served = scenario.served.as_ref().unwrap();
        let labels = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
        let read = async |mesh: &EmbeddedMesh| mesh.counters(&labels, served).await.unwrap();
        let before = read(&mesh).await;
        assert_eq!(before.len(), 2);
        let judged = |before: &Reading, after: &Reading| {
            let served = ServedRequests::between(before, after, &BTreeMap::new());
            served.judge("hello-server-v2", Count::Exactly(0), 688, place()).verdict.ruling
        };
        assert_eq!(judged(&before, &read(&mesh).await), Ruling::Pass);
        mesh.restart();
        let after = read(&mesh).await;
        assert!(after.values().all(|own| own.count == Ok(0)));
        assert_eq!(judged(&before, &after), Ruling::Inconclusive);
        // the readings after that are of one start again
        assert_eq!(judged(&after, &read(&mesh).await), Ruling::Pass);
    }
}

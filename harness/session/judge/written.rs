use std::time::Duration;

use crate::events::{Failing, Transition, Write};

/// How long before the first failed request a write can be its cause: istiod and the sidecar take some of it.
const EFFECT: Duration = Duration::from_secs(2);
/// How late a watch shows a write at most, on a busy machine.
const LAG: Duration = Duration::from_millis(500);

/// What was written to the rules when requests failed, and why such writes fail requests.
pub(super) fn written_meanwhile(transition: &Transition) -> Vec<String> {
    let Some(Failing { first, last }) = transition.failing else { return Vec::new() };
    let is_near = |write: &&Write| is_rule(write) && write.at + EFFECT >= first && write.at <= last + LAG;
    let near: Vec<&Write> = transition.writes.iter().filter(is_near).collect();
    if near.is_empty() {
        return Vec::new();
    }
    let seconds = |at: Duration| format!("{:.3} s", at.as_secs_f64());
    let told =
        |write: &&Write| format!("{} (seen at {}): {}", write.object, seconds(write.at), write.changes.join(", "));
    let written = format!(
        "the failed requests were due from {} to {} after the traffic began; writes at that time, in order: {}",
        seconds(first),
        seconds(last),
        near.iter().map(told).collect::<Vec<_>>().join("; "),
    );
    let lacks_pods = transition.errors.keys().any(|answer| answer.contains("no healthy upstream"));
    let cause = if lacks_pods { endpoints_before_routes(&near) } else { None };
    cause.into_iter().chain([written]).collect()
}

/// The cause of errors where a subset and the weights of its route are written one right after the other.
fn endpoints_before_routes(near: &[&Write]) -> Option<String> {
    let position = |is_it: fn(&str) -> bool| near.iter().position(|write| write.changes.iter().any(|own| is_it(own)));
    let (subset, weights) = (position(is_subset_label)?, position(is_weight)?);
    let order = if subset < weights { "before" } else { "after" };
    let (subset, weights) = (near[subset], near[weights]);
    Some(format!(
        "{} gave a subset other pods, {} ms {order} {} changed the weights: a sidecar applies endpoints before routes, so that the old weights sent \
         requests to the subset before its new pods were ready",
        subset.object,
        subset.at.abs_diff(weights.at).as_millis(),
        weights.object,
    ))
}

fn is_rule(write: &Write) -> bool {
    matches!(write.kind(), "Service" | "DestinationRule" | "VirtualService")
}

fn is_subset_label(change: &str) -> bool {
    change.starts_with("subsets[") && change.contains(".labels")
}

fn is_weight(change: &str) -> bool {
    change.contains("].weight: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that failed between these times, in milliseconds.
    fn superseded(first: u64, last: u64) -> Transition {
        let ms = Duration::from_millis;
        let write = |at: u64, object: &str, changes: &[&str]| Write {
            at: ms(at),
            object: object.to_owned(),
            changes: changes.iter().map(|change| (*change).to_owned()).collect(),
        };
        let weights = [
            "http[primary].route[stable].weight: 100 instead of 80",
            "http[primary].route[canary].weight: 0 instead of 20",
        ];
        let hash = "subsets[canary].labels.rollouts-pod-template-hash: 6c9 instead of 5f7";
        Transition {
            errors: [("503 `no healthy upstream`".to_owned(), 7)].into(),
            failing: Some(Failing { first: ms(first), last: ms(last) }),
            writes: vec![
                write(3310, "VirtualService/hello", &weights),
                write(3314, "DestinationRule/hello", &[hash]),
                write(3330, "Rollout/hello", &["Progressing at step 0 of 4, weight 0 %"]),
                write(9000, "VirtualService/hello", &weights),
            ],
            ..Transition::default()
        }
    }

    #[test]
    fn a_subset_and_weights_that_are_written_together_are_the_cause_of_errors() {
        insta::assert_snapshot!(written_meanwhile(&superseded(3421, 3433)).join("\n"));
    }

    #[test]
    fn a_watch_may_show_a_write_after_its_effect() {
        assert_eq!(written_meanwhile(&superseded(3250, 3260)).len(), 2);
        assert_eq!(written_meanwhile(&superseded(2000, 2100)), [""; 0]);
    }

    #[test]
    fn the_order_of_the_writes_is_told() {
        let mut transition = superseded(3421, 3433);
        transition.writes.swap(0, 1);
        let cause = written_meanwhile(&transition).remove(0);
        assert!(
            cause.starts_with("DestinationRule/hello gave a subset other pods, 4 ms before VirtualService/"),
            "{cause}"
        );
    }

    #[test]
    fn other_writes_are_told_without_a_cause() {
        assert_eq!(written_meanwhile(&superseded(6000, 6100)), [""; 0]);
        assert_eq!(written_meanwhile(&superseded(9100, 9100)).len(), 1);
        let timeouts = [("no answer in time".to_owned(), 7)].into();
        assert_eq!(written_meanwhile(&Transition { errors: timeouts, ..superseded(3421, 3433) }).len(), 1);
    }
}

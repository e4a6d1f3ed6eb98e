use jiff::Timestamp;

use super::*;
use crate::events::{Calibration, FailureLayer, Judged, Routing, Subject, TrafficPath};
use crate::scenario::{Origin, Sensitive};
use crate::verdict::{Findings, Power, Ruling, TestResult, Verdict};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn judged(name: &str, ruling: Ruling, reason: &str, hints: &[&str]) -> Event {
    Event::Judged(Judged {
        subject: Subject::Population { name: name.to_owned(), path: "/error".to_owned() },
        claim: "v1 50 %, v2 50 %, status 503".to_owned(),
        verdict: Verdict::counted(ruling, 530, reason.to_owned()),
        hints: hints.iter().map(|hint| (*hint).to_owned()).collect(),
        place: Origin::new("scenario.yaml", 27, 9),
        errors: None,
        layer: (ruling == Ruling::Fail).then_some(FailureLayer::Endpoints),
    })
}

fn stage(number: usize, name: &str) -> [Event; 4] {
    [
        Event::Stage { number, name: name.to_owned(), edits: Vec::new() },
        Event::RolledOut(4 * SECOND),
        Event::Converged { took: Duration::from_millis(180), readings: 3, routing: Routing::default() },
        Event::Sampled {
            requests: 2064,
            rate: 2400.4,
            latency: Latency {
                median: 3 * MILLISECOND,
                p99: 9 * MILLISECOND,
                max: 20 * MILLISECOND,
                ..Latency::default()
            },
            tallies: Vec::new(),
        },
    ]
}

fn printed(events: impl IntoIterator<Item = Event>, note: &str) -> String {
    printed_on(None, events, note)
}

/// The output on a terminal of this width.
fn printed_on(width: Option<usize>, events: impl IntoIterator<Item = Event>, note: &str) -> String {
    let mut out = Vec::new();
    let mut terminal = Terminal::new(Wrapped::new(&mut out, width), Marks { colour: false });
    for event in events {
        let since_start = if matches!(event, Event::Ready(_)) { 14 * SECOND } else { 50 * SECOND };
        terminal.show(Timed { at: Timestamp::UNIX_EPOCH, since_start, event });
    }
    terminal.close(note);
    drop(terminal);
    String::from_utf8(out).unwrap()
}

fn start() -> Vec<Event> {
    vec![
        Event::Started {
            run: "0123abcd".to_owned(),
            scenario: "canary".to_owned(),
            place: "a throwaway cluster".to_owned(),
            stages: vec!["first release".to_owned(), "header rule".to_owned()],
            path: TrafficPath::default(),
            claims: 5,
            files: Vec::new(),
            sensitive: Sensitive::default(),
            totals: Some(Totals { claims: 3, false_alarm: 1e-6, miss: 3e-3, worst_miss: 1e-3, requests: 1860.4 }),
        },
        Event::Swept("the cluster of run 4567cdef".to_owned()),
        Event::Ready("cluster with Istio 1.31".to_owned()),
    ]
}

#[rstest::rstest]
#[case::nothing_to_tell(&[], None, 0, None)]
#[case::a_shift(&[], Some(50), 0, Some("during the change: 0 of 16 requests failed, which excludes an error share above 35.06 % with 99.9 % confidence; testers: last old answer after 0.05 s"))]
#[case::failed(&[("503", 1), ("503 `no healthy upstream`", 2)], None, 0, Some("during the change: 3 of 16 requests failed (1 × 503, 2 × 503 `no healthy upstream`); longest time without a correct answer 1.25 s (testers)"))]
#[case::goaway(&[], None, 1, Some("during the change: 0 of 16 requests failed, which excludes an error share above 35.06 % with 99.9 % confidence; 1 connection was ended with GOAWAY"))]
#[case::failed_after_goaway(&[("503", 1)], None, 8, Some("during the change: 1 of 16 requests failed (1 × 503); longest time without a correct answer 1.25 s (testers); 8 connections were ended with GOAWAY"))]
fn what_was_seen_of_a_change(
    #[case] errors: &[(&str, u64)],
    #[case] last: Option<u64>,
    #[case] goaways: u64,
    #[case] expected: Option<&str>,
) {
    let from = "testers".to_owned();
    let shift = Shift { from: from.clone(), last_old: last.map(Duration::from_millis), ..Shift::default() };
    let transition = Transition {
        requests: 16,
        errors: errors.iter().map(|(answer, count)| ((*answer).to_owned(), *count)).collect(),
        shifts: vec![shift],
        goaways,
        gap: Some(Gap { from, began: SECOND, lasted: SECOND + SECOND / 4 }),
        ..Transition::default()
    };
    assert_eq!(change(&transition).as_deref(), expected);
}

#[test]
fn a_run_that_passes() {
    let mut events = start();
    events.extend(stage(1, "first release"));
    events.push(judged("everyone", Ruling::Pass, "all 688 from v1", &[]));
    events.push(Event::StageDone { passed: true, took: 6 * SECOND });
    events.push(Event::Removed(SECOND));
    insta::assert_snapshot!(printed(events, "all stages passed"));
}

fn calibration(counts: f64, connections: f64) -> Event {
    let at = |level, chance| TestResult { chance, level };
    let calibration = Calibration {
        from: "testers".to_owned(),
        version: "v2".to_owned(),
        claimed: "50%".parse().unwrap(),
        samples: 40,
        requests: 400,
        sent: 22_345,
        share: 0.5012,
        findings: Findings {
            mean: at(1e-5, 0.76),
            spread: at(2e-5, counts),
            blocks: at(1e-5, 0.21),
            block: 16,
            order: at(1e-5, 0.7),
            excess_runs: -0.4,
            connections: at(1e-5, connections),
            refused: 0,
            refusable: 0,
        },
        power: Power {
            shift: Some(0.0269),
            movement: Some(0.0413),
            swing: Some(0.0612),
            repeats: Some(0.0538),
            repeats_of_eighth: Some(0.21),
        },
        accepted: 40,
        refused: 0,
        mean: 531.2,
        decided: 240 * MILLISECOND,
    };
    Event::Calibrated { calibration, took: 20 * SECOND }
}

#[rstest::rstest]
#[case::independent(0.31, 0.42)]
#[case::dependent(0.0, 1.2e-45)]
fn a_calibration(#[case] counts: f64, #[case] connections: f64) {
    let started = Event::Started {
        run: "0123abcd".to_owned(),
        scenario: "canary".to_owned(),
        place: "a throwaway cluster".to_owned(),
        stages: vec![String::new(); 9],
        path: TrafficPath::default(),
        claims: 0,
        files: Vec::new(),
        sensitive: Sensitive::default(),
        totals: None,
    };
    let name =
        if counts > 0.0 { "a_calibration_of_independent_requests" } else { "a_calibration_of_dependent_requests" };
    insta::assert_snapshot!(name, printed([started, calibration(counts, connections)], "how it ended"));
}

#[test]
fn what_was_not_compared_is_told() {
    let not_compared = vec!["EnvoyFilter/limit (filter.yaml:1:1)".to_owned()];
    let mut events = start();
    let [begun, rolled_out, _, sampled] = stage(1, "first release");
    let routing = Routing { not_compared, ..Routing::default() };
    let converged = Event::Converged { took: 5 * SECOND, readings: 7, routing };
    events.extend([begun, rolled_out, converged, sampled]);
    events.push(judged("everyone", Ruling::Pass, "all 688 from v1", &[]));
    events.push(Event::StageDone { passed: true, took: 6 * SECOND });
    let printed = printed(events, "all stages passed");
    let line = "     the sidecar's routes differ from the model's where they were not compared: EnvoyFilter/limit (filter.yaml:1:1)";
    assert!(printed.lines().any(|printed| printed == line), "{printed}");
}

#[test]
fn a_run_that_fails_and_is_kept() {
    let mut events = start();
    events.extend(stage(1, "header rule"));
    events.push(judged("everyone", Ruling::Pass, "all 688 from v1", &[]));
    events.push(judged("testers", Ruling::Fail, "788 of 1573 requests were answered 503", &["subset v2 is empty"]));
    events.push(Event::StageDone { passed: false, took: 6 * SECOND });
    events.push(Event::Kept {
        look: vec!["export KUBECONFIG=kubeconfig".to_owned()],
        remove: "shiftcheck sweep --run 0123abcd".to_owned(),
    });
    insta::assert_snapshot!(printed(events, "stage 1 of 2 failed; 1 stage not run"));
}

#[test]
fn a_run_that_cannot_tell() {
    let mut events = start();
    events.extend(stage(1, "header rule"));
    let reason = "only 40 of at most 1711 requests were answered in time, too few for a verdict; so far v1 55.0 % (20.1 to 86.3)";
    events.push(judged("testers", Ruling::Inconclusive, reason, &[]));
    events.push(Event::StageDone { passed: false, took: 120 * SECOND });
    events.push(Event::Removed(SECOND));
    insta::assert_snapshot!(printed(events, "stage 1 of 2 failed; 1 stage not run"));
}

#[test]
fn a_run_whose_environment_failed() {
    let mut events = start();
    events.push(Event::Stage { number: 1, name: "first release".to_owned(), edits: Vec::new() });
    events.push(Event::Waiting("hello-server-v1: 1 of 2 ready, ErrImagePull in container hello".to_owned()));
    let message = "the rollout of hello-server-v1 did not come to be".to_owned();
    events.push(Event::Broke { layer: FailureLayer::Rollout, place: None, message });
    events.push(Event::Collected("shiftcheck-report/state".into()));
    events.push(Event::Removed(SECOND));
    insta::assert_snapshot!(printed(events, "did not complete"));
}

#[test]
fn a_run_that_is_interrupted() {
    let mut events = start();
    events.extend(stage(1, "first release"));
    events.push(Event::Removing);
    events.push(Event::Removed(SECOND));
    insta::assert_snapshot!(printed(events, "interrupted"));
}

#[test]
fn a_run_on_a_terminal_of_80_columns() {
    let mut events = start();
    events.extend(stage(1, "a stage that only applies its manifests"));
    events.push(Event::StageDone { passed: true, took: 6 * SECOND });
    events.extend(stage(2, "header rule"));
    let reason = "v1 52.7 % (42.8 to 60.0), v2 47.3 % (40.0 to 57.2) of 725 requests; all 725 status 503; a leak is below 0.95 % with 99.9 % confidence";
    events.push(judged("everyone", Ruling::Pass, reason, &[]));
    let hint = "subset v2 (version=v2, fixtures/canary/dr-hello.yaml:10:7) has no endpoints: the selector of Service svc-hello (app=hello,version=v1, fixtures/canary/svc-hello-v1.yaml:1:1) excludes its pods";
    events.push(judged("testers", Ruling::Fail, "788 of 1573 requests were answered 503", &[hint]));
    events.push(Event::StageDone { passed: false, took: 6 * SECOND });
    events.push(Event::Kept {
        look: vec![
            "export KUBECONFIG=/home/user/.cache/shiftcheck/runs/0123abcd/kubeconfig && kubectl get pods".to_owned(),
        ],
        remove: "shiftcheck sweep --run 0123abcd".to_owned(),
    });
    let printed = printed_on(Some(80), events, "stage 2 of 2 failed");
    let too_long = printed.lines().filter(|line| line.chars().count() > 80 && !line.starts_with("  export"));
    assert_eq!(too_long.count(), 0, "{printed}");
    insta::assert_snapshot!(printed);
}

use std::time::Duration;

use fastrand::Rng;
use rstest::rstest;

use super::*;
use crate::scenario::{Comparison, ErrorProbability, ErrorRates, Limits, Objective, Origin, ServiceLevel};
use crate::verdict::{Answer, DesignError, Ruling};

fn probability(value: f64) -> ErrorProbability {
    ErrorProbability::new(value).unwrap()
}

fn one_sided(shares: [f64; 2], alpha: f64, beta: f64) -> OneSidedDesign {
    let (false_alarm, miss) = (probability(alpha), probability(beta));
    OneSidedDesign::new(shares, ErrorRates { false_alarm, miss, ..ErrorRates::default() })
}

/// The share of a canary with a weight among bad events if it has this relative risk.
fn share(weight: f64, risk: f64) -> f64 {
    weight * risk / (1.0 - weight + weight * risk)
}

#[rstest]
#[case::halves(0.5, 2.0, 1e-6, 120.0, 246.0)]
#[case::halves_lax(0.5, 2.0, 1e-3, 120.0, 124.0)]
#[case::a_tenth(0.1, 2.0, 1e-6, 268.0, 456.0)]
#[case::a_tenth_lax(0.1, 2.0, 1e-3, 267.0, 232.0)]
#[case::thrice(0.1, 3.0, 1e-6, 97.0, 153.0)]
fn a_comparison_takes_so_many_bad_events(
    #[case] weight: f64,
    #[case] risk: f64,
    #[case] alpha: f64,
    #[case] alike: f64,
    #[case] worse: f64,
) {
    let design = one_sided([weight, share(weight, risk)], alpha, 1e-3);
    let (mean, other) = (design.mean(), design.mean_at_other());
    assert!(mean.round() <= alike && other.round() <= worse, "{mean:.2} {other:.2}");
    // the exact errors
    let (right, wrong) = (design.characteristics(weight), design.characteristics(share(weight, risk)));
    assert!(right.fails <= alpha && wrong.passes <= 1e-3, "{right:?} {wrong:?}");
    assert!((right.mean - mean).abs() < 0.1 && (wrong.mean - other).abs() < 0.1, "{right:?} {wrong:?}");
    // less risk is less likely to fail, more risk is less likely to pass
    assert!(design.characteristics(share(weight, 0.8)).fails < right.fails);
    assert!(design.characteristics(share(weight, risk * 1.3)).passes < wrong.passes);
}

#[test]
fn without_a_calibration_the_levels_of_ville_hold() {
    let design = one_sided([0.5, share(0.5, 1.04)], 1e-2, 1e-2);
    let (right, wrong) = (design.characteristics(0.5), design.characteristics(share(0.5, 1.04)));
    assert!(design.mean() > 10_000.0, "{}", design.mean());
    assert!(right.fails <= 1e-2 && wrong.passes <= 1e-2, "{right:?} {wrong:?}");
}

fn claim(errors: Option<&str>, slower_than: &[(&str, &str)]) -> ServiceLevel {
    let slower_than = slower_than.iter().map(|(share, factor)| (share.parse().unwrap(), factor.parse().unwrap()));
    let (canary, baseline) = ("v2".to_owned(), "v1".to_owned());
    let errors = errors.map(|factor| factor.parse().unwrap());
    ServiceLevel {
        from: "everyone".to_owned(),
        path: "/".to_owned(),
        objective: Objective::Compare(Comparison { canary, baseline, errors, slower_than: slower_than.collect() }),
        errors: ErrorRates::default(),
        origin: Origin::new("scenario.yaml", 27, 9),
    }
}

fn design(claim: &ServiceLevel, weight: f64) -> Result<ServiceLevelDesign, DesignError> {
    match &claim.objective {
        Objective::Compare(comparison) => ServiceLevelDesign::of_comparison(claim, comparison, weight),
        Objective::Limit(limits) => ServiceLevelDesign::of_limits(claim, limits),
    }
}

/// A service with two versions: the share of errors and of slow answers of each.
struct Service {
    weight: f64,
    errors: [f64; 2],
    slow: [f64; 2],
}

impl Service {
    /// The answer to a request that was sent at a time.
    fn answer(&self, sent: Duration, random: &mut Rng) -> (Answer, AnswerTimes) {
        let index = usize::from(random.f64() >= self.weight);
        let status = if random.f64() < self.errors[index] { 500 } else { 200 };
        let slow = if random.f64() < self.slow[index] { 40.0 } else { 0.0 };
        let answered = sent + Duration::from_secs_f64((1.0 + random.f64() + slow) / 1e3);
        let version = if index == 0 { "v2" } else { "v1" };
        (Answer::Version { version: version.to_owned(), status }, AnswerTimes { due: sent, sent, answered })
    }

    fn judge(&self, claim: &ServiceLevel, seed: u64) -> ServiceLevelTrial {
        let mut trial = ServiceLevelTrial::new(design(claim, self.weight).unwrap());
        let mut random = Rng::with_seed(seed);
        for n in 0..trial.design().allowed() {
            let (answer, times) = self.answer(Duration::from_millis(n), &mut random);
            if trial.observe(&answer, times).is_some() {
                break;
            }
        }
        trial
    }
}

const ALIKE: Service = Service { weight: 0.5, errors: [0.01, 0.01], slow: [0.06, 0.06] };

#[test]
fn alike_versions_pass_and_the_reason_says_how_alike() {
    let trial = ALIKE.judge(&claim(Some("2x"), &[("95%", "2x")]), 1);
    insta::assert_snapshot!(trial.verdict().reason);
    assert_eq!(trial.verdict().ruling, Ruling::Pass);
}

#[test]
fn a_version_with_twice_the_slow_answers_fails() {
    let service = Service { slow: [0.12, 0.06], ..ALIKE };
    let verdict = service.judge(&claim(Some("2x"), &[("95%", "2x")]), 2).verdict();
    insta::assert_snapshot!(verdict.reason);
    assert_eq!(verdict.ruling, Ruling::Fail);
    assert!(verdict.chance.is_some_and(|chance| chance <= 1e-6), "{:?}", verdict.chance);
}

#[test]
fn a_version_with_twice_the_errors_fails_whatever_its_latency() {
    let service = Service { errors: [0.02, 0.01], ..ALIKE };
    let verdict = service.judge(&claim(Some("2x"), &[("95%", "2x")]), 3).verdict();
    insta::assert_snapshot!(verdict.reason);
    assert_eq!(verdict.ruling, Ruling::Fail);
}

#[rstest]
#[case::worse(Service { slow: [0.12, 0.06], errors: [0.01, 0.01], weight: 0.5 }, Ruling::Fail)]
#[case::alike(ALIKE, Ruling::Pass)]
fn a_path_ends_at_the_line_that_decided_and_both_versions_are_told(#[case] service: Service, #[case] ruling: Ruling) {
    let verdict = service.judge(&claim(None, &[("95%", "2x")]), 2).verdict();
    assert_eq!(verdict.ruling, ruling, "{}", verdict.reason);
    let [path] = &verdict.paths[..] else { panic!("one part") };
    let decides = |(events, hits): (u64, u64)| match hits as f64 {
        hits if hits >= path.boundaries.fails_above.after(events) => Some(Ruling::Fail),
        hits if hits <= path.boundaries.passes_below.after(events) => Some(Ruling::Pass),
        _ => None,
    };
    let (last, before) = path.points.split_last().unwrap();
    assert_eq!(decides(*last), Some(ruling));
    assert!(before.iter().all(|point| decides(*point).is_none()));
    assert!(path.points[0].0 == 1 && path.points.len() <= 200, "{:?}", path.points);
    // the bad answers of both versions are the events of the test
    let part = path.compared.as_ref().unwrap();
    let [canary, baseline] = &part.versions;
    assert_eq!((canary.bad, canary.bad + baseline.bad), (last.1, last.0));
    let answered = (canary.answers + baseline.answers) as f64 / verdict.requests as f64;
    assert!((0.5..1.0).contains(&answered), "{answered}");
    for (own, slow) in part.versions.iter().zip(service.slow) {
        let (low, high) = own.interval;
        let share = own.bad as f64 / own.answers as f64;
        assert!(low < share && share < high && share < slow && high - low < 0.1, "{own:?}");
        let level = own.slower.iter().find(|point| point.latency > Duration::from_millis(10)).unwrap();
        assert!(level.interval.0 < slow && slow < level.interval.1, "{level:?}");
        let quantile = own.quantile.unwrap();
        assert!(quantile.interval.0 <= quantile.latency && quantile.latency <= quantile.interval.1);
    }
    let threshold = part.threshold.unwrap();
    assert!(threshold > Duration::from_millis(41) && threshold < Duration::from_millis(43), "{threshold:?}");
}

#[test]
fn a_path_that_another_part_ended_has_the_last_event() {
    let service = Service { errors: [0.05, 0.01], slow: [0.07, 0.07], ..ALIKE };
    let trial = service.judge(&claim(Some("2x"), &[("90%", "1.2x")]), 3);
    let verdict = trial.verdict();
    assert_eq!(verdict.ruling, Ruling::Fail);
    for (path, state) in verdict.paths.iter().zip(&trial.parts) {
        assert_eq!(path.points.last(), Some(&(state.test.events, state.test.hits)));
    }
    assert!(verdict.paths[0].compared.as_ref().unwrap().versions.iter().all(|own| own.slower.is_empty()));
}

#[test]
fn a_limit_compares_no_versions() {
    let verdict = ALIKE.judge(&limits(Some("2%"), &[("90%", 20)]), 6).verdict();
    assert!(verdict.paths.iter().all(|path| path.compared.is_none() && path.points.len() > 1));
}

#[test]
fn bad_events_that_never_come_leave_a_claim_undecided_with_what_is_missing() {
    let claim =
        ServiceLevel { errors: ErrorRates { max_requests: 3000, ..ErrorRates::default() }, ..claim(Some("2x"), &[]) };
    let none = Service { errors: [0.0, 0.0], ..ALIKE }.judge(&claim, 4).verdict();
    let few = Service { errors: [0.01, 0.01], ..ALIKE }.judge(&claim, 5).verdict();
    assert_eq!((none.ruling, few.ruling), (Ruling::Inconclusive, Ruling::Inconclusive));
    insta::assert_snapshot!(format!("{}\n{}", none.reason, few.reason));
}

#[test]
fn errors_without_a_version_are_told_and_not_attributed() {
    let mut trial = ServiceLevelTrial::new(design(&claim(Some("2x"), &[]), 0.5).unwrap());
    let times = AnswerTimes { due: Duration::ZERO, sent: Duration::ZERO, answered: Duration::from_millis(3) };
    for _ in 0..300 {
        trial.observe(&Answer::Unknown { status: 503, excerpt: "no healthy upstream".to_owned() }, times);
        trial.observe(&Answer::Nothing { reason: "no answer in time".to_owned() }, times);
        trial.observe(&Answer::Unknown { status: 404, excerpt: String::new() }, times);
        trial.observe(&Answer::Version { version: "v3".to_owned(), status: 500 }, times);
    }
    let verdict = trial.verdict();
    assert_eq!(verdict.ruling, Ruling::Inconclusive);
    assert_eq!(
        verdict.reason,
        "0 of 0 errors came from v2, too few for a verdict: about 115 more are needed; 1200 requests; 600 errors without a version are not attributed"
    );
}

#[test]
fn errors_without_a_version_hold_back_a_pass_that_they_could_turn() {
    // v2 fails with answers of a proxy alone: nobody knows that they are v2's
    let judged = |unattributed: u64| {
        let mut trial = ServiceLevelTrial::new(design(&claim(Some("2x"), &[]), 0.5).unwrap());
        let times = AnswerTimes { due: Duration::ZERO, sent: Duration::ZERO, answered: Duration::from_millis(3) };
        for n in 0..1000 {
            let version = if n % 2 == 0 { "v1" } else { "v2" };
            trial.observe(&Answer::Version { version: version.to_owned(), status: 500 }, times);
            if n < unattributed {
                trial.observe(&Answer::Unknown { status: 503, excerpt: String::new() }, times);
            }
        }
        trial.verdict()
    };
    let (none, few, many) = (judged(0), judged(10), judged(1000));
    assert_eq!((none.ruling, few.ruling), (Ruling::Pass, Ruling::Pass), "{} {}", none.reason, few.reason);
    assert!(few.requests > none.requests + 40, "{} {}", few.requests, none.requests);
    assert_eq!(many.ruling, Ruling::Inconclusive);
    insta::assert_snapshot!(many.reason);
}

#[test]
fn a_comparison_that_takes_too_many_requests_is_refused() {
    let refused = |claim: &ServiceLevel| design(claim, 0.5).unwrap_err().to_string();
    assert_eq!(
        refused(&claim(None, &[("99.9%", "2x")])),
        "answers slower than 99.9 % below 2x takes about 243696 requests; 100000 are allowed by `max-requests`"
    );
    assert!(refused(&claim(Some("1.01x"), &[])).contains("errors below 1.01x takes about"));
}

#[test]
fn latency_that_depends_on_earlier_latency_raises_no_false_alarm() {
    // bursts in which both versions are slow and failing: a test at an α of 1 % fails a right claim in at most 1 %
    let claim = ServiceLevel {
        errors: ErrorRates { false_alarm: probability(1e-2), miss: probability(1e-2), ..ErrorRates::default() },
        ..claim(Some("2x"), &[("95%", "2x")])
    };
    let failed = (0..200).filter(|seed| {
        let mut trial = ServiceLevelTrial::new(design(&claim, 0.2).unwrap());
        let (mut random, mut bursts) = (Rng::with_seed(*seed), Rng::with_seed(seed + 1000));
        let (mut until, mut burst) = (0, false);
        let ruling = (0..20_000_u64).find_map(|n| {
            if n == until {
                (until, burst) = (n + bursts.u64(50..400), bursts.f64() < 0.3);
            }
            let bad = if burst { 0.5 } else { 0.01 };
            let service = Service { weight: 0.2, errors: [bad, bad], slow: [bad, bad] };
            let (answer, times) = service.answer(Duration::from_millis(n), &mut random);
            trial.observe(&answer, times)
        });
        ruling == Some(Ruling::Fail)
    });
    // more than 8 of 200 have a chance below 1e-3 at 1 %
    let failed = failed.count();
    assert!(failed <= 8, "{failed} of 200");
}

/// A claim of limits at an α and a β of 10⁻³.
fn limits(errors: Option<&str>, latency: &[(&str, u64)]) -> ServiceLevel {
    let latency = latency.iter().map(|(share, limit)| (share.parse().unwrap(), Duration::from_millis(*limit)));
    let errors = errors.map(|share| share.parse().unwrap());
    ServiceLevel {
        objective: Objective::Limit(Limits { errors, latency: latency.collect(), excess: None }),
        errors: ErrorRates { false_alarm: probability(1e-3), ..ErrorRates::default() },
        ..claim(None, &[])
    }
}

#[test]
fn a_limit_of_errors_takes_so_many_requests() {
    let design = design(&limits(Some("1%"), &[]), 0.5).unwrap();
    let [test] = &design.tests[..] else { panic!("one part") };
    let (mean, other) = (test.design.mean(), test.design.mean_at_other());
    assert!(mean.round() <= 2212.0 && other.round() <= 1824.0, "{mean:.1} {other:.1}");
    // without any bad one
    assert!(test.design.least()[0] <= 681, "{:?}", test.design.least());
}

#[test]
fn limits_hold_or_fail_and_the_reason_has_the_shares() {
    let claim = limits(Some("2%"), &[("90%", 20)]);
    let right = ALIKE.judge(&claim, 6).verdict();
    assert_eq!(right.ruling, Ruling::Pass, "{}", right.reason);
    let failing = Service { errors: [0.04, 0.04], ..ALIKE }.judge(&claim, 7).verdict();
    assert_eq!(failing.ruling, Ruling::Fail, "{}", failing.reason);
    let slow = Service { slow: [0.2, 0.2], ..ALIKE }.judge(&claim, 8).verdict();
    assert_eq!(slow.ruling, Ruling::Fail, "{}", slow.reason);
    insta::assert_snapshot!(format!("{}\n{}\n{}", right.reason, failing.reason, slow.reason));
}

#[test]
fn latency_counts_from_the_time_at_which_a_request_was_due_and_no_answer_is_bad() {
    let judged = |answer: &Answer, due: u64| {
        let mut trial = ServiceLevelTrial::new(design(&limits(None, &[("99%", 20)]), 0.5).unwrap());
        let millis = Duration::from_millis;
        (0..2000).find_map(|n| {
            let sent = millis(1000 + n);
            trial.observe(
                answer,
                AnswerTimes { due: sent.saturating_sub(millis(due)), sent, answered: sent + millis(5) },
            )
        })
    };
    let answer = Answer::Version { version: "v1".to_owned(), status: 500 };
    assert_eq!(judged(&answer, 0), Some(Ruling::Pass));
    assert_eq!(judged(&answer, 16), Some(Ruling::Fail));
    assert_eq!(judged(&Answer::Nothing { reason: "no answer in time".to_owned() }, 0), Some(Ruling::Fail));
}

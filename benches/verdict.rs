//! Do the sequential verdicts keep their errors, does a calibration keep its own, and how fast are they? Prints the exact errors and means of
//! each design, by recursion over all paths, beside those of at least 100,000 simulated tests at each corner; simulates calibrations; times designs and
//! the update. Exits with 1 where a bound or a bar is not kept: `ci/bench/verdict`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::exit,
    reason = "a benchmark prints and ends"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use fastrand::Rng;
use shiftcheck::scenario::{
    Claim, Comparison, ErrorProbability, ErrorRates, Objective, Origin, ServiceLevel, Share, Statuses,
};
use shiftcheck::verdict::{
    Answer, AnswerTimes, CALIBRATION_ALARM, Design, Independence, OneSidedDesign, OneSidedTest, Ruling,
    ServiceLevelDesign, ServiceLevelTrial, ShareDesign, ShareTest, Trial, two_sided_chance,
};

/// A test's design, with the mean requests that it may take where the share is right and where it is off by δ.
struct Case {
    share: f64,
    deviation: f64,
    alpha: f64,
    beta: f64,
    /// The bars; 0 where there is none.
    right: f64,
    off: f64,
}

const fn case(share: f64, deviation: f64, alpha: f64, beta: f64, right: f64, off: f64) -> Case {
    Case { share, deviation, alpha, beta, right, off }
}

const CASES: [Case; 12] = [
    case(0.5, 0.10, 1e-6, 1e-3, 490.0, 758.5),
    case(1.0 / 3.0, 0.10, 1e-6, 1e-3, 418.0, 0.0),
    case(0.1, 0.05, 1e-6, 1e-3, 710.0, 0.0),
    case(0.05, 0.05, 1e-6, 1e-3, 430.0, 0.0),
    case(0.01, 0.01, 1e-6, 1e-3, 2305.5, 0.0),
    case(0.05, 0.02, 1e-6, 1e-3, 2600.0, 0.0),
    case(0.5, 0.10, 1e-3, 1e-3, 528.0, 416.0),
    case(0.5, 0.10, 0.05, 0.1, 160.0, 0.0),
    case(0.5, 0.15, 1e-2, 1e-2, 0.0, 0.0),
    case(0.9, 0.05, 1e-2, 1e-2, 0.0, 0.0),
    case(0.2, 0.10, 1e-2, 1e-3, 0.0, 0.0),
    case(0.1, 0.10, 1e-3, 1e-2, 0.0, 0.0),
];

/// A simulation that keeps its bound exceeds it by chance with at most this.
const BY_CHANCE: f64 = 1e-4;

#[expect(clippy::too_many_lines, reason = "a table of corners and a line for each")]
fn main() {
    // `cargo bench` passes arguments of its own
    let tests: u64 = std::env::var("TESTS").ok().map_or(100_000, |tests| tests.parse().expect("TESTS is a number"));
    let mut missed = 0;
    let mut check = |what: &str, met: bool| {
        if !met {
            println!("  missed: {what}");
            missed += 1;
        }
    };
    println!(
        "exact errors and means by recursion, and {tests} simulated tests at each corner; an error is to stay below its bound"
    );
    println!(
        "{:>6} {:>6} {:>7} {:>7}  {:>6} {:>9} {:>9} {:>7} {:>8} {:>8} {:>7} {:>6}",
        "share", "delta", "alpha", "beta", "truth", "exact", "simulated", "bound", "mean n", "simul.", "bar", "cap"
    );
    for (case, seed) in CASES.iter().zip(1..) {
        let Case { share, deviation, alpha, beta, right, off } = *case;
        let design = designed(share, deviation, alpha, beta).expect("a case that can be decided");
        for truth in [share, share - deviation, share + deviation] {
            let truth = truth.clamp(0.0, 1.0);
            let is_right = (truth - share).abs() < 1e-12;
            let exact = design.characteristics(truth);
            let (passed, mean) = simulate(&design, truth, tests, seed);
            let (error, errors, bound, bar) =
                if is_right { (exact.fails, tests - passed, alpha, right) } else { (exact.passes, passed, beta, off) };
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let rate = errors as f64 / tests as f64;
            let shown = if bar > 0.0 { format!("{bar:.1}") } else { String::new() };
            println!(
                "{share:>6.3} {deviation:>6} {alpha:>7.0e} {beta:>7.0e}  {truth:>6.3} {error:>9.2e} {rate:>9.2e} {bound:>7.0e} {:>8.1} {mean:>8.1} {shown:>7} {:>6}",
                exact.mean,
                design.cap()
            );
            check("the bound on the exact error", error <= bound);
            // the exact chance of so many errors at the exact error
            check("as many errors as computed", two_sided_chance(tests, errors, error) > BY_CHANCE);
            check("a mean as computed within 2 %", (mean / exact.mean - 1.0).abs() < 0.02);
            check(&format!("a mean of at most {bar}"), bar <= 0.0 || exact.mean <= bar);
        }
    }
    let defaults = designed(0.5, 0.10, 1e-6, 1e-3).expect("the defaults can be decided");
    let (_, gross) = simulate(&defaults, 1.0, 1, 1);
    println!(
        "all traffic to one version instead of halves: decided after {gross} requests; at most {}",
        defaults.cap()
    );
    check("30 requests for a missing split", gross < 30.5);
    check("a cap of 1711", defaults.cap() == 1711);

    let took = design_time();
    println!("design of a claim at the defaults, in this profile: {:.1} ms", took.as_secs_f64() * 1e3);
    check("a design in less than 20 ms", took < Duration::from_millis(20));

    let calibrations: u64 =
        std::env::var("CALIBRATIONS").ok().map_or(4000, |number| number.parse().expect("CALIBRATIONS is a number"));
    println!("{calibrations} simulated calibrations of independent requests at each share, 40 samples of 400 requests");
    println!(
        "{:>6}  {:>8} {:>9}   below 1 %: {:>6} {:>7} {:>7} {:>7} {:>12}",
        "share", "denied", "stated", "mean", "spread", "blocks", "order", "connections"
    );
    for (share, seed) in [0.5, 0.1, 0.03, 0.01].into_iter().zip(1..) {
        let (denied, below) = calibrate(share, calibrations, seed);
        let [mean, spread, blocks, order, connections] = below;
        println!(
            "{share:>6}  {denied:>8} {CALIBRATION_ALARM:>9.0e}              {mean:>6} {spread:>7} {blocks:>7} {order:>7} {connections:>12}"
        );
        let kept = |count: u64, chance: f64| {
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let few = count as f64 <= chance * calibrations as f64;
            few || two_sided_chance(calibrations, count, chance) / 2.0 > BY_CHANCE
        };
        check("the stated false alarm of a calibration", kept(denied, CALIBRATION_ALARM));
        // saddlepoints are right to some per cent
        check("the chance of each test", below.iter().all(|below| kept(*below, 0.0115)));
    }
    power(&mut check);

    comparisons(&mut check, tests);

    for (what, rate) in [("verdict", updates_a_second()), ("comparison", compared_a_second())] {
        println!("{what} update: {:.1} million answers a second on one core", rate / 1e6);
        check(&format!("10 million answers of a {what} a second"), rate >= 1e7);
    }
    if missed > 0 {
        std::process::exit(1);
    }
    println!("all bounds are kept");
}

fn probability(value: f64) -> ErrorProbability {
    ErrorProbability::new(value).expect("an error probability")
}

fn designed(share: f64, deviation: f64, alpha: f64, beta: f64) -> Option<ShareDesign> {
    let (false_alarm, miss) = (probability(alpha), probability(beta));
    let errors = ErrorRates { false_alarm, miss, deviation, ..ErrorRates::default() };
    ShareDesign::new(Share::from_fraction(share).expect("a share"), errors)
}

/// How long the design of a share takes that no other has: the median of 21.
fn design_time() -> Duration {
    let mut times: Vec<Duration> = (0..21)
        .map(|n| {
            let start = Instant::now();
            black_box(designed(0.5 + f64::from(n) * 1e-9, 0.10, 1e-6, 1e-3));
            start.elapsed()
        })
        .collect();
    times.sort();
    times[10]
}

/// The samples of a calibration, each answer by its sample, the answers before and a random number.
fn samples(share: f64, random: &mut Rng, mut answer: impl FnMut(usize, &[bool], &mut Rng) -> bool) -> Independence {
    const CONNECTIONS: usize = 8;
    let share = Share::from_fraction(share).expect("a share");
    let mut independence = Independence::new(share, ErrorRates::default().false_alarm);
    let mut answers = Vec::with_capacity(400);
    for sample in 0..40 {
        let mut connections = [(0, 0); CONNECTIONS];
        answers.clear();
        for n in 0..400 {
            let hit = answer(sample, &answers, random);
            answers.push(hit);
            let (requests, hits) = &mut connections[n % CONNECTIONS];
            *requests += 1;
            *hits += u64::from(hit);
        }
        independence.add(&answers, &connections, false);
    }
    independence
}

/// How many calibrations of independent requests deny it, and for how many each test gives a chance below 1 %.
fn calibrate(share: f64, calibrations: u64, seed: u64) -> (u64, [u64; 5]) {
    let mut random = Rng::with_seed(seed);
    let (mut denied, mut below) = (0, [0; 5]);
    for _ in 0..calibrations {
        let findings = samples(share, &mut random, |_, _, random| random.f64() < share).findings();
        denied += u64::from(!findings.independent());
        let tests = [findings.mean, findings.spread, findings.blocks, findings.order, findings.connections];
        let chances = tests.map(|test| test.chance);
        for (below, chance) in below.iter_mut().zip(chances) {
            *below += u64::from(chance < 0.01);
        }
    }
    (denied, below)
}

/// What calibrations find of requests that are not independent.
fn power(check: &mut impl FnMut(&str, bool)) {
    const TIMES: u64 = 1000;
    let normal = |random: &mut Rng| (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    let found = |calibration: &mut dyn FnMut(&mut Rng) -> Independence| {
        let mut random = Rng::with_seed(7);
        (0..TIMES).filter(|_| !calibration(&mut random).findings().independent()).count()
    };
    println!("found in {TIMES} calibrations without verdicts, which would be refused as well:");
    for (points, least) in [(2.0, 30), (3.0, 500), (4.0, 930)] {
        let found = found(&mut |random| {
            let (mut at, mut now) = (usize::MAX, 0.5);
            samples(0.5, random, |sample, _, random| {
                if sample != at {
                    (at, now) = (sample, 0.5 + points / 100.0 * normal(random));
                }
                random.f64() < now
            })
        });
        println!("  a share that moves between samples with a standard deviation of {points} points: {found}");
        check(&format!("{least} of a movement by {points} points"), found >= least);
    }
    let sticky = found(&mut |random| {
        samples(0.5, random, |_, before, random| {
            let repeated = before.len().checked_sub(8).filter(|_| random.f64() < 0.4);
            repeated.map_or_else(|| random.bool(), |n| before[n])
        })
    });
    println!("  answers that repeat the one eight before with a chance of 40 %: {sticky}");
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let swing = found(&mut |random| {
        samples(0.5, random, |_, before, random| {
            random.f64() < 0.5 + 0.1 * (before.len() as f64 / 400.0 * std::f64::consts::TAU).sin()
        })
    });
    println!("  a share that swings within a sample by 10 points to either side: {swing}");
    check("all of the sticky and of the swinging", sticky == 1000 && swing == 1000);
}

/// How many tests pass at a true share, and their mean number of requests.
fn simulate(design: &ShareDesign, truth: f64, tests: u64, seed: u64) -> (u64, f64) {
    let mut random = Rng::with_seed(seed);
    let (mut passed, mut requests) = (0, 0);
    for _ in 0..tests {
        let mut test = ShareTest::default();
        let ruling = loop {
            if let Some(ruling) = test.observe(design, random.f64() < truth) {
                break ruling;
            }
        };
        passed += u64::from(ruling == Ruling::Pass);
        requests += test.requests();
    }
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    (passed, requests as f64 / tests as f64)
}

/// Comparisons of two versions: the canary's weight, the factor, the type I error, and the bars of the mean numbers of bad events if the
/// versions are alike and if the canary is worse by the factor.
const COMPARISONS: [(f64, f64, f64, f64, f64); 6] = [
    (0.5, 2.0, 1e-6, 120.5, 246.5),
    (0.5, 2.0, 1e-3, 120.5, 124.5),
    (0.1, 2.0, 1e-6, 268.5, 456.5),
    (0.1, 2.0, 1e-3, 267.5, 232.5),
    (0.1, 3.0, 1e-6, 97.5, 153.5),
    (0.05, 1.5, 1e-2, 0.0, 0.0),
];

/// The exact errors and means of comparisons, beside those of simulated ones.
fn comparisons(check: &mut impl FnMut(&str, bool), tests: u64) {
    println!("comparisons of versions, in bad events; an error is to stay below its bound");
    println!(
        "{:>6} {:>6} {:>7}  {:>6} {:>9} {:>9} {:>7} {:>8} {:>8} {:>7}",
        "weight", "factor", "alpha", "truth", "exact", "simulated", "bound", "mean n", "simul.", "bar"
    );
    for ((weight, factor, alpha, alike, worse), seed) in COMPARISONS.into_iter().zip(1..) {
        let other = weight * factor / (1.0 - weight + weight * factor);
        let design = OneSidedDesign::new(
            [weight, other],
            ErrorRates { false_alarm: probability(alpha), ..ErrorRates::default() },
        );
        for (truth, bound, bar) in [(weight, alpha, alike), (other, 1e-3, worse)] {
            let is_alike = truth < other;
            let exact = design.characteristics(truth);
            let error = if is_alike { exact.fails } else { exact.passes };
            let mut random = Rng::with_seed(seed);
            let (mut errors, mut events) = (0, 0);
            for _ in 0..tests {
                let mut test = OneSidedTest::default();
                while test.observe(&design, random.f64() < truth).is_none() {}
                errors += u64::from((test.ruling == Some(Ruling::Fail)) == is_alike);
                events += test.events;
            }
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let (rate, mean) = (errors as f64 / tests as f64, events as f64 / tests as f64);
            println!(
                "{weight:>6} {factor:>6} {alpha:>7.0e}  {truth:>6.3} {error:>9.2e} {rate:>9.2e} {bound:>7.0e} {:>8.1} {mean:>8.1} {bar:>7.1}",
                exact.mean
            );
            check("the bound on the exact error of a comparison", error <= bound);
            check("as many errors as computed", two_sided_chance(tests, errors, error) > BY_CHANCE);
            check("a mean as computed within 2 %", (mean / exact.mean - 1.0).abs() < 0.02);
            check(&format!("a mean of at most {bar}"), bar <= 0.0 || exact.mean <= bar);
        }
    }
}

/// The speed of a comparison of errors and of slow answers: the median of five.
fn compared_a_second() -> f64 {
    const ANSWERS: u32 = 10_000_000;
    let factor = |text: &str| text.parse().expect("a factor");
    let share = |text: &str| text.parse().expect("a share");
    let (canary, baseline) = ("v2".to_owned(), "v1".to_owned());
    let slower_than = vec![(share("95%"), factor("1.01x"))];
    let comparison = Comparison { canary, baseline, errors: Some(factor("1.01x")), slower_than };
    let claim = ServiceLevel {
        from: "everyone".to_owned(),
        path: "/".to_owned(),
        objective: Objective::Compare(comparison.clone()),
        // a factor so small that the test is never over
        errors: ErrorRates { max_requests: u64::MAX / 4, miss: probability(1e-12), ..ErrorRates::default() },
        origin: Origin::new("scenario.yaml", 1, 1),
    };
    let design = ServiceLevelDesign::of_comparison(&claim, &comparison, 0.5).expect("a claim that can be decided");
    let answer = |version: &str, status| Answer::Version { version: version.to_owned(), status };
    let kinds = [answer("v1", 200), answer("v2", 200), answer("v1", 500), answer("v2", 500)];
    let mut times: Vec<Duration> = (0..5)
        .map(|seed| {
            let mut trial = ServiceLevelTrial::new(design.clone());
            let mut random = Rng::with_seed(seed);
            // drawn beforehand: the answers are not what is timed; the other version answers the same in turn, so that no version is worse
            let drawn = std::iter::repeat_with(|| {
                let kind = usize::from(random.bool()) + if random.f64() < 0.01 { 2 } else { 0 };
                (kind, random.u64(900..9000))
            });
            let answers: Vec<(usize, u64)> =
                drawn.take(2048).flat_map(|(kind, took)| [(kind, took), (kind ^ 1, took)]).collect();
            let start = Instant::now();
            for n in 0..u64::from(ANSWERS) {
                let (kind, took) = answers[(n & 4095) as usize];
                let sent = Duration::from_micros(250 * n);
                let times = AnswerTimes { due: sent, sent, answered: sent + Duration::from_micros(took) };
                black_box(trial.observe(&kinds[kind], times));
            }
            assert_eq!(trial.ruling(), None, "the test was over");
            start.elapsed()
        })
        .collect();
    times.sort();
    f64::from(ANSWERS) / times[2].as_secs_f64()
}

/// The speed of a whole trial as the walk uses it, from an answer to the ruling: the median of five.
fn updates_a_second() -> f64 {
    const ANSWERS: u32 = 20_000_000;
    let share = |share: f64| Share::from_fraction(share).expect("a share");
    let claim = Claim {
        slower_than: None,
        from: "testers".to_owned(),
        path: "/".to_owned(),
        versions: [("v1".to_owned(), share(0.5)), ("v2".to_owned(), share(0.5))].into(),
        statuses: Statuses::Implied(200),
        // a deviation so small that the test is never over
        errors: ErrorRates {
            deviation: 0.0005,
            max_requests: u64::MAX / 4,
            miss: probability(1e-6),
            ..ErrorRates::default()
        },
        origin: Origin::new("scenario.yaml", 1, 1),
    };
    let design = Design::new(&claim).expect("a claim that can be decided");
    assert!(design.allowed > u64::from(ANSWERS), "the test would be over after {}", design.allowed);
    let answer = |version: &str| Answer::Version { version: version.to_owned(), status: 200 };
    let mut times: Vec<Duration> = (0..5)
        .map(|seed| {
            let mut trial = Trial::new(design.clone());
            let two = [answer("v1"), answer("v2")];
            let mut random = Rng::with_seed(seed);
            // drawn beforehand: the answers are not what is timed
            let answers: Vec<usize> = (0..4096).map(|_| usize::from(random.bool())).collect();
            let start = Instant::now();
            for n in 0..ANSWERS as usize {
                let kind = trial.kind(&two[answers[n & 4095]]);
                black_box(trial.observe(kind));
            }
            start.elapsed()
        })
        .collect();
    times.sort();
    f64::from(ANSWERS) / times[2].as_secs_f64()
}

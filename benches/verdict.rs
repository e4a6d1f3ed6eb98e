//! Do the sequential verdicts keep their errors, and how fast are they? Simulates at least 100,000 tests at each corner and times the
//! update. Exits with 1 where a bound is not kept: `ci/bench/verdict`.

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
use shiftcheck::scenario::{Claim, Errors, Place, Rate, Share, Statuses};
use shiftcheck::verdict::{Answer, Design, Ruling, ShareDesign, ShareTest, Trial, two_sided_chance};

/// A test's design, with the means that the exact tables give where the share is right and where it is off by δ.
struct Case {
    share: f64,
    deviation: f64,
    alpha: f64,
    beta: f64,
    tables: Option<(f64, f64)>,
}

const CASES: [Case; 6] = [
    Case { share: 0.5, deviation: 0.10, alpha: 1e-6, beta: 1e-3, tables: Some((530.0, 758.0)) },
    Case { share: 0.5, deviation: 0.10, alpha: 1e-3, beta: 1e-3, tables: Some((528.0, 415.0)) },
    Case { share: 0.5, deviation: 0.15, alpha: 1e-2, beta: 1e-2, tables: None },
    Case { share: 0.9, deviation: 0.05, alpha: 1e-2, beta: 1e-2, tables: None },
    Case { share: 0.2, deviation: 0.10, alpha: 1e-2, beta: 1e-3, tables: None },
    Case { share: 0.1, deviation: 0.10, alpha: 1e-3, beta: 1e-2, tables: None },
];

/// A simulation that keeps its bound exceeds it by chance with at most this.
const BY_CHANCE: f64 = 1e-4;

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
    println!("{tests} sequential tests at each corner; an error is to stay below its bound");
    println!(
        "{:>6} {:>6} {:>7} {:>7}  {:>7} {:>12} {:>10} {:>9} {:>6}",
        "share", "delta", "alpha", "beta", "truth", "error", "bound", "mean n", "cap"
    );
    for (case, seed) in CASES.iter().zip(1..) {
        let Case { share, deviation, alpha, beta, tables } = *case;
        let design = ShareDesign::new(share, deviation, alpha, beta, 100_000).expect("a case that can be decided");
        for truth in [share, share - deviation, share + deviation] {
            let (passed, mean) = simulate(&design, truth, tests, seed);
            let right = (truth - share).abs() < 1e-12;
            let (errors, bound) = if right { (tests - passed, alpha) } else { (passed, beta) };
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let rate = errors as f64 / tests as f64;
            println!(
                "{share:>6} {deviation:>6} {alpha:>7.0e} {beta:>7.0e}  {truth:>7.2} {rate:>12.2e} {bound:>10.0e} {mean:>9.1} {:>6}",
                design.cap()
            );
            // the exact chance of so many errors at the bound itself
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let within =
                errors as f64 <= bound * tests as f64 || two_sided_chance(tests, errors, bound) / 2.0 > BY_CHANCE;
            check("the bound on the error", within);
            if let Some((at_claim, off)) = tables {
                let expected = if right { at_claim } else { off };
                check(&format!("a mean of {expected} within 2 %"), (mean / expected - 1.0).abs() < 0.02);
            }
        }
    }
    let defaults = ShareDesign::new(0.5, 0.10, 1e-6, 1e-3, 100_000).expect("the defaults can be decided");
    let (_, gross) = simulate(&defaults, 1.0, 1, 1);
    println!(
        "all traffic to one version instead of halves: decided after {gross} requests; at most {}",
        defaults.cap()
    );
    check("84 requests for a missing split", (gross - 84.0).abs() < 0.5);
    check("a cap of 1711", defaults.cap() == 1711);

    let rate = updates_a_second();
    println!("verdict update: {:.1} million answers a second on one core", rate / 1e6);
    check("10 million answers a second", rate >= 1e7);
    if missed > 0 {
        std::process::exit(1);
    }
    println!("all bounds are kept");
}

/// How many tests pass at a true share, and their mean number of requests.
fn simulate(design: &ShareDesign, truth: f64, tests: u64, seed: u64) -> (u64, f64) {
    let mut random = Rng::with_seed(seed);
    let (mut passed, mut requests) = (0, 0);
    for _ in 0..tests {
        let mut test = ShareTest::new();
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

/// The speed of a whole trial as the walk uses it, from an answer to the ruling: the median of five.
fn updates_a_second() -> f64 {
    const ANSWERS: u32 = 20_000_000;
    let share = |share: f64| Share::from_fraction(share).expect("a share");
    let claim = Claim {
        from: "testers".to_owned(),
        path: "/".to_owned(),
        versions: [("v1".to_owned(), share(0.5)), ("v2".to_owned(), share(0.5))].into(),
        statuses: Statuses::Implied,
        // a deviation so small that the test is never over
        errors: Errors {
            deviation: 0.0005,
            max_requests: u64::MAX / 4,
            miss: Rate::new(1e-6).expect("a rate"),
            ..Errors::default()
        },
        place: Place::new("scenario.yaml", 1, 1),
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

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::scenario::ErrorProbability;

fn errors(alpha: f64, beta: f64, deviation: f64) -> ErrorRates {
    let probability = |value| ErrorProbability::new(value).unwrap();
    ErrorRates { false_alarm: probability(alpha), miss: probability(beta), deviation, ..ErrorRates::default() }
}

fn design(alpha: f64, beta: f64) -> DeclaredDesign {
    DeclaredDesign::new(errors(alpha, beta, 0.1), 1)
}

/// The shares of a rollout, which change after every so many requests.
fn declared(shares: &'static [f64], every: usize) -> impl Fn(usize) -> f64 {
    move |request| shares[request / every % shares.len()]
}

/// The rulings on the rounds of so many requests whose true share is some function of the declared one.
fn rulings(
    design: DeclaredDesign,
    requests: usize,
    declared: impl Fn(usize) -> f64,
    truth: impl Fn(f64) -> f64,
    random: &mut fastrand::Rng,
) -> Vec<Ruling> {
    let mut test = design.test();
    let ruled = (0..requests).filter_map(|request| {
        let share = declared(request);
        test.observe(share, random.f64() < truth(share))
    });
    ruled.collect()
}

/// Within the bound, or not more above it than chance explains: 4 standard deviations.
fn assert_within(count: u32, runs: u32, bound: f64, what: &str) {
    let (count, runs) = (f64::from(count), f64::from(runs));
    let most = runs * bound + 4.0 * (runs * bound * (1.0 - bound)).sqrt();
    assert!(count <= most, "{what}: {count} of {runs}, where at most {most:.1} are explained by {bound}");
}

fn simulated(runs: u32, mut run: impl FnMut(&mut fastrand::Rng) -> bool) -> u32 {
    let mut random = fastrand::Rng::with_seed(19);
    (0..runs).map(|_| u32::from(run(&mut random))).sum()
}

#[rstest]
#[case::constant(&[0.5], 1)]
#[case::each_request_another(&[0.1, 0.5, 0.9, 0.3], 1)]
#[case::in_steps(&[0.0, 0.1, 0.5, 1.0], 100)]
#[case::near_the_edge(&[0.02, 0.05], 40)]
fn a_right_route_fails_with_at_most_alpha_however_shares_move(#[case] shares: &'static [f64], #[case] every: usize) {
    let design = design(0.05, 0.05);
    let failed = simulated(1500, |random| {
        rulings(design, 800, declared(shares, every), |share| share, random).contains(&Ruling::Fail)
    });
    assert_within(failed, 1500, 0.05, "false alarms");
}

#[rstest]
#[case::more(0.1)]
#[case::fewer(-0.1)]
#[case::much_more(0.2)]
fn a_round_passes_with_at_most_beta_if_all_shares_are_off(#[case] off: f64) {
    let design = design(0.05, 0.05);
    let shares = declared(&[0.3, 0.5, 0.7], 7);
    let passed = simulated(1500, |random| {
        let ruled = rulings(design, 1000, &shares, |share| share + off, random);
        ruled.first() == Some(&Ruling::Pass)
    });
    assert_within(passed, 1500, 0.05, "misses");
}

#[rstest]
#[case::half(0.5)]
#[case::a_third(1.0 / 3.0)]
#[case::a_tenth(0.1)]
#[case::a_twentieth(0.05)]
#[case::two_percent(0.02)]
#[case::most(0.9)]
fn a_right_route_is_decided_with_as_many_requests_as_are_stated(#[case] share: f64) {
    let design = design(1e-6, 0.02);
    let needed = usize::try_from(design.requests(share)).unwrap();
    let open = simulated(1500, |random| {
        rulings(design, needed, |_| share, |share| share, random).first() != Some(&Ruling::Pass)
    });
    assert_within(open, 1500, 0.02, "undecided");
}

#[test]
fn moving_shares_are_decided_by_the_information_of_their_requests() {
    let design = design(1e-6, 0.02);
    // half of the requests that each of the two shares takes alone
    let [few, many] = [0.1, 0.5].map(|share| usize::try_from(design.requests(share)).unwrap().div_ceil(2));
    let shares = move |request| if request < few { 0.1 } else { 0.5 };
    let open = simulated(1500, |random| {
        rulings(design, few + many, shares, |share| share, random).first() != Some(&Ruling::Pass)
    });
    assert_within(open, 1500, 0.02, "undecided");
}

#[rstest]
#[case::half(0.5, 2123)]
#[case::a_tenth(0.1, 1010)]
#[case::a_twentieth(0.05, 2194)]
#[case::nothing(0.0, 688)]
#[case::everything(1.0, 688)]
fn a_decision_takes(#[case] share: f64, #[case] requests: u64) {
    assert_eq!(DeclaredDesign::new(ErrorRates::default(), 1).requests(share), requests);
}

#[test]
fn a_share_of_nothing_or_everything_excludes_the_other_kind_and_the_leak() {
    let mut test = DeclaredDesign::new(ErrorRates::default(), 1).test();
    assert_eq!((1..=688).find_map(|n| Some((n, test.observe(0.0, false)?))), Some((688, Ruling::Pass)));
    assert_eq!(test.observe(0.0, true), Some(Ruling::Fail));
    assert_eq!((1..=688).find_map(|n| Some((n, test.observe(1.0, true)?))), Some((688, Ruling::Pass)));
    assert_eq!(test.observe(1.0, false), Some(Ruling::Fail));
}

#[test]
fn a_fault_after_many_rounds_is_found_in_a_few_hundred_requests() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut test = DeclaredDesign::new(ErrorRates::default(), 1).test();
    for _ in 0..200_000 {
        assert_ne!(test.observe(0.5, random.bool()), Some(Ruling::Fail));
    }
    assert!((1..1200).any(|_| test.observe(0.5, true) == Some(Ruling::Fail)));
}

proptest! {
    /// Under the declared share the expectation of each ratio does not change with a request, whatever the shares were. The bound on the false
    /// alarm follows from this.
    #[test]
    fn ratios_are_martingales(share in 0.0_f64..=1.0, deviation in 0.001_f64..0.5) {
        let design = DeclaredDesign::new(errors(1e-6, 1e-3, deviation), 1);
        for other in design.others(share).into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&other));
            let of = |probability: f64, step: f64| if probability > 0.0 { probability * step.exp() } else { 0.0 };
            let (hit, miss) = steps(other, share);
            // a share of 0 or 1 leaves out the request that it excludes, which fails the round at once
            let expected = of(share, hit) + of(1.0 - share, miss);
            let is_whole = share <= 0.0 || share >= 1.0;
            prop_assert!((expected - 1.0).abs() < 1e-9 || is_whole && expected <= 1.0);
        }
    }

    /// If the truth is at the alternative or beyond, the inverse ratio does not grow on average. The bound on the miss follows from this.
    #[test]
    fn inverse_ratios_are_supermartingales_beyond_the_alternative(share in 0.01_f64..0.99, beyond in 0.0_f64..1.0) {
        let design = DeclaredDesign::new(errors(1e-6, 1e-3, 0.1), 1);
        for other in design.others(share).into_iter().flatten() {
            let end = if other > share { 1.0 } else { 0.0 };
            let truth = other + (end - other) * beyond;
            let (hit, miss) = steps(other, share);
            let of = |probability: f64, step: f64| if probability > 0.0 { probability * (-step).exp() } else { 0.0 };
            prop_assert!(of(truth, hit) + of(1.0 - truth, miss) <= 1.0 + 1e-9);
        }
    }
}

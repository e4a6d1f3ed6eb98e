use super::search::{bisect, largest};
use super::tails::Tails;
use crate::scenario::{ErrorProbability, ErrorRates, Share};

/// The largest limit of bad requests of the search.
const MOST_BAD: u64 = 1000;
/// The largest number of requests of the search; no sample is that large.
const MOST: u64 = 1 << 40;

/// The smallest number of requests that exclude a share if at most `count` of them count: the smallest n with
/// P(Bin(n, share) ≤ count) ≤ miss. None if no number does, as for a share of 0.
///
/// ```
/// use shiftcheck_model::scenario::{ErrorRates, Share};
/// use shiftcheck_model::verdict::requests_to_exclude;
///
/// let miss = ErrorRates::default().miss; // 10⁻³
/// assert_eq!(requests_to_exclude(Share::ONE_PERCENT, 0, miss), Some(688));
/// assert_eq!(requests_to_exclude(Share::ONE_PERCENT, 1, miss), Some(920));
/// ```
pub fn requests_to_exclude(share: Share, count: u64, miss: ErrorProbability) -> Option<u64> {
    let excludes = |n: u64| Tails::new(n, share.fraction()).at_most(count) <= miss.value();
    let mut high = count + 1;
    while !excludes(high) {
        high = high.checked_mul(2).filter(|high| *high <= MOST)?;
    }
    Some(largest(high, |n| !excludes(n)) + 1)
}

/// The smallest share that `count` of `n` requests exclude from above, as a fraction: the upper end of the one-sided interval of Clopper and
/// Pearson (1934). 1 if nothing is excluded.
///
/// ```
/// use shiftcheck_model::{scenario::ErrorRates, verdict::excluded_share};
///
/// let miss = ErrorRates::default().miss; // 10⁻³
/// assert!(excluded_share(688, 0, miss) <= 0.01 && excluded_share(687, 0, miss) > 0.01);
/// ```
pub fn excluded_share(n: u64, count: u64, miss: ErrorProbability) -> f64 {
    if count >= n { 1.0 } else { bisect(0.0, 1.0, 60, |share| Tails::new(n, share).at_most(count) <= miss.value()).1 }
}

/// The number of requests that a claim of at most `share` bad ones takes: the smallest number with a limit of bad requests that a share of twice
/// as many keeps with a probability of at most β, and `share` itself exceeds with at most α. None if no number does.
///
/// ```
/// use shiftcheck_model::scenario::{ErrorRates, Share};
/// use shiftcheck_model::verdict::requests_to_limit;
///
/// assert_eq!(requests_to_limit(Share::ONE_PERCENT, ErrorRates::default()), Some(8612));
/// ```
pub fn requests_to_limit(share: Share, errors: ErrorRates) -> Option<u64> {
    let twice = Share::from_fraction(2.0 * share.fraction()).ok().filter(|_| share.is_part())?;
    // the smallest number for each limit
    (0..MOST_BAD).find_map(|count| {
        let requests = requests_to_exclude(twice, count, errors.miss)?;
        let exceeds = Tails::new(requests, share.fraction()).more_than(count);
        (exceeds <= errors.false_alarm.value()).then_some(requests)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn probability(value: f64) -> ErrorProbability {
        ErrorProbability::new(value).unwrap()
    }

    /// A share, at most 1.
    fn fraction(value: f64) -> Share {
        Share::from_fraction(value.min(1.0)).unwrap()
    }

    /// P(Bin(n, share) ≤ count), summed term by term.
    fn summed(n: u32, share: f64, count: u32) -> f64 {
        let mut term = (1.0 - share).powf(f64::from(n));
        let mut sum = term;
        for k in 0..count {
            term *= f64::from(n - k) / f64::from(k + 1) * share / (1.0 - share);
            sum += term;
        }
        sum
    }

    #[rstest]
    #[case::none(0.01, 0, 1e-3)]
    #[case::one(0.01, 1, 1e-3)]
    #[case::five(0.02, 5, 1e-3)]
    #[case::rare(0.001, 2, 1e-2)]
    fn the_least_number_excludes_and_one_less_does_not(#[case] share: f64, #[case] count: u32, #[case] miss: f64) {
        let needed = requests_to_exclude(fraction(share), u64::from(count), probability(miss)).unwrap();
        let n = u32::try_from(needed).unwrap();
        assert!(summed(n, share, count) <= miss, "{n}: {}", summed(n, share, count));
        assert!(summed(n - 1, share, count) > miss, "{n}: {}", summed(n - 1, share, count));
    }

    #[test]
    fn no_number_of_requests_excludes_a_share_of_nothing() {
        assert_eq!(requests_to_exclude(Share::NONE, 0, probability(1e-3)), None);
        assert_eq!(requests_to_exclude(Share::ALL, 3, probability(1e-3)), Some(4));
    }

    proptest! {
        #[test]
        fn the_bound_and_the_number_agree(n in 1_u64..5000, count in 0_u64..20, exponent in 1_i32..6) {
            let miss = probability(10_f64.powi(-exponent));
            let bound = excluded_share(n, count, miss);
            if count >= n {
                prop_assert!(bound >= 1.0);
            } else {
                let needed = requests_to_exclude(fraction(bound * (1.0 + 1e-6)), count, miss).unwrap();
                prop_assert!(needed <= n, "{} requests for {}", needed, bound);
                prop_assert!(requests_to_exclude(fraction(bound * (1.0 - 1e-6)), count, miss).unwrap() >= n);
            }
        }
    }
}

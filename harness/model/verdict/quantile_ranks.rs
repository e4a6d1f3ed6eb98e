use super::binomial::confidence_interval;
use super::search::largest;
use crate::scenario::{Confidence, Share};

/// The ranks, from 1, of the sorted values between which the quantile at a share lies, with the given confidence, valid at any stopping time. The
/// upper rank is `n + 1` if no value is known to be above the quantile.
///
/// The number of values up to the quantile counts for the share: each number is left out whose confidence interval excludes the share.
/// (Howard and Ramdas 2022.)
///
/// ```
/// use shiftcheck_model::{scenario::ErrorRates, verdict::quantile_ranks};
///
/// let (low, high) = quantile_ranks(1000, "50%".parse()?, ErrorRates::default().confidence());
/// assert!(400 < low && low < 500 && 500 < high && high < 600);
/// # Ok::<(), shiftcheck_model::scenario::InvalidShare>(())
/// ```
pub fn quantile_ranks(n: u64, share: Share, confidence: Confidence) -> (u64, u64) {
    let interval = |count: u64| confidence_interval(n, count, None, confidence);
    let too_few = |count: u64| interval(count).1 < share.fraction();
    let low = if too_few(0) { largest(n, too_few) + 1 } else { 0 };
    let high = largest(n, |count| interval(count).0 <= share.fraction());
    (low.max(1), high + 1)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use rstest::rstest;

    use super::*;
    use crate::scenario::ErrorProbability;

    #[rstest]
    #[case::median(0.5)]
    #[case::tail(0.99)]
    fn the_quantile_lies_between_the_ranks_at_all_times(#[case] share: f64) {
        let confidence = Confidence::of(ErrorProbability::new(0.05).unwrap());
        let share = Share::from_fraction(share).unwrap();
        let ranks: Vec<(u64, u64)> = (1..=40).map(|tens| quantile_ranks(tens * 10, share, confidence)).collect();
        // values between 0 and 1, whose quantile at a share is the share itself
        let outside = (0..400).filter(|seed| {
            let mut random = Rng::with_seed(*seed);
            let mut values: Vec<f64> = Vec::new();
            ranks.iter().any(|(low, high)| {
                values.extend((0..10).map(|_| random.f64()));
                values.sort_by(f64::total_cmp);
                let at = |rank: u64| usize::try_from(rank).ok().and_then(|rank| values.get(rank - 1).copied());
                at(*low).is_none_or(|low| low > share.fraction()) && *low > 1
                    || at(*high).is_some_and(|high| high < share.fraction())
            })
        });
        let outside = outside.count();
        // more than 36 of 400 have a chance below 1e-3 at 5 %
        assert!(outside <= 36, "{outside} of 400");
        let last = ranks[39];
        assert!(last.0 > 1 && last.0 < last.1, "{last:?}");
    }
}

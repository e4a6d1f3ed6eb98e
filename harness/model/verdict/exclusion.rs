use super::tails::Tails;

/// The most requests that are looked for; no sample is as large.
const MOST: u64 = 1 << 40;

/// The smallest number of requests of which at most `count` exclude a share of this size with an error of at most `miss`: the
/// smallest n with P(Bin(n, share) ≤ count) ≤ miss. None where no number does, as for a share of 0.
///
/// ```
/// use shiftcheck_model::verdict::requests_to_exclude;
///
/// assert_eq!(requests_to_exclude(0.01, 0, 1e-3), Some(688));
/// assert_eq!(requests_to_exclude(0.01, 1, 1e-3), Some(920));
/// ```
#[must_use]
pub fn requests_to_exclude(share: f64, count: u64, miss: f64) -> Option<u64> {
    let excludes = |n: u64| Tails::new(n, share).at_most(count) <= miss;
    let mut high = count + 1;
    while !excludes(high) {
        high = high.checked_mul(2).filter(|high| *high <= MOST)?;
    }
    let mut low = count;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if excludes(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// The smallest share that `count` among `n` requests exclude with an error of at most `miss`, from above: the upper end of the
/// one-sided interval of Clopper and Pearson (1934). It is 1 where nothing is excluded.
///
/// ```
/// use shiftcheck_model::verdict::excluded_share;
///
/// assert!(excluded_share(688, 0, 1e-3) <= 0.01 && excluded_share(687, 0, 1e-3) > 0.01);
/// ```
#[must_use]
pub fn excluded_share(n: u64, count: u64, miss: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    if count >= n {
        return high;
    }
    // past double precision
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if Tails::new(n, middle).at_most(count) <= miss { high = middle } else { low = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

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
        let n = u32::try_from(requests_to_exclude(share, u64::from(count), miss).unwrap()).unwrap();
        assert!(summed(n, share, count) <= miss, "{n}: {}", summed(n, share, count));
        assert!(summed(n - 1, share, count) > miss, "{n}: {}", summed(n - 1, share, count));
    }

    #[test]
    fn no_number_of_requests_excludes_a_share_of_nothing() {
        assert_eq!(requests_to_exclude(0.0, 0, 1e-3), None);
        assert_eq!(requests_to_exclude(1.0, 3, 1e-3), Some(4));
    }

    proptest! {
        #[test]
        fn the_bound_and_the_number_agree(n in 1_u64..5000, count in 0_u64..20, exponent in 1_i32..6) {
            let miss = 10_f64.powi(-exponent);
            let bound = excluded_share(n, count, miss);
            if count >= n {
                prop_assert!(bound >= 1.0);
            } else {
                let needed = requests_to_exclude(bound * (1.0 + 1e-6), count, miss).unwrap();
                prop_assert!(needed <= n, "{} requests for {}", needed, bound);
                prop_assert!(requests_to_exclude(bound * (1.0 - 1e-6), count, miss).unwrap() >= n);
            }
        }
    }
}

use std::collections::BTreeMap;
use std::fmt;

use super::binomial::{leak_bound, two_sided_chance};
use super::claim::{Errors, Plan};
use super::tally::{Answer, Tally};
use crate::scenario::Share;

/// Whether a claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It does.
    Pass,
    /// It does not.
    Fail,
}

impl fmt::Display for Ruling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
        })
    }
}

/// The ruling on a claim with its reason in one sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The ruling.
    pub ruling: Ruling,
    /// The number of requests judged.
    pub requests: u64,
    /// Why, for people.
    pub reason: String,
}

/// Judges the answers that a population got.
///
/// In this order: an answer that tells no version, a version that was not claimed or another status fails the claim, however
/// rare; then the count of each version has to lie in its band.
#[must_use]
pub fn judge(shares: &BTreeMap<String, Share>, status: u16, plan: &Plan, errors: Errors, tally: &Tally) -> Verdict {
    let n = tally.total();
    let verdict = |ruling, reason| Verdict { ruling, requests: n, reason };
    if n < plan.requests {
        return verdict(Ruling::Fail, format!("only {n} of {} requests were sent", plan.requests));
    }
    if let Some(reason) = foreign(shares, status, tally) {
        return verdict(Ruling::Fail, reason);
    }
    let versions = tally.versions();
    let count = |version: &String| versions.get(version.as_str()).copied().unwrap_or(0);
    if plan.bands.is_empty() {
        let only = shares.iter().find(|(_, share)| share.is_all()).map_or("", |(version, _)| version);
        let confidence = 1.0 - errors.miss.chance();
        return verdict(
            Ruling::Pass,
            format!(
                "all {n} from {only}; a leak is below {:.2} % with {} % confidence",
                leak_bound(n, confidence) * 100.0,
                confidence * 100.0
            ),
        );
    }
    let worst = plan
        .bands
        .iter()
        .filter(|(version, band)| !band.contains(count(version)))
        .map(|(version, band)| (two_sided_chance(n, count(version), shares[version].fraction()), version, band))
        .min_by(|left, right| left.0.total_cmp(&right.0));
    if let Some((chance, version, band)) = worst {
        return verdict(
            Ruling::Fail,
            format!(
                "{version} served {} of {n} requests; {} was claimed ({} to {} accepted); a chance of this or worse under the claim: {chance:.0e}",
                percent(count(version), n),
                shares[version],
                band.low,
                band.high,
            ),
        );
    }
    let parts: Vec<String> = plan
        .bands
        .iter()
        .map(|(version, band)| {
            format!("{version} {} ({} to {} accepted)", percent(count(version), n), band.low, band.high)
        })
        .collect();
    verdict(Ruling::Pass, format!("{} of {n} requests", parts.join(", ")))
}

/// The first thing among the answers that the claim excludes altogether.
fn foreign(shares: &BTreeMap<String, Share>, status: u16, tally: &Tally) -> Option<String> {
    let n = tally.total();
    let sum = |wanted: &dyn Fn(&Answer) -> bool| {
        tally.iter().filter(|(answer, _)| wanted(answer)).map(|(_, c)| c).sum::<u64>()
    };
    let (first, count) = tally
        .iter()
        .filter(|(answer, _)| match answer {
            Answer::Version { version, status: got } => {
                *got != status || shares.get(version).is_none_or(|share| share.is_none())
            }
            Answer::Unknown { .. } | Answer::Nothing { .. } => true,
        })
        .max_by_key(|(_, count)| *count)?;
    Some(match first {
        Answer::Nothing { reason } => format!("{count} of {n} requests got no answer: {reason}"),
        Answer::Unknown { status, excerpt } => {
            format!("{count} of {n} requests were answered {status} `{excerpt}`, which tells no version")
        }
        Answer::Version { version, .. } if shares.get(version).is_none_or(|share| share.is_none()) => {
            let all = sum(&|answer| matches!(answer, Answer::Version { version: other, .. } if other == version));
            format!("{all} of {n} requests were answered by {version}, of which none was claimed")
        }
        Answer::Version { version, status: got } => {
            format!("{count} of {n} requests were answered {got} by {version}; {status} was claimed")
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
fn percent(count: u64, n: u64) -> String {
    format!("{:.1} %", 100.0 * count as f64 / n as f64)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shares(shares: &[(&str, f64)]) -> BTreeMap<String, Share> {
        shares.iter().map(|(name, share)| ((*name).to_owned(), Share::from_fraction(*share).unwrap())).collect()
    }

    fn version(version: &str, status: u16, count: usize) -> Vec<Answer> {
        vec![Answer::Version { version: version.to_owned(), status }; count]
    }

    fn no_healthy(count: usize) -> Vec<Answer> {
        vec![Answer::Unknown { status: 503, excerpt: "no healthy upstream".to_owned() }; count]
    }

    #[rstest]
    #[case::clean(vec![version("v1", 200, 688)], Ruling::Pass, "all 688 from v1; a leak is below 1.00 % with 99.9 % confidence")]
    #[case::one_foreign(vec![version("v1", 200, 687), version("v2", 200, 1)], Ruling::Fail, "1 of 688 requests were answered by v2, of which none was claimed")]
    #[case::one_error(vec![version("v1", 200, 687), version("v1", 503, 1)], Ruling::Fail, "1 of 688 requests were answered 503 by v1; 200 was claimed")]
    #[case::mesh(vec![version("v1", 200, 687), no_healthy(1)], Ruling::Fail, "1 of 688 requests were answered 503 `no healthy upstream`, which tells no version")]
    #[case::short(vec![version("v1", 200, 687)], Ruling::Fail, "only 687 of 688 requests were sent")]
    fn all_to_one_has_no_tolerance(#[case] answers: Vec<Vec<Answer>>, #[case] ruling: Ruling, #[case] reason: &str) {
        let claim = shares(&[("v1", 1.0)]);
        let plan = Plan::new(&claim, Errors::default()).unwrap();
        let tally = answers.into_iter().flatten().collect();
        let verdict = judge(&claim, 200, &plan, Errors::default(), &tally);
        assert_eq!((verdict.ruling, verdict.reason.as_str()), (ruling, reason));
    }

    #[rstest]
    #[case::even(
        786,
        787,
        Ruling::Pass,
        "v1 50.0 % (690 to 883 accepted), v2 50.0 % (690 to 883 accepted) of 1573 requests"
    )]
    #[case::edge(
        690,
        883,
        Ruling::Pass,
        "v1 43.9 % (690 to 883 accepted), v2 56.1 % (690 to 883 accepted) of 1573 requests"
    )]
    #[case::beyond(
        689,
        884,
        Ruling::Fail,
        "v1 served 43.8 % of 1573 requests; 50 % was claimed (690 to 883 accepted); a chance of this or worse under the claim: 1e-6"
    )]
    #[case::missing(
        1573,
        0,
        Ruling::Fail,
        "v1 served 100.0 % of 1573 requests; 50 % was claimed (690 to 883 accepted); a chance of this or worse under the claim: 0e0"
    )]
    fn halves_have_to_lie_in_their_band(
        #[case] v1: usize,
        #[case] v2: usize,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        let claim = shares(&[("v1", 0.5), ("v2", 0.5)]);
        let plan = Plan::new(&claim, Errors::default()).unwrap();
        let tally = [version("v1", 200, v1), version("v2", 200, v2)].into_iter().flatten().collect();
        let verdict = judge(&claim, 200, &plan, Errors::default(), &tally);
        assert_eq!((verdict.ruling, verdict.reason.as_str()), (ruling, reason));
    }
}

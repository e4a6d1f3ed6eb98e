//! The reasons of rulings, as text.

use super::{Decided, ServedShare, Trial, is_claimed};
use crate::scenario::{Confidence, StatusCode, Statuses};
use crate::verdict::answer::Answer;
use crate::verdict::binomial::{confidence_interval, leak_bound, two_sided_chance};
use crate::verdict::design::{Part, groups};
use crate::verdict::ruling::{Ruling, Stop};

impl Trial {
    pub(super) fn reason_of_inconclusive(&self, decided: &Decided, shares: &[ServedShare]) -> String {
        let seen = served(shares, decided.requests);
        let seen = if seen.is_empty() { seen } else { format!("; so far {seen}") };
        let few = "requests were answered in time, too few for a verdict";
        format!("only {} of at most {} {few}{seen}", decided.requests, self.design.allowed)
    }

    pub(super) fn reason_of_pass(&self, decided: &Decided, shares: &[ServedShare]) -> String {
        let confidence = self.design.claim.errors.confidence();
        let whole: Vec<&str> =
            shares.iter().filter(|share| share.claimed.is_all()).map(|share| share.part.as_str()).collect();
        let split = shares.iter().any(|share| share.claimed.is_part());
        let mut parts = Vec::new();
        if split {
            let each = self.share_of_each_variant(confidence);
            parts.push(format!("{} of {} requests{each}", served(shares, decided.requests), decided.requests));
        }
        if !whole.is_empty() {
            let is_plain = |part: &str| part.starts_with("status ") || self.design.claim.slower_than.is_some();
            let whole =
                whole.iter().map(|part| if is_plain(part) { (*part).to_owned() } else { format!("from {part}") });
            parts.push(format!(
                "all {} {}; a leak is below {:.2} %{} with {} % confidence",
                decided.requests,
                whole.collect::<Vec<_>>().join(", "),
                leak_bound(decided.requests, confidence) * 100.0,
                self.leak_of_each_variant(confidence),
                percent_of(confidence.fraction()),
            ));
        }
        parts.join("; ")
    }

    /// The leak that each variant alone excludes, if there are several: a rule may let one of them through.
    fn leak_of_each_variant(&self, confidence: Confidence) -> String {
        let fewest = self.variants.iter().map(|variant| variant.requests).min().unwrap_or_default();
        if self.variants.len() < 2 || fewest == 0 {
            return String::new();
        }
        let leak = leak_bound(fewest, confidence) * 100.0;
        format!(" in all, below {leak:.2} % in each of {} kinds of requests", self.variants.len())
    }

    /// The range of the confidence intervals of each variant alone, if there are several.
    fn share_of_each_variant(&self, confidence: Confidence) -> String {
        if self.variants.len() < 2 {
            return String::new();
        }
        let tests = self.design.tests.iter().enumerate().map(|(index, (part, _))| {
            let variants = self.variants.iter();
            let intervals =
                variants.map(|variant| confidence_interval(variant.requests, variant.hits[index], None, confidence));
            let (low, high) = intervals.fold((1.0_f64, 0.0_f64), |all, next| (all.0.min(next.0), all.1.max(next.1)));
            format!("{part} {:.1} to {:.1} %", low * 100.0, high * 100.0)
        });
        format!("; in each of {} kinds of requests {}", self.variants.len(), tests.collect::<Vec<_>>().join(", "))
    }

    /// The reason, with a bound on the probability of such evidence if the claim is correct.
    pub(super) fn reason_of_failure(&self, decided: &Decided) -> (String, Option<f64>) {
        if let Some(reason) = self.reason_of_excluded() {
            return (reason, Some(0.0));
        }
        let failed = self.tests.iter().zip(&self.design.tests).find(|((_, ruling), _)| *ruling == Some(Ruling::Fail));
        let Some(((test, _), (part, design))) = failed else { return (String::new(), None) };
        let n = decided.requests;
        let count = self.count(decided, part);
        let chance = match test.stop(design) {
            Some(Stop::Cap) => two_sided_chance(n, count, design.share()).min(design.alpha.value()),
            _ => test.chance(design),
        };
        // if there are two parts, the one with more than its share
        let (part, count, share) = self.opposite(part, decided).filter(|_| less(count, n, design.share())).map_or_else(
            || (part.clone(), count, design.share()),
            |(other, others)| (other, others, 1.0 - design.share()),
        );
        let served = match part {
            Part::Version(_) => format!("{part} served"),
            Part::Speed(_) => format!("{part} were"),
            Part::Status(_) => format!("{part} came in"),
        };
        let reason = format!(
            "{served} {} of {n} requests; {} % was claimed; a chance of this or worse under the claim: at most {chance:.0e}",
            percent(count, n),
            percent_of(share),
        );
        (reason, Some(chance))
    }

    /// The other part of a split into two, with its count.
    fn opposite(&self, part: &Part, decided: &Decided) -> Option<(Part, u64)> {
        let mut groups = groups(&self.design.claim).into_iter();
        let group = groups.find(|group| group.iter().any(|(claimed, _)| claimed == part))?;
        let mut others = group.into_iter().filter(|(other, share)| other != part && !share.is_none());
        match (others.next(), others.next()) {
            (Some((other, _)), None) => {
                let count = self.count(decided, &other);
                Some((other, count))
            }
            _ => None,
        }
    }

    /// The most frequent answer that the claim excludes, if there is one.
    pub fn most_excluded(&self) -> Option<&Answer> {
        self.excluded().map(|(answer, _)| answer)
    }

    fn excluded(&self) -> Option<(&Answer, &u64)> {
        let answers = self.kinds.answers().iter().zip(&self.counts).zip(&self.allowed);
        let excluded = answers.filter(|((_, count), allowed)| !**allowed && **count > 0);
        excluded.map(|(counted, _)| counted).max_by_key(|(_, count)| **count)
    }

    /// The reason of a failure by answers that the claim excludes: the most frequent kind.
    fn reason_of_excluded(&self) -> Option<String> {
        let n = self.requests;
        let answers = || self.kinds.answers().iter().zip(&self.counts).zip(&self.allowed);
        let (first, count) = self.excluded()?;
        let of = |count: u64| format!("{count} of {n} requests {}", if count == 1 { "was" } else { "were" });
        let claim = &self.design.claim;
        Some(match first {
            Answer::Nothing { reason } => format!("{count} of {n} requests got no answer: {reason}"),
            Answer::Unknown { status, excerpt } if !claim.versions.is_empty() => {
                format!("{} answered {} `{excerpt}`, which tells no version", of(*count), StatusCode(*status))
            }
            Answer::Version { version, .. } if claim.slower_than.is_some() => {
                format!("{} {version}, of which none was claimed", of(*count))
            }
            Answer::Version { version, .. }
                if !claim.versions.is_empty() && !is_claimed(claim.versions.get(version)) =>
            {
                let same =
                    |answer: &Answer| matches!(answer, Answer::Version { version: other, .. } if other == version);
                let all = answers().filter(|((answer, _), _)| same(answer)).map(|((_, count), _)| count).sum();
                format!("{} answered by {version}, of which none was claimed", of(all))
            }
            Answer::Version { version, status } => {
                let (code, claimed) = (StatusCode(*status), statuses(&claim.statuses));
                format!("{} answered {code} by {version}; {claimed} was claimed", of(*count))
            }
            Answer::Unknown { status, excerpt } => {
                let (code, claimed) = (StatusCode(*status), statuses(&claim.statuses));
                format!("{} answered {code} `{excerpt}`; {claimed} was claimed", of(*count))
            }
        })
    }
}

fn statuses(statuses: &Statuses) -> String {
    match statuses {
        Statuses::Implied(success) => StatusCode(*success).to_string(),
        Statuses::Claimed(shares) => {
            let claimed = shares.iter().filter(|(_, share)| !share.is_none());
            claimed.map(|(status, _)| StatusCode(*status).to_string()).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// `v1 51.2 % (43.1 to 59.2), v2 48.8 % (40.8 to 56.9)`, for shares between 0 % and 100 %.
fn served(shares: &[ServedShare], requests: u64) -> String {
    let split = shares.iter().filter(|share| share.claimed.is_part());
    let split = split.map(|share| {
        let (low, high) = share.interval;
        format!("{} {} ({:.1} to {:.1})", share.part, percent(share.count, requests), low * 100.0, high * 100.0)
    });
    split.collect::<Vec<_>>().join(", ")
}
fn less(count: u64, n: u64, share: f64) -> bool {
    (count as f64) < n as f64 * share
}
fn percent(count: u64, n: u64) -> String {
    format!("{:.1} %", 100.0 * count as f64 / n.max(1) as f64)
}

/// A fraction in percent, rounded to hide binary rounding errors.
fn percent_of(fraction: f64) -> f64 {
    (fraction * 1e7).round() / 1e5
}

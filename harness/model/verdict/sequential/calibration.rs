//! Calibration of a design: the band at the cap that keeps α, and the largest pass levels that keep β, by exact sums over all paths.

use super::{EXCLUDES, ShareDesign};
use crate::verdict::binomial::{Band, log_mixture};
use crate::verdict::ruling::Ruling;

/// The largest number of recursions of a calibration.
const RECURSIONS: usize = 7;
/// The part of β that a calibrated miss may reach; the rest covers rounding in the sum over all paths.
const MOST: f64 = 1.0 - 1e-6;
/// A path whose probability is at most this part of β counts as a miss without further computation: thousands of them change nothing.
const NEGLIGIBLE: f64 = 1e-11;
/// The smallest step of a level. A smaller one changes the mean by less than a tenth of a request.
const FINE: f64 = 3e-4;
/// A search ends with a miss between this part of β and `MOST`.
const NEAR: f64 = 0.9995;
/// The relative rounding error of a sum over all paths.
const ROUNDING: f64 = 1e-9;
/// The largest pass level, in multiples of β. Larger levels make no difference.
const HIGHEST: f64 = 20.0;

/// The exact errors and cost of a design with the band that keeps α.
struct Realised {
    band: Band,
    /// At `p₀ + δ` and at `p₀ - δ`.
    misses: [f64; 2],
    mean: f64,
}

impl ShareDesign {
    /// The design with the band that keeps α, and with approximately the largest pass levels that keep β.
    pub(super) fn calibrated(self) -> Self {
        let beta = self.beta.value();
        let mut best: Option<Self> = None;
        let mut sides = [Search::new(beta), Search::new(beta)];
        for _ in 0..RECURSIONS {
            let mut design = Self {
                more: self.more.passing_at(sides[0].level),
                fewer: self.fewer.passing_at(sides[1].level),
                ..self.clone()
            };
            let Realised { band, misses, mean } = design.realised();
            (design.band, design.mean) = (band, Some(mean));
            let kept = misses.iter().all(|miss| *miss <= beta * MOST);
            if kept && best.as_ref().is_none_or(|best| design.mean() < best.mean()) {
                best = Some(design);
            }
            let mut moved = false;
            for (side, miss) in sides.iter_mut().zip(misses) {
                moved |= side.take(miss / beta);
            }
            if !moved {
                break;
            }
        }
        best.unwrap_or_else(|| {
            // Ville's levels and the band of the cap are valid without recursion
            let mean = Some(self.characteristics(self.share).mean);
            Self { mean, ..self }
        })
    }

    /// Computes the band, the misses and the mean from one recursion at `p₀`: the probability of a path at another share is its probability at
    /// `p₀` times the likelihood ratio.
    fn realised(&self) -> Realised {
        let (mut fails, mut mean, mut misses) = (0.0, 0.0, [0.0; 2]);
        let undecided = self.paths(self.share, |ruling, n, hits, chance| {
            mean += chance * n as f64;
            let [more, fewer] = if ruling == Ruling::Pass {
                self.at_others(n, hits, chance)
            } else {
                fails += chance;
                self.excluded_at_others(n, hits, chance)
            };
            misses = [misses[0] + more, misses[1] + fewer];
        });
        let cap = self.cap as f64;
        mean += cap * undecided.iter().map(|(_, chance)| chance).sum::<f64>();
        let (band, misses) = self.best_band(&undecided, fails, misses);
        Realised { band, misses, mean }
    }

    /// The band at the cap that keeps α and has the smallest miss, with the misses at both other shares. `fails` and `misses` are those of the
    /// paths that end before the cap.
    fn best_band(&self, undecided: &[(u64, f64)], fails: f64, mut misses: [f64; 2]) -> (Band, [f64; 2]) {
        // cumulative sums: of probabilities, and of what a pass adds to each miss compared with a failure
        let mut sums = vec![[0.0; 3]];
        for (hits, chance) in undecided {
            let last = sums[sums.len() - 1];
            let passed = self.at_others(self.cap, *hits, *chance);
            let failed = self.excluded_at_others(self.cap, *hits, *chance);
            misses = [misses[0] + failed[0], misses[1] + failed[1]];
            sums.push([last[0] + chance, last[1] + passed[0] - failed[0], last[2] + passed[1] - failed[1]]);
        }
        let (all, left) = (sums[undecided.len()][0], self.alpha.value() * (1.0 - ROUNDING) - fails);
        let mut found: Option<(f64, Band, [f64; 2])> = None;
        let mut above = undecided.len();
        // tries every split of the remaining α into a part below the band and a part above it
        for below in 0..undecided.len() {
            while above < undecided.len() && sums[below][0] + all - sums[above][0] > left {
                above += 1;
            }
            if below == 0 {
                above = (0..=undecided.len()).find(|above| all - sums[*above][0] <= left).unwrap_or(undecided.len());
            }
            if sums[below][0] + (all - sums[above][0]) > left {
                break;
            }
            // a band contains at least one count
            above = above.max(below + 1);
            let within = [1, 2].map(|other| sums[above][other] - sums[below][other]);
            let both = [misses[0] + within[0], misses[1] + within[1]];
            let larger = both[0].max(both[1]);
            if found.as_ref().is_none_or(|(other, ..)| larger <= *other) {
                let band = Band { low: undecided[below].0, high: undecided[above - 1].0 };
                found = Some((larger, band, both));
            }
        }
        // if no path reaches the cap, any band is valid; if α is used up, none is
        let used_up = [f64::INFINITY; 2];
        let (_, band, misses) = found.unwrap_or((0.0, self.band, if undecided.is_empty() { misses } else { used_up }));
        (band, misses)
    }

    /// The probabilities at `p₀ + δ` and `p₀ - δ` of an event whose probability at `p₀` is `chance`.
    fn at_others(&self, n: u64, hits: u64, chance: f64) -> [f64; 2] {
        [self.more, self.fewer].map(|side| chance * side.steps.sum(hits, n).exp())
    }

    /// The same for a failure, as far as it counts as a miss: if its interval excludes the true share.
    fn excluded_at_others(&self, n: u64, hits: u64, chance: f64) -> [f64; 2] {
        let excluded = |at: f64, other: f64| {
            // a negligible probability counts without the cost of the interval
            if at < self.beta.value() * NEGLIGIBLE || self.excludes(n, hits, other) { at } else { 0.0 }
        };
        let [more, fewer] = self.at_others(n, hits, chance);
        [excluded(more, self.others.1), excluded(fewer, self.others.0)]
    }

    /// Whether the interval excludes a share, whatever the ruling is.
    fn excludes(&self, requests: u64, hits: u64, share: f64) -> bool {
        let (n, count, spread) = (requests as f64, hits as f64, share * (1.0 - share));
        if spread <= 0.0 {
            return false; // no path leads away from it
        }
        let level = -self.beta.part(EXCLUDES).value().ln();
        // Two bounds that are faster to compute come first: the mixture is at most the likelihood of the observed share, and the logarithm of
        // that is at most Pearson's statistic.
        let off = count - n * share;
        if off * off < level * n * spread {
            return false;
        }
        let part = |count: f64, share: f64| if count > 0.0 { count * (count / (n * share)).ln() } else { 0.0 };
        part(count, share) + part(n - count, 1.0 - share) >= level && log_mixture(requests, hits, share) >= level
    }
}

/// The search by secants for the largest pass level of one side, a log likelihood ratio, whose miss is at most β.
struct Search {
    level: f64,
    highest: f64,
    /// The previous level, with the logarithm of its miss over β.
    before: Option<(f64, f64)>,
    /// The largest level that kept β, with the same logarithm.
    kept: Option<(f64, f64)>,
    /// The smallest level that did not keep β, with the same logarithm.
    missed: Option<(f64, f64)>,
}

impl Search {
    fn new(beta: f64) -> Self {
        Self { level: beta.ln(), highest: (HIGHEST * beta).ln().min(0.0), before: None, kept: None, missed: None }
    }

    /// Takes the miss at the current level, divided by β. Returns whether to try another level.
    fn take(&mut self, ratio: f64) -> bool {
        if (NEAR..=MOST).contains(&ratio) || ratio <= 0.0 {
            return false;
        }
        let (level, miss) = (self.level, ratio.ln());
        // the other side and the band change the misses, too: earlier results that contradict the latest one are dropped
        if ratio <= MOST {
            self.kept = Some((level, miss));
            self.missed = self.missed.filter(|(other, _)| *other > level);
        } else {
            self.missed = Some((level, miss));
            self.kept = self.kept.filter(|(other, _)| *other < level);
        }
        let aim = f64::midpoint(NEAR, MOST).ln();
        // the miss grows more slowly than the level
        let before = self.before.replace((level, miss)).filter(|(other, _)| (other - level).abs() > 1e-9);
        let slope = before.map_or(0.6, |(other, then)| (miss - then) / (level - other)).clamp(0.3, 1.5);
        let step = ((aim - miss) / slope).clamp(-1.0, 1.0);
        let next = if let (Some((low, below)), Some((high, above))) = (self.kept, self.missed) {
            // counts are integers, so that the miss may jump: the step stays away from both ends
            let part = ((aim - below) / (above - below)).clamp(0.1, 0.9);
            low + part * (high - low)
        } else {
            level + step
        };
        self.level = next.min(self.highest);
        (self.level - level).abs() > FINE
    }
}

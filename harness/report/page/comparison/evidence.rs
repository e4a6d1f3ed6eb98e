use indicatif::HumanCount;
use maud::{Markup, html};

use super::scale::{LEFT, RIGHT, Scale, WIDTH, line};
use crate::report::model::Path;
use crate::report::versions::Compared;
use crate::report::words::float;

const HEIGHT: f64 = 200.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 180.0;
/// The largest number of lines with a number.
const MARKS: i32 = 6;

/// The path of the test of a comparison: the likelihood ratio after each bad event, and the levels at which it decides.
pub(super) fn evidence(path: &Path, seen: &Compared) -> Markup {
    let [canary, baseline] = seen.versions.each_ref().map(|own| own.version.as_str());
    let of = if seen.share.is_some() { "slow answers" } else { &path.of };
    let Some([events, hits]) = path.points.last().copied() else {
        return html! { figure { figcaption { "No " (of) " came from " (canary) " or " (baseline) ": the test has no path." } } };
    };
    // a hit and a miss differ by the logarithm of the factor
    let unit = seen.factor.log10();
    let ratio = |[events, hits]: [u64; 2]| (float(hits) - path.fails_above[1] * float(events)) * unit;
    let [rejects, accepts] = [path.fails_above, path.passes_below].map(|[start, _]| start * unit);
    let ratios = || path.points.iter().map(|point| ratio(*point));
    let x = Scale { from: 0.0, to: (float(events) * 1.08).max(10.0), positions: [LEFT, RIGHT] };
    let y = Scale {
        from: ratios().fold(accepts, f64::min) - 1.2,
        to: ratios().fold(rejects, f64::max) + 1.2,
        positions: [BOTTOM, TOP],
    };
    let way = path.points.iter().map(|point| (x.at(float(point[0])), y.at(ratio(*point))));
    let end = reached(path, [events, hits]);
    let levels = format!("Rejected at {} and more, accepted at {} and less", odds(rejects), odds(accepts));
    let ended = format!("{end} at {} after {events} {of}, {hits} of them from {canary}", odds(ratio([events, hits])));
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
                aria-label=(format!("path of the sequential test by its likelihood ratio. {levels}; {ended}")) {
                @for mark in marks(y) {
                    @let at = y.at(f64::from(mark));
                    line class="axis" x1=(LEFT) x2=(RIGHT) y1=(format!("{at:.1}")) y2=(format!("{at:.1}")) {}
                    text class="dim small" x=(LEFT - 4.0) y=(format!("{:.1}", at + 4.0)) text-anchor="end" { (power(mark)) }
                }
                (level("fails", "rejected above", y.at(rejects), -5.0))
                (level("accepts", "accepted below", y.at(accepts), 13.0))
                polyline class="path" points=(line([(LEFT, y.at(0.0))].into_iter().chain(way))) {}
                circle class="dot" cx=(format!("{:.1}", x.at(float(events)))) cy=(format!("{:.1}", y.at(ratio([events, hits])))) r="4" {}
                text class="dim small" x=(LEFT) y=(HEIGHT - 5.0) { "0" }
                text class="dim small" x=(RIGHT) y=(HEIGHT - 5.0) text-anchor="end" { (format!("{:.0} {of}", x.to)) }
            }
            figcaption {
                "Path of the test: after each of the " (of) ", how much likelier their versions are if " (canary) " has " (seen.factor)
                " times the share of " (baseline) " than if both have the same share. " (levels) ". This part of the claim was " (ended) "."
            }
        }
    }
}

/// A level that decides, with its label above or below.
fn level(class: &str, label: &str, y: f64, distance: f64) -> Markup {
    html! {
        line class=(class) x1=(LEFT) x2=(RIGHT) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
        text class="small" x=(LEFT + 4.0) y=(format!("{:.1}", y + distance)) { (label) }
    }
}

/// What the test decides after some number of events and hits, in words.
fn reached(path: &Path, [events, hits]: [u64; 2]) -> &'static str {
    let after = |[start, slope]: [f64; 2]| start + slope * float(events);
    let hits = float(hits);
    if hits >= after(path.fails_above) {
        "rejected"
    } else if hits <= after(path.passes_below) {
        "accepted"
    } else {
        "undecided"
    }
}

/// The powers of ten that are marked on a scale.
#[expect(clippy::cast_possible_truncation, reason = "the logarithm of a probability is small")]
fn marks(scale: Scale) -> Vec<i32> {
    let (low, high) = (scale.from.ceil() as i32, scale.to.floor() as i32);
    let step = ((high - low) / MARKS + 1).max(1);
    (low..=high).filter(|mark| mark % step == 0).collect()
}

/// `1`, `10`, `10⁻³`.
fn power(exponent: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    match exponent {
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        exponent => {
            let digits = exponent.unsigned_abs().to_string();
            let digits = digits.chars().filter_map(|digit| DIGITS.get(digit.to_digit(10)? as usize));
            format!("10{}{}", if exponent < 0 { "⁻" } else { "" }, digits.collect::<String>())
        }
    }
}

/// A likelihood ratio by its decimal logarithm, with two significant digits: `250,000 to 1`, `1 to 900`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive ratio; a conversion of a larger one saturates"
)]
fn odds(logarithm: f64) -> String {
    let ratio = 10_f64.powf(logarithm.abs());
    let digit = 10_f64.powf(ratio.log10().floor() - 1.0);
    let rounded = ((ratio / digit).round() * digit * 10.0).round() / 10.0;
    let ratio = if rounded < 10.0 { format!("{rounded:.1}") } else { HumanCount(rounded as u64).to_string() };
    if logarithm < 0.0 { format!("1 to {ratio}") } else { format!("{ratio} to 1") }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(5.4, "250,000 to 1")]
    #[case(0.0, "1.0 to 1")]
    #[case(-0.301, "1 to 2.0")]
    #[case(-2.95, "1 to 890")]
    fn ratios_are_told_with_two_digits(#[case] logarithm: f64, #[case] expected: &str) {
        assert_eq!(odds(logarithm), expected);
    }

    #[test]
    fn a_scale_has_some_marks_and_always_that_of_no_evidence() {
        let scale = |from: f64, to: f64| Scale { from, to, positions: [0.0, 1.0] };
        let told = |scale: Scale| marks(scale).into_iter().map(power).collect::<Vec<_>>();
        assert_eq!(told(scale(-4.1, 7.2)), ["10⁻⁴", "10⁻²", "1", "10²", "10⁴", "10⁶"]);
        assert_eq!(told(scale(-1.9, 2.2)), ["10⁻¹", "1", "10", "10²"]);
        assert_eq!(told(scale(-13.0, 14.0)), ["10⁻¹⁰", "10⁻⁵", "1", "10⁵", "10¹⁰"]);
    }
}

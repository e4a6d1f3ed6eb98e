use std::time::Duration;

use maud::{Markup, html};

use super::scale::{CLASSES, LEFT, RIGHT, Scale, WIDTH, counted, key, line, plain};
use crate::report::versions::{Compared, Quantile, Slower};
use crate::report::words::millis;

const HEIGHT: f64 = 226.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 206.0;
/// The smallest distance between the label of the threshold and the edges.
const MARGIN: f64 = 62.0;
/// The smallest distance between the middle of a time's label and the right edge.
const EDGE: f64 = 20.0;

/// The latencies of both versions: for each time, the share of answers that took longer, with its interval. Both axes are logarithmic.
pub(super) fn latency(seen: &Compared, share: f64) -> Markup {
    let [canary, baseline] = seen.versions.each_ref().map(|own| own.version.as_str());
    let told = seen.versions.iter().map(counted).collect::<Vec<_>>().join("; ");
    let (rest, percentile) = (1.0 - share, plain(share));
    let Some(Axes { x, y }) = Axes::of(seen, rest) else {
        return html! { figure { figcaption { "Nothing was answered by " (canary) " or " (baseline) "." } } };
    };
    let at = |latency: Duration| x.at(latency.as_secs_f64().log10());
    let threshold =
        seen.threshold.map(|threshold| (at(threshold), format!("{percentile} of {baseline}: {}", time(threshold))));
    let label =
        format!("share of the answers of {canary} and {baseline} that took longer than a time; slow answers: {told}");
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
                (key(seen))
                @for (mark, label) in shares(y.from) {
                    @let at = format!("{:.1}", y.at(mark));
                    line class="axis" x1=(LEFT) x2=(RIGHT) y1=(at) y2=(at) {}
                    text class="dim small" x=(LEFT - 4.0) y=(format!("{:.1}", y.at(mark) + 4.0)) text-anchor="end" { (label) }
                }
                @for mark in times(x) {
                    @let center = format!("{:.1}", at(mark).min(WIDTH - EDGE));
                    @let at = format!("{:.1}", at(mark));
                    line class="axis" x1=(at) x2=(at) y1=(BOTTOM) y2=(BOTTOM + 4.0) {}
                    text class="dim small" x=(center) y=(HEIGHT - 6.0) text-anchor="middle" { (time(mark)) }
                }
                @for (own, class) in seen.versions.iter().zip(CLASSES).rev() {
                    @let ends = |end: usize| own.slower.iter().map(move |point| (at(point.latency), y.at(point.interval[end].log10())));
                    polygon class={ "band " (class) } points=(line(ends(1).chain(ends(0).rev()))) {}
                }
                @if let Some((x, label)) = &threshold {
                    @let at = format!("{x:.1}");
                    @let middle = format!("{:.1}", x.clamp(LEFT + MARGIN, RIGHT - MARGIN));
                    line class="claimed" x1=(at) x2=(at) y1=(TOP - 5.0) y2=(BOTTOM) {}
                    text class="small" x=(middle) y=(TOP - 9.0) text-anchor="middle" { (label) }
                    (limits(seen.factor, rest, *x, y))
                }
                @for (own, class) in seen.versions.iter().zip(CLASSES).rev() {
                    polyline class={ "curve " (class) } points=(line(curve(&own.slower, y.from).map(|point| (at(point.latency), y.at(point.share.log10()))))) {}
                }
            }
            figcaption {
                "Share of the answers that took longer than a time, with intervals that are valid at any time, with a confidence of "
                (plain(seen.confidence)) " each. Slower than " (percentile) " of the answers of " (baseline) " that had arrived: " (told) "."
                @for own in &seen.versions {
                    @if let Some(quantile) = own.quantile { " " (percentile) " of " (own.version) ": " (within(quantile)) "." }
                }
            }
        }
    }
}

/// The lines of the baseline's share of slow answers and of the smallest multiple to detect, up to the threshold.
fn limits(factor: f64, rest: f64, end: f64, y: Scale) -> Markup {
    html! {
        @for (class, share, label) in [("claimed", rest, plain(rest)), ("fails", factor * rest, format!("{factor} × {}", plain(rest)))] {
            @let at = y.at(share.min(1.0).log10());
            line class=(class) x1=(LEFT) x2=(format!("{end:.1}")) y1=(format!("{at:.1}")) y2=(format!("{at:.1}")) {}
            text class="small" x=(LEFT + 3.0) y=(format!("{:.1}", at - 3.0)) { (label) }
        }
    }
}

/// The axes of a plot: decimal logarithms of seconds and of shares.
struct Axes {
    x: Scale,
    y: Scale,
}

impl Axes {
    /// The axes for the latencies up to where few are longer than the threshold. None without latencies.
    fn of(seen: &Compared, rest: f64) -> Option<Self> {
        // a power of ten that is well below the claimed share
        let floor = ((rest / 10.0).log10() + 1e-9).floor();
        let points = seen.versions.iter().flat_map(|own| curve(&own.slower, floor));
        let logarithms = points.map(|point| point.latency.as_secs_f64().max(1e-6).log10());
        let (from, to) =
            logarithms.fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), own| (from.min(own), to.max(own)));
        let x = Scale { from: from - 0.08, to: to + 0.08, positions: [LEFT, RIGHT] };
        let y = Scale { from: floor, to: 0.0, positions: [BOTTOM, TOP] };
        (from <= to).then_some(Self { x, y })
    }
}

/// The points of a distribution down to the first one at or below a share, by its decimal logarithm.
fn curve(points: &[Slower], floor: f64) -> impl Iterator<Item = &Slower> {
    let last = points.iter().position(|point| point.share.log10() <= floor).map_or(points.len(), |last| last + 1);
    points[..last].iter()
}

/// The shares that are marked, as decimal logarithms with their labels: the powers of ten down to the lowest.
fn shares(lowest: f64) -> impl Iterator<Item = (f64, String)> {
    let marks = (0..=6).map(|decade| -f64::from(decade)).take_while(move |mark| *mark >= lowest);
    marks.map(|mark| (mark, format!("{} %", (10_f64.powf(mark) * 1e8).round() / 1e6)))
}

/// The times that are marked: powers of ten, and more if few of them lie within the axis.
fn times(x: Scale) -> Vec<Duration> {
    let within = |time: &f64| (x.from..=x.to).contains(&time.log10());
    let marks = |steps: &[f64]| -> Vec<f64> {
        let decades = (-6..=4).map(|decade| 10_f64.powi(decade));
        decades.flat_map(|decade| steps.iter().map(move |step| step * decade)).filter(within).collect()
    };
    let powers = marks(&[1.0]);
    let times = if powers.len() < 3 { marks(&[1.0, 2.0, 5.0]) } else { powers };
    times.into_iter().map(Duration::from_secs_f64).collect()
}

/// `20 µs`, `1.5 ms`, `2 s`.
fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{} s", (seconds * 10.0).round() / 10.0),
        seconds if seconds >= 1e-3 => format!("{} ms", (seconds * 1e4).round() / 10.0),
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}

/// A quantile with its interval: `101 ms (100 ms to 102 ms)`.
fn within(Quantile { latency, interval: [low, high] }: Quantile) -> String {
    format!("{} ({} to {})", millis(latency), millis(low), millis(high))
}

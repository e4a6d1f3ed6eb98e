use maud::{Markup, html};

use crate::events::{Moment, Transition};
use crate::report::graph::share;
use crate::report::model::{GrossFault, Path};
use crate::report::words::float;

/// The width fits the window of a phone: text is not scaled down there.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 42.0;
const BOTTOM: f64 = 20.0;
const TOP: f64 = 8.0;
/// The number of points of a drawn boundary.
const POINTS: u32 = 48;

/// The path of a sequential test: the observed share after each request, and the stopping boundaries.
pub(super) fn decision(path: &Path) -> Markup {
    let at = |[requests, hits]: [u64; 2]| (float(requests), share(hits, requests));
    let last = path.points.last().map_or(1.0, |point| at(*point).0);
    let end = (last * 1.15).max(10.0);
    let x = |requests: f64| LEFT + (WIDTH - LEFT - 6.0) * requests / end;
    let y = |share: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0));
    let bound = |[start, slope]: [f64; 2], n: f64| start / n + slope;
    let steps = || (1..=POINTS).map(|step| end * f64::from(step) / f64::from(POINTS));
    let curve = |line: [f64; 2]| {
        let points = steps().filter(|n| (0.0..=1.0).contains(&bound(line, *n)));
        points.map(|n| format!("{:.1},{:.1}", x(n), y(bound(line, n)))).collect::<Vec<_>>().join(" ")
    };
    let gross = |edge: &dyn Fn(&GrossFault) -> Option<f64>| {
        let points = path.gross_faults.iter().map(|fault| (float(fault.requests), edge(fault)));
        let points = points.filter(|(n, _)| *n <= end);
        let points = points.filter_map(|(n, share)| Some(format!("{:.1},{:.1}", x(n), y(share?))));
        points.collect::<Vec<_>>().join(" ")
    };
    // the region where the share is accepted
    let inside: Vec<f64> = steps().filter(|n| bound(path.passes_above, *n) <= bound(path.passes_below, *n)).collect();
    let upper = inside.iter().map(|n| format!("{:.1},{:.1}", x(*n), y(bound(path.passes_below, *n))));
    let lower = inside.iter().rev().map(|n| format!("{:.1},{:.1}", x(*n), y(bound(path.passes_above, *n))));
    let corridor = upper.chain(lower).collect::<Vec<_>>().join(" ");
    let way = path.points.iter().map(|point| at(*point)).map(|(n, seen)| format!("{:.1},{:.1}", x(n), y(seen)));
    let way = way.collect::<Vec<_>>().join(" ");
    let stop = path.points.last().map(|point| at(*point));
    let (part, of, claimed) = (&path.part, &path.of, path.claimed * 100.0);
    let label = format!(
        "share of {part} after each of {last:.0} {of}; claimed {claimed:.0} %; rejected beyond the dashed lines, accepted in the shaded area"
    );
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
                @for mark in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    line class="axis" x1=(LEFT) x2=(WIDTH - 6.0) y1=(y(mark)) y2=(y(mark)) {}
                    text class="dim small" x=(LEFT - 4.0) y=(y(mark) + 4.0) text-anchor="end" { (format!("{:.0} %", mark * 100.0)) }
                }
                @if !corridor.is_empty() { polygon class="passes" points=(corridor) {} }
                polyline class="fails" points=(curve(path.fails_above)) {}
                polyline class="fails" points=(curve(path.fails_below)) {}
                polyline class="fails" points=(gross(&|fault| (fault.above < 1.0).then_some(fault.above))) {}
                polyline class="fails" points=(gross(&|fault| (fault.below > 0.0).then_some(fault.below))) {}
                line class="claimed" x1=(LEFT) x2=(WIDTH - 6.0) y1=(y(path.claimed)) y2=(y(path.claimed)) {}
                polyline class="path" points=(way) {}
                @if let Some((n, seen)) = stop {
                    circle class="dot" cx=(format!("{:.1}", x(n))) cy=(format!("{:.1}", y(seen))) r="4" {}
                }
                text class="dim small" x=(LEFT) y=(HEIGHT - 5.0) { "1" }
                text class="dim small" x=(WIDTH - 6.0) y=(HEIGHT - 5.0) text-anchor="end" { (format!("{end:.0} {of}")) }
            }
            figcaption {
                (path.part) @if path.of != "requests" { " of all " (path.of) }
                ": rejected beyond the dashed lines, accepted in the shaded area, decided after at most " (path.cap) " requests"
            }
        }
    }
}

/// The answers over time while a stage was applied: a row per population with old answers, new answers and errors.
pub(super) fn timeline(transition: &Transition) -> Markup {
    let mut populations: Vec<&str> = Vec::new();
    for moment in &transition.timeline {
        if !populations.contains(&moment.from.as_str()) {
            populations.push(&moment.from);
        }
    }
    let steps = transition.timeline.iter().map(|moment| moment.step + 1).max().unwrap_or(1);
    let most = transition.timeline.iter().map(total).max().unwrap_or(1);
    html! {
        @for population in populations {
            div { (population) }
            svg class="track" viewBox=(format!("0 0 {steps} {most}")) preserveAspectRatio="none" role="img"
                aria-label=(format!("answers to {population} while the stage was applied, by time")) {
                @for moment in transition.timeline.iter().filter(|moment| moment.from == population) {
                    @for (kind, height, y) in bars(moment, most) {
                        rect class=(kind) x=(moment.step) y=(y) width="0.9" height=(height) {}
                    }
                }
            }
        }
        div class="dim times" { span { "0 s" } span { (format!("{:.1} s", float(steps) * transition.step.as_secs_f64())) } }
        p class="dim key" {
            i style="background:var(--old)" {} "as before" i style="background:var(--both)" {} "as before and after"
            i style="background:var(--new)" {} "as after" i style="background:var(--bad)" {} "neither"
        }
    }
}

const fn total(moment: &Moment) -> u64 {
    moment.old + moment.both + moment.new + moment.errors
}

/// The stacked bars of a time step: class, height and upper edge, in requests.
fn bars(moment: &Moment, most: u64) -> Vec<(&'static str, u64, u64)> {
    let mut y = most;
    let parts = [("error", moment.errors), ("old", moment.old), ("both", moment.both), ("new", moment.new)];
    let drawn = parts.into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| {
        y -= count;
        (kind, count, y)
    });
    drawn.collect()
}

use maud::{Markup, html};

use super::scale::{CLASSES, RIGHT, Scale, WIDTH, counted, percent, plain};
use crate::report::graph::share;
use crate::report::versions::Compared;

const HEIGHT: f64 = 132.0;
/// The left edge: there are no numbers on the left.
const EDGE: f64 = 8.0;
/// The bottom line.
const BASE: f64 = 112.0;
/// The first row and the distance to the next one.
const ROWS: [f64; 2] = [46.0, 40.0];

/// The shares of errors of both versions, with their intervals.
pub(super) fn errors(seen: &Compared) -> Markup {
    let [_, baseline] = &seen.versions;
    let limit = seen.factor * share(baseline.bad, baseline.answers);
    let most = seen.versions.iter().map(|own| own.interval[1]).fold(limit, f64::max);
    let x = Scale { from: 0.0, to: (most * 1.1).min(1.0), positions: [EDGE, RIGHT] };
    let told: Vec<String> = seen.versions.iter().map(counted).collect();
    let told = told.join("; ");
    let (factor, versus) = (seen.factor, &baseline.version);
    let anchor = if x.at(limit) > f64::midpoint(EDGE, RIGHT) { "end" } else { "start" };
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("shares of errors: {told}")) {
                line class="axis" x1=(EDGE) x2=(RIGHT) y1=(BASE) y2=(BASE) {}
                line class="fails" x1=(format!("{:.1}", x.at(limit))) x2=(format!("{:.1}", x.at(limit))) y1="18" y2=(BASE) {}
                text class="small" x=(format!("{:.1}", x.at(limit))) y="13" text-anchor=(anchor) { (factor) " × " (versus) "'s share" }
                @for ((own, class), row) in seen.versions.iter().zip(CLASSES).zip([ROWS[0], ROWS[0] + ROWS[1]]) {
                    @let [low, high] = own.interval.map(|end| x.at(end));
                    @let middle = x.at(share(own.bad, own.answers));
                    text class="small" x=(EDGE) y=(row - 10.0) { (own.version) " " (percent(share(own.bad, own.answers))) }
                    line class={ "curve " (class) } x1=(format!("{low:.1}")) x2=(format!("{high:.1}")) y1=(row) y2=(row) {}
                    @for end in [low, high] {
                        line class={ "end " (class) } x1=(format!("{end:.1}")) x2=(format!("{end:.1}")) y1=(row - 5.0) y2=(row + 5.0) {}
                    }
                    circle class={ "dot " (class) } cx=(format!("{middle:.1}")) cy=(row) r="4" {}
                }
                text class="dim small" x=(EDGE) y=(HEIGHT - 5.0) { "0 %" }
                text class="dim small" x=(RIGHT) y=(HEIGHT - 5.0) text-anchor="end" { (percent(x.to)) }
            }
            figcaption {
                "Errors: " (told) ". The lines are intervals that are valid at any time, with a confidence of " (plain(seen.confidence))
                " each; dashed: " (factor) " times the share of " (versus) "."
            }
        }
    }
}

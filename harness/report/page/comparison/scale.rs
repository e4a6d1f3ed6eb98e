use maud::{Markup, html};

use crate::report::versions::{Compared, VersionSeen};
use crate::report::words::short;

/// The width fits the window of a phone: text is not scaled down there.
pub(super) const WIDTH: f64 = 300.0;
pub(super) const LEFT: f64 = 42.0;
pub(super) const RIGHT: f64 = WIDTH - 6.0;

/// Maps a range of numbers to a range of positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub from: f64,
    pub to: f64,
    pub positions: [f64; 2],
}

impl Scale {
    /// The position of a number, within the positions of the range.
    pub fn at(self, number: f64) -> f64 {
        let [first, last] = self.positions;
        let part = (number - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE);
        first + (last - first) * part.clamp(0.0, 1.0)
    }
}

/// The points of a polyline or polygon.
pub(super) fn line(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// The classes of the canary and of the baseline.
pub(super) const CLASSES: [&str; 2] = ["canary", "baseline"];

/// The key of the two versions, in the first line of a plot.
pub(super) fn key(seen: &Compared) -> Markup {
    const LONGEST: usize = 12;
    let half = f64::midpoint(LEFT, RIGHT);
    html! {
        @for ((own, class), left) in seen.versions.iter().zip(CLASSES).zip([LEFT, half]) {
            line class={ "curve " (class) } x1=(left) x2=(left + 22.0) y1="9" y2="9" {}
            text class="small" x=(left + 27.0) y="13" { (short(&own.version, LONGEST)) }
        }
    }
}

/// `10.2 %`, `0.98 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 { format!("{percent:.1} %") } else { format!("{percent:.2} %") }
}

/// `v2 210 of 2100 (10.0 %, 8.10 % to 12.3 %)`.
pub(super) fn counted(own: &VersionSeen) -> String {
    let VersionSeen { version, answers, bad, interval: [low, high], .. } = own;
    let share = percent(crate::report::graph::share(*bad, *answers));
    format!("{version} {bad} of {answers} ({share}, {} to {})", percent(*low), percent(*high))
}

/// A share as the scenario has it: `95 %`, `99.99 %`.
pub(super) fn plain(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_a_range_are_at_its_ends() {
        let scale = Scale { from: 1.0, to: 3.0, positions: [100.0, 0.0] };
        let positions = |scale: Scale, numbers: &[f64]| line(numbers.iter().map(|number| (*number, scale.at(*number))));
        assert_eq!(positions(scale, &[0.0, 1.0, 2.0, 3.0, 9.0]), "0.0,100.0 1.0,100.0 2.0,50.0 3.0,0.0 9.0,0.0");
        let empty = Scale { to: 1.0, ..scale };
        assert_eq!(positions(empty, &[1.0, 2.0]), "1.0,100.0 2.0,0.0");
    }
}

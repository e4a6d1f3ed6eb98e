use std::time::Duration;

use crate::events::Calibration;
use crate::report::marks::Marks;
use crate::report::words::{chance, seconds};
use crate::verdict::{CALIBRATION_ALARM, FOUND, Power, TestResult};

/// The results of a calibration, line by line.
pub(super) fn lines(calibration: &Calibration, took: Duration, marks: Marks) -> Vec<String> {
    let Calibration { from, version, claimed, samples, requests, findings, .. } = calibration;
    let mut lines = vec![format!(
        "{samples} samples of {from}, {requests} requests each ({}): {version} served {:.2} % (claimed {claimed})",
        seconds(took),
        calibration.share * 100.0,
    )];
    let tests = [
        (findings.mean, "mean of all samples is the claimed share".to_owned()),
        (findings.spread, "variance of the samples is that of independent requests".to_owned()),
        (
            findings.blocks,
            format!(
                "variance of blocks of 2 to 100 answers is that of independent requests; smallest p-value at blocks of {}",
                findings.block
            ),
        ),
        (
            findings.order,
            format!(
                "order of sending has no effect: {:+.1} standard deviations from the expected number of runs",
                findings.excess_runs
            ),
        ),
        (findings.connections, "connections all have the claimed share".to_owned()),
    ];
    let line = |(test, what): (TestResult, String)| {
        format!("  {} {what} (p = {})", marks.verdict(test.passes()), chance(test.chance))
    };
    lines.extend(tests.map(line));
    lines.push(format!(
        "  {} verdicts: {} accepted, {} rejected (at most {} allowed); decided after {:.0} requests on average and {:.2} s of traffic in the \
         median",
        marks.verdict(findings.verdicts_pass()),
        calibration.accepted,
        calibration.refused,
        findings.refusable,
        calibration.mean,
        calibration.decided.as_secs_f64(),
    ));
    let detectable = power(&calibration.power);
    if !detectable.is_empty() {
        lines.push(format!("  these tests detect with a power of at least {:.0} %:", FOUND * 100.0));
        lines.extend(detectable.into_iter().map(|what| format!("    {what}")));
    }
    lines.push(if findings.independent() {
        format!("  no evidence against independent routing (type I error {})", chance(CALIBRATION_ALARM))
    } else {
        "  requests are not routed independently with the claimed share: verdicts on shares are not valid for this route"
            .to_owned()
    });
    lines
}

/// The deviations that a calibration would have detected, a line each.
fn power(power: &Power) -> Vec<String> {
    let points = |size: f64| format!("{:.1} points", size * 100.0);
    let percent = |size: f64| format!("{:.1} %", size * 100.0);
    let named = [
        power.shift.map(|size| format!("a share that differs by {}", points(size))),
        power
            .movement
            .map(|size| format!("a share that varies between samples with a standard deviation of {}", points(size))),
        power.swing.map(|size| format!("a share that varies within a sample by ± {}", points(size))),
        power.repeats.map(|size| format!("answers that repeat the previous one with probability {}", percent(size))),
        power
            .repeats_of_eighth
            .map(|size| format!("answers that repeat the eighth previous one with probability {}", percent(size))),
    ];
    named.into_iter().flatten().collect()
}

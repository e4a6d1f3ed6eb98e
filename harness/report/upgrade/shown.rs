use std::collections::BTreeMap;
use std::io::{self, Write};

use super::model::{Difference, UpgradeReport};
use crate::report::marks::Marks;
use crate::report::words::{plural, short};

/// The width of a column: a word of a heading a line, so that the table of all modes fits 80 columns.
const COLUMN: usize = 8;
/// The number of values of a sidecar's configuration that are listed.
const LISTED: usize = 5;
/// The number of characters of a value or an answer.
const LONG: usize = 61;

/// Writes the table of results, the differences and the causes of an upgrade test.
///
/// # Errors
/// The output is closed.
pub fn matrix(out: &mut impl Write, report: &UpgradeReport, marks: Marks) -> io::Result<()> {
    let UpgradeReport { scenario, software, from, to, at, .. } = report;
    // fresh runs change nothing in the middle
    let at = report.rows.iter().any(|row| row.is_change).then(|| format!(", upgraded at stage `{at}`"));
    writeln!(out, "\n{scenario}: {software} {from} → {to}{}; claims that hold:\n", at.unwrap_or_default())?;
    let names: Vec<String> = report
        .rows
        .iter()
        .map(|row| if row.is_change { format!("   · {}", row.name) } else { format!("{:>2} {}", row.stage, row.name) })
        .collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let lines = report.walks.iter().map(|walk| walk.name.split(' ').count()).max().unwrap_or(0);
    for line in 0..lines {
        write!(out, " {:<width$}", "")?;
        for walk in &report.walks {
            write!(out, " {:>COLUMN$}", walk.name.split(' ').nth(line).unwrap_or_default())?;
        }
        writeln!(out)?;
    }
    for (index, name) in names.iter().enumerate() {
        write!(out, " {name:<width$}")?;
        for walk in &report.walks {
            let (text, holds) = match &walk.cells[index] {
                Some(cell) if cell.held == cell.of => (format!("{}/{}", cell.held, cell.of), true),
                Some(cell) => (format!("✗ {}/{}", cell.held, cell.of), false),
                None => ("–".to_owned(), true),
            };
            let text = format!("{text:>COLUMN$}");
            write!(out, " {}", if holds { text } else { marks.bad(&text) })?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    changes(out, report)?;
    failures(out, report, marks)?;
    known(out, &report.differences)?;
    new(out, &report.differences, marks)?;
    for left in &report.left_out {
        writeln!(out, "skipped {}: Istio does not support {}; --allow-skew runs it", left.mode, left.because)?;
    }
    Ok(())
}

/// The traffic during the changes of the mesh.
fn changes(out: &mut impl Write, report: &UpgradeReport) -> io::Result<()> {
    for (walk, row, change) in report.changes() {
        let failed: u64 = change.errors.values().sum();
        let kinds = change.errors.iter().map(|(answer, count)| format!("{count} × {}", short(answer, LONG)));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let kinds = if kinds.is_empty() { kinds } else { format!(" ({kinds})") };
        let (requests, rate, gap) = (change.requests, change.rate, change.gap * 1e3);
        let seen = format!("{failed} of {requests} requests failed{kinds} at {rate:.0}/s, longest gap {gap:.0} ms");
        writeln!(out, "{}, {}: {seen}", walk.name, row.name)?;
    }
    Ok(())
}

fn failures(out: &mut impl Write, report: &UpgradeReport, marks: Marks) -> io::Result<()> {
    for (walk, row, cell) in report.cells() {
        for failed in &cell.failed {
            writeln!(out, "{} {}, {}: {failed}", marks.bad("✗"), walk.name, row.name)?;
        }
    }
    for walk in &report.walks {
        if let Some(broke) = &walk.broke {
            writeln!(out, "{} {} ended early: {broke}", marks.bad("✗"), walk.name)?;
        }
    }
    for cleared in &report.causes {
        writeln!(out, "cause of the failure at `{}`: {}", cleared.stage, cleared.cause)?;
        for suspect in &cleared.suspects {
            writeln!(out, "  {suspect}")?;
        }
    }
    Ok(())
}

fn known(out: &mut impl Write, differences: &[Difference]) -> io::Result<()> {
    let mut known: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
    for difference in differences.iter().filter(|difference| difference.walk.is_none()) {
        if let Some(change) = &difference.known {
            known.entry(&change.id).or_default().push(difference);
        }
    }
    for (id, all) in known {
        let Some(change) = &all[0].known else { continue };
        writeln!(out, "known change since {}: {id}: {}", change.since, change.what)?;
        let mut listed: Vec<String> = Vec::new();
        for difference in all.iter().filter(|difference| difference.behaviour) {
            let text = format!("{}: {} → {}", difference.what, difference.before, difference.after);
            if !listed.contains(&text) {
                writeln!(out, "  {text} (at `{}`{})", difference.stage, more(&all, difference))?;
                listed.push(text);
            }
        }
        let values = all.iter().filter(|difference| !difference.behaviour).count();
        if values > 0 {
            writeln!(out, "  {} in the sidecar's configuration", plural(values, "value"))?;
        }
    }
    Ok(())
}

/// The number of further stages with the same difference.
fn more(all: &[&Difference], one: &Difference) -> String {
    let same =
        |other: &&&Difference| (&other.what, &other.before, &other.after) == (&one.what, &one.before, &one.after);
    match all.iter().filter(same).count() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    }
}

fn new(out: &mut impl Write, differences: &[Difference], marks: Marks) -> io::Result<()> {
    for difference in differences.iter().filter(|difference| difference.behaviour && difference.known.is_none()) {
        let walk = difference.walk.as_ref().map(|walk| format!("{walk}, ")).unwrap_or_default();
        let (what, before, after) = (&difference.what, &difference.before, &difference.after);
        writeln!(out, "{} {walk}{}: {what}: {before} → {after}", marks.bad("new:"), difference.stage)?;
    }
    let mut values: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for difference in differences.iter().filter(|difference| !difference.behaviour && difference.known.is_none()) {
        *values.entry((&difference.what, &difference.before, &difference.after)).or_default() += 1;
    }
    if values.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "{} in the sidecar's configuration changed without an effect on behaviour (all are in upgrade.json), such as:",
        plural(values.len(), "value")
    )?;
    for ((what, before, after), _) in values.into_iter().take(LISTED) {
        writeln!(out, "  {what}: {} → {}", short(before, LONG), short(after, LONG))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::model::{Outcome, Tool};
    use crate::report::upgrade::{Cell, Change, Cleared, LeftOut, RowName, UPGRADE_SCHEMA_VERSION, Walk};
    use crate::upgrade::known_changes;

    fn cell(held: usize, failed: &[&str], change: Option<Change>) -> Cell {
        let failed: Vec<String> = failed.iter().map(|text| (*text).to_owned()).collect();
        Cell { held, of: held + failed.len(), failed, change, converged: Some(0.1), took: 2.0 }
    }

    fn walk(name: &str, cells: Vec<Option<Cell>>) -> Walk {
        let holds = cells.iter().flatten().all(|cell| cell.held == cell.of);
        Walk { name: name.to_owned(), folder: name.replace(' ', "-"), holds, broke: None, cells }
    }

    fn difference(stage: &str, what: &str, before: &str, after: &str, known: Option<&str>) -> Difference {
        let known = known.and_then(|id| known_changes().iter().find(|known| known.id == id));
        let behaviour = !what.contains('/');
        let text = str::to_owned;
        Difference {
            walk: None,
            stage: text(stage),
            what: text(what),
            before: text(before),
            after: text(after),
            behaviour,
            known,
        }
    }

    fn report() -> UpgradeReport {
        let row = |stage: usize, name: &str, is_change: bool| RowName { stage, name: name.to_owned(), is_change };
        let errors = BTreeMap::from([(
            "503 `upstream connect error or disconnect/reset before headers. reset reason: <b>`".to_owned(),
            3,
        )]);
        let change = Change { requests: 9080, rate: 1199.6, errors, gap: 0.112, answers: BTreeMap::new() };
        let retries = Some("retries on 503");
        UpgradeReport {
            schema_version: UPGRADE_SCHEMA_VERSION,
            tool: Tool { name: "shiftcheck".to_owned(), version: "0.1.0".to_owned() },
            started: "2026-01-01T00:00:00Z".to_owned(),
            took: 300.0,
            result: Outcome::Failed,
            sentence: "not safe for this rollout: 4 of 5 claims hold in 2 modes; 1 known change: retries on 503"
                .to_owned(),
            reproduce: "shiftcheck upgrade".to_owned(),
            scenario: "canary".to_owned(),
            software: "Istio".to_owned(),
            from: "1.22".to_owned(),
            to: "1.31".to_owned(),
            at: "testers' canary".to_owned(),
            rows: vec![row(4, "testers' canary", false), row(4, "control plane changed", true), row(5, "fault", false)],
            walks: vec![
                walk("fresh 1.22", vec![Some(cell(3, &[], None)), None, Some(cell(2, &[], None))]),
                walk(
                    "fresh 1.31",
                    vec![
                        Some(cell(2, &["testers: v1 50 %, v2 50 % — v1 served 100.0 % of 84 requests"], None)),
                        None,
                        Some(cell(2, &[], None)),
                    ],
                ),
                walk("in place", vec![Some(cell(3, &[], None)), Some(cell(3, &[], Some(change))), None]),
            ],
            left_out: vec![LeftOut {
                mode: "roll-back".to_owned(),
                because: "control plane 1.22 with newer sidecars 1.31".to_owned(),
            }],
            differences: vec![
                difference("fault", "requests to servers for each client request", "3.0", "1.0", retries),
                difference(
                    "fault",
                    "route/routes/0/route/retry_policy/retriable_status_codes",
                    "503",
                    "not set",
                    retries,
                ),
                difference("testers' canary", "share of v2 with 200 to testers", "291 of 594", "0 of 241", None),
                difference("testers' canary", "listener/proxy_100_continue", "not set", "true", None),
            ],
            causes: vec![Cleared {
                stage: "testers' canary".to_owned(),
                claims: vec!["testers".to_owned()],
                cause: "no flag; the client's sidecar has route 1: any request to subset v1".to_owned(),
                suspects: vec![
                    "EnvoyFilter/first-route (envoy-filter.yaml:8:7) acts on sidecars of version ^1\\.31.*".to_owned(),
                ],
            }],
        }
    }

    #[test]
    fn an_upgrade_is_a_table_with_causes_and_differences() {
        let mut out = Vec::new();
        matrix(&mut out, &report(), Marks { colour: false }).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }

    #[test]
    fn the_page_has_the_same_results_and_escapes_answers() {
        let page = report().html();
        for part in [
            "not safe for this rollout",
            "known since 1.24",
            "✗ 2 of 3",
            "roll-back",
            "acts on sidecars",
            "fresh-1.31/report.html",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<b>") && !page.contains("<script"));
    }
}

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::model::{Cell, Difference, UpgradeReport};
use crate::report::terminal::plural;
use crate::report::verified::Marks;

/// How many values of a sidecar's configuration are told one by one.
const TOLD: usize = 5;

/// Writes the table of an upgrade, its differences and the sentence that sums it up.
///
/// # Errors
/// The output is closed.
pub fn matrix(out: &mut impl Write, report: &UpgradeReport, marks: Marks) -> io::Result<()> {
    writeln!(
        out,
        "\n{}: Istio {} → {}, changed at `{}`; claims that hold\n",
        report.scenario, report.from, report.to, report.at
    )?;
    let names: Vec<String> = report
        .rows
        .iter()
        .map(|row| if row.is_change { format!("   · {}", row.name) } else { format!("{:>2} {}", row.stage, row.name) })
        .collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    write!(out, " {:<width$}", "")?;
    for walk in &report.walks {
        write!(out, "  {:>11}", walk.name)?;
    }
    writeln!(out)?;
    for (index, name) in names.iter().enumerate() {
        write!(out, " {name:<width$}")?;
        for walk in &report.walks {
            let (text, holds) = match &walk.cells[index] {
                Some(cell) => (format!("{} of {}", cell.held, cell.of), cell.held == cell.of),
                None => ("–".to_owned(), true),
            };
            let text = if holds { text } else { format!("✗ {text}") };
            let padding = " ".repeat(13_usize.saturating_sub(text.chars().count()));
            write!(out, "{padding}{}", if holds { text } else { marks.bad(&text) })?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    changes(out, report)?;
    failures(out, report, marks)?;
    known(out, &report.differences)?;
    new(out, &report.differences, marks)?;
    for left in &report.left_out {
        writeln!(out, "left out: {}, which puts {}; --allow-skew walks it", left.mode, left.because)?;
    }
    Ok(())
}

/// What the traffic saw while the mesh was changed.
fn changes(out: &mut impl Write, report: &UpgradeReport) -> io::Result<()> {
    for walk in &report.walks {
        for (row, cell) in report.rows.iter().zip(&walk.cells) {
            let Some(Cell { change: Some(change), .. }) = cell else { continue };
            let failed: u64 = change.errors.values().sum();
            let errors = match failed {
                0 => "no error".to_owned(),
                _ => {
                    let kinds: Vec<String> =
                        change.errors.iter().map(|(answer, count)| format!("{count} {answer}")).collect();
                    format!("{} ({})", plural(usize::try_from(failed).unwrap_or(usize::MAX), "error"), kinds.join(", "))
                }
            };
            let (requests, gap) = (change.requests, change.gap * 1e3);
            writeln!(out, "{}, {}: {errors} in {requests} requests, longest gap {gap:.0} ms", walk.name, row.name)?;
        }
    }
    Ok(())
}

fn failures(out: &mut impl Write, report: &UpgradeReport, marks: Marks) -> io::Result<()> {
    for walk in &report.walks {
        for (row, cell) in report.rows.iter().zip(&walk.cells) {
            for failed in cell.iter().flat_map(|cell| &cell.failed) {
                writeln!(out, "{} {}, {}: {failed}", marks.bad("✗"), walk.name, row.name)?;
            }
        }
        if let Some(broke) = &walk.broke {
            writeln!(out, "{} {} broke off: {broke}", marks.bad("✗"), walk.name)?;
        }
    }
    for own in &report.causes {
        writeln!(out, "cause of the failure at `{}`: {}", own.stage, own.cause)?;
        for suspect in &own.suspects {
            writeln!(out, "  {suspect}")?;
        }
    }
    Ok(())
}

fn known(out: &mut impl Write, differences: &[Difference]) -> io::Result<()> {
    let mut known: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
    for own in differences.iter().filter(|own| own.walk.is_none()) {
        if let Some(change) = &own.known {
            known.entry(&change.id).or_default().push(own);
        }
    }
    for (id, all) in known {
        let Some(change) = &all[0].known else { continue };
        writeln!(out, "known, since {}: {id}: {}", change.since, change.what)?;
        let mut told: Vec<String> = Vec::new();
        for own in all.iter().filter(|own| own.behaviour) {
            let text = format!("{}: {} → {}", own.what, own.before, own.after);
            if !told.contains(&text) {
                writeln!(out, "  {text} (at `{}`{})", own.stage, more(&all, own))?;
                told.push(text);
            }
        }
        let values = all.iter().filter(|own| !own.behaviour).count();
        if values > 0 {
            writeln!(out, "  {} of the sidecar's configuration", plural(values, "value"))?;
        }
    }
    Ok(())
}

/// At how many further stages the same was seen.
fn more(all: &[&Difference], one: &Difference) -> String {
    let same = |own: &&&Difference| (&own.what, &own.before, &own.after) == (&one.what, &one.before, &one.after);
    match all.iter().filter(same).count() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    }
}

fn new(out: &mut impl Write, differences: &[Difference], marks: Marks) -> io::Result<()> {
    for own in differences.iter().filter(|own| own.behaviour && own.known.is_none()) {
        let walk = own.walk.as_ref().map(|walk| format!("{walk}, ")).unwrap_or_default();
        let (what, before, after) = (&own.what, &own.before, &own.after);
        writeln!(out, "{} {walk}{}: {what}: {before} → {after}", marks.bad("new:"), own.stage)?;
    }
    let mut values: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for own in differences.iter().filter(|own| !own.behaviour && own.known.is_none()) {
        *values.entry((&own.what, &own.before, &own.after)).or_default() += 1;
    }
    if values.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "the client's sidecar is told {} otherwise that no behaviour shows; upgrade.json has all, such as",
        plural(values.len(), "value")
    )?;
    for ((what, before, after), _) in values.into_iter().take(TOLD) {
        writeln!(out, "  {what}: {} → {}", short(before), short(after))?;
    }
    Ok(())
}

fn short(text: &str) -> String {
    const LONG: usize = 60;
    if text.chars().count() <= LONG {
        return text.to_owned();
    }
    text.chars().take(LONG).chain(['…']).collect()
}

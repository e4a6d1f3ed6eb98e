use std::fmt;
use std::io::{self, Write};

use super::model::{Claim, Outcome, Report, Stage};
use super::terminal::plural;
use crate::verdict::two_sided_chance;

/// The chance of a difference by chance alone below which it is told.
const CHANCE: f64 = 1e-3;
/// Convergence differs where it takes so many times as long, and longer by [`NOTABLE`] at the least.
const TIMES: f64 = 2.0;
/// Seconds.
const NOTABLE: f64 = 0.5;

/// Something that two reports differ in.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The stage; none where the difference is one of the whole runs.
    pub stage: Option<String>,
    /// What it is about: a claim, the convergence, the change.
    pub what: String,
    /// In the first report.
    pub before: String,
    /// In the second report.
    pub after: String,
    /// Whether something that held does not hold any more.
    pub worse: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.worse { "✗" } else { "~" };
        let stage = self.stage.as_ref().map(|stage| format!("{stage}, ")).unwrap_or_default();
        write!(formatter, "{mark} {stage}{}: {} → {}", self.what, self.before, self.after)
    }
}

/// What changed between two reports: versions, verdicts, shares beyond chance, convergence, errors while stages were applied.
///
/// A share differs where the intervals of both reports do not overlap. Each holds at any stopping time with a confidence of 1 − β. Errors differ
/// where their numbers would with a chance of less than 10⁻³ if both runs erred at one rate (the conditional binomial test).
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut differs = |what: &str, before: &str, after: &str| {
        if before != after {
            all.push(Difference {
                stage: None,
                what: what.to_owned(),
                before: before.to_owned(),
                after: after.to_owned(),
                worse: false,
            });
        }
    };
    let known = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    let (old, new) = (&before.environment, &after.environment);
    differs("scenario", &before.scenario.name, &after.scenario.name);
    differs("Kubernetes", &known(&old.kubernetes), &known(&new.kubernetes));
    differs("Istio", &known(&old.istio), &known(&new.istio));
    differs("Envoy", &known(&old.envoy), &known(&new.envoy));
    for file in &after.scenario.files {
        let same = |other: &&super::model::SourceFile| other.path == file.path;
        if let Some(other) = before.scenario.files.iter().find(same) {
            differs(&file.path, &other.sha256[..12.min(other.sha256.len())], &file.sha256[..12.min(file.sha256.len())]);
        }
    }
    for stage in &before.stages {
        match after.stages.iter().find(|other| other.name == stage.name) {
            Some(other) => all.extend(stages(stage, other)),
            None => all.push(Difference {
                stage: Some(stage.name.clone()),
                what: "stage".to_owned(),
                before: ended(stage).to_owned(),
                after: "not walked".to_owned(),
                worse: stage.result == Some(Outcome::Passed),
            }),
        }
    }
    for stage in after.stages.iter().filter(|stage| !before.stages.iter().any(|other| other.name == stage.name)) {
        all.push(Difference {
            stage: Some(stage.name.clone()),
            what: "stage".to_owned(),
            before: "not walked".to_owned(),
            after: ended(stage).to_owned(),
            worse: false,
        });
    }
    all
}

fn ended(stage: &Stage) -> &'static str {
    stage.result.map_or("not finished", Outcome::words)
}

fn stages(before: &Stage, after: &Stage) -> Vec<Difference> {
    let mut all = Vec::new();
    let stage = Some(format!("{} {}", after.number, after.name));
    let difference = |what: String, before: String, after: String, worse: bool| Difference {
        stage: stage.clone(),
        what,
        before,
        after,
        worse,
    };
    for claim in &before.claims {
        let same = |other: &&Claim| other.subject == claim.subject && other.path == claim.path;
        let Some(other) = after.claims.iter().find(same) else {
            all.push(difference(claim.subject.clone(), claim.claim.clone(), "not claimed".to_owned(), false));
            continue;
        };
        if claim.claim != other.claim {
            all.push(difference(
                format!("{}, claimed", claim.subject),
                claim.claim.clone(),
                other.claim.clone(),
                false,
            ));
        }
        if claim.result != other.result {
            let after = if other.result == Outcome::Passed {
                other.result.words().to_owned()
            } else {
                format!("{} ({})", other.result.words(), other.reason)
            };
            let worse = claim.result == Outcome::Passed;
            all.push(difference(claim.subject.clone(), claim.result.words().to_owned(), after, worse));
        }
        for share in &claim.shares {
            let Some(now) = other.shares.iter().find(|now| now.part == share.part) else { continue };
            let apart = share.interval[1] < now.interval[0] || now.interval[1] < share.interval[0];
            if apart {
                let shown = |[low, high]: [f64; 2]| format!("{:.1} to {:.1} %", low * 100.0, high * 100.0);
                let what = format!("{}, share of {}", claim.subject, share.part);
                all.push(difference(what, shown(share.interval), shown(now.interval), false));
            }
        }
    }
    for claim in &after.claims {
        if !before.claims.iter().any(|other| other.subject == claim.subject && other.path == claim.path) {
            all.push(difference(claim.subject.clone(), "not claimed".to_owned(), claim.claim.clone(), false));
        }
    }
    if let (Some(old), Some(new)) = (before.converged, after.converged)
        && (old.max(new) > TIMES * old.min(new) && (old - new).abs() > NOTABLE)
    {
        let shown = |seconds: f64| format!("{seconds:.2} s");
        all.push(difference("convergence".to_owned(), shown(old), shown(new), false));
    }
    if let (Some(old), Some(new)) = (&before.transition, &after.transition) {
        let failed = |own: &super::model::Transition| own.errors.values().sum::<u64>();
        let (was, is) = (failed(old), failed(new));
        let part = super::graph::share(old.requests, old.requests + new.requests);
        if was + is > 0 && part > 0.0 && part < 1.0 && two_sided_chance(was + is, was, part) < CHANCE {
            let shown = |errors: u64, all: u64| {
                format!(
                    "{} in {}",
                    plural(errors.try_into().unwrap_or(usize::MAX), "error"),
                    plural(all.try_into().unwrap_or(usize::MAX), "request")
                )
            };
            let worse = super::graph::share(is, new.requests) > super::graph::share(was, old.requests);
            all.push(difference(
                "during the change".to_owned(),
                shown(was, old.requests),
                shown(is, new.requests),
                worse,
            ));
        }
    }
    all
}

/// Writes what two reports differ in.
///
/// # Errors
/// The output is closed.
pub fn compared(out: &mut impl Write, differences: &[Difference]) -> io::Result<()> {
    if differences.is_empty() {
        return writeln!(out, "the two reports say the same, but for chance");
    }
    for difference in differences {
        writeln!(out, "{difference}")?;
    }
    let worse = differences.iter().filter(|difference| difference.worse).count();
    writeln!(out, "{}, {worse} for the worse", plural(differences.len(), "difference"))
}

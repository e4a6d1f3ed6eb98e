use std::io::{self, Write};

use crate::plan::Given;
use crate::routing::{NotModelled, Problem, RuleRef, Severity};
use crate::scenario::{Count, Expectation, Scenario};
use crate::verify::{
    Decided, Gap, GivenChange, MUTATION_OPERATORS, Mutant, MutantStatus, VerifiedClaim, VerifiedStage,
};

use super::marks::Marks;
use super::words::plural;

/// Writes for each claim whether it holds according to the manifests; with `quiet`, only for those that fail.
///
/// # Errors
/// The output is closed.
pub fn verified(
    out: &mut impl Write,
    marks: Marks,
    quiet: bool,
    scenario: &Scenario,
    stages: &[VerifiedStage<'_>],
    problems: &[Problem],
) -> io::Result<()> {
    if !quiet {
        let stages = plural(stages.len(), "stage");
        writeln!(out, "{}: {stages}, checked against the manifests without a cluster", scenario.name)?;
    }
    for problem in problems {
        let word = match problem.severity {
            Severity::Error => marks.bad("error"),
            Severity::Warning => "warning".to_owned(),
        };
        writeln!(out, "  {word}: {problem}")?;
    }
    for stage in stages {
        let failed = stage.claims.iter().any(|claim| matches!(claim.decided, Decided::Fails(_)));
        let undecided = stage.claims.iter().any(|claim| !claim.decided.not_modelled().is_empty());
        if quiet && !failed && !undecided {
            continue;
        }
        let (number, name) = (format!("{}/{}", stage.number, stages.len()), stage.name);
        match (failed, undecided) {
            _ if stage.claims.is_empty() => writeln!(out, "-- {number} {name}: not judged")?,
            (true, _) => writeln!(out, "{} {number} {name}", marks.bad("FAIL"))?,
            (false, true) => writeln!(out, "{} {number} {name}", marks.unsure("undecided"))?,
            (false, false) => writeln!(out, "{} {number} {name}", marks.good("ok"))?,
        }
        let is_shown = |claim: &Decided| !quiet || matches!(claim, Decided::Fails(_) | Decided::Undecided(_));
        for claim in stage.claims.iter().filter(|claim| is_shown(&claim.decided)) {
            one_claim(out, marks, claim)?;
        }
        let named: Vec<&NotModelled> = stage.claims.iter().flat_map(|claim| claim.decided.not_modelled()).collect();
        for note in stage.not_modelled.iter().filter(|note| !quiet && !named.contains(note)) {
            writeln!(out, "     {}: not modelled: {}; no claim of this stage depends on it", note.origin, note.field)?;
        }
    }
    let all: Vec<&VerifiedClaim<'_>> = stages.iter().flat_map(|stage| &stage.claims).collect();
    let failed = all.iter().filter(|claim| matches!(claim.decided, Decided::Fails(_))).count();
    let undecided = all.iter().filter(|claim| !claim.decided.not_modelled().is_empty()).count();
    let open = all.iter().filter(|claim| matches!(claim.decided, Decided::Open(_))).count();
    let claims = plural(all.len(), "claim");
    let open = match (undecided, open) {
        (0, 0) => String::new(),
        (0, open) => format!(", {open} for a run to decide"),
        (undecided, 0) => format!(", {undecided} undecided"),
        (undecided, open) => format!(", {undecided} undecided, {open} for a run to decide"),
    };
    if !quiet {
        writeln!(out)?;
    }
    match (failed, open.is_empty()) {
        (0, true) => writeln!(out, "every claim holds according to the manifests ({claims})"),
        (0, false) => writeln!(out, "no claim fails according to the manifests ({claims}{open})"),
        (failed, _) => writeln!(out, "{failed} of {claims} fail according to the manifests{open}"),
    }
}

fn one_claim(out: &mut impl Write, marks: Marks, claim: &VerifiedClaim<'_>) -> io::Result<()> {
    let mark = match claim.decided {
        Decided::Holds => "  ".to_owned(),
        Decided::Fails(_) => marks.bad("✗ "),
        Decided::Undecided(_) => marks.unsure("? "),
        Decided::Open(_) => "? ".to_owned(),
    };
    let given = given(claim);
    let given = if matches!(claim.decided, Decided::Undecided(_)) { marks.unsure(&given) } else { given };
    writeln!(out, "   {mark}{} — {given}", claim.expectation)?;
    explanation(claim).iter().try_for_each(|line| writeln!(out, "       {line}"))
}

/// What the manifests give for a claim.
pub(super) fn given(claim: &VerifiedClaim<'_>) -> String {
    match (&claim.decided, claim.expectation) {
        (Decided::Open(why), _) => why.clone(),
        (Decided::Undecided(_), _) => "undecided".to_owned(),
        (_, Expectation::Claim(_) | Expectation::Sessions(_)) => {
            format!("the manifests give {} {}", claim.given, by(&claim.given.rules))
        }
        (Decided::Holds, Expectation::Served { requests: Count::Exactly(_), .. })
        | (Decided::Fails(_), Expectation::Served { requests: Count::Some, .. }) => {
            "no route to the workload".to_owned()
        }
        (Decided::Holds, Expectation::Served { .. }) => "a route to the workload".to_owned(),
        (Decided::Holds, Expectation::Weights { .. }) => "so says the route after these steps".to_owned(),
        (Decided::Fails(mismatches), Expectation::Weights { .. }) => {
            mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        (Decided::Holds, _) => "no objects left".to_owned(),
        (Decided::Fails(mismatches), _) => {
            mismatches.iter().map(|mismatch| mismatch.measure.to_string()).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Why a claim does not hold and where it is claimed, line by line. Empty for a claim that holds.
pub(super) fn explanation(claim: &VerifiedClaim<'_>) -> Vec<String> {
    let notes = claim.decided.not_modelled().iter();
    let notes =
        notes.map(|note| format!("{}: {} can affect these requests and is not modelled", note.origin, note.field));
    let mut lines: Vec<String> = notes.collect();
    let Decided::Fails(mismatches) = &claim.decided else { return lines };
    if matches!(claim.expectation, Expectation::Claim(_)) {
        let mismatches: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
        lines.push(format!("mismatch: {}", mismatches.join("; ")));
    }
    lines.extend(claim.findings.iter().map(|finding| format!("because {finding}")));
    lines.push(format!("claimed in {}", claim.expectation.origin()));
    lines
}

/// Writes the mutation report: a table by mutation operator, the mutants that survived with the claims that would kill them, and the
/// equivalent mutants; with `quiet`, only the survivors and the sums.
///
/// # Errors
/// The output is closed.
pub fn mutated(
    out: &mut impl Write,
    marks: Marks,
    quiet: bool,
    name: &str,
    evaluated: &[(&Mutant, MutantStatus)],
) -> io::Result<()> {
    let width = MUTATION_OPERATORS.iter().map(|operator| operator.len()).max().unwrap_or(0);
    writeln!(out, "{name}: {}, evaluated by the routing model", plural(evaluated.len(), "mutant"))?;
    writeln!(out, "  {:<width$}  {:>7} {:>10} {:>7} {:>9}", "", "mutants", "equivalent", "killed", "survived")?;
    let row = |out: &mut _, title: &str, all: &[&(&Mutant, MutantStatus)]| {
        let count = |is: fn(&MutantStatus) -> bool| all.iter().filter(|(_, status)| is(status)).count();
        let equivalent = count(|status| matches!(status, MutantStatus::Equivalent));
        let killed = count(|status| matches!(status, MutantStatus::Killed(_)));
        let survived = count(|status| matches!(status, MutantStatus::Survived(_)));
        Write::write_fmt(
            out,
            format_args!("  {title:<width$}  {:>7} {equivalent:>10} {killed:>7} {survived:>9}\n", all.len()),
        )
    };
    for operator in MUTATION_OPERATORS.into_iter().filter(|_| !quiet) {
        let all: Vec<_> = evaluated.iter().filter(|(mutant, _)| mutant.operator == operator).collect();
        if !all.is_empty() {
            row(out, operator, &all)?;
        }
    }
    row(out, "all", &evaluated.iter().collect::<Vec<_>>())?;
    let undecided = evaluated.iter().filter(|(_, status)| *status == MutantStatus::Undecided).count();
    if undecided > 0 {
        let why = "something that is not modelled can affect their claims; `shiftcheck verify` names it";
        writeln!(out, "{} {}: {why}", marks.unsure("undecided"), plural(undecided, "mutant"))?;
    }
    for (mutant, status) in evaluated {
        if let MutantStatus::Survived(Gap { stage, name, claim }) = status {
            writeln!(out, "{} {}: {}", marks.bad("survived"), mutant.operator, mutant.what)?;
            writeln!(out, "    at stage {stage} {name}, this claim would kill it: {claim}")?;
        }
    }
    for (mutant, status) in evaluated.iter().filter(|_| !quiet) {
        if *status == MutantStatus::Equivalent {
            writeln!(out, "equivalent {}: {}", mutant.operator, mutant.what)?;
        }
    }
    Ok(())
}

fn by(rules: &[RuleRef]) -> String {
    if rules.is_empty() {
        return "without a rule".to_owned();
    }
    let rules: Vec<String> = rules.iter().map(|rule| format!("{} ({})", rule.object, rule.origin)).collect();
    format!("by {}", rules.join(" and "))
}

/// Writes the differences in behaviour between two versions of the manifests.
///
/// # Errors
/// The output is closed.
pub fn changed(out: &mut impl Write, against: &str, changes: &[GivenChange]) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "compared with {against}: no change in behaviour");
    }
    writeln!(out, "compared with {against}: {} in behaviour", plural(changes.len(), "change"))?;
    for GivenChange { number, stage, from, path, before, after } in changes {
        let before = before.as_ref().map_or_else(|| "no such stage".to_owned(), shown);
        let path = if path == "/" { String::new() } else { format!(" {path}") };
        writeln!(out, "  ~ {number} {stage}, {from}{path}: {before} → {} {}", shown(after), by(&after.rules))?;
    }
    Ok(())
}

/// What is given, or that it is not known.
pub(super) fn shown(given: &Given) -> String {
    match given.not_modelled.first() {
        None => given.to_string(),
        Some(note) => format!("undecided ({}: {} is not modelled)", note.origin, note.field),
    }
}

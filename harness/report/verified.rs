use std::io::{self, Write};

use crate::routing::{NotModelled, Problem, RuleRef, Severity};
use crate::scenario::{Count, Expectation, Scenario};
use crate::verify::{
    Decided, Gap, Given, GivenChange, MUTATION_OPERATORS, Mutant, MutantStatus, VerifiedClaim, VerifiedStage,
};

use super::terminal::plural;

/// Marks, coloured on a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Whether colours are wanted.
    pub colour: bool,
}

impl Marks {
    fn good(self, text: &str) -> String {
        if self.colour { format!("\x1b[32m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bad(self, text: &str) -> String {
        if self.colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes what the manifests give, stage by stage and claim by claim.
///
/// # Errors
/// The output is closed.
pub fn verified(
    out: &mut impl Write,
    marks: Marks,
    scenario: &Scenario,
    stages: &[VerifiedStage<'_>],
    problems: &[Problem],
) -> io::Result<()> {
    writeln!(out, "{}: {} by the manifests alone, without a cluster", scenario.name, plural(stages.len(), "stage"))?;
    for problem in problems {
        let word = match problem.severity {
            Severity::Error => marks.bad("error"),
            Severity::Warning => "warning".to_owned(),
        };
        writeln!(out, "  {word}: {problem}")?;
    }
    for stage in stages {
        let failed = stage.claims.iter().any(|claim| matches!(claim.decided, Decided::Fails(_)));
        let mark = if failed { marks.bad("FAIL") } else { marks.good("ok") };
        writeln!(out, "{mark} {}/{} {}", stage.number, stages.len(), stage.name)?;
        for claim in &stage.claims {
            one_claim(out, marks, claim)?;
        }
        for NotModelled { origin, field } in &stage.not_modelled {
            writeln!(out, "     {origin}: not modelled: {field}")?;
        }
    }
    let all: Vec<&VerifiedClaim<'_>> = stages.iter().flat_map(|stage| &stage.claims).collect();
    let failed = all.iter().filter(|claim| matches!(claim.decided, Decided::Fails(_))).count();
    let open = all.iter().filter(|claim| matches!(claim.decided, Decided::Open(_))).count();
    let claims = plural(all.len(), "claim");
    let open = if open == 0 { String::new() } else { format!(", {open} not decided") };
    match failed {
        0 => writeln!(out, "\nthe manifests give what is claimed ({claims}{open})"),
        failed => writeln!(out, "\n{failed} of {claims} not given{open}"),
    }
}

fn one_claim(out: &mut impl Write, marks: Marks, claim: &VerifiedClaim<'_>) -> io::Result<()> {
    let mark = match claim.decided {
        Decided::Holds => "  ".to_owned(),
        Decided::Fails(_) => marks.bad("✗ "),
        Decided::Open(_) => "? ".to_owned(),
    };
    let what = claim.expectation;
    let given = match (&claim.decided, claim.expectation) {
        (Decided::Open(why), _) => why.clone(),
        (_, Expectation::Claim(_)) => format!("given {} {}", claim.given, by(&claim.given.rules)),
        (Decided::Holds, Expectation::Served { requests: Count::Exactly(_), .. })
        | (Decided::Fails(_), Expectation::Served { requests: Count::Some, .. }) => "no route leads to it".to_owned(),
        (Decided::Holds, Expectation::Served { .. }) => "a route leads to it".to_owned(),
        (Decided::Holds, _) => "nothing is left".to_owned(),
        (Decided::Fails(mismatches), _) => {
            mismatches.iter().map(|mismatch| mismatch.measure.to_string()).collect::<Vec<_>>().join(", ")
        }
    };
    writeln!(out, "   {mark}{what} — {given}")?;
    let Decided::Fails(mismatches) = &claim.decided else { return Ok(()) };
    if matches!(claim.expectation, Expectation::Claim(_)) {
        let mismatches: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
        writeln!(out, "       off: {}", mismatches.join("; "))?;
    }
    for finding in &claim.findings {
        writeln!(out, "       because {finding}")?;
    }
    writeln!(out, "       claimed in {}", claim.expectation.origin())
}

/// Writes the mutation report: a table by mutation operator, the mutants that survived with the claims that would kill them, and the
/// equivalent mutants.
///
/// # Errors
/// The output is closed.
pub fn mutated(
    out: &mut impl Write,
    marks: Marks,
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
    for operator in MUTATION_OPERATORS {
        let all: Vec<_> = evaluated.iter().filter(|(mutant, _)| mutant.operator == operator).collect();
        if !all.is_empty() {
            row(out, operator, &all)?;
        }
    }
    row(out, "all", &evaluated.iter().collect::<Vec<_>>())?;
    for (mutant, status) in evaluated {
        if let MutantStatus::Survived(Gap { stage, name, claim }) = status {
            writeln!(out, "{} {}: {}", marks.bad("survived"), mutant.operator, mutant.what)?;
            writeln!(out, "    at stage {stage} {name}, this claim would kill it: {claim}")?;
        }
    }
    for (mutant, status) in evaluated {
        if *status == MutantStatus::Equivalent {
            writeln!(out, "equivalent {}: {}", mutant.operator, mutant.what)?;
        }
    }
    Ok(())
}

fn by(rules: &[RuleRef]) -> String {
    if rules.is_empty() {
        return "by no rule".to_owned();
    }
    let rules: Vec<String> = rules.iter().map(|rule| format!("{} ({})", rule.object, rule.origin)).collect();
    format!("by {}", rules.join(" and "))
}

/// Writes what two versions of the manifests differ in.
///
/// # Errors
/// The output is closed.
pub fn changed(out: &mut impl Write, against: &str, changes: &[GivenChange]) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "against {against}: no population is given anything else");
    }
    writeln!(out, "against {against}: {} in what populations are given", plural(changes.len(), "change"))?;
    for GivenChange { number, stage, from, path, before, after } in changes {
        let before = before.as_ref().map_or_else(|| "no such stage".to_owned(), Given::to_string);
        let path = if path == "/" { String::new() } else { format!(" {path}") };
        writeln!(out, "  ~ {number} {stage}, {from}{path}: {before} → {after} {}", by(&after.rules))?;
    }
    Ok(())
}

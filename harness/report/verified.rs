use std::io::{self, Write};

use crate::routing::{NotModelled, Problem, RuleRef, Severity};
use crate::scenario::{Count, Expectation, Scenario};
use crate::verify::{Change, Decided, Fate, Gap, Given, Mutant, SLIPS, VerifiedClaim, VerifiedStage};

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
    writeln!(out, "{}: {} by the manifests alone, no cluster asked", scenario.name, plural(stages.len(), "stage"))?;
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
        (Decided::Fails(off), _) => off.iter().map(|off| off.measure.to_string()).collect::<Vec<_>>().join(", "),
    };
    writeln!(out, "   {mark}{what} — {given}")?;
    let Decided::Fails(off) = &claim.decided else { return Ok(()) };
    if matches!(claim.expectation, Expectation::Claim(_)) {
        let off: Vec<String> = off.iter().map(ToString::to_string).collect();
        writeln!(out, "       off: {}", off.join("; "))?;
    }
    for finding in &claim.findings {
        writeln!(out, "       because {finding}")?;
    }
    writeln!(out, "       claimed in {}", claim.expectation.place())
}

/// Writes what became of every mutant: a table of slips, the mutants that survive with the claims that would catch them, and those that change
/// nothing.
///
/// # Errors
/// The output is closed.
pub fn killed(out: &mut impl Write, marks: Marks, name: &str, fates: &[(&Mutant, Fate)]) -> io::Result<()> {
    let width = SLIPS.iter().map(|slip| slip.len()).max().unwrap_or(0);
    writeln!(out, "{name}: {}, decided by the model", plural(fates.len(), "wrong manifest"))?;
    writeln!(out, "  {:<width$}  {:>5} {:>9} {:>7} {:>9}", "", "made", "harmless", "caught", "survive")?;
    let row = |out: &mut _, title: &str, all: &[&(&Mutant, Fate)]| {
        let count = |is: fn(&Fate) -> bool| all.iter().filter(|(_, fate)| is(fate)).count();
        let harmless = count(|fate| matches!(fate, Fate::Harmless));
        let caught = count(|fate| matches!(fate, Fate::Caught(_)));
        let survive = count(|fate| matches!(fate, Fate::Survives(_)));
        Write::write_fmt(
            out,
            format_args!("  {title:<width$}  {:>5} {harmless:>9} {caught:>7} {survive:>9}\n", all.len()),
        )
    };
    for slip in SLIPS {
        let all: Vec<_> = fates.iter().filter(|(mutant, _)| mutant.slip == slip).collect();
        if !all.is_empty() {
            row(out, slip, &all)?;
        }
    }
    row(out, "all", &fates.iter().collect::<Vec<_>>())?;
    for (mutant, fate) in fates {
        if let Fate::Survives(Gap { stage, name, claim }) = fate {
            writeln!(out, "{} {}: {}", marks.bad("survives"), mutant.slip, mutant.what)?;
            writeln!(out, "    stage {stage} {name} would catch it with {claim}")?;
        }
    }
    for (mutant, fate) in fates {
        if *fate == Fate::Harmless {
            writeln!(out, "harmless {}: {}", mutant.slip, mutant.what)?;
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
pub fn changed(out: &mut impl Write, against: &str, changes: &[Change]) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "against {against}: no population is given anything else");
    }
    writeln!(out, "against {against}: {} in what populations are given", plural(changes.len(), "change"))?;
    for Change { number, stage, from, path, before, after } in changes {
        let before = before.as_ref().map_or_else(|| "no such stage".to_owned(), Given::to_string);
        let path = if path == "/" { String::new() } else { format!(" {path}") };
        writeln!(out, "  ~ {number} {stage}, {from}{path}: {before} → {after} {}", by(&after.rules))?;
    }
    Ok(())
}

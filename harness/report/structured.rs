//! The results of `verify`, `mutants` and `compare` for programs, as JSON, and for pages, as Markdown.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use super::compare::Difference;
use super::verified::shown;
use super::words::plural;
use crate::routing::{NotModelled, Problem, RuleRef, Severity};
use crate::scenario::{Expectation, Scenario};
use crate::verify::{Decided, Gap, GivenChange, MUTATION_OPERATORS, Mutant, MutantStatus, VerifiedStage};

/// A result that can be written as JSON or as Markdown.
pub trait Structured: Serialize + JsonSchema {
    /// The JSON schema of the result.
    fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Writes the result as JSON.
    ///
    /// # Errors
    /// The output is closed.
    fn json(&self, out: &mut impl Write) -> io::Result<()>
    where
        Self: Sized,
    {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Writes the result as Markdown.
    ///
    /// # Errors
    /// The output is closed.
    fn markdown(&self, out: &mut impl Write) -> io::Result<()>
    where
        Self: Sized;
}

/// The result of `verify`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    scenario: String,
    /// `passed`, `failed`, `undecided`, or `bad input` if the Kubernetes API would reject an object.
    #[schemars(extend("enum" = ["passed", "failed", "undecided", "bad input"]))]
    result: &'static str,
    problems: Vec<VerificationProblem>,
    claims: Vec<VerificationClaim>,
    /// The changes in behaviour since another version; none if there is no other version.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<BehaviourChange>>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct VerificationProblem {
    #[schemars(extend("enum" = ["error", "warning"]))]
    severity: &'static str,
    place: String,
    message: String,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VerificationClaim {
    stage: usize,
    stage_name: String,
    claim: String,
    place: String,
    /// `holds`, `fails`, `undecided` if the model does not cover something, or `open` if only a run can decide the claim.
    #[schemars(extend("enum" = ["holds", "fails", "undecided", "open"]))]
    result: &'static str,
    /// What the manifests give, for a claim about a population, unless it is undecided.
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<String>,
    rules: Vec<VerificationRule>,
    /// The shares that differ, or why the claim is undecided, and the causes.
    reasons: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct VerificationRule {
    object: String,
    place: String,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct BehaviourChange {
    stage: usize,
    stage_name: String,
    population: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    after: String,
    rules: Vec<VerificationRule>,
}

fn rules(rules: &[RuleRef]) -> Vec<VerificationRule> {
    let rule = |rule: &RuleRef| VerificationRule { object: rule.object.to_string(), place: rule.origin.to_string() };
    rules.iter().map(rule).collect()
}

impl Verification {
    /// The result for a scenario, with the changes since another version if there is one.
    pub fn new(
        scenario: &Scenario,
        stages: &[VerifiedStage<'_>],
        problems: &[Problem],
        changes: Option<&[GivenChange]>,
    ) -> Self {
        let claims = stages.iter().flat_map(|stage| {
            stage.claims.iter().map(|claim| {
                let (result, mut reasons) = match &claim.decided {
                    Decided::Holds => ("holds", Vec::new()),
                    Decided::Fails(mismatches) => ("fails", mismatches.iter().map(ToString::to_string).collect()),
                    Decided::Undecided(notes) => {
                        let note = |note: &NotModelled| format!("not modelled: {} ({})", note.field, note.origin);
                        ("undecided", notes.iter().map(note).collect())
                    }
                    Decided::Open(why) => ("open", vec![why.clone()]),
                };
                reasons.extend(claim.findings.iter().map(ToString::to_string));
                let is_given = matches!(claim.expectation, Expectation::Claim(_)) && result != "undecided";
                VerificationClaim {
                    stage: stage.number,
                    stage_name: stage.name.to_owned(),
                    claim: claim.expectation.to_string(),
                    place: claim.expectation.origin().to_string(),
                    result,
                    given: is_given.then(|| claim.given.to_string()),
                    rules: rules(&claim.given.rules),
                    reasons,
                }
            })
        });
        let claims: Vec<VerificationClaim> = claims.collect();
        let problems = problems.iter().map(|Problem { origin, severity, message }| VerificationProblem {
            severity: if *severity == Severity::Error { "error" } else { "warning" },
            place: origin.to_string(),
            message: message.clone(),
        });
        let problems: Vec<VerificationProblem> = problems.collect();
        let result = if problems.iter().any(|problem| problem.severity == "error") {
            "bad input"
        } else if claims.iter().any(|claim| claim.result == "fails") {
            "failed"
        } else if claims.iter().any(|claim| claim.result == "undecided") {
            "undecided"
        } else {
            "passed"
        };
        let changes = changes.map(|changes| changes.iter().map(BehaviourChange::of).collect());
        Self { scenario: scenario.name.clone(), result, problems, claims, changes }
    }
}

impl BehaviourChange {
    fn of(change: &GivenChange) -> Self {
        Self {
            stage: change.number,
            stage_name: change.stage.clone(),
            population: change.from.clone(),
            path: change.path.clone(),
            before: change.before.as_ref().map(shown),
            after: shown(&change.after),
            rules: rules(&change.after.rules),
        }
    }
}

impl Structured for Verification {
    fn markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "## {}: verify {}\n", self.scenario, self.result)?;
        for VerificationProblem { severity, place, message } in &self.problems {
            writeln!(out, "- {severity}: {message} ({place})")?;
        }
        if !self.problems.is_empty() {
            writeln!(out)?;
        }
        writeln!(out, "| stage | claim | result | the manifests give |\n|---|---|---|---|")?;
        for claim in &self.claims {
            let given = claim.given.clone().into_iter().chain(claim.reasons.clone()).collect::<Vec<_>>().join("; ");
            let cells =
                [&format!("{} {}", claim.stage, claim.stage_name), &claim.claim, claim.result, &given].map(cell);
            writeln!(out, "| {} |", cells.join(" | "))?;
        }
        let Some(changes) = &self.changes else { return Ok(()) };
        writeln!(out, "\n{} in behaviour", plural(changes.len(), "change"))?;
        if !changes.is_empty() {
            writeln!(out, "\n| stage | population | before | after |\n|---|---|---|---|")?;
        }
        for change in changes {
            let path = if change.path == "/" { String::new() } else { format!(" {}", change.path) };
            let before = change.before.as_deref().unwrap_or("no such stage");
            let stage = format!("{} {}", change.stage, change.stage_name);
            let population = format!("{}{path}", change.population);
            let cells = [stage.as_str(), &population, before, &change.after].map(cell);
            writeln!(out, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

/// The result of `mutants`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Mutation {
    scenario: String,
    operators: Vec<OperatorCount>,
    survived: Vec<SurvivedMutant>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct OperatorCount {
    operator: &'static str,
    mutants: usize,
    equivalent: usize,
    killed: usize,
    survived: usize,
    undecided: usize,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SurvivedMutant {
    operator: &'static str,
    what: String,
    stage: usize,
    stage_name: String,
    /// The claim that would kill it.
    claim: String,
}

impl Mutation {
    /// The result for a scenario.
    pub fn new(scenario: &str, evaluated: &[(&Mutant, MutantStatus)]) -> Self {
        let count = |operator: &'static str| {
            let all = evaluated.iter().filter(|(mutant, _)| mutant.operator == operator);
            let mut counted =
                OperatorCount { operator, mutants: 0, equivalent: 0, killed: 0, survived: 0, undecided: 0 };
            for (_, status) in all {
                counted.mutants += 1;
                match status {
                    MutantStatus::Equivalent => counted.equivalent += 1,
                    MutantStatus::Killed(_) => counted.killed += 1,
                    MutantStatus::Survived(_) => counted.survived += 1,
                    MutantStatus::Undecided => counted.undecided += 1,
                }
            }
            counted
        };
        let operators = MUTATION_OPERATORS.into_iter().map(count).filter(|counted| counted.mutants > 0).collect();
        let survived = evaluated.iter().filter_map(|(mutant, status)| match status {
            MutantStatus::Survived(Gap { stage, name, claim }) => Some(SurvivedMutant {
                operator: mutant.operator,
                what: mutant.what.clone(),
                stage: *stage,
                stage_name: name.clone(),
                claim: claim.clone(),
            }),
            _ => None,
        });
        Self { scenario: scenario.to_owned(), operators, survived: survived.collect() }
    }
}

impl Structured for Mutation {
    fn markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "## {}: {} survived\n", self.scenario, plural(self.survived.len(), "mutant"))?;
        writeln!(
            out,
            "| operator | mutants | equivalent | killed | survived | undecided |\n|---|---|---|---|---|---|"
        )?;
        for OperatorCount { operator, mutants, equivalent, killed, survived, undecided } in &self.operators {
            writeln!(out, "| {operator} | {mutants} | {equivalent} | {killed} | {survived} | {undecided} |")?;
        }
        for SurvivedMutant { operator, what, stage, stage_name, claim } in &self.survived {
            writeln!(out, "\n- survived: {operator}: {what}; at stage {stage} {stage_name}, `{claim}` would kill it")?;
        }
        Ok(())
    }
}

/// The result of `compare`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Comparison<'a> {
    /// The differences.
    pub differences: &'a [Difference],
}

impl Structured for Comparison<'_> {
    fn markdown(&self, out: &mut impl Write) -> io::Result<()> {
        if self.differences.is_empty() {
            return writeln!(out, "no significant differences");
        }
        writeln!(out, "| stage | subject | before | after | worse |\n|---|---|---|---|---|")?;
        for Difference { stage, what, before, after, worse } in self.differences {
            let worse = if *worse { "yes" } else { "no" };
            let cells =
                [stage.as_deref().unwrap_or_default(), what.as_str(), before.as_str(), after.as_str(), worse].map(cell);
            writeln!(out, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

/// A text in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::model::{Cell, Change, Cleared, Difference, LeftOut, RowName, UPGRADE_SCHEMA_VERSION, UpgradeReport, Walk};
use crate::events::{Judged, Transition};
use crate::report::model::{Outcome, Tool};
use crate::report::words::{float, plural};
use crate::scenario::IstioVersion;
use crate::upgrade::{
    Aspect, AspectChange, Assessment, Cause, Phase, Regression, Row, StageRecord, UpgradeRecord, UpgradeResult,
};

impl UpgradeReport {
    /// The report of an upgrade test; `reproduce` is the command that repeats the test.
    pub fn of(record: &UpgradeRecord, reproduce: String) -> Self {
        let UpgradeRecord { spec, scenario, .. } = record;
        let versions = spec.versions();
        let assessment = record.assess();
        let rows: BTreeSet<Row> = record.runs.iter().flat_map(|run| spec.rows(scenario, run.path)).collect();
        let stage = |number: usize| scenario.stages[number - 1].name.clone();
        let name = |row: &Row| match row.phase {
            Phase::Itself => stage(row.stage),
            phase => phase.to_string(),
        };
        let walks = record.runs.iter().map(|run| Walk {
            name: run.path.heading(versions),
            folder: run.path.folder(versions),
            holds: run.holds(),
            broke: run.broke.clone(),
            cells: rows.iter().map(|row| run.stage(*row).map(cell)).collect(),
        });
        let skipped = spec.skipped().into_iter();
        Self {
            schema_version: UPGRADE_SCHEMA_VERSION,
            tool: Tool::default(),
            started: format!("{:.0}", record.started),
            took: seconds(record.took),
            result: match assessment.result {
                UpgradeResult::Safe => Outcome::Passed,
                UpgradeResult::Unsafe => Outcome::Failed,
                UpgradeResult::Incomplete => Outcome::Interrupted,
            },
            sentence: sentence(record, &assessment),
            reproduce,
            scenario: scenario.name.clone(),
            software: spec.upgraded.to_string(),
            from: spec.from.to_string(),
            to: spec.to.to_string(),
            at: stage(spec.at),
            walks: walks.collect(),
            left_out: skipped.map(|(mode, because)| LeftOut { mode: mode.to_string(), because }).collect(),
            differences: assessment
                .differences
                .into_iter()
                .map(|(path, found)| difference(path.map(|path| path.heading(versions)), found))
                .collect(),
            causes: record
                .regression
                .iter()
                .map(|regression| cleared(stage(regression.stage), regression, versions.to))
                .collect(),
            rows: rows
                .iter()
                .map(|row| RowName { stage: row.stage, name: name(row), is_change: row.phase != Phase::Itself })
                .collect(),
        }
    }
}

/// The result in a sentence for a release manager.
fn sentence(record: &UpgradeRecord, assessment: &Assessment) -> String {
    let Assessment { claims, failing, .. } = assessment;
    let holding = format!(
        "{} of {} hold in {}",
        claims.saturating_sub(failing.len()),
        plural(*claims, "claim"),
        plural(record.spec.modes.len(), "mode")
    );
    let behaviour = assessment.differences.iter().filter(|(_, found)| found.change.aspect.is_behaviour());
    let known: BTreeSet<&str> = behaviour.filter_map(|(_, found)| Some(found.known?.id.as_str())).collect();
    let known = match known.len() {
        0 if assessment.unexplained().next().is_none() => "no difference in behaviour".to_owned(),
        0 => "no known change".to_owned(),
        count => format!("{}: {}", plural(count, "known change"), Vec::from_iter(known).join(", ")),
    };
    match assessment.result {
        UpgradeResult::Safe => format!("safe for this rollout: {holding}; {known}"),
        UpgradeResult::Incomplete => "interrupted".to_owned(),
        UpgradeResult::Unsafe => {
            let mut parts = vec![holding];
            match assessment.unexplained().count() {
                0 => {}
                count => parts.push(format!("{} without a known change", plural(count, "difference"))),
            }
            if let Some((failed, allowed)) = assessment.too_many_errors {
                let failed = plural(failed, "request");
                parts.push(format!("{failed} failed during the changes of the mesh (at most {allowed} may fail)"));
            }
            match record.runs.iter().filter(|run| run.broke.is_some()).count() {
                0 => {}
                count => parts.push(format!("{} ended early", plural(count, "run"))),
            }
            parts.push(known);
            format!("not safe for this rollout: {}", parts.join("; "))
        }
    }
}

/// A cause in words. `to` is the new version.
fn cleared(stage: String, Regression { claims, cause, suspects, .. }: &Regression, to: &IstioVersion) -> Cleared {
    let cause = match cause {
        Cause::Setting(setting) => {
            format!("the setting {setting}, which only {to} has; without the setting the claims hold on {to}")
        }
        Cause::Flag { name, old, compatible_with } => format!(
            "the flag {name}; with {name}={old}, as in compatibilityVersion={compatible_with}, the claims hold on {to}"
        ),
        Cause::Flags { names, compatible_with } => format!(
            "a combination of flags; with compatibilityVersion={compatible_with} the claims hold on {to}, with one of these flags alone they fail: {}",
            names.join(", ")
        ),
        Cause::Routes { missing, instead } => {
            format!("no flag; the client's sidecar has {instead}, but the manifests give {missing}")
        }
        Cause::Configuration { path, before, after } => {
            format!("no flag; the first change in the sidecar's configuration is {path}: {before} → {after}")
        }
        Cause::Unknown => "unknown; neither a flag nor the sidecar's configuration explains the failure".to_owned(),
    };
    let suspects = suspects.iter().map(|suspect| {
        let (object, place, limit) = (&suspect.object, &suspect.place, &suspect.limit);
        format!("{object} ({place}) acts on {limit}")
    });
    Cleared { stage, claims: claims.iter().map(words).collect(), cause, suspects: suspects.collect() }
}

fn difference(walk: Option<String>, found: crate::upgrade::Difference) -> Difference {
    let AspectChange { aspect, before, after } = found.change;
    Difference {
        walk,
        stage: found.stage,
        what: aspect.to_string(),
        behaviour: Aspect::is_behaviour(&aspect),
        before,
        after,
        known: found.known,
    }
}

fn cell(stage: &StageRecord) -> Cell {
    Cell {
        held: stage.judged.len() - stage.failed().count(),
        of: stage.judged.len(),
        failed: stage.failed().map(words).collect(),
        change: stage.transition.as_ref().filter(|_| stage.row.phase != Phase::Itself).map(change),
        converged: stage.converged.map(seconds),
        took: seconds(stage.took),
    }
}

fn change(transition: &Transition) -> Change {
    let mut answers: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for tallied in &transition.answers {
        *answers.entry(tallied.from.clone()).or_default().entry(tallied.answer.to_string()).or_default() +=
            tallied.count;
    }
    let rate = float(transition.requests) / transition.took.as_secs_f64().max(1e-3);
    Change {
        requests: transition.requests,
        rate: (rate * 10.0).round() / 10.0,
        errors: transition.errors.clone(),
        gap: transition.gap.as_ref().map_or(0.0, |gap| seconds(gap.lasted)),
        answers,
    }
}

fn words(judged: &Judged) -> String {
    let because = judged.hints.first().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}: {} — {}{because}", judged.subject, judged.claim, judged.verdict.reason)
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::events::Event;
    use crate::scenario::{ControlPlane, Scenario};
    use crate::upgrade::{Mode, PathRecord, UpgradePath, UpgradeSpec};

    /// The report of an upgrade with this number of errors in each of two runs that change the mesh. Ten errors are allowed in all.
    fn report(errors: u64) -> UpgradeReport {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let [from, to] = [30, 31].map(|minor| ControlPlane::of(IstioVersion::new(1, minor)));
        let modes = [Mode::InPlace, Mode::RollBack];
        let spec = UpgradeSpec::new(&scenario, from, to, None, &modes, true).unwrap();
        let spec = UpgradeSpec { errors: Some(10), ..spec };
        let mut record = UpgradeRecord::new(spec.clone(), scenario.clone());
        for path in [UpgradePath::InPlace, UpgradePath::RollBack] {
            let rows = spec.rows(&scenario, path);
            let mut run = PathRecord::new(path, rows.clone());
            for row in rows {
                run.take(&Event::Stage { number: row.stage, name: String::new(), edits: Vec::new() });
                if row.phase == Phase::Sidecars {
                    let errors = [("503".to_owned(), errors)].into();
                    run.take(&Event::Changed(Transition { requests: 1000, errors, ..Transition::default() }));
                }
            }
            record.add(vec![run]);
        }
        UpgradeReport::of(&record, String::new())
    }

    #[test]
    fn failed_requests_are_summed_over_all_changes_of_all_modes() {
        let few = report(5);
        assert_eq!(few.result, Outcome::Passed, "{}", few.sentence);
        // no more than ten in either mode, 12 in all
        let many = report(6);
        assert_eq!(many.result, Outcome::Failed);
        assert!(
            many.sentence.contains("; 12 requests failed during the changes of the mesh (at most 10 may fail)"),
            "{}",
            many.sentence
        );
    }

    #[rstest]
    #[case::one(Some(0), "the flag A; with A=false, as in compatibilityVersion=1.25, the claims hold on 1.31")]
    #[case::several(
        None,
        "a combination of flags; with compatibilityVersion=1.25 the claims hold on 1.31, with one of these flags alone they fail: A, B"
    )]
    fn flags_that_cause_a_failure_are_named_with_their_old_values(
        #[case] alone: Option<usize>,
        #[case] sentence: &str,
    ) {
        let flags = ["A", "B"].map(|name| (name.to_owned(), "false".to_owned())).into();
        let cause = Cause::of_flags(flags, alone, IstioVersion::new(1, 25));
        let regression = Regression { stage: 1, claims: Vec::new(), cause, suspects: Vec::new() };
        assert_eq!(cleared("canary".to_owned(), &regression, &IstioVersion::new(1, 31)).cause, sentence);
    }
}

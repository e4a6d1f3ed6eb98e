use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::report::model::{Outcome, Tool};
use crate::upgrade::KnownChange;

/// The schema version of `upgrade.json`.
pub const UPGRADE_SCHEMA_VERSION: u32 = 1;

/// The report of an upgrade test, `upgrade.json`. Times are in seconds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct UpgradeReport {
    /// The schema version of the report.
    pub schema_version: u32,
    /// The program that wrote the report.
    pub tool: Tool,
    /// The start of the test, in UTC.
    pub started: String,
    /// The duration of the test, in seconds.
    pub took: f64,
    /// The result: passed if all claims hold in all modes and there are no unexpected differences in behaviour.
    pub result: Outcome,
    /// The result in a sentence.
    pub sentence: String,
    /// The command that repeats the test.
    pub reproduce: String,
    /// The name of the scenario.
    pub scenario: String,
    /// The software whose versions are compared: Istio or a rollout controller.
    pub software: String,
    /// The old version.
    pub from: String,
    /// The new version.
    pub to: String,
    /// The stage at which the mesh is changed, in the modes that change it.
    pub at: String,
    /// The rows of the table of results.
    pub rows: Vec<RowName>,
    /// The runs of the scenario: the columns of the table.
    pub walks: Vec<Walk>,
    /// The modes that were skipped.
    pub left_out: Vec<LeftOut>,
    /// The differences between the runs.
    pub differences: Vec<Difference>,
    /// The causes of claims that hold on the old version and fail on the new one.
    pub causes: Vec<Cleared>,
}

/// A row of the table of results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RowName {
    /// The position of the stage in the scenario, from 1.
    pub stage: usize,
    /// The name of the stage, or of the change of the mesh at that stage.
    pub name: String,
    /// Whether the row is a change of the mesh.
    pub is_change: bool,
}

/// A run of the scenario.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Walk {
    /// The name of the run, such as `in place`.
    pub name: String,
    /// The folder with the report of the run, next to `upgrade.json`.
    pub folder: String,
    /// Whether the run reached its end and every claim held.
    pub holds: bool,
    /// The error that ended the run early, if there was one.
    pub broke: Option<String>,
    /// The results by row; null where the run does not have the row or did not reach it.
    pub cells: Vec<Option<Cell>>,
}

/// The results of a stage in a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Cell {
    /// The number of claims that hold.
    pub held: usize,
    /// The number of claims.
    pub of: usize,
    /// The claims that fail, with reasons.
    pub failed: Vec<String>,
    /// The traffic during a change of the mesh.
    pub change: Option<Change>,
    /// The convergence time of the client's sidecar, in seconds.
    pub converged: Option<f64>,
    /// The duration of the stage, in seconds.
    pub took: f64,
}

/// The traffic during a change of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// The number of requests.
    pub requests: u64,
    /// Requests per second.
    pub rate: f64,
    /// The numbers of unexpected answers, by answer.
    pub errors: BTreeMap<String, u64>,
    /// The longest time without an expected answer to a population, in seconds. The stage before and this stage define the expected answers.
    pub gap: f64,
    /// The numbers of answers, by population and answer.
    pub answers: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A mode that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOut {
    /// The mode.
    pub mode: String,
    /// The combination of versions that Istio does not support.
    pub because: String,
}

/// A difference between two runs.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Difference {
    /// The run with the difference; null for the run on the new version alone.
    pub walk: Option<String>,
    /// The name of the stage.
    pub stage: String,
    /// The property that differs.
    pub what: String,
    /// The value before.
    pub before: String,
    /// The value after.
    pub after: String,
    /// Whether clients or operators can observe the difference. Otherwise only the configuration of a sidecar differs.
    pub behaviour: bool,
    /// The known change that explains the difference; null for an unexpected difference.
    pub known: Option<&'static KnownChange>,
}

/// A failure on the new version and its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cleared {
    /// The name of the stage.
    pub stage: String,
    /// The claims that fail.
    pub claims: Vec<String>,
    /// The cause, in a sentence.
    pub cause: String,
    /// Objects of the scenario that act on sidecars of the new version only.
    pub suspects: Vec<String>,
}

impl UpgradeReport {
    /// The results of all runs, run by run.
    pub(super) fn cells(&self) -> impl Iterator<Item = (&Walk, &RowName, &Cell)> {
        self.walks.iter().flat_map(|walk| {
            let cells = self.rows.iter().zip(&walk.cells);
            cells.filter_map(move |(row, cell)| Some((walk, row, cell.as_ref()?)))
        })
    }

    /// The traffic during the changes of the mesh.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&Walk, &RowName, &Change)> {
        self.cells().filter_map(|(walk, row, cell)| Some((walk, row, cell.change.as_ref()?)))
    }

    /// The JSON schema of `upgrade.json`.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

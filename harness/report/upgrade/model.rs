use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page::page;
use crate::report::model::{Outcome, Tool};
use crate::report::{Granularity, Report, ReportError, files};

/// The version of the form of an upgrade's report.
pub const UPGRADE_SCHEMA_VERSION: u32 = 1;

/// What an upgrade changes: what `upgrade.json` holds. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeReport {
    /// The version of this form.
    pub schema_version: u32,
    /// The program that wrote it.
    pub tool: Tool,
    /// When it started, in UTC.
    pub started: String,
    /// How long it took, in seconds.
    pub took: f64,
    /// How it ended: passed where all claims hold in all modes, and nothing else changed but what is known.
    pub result: Outcome,
    /// The same in a sentence.
    pub sentence: String,
    /// The command that runs it again.
    pub reproduce: String,
    /// The scenario.
    pub scenario: String,
    /// The old version.
    pub from: String,
    /// The new version.
    pub to: String,
    /// The stage at which the mesh is changed.
    pub at: String,
    /// The rows of the table, in order.
    pub rows: Vec<RowName>,
    /// The walks: the columns of the table.
    pub walks: Vec<Walk>,
    /// The modes that were not walked.
    pub left_out: Vec<LeftOut>,
    /// What is another on the new version.
    pub differences: Vec<Difference>,
    /// Why claims fail on the new version that hold on the old one, as far as that was found.
    pub causes: Vec<Cleared>,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowName {
    /// The position of the scenario's stage, from 1.
    pub stage: usize,
    /// The stage, or the change of the mesh that is made there.
    pub name: String,
    /// Whether it is a change of the mesh.
    pub is_change: bool,
}

/// A walk of the scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Walk {
    /// Its name: `in place`.
    pub name: String,
    /// The folder with its own report, beside this one.
    pub folder: String,
    /// Whether it came to its end and everything held.
    pub holds: bool,
    /// Why it broke off, if it did.
    pub broke: Option<String>,
    /// What came of each row; none where the walk has no such row, or did not come to it.
    pub cells: Vec<Option<Cell>>,
}

/// What came of a stage in a walk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The claims that held.
    pub held: usize,
    /// All of its claims.
    pub of: usize,
    /// Those that did not, with why.
    pub failed: Vec<String>,
    /// What the traffic saw of a change of the mesh.
    pub change: Option<Change>,
    /// How long the client's sidecar took to do what the manifests ask for, in seconds.
    pub converged: Option<f64>,
    /// How long the stage took, in seconds.
    pub took: f64,
}

/// What the traffic saw of a change of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The requests that were sent meanwhile.
    pub requests: u64,
    /// Requests a second.
    pub rate: f64,
    /// The answers that should not have come, with how many.
    pub errors: BTreeMap<String, u64>,
    /// The longest time in which a population got no answer that the stage before or this one gives, in seconds.
    pub gap: f64,
    /// For each population, how often each answer came.
    pub answers: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A mode that was not walked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// The mode.
    pub mode: String,
    /// What it puts together that Istio does not support.
    pub because: String,
}

/// Something that is another on the new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The walk in which it was seen, where it is not the one on the new version alone.
    pub walk: Option<String>,
    /// The stage.
    pub stage: String,
    /// What.
    pub what: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
    /// Whether clients or operators see it; otherwise a sidecar is only told something else.
    pub behaviour: bool,
    /// The change of Istio that explains it; none where it is new.
    pub known: Option<Known>,
}

/// A change of Istio that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Known {
    /// What it is called.
    pub id: String,
    /// The version that made it.
    pub since: String,
    /// What it is.
    pub what: String,
    /// The flag that it goes by.
    pub flag: Option<String>,
}

/// A failure on the new version, and what was found of its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cleared {
    /// The stage.
    pub stage: String,
    /// The claims that fail there.
    pub claims: Vec<String>,
    /// What was found, in a sentence.
    pub cause: String,
    /// Objects of the scenario that act on the new version's sidecars alone.
    pub suspects: Vec<String>,
}

impl UpgradeReport {
    /// The JSON schema of this form.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Writes the report into a folder, which is made where it is not there: `upgrade.html` and `upgrade.json`.
    ///
    /// # Errors
    /// The folder or a file in it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            |source| ReportError::Unwritable { path, source }
        };
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        files::replace(&folder.join("upgrade.html"), &page(self))?;
        files::replace(&folder.join("upgrade.json"), &files::pretty(self))
    }

    /// Begins the reports of an upgrade: removes the report of an earlier one, and marks the reports of its runs as unfinished.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(folder: &Path, reproduce: &str) -> Result<(), ReportError> {
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            |source| ReportError::Unwritable { path, source }
        };
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        for name in ["upgrade.json", "upgrade.html"] {
            let path = folder.join(name);
            // also finds out whether the folder can be written
            files::replace(&path, "")?;
            fs::remove_file(&path).map_err(unwritable(&path))?;
        }
        for entry in fs::read_dir(folder).map_err(unwritable(folder))?.flatten() {
            if Report::read(&entry.path().join("report.json")).is_ok() {
                Report::begin(&entry.path(), Granularity::default(), reproduce.to_owned())?;
            }
        }
        Ok(())
    }

    /// The page of the report.
    #[must_use]
    pub fn html(&self) -> String {
        page(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Recorder;

    #[test]
    fn the_reports_of_an_earlier_upgrade_end_where_the_next_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("upgrade.json"), "{}").unwrap();
        fs::write(folder.path().join("upgrade.html"), "safe").unwrap();
        fs::write(folder.path().join("notes"), "mine").unwrap();
        let walk = folder.path().join("fresh-1.31");
        let report = Recorder::new("shiftcheck upgrade".to_owned()).close(Outcome::Passed, "all stages passed", None);
        report.write(&walk, Granularity::Claim).unwrap();
        UpgradeReport::begin(folder.path(), "shiftcheck upgrade").unwrap();
        assert!(!folder.path().join("upgrade.json").exists() && !folder.path().join("upgrade.html").exists());
        assert_eq!(Report::read(&walk).unwrap().result, Outcome::Interrupted);
        assert_eq!(fs::read_to_string(folder.path().join("notes")).unwrap(), "mine");
        assert!(UpgradeReport::begin(&folder.path().join("notes"), "shiftcheck upgrade").is_err());
    }
}

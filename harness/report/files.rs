use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::annotations::annotations;
use super::conformance::conformance;
use super::graph::Graph;
use super::junit::{Granularity, junit};
use super::model::Report;
use super::page::page;
use crate::walk::STATE;

/// Why a report could not be written or read.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not a report.
    #[error("{}:{}:{}: not a report of shiftcheck: {source}", path.display(), source.line(), source.column())]
    NotAReport {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A report is of another form.
    #[error("{} is a report of form {found}; this shiftcheck reads form {known}", path.display())]
    OtherForm {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u64,
        /// The form that is known.
        known: u32,
    },
}

impl Report {
    /// Writes the report into a folder, which is made where it is not there: `report.html`, `report.json`, `conformance.yaml`, `junit.xml`,
    /// and `graph/STAGE.json` for every stage with traffic, in the form of Kiali's API.
    ///
    /// # Errors
    /// The folder or a file in it cannot be written.
    pub fn write(&self, folder: &Path, granularity: Granularity) -> Result<(), ReportError> {
        let graphs = folder.join("graph");
        fs::create_dir_all(&graphs).map_err(|source| ReportError::Unwritable { path: graphs.clone(), source })?;
        let write = |name: &Path, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|source| ReportError::Unwritable { path, source })
        };
        write(Path::new("report.json"), pretty(self))?;
        write(Path::new("conformance.yaml"), conformance(self))?;
        write(Path::new("junit.xml"), junit(self, granularity))?;
        write(Path::new("report.html"), page(self))?;
        for stage in self.stages.iter().filter(|stage| stage.traffic.is_some()) {
            let graph = Graph::of(self, stage).kiali(stage);
            write(Path::new(&format!("graph/{}.json", stage.number)), pretty(&graph))?;
        }
        Ok(())
    }

    /// Removes what an earlier run has left in a folder and a later one would not write over: its graphs, and the state of its cluster, by
    /// the names that runs give. A folder without a report of shiftcheck is not touched.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn forget(folder: &Path) -> Result<(), ReportError> {
        if Self::read(folder).is_err() {
            return Ok(());
        }
        let is_graph = |name: &str| name.strip_suffix(".json").is_some_and(|number| number.parse::<usize>().is_ok());
        let is_state = |name: &str| STATE.contains(&name);
        for (part, own) in [("graph", &is_graph as &dyn Fn(&str) -> bool), ("state", &is_state)] {
            let part = folder.join(part);
            for entry in fs::read_dir(&part).into_iter().flatten().flatten() {
                let path = entry.path();
                if !entry.file_name().to_str().is_some_and(own) {
                    continue;
                }
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(|source| ReportError::Unwritable { path, source })?;
            }
            // what somebody else has put there stays, and the folder with it
            let _ = fs::remove_dir(&part);
        }
        Ok(())
    }

    /// Reads a `report.json`, or the one in a folder.
    ///
    /// # Errors
    /// The file cannot be read, or it is not a report of this form.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let path = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
        let text = fs::read(&path).map_err(|source| ReportError::Unreadable { path: path.clone(), source })?;
        let wrong = |source| ReportError::NotAReport { path: path.clone(), source };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
        if let Some(found) = value["schema_version"].as_u64().filter(|found| *found != u64::from(super::SCHEMA_VERSION))
        {
            return Err(ReportError::OtherForm { path, found, known: super::SCHEMA_VERSION });
        }
        // from the text once more, for the line of a mistake
        serde_json::from_slice(&text).map_err(wrong)
    }

    /// The page of the report.
    #[must_use]
    pub fn html(&self) -> String {
        page(self)
    }

    /// Commands that make GitHub show each failure beside the line that claims it.
    #[must_use]
    pub fn annotations(&self) -> Vec<String> {
        annotations(self)
    }
}

pub(super) fn pretty(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.unwrap_or_else(|error| unreachable!("a report is plain data: {error}")) + "\n"
}

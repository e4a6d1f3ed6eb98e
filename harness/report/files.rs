use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

use super::conformance::conformance;
use super::github::{annotations, summary};
use super::graph::Graph;
use super::junit::{Granularity, junit};
use super::model::{Failure, Outcome, Report};
use super::page::page;
use super::recorder::Recorder;
use crate::events::FailureLayer;
use crate::events::STATE;

/// An error in writing or reading a report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is not a report.
    #[error("{}:{}:{}: not a report of shiftcheck: {source}", path.display(), source.line(), source.column())]
    NotAReport {
        /// The file.
        path: PathBuf,
        /// The error in the JSON.
        source: serde_json::Error,
    },
    /// A report has another schema version.
    #[error("{} has schema version {found}, but this shiftcheck reads version {known}", path.display())]
    OtherForm {
        /// The file.
        path: PathBuf,
        /// The schema version of the file.
        found: u64,
        /// The supported schema version.
        known: u32,
    },
}

impl ReportError {
    /// The error of a file or folder that cannot be written.
    pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Unwritable { path: path.to_owned(), source }
    }
}

impl Report {
    /// Writes the report into a folder: `report.html`, `report.json`, `conformance.yaml`, `junit.xml`, and `graph/STAGE.json` for every stage
    /// with traffic, in the format of Kiali's API. Creates the folder if it does not exist; git ignores a folder that was created.
    ///
    /// # Errors
    /// The folder or a file in it cannot be written.
    pub fn write(&self, folder: &Path, granularity: Granularity) -> Result<(), ReportError> {
        prepare(folder)?;
        let graphs = folder.join("graph");
        fs::create_dir_all(&graphs).map_err(ReportError::unwritable(&graphs))?;
        for stage in self.stages.iter().filter(|stage| stage.traffic.is_some()) {
            let graph = Graph::of(self, stage).kiali(stage);
            replace(&graphs.join(format!("{}.json", stage.number)), &pretty(&graph))?;
        }
        replace(&folder.join("conformance.yaml"), &conformance(self))?;
        replace(&folder.join("report.html"), &page(self, Some(folder)))?;
        replace(&folder.join("junit.xml"), &junit(&[self], granularity))?;
        replace(&folder.join("report.json"), &pretty(self))
    }

    /// Removes the report of an earlier run from the folder and writes reports of an unfinished run. If this process is killed, nobody takes
    /// the report of an earlier run for the report of this run.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(folder: &Path, granularity: Granularity, reproduce: String) -> Result<(), ReportError> {
        Self::forget(folder)?;
        let message = "the run has not finished: it is still running, or it was killed".to_owned();
        let hint = Some("`shiftcheck sweep` removes what a killed run left behind".to_owned());
        let failure = Failure { link: FailureLayer::Environment.to_string(), message, place: None, hint };
        let report = Recorder::new(reproduce).close(Outcome::Interrupted, "unfinished", Some(failure));
        report.write(folder, granularity)
    }

    /// The report as JSON on one line.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a folder contains the reports of a run.
    pub fn is_in(folder: &Path) -> bool {
        ["report.json", "junit.xml"].iter().any(|name| folder.join(name).exists())
    }

    /// Removes the files of an earlier run that a later run does not overwrite: the graphs and the cluster state. Only removes files with
    /// names that shiftcheck gives, and only from a folder with a report of shiftcheck.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn forget(folder: &Path) -> Result<(), ReportError> {
        if Self::read(folder).is_err() {
            return Ok(());
        }
        let is_graph = |name: &str| name.strip_suffix(".json").is_some_and(|number| number.parse::<usize>().is_ok());
        let is_state = |name: &str| STATE.contains(&name);
        for (part, is_ours) in [("graph", &is_graph as &dyn Fn(&str) -> bool), ("state", &is_state)] {
            let part = folder.join(part);
            for entry in fs::read_dir(&part).into_iter().flatten().flatten() {
                let path = entry.path();
                if !entry.file_name().to_str().is_some_and(is_ours) {
                    continue;
                }
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(ReportError::unwritable(&path))?;
            }
            // the folder stays if it has other files
            let _ = fs::remove_dir(&part);
        }
        Ok(())
    }

    /// Reads a `report.json`, or the one in a folder.
    ///
    /// # Errors
    /// The file cannot be read, or is not a report with the supported schema version.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let path = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
        let unreadable = |source| ReportError::Unreadable { path: path.clone(), source };
        // a pipe or a device may never end
        if !fs::metadata(&path).map_err(unreadable)?.is_file() {
            return Err(unreadable(std::io::Error::other("not a regular file")));
        }
        let text = fs::read(&path).map_err(unreadable)?;
        let wrong = |source| ReportError::NotAReport { path: path.clone(), source };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
        if let Some(found) = value["schema_version"].as_u64().filter(|found| *found != u64::from(super::SCHEMA_VERSION))
        {
            return Err(ReportError::OtherForm { path, found, known: super::SCHEMA_VERSION });
        }
        // parsed from the text again, since errors then have a line number
        serde_json::from_slice(&text).map_err(wrong)
    }

    /// The HTML page of the report.
    pub fn html(&self) -> String {
        page(self, None)
    }

    /// GitHub workflow commands that annotate the line of each failed claim.
    pub fn annotations(&self) -> Vec<String> {
        annotations(self)
    }

    /// The claims as a Markdown table, for the summary of a job.
    pub fn summary(&self) -> String {
        summary(self)
    }
}

/// Creates a folder that git ignores, or uses one that exists as it is.
pub(super) fn prepare(folder: &Path) -> Result<(), ReportError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(ReportError::unwritable(folder))?;
    replace(&folder.join(".gitignore"), "*\n")
}

/// Replaces a file atomically, by renaming a temporary file.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), ReportError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written.map_err(ReportError::unwritable(path))
}

pub(super) fn pretty(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.unwrap_or_else(|error| unreachable!("a report is plain data: {error}")) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(result: Outcome, note: &str) -> Report {
        Recorder::new("shiftcheck run".to_owned()).close(result, note, None)
    }

    #[test]
    fn a_report_of_an_earlier_run_ends_where_the_next_run_begins() {
        let folder = tempfile::tempdir().unwrap();
        recorded(Outcome::Passed, "all stages passed").write(folder.path(), Granularity::Claim).unwrap();
        assert_eq!(Report::read(folder.path()).unwrap().result, Outcome::Passed);
        Report::begin(folder.path(), Granularity::Claim, "shiftcheck run".to_owned()).unwrap();
        // as `kill -9` would leave it
        let report = Report::read(folder.path()).unwrap();
        assert_eq!((report.result, report.note.as_str()), (Outcome::Interrupted, "unfinished"));
        let junit = fs::read_to_string(folder.path().join("junit.xml")).unwrap();
        assert!(junit.contains(r#"errors="1""#) && junit.contains("the run has not finished"), "{junit}");
        for name in ["conformance.yaml", "report.html"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.contains("interrupted") && !text.contains("all stages passed"), "{name}: {text}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_unit_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "before").unwrap();
        let open = fs::File::open(&path).unwrap();
        replace(&path, "after").unwrap();
        // an open file still has the old text
        assert_eq!(std::io::read_to_string(open).unwrap(), "before");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = replace(&path.join("below"), "text").unwrap_err().to_string();
        assert!(error.starts_with("cannot write "), "{error}");
    }

    #[test]
    fn git_ignores_a_folder_that_a_run_created_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let report = Recorder::new("shiftcheck run".to_owned()).close(Outcome::Passed, "all stages passed", None);
        report.write(&folder.path().join("created/deep"), Granularity::Claim).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("created/deep/.gitignore")).unwrap(), "*\n");
        report.write(folder.path(), Granularity::Claim).unwrap();
        assert!(!folder.path().join(".gitignore").exists());
    }

    #[test]
    fn the_page_links_the_cluster_state_beside_or_above_it() {
        let recorder = Recorder::new("shiftcheck run".to_owned());
        let mut report = recorder.close(Outcome::Failed, "stage 1 of 1 failed", None);
        let folder = tempfile::tempdir().unwrap();
        let links = |report: &Report, at: &Path, link: &str| {
            report.write(at, Granularity::Claim).unwrap();
            let page = fs::read_to_string(at.join("report.html")).unwrap();
            page.contains(&format!("<a href=\"{link}\"><code>"))
        };
        report.state = Some(folder.path().join("state").display().to_string());
        assert!(links(&report, folder.path(), "state/"));
        assert!(links(&report, &folder.path().join("in-place"), "../state/"));
        report.state = Some("elsewhere/state".to_owned());
        assert!(!links(&report, folder.path(), "state/"));
    }
}

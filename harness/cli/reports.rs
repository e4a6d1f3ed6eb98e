use std::io::Write;
use std::path::PathBuf;

use super::advice::{self, Failure};
use super::process::{add_summary, reproduce};
use crate::report::{Granularity, Report, Terminal};

/// What is printed besides the progress of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printed {
    Nothing,
    /// Annotations for GitHub, and a table in the summary of the job.
    Annotations,
    /// The report as a line of JSON.
    Json,
}

/// The reports of a run.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    /// The folder; none without reports.
    pub folder: Option<PathBuf>,
    /// Whether the user named the folder.
    pub asked: bool,
    /// Whether the folder has reports of this run, as unfinished.
    pub begun: bool,
    /// What is also printed.
    pub printed: Printed,
    /// The unit of a `JUnit` test case.
    pub junit: Granularity,
}

impl Reports {
    /// No reports.
    pub fn none() -> Self {
        Self { folder: None, asked: false, begun: false, printed: Printed::Nothing, junit: Granularity::default() }
    }

    /// Whether the folder has reports of an earlier run.
    pub fn has_earlier(&self) -> bool {
        self.folder.as_deref().is_some_and(Report::is_in)
    }

    /// Marks the reports in the folder as unfinished.
    pub fn begin(&mut self) -> Result<(), Failure> {
        let Some(folder) = self.folder.as_ref().filter(|_| !self.begun) else { return Ok(()) };
        Report::begin(folder, self.junit, reproduce()).map_err(|error| Failure::unwritable(&error))?;
        self.begun = true;
        Ok(())
    }

    /// Writes the reports and prints the path of the HTML page. Returns false if they cannot be written.
    pub fn publish(&self, report: &Report, terminal: &mut Terminal<impl Write>) -> bool {
        match self.printed {
            Printed::Nothing => {}
            Printed::Annotations => {
                report.annotations().iter().for_each(|line| terminal.annotation(line));
                add_summary(&report.summary());
            }
            Printed::Json => terminal.document(&report.line()),
        }
        // a rejected scenario gets reports only if the user named a folder
        let Some(folder) = self.folder.as_ref().filter(|_| self.begun) else { return true };
        match report.write(folder, self.junit) {
            Ok(()) if report.run.is_empty() => true,
            Ok(()) => {
                terminal.note(&format!("report: {}", folder.join("report.html").display()));
                true
            }
            Err(error) => {
                advice::print(&Failure::unwritable(&error));
                false
            }
        }
    }
}

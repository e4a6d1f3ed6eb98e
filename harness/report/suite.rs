//! The reports of several scenarios together: a page with links to theirs, and one `JUnit` file.

use std::path::Path;

use maud::html;

use super::files::{ReportError, prepare, replace};
use super::junit::{Granularity, junit};
use super::model::{Outcome, Report};
use super::page::{document, mark};
use super::words::{plural, seconds};

impl Report {
    /// Writes `index.html` and `junit.xml` of several runs into a folder, whose subfolders of these names have their reports. A run without a
    /// report is in the page only.
    ///
    /// # Errors
    /// A report cannot be read, or a file cannot be written.
    pub fn write_suite(folder: &Path, names: &[String], granularity: Granularity) -> Result<(), ReportError> {
        let read = |name: &String| {
            let own = folder.join(name);
            if Self::is_in(&own) { Self::read(&own).map(Some) } else { Ok(None) }
        };
        let reports = names.iter().map(|name| Ok((name.as_str(), read(name)?)));
        let reports: Vec<(&str, Option<Self>)> = reports.collect::<Result<_, ReportError>>()?;
        prepare(folder)?;
        let all: Vec<&Self> = reports.iter().filter_map(|(_, report)| report.as_ref()).collect();
        replace(&folder.join("junit.xml"), &junit(&all, granularity))?;
        replace(&folder.join("index.html"), &index(&reports))
    }
}

/// The page with links to the pages of runs.
fn index(reports: &[(&str, Option<Report>)]) -> String {
    let is_passed = |report: &&Report| report.result == Outcome::Passed;
    let passed = reports.iter().filter_map(|(_, report)| report.as_ref()).filter(is_passed).count();
    let title = format!("{passed} of {} passed", plural(reports.len(), "scenario"));
    let content = html! {
        header { h1 { (title) } }
        main {
            table {
                thead { tr { th { "scenario" } th { "result" } th { "claims" } th { "took" } } }
                tbody {
                    @for (name, report) in reports {
                        @match report {
                            Some(report) => {
                                @let (claims, held) = report.claims();
                                tr {
                                    td { a href={ (name) "/report.html" } { (name) } }
                                    td { (mark(Some(report.result))) " " (report.note) }
                                    td { (held) " of " (claims) }
                                    td { (seconds(report.took)) }
                                }
                            }
                            None => tr { td { (name) } td { "not run" } td {} td {} },
                        }
                    }
                }
            }
        }
    };
    document(&title, &content)
}

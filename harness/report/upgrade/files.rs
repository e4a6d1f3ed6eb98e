use std::fs;
use std::path::Path;

use super::model::UpgradeReport;
use super::page::page;
use crate::report::{Granularity, Report, ReportError, files};

impl UpgradeReport {
    /// Writes `upgrade.html` and `upgrade.json` into a folder. Creates the folder if it does not exist.
    ///
    /// # Errors
    /// The folder or a file in it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        files::prepare(folder)?;
        files::replace(&folder.join("upgrade.html"), &page(self))?;
        files::replace(&folder.join("upgrade.json"), &files::pretty(self))
    }

    /// Removes the report of an earlier test from the folder and marks the reports of its runs as unfinished.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(folder: &Path, reproduce: &str) -> Result<(), ReportError> {
        files::prepare(folder)?;
        for name in ["upgrade.json", "upgrade.html"] {
            let path = folder.join(name);
            // shows whether the folder is writable
            files::replace(&path, "")?;
            fs::remove_file(&path).map_err(ReportError::unwritable(&path))?;
        }
        for entry in fs::read_dir(folder).map_err(ReportError::unwritable(folder))?.flatten() {
            if Report::read(&entry.path().join("report.json")).is_ok() {
                Report::begin(&entry.path(), Granularity::default(), reproduce.to_owned())?;
            }
        }
        Ok(())
    }

    /// The HTML page of the report.
    pub fn html(&self) -> String {
        page(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Outcome, Recorder};

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

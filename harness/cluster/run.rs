use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ClusterError;

/// The id of one run: eight hexadecimal digits. Everything that a run makes carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(String);

impl RunId {
    /// A fresh id.
    #[must_use]
    pub fn fresh() -> Self {
        // the standard library's hasher is seeded by the system
        let seed = RandomState::new().build_hasher().finish();
        Self(format!("{:08x}", seed >> 32))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<&str> for RunId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

/// When a cluster or namespace outlives its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Keep {
    /// Never.
    #[default]
    Never,
    /// When a claim failed.
    Failed,
    /// Always.
    Always,
}

/// What a run has made, written down before it is made: what `sweep` reads after a run was killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// Its process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: tells it from a later one with the same number.
    pub started: u64,
    /// The boot that both belong to.
    pub boot: String,
    /// Whether its cluster or namespace was left on purpose.
    pub kept: bool,
    /// The namespace on an existing cluster; none where the whole cluster was the run's own.
    pub namespace: Option<KubeNamespace>,
}

/// A namespace on an existing cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KubeNamespace {
    /// The kubeconfig file; none means the default one.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; none means the current one.
    pub context: Option<String>,
    /// The namespace.
    pub name: String,
}

impl RunRecord {
    /// The record of this process's run.
    #[must_use]
    pub fn own(id: RunId, namespace: Option<KubeNamespace>) -> Self {
        let pid = std::process::id();
        Self { id, pid, started: start_of(pid).unwrap_or(0), boot: boot(), kept: false, namespace }
    }

    /// Whether the run's process is still at work.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.boot == boot() && start_of(self.pid) == Some(self.started)
    }
}

/// The records of the runs on this machine.
#[derive(Debug, Clone)]
pub struct RunRecords {
    folder: PathBuf,
}

impl RunRecords {
    /// Records in `runs/` of the cache folder.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { folder: cache.join("runs") }
    }

    /// Writes a record, or overwrites it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, record: &RunRecord) -> Result<(), ClusterError> {
        let path = self.path(&record.id);
        let failed = |source| ClusterError::Record { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        // by rename, so that nobody reads half a record
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path)).map_err(failed)
    }

    /// Removes a record; one that is not there is removed already.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remove(&self, id: &RunId) -> Result<(), ClusterError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(ClusterError::Record { path, source }),
            _ => Ok(()),
        }
    }

    /// All records that can be read.
    #[must_use]
    pub fn all(&self) -> Vec<RunRecord> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
            .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
            .collect()
    }

    fn path(&self, id: &RunId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

/// When a process started, in clock ticks since boot; none where there is no such process.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, in parentheses, may hold anything; the fields are counted after it
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(started)
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_alive_as_long_as_its_very_process() {
        let own = RunRecord::own(RunId::fresh(), None);
        assert!(own.is_alive());
        assert!(!RunRecord { started: own.started + 1, ..own.clone() }.is_alive());
        assert!(!RunRecord { boot: "another".to_owned(), ..own.clone() }.is_alive());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let started = start_of(ended.id()).unwrap_or(0);
        let record = RunRecord { pid: ended.id(), started, ..own };
        ended.wait().unwrap();
        assert!(!record.is_alive());
    }

    #[test]
    fn records_are_written_read_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let records = RunRecords::new(folder.path());
        assert_eq!(records.all().len(), 0);
        let record = RunRecord::own(RunId::fresh(), None);
        records.write(&record).unwrap();
        assert_eq!(records.all()[0].id, record.id);
        records.remove(&record.id).unwrap();
        records.remove(&record.id).unwrap();
        assert_eq!(records.all().len(), 0);
    }
}

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
    pub owner: Owner,
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
        Self { id, owner: Owner::this_process(), kept: false, namespace }
    }
}

/// A process, told from every other one before and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot: tells it from a later process of the same number.
    pub started: u64,
    /// The boot that both belong to.
    pub boot: String,
}

impl Owner {
    /// This process.
    #[must_use]
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, started: start_of(pid).unwrap_or(0), boot: boot() }
    }

    /// Whether the process is still at work.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.boot == boot() && start_of(self.pid) == Some(self.started)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let pid = parts.next()?.parse().ok()?;
        let started = parts.next()?.parse().ok()?;
        Some(Self { pid, started, boot: parts.next()?.to_owned() })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.pid, self.started, self.boot)
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

    /// The folder for a run's own files; it is there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, id: &RunId) -> Result<PathBuf, ClusterError> {
        let path = self.folder.join(id.as_str());
        fs::create_dir_all(&path).map_err(|source| ClusterError::Record { path: path.clone(), source })?;
        Ok(path)
    }

    /// Removes a run's files and its record; what is not there is removed already.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remove(&self, id: &RunId) -> Result<(), ClusterError> {
        let folder = self.folder.join(id.as_str());
        let record = self.path(id);
        // the record goes last: as long as it is there, a sweep tries again
        for (path, removed) in [(&folder, fs::remove_dir_all(&folder)), (&record, fs::remove_file(&record))] {
            if let Err(source) = removed
                && source.kind() != ErrorKind::NotFound
            {
                return Err(ClusterError::Record { path: path.clone(), source });
            }
        }
        Ok(())
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
    fn an_owner_is_alive_as_long_as_its_very_process() {
        let own = Owner::this_process();
        assert!(own.is_alive());
        assert_eq!(Owner::parse(&own.to_string()), Some(own.clone()));
        assert!(!Owner { started: own.started + 1, ..own.clone() }.is_alive());
        assert!(!Owner { boot: "another".to_owned(), ..own.clone() }.is_alive());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let started = start_of(ended.id()).unwrap_or(0);
        let owner = Owner { pid: ended.id(), started, ..own };
        ended.wait().unwrap();
        assert!(!owner.is_alive());
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

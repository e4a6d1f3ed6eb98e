use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::ClusterError;
use super::existing::KubeCluster;
use super::owner::{Observer, Owner};

/// The id of one run: eight hexadecimal digits. Everything that a run makes carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RunId(String);

/// A text that is not the id of a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not the id of a run: eight hexadecimal digits, such as 0123abcd")]
pub struct RunIdError(String);

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

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(id: String) -> Result<Self, RunIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() == 8 && id.bytes().all(is_digit) { Ok(Self(id)) } else { Err(RunIdError(id)) }
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(id: &str) -> Result<Self, RunIdError> {
        id.to_owned().try_into()
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

/// What a run creates outside of its process, written down before it is created: what `sweep` reads after a run was killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// The run's process; none in a record of an earlier version.
    #[serde(default, deserialize_with = "or_none")]
    pub owner: Option<Owner>,
    /// Whether the cluster or namespace was left on purpose.
    pub kept: bool,
    /// The address of the Docker engine with the run's cluster.
    #[serde(default)]
    pub engine: Option<String>,
    /// The namespace on an existing cluster; none where the run has a cluster of its own.
    pub namespace: Option<KubeNamespace>,
}

/// A namespace on an existing cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeNamespace {
    /// The namespace.
    pub name: String,
    /// The cluster; none in a record of an earlier version.
    #[serde(default, deserialize_with = "or_none")]
    pub cluster: Option<KubeCluster>,
}

/// What earlier versions wrote in another form is not known.
fn or_none<'de, T: for<'a> Deserialize<'a>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

impl RunRecord {
    /// The record of a run of this process.
    #[must_use]
    pub fn own(id: RunId, namespace: Option<KubeNamespace>, cache: &Path) -> Self {
        Self { id, owner: Some(Owner::this_process(cache)), kept: false, engine: None, namespace }
    }
}

/// The records of the runs on this machine.
#[derive(Debug, Clone)]
pub struct RunRecords {
    cache: PathBuf,
    folder: PathBuf,
}

/// The records in a folder.
#[derive(Debug, Default)]
pub struct KnownRuns {
    /// Those that can be read.
    pub records: Vec<RunRecord>,
    /// Files that are not records, and what is wrong with them.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl RunRecords {
    /// Records in `runs/` of the cache folder.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { cache: cache.to_owned(), folder: cache.join("runs") }
    }

    /// This process as an observer of the owners of runs.
    pub(super) fn observer(&self) -> Observer {
        Observer::this_process(&self.cache)
    }

    /// Writes a record, or overwrites it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, record: &RunRecord) -> Result<(), ClusterError> {
        let path = self.path(&record.id);
        let failed = |source| ClusterError::Record { path: path.clone(), source };
        private_folder(&self.folder).map_err(failed)?;
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        write_private(&path, &text).map_err(failed)
    }

    /// Whether a run has a record.
    #[must_use]
    pub fn has(&self, id: &RunId) -> bool {
        self.path(id).exists()
    }

    /// The folder for a run's own files, which is created; only its user may enter it.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn folder(&self, id: &RunId) -> Result<PathBuf, ClusterError> {
        let path = self.folder.join(id.as_str());
        let created = private_folder(&self.folder).and_then(|()| private_folder(&path));
        created.map_err(|source| ClusterError::Record { path: path.clone(), source })?;
        Ok(path)
    }

    /// Writes a file into the folder of a run; only its user may read it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write_file(&self, id: &RunId, name: &str, text: &[u8]) -> Result<PathBuf, ClusterError> {
        let path = self.folder(id)?.join(name);
        write_private(&path, text).map_err(|source| ClusterError::Record { path: path.clone(), source })?;
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

    /// All records. A file whose name is not the id in it is none.
    #[must_use]
    pub fn all(&self) -> KnownRuns {
        let mut known = KnownRuns::default();
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        for path in files {
            let record = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| serde_json::from_slice::<RunRecord>(&text).map_err(|error| error.to_string()));
            match record {
                Ok(record) if self.path(&record.id) == path => known.records.push(record),
                Ok(record) => {
                    known.unreadable.push((path, format!("it is called otherwise than its run {}", record.id)));
                }
                Err(reason) => known.unreadable.push((path, reason)),
            }
        }
        known
    }

    fn path(&self, id: &RunId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

/// Creates a folder that only its user may enter; one that is there is closed to others.
fn private_folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Writes a file that only its user may read, by rename, so that nobody reads half of it.
fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    // a left-over would keep its mode
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text)?;
    drop(file);
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::absolute("/etc")]
    #[case::empty("")]
    #[case::parent("../../..")]
    #[case::dots("........")]
    #[case::short("0123abc")]
    #[case::long("0123abcde")]
    #[case::upper("0123ABCD")]
    #[case::not_hexadecimal("0123abcg")]
    #[case::eight_bytes_that_are_no_digits("äöüß")]
    fn an_id_is_eight_hexadecimal_digits(#[case] id: &str) {
        let error = id.parse::<RunId>().unwrap_err().to_string();
        assert_eq!(error, format!("`{id}` is not the id of a run: eight hexadecimal digits, such as 0123abcd"));
        assert!(serde_json::from_value::<RunId>(Value::String(id.to_owned())).is_err());
        assert_eq!("0123abcd".parse::<RunId>().unwrap().as_str(), "0123abcd");
        assert!(RunId::fresh().as_str().parse::<RunId>().is_ok());
    }

    #[test]
    fn records_are_written_read_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let records = RunRecords::new(folder.path());
        assert_eq!(records.all().records.len(), 0);
        let record = RunRecord::own(RunId::fresh(), None, folder.path());
        records.write(&record).unwrap();
        assert_eq!(records.all().records[0].id, record.id);
        records.remove(&record.id).unwrap();
        records.remove(&record.id).unwrap();
        assert_eq!(records.all().records.len(), 0);
    }

    #[test]
    fn a_record_whose_id_is_a_path_or_another_runs_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let records = RunRecords::new(folder.path());
        let record = RunRecord::own(RunId::fresh(), None, folder.path());
        records.write(&record).unwrap();
        let text = serde_json::to_value(&record).unwrap();
        for (name, id) in [("empty", ""), ("absolute", "/tmp/precious"), ("01234567", record.id.as_str())] {
            let mut spoilt = text.clone();
            spoilt["id"] = id.into();
            fs::write(folder.path().join(format!("runs/{name}.json")), spoilt.to_string()).unwrap();
        }
        let known = records.all();
        assert_eq!(known.records.iter().map(|record| &record.id).collect::<Vec<_>>(), [&record.id]);
        let reasons: Vec<&str> = known.unreadable.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(reasons.len(), 3);
        assert!(
            reasons[0].contains("called otherwise") && reasons[1].contains("`/tmp/precious` is not the id"),
            "{reasons:?}"
        );
    }

    #[test]
    fn a_record_of_an_earlier_version_has_no_owner_and_no_cluster() {
        let text = r#"{"id":"0123abcd","owner":{"pid":1,"started":2,"boot":"b"},"kept":false,
            "namespace":{"kubeconfig":null,"context":null,"name":"canary-0123abcd"}}"#;
        let record: RunRecord = serde_json::from_str(text).unwrap();
        assert_eq!(record.owner, None);
        assert_eq!(record.namespace, Some(KubeNamespace { name: "canary-0123abcd".to_owned(), cluster: None }));
    }

    #[test]
    fn files_of_runs_are_for_their_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let records = RunRecords::new(folder.path());
        // as an earlier version left it
        fs::create_dir(folder.path().join("runs")).unwrap();
        fs::set_permissions(folder.path().join("runs"), fs::Permissions::from_mode(0o755)).unwrap();
        let record = RunRecord::own(RunId::fresh(), None, folder.path());
        records.write(&record).unwrap();
        let file = records.write_file(&record.id, "kubeconfig", b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        assert_eq!(mode(&folder.path().join("runs")), 0o700);
        assert_eq!(mode(&folder.path().join(format!("runs/{}.json", record.id))), 0o600);
        assert_eq!(fs::read(&file).unwrap(), b"secret");
    }
}

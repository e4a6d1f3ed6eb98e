use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::ClusterError;
use super::kubeconfig::KubeCluster;
use super::owner::{Observer, Owner};
use super::run_id::RunId;

/// Whether the cluster or namespace of a run is kept after the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Keep {
    /// It is removed.
    #[default]
    Never,
    /// It is kept if a claim failed.
    Failed,
    /// It is kept.
    Always,
}

/// The resources of a run, recorded before they are created. `sweep` removes the resources of killed runs by these records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// The id of the run.
    pub id: RunId,
    /// The process of the run; none in a record of an earlier version.
    #[serde(default, deserialize_with = "or_none")]
    pub owner: Option<Owner>,
    /// Whether the cluster or namespace was kept on purpose.
    pub kept: bool,
    /// The address of the Docker engine with the run's cluster.
    #[serde(default)]
    pub engine: Option<String>,
    /// The namespace on an existing cluster; none if the run has its own cluster.
    pub namespace: Option<KubeNamespace>,
}

/// A namespace on an existing cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeNamespace {
    /// The name of the namespace.
    pub name: String,
    /// The cluster; none in a record of an earlier version.
    #[serde(default, deserialize_with = "or_none")]
    pub cluster: Option<KubeCluster>,
}

/// Reads a value; none if an earlier version wrote it in another format.
fn or_none<'de, T: for<'a> Deserialize<'a>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

impl RunRecord {
    /// A record for a run of this process.
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

/// The records of a folder.
#[derive(Debug, Default)]
pub struct KnownRuns {
    /// The records.
    pub records: Vec<RunRecord>,
    /// Files that are not valid records, with the reasons.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl RunRecords {
    /// Records in `runs/` of the cache folder.
    pub fn new(cache: &Path) -> Self {
        Self { cache: cache.to_owned(), folder: cache.join("runs") }
    }

    /// This process, to find out whether the owners of runs are running.
    pub(super) fn observer(&self) -> Observer {
        Observer::this_process(&self.cache)
    }

    /// Writes or overwrites a record.
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
    pub fn has(&self, id: &RunId) -> bool {
        self.path(id).exists()
    }

    /// The record of a run; none where the run has created nothing.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn read(&self, id: &RunId) -> Result<Option<RunRecord>, ClusterError> {
        let path = self.path(id);
        match fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?)) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ClusterError::Record { path, source }),
        }
    }

    /// The run whose throwaway cluster this is or was, by the place of its kubeconfig; none if the cluster is another.
    pub(super) fn run_of(&self, cluster: &KubeCluster) -> Option<RunId> {
        let folder = std::path::absolute(&self.folder).ok()?;
        let run = |file: &PathBuf| file.strip_prefix(&folder).ok()?.parent()?.to_str()?.parse().ok();
        cluster.kubeconfig.iter().find_map(run)
    }

    /// Creates the folder for the files of a run. Only the user can access it.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn folder(&self, id: &RunId) -> Result<PathBuf, ClusterError> {
        let path = self.folder.join(id.as_str());
        let created = private_folder(&self.folder).and_then(|()| private_folder(&path));
        created.map_err(|source| ClusterError::Record { path: path.clone(), source })?;
        Ok(path)
    }

    /// Writes a file into the folder of a run. Only the user can read it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write_file(&self, id: &RunId, name: &str, text: &[u8]) -> Result<PathBuf, ClusterError> {
        let path = self.folder(id)?.join(name);
        write_private(&path, text).map_err(|source| ClusterError::Record { path: path.clone(), source })?;
        Ok(path)
    }

    /// Removes the files and the record of a run, if they exist.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remove(&self, id: &RunId) -> Result<(), ClusterError> {
        let folder = self.folder.join(id.as_str());
        let record = self.path(id);
        // the record is removed last: while it exists, a sweep tries again
        for (path, removed) in [(&folder, fs::remove_dir_all(&folder)), (&record, fs::remove_file(&record))] {
            if let Err(source) = removed
                && source.kind() != ErrorKind::NotFound
            {
                return Err(ClusterError::Record { path: path.clone(), source });
            }
        }
        Ok(())
    }

    /// Reads all records. A file is valid only if its name is the id in it.
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
                    known.unreadable.push((path, format!("its name is not that of its run, {}", record.id)));
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

/// Creates a folder that only the user can access, or removes the access of others to an existing folder.
fn private_folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Writes a file that only the user can read. It is renamed when complete, so that no process reads a partial file.
fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    // an existing file would keep its mode
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
    use super::*;

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
    fn a_record_with_a_path_or_another_id_is_not_read() {
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
            reasons[0].contains("its name is not that of its run")
                && reasons[1].contains("`/tmp/precious` is not the id"),
            "{reasons:?}"
        );
    }

    #[test]
    fn a_cluster_with_a_kubeconfig_of_a_run_is_that_of_the_run() {
        let records = RunRecords::new(Path::new("/cache"));
        let run_of = |kubeconfig: &str| {
            let (context, server, ca) = ("default".to_owned(), "https://127.0.0.1:1/".to_owned(), String::new());
            records.run_of(&KubeCluster { kubeconfig: vec![kubeconfig.into()], context, server, ca })
        };
        assert_eq!(run_of("/cache/runs/0123abcd/kubeconfig"), Some("0123abcd".parse().unwrap()));
        assert_eq!(run_of("/home/me/.kube/config"), None);
        assert_eq!(run_of("/cache/runs/kubeconfig"), None);
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
    fn only_the_user_can_read_the_files_of_runs() {
        let folder = tempfile::tempdir().unwrap();
        let records = RunRecords::new(folder.path());
        // as earlier versions created it
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

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures::future::join_all;

use super::ClusterError;
use super::answer::answered;
use super::engine::Docker;
use super::owner::{Life, Observer, Owner, Process, process};
use super::run::{KubeNamespace, RunRecord, RunRecords};
use super::run_id::RunId;

/// The timeout for removing one namespace of an existing cluster.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(10);

/// What to sweep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Also what a run with the same cache folder has kept.
    pub kept: bool,
    /// Only what this run has left, even if it is kept or its owner cannot be proven to have ended.
    pub only: Option<&'a RunId>,
}

/// The result of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The runs whose clusters were removed.
    pub clusters: Vec<RunId>,
    /// The namespaces that were removed from existing clusters.
    pub namespaces: Vec<String>,
    /// What runs with the same cache folder have kept on purpose, with the runs.
    pub kept: Vec<(String, RunId)>,
    /// What was left alone because its owner may still run.
    pub left: Vec<LeftAlone>,
    /// What could not be removed, with the reasons.
    pub failures: Vec<String>,
}

/// Something that a sweep left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAlone {
    /// Its description.
    pub what: String,
    /// The run that has created it, if known.
    pub run: Option<RunId>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "left alone: {}: {}", self.what, self.why)?;
        match &self.run {
            Some(run) => write!(formatter, "; `shiftcheck sweep --run {run}` removes it"),
            None => Ok(()),
        }
    }
}

/// What to do with something that a run has created.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Remove,
    Leave,
    /// Leave and list with this reason.
    List(String),
    /// Leave for this reason, although the caller has asked for it.
    Refuse(String),
}

/// Decides about something that a run of this owner has created.
fn decide(
    here: &Observer,
    run: &RunId,
    owner: Option<&Owner>,
    kept: bool,
    wanted: Wanted<'_>,
    process: impl Fn(u32) -> Process,
) -> Decision {
    if wanted.only.is_some_and(|only| only != run) {
        return Decision::Leave;
    }
    let life = here.life(owner, process);
    match (life, owner) {
        (Life::Running, Some(owner)) if wanted.only.is_some() => Decision::Refuse(format!("it is in use by {owner}")),
        (Life::Running, _) => Decision::Leave,
        (Life::Ended | Life::Unknown(_), _) if wanted.only.is_some() => Decision::Remove,
        (Life::Ended | Life::Unknown(_), _) if kept && !wanted.kept => Decision::Leave,
        (Life::Unknown(why), _) => Decision::List(why),
        (Life::Ended, Some(owner)) if kept && owner.cache != here.own.cache => {
            Decision::List("it was kept by a run with another cache folder".to_owned())
        }
        (Life::Ended, _) => Decision::Remove,
    }
}

/// A sweep that is going on.
struct Sweep<'a> {
    here: Observer,
    wanted: Wanted<'a>,
    swept: Swept,
}

impl Sweep<'_> {
    /// Whether to remove something that a run of this owner has left. What is left alone or refused is listed with the reason.
    fn removes(&mut self, what: &str, run: &RunId, owner: Option<&Owner>, kept: bool) -> bool {
        match decide(&self.here, run, owner, kept, self.wanted, process) {
            Decision::Remove => return true,
            Decision::Leave if kept && self.wanted.only.is_none() => {
                self.swept.kept.push((what.to_owned(), run.clone()));
            }
            Decision::Leave => {}
            Decision::List(why) => {
                self.swept.left.push(LeftAlone { what: what.to_owned(), run: Some(run.clone()), why });
            }
            Decision::Refuse(why) => self.swept.failures.push(format!("{what} is not removed: {why}")),
        }
        false
    }

    /// Removes the records of runs without a cluster, and returns the namespaces that are to be removed. `standing` are the runs whose clusters exist.
    fn of_records<'a>(
        &mut self,
        known: Vec<&'a RunRecord>,
        standing: &BTreeSet<RunId>,
        engine: Option<&str>,
        records: &RunRecords,
    ) -> Result<Vec<(&'a KubeNamespace, &'a RunId)>, ClusterError> {
        let mut namespaces = Vec::new();
        for record in known {
            let what = match &record.namespace {
                Some(namespace) => format!("the namespace {} of run {}", namespace.name, record.id),
                None => format!("the record of run {}", record.id),
            };
            let cluster = record.namespace.as_ref().and_then(|namespace| records.run_of(namespace.cluster.as_ref()?));
            let without_cluster = cluster.is_some_and(|run| !standing.contains(&run));
            if !self.removes(&what, &record.id, record.owner.as_ref(), record.kept && !without_cluster) {
                continue;
            }
            match (&record.namespace, &record.engine) {
                (Some(namespace), _) if !without_cluster => namespaces.push((namespace, &record.id)),
                // without an engine nobody knows whether the cluster still exists: the record stays
                _ if engine.is_none() => {}
                (None, Some(at)) if engine != Some(at.as_str()) => {
                    let why =
                        format!("its cluster is on the engine at {at}; set DOCKER_HOST to that address to remove it");
                    self.swept.left.push(LeftAlone { what, run: None, why });
                }
                // the namespace or the cluster is gone
                _ => records.remove(&record.id)?,
            }
        }
        Ok(namespaces)
    }
}

/// Removes what is left of runs whose process has ended: clusters with their volumes, and namespaces. Nothing is removed if the owner may still
/// run. A process of another host, container or user that cannot be seen from here counts as running; what it owns is listed.
///
/// # Errors
/// The engine does not list its containers, or the only wanted run is not known. Without an engine, only namespaces are removed.
pub async fn sweep(docker: Option<&Docker>, records: &RunRecords, wanted: Wanted<'_>) -> Result<Swept, ClusterError> {
    let mut sweep = Sweep { here: records.observer(), wanted, swept: Swept::default() };
    let known = records.all();
    for (path, reason) in known.unreadable {
        if wanted.only.is_none() {
            let what = format!("the record {}", path.display());
            sweep.swept.left.push(LeftAlone { what, run: None, why: format!("it cannot be read: {reason}") });
        }
    }
    let clusters = match docker {
        Some(docker) => docker.run_clusters().await?,
        None => Vec::new(),
    };
    if let Some(only) = wanted.only {
        let mut runs = clusters.iter().map(|cluster| &cluster.run).chain(known.records.iter().map(|record| &record.id));
        if runs.all(|run| run != only) {
            return Err(ClusterError::NoRun(only.clone()));
        }
    }
    // runs whose cluster still exists
    let mut standing = BTreeSet::new();
    if let Some(docker) = docker {
        for cluster in clusters {
            let run = &cluster.run;
            let kept = cluster.kept || known.records.iter().any(|record| record.id == *run && record.kept);
            if sweep.removes(&format!("the cluster of run {run}"), run, cluster.owner.as_ref(), kept) {
                match docker.remove_cluster(&cluster).await {
                    Ok(()) => {
                        sweep.swept.clusters.push(cluster.run);
                        continue;
                    }
                    Err(error) => sweep.swept.failures.push(error.to_string()),
                }
            }
            standing.insert(cluster.run);
        }
    }
    let known = known.records.iter().filter(|record| !standing.contains(&record.id));
    let namespaces = sweep.of_records(known.collect(), &standing, docker.map(Docker::address), records)?;
    sweep.swept.remove_namespaces(namespaces, records).await?;
    Ok(sweep.swept)
}

impl Swept {
    /// Removes these namespaces and the records of their runs. The record of a namespace that cannot be removed stays, so that the next sweep
    /// tries again.
    async fn remove_namespaces(
        &mut self,
        namespaces: Vec<(&KubeNamespace, &RunId)>,
        records: &RunRecords,
    ) -> Result<(), ClusterError> {
        let removals = namespaces.into_iter().map(async |(own, run)| (&own.name, run, remove(own, run).await));
        for (name, run, removed) in join_all(removals).await {
            match removed {
                Ok(was_there) => {
                    if was_there {
                        self.namespaces.push(name.clone());
                    }
                    records.remove(run)?;
                }
                Err(error) => self.failures.push(format!("the namespace {name} of run {run} is not removed: {error}")),
            }
        }
        Ok(())
    }
}

async fn remove(namespace: &KubeNamespace, run: &RunId) -> Result<bool, ClusterError> {
    let cluster = namespace.cluster.as_ref().ok_or_else(|| ClusterError::UnknownCluster(run.clone()))?;
    let removal = cluster.remove_namespace(&namespace.name, run);
    answered(format!("the API server at {}", cluster.server), NAMESPACE_LIMIT, removal).await?
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rstest::rstest;

    use super::super::kubeconfig::KubeCluster;
    use super::super::owner::Sight;
    use super::*;

    const RUN: &str = "0123abcd";

    fn here() -> Observer {
        Observer { own: Owner::this_process(Path::new("/one/cache")), sees: Sight::All }
    }

    #[derive(Clone, Copy)]
    enum Asked {
        AtAStart,
        Kept,
        ThisRun,
        OtherRun,
    }

    fn decided(change: fn(&mut Owner), kept: bool, asked: Asked, process: Process) -> String {
        let here = here();
        let (own, other): (RunId, RunId) = (RUN.parse().unwrap(), "4567cdef".parse().unwrap());
        let mut owner = Owner { pid: 100, started: 5000, ..here.own.clone() };
        change(&mut owner);
        let wanted = match asked {
            Asked::AtAStart => Wanted::default(),
            Asked::Kept => Wanted { kept: true, only: None },
            Asked::ThisRun => Wanted { kept: false, only: Some(&own) },
            Asked::OtherRun => Wanted { kept: false, only: Some(&other) },
        };
        match decide(&here, &own, Some(&owner), kept, wanted, |_| process) {
            Decision::Remove => "remove".to_owned(),
            Decision::Leave => "leave".to_owned(),
            Decision::List(why) => format!("list: {why}"),
            Decision::Refuse(why) => format!("refuse: {why}"),
        }
    }

    #[rstest]
    #[case::killed(|_: &mut Owner| {}, false, Asked::AtAStart, Process::Absent, "remove")]
    #[case::running(|_: &mut Owner| {}, false, Asked::AtAStart, Process::Started(5000), "leave")]
    #[case::running_with_another_cache(|owner: &mut Owner| owner.cache = "c2".into(), false, Asked::AtAStart, Process::Started(5000), "leave")]
    #[case::killed_with_another_cache(|owner: &mut Owner| owner.cache = "c2".into(), false, Asked::AtAStart, Process::Absent, "remove")]
    #[case::running_of_another_user(|owner: &mut Owner| owner.user = 1, false, Asked::AtAStart, Process::Started(5000), "leave")]
    #[case::of_another_host(|owner: &mut Owner| owner.hostname = "far".into(), false, Asked::AtAStart, Process::Absent, "list: it was started on another host, far")]
    #[case::of_a_container(|owner: &mut Owner| owner.pid_namespace = 7, false, Asked::AtAStart, Process::Absent, "list: it was started in another container")]
    #[case::kept(|_: &mut Owner| {}, true, Asked::AtAStart, Process::Absent, "leave")]
    #[case::kept_on_another_host(|owner: &mut Owner| owner.hostname = "far".into(), true, Asked::AtAStart, Process::Absent, "leave")]
    #[case::kept_and_asked_for(|_: &mut Owner| {}, true, Asked::Kept, Process::Absent, "remove")]
    #[case::kept_with_another_cache(|owner: &mut Owner| owner.cache = "c2".into(), true, Asked::Kept, Process::Absent, "list: it was kept by a run with another cache")]
    #[case::kept_elsewhere(|owner: &mut Owner| owner.pid_namespace = 7, true, Asked::Kept, Process::Absent, "list: it was started in another container")]
    #[case::named(|_: &mut Owner| {}, true, Asked::ThisRun, Process::Absent, "remove")]
    #[case::named_from_elsewhere(|owner: &mut Owner| owner.hostname = "far".into(), false, Asked::ThisRun, Process::Absent, "remove")]
    #[case::named_while_it_runs(|_: &mut Owner| {}, false, Asked::ThisRun, Process::Started(5000), "refuse: it is in use by process 100")]
    #[case::another_process_has_its_number(|_: &mut Owner| {}, false, Asked::AtAStart, Process::Started(6000), "remove")]
    #[case::another_is_named(|_: &mut Owner| {}, false, Asked::OtherRun, Process::Absent, "leave")]
    fn a_sweep_removes_what_is_proven_to_be_left_over(
        #[case] change: fn(&mut Owner),
        #[case] kept: bool,
        #[case] asked: Asked,
        #[case] process: Process,
        #[case] expected: &str,
    ) {
        let decided = decided(change, kept, asked, process);
        assert!(decided.starts_with(expected), "{decided}");
    }

    #[rstest]
    #[case::at_a_start(Wanted::default(), false, Decision::List("an earlier version of shiftcheck started it".to_owned()))]
    #[case::kept(Wanted::default(), true, Decision::Leave)]
    #[case::kept_and_asked_for(Wanted { kept: true, only: None }, true, Decision::List("an earlier version of shiftcheck started it".to_owned()))]
    fn what_has_no_owner_is_removed_by_name_only(
        #[case] wanted: Wanted<'_>,
        #[case] kept: bool,
        #[case] expected: Decision,
    ) {
        let run: RunId = RUN.parse().unwrap();
        let decided = |wanted: Wanted<'_>| decide(&here(), &run, None, kept, wanted, |_| Process::Absent);
        assert_eq!(decided(wanted), expected);
        assert_eq!(decided(Wanted { only: Some(&run), ..wanted }), Decision::Remove);
    }

    /// Records of runs that have ended, in a cache of their own.
    fn ended(change: impl Fn(&mut RunRecord)) -> (tempfile::TempDir, RunRecords) {
        let cache = tempfile::tempdir().unwrap();
        let records = RunRecords::new(cache.path());
        let mut record = RunRecord::own(RUN.parse().unwrap(), None, cache.path());
        if let Some(owner) = &mut record.owner {
            owner.started += 1;
        }
        change(&mut record);
        records.write(&record).unwrap();
        (cache, records)
    }

    #[tokio::test]
    async fn without_an_engine_the_record_of_a_cluster_stays() {
        let (_cache, records) = ended(|_| {});
        let swept = sweep(None, &records, Wanted::default()).await.unwrap();
        assert_eq!(swept, Swept::default());
        assert!(records.has(&RUN.parse().unwrap()));
    }

    #[tokio::test]
    async fn without_an_engine_nobody_looks_for_a_namespace_of_a_shared_cluster() {
        let (cache, records) = ended(|_| {});
        let kubeconfig = vec![cache.path().join("runs/4567cdef/kubeconfig")];
        let (context, server, ca) = ("default".to_owned(), "https://127.0.0.1:1/".to_owned(), String::new());
        let cluster = Some(KubeCluster { kubeconfig, context, server, ca });
        let record = records.read(&RUN.parse().unwrap()).unwrap().unwrap();
        let namespace = Some(KubeNamespace { name: "canary-0123abcd".to_owned(), cluster });
        records.write(&RunRecord { namespace, ..record }).unwrap();
        let swept = sweep(None, &records, Wanted::default()).await.unwrap();
        assert_eq!(swept, Swept::default());
        assert!(records.has(&RUN.parse().unwrap()));
    }

    #[tokio::test]
    async fn a_record_that_does_not_say_which_cluster_is_used_against_none() {
        let namespace = KubeNamespace { name: "canary-0123abcd".to_owned(), cluster: None };
        let (_cache, records) = ended(|record| record.namespace = Some(namespace.clone()));
        let swept = sweep(None, &records, Wanted::default()).await.unwrap();
        assert_eq!(swept.failures.len(), 1);
        assert!(swept.failures[0].contains("does not name the cluster"), "{:?}", swept.failures);
        assert!(records.has(&RUN.parse().unwrap()));
    }

    #[tokio::test]
    async fn a_record_is_not_used_against_another_cluster_of_the_same_context() {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("config");
        let text = |server: &str| {
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
                 clusters: [{{name: here, cluster: {{server: '{server}'}}}}]\nusers: [{{name: me, user: {{}}}}]\n\
                 contexts: [{{name: here, context: {{cluster: here, user: me}}}}]\n"
            )
        };
        fs::write(&kubeconfig, text("http://127.0.0.1:1")).unwrap();
        let (cluster, _) = KubeCluster::find(Some(&kubeconfig), None).await.unwrap();
        assert_eq!((cluster.context.as_str(), cluster.server.as_str()), ("here", "http://127.0.0.1:1/"));
        assert!(cluster.client().await.is_ok());
        fs::write(&kubeconfig, text("http://127.0.0.1:2")).unwrap();
        let namespace = KubeNamespace { name: "canary-0123abcd".to_owned(), cluster: Some(cluster) };
        let (_cache, records) = ended(|record| record.namespace = Some(namespace.clone()));
        let swept = sweep(None, &records, Wanted::default()).await.unwrap();
        assert!(swept.failures[0].contains("now it refers to http://127.0.0.1:2/"), "{:?}", swept.failures);
        assert!(records.has(&RUN.parse().unwrap()));
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_removes_nothing_and_is_listed() {
        let (cache, records) = ended(|_| {});
        let precious = cache.path().join("precious");
        fs::create_dir(&precious).unwrap();
        let file = cache.path().join(format!("runs/{RUN}.json"));
        for id in [precious.to_str().unwrap(), "", "../precious"] {
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            record["id"] = id.into();
            fs::write(cache.path().join("runs/wrong.json"), record.to_string()).unwrap();
            let swept = sweep(None, &records, Wanted::default()).await.unwrap();
            assert_eq!(swept.left.len(), 1, "{swept:?}");
            assert!(precious.is_dir() && cache.path().join("runs").is_dir());
        }
    }
}

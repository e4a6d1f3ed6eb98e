use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::descriptors::raise_limit;
use super::state::StateCollector;
use super::{LeftBehind, OpenVenue, Venue, VenueError};
use crate::cluster::{ClusterError, RunId, RunRecord, RunRecords, Swept, cluster_lost};
use crate::events::{Event, Events};
use crate::plan::Snapshot;
use crate::scenario::{Scenario, Sensitive};

/// The pause until the next look for the run's cluster.
const AGAIN: Duration = Duration::from_secs(1);

/// One run of a scenario in a venue. What the run creates carries its id.
#[derive(Debug)]
pub struct Run<'a> {
    /// The id.
    pub id: RunId,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The namespace, as it is in the venue.
    pub namespace: String,
    /// Where events go.
    pub events: Events,
    /// The folder of the image cache and the run records.
    pub cache: PathBuf,
    /// The records of the runs on this machine.
    pub(super) records: RunRecords,
    venue: Arc<dyn Venue>,
}

impl<'a> Run<'a> {
    /// A run that has created nothing yet.
    pub fn new(venue: Arc<dyn Venue>, scenario: &'a Scenario, cache: &Path, events: Events) -> Self {
        let id = RunId::fresh();
        Self {
            namespace: venue.namespace(&scenario.namespace, &id),
            records: RunRecords::new(cache),
            cache: cache.to_owned(),
            id,
            scenario,
            events,
            venue,
        }
    }

    /// The venue in words.
    pub fn place(&self) -> String {
        self.venue.description(self.scenario, &self.namespace)
    }

    /// Opens the venue.
    ///
    /// # Errors
    /// As those of [`Venue::open`]; the process may not open enough files.
    pub async fn open(&self) -> Result<Box<dyn OpenVenue + '_>, VenueError> {
        raise_limit()?;
        self.venue.open(self).await
    }

    /// Waits until the cluster is lost, and returns that as an error: as [`Venue::lost`], or the API server or all nodes are out of order.
    pub async fn lost(&self) -> ClusterError {
        let out_of_order = async {
            loop {
                if self.records.has(&self.id)
                    && let Some(client) = self.venue.client(self).await
                {
                    break cluster_lost(&client).await;
                }
                sleep(AGAIN).await;
            }
        };
        tokio::select! {
            lost = self.venue.lost(self) => lost,
            lost = out_of_order => lost,
        }
    }

    /// Writes the state of the cluster into a folder, as far as the run has created anything there. `expected` are the objects of the stage that
    /// was begun last.
    pub async fn collect(&self, expected: &Snapshot<'_>, folder: &Path) {
        if !self.records.has(&self.id) {
            return;
        }
        // where there is no cluster yet, there is no state of it
        let Some(client) = self.venue.client(self).await else { return };
        self.events.tell(Event::SettingUp("collecting the cluster state".to_owned()));
        let (scenario, namespace) = (self.scenario, self.namespace.as_str());
        let sensitive = Sensitive::of(scenario);
        Box::pin(StateCollector { client, scenario, namespace, expected, folder, sensitive }.collect()).await;
        self.events.tell(Event::Collected(folder.to_owned()));
    }

    /// Removes everything that the run has created, or keeps it. What cannot be removed keeps its record, so that a sweep finds it.
    ///
    /// # Errors
    /// Something could not be removed, or not be marked as kept.
    pub async fn close(self, keep: bool) -> Result<(), LeftBehind> {
        let Some(what) = self.venue.creation(&self) else { return Ok(()) };
        let closed = if keep { self.keep().await } else { self.remove().await };
        closed.map_err(|source| LeftBehind { what, run: self.id, source: Box::new(source) })
    }

    async fn keep(&self) -> Result<(), ClusterError> {
        let Some(record) = self.records.read(&self.id)? else { return Ok(()) };
        self.records.write(&RunRecord { kept: true, ..record })?;
        let Some(mut look) = self.venue.keep(self).await? else { return self.remove().await };
        look.push(format!("kubectl -n {} get all", self.namespace));
        self.events.tell(Event::Kept { look, remove: format!("shiftcheck sweep --run {}", self.id) });
        Ok(())
    }

    async fn remove(&self) -> Result<(), ClusterError> {
        self.events.tell(Event::Removing);
        let start = Instant::now();
        // what has no record was not created
        if let Some(record) = self.records.read(&self.id)? {
            self.venue.remove(&record).await?;
            self.records.remove(&self.id)?;
        }
        self.events.tell(Event::Removed(start.elapsed()));
        Ok(())
    }
}

/// Tells what a sweep at the start of a run has removed, and what it has left alone.
pub(super) fn tell_swept(swept: Swept, events: &Events) {
    for run in swept.clusters {
        events.tell(Event::Swept(format!("the cluster of run {run}")));
    }
    for name in swept.namespaces {
        events.tell(Event::Swept(format!("the namespace {name}")));
    }
    for left in swept.left.iter().map(ToString::to_string).chain(swept.failures) {
        events.tell(Event::NotSwept(left));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use rstest::rstest;

    use super::*;
    use crate::venue::Embedded;

    /// A venue where nothing is created, which writes down what it is asked to do.
    #[derive(Debug, Default)]
    struct Recorded {
        has_cluster: bool,
        is_stuck: bool,
        calls: Mutex<Vec<&'static str>>,
    }

    #[async_trait]
    impl Venue for Recorded {
        fn description(&self, _scenario: &Scenario, _namespace: &str) -> String {
            String::new()
        }

        async fn open<'a>(&'a self, _run: &'a Run<'a>) -> Result<Box<dyn OpenVenue + 'a>, VenueError> {
            Err(VenueError::NotThrowaway)
        }

        fn creation(&self, _run: &Run<'_>) -> Option<String> {
            Some("the cluster".to_owned())
        }

        async fn keep(&self, _run: &Run<'_>) -> Result<Option<Vec<String>>, ClusterError> {
            self.calls.lock().unwrap().push("keep");
            Ok(self.has_cluster.then(Vec::new))
        }

        async fn remove(&self, _record: &RunRecord) -> Result<(), ClusterError> {
            self.calls.lock().unwrap().push("remove");
            let stuck = || ClusterError::NoEngine("it hangs".to_owned());
            if self.is_stuck { Err(stuck()) } else { Ok(()) }
        }
    }

    /// A run with a venue and a cache folder, and the events that its end tells.
    async fn closed(venue: Arc<dyn Venue>, created: bool, keep: bool) -> (String, Vec<&'static str>) {
        let cache = tempfile::tempdir().unwrap();
        let (events, mut stream) = Events::channel();
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let run = Run::new(venue, &scenario, cache.path(), events);
        let (id, records) = (run.id.clone(), run.records.clone());
        if created {
            records.write(&RunRecord::own(id.clone(), None, cache.path())).unwrap();
        }
        let closed = run.close(keep).await;
        let record = match records.read(&id).unwrap() {
            None => "no record",
            Some(record) if record.kept => "kept",
            Some(_) => "recorded",
        };
        let result = closed.map_or_else(|error| format!(", {}", error.what), |()| String::new());
        let mut told = Vec::new();
        while let Some(timed) = stream.recv().await {
            told.push(match timed.event {
                Event::Removing => "removing",
                Event::Removed(_) => "removed",
                Event::Kept { .. } => "kept",
                other => panic!("{other:?}"),
            });
        }
        (format!("{record}{result}"), told)
    }

    #[rstest]
    #[case::removed(true, false, &["remove"], "no record", &["removing", "removed"])]
    #[case::kept(true, true, &["keep"], "kept", &["kept"])]
    #[case::nothing_to_remove(false, false, &[], "no record", &["removing", "removed"])]
    #[case::nothing_to_keep(false, true, &[], "no record", &[])]
    #[tokio::test]
    async fn what_has_a_record_is_removed_or_kept(
        #[case] created: bool,
        #[case] keep: bool,
        #[case] calls: &[&str],
        #[case] record: &str,
        #[case] events: &[&str],
    ) {
        let venue = Arc::new(Recorded { has_cluster: true, ..Recorded::default() });
        let (left, told) = closed(Arc::clone(&venue) as Arc<dyn Venue>, created, keep).await;
        assert_eq!((left.as_str(), told.as_slice()), (record, events));
        assert_eq!(venue.calls.lock().unwrap().as_slice(), calls);
    }

    #[tokio::test]
    async fn a_run_that_failed_before_its_cluster_was_there_keeps_nothing() {
        let venue = Arc::new(Recorded::default());
        let (left, told) = closed(Arc::clone(&venue) as Arc<dyn Venue>, true, true).await;
        assert_eq!((left.as_str(), told.as_slice()), ("no record", ["removing", "removed"].as_slice()));
        assert_eq!(venue.calls.lock().unwrap().as_slice(), ["keep", "remove"]);
    }

    #[tokio::test]
    async fn what_cannot_be_removed_keeps_its_record() {
        let venue = Arc::new(Recorded { is_stuck: true, ..Recorded::default() });
        let (left, told) = closed(venue, true, false).await;
        assert_eq!((left.as_str(), told.as_slice()), ("recorded, the cluster", ["removing"].as_slice()));
    }

    #[rstest]
    #[tokio::test]
    async fn the_embedded_mesh_ends_with_its_process(#[values(false, true)] keep: bool) {
        assert_eq!(closed(Arc::new(Embedded), false, keep).await, ("no record".to_owned(), Vec::new()));
    }
}

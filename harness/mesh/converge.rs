use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{MeshError, Mismatch};
use crate::cluster::wait::{Again, Awaited, Progress, Wait, WaitError};
use crate::routing::{RouteDiff, RouteTable, Uncompared};

/// How long Envoy's worker threads may not use an endpoint that the admin interface already shows as healthy. Envoy merges health changes
/// within one second (`update_merge_window`), and a pod that becomes ready is a health change if istiod has sent its endpoint before.
pub const MERGE_WINDOW: Duration = Duration::from_secs(1);

/// How long nodes may not use new endpoints, or new names of ports, that sidecars already have: kube-proxy applies changes at most once a second.
pub const KUBE_PROXY: Duration = Duration::from_secs(2);

/// How long a table may not change whose differences from the expected one are not compared: nothing tells whether the configuration that
/// the manifests ask for has arrived.
const UNCOMPARED: Duration = Duration::from_secs(5);

/// A sidecar that has the expected routes and endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converged {
    /// The convergence time.
    pub took: Duration,
    /// The number of readings.
    pub readings: u32,
    /// The sidecar's table.
    pub table: RouteTable,
    /// The differences from the expected table that were not compared, because something that no model of the manifests tells can cause them.
    pub differences: Vec<RouteDiff>,
    /// What can cause these differences: what is not modelled, and settings of the mesh.
    pub not_compared: BTreeSet<String>,
}

/// A reading of a sidecar, with the table that the manifests ask for, given the current pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableReading {
    /// The sidecar's table.
    pub table: RouteTable,
    /// The expected table.
    pub expected: RouteTable,
    /// What cannot be compared.
    pub uncompared: Uncompared,
}

/// How often a sidecar is read, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// The time from one reading to the next.
    pub interval: Duration,
    /// The timeout of convergence.
    pub limit: Duration,
}

/// What reads a sidecar again and again.
#[async_trait]
pub trait ReadTable: Send {
    /// Reads the sidecar's table, and returns it with the expected one.
    ///
    /// # Errors
    /// The sidecar does not answer, or its configuration cannot be read.
    async fn read(&mut self) -> Result<TableReading, MeshError>;
}

#[async_trait]
impl<R: ReadTable> ReadTable for &mut R {
    async fn read(&mut self) -> Result<TableReading, MeshError> {
        (**self).read().await
    }
}

/// Waits until two consecutive readings of a sidecar are the same and as expected, and until the table has been as expected for the time that
/// `settles` returns for it. A table that differs where it cannot be compared has to stay the same for five seconds.
///
/// # Errors
/// The sidecar did not converge in time; the error has the differences of the last reading.
pub async fn converge(
    Polling { interval, limit }: Polling,
    settles: impl Fn(&RouteTable) -> Duration,
    seen: impl FnMut(&str),
    mut reader: impl ReadTable,
) -> Result<Converged, MeshError> {
    let start = Instant::now();
    let mut readings = 0;
    // the last table, if it was as expected, and since when
    let mut last: Option<(RouteTable, Instant)> = None;
    let mut mismatch = Mismatch::default();
    let mut wait = Wait::new(Awaited::SidecarConfiguration, limit, Again::Every(interval), seen);
    loop {
        readings += 1;
        let check = async {
            let TableReading { table, expected, uncompared } = match reader.read().await {
                Ok(reading) => reading,
                Err(error) => {
                    last = None;
                    let state = error.to_string();
                    mismatch = Mismatch { unread: Some(Box::new(error)), ..Mismatch::default() };
                    return Progress::NotYet(state);
                }
            };
            if let Some(not_compared) = uncompared.left_out(&table, &expected) {
                let differences = table.difference(&expected);
                let Some((_, since)) = last.take().filter(|(same, _)| *same == table) else {
                    last = Some((table, Instant::now()));
                    return Progress::NotYet("as expected in one reading".to_owned());
                };
                let (unchanged, state) = if differences.is_empty() {
                    (Duration::ZERO, "as expected; Envoy may not use new endpoints yet")
                } else {
                    (UNCOMPARED, "as expected, apart from what is not modelled; it may still change")
                };
                if since.elapsed() >= settles(&table).max(unchanged) {
                    let took = start.elapsed();
                    return Progress::Done(Converged { took, readings, table, differences, not_compared });
                }
                last = Some((table, since));
                return Progress::NotYet(state.to_owned());
            }
            last = None;
            mismatch = Mismatch { differences: table.difference(&expected), ..Mismatch::default() };
            Progress::NotYet(mismatch.lines().into_iter().next().unwrap_or_default())
        };
        match wait.check(check).await {
            Ok(None) => {}
            Ok(Some(converged)) => return Ok(converged),
            Err(WaitError::TimedOut { limit, .. }) => {
                let (who, seconds) = ("the client's sidecar".to_owned(), limit.as_secs());
                return Err(MeshError::NotConverged { who, seconds, mismatch });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{Cluster, Route};

    fn table(subset: Option<&str>) -> RouteTable {
        let host = "svc-hello.canary.svc.cluster.local".to_owned();
        let cluster = Cluster { host, port: 8080, subset: subset.map(ToOwned::to_owned) };
        RouteTable { routes: vec![Route::all_to(cluster)], ..RouteTable::default() }
    }

    async fn converged(tables: &[RouteTable]) -> Result<Converged, MeshError> {
        settled(tables, Duration::ZERO).await
    }

    /// A sidecar that has these tables in turn.
    struct Tables<'a>(std::iter::Cycle<std::slice::Iter<'a, RouteTable>>, Uncompared);

    #[async_trait]
    impl ReadTable for Tables<'_> {
        async fn read(&mut self) -> Result<TableReading, MeshError> {
            let table = self.0.next().cloned().unwrap_or_default();
            Ok(TableReading { table, expected: expected_table(), uncompared: self.1.clone() })
        }
    }

    async fn settled(tables: &[RouteTable], settles: Duration) -> Result<Converged, MeshError> {
        waited(tables, settles, Uncompared::default()).await
    }

    async fn waited(tables: &[RouteTable], settles: Duration, uncompared: Uncompared) -> Result<Converged, MeshError> {
        let polling = Polling { interval: Duration::from_secs(1), limit: Duration::from_secs(10) };
        converge(polling, |_| settles, |_| {}, Tables(tables.iter().cycle(), uncompared)).await
    }

    fn everything() -> Uncompared {
        let mut everything = Uncompared::default();
        everything.notes.insert("Sidecar/x (a.yaml:1:1)".to_owned());
        everything.everything = true;
        everything
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_cannot_be_compared_is_waited_for_until_it_stays_the_same() {
        let other = [table(None), table(Some("v2")), table(Some("v2"))];
        let still =
            [&other[..], &[table(Some("v2")), table(Some("v2")), table(Some("v2")), table(Some("v2"))]].concat();
        let converged = waited(&still, Duration::ZERO, everything()).await.unwrap();
        // from the second reading on it is the same, for five seconds
        assert_eq!((converged.readings, converged.took), (7, Duration::from_secs(6)));
        assert_eq!(converged.not_compared, everything().notes);
        assert_eq!(converged.differences.len(), 1);
        assert!(waited(&other, Duration::ZERO, everything()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_as_expected_leaves_nothing_out() {
        let converged = waited(&[expected_table()], Duration::ZERO, everything()).await.unwrap();
        assert_eq!((converged.readings, converged.not_compared), (2, BTreeSet::new()));
    }

    fn expected_table() -> RouteTable {
        table(Some("v1"))
    }

    #[tokio::test(start_paused = true)]
    async fn two_readings_in_a_row_are_converged() {
        let tables = [table(None), expected_table(), table(None), expected_table(), expected_table()];
        assert_eq!(converged(&tables).await.unwrap().readings, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_has_to_be_as_expected_for_the_settling_time() {
        let second = Duration::from_secs(1);
        let tables = [expected_table(), expected_table(), table(None), expected_table()];
        // reading 3 is not as expected; readings 4 to 6 are, and from 4 to 6 two seconds pass
        assert_eq!(settled(&tables, 2 * second).await.unwrap().readings, 6);
        assert_eq!(settled(&tables, second).await.unwrap().readings, 2);
        assert!(settled(&tables, 3 * second).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_reports_the_differences_rule_by_rule() {
        let error = converged(&[expected_table(), table(None)]).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "the client's sidecar did not converge within 10 s:\n\
             - route 1: any request to subset v1 of svc-hello.canary.svc.cluster.local:8080\n\
             + route 1: any request to svc-hello.canary.svc.cluster.local:8080"
        );
    }
}

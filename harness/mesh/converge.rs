use std::time::Duration;

use tokio::time::Instant;

use super::{MeshError, Mismatch};
use crate::cluster::wait::{Again, Awaited, Progress, WaitError, until};
use crate::routing::RouteTable;

/// How long a sidecar's workers may go on without an endpoint that its administration shows as healthy: Envoy merges changes of health alone that
/// follow each other within a second (`update_merge_window`), and a pod that becomes ready is such a change where istiod told of it before.
pub const MERGE_WINDOW: Duration = Duration::from_secs(1);

/// A sidecar that does what the manifests ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converged {
    /// How long it took.
    pub took: Duration,
    /// How often it was asked.
    pub readings: u32,
    /// The table that it has.
    pub table: RouteTable,
}

/// A look at a sidecar: what it does, and what the manifests ask for with the pods that are there at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What it does.
    pub table: RouteTable,
    /// What it should do.
    pub expected: RouteTable,
}

/// Waits until a sidecar's routes and endpoints are twice in a row the same and those that the manifests ask for, and have been for the time that
/// `settles` returns for them, looking at them every `interval`.
///
/// # Errors
/// The sidecar cannot be asked, or it does not get there in time; then with the difference.
pub async fn converge(
    interval: Duration,
    limit: Duration,
    settles: impl Fn(&RouteTable) -> Duration,
    seen: impl FnMut(&str),
    mut look: impl AsyncFnMut() -> Result<Look, MeshError>,
) -> Result<Converged, MeshError> {
    let start = Instant::now();
    let mut readings = 0;
    // the table of the last reading, where it was as expected, and since when it has been
    let mut last: Option<(RouteTable, Instant)> = None;
    let mut mismatch = Mismatch::default();
    let found = until(Awaited::SidecarConfiguration, limit, Again::Every(interval), seen, async || {
        readings += 1;
        let Look { table, expected } = match look().await {
            Ok(look) => look,
            Err(error) => {
                last = None;
                let state = error.to_string();
                mismatch = Mismatch { unread: Some(Box::new(error)), ..Mismatch::default() };
                return Progress::NotYet(state);
            }
        };
        if table == expected {
            let Some((_, since)) = last.take().filter(|(same, _)| *same == table) else {
                last = Some((table, Instant::now()));
                return Progress::NotYet("once as expected".to_owned());
            };
            if since.elapsed() >= settles(&table) {
                return Progress::Done(table);
            }
            last = Some((table, since));
            return Progress::NotYet("as expected; its workers may not know new endpoints yet".to_owned());
        }
        last = None;
        mismatch = Mismatch { differences: table.difference(&expected), ..Mismatch::default() };
        Progress::NotYet(mismatch.lines().into_iter().next().unwrap_or_default())
    })
    .await;
    match found {
        Ok(table) => Ok(Converged { took: start.elapsed(), readings, table }),
        Err(WaitError::TimedOut { limit, .. }) => Err(MeshError::NotConverged { seconds: limit.as_secs(), mismatch }),
        Err(error) => Err(error.into()),
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

    async fn settled(tables: &[RouteTable], settles: Duration) -> Result<Converged, MeshError> {
        let mut tables = tables.iter().cycle();
        let second = Duration::from_secs(1);
        converge(
            second,
            10 * second,
            |_| settles,
            |_| {},
            async || {
                let table = tables.next().cloned().unwrap_or_default();
                Ok(Look { table, expected: table_wanted() })
            },
        )
        .await
    }

    fn table_wanted() -> RouteTable {
        table(Some("v1"))
    }

    #[tokio::test(start_paused = true)]
    async fn twice_in_a_row_is_converged() {
        let tables = [table(None), table_wanted(), table(None), table_wanted(), table_wanted()];
        assert_eq!(converged(&tables).await.unwrap().readings, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn new_endpoints_are_there_for_as_long_as_workers_may_not_know_them() {
        let second = Duration::from_secs(1);
        let tables = [table_wanted(), table_wanted(), table(None), table_wanted()];
        // reading 3 is not as expected; readings 4 to 6 are, and from 4 to 6 two seconds pass
        assert_eq!(settled(&tables, 2 * second).await.unwrap().readings, 6);
        assert_eq!(settled(&tables, second).await.unwrap().readings, 2);
        assert!(settled(&tables, 3 * second).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_out_tells_the_difference_rule_by_rule() {
        let error = converged(&[table_wanted(), table(None)]).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "the client's sidecar did not converge within 10 s:\n\
             - route 1: any request to subset v1 of svc-hello.canary.svc.cluster.local:8080\n\
             + route 1: any request to svc-hello.canary.svc.cluster.local:8080"
        );
    }
}

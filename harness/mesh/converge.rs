use std::time::Duration;

use tokio::time::Instant;

use super::MeshError;
use crate::cluster::wait::{Again, Progress, WaitError, until};
use crate::routing::RouteTable;

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

/// Waits until a sidecar's routes and endpoints are twice in a row those that the manifests ask for, looking at them every `interval`.
///
/// # Errors
/// The sidecar cannot be asked, or it does not get there in time; then with the difference.
pub async fn converge(
    interval: Duration,
    limit: Duration,
    seen: impl FnMut(&str),
    mut look: impl AsyncFnMut() -> Result<Look, MeshError>,
) -> Result<Converged, MeshError> {
    let start = Instant::now();
    let mut readings = 0;
    let mut equal = 0;
    let mut difference = Vec::new();
    let found = until("the sidecar's configuration", limit, Again::Every(interval), seen, async || {
        readings += 1;
        let Look { table, expected } = match look().await {
            Ok(look) => look,
            Err(error) => {
                equal = 0;
                difference = vec![error.to_string()];
                return Progress::NotYet(error.to_string());
            }
        };
        if table == expected {
            equal += 1;
            return if equal == 2 { Progress::Done(table) } else { Progress::NotYet("once as expected".to_owned()) };
        }
        equal = 0;
        difference = table.difference(&expected);
        Progress::NotYet(difference.first().cloned().unwrap_or_default())
    })
    .await;
    match found {
        Ok(table) => Ok(Converged { took: start.elapsed(), readings, table }),
        Err(WaitError::TimedOut { limit, .. }) => Err(MeshError::NotConverged { seconds: limit.as_secs(), difference }),
        Err(error) => Err(error.into()),
    }
}

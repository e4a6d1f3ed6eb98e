use std::time::Duration;

use tokio::time::Instant;

use super::{MeshError, Sidecar};
use crate::cluster::wait::{Again, Progress, WaitError, until};
use crate::routing::RouteTable;

/// How often the sidecar is asked.
const INTERVAL: Duration = Duration::from_millis(50);

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

/// Waits until the sidecar's routes and endpoints are twice in a row those that the manifests ask for: those that `expected` gives for
/// what is there now, which is asked anew each time since pods come and go meanwhile.
///
/// # Errors
/// The sidecar cannot be asked, or it does not get there in time; then with the difference.
pub async fn converge(
    sidecar: &mut Sidecar,
    host: &str,
    port: u16,
    limit: Duration,
    seen: impl FnMut(&str),
    expected: impl Fn() -> RouteTable,
) -> Result<Converged, MeshError> {
    let start = Instant::now();
    let mut readings = 0;
    let mut equal = 0;
    let mut difference = Vec::new();
    let found = until("the sidecar's configuration", limit, Again::Every(INTERVAL), seen, async || {
        readings += 1;
        let table = match sidecar.table(host, port).await {
            Ok(table) => table,
            Err(error) => {
                equal = 0;
                difference = vec![error.to_string()];
                return Progress::NotYet(error.to_string());
            }
        };
        let wanted = expected();
        if table == wanted {
            equal += 1;
            return if equal == 2 { Progress::Done(table) } else { Progress::NotYet("once as expected".to_owned()) };
        }
        equal = 0;
        difference = table.difference(&wanted);
        Progress::NotYet(difference.first().cloned().unwrap_or_default())
    })
    .await;
    match found {
        Ok(table) => Ok(Converged { took: start.elapsed(), readings, table }),
        Err(WaitError::TimedOut { limit, .. }) => Err(MeshError::NotConverged { seconds: limit.as_secs(), difference }),
        Err(error) => Err(error.into()),
    }
}

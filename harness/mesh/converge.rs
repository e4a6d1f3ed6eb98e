use std::time::Duration;

use tokio::time::Instant;

use super::sidecar::endpoints_of;
use super::{MeshError, Sidecar};
use crate::cluster::Workloads;
use crate::cluster::wait::{Again, Progress, WaitError, until};
use crate::routing::{Live, RouteTable, RoutingError, compile};

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

/// Waits until the sidecar's routes and endpoints are twice in a row those that the manifests ask for.
///
/// # Errors
/// The manifests use something that is not modelled, the sidecar cannot be asked, or it does not get there in time; then
/// with the difference.
pub async fn converge(
    sidecar: &mut Sidecar,
    live: &Live,
    workloads: &Workloads,
    namespace: &str,
    service: &str,
    port: u16,
    limit: Duration,
    seen: impl FnMut(&str),
) -> Result<Converged, MeshError> {
    let start = Instant::now();
    let host = format!("{service}.{namespace}.svc.cluster.local");
    let expected = || -> Result<RouteTable, RoutingError> {
        let pods = workloads.pods();
        compile(live, namespace, service, port, |labels| endpoints_of(&pods, labels))
    };
    expected()?;
    let mut readings = 0;
    let mut equal = 0;
    let mut difference = Vec::new();
    let found = until("the sidecar's configuration", limit, Again::Every(INTERVAL), seen, async || {
        readings += 1;
        let table = match sidecar.table(&host, port).await {
            Ok(table) => table,
            Err(error) => {
                equal = 0;
                difference = vec![error.to_string()];
                return Progress::NotYet(error.to_string());
            }
        };
        // pods come and go meanwhile, so that what is expected is asked anew
        match expected() {
            Ok(wanted) if table == wanted => {
                equal += 1;
                if equal == 2 { Progress::Done(table) } else { Progress::NotYet("once as expected".to_owned()) }
            }
            Ok(wanted) => {
                equal = 0;
                difference = table.difference(&wanted);
                Progress::NotYet(difference.first().cloned().unwrap_or_default())
            }
            Err(error) => Progress::Never(error.to_string()),
        }
    })
    .await;
    match found {
        Ok(table) => Ok(Converged { took: start.elapsed(), readings, table }),
        Err(WaitError::TimedOut { limit, .. }) => Err(MeshError::NotConverged { seconds: limit.as_secs(), difference }),
        Err(error) => Err(error.into()),
    }
}

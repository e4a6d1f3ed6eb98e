use std::time::Duration;

use super::ClusterError;

/// Waits for an answer of a server or of the container engine.
///
/// # Errors
/// It does not answer in time.
pub(crate) async fn answered<T>(
    who: impl Into<String>,
    limit: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, ClusterError> {
    tokio::time::timeout(limit, answer).await.map_err(|_| ClusterError::NoAnswer { who: who.into(), limit })
}

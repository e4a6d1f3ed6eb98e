use std::time::Duration;

use thiserror::Error;

/// The API server did not answer a request in time.
#[derive(Debug, Error)]
#[error("the API server did not answer {method} {path} within {} s", limit.as_secs())]
pub(super) struct Unanswered {
    pub method: String,
    pub path: String,
    pub limit: Duration,
}

//! The limit of open files and connections of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cluster::ClusterError;

/// The number of files and connections that a run needs: those of the runtime, the driver, the servers of the embedded mesh, and the watches of a
/// cluster.
const NEEDED: u64 = 256;
/// The number that is asked for. During a change, a service that does not answer has thousands of open connections.
const WANTED: u64 = 65_536;

/// Raises the limit of open files as far as the process may.
///
/// # Errors
/// The limit is too low for a run. With less, requests would fail as if the service had failed.
pub(super) fn raise_limit() -> Result<(), ClusterError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let possible = maximum.unwrap_or(u64::MAX).min(WANTED);
    if current.is_some_and(|current| current < possible) {
        // without the right to raise it, the limit stays as it is
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum });
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < NEEDED => Err(ClusterError::FewFiles { limit, needed: NEEDED }),
        _ => Ok(()),
    }
}

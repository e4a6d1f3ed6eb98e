//! The one way to wait: a condition is looked at until it holds, has failed for good, or the deadline has passed.
//!
//! Every wait names what it waits for as an [`Awaited`], so that an error says which part of the environment did not get ready. A failure
//! that no later look can mend ends the wait at once and keeps its type.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// The container of a throwaway cluster has started.
    NodeStart,
    /// All containers of a throwaway cluster are removed.
    ClusterRemoval,
    /// The API server of a throwaway cluster answers.
    ApiServer,
    /// The node of a throwaway cluster is ready for pods.
    Node,
    /// A namespace has the service account `default`, without which it takes no pods.
    ServiceAccount {
        /// The namespace.
        namespace: String,
    },
    /// A `CustomResourceDefinition` is established.
    Definition {
        /// The definition's name.
        name: String,
    },
    /// istiod serves its revision.
    ControlPlane {
        /// The version of Istio.
        version: String,
    },
    /// Another control plane has pushed its configuration to the client's sidecar.
    FirstPush {
        /// The control plane.
        plane: String,
    },
    /// Workloads are rolled out, and the pods of deleted workloads are on their way out.
    Rollout {
        /// Names of the workloads.
        workloads: Vec<String>,
    },
    /// A deleted pod is gone.
    PodRemoval {
        /// The pod.
        name: String,
    },
    /// The client's sidecar routes as the manifests ask for.
    SidecarConfiguration,
    /// A client without a sidecar is connected to every server.
    Connections,
    /// Every object of the run is gone.
    ObjectRemoval,
}

impl fmt::Display for Awaited {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeStart => formatter.write_str("the node's start"),
            Self::ClusterRemoval => formatter.write_str("the cluster's removal"),
            Self::ApiServer => formatter.write_str("the API server"),
            Self::Node => formatter.write_str("the node"),
            Self::ServiceAccount { namespace } => {
                write!(formatter, "the ServiceAccount `default` of namespace `{namespace}`")
            }
            Self::Definition { name } => write!(formatter, "the CustomResourceDefinition {name}"),
            Self::ControlPlane { version } => write!(formatter, "istiod {version}"),
            Self::FirstPush { plane } => {
                write!(formatter, "the first configuration that Istio {plane} pushes to the client's sidecar")
            }
            Self::Rollout { workloads } => write!(formatter, "the rollout of {}", workloads.join(", ")),
            Self::PodRemoval { name } => write!(formatter, "the removal of pod {name}"),
            Self::SidecarConfiguration => formatter.write_str("the sidecar's configuration"),
            Self::Connections => formatter.write_str("connections to all servers"),
            Self::ObjectRemoval => formatter.write_str("the removal of all objects"),
        }
    }
}

/// What a look at the condition found.
#[derive(Debug)]
pub enum Progress<T> {
    /// It holds.
    Done(T),
    /// It does not hold yet; what was seen.
    NotYet(String),
    /// It cannot hold any more.
    Failed(Failure),
    /// What is waited for was there and has been deleted; its name.
    Gone(String),
}

impl<T> Progress<T> {
    /// What an error of the API server means for a wait: missing credentials or rights end it, anything else may pass.
    #[must_use]
    pub fn after(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Self::Failed(error.into()),
            _ => Self::NotYet(error.to_string()),
        }
    }
}

/// Why a condition cannot hold any more.
#[derive(Debug, Error)]
pub enum Failure {
    /// A workload or the node reports that it cannot become ready.
    #[error("{0}")]
    Reported(String),
    /// The API server refuses to answer.
    #[error(transparent)]
    Api(Box<kube::Error>),
    /// A watch of one object failed.
    #[error(transparent)]
    Watch(Box<kube::runtime::wait::Error>),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl From<kube::runtime::wait::Error> for Failure {
    fn from(error: kube::runtime::wait::Error) -> Self {
        Self::Watch(Box::new(error))
    }
}

/// A wait that did not end well.
#[derive(Debug, Error)]
pub enum WaitError {
    /// The deadline has passed.
    #[error("{what} took longer than {} s; last seen: {last}", limit.as_secs())]
    TimedOut {
        /// What was waited for.
        what: Awaited,
        /// How long at most.
        limit: Duration,
        /// The state seen last.
        last: String,
    },
    /// The condition cannot hold any more.
    #[error("{what} cannot succeed: {source}")]
    Failed {
        /// What was waited for.
        what: Awaited,
        /// Why not.
        source: Failure,
    },
    /// What was waited for has been deleted meanwhile.
    #[error("{what} cannot succeed: {name} was deleted meanwhile")]
    Gone {
        /// What was waited for.
        what: Awaited,
        /// The name of what was deleted.
        name: String,
    },
}

impl WaitError {
    /// What was waited for.
    #[must_use]
    pub const fn awaited(&self) -> &Awaited {
        match self {
            Self::TimedOut { what, .. } | Self::Failed { what, .. } | Self::Gone { what, .. } => what,
        }
    }
}

/// When the condition is looked at again.
#[derive(Debug)]
pub enum Again {
    /// Each time something has changed.
    OnChange(watch::Receiver<u64>),
    /// After a while; for what cannot be watched.
    Every(Duration),
}

/// Waits until `look` finds the condition to hold; each state that is seen is passed to `seen`.
///
/// ```
/// use std::time::Duration;
/// use shiftcheck::cluster::wait::{Again, Awaited, Progress, until};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut looks = 0;
/// let found = until(Awaited::Node, Duration::from_secs(5), Again::Every(Duration::from_millis(1)), |_| {}, async || {
///     looks += 1;
///     if looks == 3 { Progress::Done(looks) } else { Progress::NotYet(format!("{looks} looks")) }
/// });
/// assert_eq!(found.await.unwrap(), 3);
/// # });
/// ```
///
/// # Errors
/// The deadline has passed, the condition cannot hold any more, or what is waited for was deleted.
pub async fn until<T>(
    what: Awaited,
    limit: Duration,
    mut again: Again,
    mut seen: impl FnMut(&str),
    mut look: impl AsyncFnMut() -> Progress<T>,
) -> Result<T, WaitError> {
    let deadline = Instant::now() + limit;
    let mut last = String::from("nothing");
    loop {
        if let Again::OnChange(changes) = &mut again {
            changes.borrow_and_update();
        }
        match timeout_at(deadline, look()).await {
            Ok(Progress::Done(found)) => return Ok(found),
            Ok(Progress::Failed(source)) => return Err(WaitError::Failed { what, source }),
            Ok(Progress::Gone(name)) => return Err(WaitError::Gone { what, name }),
            Ok(Progress::NotYet(state)) => {
                if state != last {
                    seen(&state);
                    last = state;
                }
            }
            Err(_) => {}
        }
        let next = async {
            match &mut again {
                // a closed channel means that nothing is watched any more; the deadline then ends the wait
                Again::OnChange(changes) => match changes.changed().await {
                    Ok(()) => {}
                    Err(_) => std::future::pending().await,
                },
                Again::Every(pause) => sleep(*pause).await,
            }
        };
        if timeout_at(deadline, next).await.is_err() {
            return Err(WaitError::TimedOut { what, limit, last });
        }
    }
}

#[cfg(test)]
mod tests {
    use assert_matches::assert_matches;

    use super::*;

    const EVERY: Duration = Duration::from_millis(1);

    fn rollout() -> Awaited {
        Awaited::Rollout { workloads: vec!["v2".to_owned()] }
    }

    fn api(code: u16) -> kube::Error {
        kube::Error::Api(kube::core::Status::failure("no", "Reason").with_code(code).boxed())
    }

    async fn waited(look: impl AsyncFnMut() -> Progress<()>) -> WaitError {
        until(rollout(), Duration::from_secs(3), Again::Every(EVERY), |_| {}, look).await.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_ends_the_wait_at_once_and_keeps_its_type() {
        let start = Instant::now();
        let reported = || Failure::Reported("ImagePullBackOff".to_owned());
        let error = waited(async || Progress::Failed(reported())).await;
        assert_eq!(error.to_string(), "the rollout of v2 cannot succeed: ImagePullBackOff");
        assert_matches!(error, WaitError::Failed { source: Failure::Reported(_), .. });
        let error = waited(async || Progress::after(api(403))).await;
        assert_matches!(error, WaitError::Failed { source: Failure::Api(source), .. } => {
            assert_matches!(*source, kube::Error::Api(status) if status.code == 403);
        });
        assert!(start.elapsed() < EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_ends_the_wait_at_once() {
        let start = Instant::now();
        let error = waited(async || Progress::Gone("hello-v2".to_owned())).await;
        assert_eq!(error.to_string(), "the rollout of v2 cannot succeed: hello-v2 was deleted meanwhile");
        assert!(start.elapsed() < EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_tells_the_last_state() {
        let error = waited(async || Progress::NotYet("1 of 2 ready".into())).await;
        assert_eq!(error.to_string(), "the rollout of v2 took longer than 3 s; last seen: 1 of 2 ready");
        // an API server that is busy may answer later
        assert_matches!(waited(async || Progress::after(api(503))).await, WaitError::TimedOut { .. });
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_does_not_outlive_the_deadline() {
        let found: Result<(), _> = until(
            rollout(),
            Duration::from_secs(3),
            Again::Every(EVERY),
            |_| {},
            async || std::future::pending().await,
        )
        .await;
        assert_matches!(found, Err(WaitError::TimedOut { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_wakes_and_each_state_is_told_once() {
        let (sender, receiver) = watch::channel(0_u64);
        let mut states = Vec::new();
        let turns = tokio::spawn(async move {
            for turn in 1..=3 {
                sleep(Duration::from_secs(1)).await;
                sender.send(turn).unwrap();
            }
            sender
        });
        let changes = receiver.clone();
        let found = until(
            Awaited::Node,
            Duration::from_secs(9),
            Again::OnChange(receiver),
            |state| states.push(state.to_owned()),
            async || {
                let turn = *changes.borrow();
                if turn == 3 { Progress::Done(turn) } else { Progress::NotYet(format!("turn {}", turn / 2)) }
            },
        )
        .await;
        assert_eq!(found.unwrap(), 3);
        assert_eq!(states, ["turn 0", "turn 1"]);
        turns.await.unwrap();
    }
}

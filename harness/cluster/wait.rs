//! Waiting for conditions: a condition is checked until it holds, cannot hold any more, or the timeout has passed.
//!
//! Every wait names its condition as an [`Awaited`], so that an error says which part of the environment did not become ready. A permanent
//! failure ends the wait at once, and the error keeps its type.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// The condition of a wait.
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
    /// A namespace has the service account `default`, which pods need.
    ServiceAccount {
        /// The namespace.
        namespace: String,
    },
    /// A `CustomResourceDefinition` is established.
    Definition {
        /// The name of the definition.
        name: String,
    },
    /// istiod is ready and serves its revision.
    ControlPlane {
        /// The version of Istio.
        version: String,
    },
    /// A new control plane has pushed its configuration to the client's sidecar.
    FirstPush {
        /// The control plane.
        plane: String,
    },
    /// Workloads are rolled out, and the pods of deleted workloads are terminating.
    Rollout {
        /// The names of the workloads.
        workloads: Vec<String>,
    },
    /// A deleted pod is removed.
    PodRemoval {
        /// The pod.
        name: String,
    },
    /// The client's sidecar has the routes that the manifests ask for.
    SidecarConfiguration,
    /// A client without a sidecar is connected to every server.
    Connections,
    /// Every object of the run is removed.
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

/// The result of a check.
#[derive(Debug)]
pub enum Progress<T> {
    /// The condition holds.
    Done(T),
    /// The condition does not hold yet: the current state.
    NotYet(String),
    /// The condition cannot hold any more.
    Failed(Failure),
    /// An object that the condition needs was deleted: its name.
    Gone(String),
}

impl<T> Progress<T> {
    /// The result of a check that the API server did not answer. Missing credentials or permissions are a failure; other errors may be
    /// temporary.
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
    /// A workload or the node reports a permanent failure.
    #[error("{0}")]
    Reported(String),
    /// The API server refuses the request.
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

/// Why a wait failed.
#[derive(Debug, Error)]
pub enum WaitError {
    /// The timeout has passed.
    #[error("{what} took longer than {} s; last state: {last}", limit.as_secs())]
    TimedOut {
        /// The condition.
        what: Awaited,
        /// The timeout.
        limit: Duration,
        /// The last state.
        last: String,
    },
    /// The condition cannot hold any more.
    #[error("{what} cannot succeed: {source}")]
    Failed {
        /// The condition.
        what: Awaited,
        /// The failure.
        source: Failure,
    },
    /// An object that the condition needs was deleted.
    #[error("{what} cannot succeed: {name} was deleted")]
    Gone {
        /// The condition.
        what: Awaited,
        /// The name of the object.
        name: String,
    },
}

impl WaitError {
    /// The condition.
    #[must_use]
    pub const fn awaited(&self) -> &Awaited {
        match self {
            Self::TimedOut { what, .. } | Self::Failed { what, .. } | Self::Gone { what, .. } => what,
        }
    }
}

/// When the condition is checked again.
#[derive(Debug)]
pub enum Again {
    /// After each change.
    OnChange(watch::Receiver<u64>),
    /// After a pause, for conditions that cannot be watched.
    Every(Duration),
}

/// A wait in steps, for checks that change what they borrow. [`until`] takes a closure instead.
#[derive(Debug)]
pub struct Wait<S> {
    what: Awaited,
    limit: Duration,
    deadline: Instant,
    again: Again,
    seen: S,
    last: String,
}

impl<S: FnMut(&str)> Wait<S> {
    /// A wait that begins now. Calls `seen` with each new state.
    pub fn new(what: Awaited, limit: Duration, again: Again, seen: S) -> Self {
        Self { what, limit, deadline: Instant::now() + limit, again, seen, last: String::from("nothing") }
    }

    /// Runs a check and returns what it found. If the condition does not hold yet, returns none when the next check is due.
    ///
    /// # Errors
    /// The timeout has passed, the condition cannot hold any more, or an object that it needs was deleted.
    pub async fn check<T>(&mut self, check: impl Future<Output = Progress<T>>) -> Result<Option<T>, WaitError> {
        match timeout_at(self.deadline, check).await {
            Ok(Progress::Done(found)) => return Ok(Some(found)),
            Ok(Progress::Failed(source)) => return Err(WaitError::Failed { what: self.what.clone(), source }),
            Ok(Progress::Gone(name)) => return Err(WaitError::Gone { what: self.what.clone(), name }),
            Ok(Progress::NotYet(state)) => {
                if state != self.last {
                    (self.seen)(&state);
                    self.last = state;
                }
            }
            Err(_) => {}
        }
        let next = async {
            match &mut self.again {
                // Marks the change as seen before the next check looks: one that comes during a check triggers another.
                // After the end of the watch only the timeout ends the wait.
                Again::OnChange(changes) => match changes.changed().await {
                    Ok(()) => {}
                    Err(_) => std::future::pending().await,
                },
                Again::Every(pause) => sleep(*pause).await,
            }
        };
        if timeout_at(self.deadline, next).await.is_ok() {
            return Ok(None);
        }
        Err(WaitError::TimedOut { what: self.what.clone(), limit: self.limit, last: self.last.clone() })
    }
}

/// Waits until `check` finds that the condition holds. Calls `seen` with each new state.
///
/// ```
/// use std::future::ready;
/// use std::time::Duration;
/// use shiftcheck::cluster::wait::{Again, Awaited, Progress, until};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut checks = 0;
/// let found = until(Awaited::Node, Duration::from_secs(5), Again::Every(Duration::from_millis(1)), |_| {}, || {
///     checks += 1;
///     ready(if checks == 3 { Progress::Done(checks) } else { Progress::NotYet(format!("{checks} checks")) })
/// });
/// assert_eq!(found.await.unwrap(), 3);
/// # });
/// ```
///
/// # Errors
/// As those of [`Wait::check`].
pub async fn until<T, Check: Future<Output = Progress<T>>>(
    what: Awaited,
    limit: Duration,
    again: Again,
    seen: impl FnMut(&str),
    mut check: impl FnMut() -> Check,
) -> Result<T, WaitError> {
    let mut wait = Wait::new(what, limit, again, seen);
    loop {
        if let Some(found) = wait.check(check()).await? {
            return Ok(found);
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

    async fn waited<Check: Future<Output = Progress<()>>>(check: impl FnMut() -> Check) -> WaitError {
        until(rollout(), Duration::from_secs(3), Again::Every(EVERY), |_| {}, check).await.unwrap_err()
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
        assert_eq!(error.to_string(), "the rollout of v2 cannot succeed: hello-v2 was deleted");
        assert!(start.elapsed() < EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_reports_the_last_state() {
        let error = waited(async || Progress::NotYet("1 of 2 ready".into())).await;
        assert_eq!(error.to_string(), "the rollout of v2 took longer than 3 s; last state: 1 of 2 ready");
        // a busy API server may answer later
        assert_matches!(waited(async || Progress::after(api(503))).await, WaitError::TimedOut { .. });
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_ends_at_the_timeout() {
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

    /// The check looks before its future is polled.
    #[tokio::test(start_paused = true)]
    async fn a_change_during_a_check_triggers_another() {
        let (sender, receiver) = watch::channel(0_u64);
        let mut checks = 0;
        let found = until(
            Awaited::Node,
            Duration::from_secs(9),
            Again::OnChange(receiver),
            |_| {},
            || {
                checks += 1;
                let seen = *sender.borrow();
                if checks == 2 {
                    sender.send(1).unwrap();
                }
                std::future::ready(if seen == 1 { Progress::Done(seen) } else { Progress::NotYet(format!("{seen}")) })
            },
        );
        // a first change, so that the wait is past its first check
        let change = async { sender.send_modify(|_| ()) };
        assert_eq!(tokio::join!(found, change).0.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_triggers_a_check_and_each_state_is_reported_once() {
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

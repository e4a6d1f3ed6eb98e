//! Waiting for conditions: a condition is checked until it holds, cannot hold any more, or the timeout has passed.
//!
//! Every wait names its condition as an [`Awaited`], so that an error says which part of the environment did not become ready. A permanent
//! failure ends the wait at once, and the error keeps its type.

use std::time::Duration;

use displaydoc::Display;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::unanswered::Unanswered;

/// The condition of a wait. The text of each is what messages say.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[non_exhaustive]
pub enum Awaited {
    /// the node's start
    NodeStart,
    /// the cluster's removal
    ClusterRemoval,
    /// the API server
    ApiServer,
    /// the node
    Node,
    /// The service account `default` of a namespace, which pods need.
    #[displaydoc("the ServiceAccount `default` of namespace `{0}`")]
    ServiceAccount(String),
    /// A custom resource definition is established.
    #[displaydoc("the CustomResourceDefinition {0}")]
    Definition(String),
    /// istiod {0}
    ControlPlane(String),
    /// {0}
    Controller(String),
    /// {1} of {0}
    Controlled(String, String),
    /// the first configuration that Istio {0} pushes to the client's sidecar
    FirstPush(String),
    /// the rollout of {0}
    Rollout(String),
    /// {0}
    Pods(String),
    /// the removal of pod {0}
    PodRemoval(String),
    /// the removal of namespace {0}
    NamespaceRemoval(String),
    /// the sidecar's configuration
    SidecarConfiguration,
    /// the same routes in all client pods
    Clients,
    /// connections to all servers
    Connections,
    /// the removal of all objects
    ObjectRemoval,
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
}

impl<T> Progress<T> {
    /// The result of a check that the API server did not answer. Missing credentials or permissions are a failure; other errors may be
    /// temporary.
    pub fn after(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Self::Failed(Failure::Api(Box::new(error))),
            _ => Self::NotYet(reason(&error)),
        }
    }
}

/// The message of the API server's response that caused an error, or else the error.
pub(crate) fn reason(error: &kube::Error) -> String {
    message(error)
}

fn watch_reason(error: &kube::runtime::wait::Error) -> String {
    message(error)
}

fn message(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(unanswered) = error.downcast_ref::<Unanswered>() {
            return unanswered.to_string();
        }
        match error.downcast_ref() {
            Some(kube::Error::Api(status)) if status.message.is_empty() => {
                return format!("status {} {}", status.code, status.reason);
            }
            Some(kube::Error::Api(status)) => return status.message.clone(),
            _ => cause = error.source(),
        }
    }
    error.to_string()
}

/// Why a condition cannot hold any more.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
#[non_exhaustive]
pub enum Failure {
    /// A workload or the node reports a permanent failure.
    #[error("{0}")]
    Reported(String),
    /// The image of a container cannot be pulled. The message names the pod and the reason.
    #[error("{message}")]
    NoImage { image: String, message: String },
    /// An object that the condition needs was deleted: its name.
    #[error("{0} was deleted")]
    Deleted(String),
    /// The API server refuses the request.
    #[error("{}", reason(.0))]
    Api(Box<kube::Error>),
    /// A watch of one object failed.
    #[error("{}", watch_reason(.0))]
    Watch(Box<kube::runtime::wait::Error>),
}

/// Why a wait failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout has passed.
    #[error("{what} took longer than {} s{}", limit.as_secs(), if last.is_empty() { String::new() } else { format!("; last state: {last}") })]
    TimedOut { what: Awaited, limit: Duration, last: String },
    /// The condition cannot hold any more.
    #[error("{what} cannot succeed: {source}")]
    Failed { what: Awaited, source: Failure },
}

impl WaitError {
    /// Adds what else is known of the state to the message.
    pub(crate) fn add(&mut self, detail: &str) {
        match self {
            Self::TimedOut { last, .. } | Self::Failed { source: Failure::Reported(last), .. } => {
                last.push_str("; ");
                last.push_str(detail);
            }
            Self::Failed { .. } => {}
        }
    }

    /// The condition.
    pub const fn awaited(&self) -> &Awaited {
        match self {
            Self::TimedOut { what, .. } | Self::Failed { what, .. } => what,
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
    /// The timeout has passed, or the condition cannot hold any more.
    pub async fn check<T>(&mut self, check: impl Future<Output = Progress<T>>) -> Result<Option<T>, WaitError> {
        match timeout_at(self.deadline, check).await {
            Ok(Progress::Done(found)) => return Ok(Some(found)),
            Ok(Progress::Failed(source)) => return Err(WaitError::Failed { what: self.what.clone(), source }),
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
        // what is ready at once is no timeout for `timeout_at`, also after the deadline
        if timeout_at(self.deadline, next).await.is_ok() && Instant::now() < self.deadline {
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
        Awaited::Rollout("v2".to_owned())
    }

    fn api(code: u16) -> kube::Error {
        kube::Error::Api(kube::core::Status::failure("no", "Reason").with_code(code).boxed())
    }

    async fn waited<Check: Future<Output = Progress<()>>>(check: impl FnMut() -> Check) -> WaitError {
        until(rollout(), Duration::from_secs(3), Again::Every(EVERY), |_| {}, check).await.unwrap_err()
    }

    /// Changes that come faster than checks end kept a wait from ever looking at its deadline.
    #[tokio::test(start_paused = true)]
    async fn the_timeout_ends_a_wait_whose_next_check_is_always_due() {
        let (changes, receiver) = watch::channel(0);
        for again in [Again::Every(Duration::ZERO), Again::OnChange(receiver)] {
            let mut checks = 0;
            let check = || {
                checks += 1;
                assert!(checks < 100, "the timeout has passed");
                changes.send_modify(|number| *number += 1);
                async {
                    sleep(Duration::from_millis(100)).await;
                    Progress::<()>::NotYet("it changes".to_owned())
                }
            };
            let error = until(rollout(), Duration::from_secs(3), again, |_| {}, check).await.unwrap_err();
            assert_matches!(error, WaitError::TimedOut { last, .. } => assert_eq!(last, "it changes"));
        }
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
        let error = waited(async || Progress::Failed(Failure::Deleted("hello-v2".to_owned()))).await;
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

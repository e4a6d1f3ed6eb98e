//! The one way to wait: a condition is looked at until it holds, can never hold, or the deadline has passed.
//!
//! Waiting is told apart from failing: a pod whose image cannot be pulled ends the wait at once. Whoever waits is told
//! what for and what was seen last.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// What a look at the condition found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// It holds.
    Done(T),
    /// It does not hold yet; what was seen.
    NotYet(String),
    /// It can never hold; why.
    Never(String),
}

/// A wait that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WaitError {
    /// The deadline has passed.
    #[error("{what} took longer than {} s; last seen: {last}", limit.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long at most.
        limit: Duration,
        /// The state seen last.
        last: String,
    },
    /// The condition can no longer hold.
    #[error("{what} cannot succeed: {why}")]
    Never {
        /// What was waited for.
        what: String,
        /// Why not.
        why: String,
    },
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
/// use shiftcheck::cluster::wait::{Again, Progress, until};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut looks = 0;
/// let found = until("the third look", Duration::from_secs(5), Again::Every(Duration::from_millis(1)), |_| {}, async || {
///     looks += 1;
///     if looks == 3 { Progress::Done(looks) } else { Progress::NotYet(format!("{looks} looks")) }
/// });
/// assert_eq!(found.await, Ok(3));
/// # });
/// ```
///
/// # Errors
/// The deadline has passed, or the condition can never hold.
pub async fn until<T>(
    what: impl fmt::Display,
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
            Ok(Progress::Never(why)) => return Err(WaitError::Never { what: what.to_string(), why }),
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
            return Err(WaitError::TimedOut { what: what.to_string(), limit, last });
        }
    }
}

#[cfg(test)]
mod tests {
    use assert_matches::assert_matches;

    use super::*;

    const EVERY: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn what_can_never_be_ends_the_wait_at_once() {
        let start = Instant::now();
        let found: Result<(), _> = until(
            "v2",
            Duration::from_secs(60),
            Again::Every(EVERY),
            |_| {},
            async || Progress::Never("ImagePullBackOff".into()),
        )
        .await;
        assert_eq!(found.unwrap_err().to_string(), "v2 cannot succeed: ImagePullBackOff");
        assert!(start.elapsed() < EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_tells_the_last_state() {
        let found: Result<(), _> = until(
            "rollout of v2",
            Duration::from_secs(3),
            Again::Every(EVERY),
            |_| {},
            async || Progress::NotYet("1 of 2 ready".into()),
        )
        .await;
        assert_eq!(found.unwrap_err().to_string(), "rollout of v2 took longer than 3 s; last seen: 1 of 2 ready");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_does_not_outlive_the_deadline() {
        let found: Result<(), _> =
            until("x", Duration::from_secs(3), Again::Every(EVERY), |_| {}, async || std::future::pending().await)
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
            "turn 3",
            Duration::from_secs(9),
            Again::OnChange(receiver),
            |state| states.push(state.to_owned()),
            async || {
                let turn = *changes.borrow();
                if turn == 3 { Progress::Done(turn) } else { Progress::NotYet(format!("turn {}", turn / 2)) }
            },
        )
        .await;
        assert_eq!(found, Ok(3));
        assert_eq!(states, ["turn 0", "turn 1"]);
        turns.await.unwrap();
    }
}

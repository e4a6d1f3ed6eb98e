use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Whether other runs may be in a stage at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// They may: what the stage claims does not depend on how busy the cluster is.
    Allowed,
    /// They may not: it claims something about time, and pods that start next to it take processor time from those that answer.
    Excluded,
}

/// The stages of all runs on one cluster. Those that exclude neighbours are let in in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<RwLock<()>>);

/// The turn of a stage; it ends when this is dropped.
#[derive(Debug)]
pub enum Turn {
    /// Nothing else runs on the cluster.
    Only,
    /// Beside other stages.
    Beside(OwnedRwLockReadGuard<()>),
    /// No other stage runs.
    Alone(OwnedRwLockWriteGuard<()>),
}

impl Turns {
    /// Waits for the turn of a stage.
    pub async fn next(&self, neighbours: Neighbours) -> Turn {
        let turns = Arc::clone(&self.0);
        match neighbours {
            Neighbours::Allowed => Turn::Beside(turns.read_owned().await),
            Neighbours::Excluded => Turn::Alone(turns.write_owned().await),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::Neighbours::{Allowed, Excluded};
    use super::*;

    #[rstest]
    #[case::two_that_allow_it(Allowed, Allowed, true)]
    #[case::one_that_excludes_it(Excluded, Allowed, false)]
    #[case::one_that_is_excluded(Allowed, Excluded, false)]
    #[case::two_that_exclude_it(Excluded, Excluded, false)]
    #[tokio::test(start_paused = true)]
    async fn a_stage_runs_beside_another_if_both_allow_it(
        #[case] first: Neighbours,
        #[case] second: Neighbours,
        #[case] beside: bool,
    ) {
        let turns = Turns::default();
        let turn = turns.next(first).await;
        let limit = Duration::from_secs(60);
        assert_eq!(tokio::time::timeout(limit, turns.next(second)).await.is_ok(), beside);
        drop(turn);
        assert!(tokio::time::timeout(limit, turns.next(second)).await.is_ok());
    }
}

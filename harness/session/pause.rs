use std::sync::Arc;

use tokio::sync::watch;

/// The stage after which a run waits until somebody continues it. All clones are the same pause.
#[derive(Debug, Clone)]
pub struct Pause(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    /// The number of the stage.
    after: Option<usize>,
    /// The name of the stage in each of the runs that are compared.
    in_each: Option<String>,
    /// Whether the run waits.
    waits: bool,
}

impl Default for Pause {
    /// A run that never waits.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Pause {
    /// Lets the run wait after the stage with this number.
    pub fn set(&self, stage: usize) {
        self.0.send_modify(|state| state.after = Some(stage));
    }

    /// Lets each run of several that are compared wait after its stage with this name.
    pub fn set_in_each(&self, stage: String) {
        self.0.send_modify(|state| state.in_each = Some(stage));
    }

    /// Begins a run with stages of these names, which is compared with others.
    pub(super) fn begin_run<'a>(&self, mut stages: impl Iterator<Item = &'a str>) {
        self.0.send_modify(|state| {
            let Some(name) = &state.in_each else { return };
            state.after = stages.position(|stage| stage == name).map(|index| index + 1);
        });
    }

    /// Continues a run that waits. With `step`, it waits again after its next stage. Returns whether the run was waiting.
    pub fn resume(&self, step: bool) -> bool {
        self.0.send_if_modified(|state| {
            let waited = std::mem::take(&mut state.waits);
            if waited {
                state.after = state.after.filter(|_| step).map(|stage| stage + 1);
            }
            waited
        })
    }

    /// Whether the run waits after the stage with this number. From now on, [`resume`](Self::resume) continues it.
    pub(super) fn begin(&self, stage: usize) -> bool {
        self.0.send_if_modified(|state| {
            state.waits = state.after == Some(stage);
            state.waits
        })
    }

    /// Waits until the run is continued.
    pub(super) async fn resumed(&self) {
        // the sender is this value
        let _ = self.0.subscribe().wait_for(|state| !state.waits).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_waits_after_the_stage_until_it_is_continued() {
        let pause = Pause::default();
        assert!(!pause.begin(1) && !pause.resume(false));
        pause.set(2);
        assert!(!pause.begin(1) && pause.begin(2));
        let waiting = tokio::spawn({
            let pause = pause.clone();
            async move { pause.resumed().await }
        });
        assert!(pause.resume(true) && !pause.resume(true));
        waiting.await.unwrap();
        // by step, it waits after the next stage again
        assert!(pause.begin(3) && pause.resume(false) && !pause.begin(4));
    }

    #[test]
    fn each_run_that_has_the_stage_waits_after_it() {
        let pause = Pause::default();
        let begun = |stages: &[&'static str]| {
            pause.begin_run(stages.iter().copied());
            let waits: Vec<usize> = (1..=stages.len()).filter(|number| pause.begin(*number)).collect();
            pause.resume(false);
            waits
        };
        assert_eq!(begun(&["v1", "canary"]), [0; 0]);
        pause.set_in_each("canary".to_owned());
        assert_eq!(begun(&["v1", "canary", "v2"]), [2]);
        assert_eq!(begun(&["canary", "canary, sidecars restarted"]), [1]);
        // the stages of a search for a cause have other names
        assert_eq!(begun(&["without a=1"]), [0; 0]);
    }
}

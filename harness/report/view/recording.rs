use std::time::Duration;

use serde_json::{Map, Value, json};

use super::state::State;
use crate::events::Timed;
use crate::report::model::Report;
use crate::scenario::Sensitive;

/// The maximum length of a recording as JSON, in bytes.
const MAX_BYTES: usize = 400_000;
/// The time between two values of a part that changes all the time, at first. It doubles whenever the recording is too long.
const STEP: Duration = Duration::from_millis(100);
/// The largest of these times. A recording that is too long even then is given up.
const MAX_STEP: Duration = Duration::from_secs(60);
/// The parts of the state that change all the time, each of which replaces its last value.
const PASSING: [&str; 4] = ["graph", "progress", "strip", "now"];

/// The changes of the state of a run with their times, as the report plays them again. Its length is bounded: of a long run, fewer values of the
/// parts that change all the time are kept.
#[derive(Debug)]
pub(in crate::report) struct Recording {
    state: State,
    /// Times since the first change.
    changes: Vec<(Duration, Map<String, Value>)>,
    start: Option<Duration>,
    /// The stages as the changes tell them.
    stages: Vec<Value>,
    bytes: usize,
    step: Duration,
    is_given_up: bool,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            state: State::default(),
            changes: Vec::new(),
            start: None,
            stages: Vec::new(),
            bytes: 0,
            step: STEP,
            is_given_up: false,
        }
    }
}

impl Recording {
    /// Takes an event that the report has taken.
    pub fn take(&mut self, event: &Timed, report: &Report) {
        if !self.is_given_up {
            let changed = self.state.take(event, report);
            self.add(event.since_start, changed);
        }
    }

    /// The recording as a JSON array of times in milliseconds and changes, for a report that is complete; empty if it was given up.
    pub fn finish(mut self, report: &Report, sensitive: &Sensitive) -> String {
        let Some(start) = self.start.filter(|_| !self.is_given_up) else { return String::new() };
        let changed = self.state.end(report);
        self.add(start + report.took, changed);
        if self.is_given_up {
            return String::new();
        }
        let shown = |changed: Map<String, Value>| {
            let changed = Value::Object(changed);
            if sensitive.is_empty() { changed } else { sensitive.hidden_in_value(changed) }
        };
        let all: Vec<Value> =
            self.changes.into_iter().map(|(at, changed)| json!([millis(at), shown(changed)])).collect();
        Value::Array(all).to_string()
    }

    fn add(&mut self, since_start: Duration, mut changed: Map<String, Value>) {
        if changed.contains_key("reset") {
            *self = Self { state: std::mem::take(&mut self.state), ..Self::default() };
        }
        if let Some(stage) = changed.get_mut("stage") {
            self.keep_what_changed(stage);
        }
        if changed.is_empty() || self.is_given_up {
            return;
        }
        let start = *self.start.get_or_insert(since_start);
        self.bytes += length(&changed);
        self.changes.push((since_start.saturating_sub(start), changed));
        let was_long = self.bytes > MAX_BYTES;
        if was_long {
            self.thin();
        }
        // well below the maximum, so that not every change is followed by this
        while was_long && self.bytes > MAX_BYTES * 3 / 4 && self.step <= MAX_STEP {
            self.step *= 2;
            self.thin();
        }
        self.is_given_up = self.bytes > MAX_BYTES;
        if self.is_given_up {
            self.changes.clear();
        }
    }

    /// Leaves those fields of a stage, which is an index and an object, that differ from what is known of the stage.
    fn keep_what_changed(&mut self, stage: &mut Value) {
        let Some(index) = stage[0].as_u64().and_then(|index| usize::try_from(index).ok()) else { return };
        let whole = stage[1].clone();
        if self.stages.len() <= index {
            self.stages.resize(index + 1, Value::Null);
        }
        if let (Some(fields), Some(known)) = (stage[1].as_object_mut(), self.stages[index].as_object()) {
            fields.retain(|name, value| known.get(name) != Some(value));
        }
        self.stages[index] = whole;
    }

    /// Drops values that were replaced within a step. The value before an empty one stays: it is the end of what it shows.
    fn thin(&mut self) {
        for part in PASSING {
            let mut next: Option<Duration> = None;
            for (at, changed) in self.changes.iter_mut().rev() {
                let Some(value) = changed.get(part) else { continue };
                let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                if next.is_some_and(|next| next.saturating_sub(*at) < self.step) && !is_empty {
                    changed.remove(part);
                } else {
                    next = Some(*at).filter(|_| !is_empty);
                }
            }
        }
        self.changes.retain(|(_, changed)| !changed.is_empty());
        self.bytes = self.changes.iter().map(|(_, changed)| length(changed)).sum();
    }
}

fn length(changed: &Map<String, Value>) -> usize {
    // 12 for the time of the change and punctuation
    serde_json::to_string(changed).map_or(0, |text| text.len()) + 12
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(part: &str, value: Value) -> Map<String, Value> {
        Map::from_iter([(part.to_owned(), value)])
    }

    fn of(recording: &Recording, part: &str) -> Vec<(u64, Value)> {
        let with = recording.changes.iter().filter_map(|(at, changed)| Some((millis(*at), changed.get(part)?.clone())));
        with.collect()
    }

    #[test]
    fn a_long_recording_keeps_fewer_values_of_what_changes_all_the_time_and_all_of_the_rest() {
        let mut recording = Recording::default();
        let filling = "x".repeat(1000);
        for number in 0..2000_u64 {
            let at = Duration::from_millis(100 * number);
            recording.add(at, change("graph", json!([number, filling])));
            if number % 100 == 0 {
                recording.add(at, change("log", json!([number])));
            }
        }
        recording.add(Duration::from_secs(200), change("graph", json!([])));
        assert!(recording.bytes <= MAX_BYTES && !recording.is_given_up);
        assert_eq!(of(&recording, "log").len(), 20);
        let graphs = of(&recording, "graph");
        assert!((200..500).contains(&graphs.len()), "{}", graphs.len());
        // the end of what is shown, and then nothing
        assert_eq!(graphs[graphs.len() - 2], (199_900, json!([1999, filling])));
        assert_eq!(graphs[graphs.len() - 1], (200_000, json!([])));
        let apart = graphs.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap();
        assert!(u128::from(apart) < 2 * recording.step.as_millis() && apart <= 2000, "{apart}");
    }

    #[test]
    fn a_recording_that_is_too_long_at_any_step_is_given_up() {
        let mut recording = Recording::default();
        for _ in 0..5 {
            recording.add(Duration::ZERO, change("log", json!(["x".repeat(MAX_BYTES / 4)])));
        }
        assert!(recording.is_given_up && recording.changes.is_empty());
        assert_eq!(recording.finish(&Report::default(), &Sensitive::default()), "");
    }

    #[test]
    fn a_stage_is_told_by_what_changed_of_it() {
        let mut recording = Recording::default();
        let stage =
            |result: Value| change("stage", json!([0, {"name": "split", "edits": ["+ a rule"], "result": result}]));
        recording.add(Duration::ZERO, stage(Value::Null));
        recording.add(Duration::ZERO, stage(json!("passed")));
        let told: Vec<Value> = of(&recording, "stage").into_iter().map(|(_, stage)| stage).collect();
        assert_eq!(told[0], json!([0, {"name": "split", "edits": ["+ a rule"], "result": null}]));
        assert_eq!(told[1], json!([0, {"result": "passed"}]));
    }
}

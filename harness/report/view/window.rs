use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::events::Tallied;

/// The length of the window.
const SECOND: Duration = Duration::from_secs(1);

/// The answers of the last second, from counts since the start of the traffic.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<(Duration, BTreeMap<Key, u64>)>);

/// The population, the path, the answer and the pod.
type Key = (String, String, crate::verdict::Answer, Option<String>);

impl Window {
    /// Forgets all counts: other traffic begins.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the counts at a time, and returns those of the second before it; all of them if the traffic began within this second.
    pub fn take(&mut self, at: Duration, answers: &[Tallied]) -> Vec<Tallied> {
        let key = |own: &Tallied| (own.from.clone(), own.path.clone(), own.answer.clone(), own.pod.clone());
        let counts: BTreeMap<Key, u64> = answers.iter().map(|own| (key(own), own.count)).collect();
        // the counts at the beginning of the second stay
        while self.0.get(1).is_some_and(|(then, _)| *then + SECOND <= at) {
            self.0.pop_front();
        }
        let before = self.0.front().filter(|(then, _)| *then + SECOND <= at).map(|(_, counts)| counts.clone());
        let before = before.unwrap_or_default();
        let latest = counts.iter().map(|(key, count)| {
            let (from, path, answer, pod) = key.clone();
            Tallied { from, path, answer, pod, count: count - before.get(key).copied().unwrap_or(0).min(*count) }
        });
        let latest = latest.filter(|own| own.count > 0).collect();
        self.0.push_back((at, counts));
        latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Answer;

    #[test]
    fn the_window_has_the_answers_of_the_last_second() {
        let mut window = Window::default();
        let answer = Answer::Version { version: "v1".to_owned(), status: 200 };
        let mut counts = Vec::new();
        for (tenths, count) in [(0, 1), (5, 50), (10, 100), (15, 150), (20, 200), (40, 201)] {
            let tallied = Tallied { from: "all".into(), path: "/".into(), answer: answer.clone(), pod: None, count };
            let latest = window.take(Duration::from_millis(tenths * 100), &[tallied]);
            counts.push(latest.iter().map(|own| own.count).sum::<u64>());
        }
        assert_eq!(counts, [1, 50, 99, 100, 100, 1]);
        window.clear();
        assert_eq!(window.take(SECOND * 5, &[]), []);
    }
}

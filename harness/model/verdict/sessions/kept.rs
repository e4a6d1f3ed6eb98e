use std::time::Duration;

use crate::scenario::Sessions;
use crate::verdict::service_level::AnswerTimes;

/// What sessions get after a version has answered them.
///
/// A request counts if it was sent after the first answer of the version to its session had arrived.
#[derive(Debug, Clone)]
pub(super) struct KeptSessions {
    version: String,
    /// By session, when the first answer of the version arrived; none before.
    since: Vec<Option<Duration>>,
    /// By session, whether another version has answered a later request.
    has_left: Vec<bool>,
    /// The number of later requests.
    later: u64,
    /// The first session that another version has answered later, and this version.
    example: Option<(u64, String)>,
}

impl KeptSessions {
    pub fn new(version: &str, sessions: usize) -> Self {
        Self {
            version: version.to_owned(),
            since: vec![None; sessions],
            has_left: vec![false; sessions],
            later: 0,
            example: None,
        }
    }

    /// Takes an answer to a session, in the order of sending.
    pub fn take(&mut self, session: u64, version: &str, times: AnswerTimes) {
        let index = usize::try_from(session).unwrap_or(usize::MAX);
        let (Some(since), Some(has_left)) = (self.since.get_mut(index), self.has_left.get_mut(index)) else { return };
        match *since {
            Some(since) if times.sent >= since => {
                self.later += 1;
                if version != self.version {
                    *has_left = true;
                    self.example.get_or_insert_with(|| (session, version.to_owned()));
                }
            }
            Some(earlier) if version == self.version => *since = Some(earlier.min(times.answered)),
            None if version == self.version => *since = Some(times.answered),
            Some(_) | None => {}
        }
    }

    /// The number of later requests.
    pub const fn later(&self) -> u64 {
        self.later
    }

    /// The number of sessions that the version has answered.
    pub fn reached(&self) -> u64 {
        self.since.iter().flatten().count() as u64
    }

    /// The number of sessions that another version has answered later.
    pub fn left(&self) -> u64 {
        self.has_left.iter().filter(|left| **left).count() as u64
    }

    /// What happened to the sessions that did not keep the version; none if all kept it.
    pub fn why_not(&self) -> Option<String> {
        let (session, other) = self.example.as_ref()?;
        let (version, key) = (&self.version, Sessions::key_of(*session));
        Some(format!(
            "{} of {} sessions that {version} answered did not keep it in {} later requests: {key} got {version}, then {other}",
            self.left(),
            self.reached(),
            self.later
        ))
    }

    /// How many sessions have kept the version so far, in how many requests.
    pub fn kept(&self) -> String {
        let (version, reached, later) = (&self.version, self.reached(), self.later);
        format!("all {reached} sessions that {version} answered kept it in {later} later requests")
    }

    /// Why too little was seen, given how many requests of how many sessions were sent and how many later ones it takes.
    pub fn too_few(&self, requests: u64, sessions: u64, needed: u64) -> String {
        let version = &self.version;
        match self.reached() {
            0 => format!(
                "{version} answered none of {requests} requests of {sessions} sessions, so that no session could keep it"
            ),
            reached => {
                format!(
                    "{version} answered {reached} of {sessions} sessions, which sent {} later requests; {needed} are needed",
                    self.later
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(sent: u64, answered: u64) -> AnswerTimes {
        let [sent, answered] = [sent, answered].map(Duration::from_millis);
        AnswerTimes { due: sent, sent, answered }
    }

    #[test]
    fn a_request_that_was_sent_before_the_answer_arrived_is_no_later_one() {
        let mut kept = KeptSessions::new("v2", 2);
        kept.take(0, "v1", times(0, 1));
        kept.take(0, "v2", times(2, 10));
        kept.take(0, "v1", times(9, 11));
        assert_eq!((kept.reached(), kept.later(), kept.left()), (1, 0, 0));
        kept.take(0, "v1", times(10, 12));
        kept.take(1, "v1", times(13, 14));
        assert_eq!((kept.reached(), kept.later(), kept.left()), (1, 1, 1));
    }

    /// The answer that arrives first counts, whatever was sent first.
    #[test]
    fn the_first_answer_to_arrive_is_the_one_that_sessions_keep() {
        let mut kept = KeptSessions::new("v2", 1);
        kept.take(0, "v2", times(0, 10));
        kept.take(0, "v2", times(1, 5));
        kept.take(0, "v1", times(6, 8));
        assert_eq!((kept.later(), kept.left()), (1, 1));
    }
}

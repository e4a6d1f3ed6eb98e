use std::collections::BTreeMap;

use super::design::SessionDesign;
use super::kept::KeptSessions;
use crate::scenario::{Sessions, Stay};
use crate::verdict::answer::Answer;
use crate::verdict::binomial::leak_bound;
use crate::verdict::ruling::{Ruling, Stop};
use crate::verdict::service_level::AnswerTimes;
use crate::verdict::trial::Verdict;

/// The decision of a claim about sessions: takes the answers one by one, in the order of sending. Sessions take turns.
///
/// The verdict takes all of its requests, so that it can say how many sessions have moved. On a claim that sessions keep a version, it takes
/// requests until enough of them came after an answer of the version.
#[derive(Debug, Clone)]
pub struct SessionTrial {
    design: SessionDesign,
    requests: u64,
    /// What each session got first; none before its first answer that counts.
    first: Vec<Option<Place>>,
    has_moved: Vec<bool>,
    moved: u64,
    /// The first move: the session, and what it got before and after.
    example: Option<(u64, Place, Place)>,
    /// What sessions get after an answer of the version that they are to keep, if that is claimed.
    kept_version: Option<KeptSessions>,
    /// Answers that no session should get.
    excluded: BTreeMap<String, u64>,
    /// The number of sessions that have the cookie of the claim in the end, once that is known.
    kept: Option<u64>,
}

/// Where an answer came from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    version: String,
    /// None if responses name no pod, or the claim is not about pods.
    pod: Option<String>,
}

impl SessionTrial {
    /// The number of kinds of excluded answers that are told apart.
    const KINDS: usize = 16;

    /// A trial before its first request.
    pub fn new(design: SessionDesign) -> Self {
        let count = usize::try_from(design.claim.count).unwrap_or(usize::MAX);
        let kept_version = design.claim.keep.as_ref().map(|keep| KeptSessions::new(&keep.version, count));
        Self {
            design,
            kept_version,
            requests: 0,
            first: vec![None; count],
            has_moved: vec![false; count],
            moved: 0,
            example: None,
            excluded: BTreeMap::new(),
            kept: None,
        }
    }

    /// Takes the number of sessions that have the cookie of the claim in the end, if it needs one.
    pub fn kept_cookies(&mut self, sessions: u64) {
        self.kept = Some(sessions);
    }

    /// The statistical design of the claim.
    pub const fn design(&self) -> &SessionDesign {
        &self.design
    }

    /// The number of requests so far.
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// The ruling by the answers, once there is one. The verdict also counts the sessions that have no cookie.
    pub fn ruling(&self) -> Option<Ruling> {
        self.is_complete().then(|| self.rule())
    }

    /// Whether all answers were taken that the verdict needs.
    fn is_complete(&self) -> bool {
        let has_seen_enough = self.kept_version.as_ref().is_some_and(|kept| kept.later() >= self.design.clean);
        has_seen_enough || self.requests >= self.design.requests()
    }

    /// Takes the next answer in the order of sending, with its pod, unless there is a ruling. Returns the ruling, once there is one.
    pub fn observe(&mut self, answer: &Answer, pod: Option<&str>, times: AnswerTimes) -> Option<Ruling> {
        if self.is_complete() {
            return self.ruling();
        }
        let session = self.requests % self.design.claim.count;
        self.requests += 1;
        match self.place(answer, pod) {
            Ok(place) => match &mut self.kept_version {
                Some(kept) => kept.take(session, &place.version, times),
                None => self.take(session, place),
            },
            Err(what) if self.excluded.len() < Self::KINDS || self.excluded.contains_key(&what) => {
                *self.excluded.entry(what).or_default() += 1;
            }
            Err(_) => *self.excluded.entry("other answers".to_owned()).or_default() += 1,
        }
        self.ruling()
    }

    /// Where an answer came from, or what is wrong with it.
    fn place(&self, answer: &Answer, pod: Option<&str>) -> Result<Place, String> {
        let Answer::Version { version, status } = answer else { return Err(answer.to_string()) };
        if *status != self.design.claim.status {
            return Err(answer.to_string());
        }
        let pod = match (self.design.claim.stay, pod) {
            (Stay::Pod, None) => return Err(format!("{version} without the name of a pod")),
            (Stay::Pod, Some(pod)) => Some(pod.to_owned()),
            (Stay::Version, _) => None,
        };
        Ok(Place { version: version.clone(), pod })
    }

    fn take(&mut self, session: u64, place: Place) {
        let index = usize::try_from(session).unwrap_or(usize::MAX);
        let (Some(first), Some(has_moved)) = (self.first.get_mut(index), self.has_moved.get_mut(index)) else { return };
        match first {
            None => *first = Some(place),
            Some(first) if *first != place => {
                self.moved += u64::from(!*has_moved);
                *has_moved = true;
                self.example.get_or_insert_with(|| (session, first.clone(), place));
            }
            Some(_) => {}
        }
    }

    /// The number of sessions that began at a version.
    fn sessions_of(&self, version: &str) -> u64 {
        self.first.iter().flatten().filter(|place| place.version == version).count() as u64
    }

    fn rule(&self) -> Ruling {
        let claim = &self.design.claim;
        let is_claimed = |version: &String| claim.versions.get(version).is_some_and(|share| !share.is_none());
        let unclaimed =
            !claim.versions.is_empty() && self.first.iter().flatten().any(|place| !is_claimed(&place.version));
        if self.moved > 0 || !self.excluded.is_empty() || unclaimed {
            return Ruling::Fail;
        }
        if let Some(kept) = &self.kept_version {
            return match kept.left() {
                0 if kept.later() >= self.design.clean => Ruling::Pass,
                0 => Ruling::Inconclusive,
                _ => Ruling::Fail,
            };
        }
        if !self.is_complete() {
            return Ruling::Inconclusive;
        }
        let is_off = self.design.tests.iter().any(|test| {
            let count = self.sessions_of(&test.version);
            count < test.band.0 || test.band.1 < count
        });
        if is_off { Ruling::Fail } else { Ruling::Pass }
    }

    /// The verdict on the answers so far.
    pub fn verdict(&self) -> Verdict {
        let ruling = match self.rule() {
            Ruling::Pass if self.without_cookie() > 0 => Ruling::Fail,
            ruling => ruling,
        };
        let has_left = self.kept_version.as_ref().is_some_and(|kept| kept.left() > 0);
        let stop = match ruling {
            _ if !self.is_complete() => Stop::Time,
            Ruling::Pass if !self.design.is_split() => Stop::Clean,
            Ruling::Fail if self.moved > 0 || has_left || !self.excluded.is_empty() => Stop::Excluded,
            _ => Stop::Cap,
        };
        Verdict {
            ruling,
            reason: self.reason(ruling),
            requests: self.requests,
            allowed: self.design.requests(),
            shares: Vec::new(),
            chance: None,
            stop,
            paths: Vec::new(),
        }
    }

    fn reason(&self, ruling: Ruling) -> String {
        let (claim, requests) = (&self.design.claim, self.requests);
        let (count, stay) = (claim.count, claim.stay);
        if !self.excluded.is_empty() {
            let answers: Vec<String> = self.excluded.iter().map(|(what, times)| format!("{times} × {what}")).collect();
            return format!(
                "of {requests} requests of {count} sessions, these got another answer: {}",
                answers.join(", ")
            );
        }
        if let Some(kept) = &self.kept_version {
            return self.reason_of(kept, ruling);
        }
        let lacking = self.lacking_cookies();
        if let Some((session, before, after)) = &self.example {
            let key = Sessions::key_of(*session);
            let also = lacking.map(|what| format!("; {what}")).unwrap_or_default();
            return format!(
                "{} of {count} sessions did not stay at their {stay}: {key} got {before}, then {after}{also}",
                self.moved
            );
        }
        if ruling == Ruling::Inconclusive {
            return format!("{requests} of {} requests were answered in time", self.design.requests());
        }
        if let Some(what) = lacking {
            return what;
        }
        let confidence = claim.errors.confidence();
        let leak = 100.0 * leak_bound(requests.saturating_sub(count).max(1), confidence);
        let stayed = format!(
            "all {count} sessions stayed at their {stay} in {requests} requests; less than {leak:.2} % of the requests go elsewhere with {} % confidence",
            100.0 * confidence.fraction()
        );
        let shares = self.shares();
        if shares.is_empty() { stayed } else { format!("{stayed}; of the sessions {shares}") }
    }

    /// The reason of a verdict on a version that sessions keep.
    fn reason_of(&self, kept: &KeptSessions, ruling: Ruling) -> String {
        if let Some(why) = kept.why_not() {
            return why;
        }
        if ruling == Ruling::Inconclusive {
            return kept.too_few(self.requests, self.design.claim.count, self.design.clean);
        }
        let confidence = self.design.claim.errors.confidence();
        let leak = 100.0 * leak_bound(kept.later().max(1), confidence);
        format!(
            "{}; less than {leak:.2} % of the later requests go elsewhere with {} % confidence",
            kept.kept(),
            100.0 * confidence.fraction()
        )
    }

    /// The number of sessions that have no cookie, although the claim needs one. Those that are to keep a version get it with an answer of this
    /// version alone.
    fn without_cookie(&self) -> u64 {
        let needs = self.design.claim.cookie.as_ref().filter(|_| self.kept_version.is_none());
        let needs = needs.map_or(0, |_| self.design.claim.count);
        needs.saturating_sub(self.kept.unwrap_or_default())
    }

    /// Which sessions have no cookie.
    fn lacking_cookies(&self) -> Option<String> {
        let (claim, without) = (&self.design.claim, self.without_cookie());
        let cookie = claim.cookie.as_ref().filter(|_| without > 0)?;
        let whose = if without == claim.count { "any of the".to_owned() } else { format!("{without} of") };
        Some(format!("no response has set the cookie `{cookie}` for {whose} {} sessions", claim.count))
    }

    /// `v1 66.4 % (55.1 to 76.2), v2 33.6 % (23.8 to 44.9)`.
    fn shares(&self) -> String {
        let claim = &self.design.claim;
        if claim.versions.is_empty() {
            return String::new();
        }
        let mut versions: Vec<&str> = claim.versions.keys().map(String::as_str).collect();
        versions.extend(self.first.iter().flatten().map(|place| place.version.as_str()));
        versions.sort_unstable();
        versions.dedup();
        let shares = versions.into_iter().map(|version| {
            let count = self.sessions_of(version);
            let (low, high) = self.design.interval(count);
            let share = 100.0 * count as f64 / claim.count as f64;
            format!("{version} {share:.1} % ({:.1} to {:.1})", 100.0 * low, 100.0 * high)
        });
        shares.collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Place {
    /// `v1 from hello-server-v1-7d9c`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.version)?;
        self.pod.as_ref().map_or(Ok(()), |pod| write!(formatter, " from {pod}"))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::design::tests::claim;
    use super::*;
    use crate::scenario::{KeptVersion, Origin, SessionClaim};

    fn trial(claim: &SessionClaim) -> SessionTrial {
        SessionTrial::new(SessionDesign::new(claim, 1024).unwrap())
    }

    fn answer(version: &str, status: u16) -> Answer {
        Answer::Version { version: version.to_owned(), status }
    }

    /// One request after another.
    fn at(request: u64) -> AnswerTimes {
        let at = |time| std::time::Duration::from_millis(time);
        AnswerTimes { due: at(2 * request), sent: at(2 * request), answered: at(2 * request + 1) }
    }

    /// The verdict if each request is answered by the pod of a number, of which the first two have v1.
    fn verdict(claim: &SessionClaim, pod: impl Fn(u64, u64) -> u64) -> (Ruling, String) {
        let mut trial = trial(claim);
        for request in 0.. {
            let pod = pod(request % claim.count, request / claim.count);
            let name = format!("pod-{pod}");
            let version = answer(if pod < 2 { "v1" } else { "v2" }, 200);
            let is_named = claim.stay == Stay::Pod;
            if trial.observe(&version, is_named.then_some(name.as_str()), at(request)).is_some() {
                break;
            }
        }
        let verdict = trial.verdict();
        assert!(verdict.requests == verdict.allowed || claim.keep.is_some());
        (verdict.ruling, verdict.reason)
    }

    fn keeping(count: u64) -> SessionClaim {
        let keep = KeptVersion { version: "v2".to_owned(), origin: Origin::new("scenario.yaml", 20, 9) };
        let cookie = Some("canary".to_owned());
        SessionClaim { keep: Some(keep), stay: Stay::Version, names_stay: false, cookie, ..claim(count, &[], 0.1) }
    }

    /// Each session gets v1 in so many rounds as its number says, and then v2, apart from one request.
    #[rstest]
    #[case::all_keep_it(
        None,
        Ruling::Pass,
        "all 85 sessions that v2 answered kept it in 688 later requests; less than 1.00 % of the later requests go elsewhere with 99.9 % confidence"
    )]
    #[case::one_leaves_it(Some((3, 5)), Ruling::Fail, "1 of 85 sessions that v2 answered did not keep it in 688 later requests: session-4 got v2, then v1")]
    #[case::before_v2_has_answered(Some((3, 1)), Ruling::Pass, "all 85 sessions that v2 answered kept it in 688 later requests")]
    fn sessions_keep_a_version_after_its_first_answer(
        #[case] apart: Option<(u64, u64)>,
        #[case] expected: Ruling,
        #[case] reason: &str,
    ) {
        let pod =
            |session: u64, round: u64| if round < session % 40 || apart == Some((session, round)) { 0 } else { 2 };
        let (ruling, found) = verdict(&keeping(200), pod);
        assert!(ruling == expected && found.starts_with(reason), "{ruling} {found}");
    }

    #[rstest]
    #[case::never(200, "v2 answered none of 100000 requests of 200 sessions, so that no session could keep it")]
    #[case::too_late(499, "v2 answered 1 of 200 sessions, which sent 499 later requests; 688 are needed")]
    fn a_version_that_answers_too_few_requests_is_inconclusive(#[case] of_first: u64, #[case] reason: &str) {
        let pod = |session: u64, _| if session == 0 && of_first == 499 { 2 } else { 0 };
        assert_eq!(verdict(&keeping(200), pod), (Ruling::Inconclusive, reason.to_owned()));
    }

    #[test]
    fn another_status_fails_a_claim_that_sessions_keep_a_version() {
        let mut trial = trial(&keeping(200));
        trial.observe(&answer("v1", 503), None, at(0));
        assert_eq!(trial.verdict().ruling, Ruling::Fail);
        assert_eq!(trial.verdict().reason, "of 1 requests of 200 sessions, these got another answer: 1 × v1 with 503");
    }

    const THIRDS: [(&str, f64); 2] = [("v1", 2.0 / 3.0), ("v2", 1.0 / 3.0)];

    #[test]
    fn sessions_that_stay_pass_and_the_leak_is_bounded() {
        let (ruling, reason) = verdict(&claim(200, &[], 0.1), |session, _| session % 3);
        assert_eq!(ruling, Ruling::Pass);
        assert_eq!(
            reason,
            "all 200 sessions stayed at their pod in 1000 requests; less than 0.86 % of the requests go elsewhere with 99.9 % confidence"
        );
    }

    #[test]
    fn one_session_that_moves_once_fails_and_is_named() {
        let moves = |session, round| if (session, round) == (6, 3) { 2 } else { session % 2 };
        let (ruling, reason) = verdict(&claim(200, &[], 0.1), moves);
        assert_eq!(ruling, Ruling::Fail);
        assert_eq!(
            reason,
            "1 of 200 sessions did not stay at their pod: session-7 got v1 from pod-0, then v2 from pod-2"
        );
    }

    #[rstest]
    #[case::all(200, Ruling::Pass, "all 200 sessions stayed at their pod in 1000 requests")]
    #[case::all_but_one(199, Ruling::Fail, "no response has set the cookie `user` for 1 of 200 sessions")]
    #[case::none(0, Ruling::Fail, "no response has set the cookie `user` for any of the 200 sessions")]
    fn sessions_that_stay_without_their_cookie_fail(#[case] kept: u64, #[case] expected: Ruling, #[case] reason: &str) {
        let mut trial = trial(&SessionClaim { cookie: Some("user".to_owned()), ..claim(200, &[], 0.1) });
        while trial.observe(&answer("v1", 200), Some("pod-0"), at(0)).is_none() {}
        trial.kept_cookies(kept);
        let verdict = trial.verdict();
        assert_eq!((verdict.ruling, verdict.reason.split(';').next()), (expected, Some(reason)));
    }

    #[test]
    fn a_session_may_move_between_the_pods_of_a_version_where_no_pod_is_claimed() {
        let by_version = SessionClaim { stay: Stay::Version, ..claim(200, &[], 0.1) };
        assert_eq!(verdict(&by_version, |_, round| round % 2).0, Ruling::Pass);
        let (ruling, reason) = verdict(&by_version, |_, round| round % 3);
        assert_eq!(ruling, Ruling::Fail);
        assert_eq!(reason, "200 of 200 sessions did not stay at their version: session-1 got v1, then v2");
    }

    #[test]
    fn each_session_counts_once_for_a_share() {
        let claim = claim(1000, &THIRDS, 0.2);
        let (ruling, reason) = verdict(&claim, |session, _| session % 3);
        assert_eq!(ruling, Ruling::Pass);
        assert!(reason.contains("; of the sessions v1 66.7 % ("), "{reason}");
        let (ruling, reason) = verdict(&claim, |session, _| if session % 5 == 0 { 0 } else { 2 });
        assert_eq!(ruling, Ruling::Fail);
        assert!(reason.contains("; of the sessions v1 20.0 % ("), "{reason}");
        // a version that the claim does not name
        let only = SessionClaim { versions: claim_of("v1"), ..claim };
        assert_eq!(verdict(&only, |session, _| session % 3).0, Ruling::Fail);
        assert_eq!(verdict(&only, |session, _| session % 2).0, Ruling::Pass);
    }

    fn claim_of(version: &str) -> BTreeMap<String, crate::scenario::Share> {
        [(version.to_owned(), crate::scenario::Share::ALL)].into()
    }

    #[test]
    fn other_answers_fail_and_too_few_are_inconclusive() {
        let mut trial = trial(&claim(200, &[], 0.1));
        assert_eq!(trial.observe(&answer("v1", 200), Some("a"), at(0)), None);
        assert_eq!(trial.verdict().ruling, Ruling::Inconclusive);
        assert_eq!(trial.verdict().reason, "1 of 1000 requests were answered in time");
        trial.observe(&answer("v1", 503), Some("a"), at(1));
        trial.observe(&answer("v1", 200), None, at(2));
        let verdict = trial.verdict();
        assert_eq!(verdict.ruling, Ruling::Fail);
        assert_eq!(
            verdict.reason,
            "of 3 requests of 200 sessions, these got another answer: 1 × v1 with 503, 1 × v1 without the name of a pod"
        );
    }
}

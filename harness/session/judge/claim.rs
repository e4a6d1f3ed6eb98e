use crate::cluster::{ClusterError, PodState};
use crate::events::{Bound, FailureLayer, Judged, Subject, Transition};
use crate::plan::{Given, PlannedStage, Senders, Snapshot};
use crate::routing::NotModelled;
use crate::scenario::{Claim, During, Expectation, Origin, ServiceLevel, Stage, StatusCode};
use crate::verdict::{Answer, Ruling, ServiceLevelTrial, SessionTrial, Trial, Verdict};
use crate::verify::{Decided, decide, decide_sessions, why_sessions_move};

use super::during::{self, Found, Watched};
use super::written::written_meanwhile;

/// Judges the claim of a sample. `senders` is what becomes of requests by the manifests, `live` with the pods that are ready.
pub(crate) fn judge_sample(
    trial: &Trial,
    snapshot: &Snapshot<'_>,
    senders: &Senders<'_>,
    live: &Senders<'_>,
) -> Judged {
    let (claim, verdict) = (&trial.design().claim, trial.verdict());
    let (layer, hints) = match verdict.ruling {
        Ruling::Pass | Ruling::Inconclusive => (None, Vec::new()),
        Ruling::Fail => {
            let (layer, hints) = blame(trial, snapshot, senders, live);
            (Some(layer), hints)
        }
    };
    Judged {
        subject: Subject::Population { name: claim.from.clone(), path: claim.path.clone() },
        claim: claim.to_string(),
        verdict,
        hints,
        place: claim.origin.clone(),
        errors: Some(claim.errors),
        layer,
    }
}

/// Judges a claim about errors or latency.
pub(crate) fn judge_service_level(trial: &ServiceLevelTrial) -> Judged {
    let (claim, verdict) = (&trial.design().claim, trial.verdict());
    let layer = (verdict.ruling == Ruling::Fail).then_some(FailureLayer::ServiceLevel);
    let errors = Some(claim.errors);
    Judged { errors, ..counted(about(claim), claim.to_string(), verdict, claim.origin.clone(), layer) }
}

/// Judges a claim about sessions. `senders` is what becomes of requests by the manifests, `live` with the pods that are ready.
pub(crate) fn judge_sessions(
    trial: &SessionTrial,
    snapshot: &Snapshot<'_>,
    senders: &Senders<'_>,
    live: &Senders<'_>,
) -> Judged {
    let (claim, verdict) = (&trial.design().claim, trial.verdict());
    let subject = Subject::Population { name: claim.from.clone(), path: claim.path.clone() };
    let errors = Some(claim.errors);
    let judged = counted(subject, claim.to_string(), verdict, claim.origin.clone(), None);
    let population = snapshot.scenario.population(&claim.from);
    let Some(population) = population.filter(|_| judged.verdict.ruling == Ruling::Fail) else {
        return Judged { errors, ..judged };
    };
    let findings = live.of(population).diagnose_along(&snapshot.request_for(population, &claim.path));
    let given = snapshot.given(population, &claim.path, senders);
    let fails = matches!(decide_sessions(claim, &given), Decided::Fails(_));
    let layer = match findings.as_slice() {
        findings if findings.iter().any(|finding| finding.lacks_endpoints) => FailureLayer::Endpoints,
        [_, ..] => FailureLayer::Route,
        [] if fails => FailureLayer::Expectation,
        [] => FailureLayer::Delivery,
    };
    let why = if fails { why_sessions_move(claim, &given) } else { Vec::new() };
    let mut hints: Vec<String> = findings.iter().chain(&why).map(ToString::to_string).collect();
    if fails && hints.is_empty() {
        hints.push(format!("the manifests give {given}; the expectation says {claim}"));
    }
    Judged { errors, hints, layer: Some(layer), ..judged }
}

/// The subject of a claim about errors or latency.
fn about(level: &ServiceLevel) -> Subject {
    Subject::Population { name: level.from.clone(), path: level.path.clone() }
}

/// Rules no claim of a stage proven or failed that something unmodelled can affect: the venue answered as the model does.
pub(crate) fn leave_undecided(judged: &mut [Judged], snapshot: &Snapshot<'_>) {
    let senders = snapshot.senders();
    for judged in judged {
        let Subject::Population { name, path } = &judged.subject else { continue };
        let population = snapshot.scenario.population(name);
        let given = population.map(|own| snapshot.given(own, path, &senders)).unwrap_or_default();
        let mut sessions = snapshot.scenario.stages.iter().flat_map(Stage::session_claims);
        let notes = match sessions.find(|claim| claim.origin == judged.place) {
            Some(claim) => decide_sessions(claim, &given).not_modelled().to_vec(),
            None => given.not_modelled,
        };
        let Some(NotModelled { origin, field, .. }) = notes.first() else { continue };
        judged.verdict.ruling = Ruling::Inconclusive;
        judged.verdict.reason =
            format!("the embedded mesh does not model {field} ({origin}), which can affect these requests");
        (judged.hints, judged.layer) = (Vec::new(), None);
    }
}

/// The layer that a failed claim points to, and hints that explain it.
fn blame(
    trial: &Trial,
    snapshot: &Snapshot<'_>,
    senders: &Senders<'_>,
    live: &Senders<'_>,
) -> (FailureLayer, Vec<String>) {
    let claim = &trial.design().claim;
    let population = snapshot.scenario.population(&claim.from);
    let diagnosed = |own| live.of(own).diagnose_along(&snapshot.request_for(own, &claim.path));
    let findings = population.map(diagnosed).unwrap_or_default();
    let mut hints: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let given = population.map(|own| snapshot.given(own, &claim.path, senders)).unwrap_or_default();
    let model = decide(claim, &given);
    if let Decided::Fails(_) = model
        && findings.is_empty()
    {
        let rules: Vec<String> = given.rules.iter().map(|rule| format!("{} ({})", rule.object, rule.origin)).collect();
        let by = if rules.is_empty() { "no rule".to_owned() } else { rules.join(" and ") };
        hints.push(format!("the manifests give {given} by {by}; the expectation says {claim}"));
    }
    let lost = lost_headers(trial, snapshot, senders);
    let is_lost = lost.is_some() && findings.is_empty();
    hints.extend(lost);
    let layer = match (findings.as_slice(), &model) {
        _ if is_lost => FailureLayer::Propagation,
        (findings, _) if findings.iter().any(|finding| finding.lacks_endpoints) => FailureLayer::Endpoints,
        ([], Decided::Fails(_)) => FailureLayer::Expectation,
        ([_, ..], _) => FailureLayer::Route,
        ([], _) => layer_of(trial.most_excluded(), claim),
    };
    if layer == FailureLayer::Version {
        let scenario = snapshot.scenario;
        hints.push(format!("it does not match `version: {}`, {}", scenario.version, scenario.version_origin));
    }
    (layer, hints)
}

/// The layer that the most frequent answer that a claim excludes points to, where the routes are right.
fn layer_of(excluded: Option<&Answer>, claim: &Claim) -> FailureLayer {
    match excluded {
        None => FailureLayer::Share,
        Some(Answer::Nothing { .. }) => FailureLayer::NoAnswer,
        // what should not come at all
        Some(Answer::Version { version, .. }) if claim.versions.get(version).is_none_or(|own| own.is_none()) => {
            FailureLayer::Delivery
        }
        // a response that is no error, from a server whose version cannot be read
        Some(Answer::Unknown { status, .. }) if !StatusCode(*status).is_error() => FailureLayer::Version,
        Some(_) => FailureLayer::Application,
    }
}

/// The cause that headers of requests are lost on the way of a failed claim, if that explains it.
fn lost_headers(trial: &Trial, snapshot: &Snapshot<'_>, senders: &Senders<'_>) -> Option<String> {
    let claim = &trial.design().claim;
    let holds = |given: &Given| decide(claim, given) == Decided::Holds;
    let declared = snapshot.lost_headers(senders, claim, holds).map(|finding| finding.message);
    declared.or_else(|| match trial.most_excluded() {
        Some(Answer::Version { version, .. }) => snapshot.headers_seem_lost(senders, claim, version),
        _ => None,
    })
}

/// A claim whose verdict is not a statistical test.
pub(super) fn counted(
    subject: Subject,
    claim: String,
    verdict: Verdict,
    place: Origin,
    layer: Option<FailureLayer>,
) -> Judged {
    Judged { subject, claim, verdict, hints: Vec::new(), place, errors: None, layer }
}

/// A claim about the time while a stage was applied, decided, and what the requests exclude.
pub(crate) fn judge_during(claim: &During, watched: &Watched) -> (Judged, Vec<Bound>) {
    let Found { ruling, reason, bounds } = during::judge(claim, watched);
    let verdict = Verdict::counted(ruling, watched.sightings.len() as u64, reason);
    let layer = (ruling == Ruling::Fail).then_some(FailureLayer::Transition);
    (counted(Subject::Change, claim.to_string(), verdict, claim.origin.clone(), layer), bounds)
}

/// What was answered instead of what the stage before or this one gives, and why.
pub(crate) fn causes(transition: &Transition, planned: &PlannedStage<'_>) -> Vec<String> {
    let answers = transition.errors.iter();
    let mut causes: Vec<String> =
        answers.map(|(answer, count)| format!("{count} of them were answered {answer}")).collect();
    let early = !planned.is_controlled();
    if early && transition.errors.keys().any(|answer| answer.starts_with("503")) {
        causes.extend(planned.routed_early().into_iter().map(|(what, workload)| {
            format!("{what} was routed to before {workload} was ready; give it a stage of its own")
        }));
    }
    causes.extend(written_meanwhile(transition));
    causes
}

/// The cause that pods which were ready before a change ended during it, without a time in which they still serve; none if no pod did.
pub(crate) fn ended_at_once(before: &[PodState], after: &[PodState]) -> Option<String> {
    let is_there = |own: &PodState| {
        after.iter().any(|pod| pod.ready && (&pod.name, &pod.namespace) == (&own.name, &own.namespace))
    };
    let ended = before.iter().filter(|pod| pod.ready && !pod.has_pre_stop && !is_there(pod));
    let mut names: Vec<&str> = ended.map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| {
        format!(
            "pods without a preStop hook ended during the change: {}; a pod that ends before the sidecar of the client knows of it fails requests",
            names.join(", ")
        )
    })
}

/// The expectations of a stage that nothing was judged of. There are none, unless the walk has a gap: then it does not pass.
pub(crate) fn not_judged(stage: &Stage, judged: &[Judged]) -> Vec<Judged> {
    let places = stage.expect.iter().map(|expectation| (expectation, expectation.origin()));
    let missing = places.filter(|(_, place)| !judged.iter().any(|judged| judged.place == **place));
    let judged = missing.map(|(expectation, place)| {
        let (subject, claim) = match expectation {
            Expectation::Claim(claim) => {
                (Subject::Population { name: claim.from.clone(), path: claim.path.clone() }, claim.to_string())
            }
            Expectation::Declared(claim) => {
                (Subject::Population { name: claim.from.clone(), path: "/".to_owned() }, claim.to_string())
            }
            Expectation::ServiceLevel(level) => (about(level), level.to_string()),
            Expectation::Sessions(claim) => {
                (Subject::Population { name: claim.from.clone(), path: claim.path.clone() }, claim.to_string())
            }
            Expectation::Served { workload, requests, .. } => {
                (Subject::Workload(workload.clone()), format!("{requests} served"))
            }
            Expectation::During(during) => (Subject::Change, during.to_string()),
            Expectation::Weights { weights, .. } => (Subject::Weights, weights.to_string()),
            Expectation::Reports { weight, .. } => (Subject::Reports, weight.to_string()),
            Expectation::NoObjects(_) => (Subject::Objects, "none".to_owned()),
        };
        let verdict = Verdict::counted(Ruling::Inconclusive, 0, "this stage did not look at it".to_owned());
        counted(subject, claim, verdict, place.clone(), None)
    });
    judged.collect()
}

/// The client's routes did not come to be what the manifests ask for: a failure of its own, whatever the answers were.
pub(crate) fn not_converged(hints: Vec<String>, stage: &Origin) -> Judged {
    let verdict = Verdict::counted(Ruling::Fail, 0, "the client's sidecar routes otherwise".to_owned());
    let claim = "as the manifests ask for".to_owned();
    Judged { hints, ..counted(Subject::Routes, claim, verdict, stage.clone(), Some(FailureLayer::Delivery)) }
}

/// Judges the claim that no object is left, from the end of the wait and the objects that were listed last.
///
/// # Errors
/// The last list could not be had, or there was none: neither says what is left.
pub(crate) fn judge_objects(
    waited: Result<(), ClusterError>,
    last: Result<Vec<String>, ClusterError>,
    place: &Origin,
) -> Result<Judged, ClusterError> {
    let (ruling, reason) = match waited {
        Ok(()) => (Ruling::Pass, "nothing is left".to_owned()),
        Err(error) => match last?.as_slice() {
            [] => return Err(error),
            left => (Ruling::Fail, format!("left: {}", left.join(", "))),
        },
    };
    let layer = (ruling == Ruling::Fail).then_some(FailureLayer::Leftovers);
    Ok(counted(Subject::Objects, "none".to_owned(), Verdict::counted(ruling, 0, reason), place.clone(), layer))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::during::Sighting;
    use super::*;
    use crate::cluster::wait::{Awaited, WaitError};
    use crate::plan::Plan;
    use crate::routing::Placement;
    use crate::scenario::{ErrorRates, Scenario};

    #[test]
    fn pods_that_end_at_once_are_a_cause_and_others_are_not() {
        let pod = |name: &str, has_pre_stop: bool, ready: bool| PodState {
            name: name.to_owned(),
            namespace: "canary".to_owned(),
            address: None,
            labels: BTreeMap::new(),
            image: String::new(),
            ports: Vec::new(),
            placement: Placement::default(),
            ready,
            sidecar: None,
            has_pre_stop,
        };
        let before =
            [pod("b", false, true), pod("a", false, true), pod("drained", true, true), pod("stays", false, true)];
        let after = [pod("a", false, false), pod("stays", false, true), pod("new", false, true)];
        let expected = "pods without a preStop hook ended during the change: a, b; \
                        a pod that ends before the sidecar of the client knows of it fails requests";
        assert_eq!(ended_at_once(&before, &after).as_deref(), Some(expected));
        assert_eq!(ended_at_once(&before[2..], &after), None);
    }

    #[test]
    fn what_cannot_be_listed_is_an_error_and_neither_nothing_nor_something_left() {
        let late = || {
            let (limit, last) = (Duration::from_secs(1), String::new());
            Err(ClusterError::from(WaitError::TimedOut { what: Awaited::ObjectRemoval, limit, last }))
        };
        let unread = || ClusterError::NoEngine("the list could not be had".to_owned());
        let said = |verdict: Verdict| (verdict.ruling, verdict.reason);
        let no_objects = |waited, last| {
            judge_objects(waited, last, &Origin::new("scenario.yaml", 3, 9)).map(|judged| judged.verdict)
        };
        let left = no_objects(late(), Ok(vec!["ConfigMap/settings".to_owned()])).unwrap();
        assert_eq!(said(left), (Ruling::Fail, "left: ConfigMap/settings".to_owned()));
        let error = no_objects(late(), Err(unread())).unwrap_err();
        assert_eq!(error.to_string(), unread().to_string());
        // the wait ended before anything was listed
        assert!(no_objects(late(), Ok(Vec::new())).unwrap_err().to_string().contains("took longer than 1 s"));
        // a list that could not be had at first and was empty in the end
        assert_eq!(no_objects(Ok(()), Err(unread())).unwrap().ruling, Ruling::Pass);
    }

    #[rstest::rstest]
    #[case::right_versions_in_wrong_shares(None, FailureLayer::Share)]
    #[case::no_connection(Some(Answer::Nothing { reason: "no connection".to_owned() }), FailureLayer::NoAnswer)]
    #[case::another_version(Some(Answer::Version { version: "v2".to_owned(), status: 200 }), FailureLayer::Delivery)]
    #[case::an_error(Some(Answer::Version { version: "v1".to_owned(), status: 500 }), FailureLayer::Application)]
    #[case::an_error_of_unknown_origin(
        Some(Answer::Unknown { status: 503, excerpt: String::new() }),
        FailureLayer::Application
    )]
    #[case::no_version(Some(Answer::Unknown { status: 200, excerpt: String::new() }), FailureLayer::Version)]
    fn what_should_not_come_points_to_a_layer(#[case] excluded: Option<Answer>, #[case] expected: FailureLayer) {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        // everyone gets v1
        let claim = scenario.stages[0].claims().next().unwrap();
        assert_eq!(layer_of(excluded.as_ref(), claim), expected);
    }

    #[test]
    fn what_a_stage_does_not_look_at_is_not_passed() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let stage = &scenario.stages[2];
        let nothing = not_judged(stage, &[]);
        assert_eq!(nothing.len(), stage.expect.len());
        assert!(nothing.iter().all(|judged| judged.verdict.ruling == Ruling::Inconclusive));
        let Some(last) = nothing.last() else { panic!("it expects something") };
        assert_eq!((last.claim.as_str(), last.place.line), ("0 served", 42));
        let missing = not_judged(stage, &nothing[..3]);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].subject, Subject::Workload("hello-server-v2".to_owned()));
        assert!(not_judged(stage, &nothing).is_empty());
    }

    #[test]
    fn a_claim_about_a_change_that_nobody_watched_is_not_passed() {
        let (judged, bounds) = judge_during(&during(), &Watched::default());
        assert_eq!(judged.verdict.ruling, Ruling::Inconclusive);
        assert_eq!(bounds.iter().map(|bound| bound.requests).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn more_errors_during_a_change_than_are_claimed_fail_it() {
        let judged = |failed: usize| {
            let sighting =
                |n: usize| Sighting { population: 0, due: 1, sent: 1, at: 2, good: n >= failed, version: None };
            let watched = Watched { sightings: (0..9).map(sighting).collect(), ..Watched::default() };
            judge_during(&during(), &watched).0
        };
        // as many as are claimed, in too few requests to exclude a share of them
        assert_eq!(judged(1).verdict.ruling, Ruling::Inconclusive);
        let failed = judged(2);
        assert_eq!((failed.verdict.ruling, failed.layer), (Ruling::Fail, Some(FailureLayer::Transition)));
        assert_eq!(failed.verdict.reason, "2 of 9 requests failed while the stage was applied");
        let errors = [("503".to_owned(), 1), ("no answer in time".to_owned(), 1)].into_iter().collect();
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let transition = Transition { requests: 9, errors, ..Transition::default() };
        let hints = causes(&transition, &Plan::new(&scenario).stages[3]);
        assert_eq!(hints, ["1 of them were answered 503", "1 of them were answered no answer in time"]);
    }

    #[test]
    fn a_subset_that_was_routed_to_before_its_pods_were_ready_is_named() {
        let mut scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let deployment = std::mem::take(&mut scenario.stages[2].steps);
        scenario.stages[3].steps.extend(deployment);
        let errors = [("503 `no healthy upstream`".to_owned(), 2)].into_iter().collect();
        let transition = Transition { requests: 9, errors, ..Transition::default() };
        let hints = causes(&transition, &Plan::new(&scenario).stages[3]);
        let early = "subset v2 was routed to before hello-server-v2 was ready; give it a stage of its own";
        assert_eq!(hints, ["2 of them were answered 503 `no healthy upstream`", early]);
    }

    fn during() -> During {
        During {
            errors: Some(1),
            excludes: During::EXCLUDES,
            miss: ErrorRates::default().miss,
            false_alarm: ErrorRates::default().false_alarm,
            latency: Vec::new(),
            gap: None,
            last_of: BTreeMap::new(),
            origin: Origin::new("scenario.yaml", 3, 9),
        }
    }
}

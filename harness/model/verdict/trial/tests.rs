use rstest::rstest;

use super::*;
use crate::scenario::Claim;
use crate::verdict::design::tests::claim;

fn version(version: &str, status: u16, count: usize) -> Vec<Answer> {
    vec![Answer::Version { version: version.to_owned(), status }; count]
}

fn no_healthy(count: usize) -> Vec<Answer> {
    vec![Answer::Unknown { status: 503, excerpt: "no healthy upstream".to_owned() }; count]
}

fn lost(count: usize) -> Vec<Answer> {
    vec![Answer::Nothing { reason: "no answer in time".to_owned() }; count]
}

/// The trial of a claim after these answers, and after how many its ruling stood.
fn trial(claim: &Claim, answers: impl IntoIterator<Item = Answer>) -> (Trial, Option<u64>) {
    let mut trial = Trial::new(Design::new(claim).unwrap());
    let mut stood = None;
    for (n, answer) in (1..).zip(answers) {
        let kind = trial.kind(&answer);
        if trial.observe(kind).is_some() {
            stood = stood.or(Some(n));
        }
    }
    (trial, stood)
}

fn told(claim: &Claim, answers: Vec<Vec<Answer>>) -> (Ruling, String) {
    let verdict = trial(claim, answers.into_iter().flatten()).0.verdict();
    (verdict.ruling, verdict.reason)
}

#[rstest]
#[case::clean(vec![version("v1", 200, 688)], Ruling::Pass, "all 688 from v1; a leak is below 1.00 % with 99.9 % confidence")]
#[case::one_foreign(vec![version("v1", 200, 687), version("v2", 200, 1)], Ruling::Fail, "1 of 688 requests was answered by v2, of which none was claimed")]
#[case::one_error(vec![version("v1", 200, 687), version("v1", 503, 1)], Ruling::Fail, "1 of 688 requests was answered 503 by v1; 200 was claimed")]
#[case::mesh(vec![version("v1", 200, 3), no_healthy(2)], Ruling::Fail, "2 of 5 requests were answered 503 `no healthy upstream`, which tells no version")]
#[case::lost(vec![version("v1", 200, 3), lost(2)], Ruling::Fail, "2 of 5 requests got no answer: no answer in time")]
#[case::short(vec![version("v1", 200, 687)], Ruling::Inconclusive, "only 687 of at most 688 requests were answered in time, too few for a verdict")]
#[case::late(vec![version("v1", 200, 690), version("v2", 200, 2)], Ruling::Fail, "2 of 692 requests were answered by v2, of which none was claimed")]
fn all_to_one_has_no_tolerance(#[case] answers: Vec<Vec<Answer>>, #[case] ruling: Ruling, #[case] reason: &str) {
    assert_eq!(told(&claim(&[("v1", 1.0)], &[]), answers), (ruling, reason.to_owned()));
}

#[rstest]
#[case::all(vec![version("v1", 503, 688)], Ruling::Pass, "all 688 from v1, status 503; a leak is below 1.00 % with 99.9 % confidence")]
#[case::another(vec![version("v1", 503, 5), version("v1", 200, 1)], Ruling::Fail, "1 of 6 requests was answered 200 by v1; 503 was claimed")]
fn a_status_is_claimed_without_tolerance_too(
    #[case] answers: Vec<Vec<Answer>>,
    #[case] ruling: Ruling,
    #[case] reason: &str,
) {
    assert_eq!(told(&claim(&[("v1", 1.0)], &[(503, 1.0)]), answers), (ruling, reason.to_owned()));
}

#[test]
fn where_only_the_status_is_claimed_nobody_has_to_tell_a_version() {
    let only = claim(&[], &[(503, 1.0)]);
    let expected = "all 688 status 503; a leak is below 1.00 % with 99.9 % confidence";
    assert_eq!(told(&only, vec![no_healthy(300), version("v1", 503, 388)]), (Ruling::Pass, expected.to_owned()));
    let (ruling, reason) = told(&only, vec![no_healthy(3), version("v1", 200, 1)]);
    assert_eq!((ruling, reason.as_str()), (Ruling::Fail, "1 of 4 requests was answered 200 by v1; 503 was claimed"));
}

fn alternating(count: usize) -> impl Iterator<Item = Answer> {
    let two = [version("v1", 200, 1), version("v2", 200, 1)].concat();
    two.into_iter().cycle().take(count)
}

#[test]
fn halves_are_decided_as_soon_as_the_answers_allow() {
    let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
    let (trial, stood) = trial(&halves, alternating(600));
    let verdict = trial.verdict();
    assert_eq!((verdict.ruling, verdict.requests, verdict.allowed), (Ruling::Pass, 340, 1711));
    assert_eq!(stood, Some(340));
    insta::assert_snapshot!(verdict.reason, @"v1 50.0 % (40.0 to 60.0), v2 50.0 % (40.0 to 60.0) of 340 requests");
    assert_eq!(verdict.shares[0].count, 170);
    let (low, high) = verdict.shares[0].interval;
    assert!(0.4 <= low && high <= 0.6, "what has passed excludes a deviation of 10 points");
}

#[rstest]
#[case::missing(vec![version("v1", 200, 200)], 30, "v1 served 100.0 % of 30 requests; 50 % was claimed; a chance of this or worse under the claim: at most 5e-7")]
#[case::swapped_off(vec![version("v2", 200, 200)], 30, "v2 served 100.0 % of 30 requests; 50 % was claimed; a chance of this or worse under the claim: at most 5e-7")]
fn a_wrong_split_fails_with_its_chance(#[case] answers: Vec<Vec<Answer>>, #[case] stood: u64, #[case] reason: &str) {
    let (trial, at) = trial(&claim(&[("v1", 0.5), ("v2", 0.5)], &[]), answers.into_iter().flatten());
    let verdict = trial.verdict();
    assert_eq!((at, verdict.ruling), (Some(stood), Ruling::Fail));
    assert_eq!(verdict.reason, reason);
    assert!(verdict.chance.unwrap() < 1e-6);
}

#[test]
fn an_unknown_version_fails_a_split_at_once() {
    let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
    let (trial, stood) = trial(&halves, alternating(10).chain(version("v3", 200, 1)).chain(alternating(4)));
    assert_eq!(stood, Some(11));
    assert_eq!(trial.verdict().reason, "1 of 15 requests was answered by v3, of which none was claimed");
}

#[test]
fn a_version_claimed_at_nothing_is_foreign() {
    let (ruling, reason) = told(&claim(&[("v1", 1.0), ("v2", 0.0)], &[]), vec![version("v2", 200, 1)]);
    assert_eq!(
        (ruling, reason.as_str()),
        (Ruling::Fail, "1 of 1 requests was answered by v2, of which none was claimed")
    );
}

#[test]
fn each_of_three_versions_has_to_hold_its_share() {
    let thirds = claim(&[("v1", 0.5), ("v2", 0.25), ("v3", 0.25)], &[]);
    let cycle = |order: &[&str], times: usize| -> Vec<Answer> {
        order.iter().flat_map(|name| version(name, 200, 1)).cycle().take(order.len() * times).collect()
    };
    let (ruling, _) = told(&thirds, vec![cycle(&["v1", "v2", "v1", "v3"], 400)]);
    assert_eq!(ruling, Ruling::Pass);
    // v1 has its half, v2 and v3 do not have their quarters
    let (ruling, reason) = told(&thirds, vec![cycle(&["v1", "v2", "v1", "v2", "v1", "v2", "v1", "v3"], 400)]);
    assert_eq!(ruling, Ruling::Fail);
    assert!(reason.starts_with("v3 served 12."), "{reason}");
    assert!(reason.contains(" 25 % was claimed"), "{reason}");
}

/// The verdict on answers to a population of several kinds of requests.
fn in_turns(claim: &Claim, variants: usize, answers: impl IntoIterator<Item = Answer>) -> Verdict {
    let mut trial = Trial::new(Design::new(claim).unwrap().of_variants(variants));
    for answer in answers {
        let kind = trial.kind(&answer);
        trial.observe(kind);
    }
    trial.verdict()
}

#[test]
fn each_variant_has_a_separate_bound() {
    let all = claim(&[("v1", 1.0)], &[]);
    let verdict = in_turns(&all, 3, version("v1", 200, 688));
    // 229 clean requests: a leak of 1 % in one of three kinds is missed with 10 %, one of 2.97 % with 10⁻³
    assert!((0.99_f64.powi(229) - 0.1).abs() < 1e-3 && 0.9703_f64.powi(229) < 1.01e-3);
    assert_eq!(
        verdict.reason,
        "all 688 from v1; a leak is below 1.00 % in all, below 2.97 % in each of 3 kinds of requests with 99.9 % confidence"
    );
    let one = in_turns(&all, 1, version("v1", 200, 688));
    assert_eq!(one.reason, "all 688 from v1; a leak is below 1.00 % with 99.9 % confidence");
}

#[test]
fn a_split_reports_the_share_of_each_variant() {
    let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
    // the first kind always gets v1, the second always v2: half and half in all
    let verdict = in_turns(&halves, 2, alternating(600));
    assert_eq!(verdict.ruling, Ruling::Pass);
    assert!(verdict.reason.ends_with("; in each of 2 kinds of requests v2 0.0 to 100.0 %"), "{}", verdict.reason);
    // both kinds get both
    let pairs = [version("v1", 200, 2), version("v2", 200, 2)].concat().into_iter().cycle().take(600);
    let verdict = in_turns(&halves, 2, pairs);
    let (_, each) = verdict.reason.split_once("; in each of 2 kinds of requests v2 ").unwrap();
    insta::assert_snapshot!(each, @"33.6 to 66.4 %");
}

#[test]
fn split_statuses_are_decided_like_split_versions() {
    let fault = claim(&[], &[(200, 0.8), (503, 0.2)]);
    let mix = |good: usize, bad: usize, times: usize| {
        let both = [version("v1", 200, good), no_healthy(bad)].concat();
        vec![both.iter().cloned().cycle().take(both.len() * times).collect::<Vec<_>>()]
    };
    assert_eq!(told(&fault, mix(4, 1, 400)).0, Ruling::Pass);
    let (ruling, reason) = told(&fault, mix(3, 2, 400));
    assert_eq!(ruling, Ruling::Fail);
    assert!(reason.starts_with("status 503 came in "), "{reason}");
}

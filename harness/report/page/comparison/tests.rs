use std::time::Duration;

use fastrand::Rng;
use regex::Regex;
use rstest::rstest;

use super::*;
use crate::events::{Event, Judged, Subject};
use crate::report::model::Stage;
use crate::scenario::{Comparison, ErrorRates, Objective, Origin, ServiceLevel};
use crate::verdict::{Answer, AnswerTimes, ServiceLevelDesign, ServiceLevelTrial};

/// The shares of errors and of slow answers of the canary and of the baseline.
#[derive(Clone, Copy)]
struct Service {
    errors: [f64; 2],
    slow: [f64; 2],
}

const ALIKE: Service = Service { errors: [0.01, 0.01], slow: [0.06, 0.06] };

/// A claim about half of the requests to each version, judged by at most some number of requests, as reports have it.
fn claim(service: Service, errors: Option<&str>, slower_than: &[(&str, &str)], most: u64) -> Claim {
    let comparison = Comparison {
        canary: "v2".to_owned(),
        baseline: "v1".to_owned(),
        errors: errors.map(|factor| factor.parse().unwrap()),
        slower_than: slower_than.iter().map(|(share, own)| (share.parse().unwrap(), own.parse().unwrap())).collect(),
    };
    let level = ServiceLevel {
        from: "everyone".to_owned(),
        path: "/work".to_owned(),
        objective: Objective::Compare(comparison.clone()),
        errors: ErrorRates::default(),
        origin: Origin::new("scenario.yaml", 27, 9),
    };
    let mut trial = ServiceLevelTrial::new(ServiceLevelDesign::of_comparison(&level, &comparison, 0.5).unwrap());
    let mut random = Rng::with_seed(1);
    for n in 0..most {
        let side = usize::from(random.bool());
        let status = if random.f64() < service.errors[side] { 500 } else { 200 };
        let slow = if random.f64() < service.slow[side] { 100.0 } else { 0.0 };
        let sent = Duration::from_millis(n);
        let answered = sent + Duration::from_secs_f64((0.4 + 3.0 * random.f64().powi(3) + slow) / 1e3);
        let answer = Answer::Version { version: ["v2", "v1"][side].to_owned(), status };
        if trial.observe(&answer, AnswerTimes { due: sent, sent, answered }).is_some() {
            break;
        }
    }
    let mut stage = Stage::default();
    stage.take(&Event::Judged(Judged {
        subject: Subject::Population { name: level.from.clone(), path: level.path.clone() },
        claim: level.to_string(),
        verdict: trial.verdict(),
        hints: Vec::new(),
        place: level.origin.clone(),
        errors: Some(level.errors),
        layer: None,
    }));
    // as programs read it
    let claim = serde_json::to_string(&stage.claims[0]).unwrap();
    serde_json::from_str(&claim).unwrap()
}

/// The plots with one element a line, and the number of points instead of the points.
fn outline(page: &str) -> String {
    let points = Regex::new("points=\"([^\"]*)\"").unwrap();
    let counted = |found: &regex::Captures<'_>| format!("points=\"({})\"", found[1].split(' ').count());
    points.replace_all(page, counted).replace("><", ">\n<")
}

/// The heights at which the first plot of a path rejects and accepts, and at which its path ends; a larger one is further down.
fn ends(page: &str) -> [f64; 3] {
    let plot = page.split("aria-label=\"path of the sequential test").nth(1).unwrap();
    let plot = plot.split("</svg>").next().unwrap();
    let level = |class: &str| format!(r#"class="{class}" x1="42" x2="294" y1="([0-9.]+)""#);
    let patterns = [level("fails"), level("accepts"), r#"class="path" points="[^"]*,([0-9.]+)""#.to_owned()];
    patterns.map(|pattern| Regex::new(&pattern).unwrap().captures(plot).unwrap()[1].parse().unwrap())
}

#[rstest]
#[case::slower("slower", Service { slow: [0.12, 0.06], ..ALIKE }, None, &[("95%", "2x")])]
#[case::failing("failing", Service { errors: [0.02, 0.01], ..ALIKE }, Some("2x"), &[])]
fn a_rejected_comparison_has_both_versions_and_a_path_to_the_level_that_rejects(
    #[case] name: &str,
    #[case] service: Service,
    #[case] errors: Option<&str>,
    #[case] slower_than: &[(&str, &str)],
) {
    let page = comparison(&claim(service, errors, slower_than, 100_000)).into_string();
    let [rejects, accepts, end] = ends(&page);
    assert!(end <= rejects && rejects < accepts, "{rejects} {accepts} {end}");
    insta::assert_snapshot!(format!("rejected_{name}"), outline(&page));
}

#[test]
fn an_accepted_comparison_has_a_plot_of_both_for_each_part() {
    let page = comparison(&claim(ALIKE, Some("2x"), &[("95%", "2x")], 100_000)).into_string();
    let [rejects, accepts, end] = ends(&page);
    assert!(end >= accepts && rejects < accepts, "{rejects} {accepts} {end}");
    assert_eq!(page.matches("<svg").count(), 4);
    // a page has some such claims and stays below 700 kB
    assert!(page.len() < 40_000, "{} bytes", page.len());
    insta::assert_snapshot!("accepted", outline(&page));
}

#[test]
fn a_comparison_that_is_undecided_says_so() {
    let never = comparison(&claim(Service { errors: [0.0; 2], ..ALIKE }, Some("2x"), &[], 500)).into_string();
    assert!(never.contains("No errors came from v2 or v1: the test has no path."), "{never}");
    assert_eq!(never.matches("<svg").count(), 1);
    let few = comparison(&claim(ALIKE, None, &[("95%", "2x")], 1500)).into_string();
    let [rejects, accepts, end] = ends(&few);
    assert!(rejects < end && end < accepts && few.contains(" was undecided at "), "{few}");
    let none = comparison(&claim(ALIKE, None, &[("95%", "2x")], 0)).into_string();
    assert!(none.contains("Nothing was answered by v2 or v1.") && !none.contains("NaN"), "{none}");
}

#[test]
fn claims_of_older_reports_have_no_comparison_and_are_read() {
    let mut value = serde_json::to_value(claim(ALIKE, Some("2x"), &[], 3000)).unwrap();
    assert!(value["paths"][0].as_object_mut().unwrap().remove("compared").is_some());
    let old: Claim = serde_json::from_value(value).unwrap();
    assert_eq!((old.paths.len(), comparison(&old).into_string()), (1, String::new()));
}

use std::time::Duration;

use super::*;
use crate::scenario::controller::Action;
use crate::scenario::error_rates::ErrorProbability;
use crate::scenario::model::{Claim, Expectation, Statuses};

/// The canary scenario with a change.
fn canary(from: &str, to: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary/scenario.yaml");
    let text = manifest::text(&path).unwrap();
    assert!(text.contains(from), "the scenario does not hold `{from}`");
    Scenario::parse(&path, &text.replacen(from, to, 1)).unwrap()
}

fn claims(stage: &Stage) -> Vec<&Claim> {
    stage.claims().collect()
}

#[test]
fn a_claim_inherits_the_error_rates_of_the_scenario_and_may_override_them() {
    let scenario = canary("populations:", "error-rates: {false-alarm: 1e-4, deviation: 5%}\npopulations:");
    let errors = claims(&scenario.stages[3])[1].errors;
    let defaults = ErrorRates::default();
    assert_eq!((errors.false_alarm, errors.miss), (ErrorProbability::new(1e-4).unwrap(), defaults.miss));
    assert!((errors.deviation - 0.05).abs() < 1e-12);

    let overridden = "get: {v1: 50%, v2: 50%}, errors: {miss: 1e-2, leak: 0.5%, max-requests: 5000}}";
    let scenario = canary("get: {v1: 50%, v2: 50%}}", overridden);
    let split = claims(&scenario.stages[3]);
    assert_eq!((split[1].errors.miss, split[1].errors.max_requests), (ErrorProbability::new(1e-2).unwrap(), 5000));
    assert!((split[1].errors.leak - 0.005).abs() < 1e-12);
    assert_eq!(split[0].errors, defaults, "another claim is left alone");
}

#[test]
fn a_status_is_one_or_a_split_or_200_on_the_side() {
    let scenario = canary("status: 503", "status: {200: 90%, 503: 10%}");
    let [split, all] = claims(&scenario.stages[4])[..] else { panic!("two claims") };
    let shares = [200, 503, 404].map(|status| split.statuses.share(status).to_string());
    assert_eq!(shares, ["90 %", "10 %", "0 %"]);
    assert!(all.statuses.share(503).is_all() && all.statuses.share(200).is_none());
    let implied = claims(&scenario.stages[0])[0];
    assert_eq!(implied.statuses, Statuses::Implied);
    assert!(implied.statuses.share(200).is_all() && implied.statuses.share(204).is_none());
}

#[test]
fn only_the_status_may_be_claimed() {
    let scenario = canary("path: /error, get: {v1: 100%}, status: 503", "path: /error, status: 503");
    assert!(claims(&scenario.stages[4])[0].versions.is_empty());
}

#[test]
fn traffic_is_driven_as_the_scenario_says() {
    let scenario = canary("populations:", "traffic: {connections: 4, qps: 250.5, keep-alive: false}\npopulations:");
    assert_eq!(scenario.traffic, Traffic { connections: Some(4), qps: Some(250.5), keep_alive: Some(false) });
    assert_eq!(canary("name: canary", "name: other").traffic, Traffic::default());
}

#[test]
fn a_change_is_claimed_by_errors_gap_and_last_answers() {
    let wanted = "- {during: {errors: 2, excludes: 5%, gap: 200ms, last-of: {v1: 1m30s, v2: 5s}}}";
    let scenario = canary("- {served: {hello-server-v2: 0}}", wanted);
    let Some(Expectation::During(during)) = scenario.stages[2].expect.last() else { panic!("a claim of the change") };
    assert_eq!((during.errors, during.gap), (Some(2), Some(Duration::from_millis(200))));
    assert_eq!((during.excludes, during.miss), ("5%".parse().unwrap(), ErrorRates::default().miss));
    let last = [("v1".to_owned(), Duration::from_secs(90)), ("v2".to_owned(), Duration::from_secs(5))];
    assert_eq!(during.last_of, BTreeMap::from(last));
    let shown = "at most 2 errors, at most 200ms without a right answer, no v1 after 1m 30s, no v2 after 5s";
    assert_eq!(during.to_string(), shown);
    let scenario = canary("- {served: {hello-server-v2: 0}}", "- {during: {gap: 1s}}");
    let Some(Expectation::During(during)) = scenario.stages[2].expect.last() else { panic!("a claim of the change") };
    assert_eq!((during.errors, during.excludes), (None, "1%".parse().unwrap()));
}

#[test]
fn every_expectation_and_stage_has_an_origin() {
    let scenario = canary("v2: 0}}\n", "v2: 0}}\n      - {during: {errors: 0}}\n");
    let origins = |stage: usize| -> Vec<(u64, u64)> {
        scenario.stages[stage].expect.iter().map(|claim| (claim.origin().line, claim.origin().column)).collect()
    };
    assert_eq!(origins(2), [(39, 9), (40, 9), (41, 9), (42, 19), (43, 9)]);
    assert_eq!(origins(8), [(83, 9)]);
    let origin = &scenario.stages[2].origin;
    assert!(origin.to_string().ends_with("fixtures/canary/scenario.yaml:36:11"), "{origin}");
}

#[test]
fn the_former_key_of_the_error_rates_is_still_read() {
    let rates = |key: &str| {
        claims(&canary("populations:", &format!("{key}: {{miss: 1e-2}}\npopulations:")).stages[3])[1].errors
    };
    assert_eq!(rates("errors"), rates("error-rates"));
    assert_eq!(rates("errors").miss, ErrorProbability::new(1e-2).unwrap());
}

/// The scenario of Argo Rollouts with a change, or its error.
fn rollouts(from: &str, to: &str) -> Result<Scenario, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/rollouts-subset/scenario.yaml");
    let text = manifest::text(&path).unwrap();
    assert!(text.contains(from), "the scenario does not hold `{from}`");
    Scenario::parse(&path, &text.replacen(from, to, 1)).map_err(|error| {
        let message = error.to_string();
        let (_, message) = message.split_once("scenario.yaml:").unwrap();
        message.lines().next().unwrap_or_default().to_owned()
    })
}

#[test]
fn a_controller_is_told_what_to_do_and_waited_for() {
    let scenario = rollouts("name: abort", "name: rollback").unwrap();
    assert_eq!(scenario.install[0].to_string(), "Argo Rollouts 1.10");
    assert_eq!(scenario.controller.as_ref().unwrap().to_string(), "Rollout/hello");
    let [_, twenty, abort, ..] = &scenario.stages[..] else { panic!("several stages") };
    assert_eq!(twenty.wait.as_ref().unwrap().to_string(), "step 1 in the phase Paused");
    assert!(matches!(abort.steps[..], [Step::Act(Action::Abort)]));
    let claims: Vec<String> = twenty.expect.iter().take(2).map(ToString::to_string).collect();
    assert_eq!(claims, ["weights in the route: canary 20 %, stable 80 %", "weight reported by the controller: 20 %"]);
}

#[test]
fn a_stage_that_changes_a_controlled_object_says_until_when() {
    let message = rollouts("    wait: {phase: Degraded, within: 60s}\n", "").unwrap_err();
    let expected = "31:11: this stage changes Rollout/hello, which a controller rolls out: say until when, such as `wait: {phase: Healthy, within: 60s}`";
    assert_eq!(message, expected);
}

#[test]
fn a_misspelt_rollout_is_told_with_the_one_that_is_meant() {
    let message = rollouts("{rollout: hello}", "{rollout: helo}").unwrap_err();
    assert_eq!(message, "5:23: no stage applies a Rollout `helo`; did you mean `hello`?");
}

#[test]
fn a_step_that_a_rollout_does_not_have_is_refused() {
    let message = rollouts("{step: 1, phase: Paused, within: 60s}", "{step: 5, within: 60s}").unwrap_err();
    assert_eq!(message, "24:11: Rollout/hello never reaches step 5: it has 4 steps, which count from 0");
    // the step after the last one is reached with the promotion
    assert!(rollouts("{step: 1, phase: Paused, within: 60s}", "{step: 4, within: 60s}").is_ok());
}

/// The scenario with a gateway, with a change, or its error.
fn ingress(from: &str, to: &str) -> Result<Scenario, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ingress/scenario.yaml");
    let text = manifest::text(&path).unwrap();
    assert!(text.contains(from), "the scenario does not hold `{from}`");
    Scenario::parse(&path, &text.replacen(from, to, 1)).map_err(|error| {
        let folder = format!("{}/", path.parent().unwrap().display());
        error.to_string().lines().next().unwrap_or_default().replace(&folder, "")
    })
}

#[test]
fn a_population_comes_through_a_gateway() {
    let scenario = ingress("name: ingress", "name: other").unwrap();
    let population = |name: &str| scenario.population(name).unwrap();
    let through = population("visitors").through.as_ref().unwrap();
    assert_eq!((through.to_string().as_str(), through.port), ("gateway/hello", 80));
    assert_eq!(through.selector, [("istio".to_owned(), "ingressgateway".to_owned())].into());
    assert_eq!(population("visitors").variants[0].headers["host"], "hello.example.com");
    assert_eq!((&population("inside").through, scenario.ingress_gateways().len()), (&None, 1));
    // the pod outside has no sidecar, and nothing selects it
    let outside = scenario.client.manifests.last().unwrap();
    assert_eq!((outside.name(), scenario.client.outside.as_deref()), ("httpbin-outside", Some("httpbin-outside")));
    assert_eq!(
        outside.object.metadata.labels,
        Some([("sidecar.istio.io/inject".to_owned(), "false".to_owned())].into())
    );
    assert!(canary("name: canary", "name: other").client.outside.is_none());
}

#[test]
fn the_pod_outside_goes_with_the_client() {
    let scenario = ingress("    apply: [vs-hello-both.yaml]", "    delete: [../canary/httpbin.yaml]\n").unwrap_err();
    assert!(scenario.contains("duplicate"), "{scenario}");
    let scenario = ingress("    delete: [vs-hello.yaml]\n", "    delete: [vs-hello.yaml, pod/httpbin]\n").unwrap();
    let deleted = scenario.stages[3].steps.iter().filter_map(|step| match step {
        Step::Delete(target) => Some(format!("{}/{}", target.kind, target.name)),
        _ => None,
    });
    assert_eq!(deleted.collect::<Vec<_>>(), ["VirtualService/vs-hello", "pod/httpbin", "pod/httpbin-outside"]);
}

#[rstest::rstest]
#[case::no_such_gateway(
    "through: gateway/hello,",
    "through: gateway/helo,",
    "scenario.yaml:11:23: no manifest of a stage is an Istio Gateway `helo`; did you mean `hello`?"
)]
#[case::no_gateway(
    "through: gateway/hello,",
    "through: service/hello,",
    "scenario.yaml:11:23: `service/hello` is not a gateway such as gateway/hello"
)]
#[case::no_host(
    "{through: gateway/hello, host: hello.example.com}",
    "{through: gateway/hello}",
    "scenario.yaml:11:23: requests from outside of the mesh need a `host`, by which the gateway routes them"
)]
#[case::unknown_host(
    "host: hello.example.com}",
    "host: helo.example.com}",
    "scenario.yaml:11:44: no server of gateway/hello at port 80 has the host `helo.example.com`; hosts of its servers: hello.example.com, *.test.example.com; did you mean `hello.example.com`?"
)]
#[case::not_a_host(
    "host: hello.example.com}",
    "host: 'hello world'}",
    "scenario.yaml:11:44: \"hello world\" is not a host such as hello.example.com"
)]
#[case::unknown_port(
    "host: hello.example.com}",
    "host: hello.example.com, port: 443}",
    "scenario.yaml:11:69: no server of gateway/hello has the port 443; ports of its servers: 80"
)]
#[case::port_alone(
    "inside: {}",
    "inside: {port: 80}",
    "scenario.yaml:10:18: `port` is the port of a gateway, and needs `through`"
)]
#[case::set_by_the_gateway(
    "headers: {cookie: theme=dark; cohort=tester}",
    "headers: {X-Forwarded-Proto: https}",
    "scenario.yaml:12:22: a gateway sets the header `X-Forwarded-Proto` itself: callers outside cannot"
)]
fn a_gateway_that_cannot_be_used_is_told_with_its_place(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    assert_eq!(ingress(from, to).unwrap_err(), expected);
}

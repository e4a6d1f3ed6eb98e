use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::scenario::Outside;
use crate::scenario::controller::Action;
use crate::scenario::error_rates::ErrorProbability;
use crate::scenario::expectation::{Claim, Expectation, Statuses};

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
    assert_eq!(implied.statuses, Statuses::Implied(200));
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
    assert_eq!(
        scenario.traffic,
        Traffic {
            connections: Some(4),
            streams: None,
            qps: Some(250.5),
            keep_alive: Some(false),
            outside: Outside::Pod
        }
    );
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
fn requests_from_outside_that_this_machine_sends_need_no_pod() {
    let scenario = ingress("populations:", "traffic: {outside: host}\npopulations:").unwrap();
    assert_eq!((scenario.traffic.outside, scenario.client.outside), (Outside::Host, None));
    let error =
        |text: &str| ingress("populations:", &format!("traffic: {{outside: {text}}}\npopulations:")).unwrap_err();
    assert_eq!(error("laptop"), "scenario.yaml:9:20: unknown variant `laptop`, expected one of pod, host");
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
    "scenario.yaml:11:23: no manifest of a stage is a Gateway `helo`; did you mean `hello`?"
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
#[case::options(
    "inside: {}",
    "inside: {method: OPTIONS}",
    "scenario.yaml:10:20: `OPTIONS` is not one of the methods GET, HEAD, POST, PUT, PATCH, DELETE"
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

/// The canary with something done in the stage `fault`, after v1 and v2 were released: the Deployment that the stage applies last, or the error.
fn done(what: &str) -> Result<Manifest, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary/scenario.yaml");
    let text = manifest::text(&path).unwrap();
    let scenario =
        Scenario::parse(&path, &text.replacen("- name: fault\n", &format!("- name: fault\n    do: {what}\n"), 1));
    let message = match scenario {
        Ok(scenario) => {
            let fault = scenario.stages.iter().find(|stage| stage.name == "fault").unwrap();
            return Ok(fault.applied().filter(|own| own.kind() == "Deployment").last().unwrap().clone());
        }
        Err(error) => error.to_string(),
    };
    let (_, message) = message.split_once("scenario.yaml:").unwrap();
    Err(message.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn a_deployment_is_scaled_and_restarted_as_earlier_stages_leave_it() {
    let scaled = done("{scale: {deployment/hello-server-v2: 5}}").unwrap();
    assert_eq!((scaled.name(), scaled.at("/spec/replicas")), ("hello-server-v2", Some(&serde_json::json!(5))));
    let restarted = done("[{restart: deploy/hello-server-v1}]").unwrap();
    let annotations = restarted.at("/spec/template/metadata/annotations").unwrap();
    assert_eq!((restarted.name(), &annotations["shiftcheck.dev/restarted-in-stage"]), ("hello-server-v1", &"5".into()));
}

#[rstest]
#[case::misspelt(
    "{restart: deployment/hello-server-v11}",
    "52:19: no Deployment `hello-server-v11` is left by the earlier stages; did you mean `hello-server-v1`?"
)]
#[case::of_another_kind(
    "{restart: service/svc-hello}",
    "52:19: `service/svc-hello` is not a Deployment, such as deployment/hello"
)]
#[case::without_a_name(
    "{restart: hello-server-v1}",
    "52:19: `hello-server-v1` is not a Deployment, such as deployment/hello"
)]
#[case::nothing("{scale: {}}", "52:9: `scale` names no Deployment; write one such as {deployment/hello: 3}")]
#[case::negative(
    "{scale: {deployment/hello-server-v2: -1}}",
    "52:46: a Deployment cannot have -1 pods; 0 removes all of them"
)]
#[case::a_part("{scale: {deployment/hello-server-v2: 1.5}}", "52:46: `1.5` is not a number of pods, such as 3")]
#[case::too_many(
    "{scale: {deployment/hello-server-v2: 3000000000}}",
    "52:46: a Deployment cannot have 3000000000 pods, but at most 2147483647"
)]
#[case::a_word("{scale: {deployment/hello-server-v2: many}}", "52:46: `many` is not a number of pods, such as 3")]
#[case::no_mapping(
    "{scale: deployment/hello-server-v2}",
    "52:10: `scale`: expected the number of pods by Deployment, such as {deployment/hello: 3}; found a single value"
)]
#[case::twice(
    "[{restart: deployment/hello-server-v1}, {scale: {deployment/hello-server-v1: 2}}]",
    "52:58: this stage changes Deployment/hello-server-v1 twice; use a stage for each change"
)]
#[case::misspelt_key(
    "{sacle: {deployment/hello-server-v2: 2}}",
    "52:10: unknown field `sacle`, expected one of open, close, restart, scale; did you mean `scale`?"
)]
fn what_cannot_be_done_with_a_deployment_is_refused(#[case] what: &str, #[case] expected: &str) {
    assert_eq!(done(what).unwrap_err(), expected);
}

#[test]
fn a_deployment_that_was_deleted_is_not_restarted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary/scenario.yaml");
    let deleted = "  - name: gone\n    delete: [deployment/hello-server-v2]\n  - name: fault\n    do: {restart: deployment/hello-server-v2}\n";
    let text = manifest::text(&path).unwrap().replacen("  - name: fault\n", deleted, 1);
    let message = Scenario::parse(&path, &text).unwrap_err().to_string();
    let expected = "no Deployment `hello-server-v2` is left by the earlier stages; did you mean `hello-server-v1`?";
    assert!(message.contains(expected), "{message}");
}

const WAIT: &str = "wait: {step: 1, phase: Paused, within: 60s}";
const SPLIT: &str = "get: {v1: 80%, v2: 20%}";

#[rstest]
#[case::nothing_is_followed(
    SPLIT,
    "get: as-declared",
    "28:9: `as-declared` is about what a controller does by itself: add `follow: {until: Healthy, within: 5m}` to this stage"
)]
#[case::lag_of_shares(SPLIT, "get: {v1: 80%, v2: 20%}, lag: 1s", "28:56: `lag` belongs to `get: as-declared`")]
#[case::misspelt(
    SPLIT,
    "get: as-decleared",
    "28:31: `get`: expected the share of each version, such as {v1: 50%, v2: 50%}, or `as-declared`; found `as-decleared`"
)]
#[case::no_weight(
    WAIT,
    "follow: {until: Healthy, within: 2m, weights: 20%}",
    "24:42: `weights`: expected the weights of the route on the way, such as [10%, 50%, 100%]; found a single value"
)]
#[case::wait_and_follow(
    WAIT,
    "wait: {phase: Healthy, within: 60s}\n    follow: {until: Healthy, within: 60s}",
    "25:13: `follow` waits for its state by itself; remove `wait`"
)]
#[case::first_stage(
    "wait: {phase: Healthy, within: 60s}",
    "follow: {until: Healthy, within: 60s}",
    "17:13: there is nothing to follow: the client pod, which sends the requests, starts in the first stage"
)]
#[case::other_phase(
    WAIT,
    "follow: {until: Succeeded, within: 60s}",
    "24:13: Argo Rollouts has no phase Succeeded, but Healthy, Progressing, Paused, Degraded"
)]
fn what_cannot_be_followed_is_refused(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    assert_eq!(rollouts(from, to).unwrap_err(), expected);
}

#[test]
fn a_rollout_that_pauses_until_it_is_promoted_is_not_followed_to_its_end() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/rollouts-subset/scenario.yaml");
    let text = manifest::text(&path).unwrap().replacen(WAIT, "follow: {until: Healthy, within: 2m}", 1);
    let message = Scenario::parse(&path, &text).unwrap_err().to_string().replace(&path.display().to_string(), "FILE");
    let (_, message) = message.lines().next().unwrap().split_once("rollouts-subset/").unwrap();
    let expected = "rollout-v2.yaml:27:11: Rollout/hello pauses here until it is promoted, so that it is not Healthy by itself, as FILE:24:13 says; give the pause a `duration`";
    assert_eq!(message, expected);
}

/// The scenario with timed steps, with a change.
fn timed(from: &str, to: &str) -> Result<Scenario, ScenarioError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/rollouts-timed/scenario.yaml");
    let text = manifest::text(&path).unwrap();
    assert!(text.contains(from), "the scenario does not hold `{from}`");
    Scenario::parse(&path, &text.replacen(from, to, 1))
}

#[test]
fn a_stage_follows_a_controller_to_a_phase() {
    let scenario = timed("name: rollouts-timed", "name: other").unwrap();
    let stage = &scenario.stages[1];
    let wait = stage.wait.as_ref().unwrap();
    let weights: Vec<String> = wait.follows.iter().flatten().map(ToString::to_string).collect();
    assert_eq!((wait.to_string().as_str(), weights.join(", ").as_str()), ("the phase Healthy", "10 %, 50 %, 100 %"));
    let claims: Vec<String> = stage.expect.iter().map(ToString::to_string).collect();
    assert_eq!(claims[0], "everyone: as the route declares, from 2s after each change");
    assert_eq!(stage.declared().count(), 1);
}

#[rstest]
#[case::misspelt(
    "experiments: 10%",
    "unknown field `experiments`, expected one of experiment; did you mean `experiment`?"
)]
#[case::no_share("experiment: 10", "`10` is not a percentage such as 50%")]
fn a_weight_of_an_experiment_is_a_share(#[case] written: &str, #[case] expected: &str) {
    let error = timed("[10%, 50%, 100%]", &format!("[{{{written}}}, 10%]")).unwrap_err().to_string();
    let line = error.lines().next().unwrap();
    let (_, at) = line.split_once("scenario.yaml:").unwrap();
    assert!(at.starts_with("22:") && at.ends_with(expected), "{line}");
}

#[test]
fn a_canary_has_no_experiments() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/flagger-canary/scenario.yaml");
    let text = manifest::text(&path).unwrap();
    let wait = text.lines().find(|line| line.contains("wait: {") && line.contains("Succeeded")).unwrap();
    let follow = "    follow: {until: Succeeded, within: 2m, weights: [{experiment: 10%}]}";
    let error = Scenario::parse(&path, &text.replacen(wait, follow, 1)).unwrap_err().to_string();
    let line = error.lines().next().unwrap();
    assert!(line.ends_with("Flagger has no experiments; `experiment` is a weight of Argo Rollouts"), "{line}");
}

#[rstest]
#[case::status(
    "get: as-declared, lag: 2s",
    "get: as-declared, status: 200",
    "24:52: `get: as-declared` is about the versions that answer requests for `/`; it takes `lag` and `error-rates` only"
)]
#[case::twice(
    "      - {during: {errors: 0}}",
    "      - {from: everyone, get: as-declared}",
    "26:9: what `everyone` gets on the way is already claimed in this stage, in line 24"
)]
fn a_claim_about_what_is_declared_has_few_keys(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    let error = timed(from, to).unwrap_err().to_string();
    assert_eq!(error.lines().next().unwrap().split_once("scenario.yaml:").unwrap().1, expected);
}

#[test]
fn claims_about_errors_and_latency_are_read() {
    let written = "- {from: everyone, path: /work, compare: {v2: v1}, errors: 2x, slower-than: {99%: 3x, 95%: 1.5x}}\n      - {from: testers, errors-at-most: 1%, latency: {99.9%: 1s, 90%: 50ms}, excess: 2%, error-rates: {miss: 1e-2}}\n      - {during: {latency: {99%: 200ms}}}";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary/scenario.yaml");
    let text = manifest::text(&path).unwrap().replacen("- {served: {hello-server-v2: 0}}", written, 1);
    let scenario =
        Scenario::parse(&path, &text.replacen("populations:", "traffic: {qps: 500}\npopulations:", 1)).unwrap();
    let stage = scenario.stages.iter().find(|stage| stage.service_levels().next().is_some()).unwrap();
    let said: Vec<String> = stage.expect.iter().map(ToString::to_string).rev().take(3).collect();
    assert_eq!(
        said,
        [
            "during the change: 99 % answered within 200ms",
            "testers: errors at most 1 %, 90 % within 50ms, 99.9 % within 1s",
            "everyone /work: v2 against v1: errors below 2x, answers slower than 95 % of v1's below 1.5x, answers slower than 99 % of v1's below 3x",
        ]
    );
    let [compare, limit] = &stage.service_levels().collect::<Vec<_>>()[..] else { panic!("two claims") };
    assert_eq!((compare.errors, limit.errors.miss), (ErrorRates::default(), ErrorProbability::new(1e-2).unwrap()));
    assert!(stage.asked().any(|asked| asked == ("everyone", "/work")));
}

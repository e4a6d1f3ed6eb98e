//! Bad input and a missing environment get one clear message each, before any cluster is started.

use rstest::{Context, rstest};

use crate::common::server::{Engine, cache_with_images};
use crate::common::{ROOT, example, own_images, said, shiftcheck, spoilt};

/// The message for a spoilt canary scenario, without the folder's name.
fn message(spoil: &[(&str, &str, &str)]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    spoilt(folder.path(), spoil);
    let scenario = folder.path().join("scenario.yaml");
    let (printed, errors, code) = said(&shiftcheck(&["run", scenario.to_str().unwrap()]).output().unwrap());
    assert_eq!(printed, "", "nothing was begun");
    (errors.replace(folder.path().to_str().unwrap(), "FOLDER"), code)
}

#[rstest]
#[case::unknown_key("scenario.yaml", "service: http", "sevice: http")]
#[case::wrong_type("scenario.yaml", "status: 503", "status: bad")]
#[case::impossible_status("scenario.yaml", "status: 503", "status: 700")]
#[case::unknown_population("scenario.yaml", "from: testers, get", "from: tester, get")]
#[case::missing_file("scenario.yaml", "vs-hello-testers.yaml", "vs-hello-tester.yaml")]
#[case::shares_that_do_not_sum("scenario.yaml", "v1: 50%, v2: 50%", "v1: 50%, v2: 40%")]
#[case::a_share_above_all("scenario.yaml", "v1: 50%, v2: 50%", "v1: 150%, v2: -50%")]
#[case::a_split_of_statuses_that_does_not_sum("scenario.yaml", "status: 503", "status: {503: 50%, 200: 40%}")]
#[case::a_false_alarm_of_one_half("scenario.yaml", "populations:", "errors: {false-alarm: 0.5}\npopulations:")]
#[case::a_miss_of_nothing("scenario.yaml", "v2: 50%}}", "v2: 50%}, errors: {miss: 0}}")]
#[case::a_miss_too_small("scenario.yaml", "populations:", "errors: {miss: 1e-300}\npopulations:")]
#[case::a_deviation_too_small("scenario.yaml", "populations:", "errors: {deviation: 1e-9%}\npopulations:")]
#[case::too_many_requests(
    "scenario.yaml",
    "populations:",
    "errors: {max-requests: 18446744073709551615}\npopulations:"
)]
#[case::a_deviation_above_all("scenario.yaml", "v1: 50%, v2: 50%", "v1: 95%, v2: 5%")]
#[case::a_deviation_below_nothing("scenario.yaml", "v1: 50%, v2: 50%", "v1: 90%, v2: 5%, v3: 5%")]
#[case::a_deviation_of_nothing("scenario.yaml", "populations:", "errors: {deviation: 0%}\npopulations:")]
#[case::a_deviation_too_fine("scenario.yaml", "v2: 50%}}", "v2: 50%}, errors: {deviation: 0.1%}}")]
#[case::both_keys_of_error_rates(
    "scenario.yaml",
    "populations:",
    "error-rates: {miss: 1e-2}\nerrors: {leak: 2%}\npopulations:"
)]
#[case::both_keys_of_error_rates_in_a_claim(
    "scenario.yaml",
    "v2: 50%}}",
    "v2: 50%}, errors: {miss: 1e-2}, error-rates: {leak: 2%}}"
)]
#[case::a_leak_too_small("scenario.yaml", "populations:", "errors: {leak: 0.001%}\npopulations:")]
#[case::no_requests_at_all("scenario.yaml", "populations:", "errors: {max-requests: 0}\npopulations:")]
#[case::an_unknown_error_rate("scenario.yaml", "populations:", "errors: {alpha: 0.1}\npopulations:")]
#[case::a_rate_of_nothing("scenario.yaml", "populations:", "traffic: {qps: 0}\npopulations:")]
#[case::too_many_connections("scenario.yaml", "populations:", "traffic: {connections: 1000}\npopulations:")]
#[case::halves_that_replicas_alone_give(
    "scenario.yaml",
    "      - {from: everyone, path: /error, get: {v1: 100%}, status: 503}\n",
    ""
)]
#[case::no_percentage("scenario.yaml", "v1: 50%, v2: 50%", "v1: 0.5, v2: 0.5")]
#[case::expression_without_group("scenario.yaml", "(?<version>[^ ]+)", "(.+)")]
#[case::broken_expression("scenario.yaml", "(?<version>[^ ]+)", "(?<version>[^ ]+")]
#[case::service_address("scenario.yaml", "http://svc-hello:8080", "svc-hello:8080")]
#[case::an_unknown_scheme("scenario.yaml", "http://svc-hello:8080", "https://svc-hello:8080")]
#[case::a_misspelt_scheme("scenario.yaml", "http://svc-hello:8080", "gprc://svc-hello:8080")]
#[case::a_status_of_grpc_for_http("scenario.yaml", "status: 503", "status: UNAVAILABLE")]
#[case::a_misspelt_status_of_grpc("scenario.yaml", "status: 503", "status: {OK: 90%, UNAVAILBLE: 10%}")]
#[case::too_many_streams("scenario.yaml", "populations:", "traffic: {streams: 1000}\npopulations:")]
#[case::namespace("scenario.yaml", "namespace: canary", "namespace: Canary")]
#[case::client_pod("scenario.yaml", "pod: httpbin", "pod: httpbim")]
#[case::delete_target("scenario.yaml", "deployment/hello-server-v2", "hello-server-v2")]
#[case::expectation("scenario.yaml", "{from: everyone, get: {v1: 100%}}", "{from: everyone}")]
#[case::a_claim_with_during(
    "scenario.yaml",
    "{from: everyone, get: {v1: 100%}}",
    "{from: everyone, get: {v1: 100%}, during: {errors: 0}}"
)]
#[case::served_with_status(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{served: {hello-server-v2: 0}, status: 503}"
)]
#[case::objects_with_get("scenario.yaml", "{objects: none}", "{objects: none, get: {v1: 100%}}")]
#[case::during_with_errors_outside("scenario.yaml", "{objects: none}", "{during: {gap: 1s}, errors: 0}")]
#[case::a_claim_without_population("scenario.yaml", "{objects: none}", "{status: 503}")]
#[case::an_unknown_key_of_an_expectation("scenario.yaml", "{objects: none}", "{object: none}")]
#[case::during_in_the_first_stage(
    "scenario.yaml",
    "      - {from: near-miss, get: {v1: 100%}}\n",
    "      - {during: {errors: 0}}\n"
)]
#[case::during_where_nothing_is_applied(
    "scenario.yaml",
    "v2: 50%}, status: 503}\n",
    "v2: 50%}, status: 503}\n      - {during: {errors: 0}}\n"
)]
#[case::during_without_a_population("scenario.yaml", "      - {objects: none}", "      - {during: {errors: 0}}")]
#[case::during_twice(
    "scenario.yaml",
    "      - {served: {hello-server-v2: 0}}\n",
    "      - {during: {errors: 0}}\n      - {during: {gap: 1s}}\n"
)]
#[case::during_that_claims_nothing("scenario.yaml", "{served: {hello-server-v2: 0}}", "{during: {excludes: 1%}}")]
#[case::a_gap_without_unit("scenario.yaml", "{served: {hello-server-v2: 0}}", "{during: {gap: 200}}")]
#[case::a_gap_of_nothing("scenario.yaml", "{served: {hello-server-v2: 0}}", "{during: {gap: 0s}}")]
#[case::excludes_of_nothing("scenario.yaml", "{served: {hello-server-v2: 0}}", "{during: {errors: 0, excludes: 0%}}")]
#[case::last_of_an_unknown_version("scenario.yaml", "{served: {hello-server-v2: 0}}", "{during: {last-of: {v22: 5s}}}")]
#[case::a_comparison_of_one_version(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v2}, errors: 2x}"
)]
#[case::a_comparison_with_a_version_that_gets_nothing(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}, errors: 2x}"
)]
#[case::a_comparison_with_an_unknown_version(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v3: v1}, errors: 2x}"
)]
#[case::a_comparison_of_three_versions(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1, v3: v1}, errors: 2x}"
)]
#[case::a_factor_of_one(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}, errors: 1x}"
)]
#[case::a_factor_without_x(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}, slower-than: {95%: '2'}}"
)]
#[case::a_comparison_that_claims_nothing(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}}"
)]
#[case::a_comparison_with_error_rates_as_errors(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}, errors: {miss: 1e-2}}"
)]
#[case::a_comparison_below_the_median(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}, slower-than: {30%: 2x}}"
)]
#[case::a_comparison_of_shares(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}, errors: 2x, get: {v1: 100%}}"
)]
#[case::slower_than_without_versions(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, slower-than: {95%: 2x}}"
)]
#[case::slower_than_with_two_times(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, slower-than: {100ms: 50%, 1s: 10%}}"
)]
#[case::slower_than_no_time(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, slower-than: {95%: 20%}}"
)]
#[case::slower_than_with_versions(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, slower-than: {100ms: 50%}, get: {v1: 100%}}"
)]
#[case::a_comparison_with_a_share(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, compare: {v2: v1}, slower-than: {95%: 20%}}"
)]
#[case::a_comparison_that_takes_too_long(
    "scenario.yaml",
    "v2: 50%}}",
    "v2: 50%}}\n      - {from: testers, compare: {v2: v1}, slower-than: {99.9%: 2x}}"
)]
#[case::latency_without_a_rate(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, latency: {99%: 50ms}}"
)]
#[case::an_excess_of_nothing(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, errors-at-most: 1%, excess: 0%}"
)]
#[case::an_excess_above_all("scenario.yaml", "{served: {hello-server-v2: 0}}", "{from: testers, errors-at-most: 60%}")]
#[case::an_excess_alone("scenario.yaml", "{served: {hello-server-v2: 0}}", "{from: testers, excess: 1%}")]
#[case::errors_at_most_with_shares(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{from: testers, errors-at-most: 1%, get: {v1: 100%}}"
)]
#[case::path("scenario.yaml", "path: /error", "path: error")]
#[case::a_stage_name_twice("scenario.yaml", "- name: version label", "- name: first release")]
#[case::a_claim_twice(
    "scenario.yaml",
    "{from: testers, get: {v1: 100%}}",
    "{from: everyone, path: /, get: {v1: 100%}}"
)]
#[case::served_twice(
    "scenario.yaml",
    "{served: {hello-server-v2: 0}}",
    "{served: {hello-server-v2: 0}}\n      - {served: {hello-server-v2: some}}"
)]
#[case::served_by_nothing("scenario.yaml", "hello-server-v2: 0", "hello-server-v22: 0")]
#[case::served_where_nothing_is_sent(
    "scenario.yaml",
    "      - {from: everyone, get: {v1: 100%}}\n      - {from: testers, get: {v1: 100%}}\n      - {from: near-miss, get: {v1: 100%}}\n      - {served: {hello-server-v2: 0}}",
    "      - {served: {hello-server-v2: 0}}"
)]
#[case::served_by_what_is_deleted(
    "scenario.yaml",
    "    delete: [deployment/hello-server-v1]\n    expect:\n      - {from: everyone, get: {v2: 100%}}\n      - {from: testers, get: {v2: 100%}}\n      - {from: near-miss",
    "    delete: [deployment/hello-server-v1]\n    expect:\n      - {served: {hello-server-v1: 0}}\n      - {from: near-miss"
)]
#[case::served_by_a_stateful_set("hello-server-v2.yaml", "kind: Deployment", "kind: StatefulSet")]
#[case::served_by_a_later_workload(
    "scenario.yaml",
    "{from: near-miss, get: {v1: 100%}}",
    "{served: {hello-server-v2: 0}}"
)]
#[case::a_path_with_a_space("scenario.yaml", "path: /error", "path: '/a b'")]
#[case::a_path_with_a_control_character("scenario.yaml", "path: /error", "path: \"/a\\tb\"")]
#[case::a_path_with_a_fragment("scenario.yaml", "path: /error", "path: '/a#b'")]
#[case::a_header_name("scenario.yaml", "headers: {end-user: testers}", "headers: {end user: testers}")]
#[case::a_header_value("scenario.yaml", "headers: {end-user: testers}", "headers: {end-user: \"a\\nb\"}")]
#[case::a_header_value_of_a_variant("scenario.yaml", "end-user: Testers", "end-user: \"\\u0001\"")]
#[case::a_pod_header("scenario.yaml", "header: x-pod", "header: 'x pod'")]
#[case::a_version_header("scenario.yaml", "{body: 'Hello server - (?<version>[^ ]+)'}", "{header: 'x:version'}")]
#[case::a_path_of_counts("scenario.yaml", "path: /served,", "path: served,")]
#[case::version_as_a_text("scenario.yaml", "version: {body: 'Hello server - (?<version>[^ ]+)'}", "version: 'text'")]
#[case::version_without_a_form("scenario.yaml", "version: {body: 'Hello server - (?<version>[^ ]+)'}", "version: {}")]
#[case::version_as_a_list("scenario.yaml", "{body: 'Hello server - (?<version>[^ ]+)'}", "[v1, v2]")]
#[case::pod_as_a_text("scenario.yaml", "{header: x-pod}", "x-pod")]
#[case::counts_as_a_text("scenario.yaml", "served: {path: /served, port: 8080}", "served: /served")]
#[case::client_as_a_text(
    "scenario.yaml",
    "client: {manifest: httpbin.yaml, pod: httpbin, container: httpbin}",
    "client: httpbin.yaml"
)]
#[case::service_as_a_mapping("scenario.yaml", "service: http://svc-hello:8080", "service: {host: svc-hello}")]
#[case::population_as_a_text("scenario.yaml", "everyone: {}", "everyone: all")]
#[case::headers_as_a_list("scenario.yaml", "headers: {end-user: testers}", "headers: [end-user]")]
#[case::any_of_as_a_mapping(
    "scenario.yaml",
    "      - headers: {end-user: Testers}\n      - headers: {end-user: testers2}\n      - headers: {x-end-user: testers}\n",
    "      headers: {end-user: Testers}\n"
)]
#[case::a_stage_as_a_text("scenario.yaml", "- name: fault\n    expect:", "- fault\n  - name: fault\n    expect:")]
#[case::apply_as_a_text("scenario.yaml", "apply: [hello-server-v2.yaml]", "apply: hello-server-v2.yaml")]
#[case::delete_as_a_mapping(
    "scenario.yaml",
    "delete: [deployment/hello-server-v1]",
    "delete: {deployment: hello-server-v1}"
)]
#[case::expect_as_a_mapping("scenario.yaml", "      - {objects: none}", "      objects: none")]
#[case::expectation_as_a_text("scenario.yaml", "{objects: none}", "nothing is left")]
#[case::get_as_a_text("scenario.yaml", "get: {v1: 50%, v2: 50%}", "get: v1")]
#[case::status_as_a_list("scenario.yaml", "status: 503", "status: [503]")]
#[case::error_rates_as_a_number("scenario.yaml", "v2: 50%}}", "v2: 50%}, errors: 0}")]
#[case::served_as_a_text("scenario.yaml", "{served: {hello-server-v2: 0}}", "{served: hello-server-v2}")]
#[case::during_as_a_number("scenario.yaml", "{served: {hello-server-v2: 0}}", "{during: 0}")]
#[case::last_of_as_a_text("scenario.yaml", "{served: {hello-server-v2: 0}}", "{during: {last-of: 5s}}")]
#[case::traffic_as_a_number("scenario.yaml", "populations:", "traffic: 500\npopulations:")]
#[case::a_version_without_quotes("scenario.yaml", "populations:", "install: {argo-rollouts: 1.10}\npopulations:")]
#[case::a_version_in_words("scenario.yaml", "populations:", "install: {argo-rollouts: latest}\npopulations:")]
#[case::an_unknown_controller("scenario.yaml", "populations:", "install: {argo-rollout: '1.10'}\npopulations:")]
#[case::install_as_a_text("scenario.yaml", "populations:", "install: argo-rollouts\npopulations:")]
#[case::a_rollout_that_no_stage_applies("scenario.yaml", "populations:", "controller: {rollout: hello}\npopulations:")]
#[case::wait_without_a_controller(
    "scenario.yaml",
    "- name: fault\n",
    "- name: fault\n    wait: {phase: Paused, within: 60s}\n"
)]
#[case::do_without_a_controller("scenario.yaml", "- name: fault\n", "- name: fault\n    do: abort\n")]
#[case::weights_without_a_controller("scenario.yaml", "{objects: none}", "{weights: {canary: 20%, stable: 80%}}")]
#[case::weights_that_do_not_sum("scenario.yaml", "{objects: none}", "{weights: {canary: 20%, stable: 70%}}")]
#[case::weights_as_a_text("scenario.yaml", "{objects: none}", "{weights: 20%}")]
#[case::reports_with_get("scenario.yaml", "{objects: none}", "{reports: {weight: 20%}, get: {v1: 100%}}")]
#[case::an_unknown_phase("scenario.yaml", "- name: fault\n", "- name: fault\n    wait: {phase: Pausd, within: 60s}\n")]
#[case::an_unknown_action("scenario.yaml", "- name: fault\n", "- name: fault\n    do: abrt\n")]
#[case::a_wait_for_nothing("scenario.yaml", "- name: fault\n", "- name: fault\n    wait: {within: 60s}\n")]
#[case::a_wait_without_end("scenario.yaml", "- name: fault\n", "- name: fault\n    wait: {phase: Paused}\n")]
#[case::pods_as_a_number("scenario.yaml", "- name: fault\n", "- name: fault\n    wait: {pods: 3, within: 60s}\n")]
#[case::pods_in_words(
    "scenario.yaml",
    "- name: fault\n",
    "- name: fault\n    wait: {pods: {deployment/hello-server-v2: many}, within: 60s}\n"
)]
#[case::manifest_syntax("svc-hello.yaml", "spec:", "spec: [")]
#[case::manifest_without_kind("svc-hello.yaml", "kind: Service\n", "")]
fn a_spoilt_scenario_is_told_with_its_place(
    #[context] context: Context,
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
) {
    let (errors, code) = message(&[(file, from, to)]);
    assert_eq!(code, Some(2), "{errors}");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

#[rstest]
#[case::a_path_that_is_no_method("path: /helloworld.Greeter/SayBye", "path: /error")]
#[case::an_address_without_a_service_of_grpc("/helloworld.Greeter/SayHello", "/SayHello")]
#[case::a_status_of_http_for_grpc("status: OK}", "status: 200}")]
#[case::a_method_of_http_for_grpc("everyone: {}", "everyone: {method: PUT}")]
#[case::a_version_in_json_for_grpc("{header: x-version}", "{json: /version}")]
fn a_spoilt_scenario_of_grpc_is_told_with_its_place(#[context] context: Context, #[case] from: &str, #[case] to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "grpc", "scenario.yaml", from, to);
    let (_, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

#[rstest]
#[case::a_version_in_a_body_for_tcp("{line: ", "{body: ")]
#[case::a_header_for_tcp("everyone: {}", "everyone: {headers: {end-user: testers}}")]
#[case::sessions_for_tcp("everyone: {}", "everyone: {sessions: {header: x-user, count: 10}}")]
#[case::a_path_for_tcp(
    "{from: everyone, get: {v1: 80%, v2: 20%}}",
    "{from: everyone, path: /a, get: {v1: 80%, v2: 20%}}"
)]
#[case::a_status_for_tcp("{from: everyone, get: {v1: 80%, v2: 20%}}", "{from: everyone, status: OK}")]
#[case::a_line_for_http("tcp://svc-hello", "http://svc-hello")]
#[case::streams_for_tcp("populations:", "traffic: {streams: 8}\npopulations:")]
#[case::kept_connections_for_tcp("populations:", "traffic: {keep-alive: true}\npopulations:")]
#[case::a_path_in_the_address_of_tcp("tcp://svc-hello:8080", "tcp://svc-hello:8080/a")]
fn a_spoilt_scenario_of_tcp_is_told_with_its_place(#[context] context: Context, #[case] from: &str, #[case] to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "tcp", "scenario.yaml", from, to);
    let (_, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

#[rstest]
#[case::a_version_in_a_line_for_websocket("{header: x-version}", "{line: '(?<version>.*)'}")]
#[case::a_version_in_a_field_for_websocket("{header: x-version}", "{field: build.version}")]
#[case::sessions_for_websocket("everyone: {}", "everyone: {sessions: {header: x-user, count: 10}}")]
#[case::a_method_for_websocket("everyone: {}", "everyone: {method: POST}")]
#[case::a_gateway_for_websocket("everyone: {}", "everyone: {through: istio-ingressgateway, host: hello.example}")]
#[case::a_chain_for_websocket(
    "{from: everyone, get: {v1: 80%, v2: 20%}}",
    "{from: everyone, path-of-versions: {v1 > v2: 100%}}"
)]
#[case::a_fragment_in_the_address_of_websocket("8080/chat", "8080/chat#here")]
#[case::websocket_over_tls("ws://", "wss://")]
fn a_spoilt_scenario_of_websocket_is_told_with_its_place(
    #[context] context: Context,
    #[case] from: &str,
    #[case] to: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "websocket", "scenario.yaml", from, to);
    let (_, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

const CALL: &str = "/helloworld.Greeter/SayHello: {name: world}";

#[rstest]
#[case::a_method_of_grpc_that_does_not_exist("path: /grpc.health.v1.Health/Check", "path: /grpc.health.v1.Health/Chek")]
#[case::a_service_of_grpc_that_does_not_exist("path: /grpc.health.v1.Health/", "path: /grpc.health.v1.Helth/")]
#[case::a_streaming_method("path: /grpc.health.v1.Health/Check", "path: /grpc.health.v1.Health/Watch")]
#[case::a_default_method_that_does_not_exist("8080/helloworld.Greeter/SayHello", "8080/helloworld.Greeter/SayHallo")]
#[case::a_method_whose_message_is_sent_to_nothing(CALL, "/helloworld.Greeter/SayHullo: {name: world}")]
#[case::a_message_for_no_method(CALL, "SayHello: {name: world}")]
#[case::a_field_that_does_not_exist("{field: build.version}", "{field: build.verison}")]
#[case::a_field_that_is_like_no_other("{field: build.version}", "{field: release}")]
#[case::a_field_that_is_a_message("{field: build.version}", "{field: build}")]
#[case::a_field_inside_of_a_text("{field: build.version}", "{field: message.version}")]
#[case::a_field_of_a_request_that_does_not_exist(CALL, "/helloworld.Greeter/SayHello: {nam: world}")]
#[case::a_field_of_a_request_of_another_type(CALL, "/helloworld.Greeter/SayHello: {name: 3}")]
#[case::a_message_that_is_a_text(CALL, "/helloworld.Greeter/SayHello: world")]
#[case::a_file_that_is_no_descriptor_set("descriptors: hello.binpb", "descriptors: hello.proto")]
#[case::a_descriptor_set_that_is_not_there("descriptors: hello.binpb", "descriptors: helo.binpb")]
#[case::messages_of_a_service_of_http("grpc://svc-hello:8080/helloworld.Greeter/SayHello", "http://svc-hello:8080")]
#[case::a_version_of_a_method_that_states_none("Health/Check, status: OK", "Health/Check, get: {v1: 100%}")]
#[case::a_version_of_an_answer_without_a_message("v1: 100%}, status: OK", "v1: 100%}, status: UNAVAILABLE")]
#[case::a_version_at_two_places("{field: build.version}", "{field: build.version, header: x-version}")]
fn wrong_messages_of_grpc_are_told_with_their_place(#[context] context: Context, #[case] from: &str, #[case] to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "grpc-message", "scenario.yaml", from, to);
    let (_, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

/// The server tells which methods and fields there are, before the first stage is judged.
#[rstest]
#[case::a_field_that_reflection_does_not_describe("scenario.yaml", "{field: build.version}", "{field: build.verison}")]
#[case::a_method_that_reflection_does_not_describe("scenario.yaml", "Health/Check, status", "Health/Chek, status")]
#[case::a_service_that_reflection_does_not_list(
    "scenario.yaml",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Helth/Check"
)]
#[case::reflection_that_is_off(
    "canary/hello-server-v1.yaml",
    "image: hello-server:v1",
    "image: hello-server:v1\n          env: [{name: REFLECTION, value: 'false'}]"
)]
#[case::reflection_of_an_image_with_a_stand_in(
    "canary/hello-server-v1.yaml",
    "image: hello-server:v1",
    "image: registry.acme.io/hello:1"
)]
fn messages_that_the_server_does_not_describe_are_told_with_their_place(
    #[context] context: Context,
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "grpc-reflection", file, from, to);
    let arguments = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(2), "{printed}{errors}");
    assert!(!printed.contains("ok 1/2") && !printed.contains("FAIL 1/2"), "{printed}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

#[test]
fn a_scenario_that_is_not_there_is_told() {
    let (_, errors, code) = said(&shiftcheck(&["run", "nowhere.yaml"]).output().unwrap());
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(errors, @"error: cannot read nowhere.yaml: No such file or directory (os error 2)");
}

#[rstest]
#[case::cluster(&["run", "--cluster", "kind"])]
#[case::command(&["walk"])]
#[case::node_image(&["run", "fixtures/canary", "--cluster", "k3s", "--node-image", "rancher/k3s"])]
fn wrong_arguments_are_bad_input(#[case] arguments: &[&str]) {
    let (_, errors, code) = said(&shiftcheck(arguments).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.starts_with("error: "), "{errors}");
}

#[test]
fn without_an_engine_the_environment_is_to_blame() {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    let output = shiftcheck(&["run", "fixtures/canary", "--cluster", "k3s"])
        .env("SHIFTCHECK_CACHE", folder.path())
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .output()
        .unwrap();
    let (_, errors, code) = said(&output);
    assert_eq!(code, Some(3));
    assert!(errors.starts_with("error: no Docker engine answers: "), "{errors}");
    assert!(
        errors.ends_with("hint: start Docker, or use the mesh in this process with --cluster embedded\n"),
        "{errors}"
    );
}

#[test]
fn without_images_the_environment_is_to_blame() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let mut command = shiftcheck(&["run", "fixtures/canary"]);
    command.env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3));
    let errors = errors.replace(folder.path().to_str().unwrap(), "CACHE");
    insta::assert_snapshot!(errors, @r"
    error: the image cache has no set `istio-1.31` (CACHE/images)

    hint: `shiftcheck images --pull VERSION` pulls a release of Istio, such as 1.27.3, or run `ci/images/build istio-1.31` to build it
    ");
}

#[rstest]
#[case::built(
    "1.22",
    "`shiftcheck images --pull VERSION` pulls a release of Istio, such as 1.27.3, or run `ci/images/build istio-1.22` to build it"
)]
#[case::a_release("1.27", "`shiftcheck images --pull VERSION` pulls a release of Istio, such as 1.27.3")]
fn a_set_that_is_missing_is_named_with_the_command_that_gets_it(#[case] version: &str, #[case] hint: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = shiftcheck(&["upgrade", "fixtures/canary", "--from", version, "--to", "1.31", "--no-report"]);
    let (_, errors, code) = said(&command.env("SHIFTCHECK_CACHE", folder.path()).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains(&format!("the image cache has no set `istio-{version}`")), "{errors}");
    assert!(errors.ends_with(&format!("hint: {hint}\n")), "{errors}");
}

#[test]
fn without_the_definitions_of_the_gateway_api_the_hint_is_about_them() {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    std::fs::remove_dir_all(folder.path().join("images/gateway-api")).unwrap();
    let engine = Engine::start(folder.path());
    let mut command = shiftcheck(&["run", "fixtures/gateway-api"]);
    command.env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3));
    let errors = errors.replace(folder.path().to_str().unwrap(), "CACHE");
    insta::assert_snapshot!(errors, @r"
    error: the image cache has no set `gateway-api` (CACHE/images); it has istio-1.31, node

    hint: the scenario needs the CRDs of the Gateway API: use a cluster that has them with --cluster kubeconfig, or run `ci/images/build gateway-api` to build it
    ");
}

#[test]
fn an_unknown_version_of_istio_is_answered_with_those_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.22", "1.31"]);
    let engine = Engine::start(folder.path());
    let mut command = shiftcheck(&["run", "fixtures/canary", "--istio", "1.99"]);
    command.env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3));
    assert!(errors.starts_with("error: the image cache has no set `istio-1.99` ("), "{errors}");
    assert!(errors.contains("it has gateway-api, istio-1.22, istio-1.31, node"), "{errors}");
}

#[test]
fn a_kubeconfig_that_is_not_there_is_told() {
    let arguments = ["run", "fixtures/canary", "--cluster", "kubeconfig", "--kubeconfig", "nowhere"];
    let (_, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(3));
    let first = format!("error: cannot use the kubeconfig: {ROOT}/nowhere: No such file or directory (os error 2)\n");
    assert!(errors.starts_with(&first), "{errors}");
    assert!(errors.ends_with("hint: pass a file with --kubeconfig and a context with --context\n"), "{errors}");
}

/// The message for an image that a throwaway cluster cannot load.
fn load_message(sources: &[&str], changes: &[(&str, &str)], prepare: impl Fn(&std::path::Path)) -> String {
    let folder = own_images::scenario("{header: x-version}", changes);
    prepare(folder.path());
    let cache = folder.path().join("cache");
    cache_with_images(&cache, &["1.31"]);
    let engine = Engine::start(folder.path());
    let mut arguments = vec!["run", ".", "--cluster", "k3s", "--no-report"];
    arguments.extend(sources.iter().flat_map(|source| ["--load-image", source]));
    let mut command = shiftcheck(&arguments);
    command.env("SHIFTCHECK_CACHE", &cache).env("DOCKER_HOST", engine.address()).current_dir(folder.path());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    errors.replace(&engine.address(), "ENGINE")
}

/// An archive of `docker save` with an image of this name.
fn save(archive: &std::path::Path, name: &str) {
    let text = serde_json::json!([{"RepoTags": [name], "Layers": []}]).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    let mut tar = tar::Builder::new(std::fs::File::create(archive).unwrap());
    tar.append_data(&mut header, "manifest.json", text.as_bytes()).unwrap();
    tar.finish().unwrap();
}

#[test]
fn an_image_that_the_engine_does_not_have_is_told() {
    let message = load_message(&["registry.acme.io/checkout:1.4"], &[], |_| {});
    insta::assert_snapshot!(message, @r"
    error: the Docker engine at ENGINE has no image registry.acme.io/checkout:1.4

    hint: build or pull it, or pass an archive: --load-image FILE.tar
    ");
}

#[test]
fn a_file_that_is_no_image_archive_is_told() {
    let message = load_message(&["app.yaml"], &[], |_| {});
    insta::assert_snapshot!(message, @r"
    error: cannot load app.yaml: it is not a tar archive, or it is truncated

    hint: pass an archive of `docker save --output FILE.tar IMAGE`, or an OCI archive
    ");
    let message = load_message(&["nowhere.tar"], &[], |_| {});
    insta::assert_snapshot!(message, @r"
    error: cannot load nowhere.tar: No such file or directory (os error 2)

    hint: pass an archive of `docker save --output FILE.tar IMAGE`, or an OCI archive
    ");
}

#[test]
fn an_archive_without_an_image_of_the_manifests_is_told_with_both() {
    let message =
        load_message(&["image.tar"], &[], |folder| save(&folder.join("image.tar"), "registry.acme.io/checkout:1.3"));
    insta::assert_snapshot!(message, @r"
    error: image.tar has registry.acme.io/checkout:1.3, which no manifest names; the manifests name registry.acme.io/agent:7 (app.yaml:11:25), registry.acme.io/checkout:1.4 (app.yaml:12:28), registry.acme.io/checkout:1.5 (app.yaml:25:11)

    hint: give the image the name and the tag that the manifest has
    ");
}

#[test]
fn a_loaded_image_that_the_node_would_pull_is_told_with_its_place() {
    let changes = [("containerPort: 8080}]}", "containerPort: 8080}], imagePullPolicy: Always}")];
    let message = load_message(&["image.tar"], &changes, |folder| {
        save(&folder.join("image.tar"), "registry.acme.io/checkout:1.4");
    });
    insta::assert_snapshot!(message, @r"
    error: app.yaml:12:28: the node pulls registry.acme.io/checkout:1.4 whenever a container starts, although it is loaded: imagePullPolicy is Always

    hint: set `imagePullPolicy: IfNotPresent`
    ");
}

#[test]
fn images_are_loaded_into_throwaway_clusters_alone() {
    let (_, errors, code) = said(
        &shiftcheck(&["run", "fixtures/canary", "--cluster", "embedded", "--load-image", "checkout.tar"])
            .output()
            .unwrap(),
    );
    assert_eq!(code, Some(2), "{errors}");
    insta::assert_snapshot!(errors, @"error: --load-image needs a throwaway cluster: --cluster k3s");
}

#[rstest]
#[case::of_the_run("nodes: 2", &["--cluster", "k3s", "--nodes", "1"], "scenario.yaml:4:8: the scenario needs 2 nodes, more than --nodes 1\n")]
#[case::of_the_scenario("nodes: 9", &[], "scenario.yaml:4:8: 9 is not between 1 and 8\n")]
#[case::no_number("nodes: two", &[], "scenario.yaml:4:8: ")]
fn a_scenario_that_does_not_get_its_nodes_is_told(
    #[case] nodes: &str,
    #[case] arguments: &[&str],
    #[case] message: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "locality", "scenario.yaml", "nodes: 2", nodes);
    let (_, errors, code) = said(&shiftcheck(&[&["run", &path, "--no-report"], arguments].concat()).output().unwrap());
    assert!(code == Some(2) && errors.contains(message), "{errors}");
}

#[rstest]
#[case::embedded(&["--cluster", "embedded", "--nodes", "2"], "error: --nodes needs a throwaway cluster: --cluster k3s\n")]
#[case::too_many(&["--nodes", "9"], "a cluster has from 1 to 8 nodes: each is a container on this machine, with all images")]
#[case::none(&["--nodes", "0"], "a cluster has from 1 to 8 nodes: pods run on nodes")]
#[case::no_number(&["--nodes", "two"], "a cluster has from 1 to 8 nodes")]
fn a_number_of_nodes_that_no_cluster_can_have_is_told(#[case] arguments: &[&str], #[case] message: &str) {
    let run = [&["run", "fixtures/canary", "--no-report"], arguments].concat();
    let (_, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert!(code == Some(2) && errors.contains(message), "{errors}");
}

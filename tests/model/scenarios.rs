//! All claims of the example scenarios in `fixtures/` hold by the model and on the embedded mesh, and `mutants` finds no mutant that they miss.

use rstest::rstest;
use shiftcheck::report::Report;

use crate::common::report::{paths_of_comparisons, read, walked};
use crate::common::server::{Engine, cache_with_images};
use crate::common::{example, said, shiftcheck, spoilt};

#[rstest]
fn all_claims_hold(
    #[values(
        "progressive",
        "blue-green",
        "ab-test",
        "mirror",
        "gateway-api",
        "ingress",
        "ingress-tls",
        "ingress-passthrough",
        "ingress-gateway-api",
        "callers",
        "locality",
        "chain",
        "fault-injection",
        "scale",
        "h2c",
        "grpc",
        "grpc-message",
        "tcp",
        "websocket",
        "sticky",
        "sticky-cookie",
        "sticky-query",
        "grpc-reflection"
    )]
    scenario: &str,
    #[values(&["verify"], &["run", "--cluster", "embedded"])] command: &[&str],
) {
    let fixture = format!("fixtures/{scenario}");
    let (printed, errors, code) = said(&shiftcheck(&[command, &[&fixture]].concat()).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}

#[rstest]
#[case::slow("slow-canary", "answers slower than 95 % of v1's")]
#[case::failing("failing-canary", "errors")]
fn a_version_that_is_worse_than_another_fails_the_run_and_is_named(#[case] scenario: &str, #[case] what: &str) {
    let fixture = format!("fixtures/{scenario}");
    let (code, printed, folder) = walked(&fixture, &[]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains(&format!("everyone at /work: v2 against v1: {what} below 2x — ")), "{printed}");
    let failed = format!(r"{what}.* came from v2: [0-9.]+ times the share of v1 \(1\.[0-9]+ to ");
    assert!(regex::Regex::new(&failed).unwrap().is_match(&printed), "{printed}");
    assert!(printed.contains("errors or slow answers are more frequent than claimed"), "{printed}");
    // the page shows both versions, and a path that ends beyond the level that rejects
    let report = Report::read(folder.path()).unwrap();
    let path = &report.stages[1].claims[1].paths[0];
    let seen = path.compared.as_ref().unwrap();
    assert_eq!(seen.versions.each_ref().map(|own| own.version.as_str()), ["v2", "v1"]);
    assert_eq!(seen.versions.iter().map(|own| own.bad).sum::<u64>(), path.points.last().unwrap()[0]);
    let page = read(folder.path(), "report.html");
    assert!(page.contains(r#"<line class="curve canary""#), "no plot of both versions");
    let [[rejects, end]] = paths_of_comparisons(&page)[..] else { panic!("no plot of the path") };
    assert!(end <= rejects, "{end} {rejects}");
    let (printed, errors, code) = said(&shiftcheck(&["verify", &fixture]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("only a run shows errors and latency"), "{printed}");
}

#[rstest]
#[case::slow("slow-canary")]
#[case::failing("failing-canary")]
fn alike_versions_hold(#[case] scenario: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alike");
    let arguments = ["init", "--example", scenario, path.to_str().unwrap()];
    let (_, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    let v2 = path.join("hello-server-v2.yaml");
    let text = std::fs::read_to_string(&v2).unwrap();
    let alike = text.replace("12% 100ms", "6% 100ms").replace("value: 2%", "value: 1%");
    assert_ne!(text, alike);
    std::fs::write(&v2, alike).unwrap();
    let arguments = ["run", path.to_str().unwrap(), "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}

#[rstest]
#[case::a_method_that_does_not_exist(
    "scenario.yaml",
    "get: {v1: 100%}, status: UNIMPLEMENTED",
    "get: {v1: 100%}",
    "requests were answered UNIMPLEMENTED by v1; OK was claimed",
    "status OK 0 % instead of 100 %"
)]
#[case::a_port_named_http(
    "svc-hello.yaml",
    "name: grpc,",
    "name: http,",
    "requests were answered UNKNOWN `gRPC requires HTTP/2`, which tells no version",
    "UNKNOWN, the pod gets HTTP/1.1, as the port declares, and gRPC needs HTTP/2"
)]
#[case::a_server_without_http2(
    "canary/hello-server-v1.yaml",
    "image: hello-server:v1",
    "image: hello-server:v1\n          env: [{name: HTTP2, value: 'false'}]",
    "requests were answered UNAVAILABLE `upstream connect error or disconnect/reset before headers`",
    "503, the pod does not speak HTTP/2, as the port declares"
)]
fn calls_of_grpc_that_fail_are_told(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] seen: &str,
    #[case] foreseen: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "grpc", file, from, to);
    let arguments = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains(seen), "{printed}");
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains(foreseen), "{printed}");
}

/// The version is a field of the answer, and the server gets the message: the greeting contains both.
#[test]
fn a_version_is_read_from_the_field_that_the_scenario_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "grpc-message", "scenario.yaml", "{field: build.version}", "{field: message}");
    let arguments = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("were answered by Hello server - v1 (name=world)"), "{printed}");
}

#[test]
fn stand_ins_state_the_version_in_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = ("image: hello-server:v2", "image: registry.acme.io/hello:2");
    let path = example(folder.path(), "grpc-message", "canary/hello-server-v2.yaml", from, to);
    let arguments = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("answers come from stand-ins for registry.acme.io/hello:2"), "{printed}");
    assert!(printed.contains("testers at /helloworld.Greeter/SayHello: v1 50 %, v2 50 % — "), "{printed}");
}

#[test]
fn the_steps_of_a_rollout_are_checked_without_a_cluster() {
    let (printed, errors, code) = said(&shiftcheck(&["verify", "fixtures/rollouts-subset"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(printed);
}

#[rstest]
fn other_ways_of_a_rollout_are_checked_without_a_cluster(
    #[values("rollouts-host", "rollouts-header", "rollouts-abort", "rollouts-superseded")] scenario: &str,
) {
    let (printed, errors, code) = said(&shiftcheck(&["verify", &format!("fixtures/{scenario}")]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("no claim fails according to the manifests"), "{printed}");
}

#[test]
fn the_embedded_mesh_refuses_a_scenario_that_needs_a_controller() {
    let arguments = ["run", "fixtures/rollouts-subset", "--cluster", "embedded", "--no-report"];
    let (_, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    insta::assert_snapshot!(errors);
}

#[test]
fn the_split_of_an_autoscaled_version_is_checked_without_a_cluster() {
    let (printed, errors, code) = said(&shiftcheck(&["verify", "fixtures/autoscale"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(printed);
}

#[test]
fn the_embedded_mesh_refuses_a_scenario_that_needs_an_autoscaler() {
    let arguments = ["run", "fixtures/autoscale", "--cluster", "embedded", "--no-report"];
    let (_, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    insta::assert_snapshot!(errors);
}

#[rstest]
#[case::mutants(&["mutants", "fixtures/rollouts-subset", "--cluster", "k3s"], "scenario.yaml:5:23: a controller moves the traffic of this scenario, so that")]
#[case::upgrade(&["upgrade", "fixtures/rollouts-subset", "--from", "1.22", "--to", "1.31", "--no-report"], "scenario.yaml:5:23: a controller moves the traffic of this scenario, so that")]
#[case::mutants_under_load(&["mutants", "fixtures/autoscale", "--cluster", "k3s"], "scenario.yaml:26:13: this stage waits for pods that are started under load, so that")]
#[case::upgrade_under_load(&["upgrade", "fixtures/autoscale", "--from", "1.22", "--to", "1.31", "--no-report"], "scenario.yaml:26:13: this stage waits for pods that are started under load, so that")]
fn what_applies_all_objects_at_once_refuses_a_scenario_that_a_controller_drives(
    #[case] arguments: &[&str],
    #[case] refused: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.22", "1.31"]);
    let mut command = shiftcheck(arguments);
    let (_, errors, code) = said(&command.env("SHIFTCHECK_CACHE", folder.path()).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains(refused), "{errors}");
}

#[test]
fn a_missing_metrics_server_is_told_with_what_builds_it() {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    let engine = Engine::start(folder.path());
    let mut command = shiftcheck(&["run", "fixtures/autoscale", "--no-report"]);
    command.env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("error: the image cache has no set `metrics-server-0.8` ("), "{errors}");
    let hint = "hint: use a cluster that has metrics-server, with --cluster kubeconfig, or run `ci/images/build metrics-server-0.8` to build it";
    assert!(errors.contains(hint), "{errors}");
}

#[test]
fn a_missing_controller_is_told_with_what_builds_it() {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    let engine = Engine::start(folder.path());
    let mut command = shiftcheck(&["run", "fixtures/rollouts-subset", "--no-report"]);
    command.env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("error: the image cache has no set `argo-rollouts-1.10` ("), "{errors}");
    let hint = "hint: use a cluster that has the controller, with --cluster kubeconfig, or run `ci/images/build argo-rollouts-1.10` to build it";
    assert!(errors.contains(hint), "{errors}");
}

#[rstest]
#[case::gateway("ingress", "12:22: `testers` comes through gateway/hello, which ")]
#[case::other_pod("callers", "7:3: `batch` is sent from pod batch, which ")]
fn an_upgrade_refuses_requests_that_the_client_pod_does_not_send(#[case] scenario: &str, #[case] refused: &str) {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.22", "1.31"]);
    let fixture = format!("fixtures/{scenario}");
    let mut command = shiftcheck(&["upgrade", "--from", "1.22", "--to", "1.31", "--no-report", &fixture]);
    let (_, errors, code) = said(&command.env("SHIFTCHECK_CACHE", folder.path()).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains(&format!("{fixture}/scenario.yaml:{refused}")), "{errors}");
    assert!(errors.contains(" does not support; `run` on a throwaway cluster does"), "{errors}");
}

#[rstest]
fn every_mutant_is_killed(
    #[values(
        "progressive",
        "blue-green",
        "ab-test",
        "mirror",
        "gateway-api",
        "ingress",
        "ingress-tls",
        "ingress-passthrough",
        "ingress-gateway-api",
        "callers",
        "locality",
        "chain",
        "fault-injection",
        "scale",
        "autoscale",
        "h2c",
        "grpc",
        "grpc-message",
        "tcp",
        "websocket",
        "sticky",
        "sticky-cookie",
        "sticky-query",
        "grpc-reflection",
        "rollouts-subset",
        "rollouts-host",
        "rollouts-header",
        "rollouts-abort",
        "rollouts-experiment"
    )]
    scenario: &str,
) {
    let (printed, errors, code) = said(&shiftcheck(&["mutants", &format!("fixtures/{scenario}")]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(format!("mutants_of_{}", scenario.replace('-', "_")), printed);
}

const ELSEWHERE: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: there}
---
apiVersion: v1
kind: Service
metadata: {name: svc-there, namespace: there}
spec: {selector: {app: hello}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello-there, namespace: there}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello, version: v2}}
    spec: {containers: [{name: hello, image: 'hello-server:v2'}]}
";

const SCENARIO: &str = "\
name: elsewhere
namespace: canary
service: http://svc-hello:8080
client: {manifest: httpbin.yaml, pod: httpbin, container: httpbin}
version: {body: 'Hello server - (?<version>[^ ]+)'}
populations: {everyone: {}, testers: {headers: {end-user: testers}}}
stages:
  - name: first
    apply: [hello-server-v1.yaml, svc-hello.yaml, there.yaml]
    expect: [{from: everyone, get: {v1: 100%}}]
  - name: another namespace
    apply: [vs-hello-testers.yaml]
    expect: [{from: everyone, get: {v1: 100%}}, {from: testers, get: {v2: 100%}}]
";

#[rstest]
fn pods_of_another_namespace_answer_there_alone(
    #[values(&["verify"], &["run", "--cluster", "embedded", "--no-report"])] command: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    let rule = "        - destination: {host: svc-hello, subset: v1}\n          weight: 50\n        - destination: {host: svc-hello, subset: v2}\n          weight: 50\n";
    let there = "        - destination: {host: svc-there.there.svc.cluster.local}\n";
    let file = "vs-hello-testers.yaml";
    spoilt(folder.path(), &[(file, rule, there), (file, "{host: svc-hello, subset: v1}", "{host: svc-hello}")]);
    std::fs::write(folder.path().join("there.yaml"), ELSEWHERE).unwrap();
    std::fs::write(folder.path().join("scenario.yaml"), SCENARIO).unwrap();
    let path = folder.path().to_str().unwrap();
    let (printed, errors, code) = said(&shiftcheck(&[command, &[path]].concat()).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}

/// A client of TCP waits for the server to speak, and so does whoever expects a request of HTTP.
#[rstest]
#[case::the_proxy(
    "svc-hello.yaml",
    "name: tcp",
    "name: http",
    "everyone: v1 — the manifests give no line: by the name of the port, the proxy waits for a request of HTTP"
)]
#[case::the_server(
    "hello-servers.yaml",
    "env: [{name: TCP, value: 'true'}]",
    "env: [{name: TCP, value: 'false'}]",
    "everyone: v1 — the manifests give no line: the server waits for a request of HTTP"
)]
fn a_connection_on_which_nobody_speaks_gets_no_version(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] expected: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "tcp", file, from, to);
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains(expected), "{printed}");
    let run = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("✗ everyone: v1 — "), "{printed}");
    assert!(printed.contains("no answer in time"), "{printed}");
}

/// Nor does a client of HTTP get an answer from a server that greets.
#[test]
fn a_server_that_greets_answers_no_request_of_http() {
    let folder = tempfile::tempdir().unwrap();
    let greets = "imagePullPolicy: IfNotPresent\n          env: [{name: TCP, value: 'true'}]";
    let path = example(folder.path(), "canary", "hello-server-v1.yaml", "imagePullPolicy: IfNotPresent", greets);
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("the manifests give no response of HTTP: the server greets clients of TCP"), "{printed}");
    let run = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("✗ everyone: v1 — "), "{printed}");
}

#[rstest]
#[case::in_the_first_message(
    "{header: x-version}",
    "{body: 'Hello server - (?<version>[^ ]+)'}",
    "its answer the first message that the server sends"
)]
#[case::in_a_header("{header: x-version}", "{header: x-versions}", "its answer that to the handshake")]
fn versions_come_from_the_handshake_or_the_first_message(#[case] from: &str, #[case] to: &str, #[case] told: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "websocket", "scenario.yaml", from, to);
    for command in [&["verify", &path][..], &["run", &path, "--cluster", "embedded", "--no-report"]] {
        let (printed, errors, code) = said(&shiftcheck(command).output().unwrap());
        assert_eq!(code, Some(0), "{printed}{errors}");
        let is_told = printed.contains(&format!("each request is a WebSocket connection, and {told}"));
        assert_eq!(is_told, command[0] == "run", "{printed}");
    }
}

/// What WebSocket clients get where the server accepts no handshake, and where their share is another one than claimed.
#[rstest]
#[case::a_server_that_greets(
    ("hello-servers.yaml", "imagePullPolicy: IfNotPresent\n", "imagePullPolicy: IfNotPresent\n          env: [{name: TCP, value: 'true'}]\n"),
    "everyone /chat: v1 — the manifests give no response of HTTP: the server greets clients of TCP",
    "✗ everyone at /chat: v1 — "
)]
#[case::a_route_that_responds_itself(
    ("vs-hello.yaml", "route: [{destination: {host: svc-hello, subset: v1}}]", "directResponse: {status: 200}"),
    "everyone /chat: v1 — the manifests give 200 by the route itself",
    "✗ everyone at /chat: v1 — "
)]
#[case::other_weights(
    ("vs-hello-canary.yaml", "weight: 80\n        - destination: {host: svc-hello, subset: v2}\n          weight: 20", "weight: 70\n        - destination: {host: svc-hello, subset: v2}\n          weight: 30"),
    "everyone /chat: v1 80 %, v2 20 % — the manifests give v1 70 %, v2 30 %",
    "✗ everyone at /chat: v1 80 %, v2 20 % — "
)]
#[case::a_port_named_tcp(
    ("canary/svc-hello.yaml", "name: http", "name: tcp"),
    "everyone /chat: v1 — the manifests give v1 50 %, v2 50 %",
    "✗ everyone at /chat: v1 — "
)]
fn claims_about_handshakes_of_websocket_fail(
    #[case] (file, from, to): (&str, &str, &str),
    #[case] by_model: &str,
    #[case] by_run: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "websocket", file, from, to);
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains(by_model), "{printed}");
    let run = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains(by_run), "{printed}");
}

/// What Envoy does with these handshakes is not known, so that claims about them are undecided.
#[rstest]
#[case::http2("canary/svc-hello.yaml", "name: http", "name: http2", "WebSocket over HTTP/2, as the port declares")]
#[case::mirrors(
    "vs-hello.yaml",
    "    - route:",
    "    - mirror: {host: svc-hello, subset: v1}\n      route:",
    "mirrored WebSocket connections"
)]
fn websocket_handshakes_that_are_not_modelled_are_undecided(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] field: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "websocket", file, from, to);
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    assert!(printed.contains(field), "{printed}");
}

/// Without the preference, or without knowing where the client runs, zones do not get what is claimed.
#[rstest]
#[case::not_preferred(
    ("scenario.yaml", "svc-hello.yaml, dr-hello.yaml]", "svc-hello.yaml, dr-hello-everywhere.yaml]"),
    1,
    "zone-1: v1 — the manifests give v1 66.67 %, v2 33.33 % by VirtualService vs-hello"
)]
#[case::anywhere(
    ("client.yaml", "  nodeSelector: {topology.kubernetes.io/region: region-1, topology.kubernetes.io/zone: zone-1}\n", ""),
    4,
    "dr-hello.yaml:9:5: spec.trafficPolicy.outlierDetection can affect these requests and is not modelled"
)]
#[case::a_zone_without_its_region(
    ("client.yaml", "topology.kubernetes.io/region: region-1, ", ""),
    4,
    "dr-hello.yaml:9:5: spec.trafficPolicy.outlierDetection can affect these requests and is not modelled"
)]
#[case::another_zone(
    ("client.yaml", "zone: zone-1", "zone: zone-2"),
    1,
    "zone-1: v1 — the manifests give v2 by VirtualService vs-hello"
)]
fn what_a_zone_gets_is_told_by_the_manifests(
    #[case] (file, from, to): (&str, &str, &str),
    #[case] exit: i32,
    #[case] expected: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "locality", file, from, to);
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(exit), "{printed}{errors}");
    assert!(printed.contains(expected), "{printed}");
    let run = ["run", &path, "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert_eq!(code, Some(exit), "{printed}{errors}");
}

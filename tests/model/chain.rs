//! A service that is reached through another one: what claims about the versions along the way accept, and what `verify` and the embedded mesh
//! make of them.

use rstest::rstest;

use crate::common::{example, said, shiftcheck};

/// The output of a command on the chain with a change, with its exit code; spaces and line breaks count as one space.
fn changed(command: &[&str], file: &str, from: &str, to: &str) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "chain", file, from, to);
    let (printed, errors, code) = said(&shiftcheck(&[command, &[&path]].concat()).output().unwrap());
    let text = format!("{printed}{errors}").replace(&path, "FOLDER");
    (text.split_whitespace().collect::<Vec<_>>().join(" "), code)
}

const VERIFY: &[&str] = &["verify"];
const RUN: &[&str] = &["run", "--cluster", "embedded", "--no-report"];
const LOST: &str = "value: front-v1}, {name: PROPAGATE, value: 'false'}]";

#[rstest]
#[case::one_service(
    "path-of-versions: [front-v1, back-v1]",
    "path-of-versions: [front-v1]",
    "scenario.yaml:17:65: `front-v1` is not a path, which has the versions of two services at least, such as front-v1 > back-v2"
)]
#[case::a_gap(
    "front-v2 > back-v2: 50%",
    "front-v2 > : 50%",
    "`front-v2 > ` is not a path, which has the versions of two services at least"
)]
#[case::too_many_services(
    "path-of-versions: [front-v1, back-v1]",
    "path-of-versions: [front-v1, middle-v1, back-v1]",
    "scenario.yaml:17:65: `front-v1 > middle-v1 > back-v1` has the versions of 3 services, and a request for /via/svc-back passes 2"
)]
#[case::a_sum(
    "front-v2 > back-v2: 50%",
    "front-v2 > back-v2: 40%",
    "scenario.yaml:37:27: the shares sum to 90 %, not to 100 %"
)]
#[case::twice("front-v2 > back-v2: 50%", "front-v2  >  back-v1: 50%", "the path `front-v2 > back-v1` occurs twice")]
#[case::beside_get(
    "path-of-versions: [front-v1, back-v1]",
    "path-of-versions: [front-v1, back-v1], get: {front-v1: 100%}",
    "scenario.yaml:17:65: `path-of-versions` stands instead of `get`; remove one of them"
)]
#[case::beside_slower_than(
    "path-of-versions: [front-v1, back-v1]",
    "path-of-versions: [front-v1, back-v1], slower-than: {1s: 20%}",
    "scenario.yaml:17:47: `path-of-versions` does not belong to `slower-than`; it belongs to a separate expectation"
)]
#[case::of_another_form(
    "{from: everyone, path: /via/svc-back, path-of-versions: [front-v1, back-v1]}",
    "{objects: none, path-of-versions: [front-v1, back-v1]}",
    "`path-of-versions` does not belong to {objects: none}"
)]
#[case::no_header(
    "version: {header: x-versions}",
    "version: {body: 'Hello server - (?<version>[^ ]+)'}",
    "scenario.yaml:17:65: `path-of-versions` reads the versions from one header, `version: {header: x-versions}`, not from `version: {body: "
)]
#[case::a_text(
    "path-of-versions: [front-v1, back-v1]",
    "path-of-versions: back-v1",
    "the version of each service along the way, such as [front-v1, back-v2]"
)]
fn a_wrong_path_of_versions_is_refused_at_its_place(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
    let (text, code) = changed(VERIFY, "scenario.yaml", from, to);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(message.split_whitespace().collect::<Vec<_>>().join(" ").as_str()), "{text}");
}

#[rstest]
fn lost_headers_are_named_with_their_place(#[values(VERIFY, RUN)] command: &[&str]) {
    let (text, code) = changed(command, "front-v1.yaml", "value: front-v1}]", LOST);
    assert_eq!(code, Some(1), "{text}");
    let cause = "the headers of requests are lost on the way: front-v1 (FOLDER/front-v1.yaml:20:51) does not propagate them; if it did, testers \
                 would get front-v1 > back-v2, as claimed";
    assert!(text.contains(cause), "{text}");
    if command == RUN {
        assert!(text.contains("a service on the way does not propagate the headers of requests"), "{text}");
        assert!(text.contains("requests were answered by front-v1 > back-v1, of which none was claimed"), "{text}");
    }
}

/// Headers that are lost change nothing where the rules do not depend on them.
#[rstest]
fn lost_headers_that_change_nothing_are_not_named(#[values(VERIFY, RUN)] command: &[&str]) {
    let (text, code) = changed(
        command,
        "vs-back-sources.yaml",
        "weight: 50\n        - destination: {host: svc-back, subset: v2}\n          weight: 50",
        "weight: 80\n        - destination: {host: svc-back, subset: v2}\n          weight: 20",
    );
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("front-v2 > back-v1 80 %, front-v2 > back-v2 20 %"), "{text}");
    assert!(!text.contains("lost on the way"), "{text}");
}

#[rstest]
#[case::no_endpoints(
    "services.yaml",
    "selector: {app: back}",
    "selector: {app: bark}",
    "front-v1 with 502 (behind it: 503, no healthy upstream)",
    "requests were answered by front-v1, of which none was claimed"
)]
#[case::no_subset(
    "vs-back-testers.yaml",
    "{host: svc-back, subset: v1}",
    "{host: svc-back, subset: v3}",
    "front-v1 with 502 (behind it: 503, unknown cluster)",
    "requests were answered by front-v1, of which none was claimed"
)]
#[case::a_fault(
    "vs-back-testers.yaml",
    "- route:",
    "- fault: {abort: {httpStatus: 500, percentage: {value: 100}}}\n      route:",
    "front-v1 with 502 (behind it: 500 by an injected fault)",
    "requests were answered by front-v1, of which none was claimed"
)]
#[case::no_such_service(
    "scenario.yaml",
    "path: /via/svc-back, path-of-versions: [front-v1, back-v1]",
    "path: /via/svc-bark, path-of-versions: [front-v1, back-v1]",
    "front-v1 with 502 (behind it: no connection, unknown host)",
    "requests were answered by front-v1, of which none was claimed"
)]
fn a_service_behind_that_fails_is_told(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] foreseen: &str,
    #[case] seen: &str,
) {
    let (text, code) = changed(VERIFY, file, from, to);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(foreseen), "{text}");
    let (text, code) = changed(RUN, file, from, to);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(seen), "{text}");
}

#[rstest]
#[case::headers_of_requests(
    "vs-front-testers.yaml",
    "    - match:",
    "    - headers: {request: {set: {x-user: a}}}\n      match:",
    "headers.request of this rule, which servers send on"
)]
#[case::the_header_of_versions(
    "vs-back-testers.yaml",
    "    - match:",
    "    - headers: {response: {set: {x-versions: a}}}\n      match:",
    "headers.response of this rule, which change `x-versions` along the way"
)]
#[case::an_image_that_is_not_known(
    "back-v2.yaml",
    "image: hello-server:v2",
    "image: shop/back:v2",
    "what the image `shop/back:v2` sends on to other services"
)]
#[case::retries_of_a_part(
    "vs-back-sources.yaml",
    "subset: v2}\n          weight: 50",
    "subset: v3}\n          weight: 50",
    "retries after 502, with which a server answers if the service behind it fails"
)]
fn what_is_not_known_of_a_chain_is_undecided(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] named: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "chain", file, from, to);
    let front = std::path::Path::new(&path).join("vs-front-testers.yaml");
    let text = std::fs::read_to_string(&front).unwrap();
    let retried = "route: [{destination: {host: svc-front, subset: v2}}]\n      retries: {attempts: 2, retryOn: 5xx}";
    std::fs::write(&front, text.replacen("route: [{destination: {host: svc-front, subset: v2}}]", retried, 1)).unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    assert!(printed.split_whitespace().collect::<Vec<_>>().join(" ").contains(named), "{printed}");
}

/// The harness and the demo server follow the same paths and the same headers.
#[test]
fn the_model_and_the_server_send_the_same_on() {
    use shiftcheck::{demo, workload};
    let paths = [
        "/",
        "/via/",
        "/via/a",
        "/via/a/b?c=d",
        "/via/a?b",
        "/via/a:8080/via/b",
        "/via/a:0",
        "/via/a:x/b",
        "/via/10.0.0.1",
        "/via/1a",
        "/via/localhost",
        "/via/a.b",
        "/via/a.b.svc.cluster.local",
        "/via/a.svc.cluster.local",
        "/via/A",
        "/via/a-",
        "/via/a@b",
        "/vias/a",
    ];
    for path in paths {
        let modelled = demo::NextHop::of(path).map(|hop| (hop.host.to_owned(), hop.port, hop.path));
        let sent = workload::NextHop::of(path).map(|hop| (hop.host.to_owned(), hop.port, hop.path));
        assert_eq!(modelled, sent, "{path}");
    }
    for name in [
        "end-user",
        "x-a",
        "x-request-id",
        "x-forwarded-for",
        "x-envoy-a",
        "traceparent",
        "tracestate",
        "b3",
        "baggage",
        "cookie",
        "host",
    ] {
        assert_eq!(demo::is_propagated(name), workload::is_propagated(name), "{name}");
    }
}

#[test]
fn a_trial_counts_what_the_service_behind_serves() {
    let claim = "path-of-versions: [front-v1, back-v2]}";
    let with = |served: &str| format!("{claim}\n      - {{served: {{{served}}}}}");
    for (served, code) in [("back-v2: some", 0), ("back-v2: 0", 1), ("front-v1: some", 0)] {
        for command in [VERIFY, RUN] {
            let folder = tempfile::tempdir().unwrap();
            let path = example(folder.path(), "chain", "scenario.yaml", claim, &with(served));
            let file = std::path::Path::new(&path).join("scenario.yaml");
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replacen("pod: {header", "served: {path: /served, port: 8080}\npod: {header", 1);
            std::fs::write(&file, text).unwrap();
            let (printed, errors, found) = said(&shiftcheck(&[command, &[&path]].concat()).output().unwrap());
            assert_eq!(found, Some(code), "{served}: {printed}{errors}");
        }
    }
}

/// A stage has converged when the sidecars of the servers on the way have the routes as well.
#[test]
fn the_routes_of_the_servers_on_the_way_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().to_str().unwrap();
    let arguments = ["run", "fixtures/chain", "--cluster", "embedded", "--report", report];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let report = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let lines = report["stages"][1]["routing"]["lines"].as_array().unwrap();
    let route =
        "pod front-v1-1, svc-back: route 1: end-user is `testers` to subset v2 of svc-back.chain.svc.cluster.local:80";
    assert!(lines.iter().any(|line| line == route), "{lines:?}");
}

//! A first scenario is written from manifests, holds at once, and says what it leaves open.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use rstest::rstest;

use crate::common::{ROOT, said, shiftcheck};

/// A folder with these files of the canary fixture.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("web").tempdir().unwrap();
    for file in files {
        fs::copy(Path::new(ROOT).join("fixtures/canary").join(file), folder.path().join(file)).unwrap();
    }
    folder
}

const SPLIT: [&str; 5] =
    ["hello-server-v1.yaml", "hello-server-v2.yaml", "svc-hello.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"];

#[test]
fn a_folder_of_manifests_becomes_a_scenario_that_holds() {
    let folder = folder(&SPLIT);
    let path = folder.path().to_str().unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["init", path]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    let name = folder.path().file_name().unwrap().to_str().unwrap().to_lowercase().replace('_', "-");
    let known = |text: String| text.replace(path, "FOLDER").replace(&name, "NAME");
    insta::assert_snapshot!("init_says", known(printed));
    insta::assert_snapshot!("init_writes", known(fs::read_to_string(folder.path().join("scenario.yaml")).unwrap()));
    let (printed, errors, code) = said(&shiftcheck(&["verify", path]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    // in its folder it need not be named
    let here = shiftcheck(&["run", "--cluster", "embedded"]).current_dir(folder.path()).output().unwrap();
    let (printed, errors, code) = said(&here);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("end-user-testers: v1 50 %, v2 50 %"), "{printed}");
}

#[test]
fn what_is_there_is_not_written_over() {
    let folder = folder(&SPLIT);
    let path = folder.path().to_str().unwrap();
    let scenario = folder.path().join("scenario.yaml");
    fs::write(&scenario, "mine").unwrap();
    let (_, errors, code) = said(&shiftcheck(&["init", path]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(errors.contains("scenario.yaml already exists"), "{errors}");
    assert_eq!(fs::read_to_string(&scenario).unwrap(), "mine");
    assert!(!folder.path().join("shiftcheck-client.yaml").exists());
}

#[test]
fn later_steps_and_other_files_are_left_out_and_said() {
    let folder = folder(&[&SPLIT[..], &["vs-hello-rollback.yaml"]].concat());
    fs::write(folder.path().join("values.yaml"), "resources: [svc-hello.yaml]\n").unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["init", folder.path().to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.contains("values.yaml was skipped: line 1: this object has no `apiVersion`"), "{printed}");
    let later = "vs-hello-testers.yaml was skipped: VirtualService/vs-hello is also in vs-hello-rollback.yaml";
    assert!(printed.contains(later), "{printed}");
}

#[test]
fn a_folder_without_a_service_is_refused() {
    let folder = folder(&["hello-server-v1.yaml"]);
    let (_, errors, code) = said(&shiftcheck(&["init", folder.path().to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(errors.contains("has no Service") && errors.contains("hint: "), "{errors}");
    let (_, errors, code) = said(&shiftcheck(&["init", "nowhere"]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(errors.contains("nowhere"), "{errors}");
}

/// A command with `init`, its exit code, and what it says of the folder, which is called `FOLDER`.
fn init(folder: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = shiftcheck(&[&["init"], arguments].concat());
    let (printed, errors, code) = said(&command.current_dir(folder).output().unwrap());
    (format!("{printed}{errors}").replace(folder.to_str().unwrap(), "FOLDER"), code)
}

fn assert_verified(folder: &Path) -> String {
    let (printed, errors, code) = said(&shiftcheck(&["verify"]).current_dir(folder).output().unwrap());
    // what the model does not cover is named, not refused
    assert!(matches!(code, Some(0 | 4)), "{printed}{errors}");
    let run = ["run", "--cluster", "embedded", "--no-report", "-q"];
    let (said_of_run, errors, code) = said(&shiftcheck(&run).current_dir(folder).output().unwrap());
    // designs and claims are checked before images
    assert!(code != Some(2) || errors.contains("stand-in"), "{said_of_run}{errors}");
    printed
}

#[test]
fn an_existing_client_is_kept() {
    let folder = folder(&SPLIT);
    let client = folder.path().join("shiftcheck-client.yaml");
    let (_, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0));
    let own = format!("# mine\n{}", fs::read_to_string(&client).unwrap());
    fs::write(&client, &own).unwrap();
    fs::remove_file(folder.path().join("scenario.yaml")).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.starts_with("wrote ./scenario.yaml\nfor you to decide:"), "{printed}");
    assert_eq!(fs::read_to_string(&client).unwrap(), own);
}

#[test]
fn subfolders_are_read_and_what_is_not_is_listed() {
    let folder = folder(&SPLIT[3..]);
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for file in &SPLIT[..3] {
        put(
            &format!("apps/hello/{file}"),
            &fs::read_to_string(Path::new(ROOT).join("fixtures/canary").join(file)).unwrap(),
        );
    }
    put("chart/Chart.yaml", "name: chart\n");
    put("overlays/staging/kustomization.yaml", "resources: [../../apps]\n");
    put("older/scenario.yaml", "name: older\n");
    put(".github/workflow.yaml", "on: push\n");
    put("broken.yaml", "kind: [\n");
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    insta::assert_snapshot!("init_of_subfolders", printed);
    let scenario = fs::read_to_string(folder.path().join("scenario.yaml")).unwrap();
    assert!(scenario.contains("      - apps/hello/hello-server-v1.yaml\n"), "{scenario}");
    let printed = assert_verified(folder.path());
    assert!(printed.contains("end-user-testers: v1 50 %, v2 50 %"), "{printed}");
}

/// A folder with programs that stand for kubectl or kustomize, as the only ones on the `PATH`.
fn programs(folder: &Path, scripts: &[(&str, &str)]) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for (name, script) in scripts {
        fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

#[rstest]
#[case::kubectl(&[("kubectl", "echo \"$@\" > args; cat rendered")], "kustomize .", "by `kubectl kustomize`")]
#[case::kustomize(&[("kustomize", "echo \"$@\" > args; cat rendered")], "build .", "by `kustomize build`")]
fn a_kustomization_is_rendered(#[case] scripts: &[(&str, &str)], #[case] asked: &str, #[case] by: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kustomization.yaml"), "resources: [base]\n").unwrap();
    let texts = SPLIT.map(|file| fs::read_to_string(Path::new(ROOT).join("fixtures/canary").join(file)).unwrap());
    fs::write(folder.path().join("rendered"), texts.join("---\n")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let bin = programs(elsewhere.path(), scripts);
    let path = format!("{}:/usr/bin:/bin", bin.display());
    // the real kubectl must not come first where kustomize is asked for
    let path = if by.contains("kubectl") { path } else { bin.display().to_string() };
    if !by.contains("kubectl") {
        std::os::unix::fs::symlink("/bin/cat", bin.join("cat")).unwrap();
    }
    let mut command = shiftcheck(&["init"]);
    let (printed, errors, code) = said(&command.current_dir(folder.path()).env("PATH", path).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("wrote ./shiftcheck-manifests.yaml\n"), "{printed}");
    assert_eq!(fs::read_to_string(folder.path().join("args")).unwrap().trim(), asked);
    let manifests = fs::read_to_string(folder.path().join("shiftcheck-manifests.yaml")).unwrap();
    assert!(
        manifests.starts_with(&format!("# Manifests from ./kustomization.yaml {by}, written by `shiftcheck init`.\n"))
    );
    assert_verified(folder.path());
}

#[test]
fn a_kustomization_that_cannot_be_rendered_is_told() {
    let folder = folder(&SPLIT);
    fs::write(folder.path().join("kustomization.yaml"), "resources: [base]\n").unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let mut command = shiftcheck(&["init"]);
    let (printed, errors, code) =
        said(&command.current_dir(folder.path()).env("PATH", nothing.path()).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    let note = "kustomization.yaml was not rendered: neither kubectl nor kustomize is on the PATH; the files are read as they are";
    assert!(printed.contains(note), "{printed}");
    fs::remove_file(folder.path().join("scenario.yaml")).unwrap();
    let bin = programs(nothing.path(), &[("kubectl", "echo 'error: no base' >&2; exit 1")]);
    let (printed, errors, code) = said(&command.env("PATH", bin).output().unwrap());
    assert_eq!((printed.as_str(), code), ("", Some(2)));
    assert_eq!(errors, "error: `kubectl kustomize .` failed: error: no base\n");
}

const HOOK: &str = "---\n# Source: web/templates/test.yaml\napiVersion: v1\nkind: Pod\nmetadata:\n  name: test\n  annotations: {helm.sh/hook: test}\n";

#[rstest]
#[case::stdin(true)]
#[case::a_file(false)]
fn the_output_of_helm_is_read(#[case] stdin: bool) {
    let folder = tempfile::tempdir().unwrap();
    let texts = SPLIT.map(|file| fs::read_to_string(Path::new(ROOT).join("fixtures/canary").join(file)).unwrap());
    let text = format!("---\n{}{HOOK}", texts.join("---\n"));
    let mut command = shiftcheck(&["init"]);
    command.current_dir(folder.path());
    let output = if stdin {
        let mut child = command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    } else {
        fs::write(folder.path().join("rendered.yaml"), text).unwrap();
        command.arg("rendered.yaml").output().unwrap()
    };
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("\nskipped:\n  - Pod/test was skipped: it is a Helm hook\n"), "{printed}");
    assert!(!fs::read_to_string(folder.path().join("shiftcheck-manifests.yaml")).unwrap().contains("kind: Pod"));
    assert!(assert_verified(folder.path()).contains("end-user-testers: v1 50 %, v2 50 %"));
}

#[test]
fn a_helm_chart_is_refused_with_the_command_that_renders_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("chart")).unwrap();
    fs::write(folder.path().join("chart/Chart.yaml"), "name: chart\n").unwrap();
    let (printed, code) = init(folder.path(), &["chart"]);
    assert_eq!(code, Some(2));
    let hint = "hint: `helm template chart | shiftcheck init -` reads the rendered manifests\n";
    assert_eq!(printed, format!("error: chart is a Helm chart, not a folder of manifests\n\n{hint}"));
}

const APP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-v1}
spec:
  selector: {matchLabels: {app: web, version: v1}}
  template:
    metadata: {labels: {app: web, version: v1}}
    spec: {containers: [{name: web, image: registry.example.com/web:1}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: grpc, port: 9090}, {name: http, port: 80}]}
";

fn virtual_service(spec: &str) -> String {
    format!(
        "{APP}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web}}\nspec:\n  hosts: [web]\n{spec}"
    )
}

/// Manifests that tempt a draft to write what a check refuses.
#[rstest]
#[case::only_a_service(APP.to_owned(), "")]
#[case::gateway(
    virtual_service(
        "  gateways: [public]\n  http: [{route: [{destination: {host: web}}]}]\n---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: public}\nspec: {selector: {app: gateway}, servers: [{hosts: [web.example.com], port: {name: http, number: 80, protocol: HTTP}}]}\n"
    ),
    "the gateway public: a throwaway cluster has no pods for it, so no requests come through it"
)]
#[case::a_method(
    virtual_service(
        "  http: [{match: [{method: {exact: POST}}], route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]\n"
    ),
    "a route matches the method: requests of populations differ in headers and paths only"
)]
#[case::values_with_one_name(
    virtual_service(
        "  http: [{match: [{headers: {user: {exact: 'a b'}}}, {headers: {user: {exact: a-b}}}, {headers: {user: {exact: 'on'}}}], route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]\n"
    ),
    ""
)]
#[case::a_tiny_share(
    format!("{}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web}}\nspec: {{host: web, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}\n---\n{}",
        virtual_service("  http: [{route: [{destination: {host: web, subset: v1}, weight: 9999}, {destination: {host: web, subset: v2}, weight: 1}]}]\n"),
        APP.split("---").next().unwrap().replace("v1", "v2").replace("apps/v2", "apps/v1")),
    ""
)]
#[case::nothing_answers(virtual_service("  http: [{route: [{destination: {host: nowhere}}]}]\n"), "")]
#[case::the_same_object_twice(format!("{APP}---\n{APP}"), "")]
#[case::rejected_by_the_api(format!("{APP}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x}}\nspec: {{host: web, subsets: [{{labels: {{a: b}}}}]}}\n"), "")]
fn a_draft_is_never_refused(#[case] manifests: String, #[case] note: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.yaml"), &manifests).unwrap();
    fs::write(
        folder.path().join("0-service.yaml"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {ports: [{port: 80}]}\n",
    )
    .unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains(note), "{printed}");
    assert_verified(folder.path());
}

#[rstest]
#[case::grpc_by_name("{name: grpc, port: 9090}", "grpc://web:9090")]
#[case::grpc_by_the_beginning_of_the_name("{name: grpc-api, port: 9090}", "grpc://web:9090")]
#[case::grpc_by_protocol("{name: api, port: 9090, appProtocol: grpc}", "grpc://web:9090")]
#[case::http2("{name: http2, port: 9090}", "h2c://web:9090")]
#[case::h2c("{name: http, port: 9090, appProtocol: kubernetes.io/h2c}", "h2c://web:9090")]
#[case::http_first("{name: grpc, port: 9090}, {name: http, port: 80}", "http://web:80")]
#[case::grpc_after_another("{name: tcp-metrics, port: 1}, {name: grpc, port: 9090}", "grpc://web:9090")]
#[case::tcp("{name: tcp-db, port: 9090}", "tcp://web:9090")]
#[case::grpc_web("{name: grpc-web, port: 9090}", "http://web:9090")]
#[case::no_name("{port: 9090}", "http://web:9090")]
fn the_protocol_comes_from_the_port(#[case] ports: &str, #[case] service: &str) {
    let folder = tempfile::tempdir().unwrap();
    let manifests = APP.replace("{name: grpc, port: 9090}, {name: http, port: 80}", ports);
    fs::write(folder.path().join("app.yaml"), manifests).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    let drafted = fs::read_to_string(folder.path().join("scenario.yaml")).unwrap();
    assert!(drafted.contains(&format!("\nservice: {service}\n")), "{drafted}");
    assert_eq!(printed.contains("the method that clients call"), service.starts_with("grpc"), "{printed}");
    assert_verified(folder.path());
}

/// A rule for one method makes a claim about this method, and a rule for a path that is no method makes none.
#[test]
fn methods_of_grpc_come_from_rules() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = virtual_service(
        "  http: [{match: [{uri: {exact: /shop.Cart/Add}}, {uri: {prefix: /shop.Orders}}], route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]\n",
    );
    fs::write(folder.path().join("app.yaml"), manifests.replace(", {name: http, port: 80}", "")).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    let drafted = fs::read_to_string(folder.path().join("scenario.yaml")).unwrap();
    assert!(drafted.contains("- {from: everyone, path: /shop.Cart/Add, get: {v1: 100%}}"), "{drafted}");
    assert!(drafted.contains("- {from: everyone, get: {v1: 100%}}"), "{drafted}");
    assert!(printed.contains("a route matches /shop.Orders, which is no method of gRPC"), "{printed}");
    assert_verified(folder.path());
}

#[test]
fn every_fixture_makes_a_draft_that_is_not_refused() {
    for entry in fs::read_dir(Path::new(ROOT).join("fixtures")).unwrap().map(Result::unwrap) {
        let folder = tempfile::tempdir().unwrap();
        let name = entry.file_name().into_string().unwrap();
        let (printed, code) = init(folder.path(), &[".", "--example", &name]);
        assert_eq!(code, Some(0), "{printed}");
        fs::remove_file(folder.path().join("scenario.yaml")).unwrap();
        let (printed, code) = init(folder.path(), &[]);
        // an example whose only Service is one that it shares has none of its own
        if code == Some(2) {
            assert!(printed.contains("has no Service with a port"), "{name}: {printed}");
            continue;
        }
        assert_eq!(code, Some(0), "{name}: {printed}");
        assert_verified(folder.path());
    }
}

#[test]
fn a_deviation_is_rounded() {
    let folder = folder(&SPLIT);
    let path = folder.path().join("vs-hello-testers.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("weight: 50", "weight: 93", 1).replacen("weight: 50", "weight: 7", 1)).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    let scenario = fs::read_to_string(folder.path().join("scenario.yaml")).unwrap();
    assert!(
        scenario.contains("{v1: 7%, v2: 93%}, error-rates: {deviation: 5.6%}}")
            || scenario.contains("{v1: 93%, v2: 7%}, error-rates: {deviation: 5.6%}}"),
        "{scenario}"
    );
}

#[test]
fn a_draft_claims_nothing_that_depends_on_what_is_not_modelled() {
    let folder = folder(&SPLIT);
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: only-v2}\n\
                  spec: {selector: {matchLabels: {version: v2}}}\n";
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    let scenario = fs::read_to_string(folder.path().join("scenario.yaml")).unwrap();
    let claims: Vec<&str> =
        scenario.lines().filter(|line| line.contains("get: {") && line.contains("from: e")).collect();
    let why = "is undecided: policy.yaml:1:1: AuthorizationPolicy/only-v2 is not modelled; a run on a mesh decides it";
    assert_eq!(
        claims,
        [
            "      - {from: everyone, get: {v1: 100%}}",
            "      - {from: end-user-not-testers, get: {v1: 100%}}",
            &format!("      # - {{from: end-user-testers, get: {{v1: 50%, v2: 50%}}}} {why}"),
            "  #     - {from: everyone, get: {v2: 100%}}",
        ]
    );
    let doubt = "the claims: policy.yaml:1:1: AuthorizationPolicy/only-v2 is not modelled and can affect them";
    assert!(printed.contains(doubt), "{printed}");
    assert_verified(folder.path());
}

#[rstest]
#[case::deployment("Deployment")]
#[case::stateful_set("StatefulSet")]
fn versions_come_from_labels_before_tags(#[case] kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let stable = APP.replace("Deployment", kind).replace("version: v1", "version: stable");
    let canary = stable.split("---").next().unwrap().replace("stable", "canary").replace("web-v1", "web-v2");
    fs::write(folder.path().join("app.yaml"), format!("{stable}---\n{}", canary.replace("web:1", "web:2"))).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    let scenario = fs::read_to_string(folder.path().join("scenario.yaml")).unwrap();
    assert!(scenario.contains("{from: everyone, get: {canary: 50%, stable: 50%}}"), "{scenario}");
    assert_verified(folder.path());
}

#[rstest]
#[case::of_istio(
    "networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: edge}\nspec:\n  hosts: ['*.example.com']\n  gateways: [public]\n  \
     http:\n    - {match: [{headers: {cohort: {exact: tester}}}], route: [{destination: {host: web}}]}\n    - {route: [{destination: {host: web}}]}\n",
    "networking.istio.io/v1\nkind: Gateway\nmetadata: {name: public}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    \
     - {hosts: [web.example.com], port: {name: http, number: 80, protocol: HTTP}}\n    \
     - {hosts: [web.example.com], port: {name: https, number: 443, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: web}}\n"
)]
#[case::of_the_gateway_api(
    "gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: edge}\nspec:\n  parentRefs: [{name: public}]\n  hostnames: [web.example.com]\n  \
     rules:\n    - {matches: [{headers: [{name: cohort, value: tester}]}], backendRefs: [{name: web, port: 80}]}\n    \
     - {backendRefs: [{name: web, port: 80}]}\n",
    "gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: public}\nspec:\n  gatewayClassName: istio\n  listeners:\n    \
     - {name: http, port: 80, protocol: HTTP, hostname: '*.example.com'}\n    \
     - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}\n"
)]
fn callers_outside_are_populations(#[case] rule: &str, #[case] gateway: &str) {
    let folder = tempfile::tempdir().unwrap();
    let objects = format!("{APP}---\napiVersion: {rule}---\napiVersion: {gateway}");
    fs::write(folder.path().join("app.yaml"), objects).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    let https = "the port 443 of the gateway public takes HTTPS, which the draft does not call: add a population with `tls: {ca: FILE}`";
    assert!(printed.contains(https), "{printed}");
    let scenario = fs::read_to_string(folder.path().join("scenario.yaml")).unwrap();
    for line in [
        "  outside-web-example-com: {through: gateway/public, host: web.example.com}\n",
        "  outside-web-example-com-cohort-tester: {through: gateway/public, host: web.example.com, headers: {cohort: tester}}\n",
        "- {from: outside-web-example-com-cohort-tester, get: {v1: 100%}}\n",
    ] {
        assert!(scenario.contains(line), "{line}\n{scenario}");
    }
    assert_verified(folder.path());
}

#[test]
fn a_rule_for_gateways_alone_is_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let rule = virtual_service("  gateways: [public]\n  http: [{route: [{destination: {host: web}}]}]\n");
    fs::write(folder.path().join("app.yaml"), rule.replace("hosts: [web]", "hosts: [shop.acme.io]")).unwrap();
    let (printed, code) = init(folder.path(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    let printed = assert_verified(folder.path());
    assert!(!printed.contains("warning"), "{printed}");
}

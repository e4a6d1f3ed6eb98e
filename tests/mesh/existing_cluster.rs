//! On an existing cluster the walk stays within its own namespace; and what only a cluster can find wrong is told clearly.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::shared;
use crate::common::{ROOT, run_id, spoilt};
use crate::harness::tests;

tests![
    an_existing_cluster_is_walked_on_and_left_as_it_was(),
    a_counter_that_is_lost_passes_no_claim(),
    rejected_input_is_told(),
    a_controller_that_is_not_there_is_told(),
    a_gateway_of_the_namespace_is_entered_where_it_is_allowed(),
    pods_of_a_gateway_that_are_not_there_are_told(),
];

/// Every object outside of the namespaces that runs make, as `kubectl` lists them; what changes by itself left out.
fn rest_of_the_cluster() -> Vec<String> {
    let kinds = "namespaces,deployments,services,configmaps,serviceaccounts,clusterroles,clusterrolebindings,\
                 mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions,\
                 virtualservices,destinationrules";
    let columns = "custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name,GEN:.metadata.generation";
    let lines = shared().kubectl(&["get", kinds, "-A", "--no-headers", "-o", columns]);
    lines.into_iter().filter(|line| !line.contains("canary-")).collect()
}

fn an_existing_cluster_is_walked_on_and_left_as_it_was() {
    let cluster = shared();
    // istiod changes its webhooks once more when it has proven that they work
    let failing = "--for=jsonpath={.webhooks[0].failurePolicy}=Fail";
    for webhook in ["istio-validator-istio-system", "istiod-default-validator"] {
        let webhook = format!("validatingwebhookconfiguration/{webhook}");
        cluster.kubectl(&["wait", failing, &webhook, "--timeout=60s"]);
    }
    let before = rest_of_the_cluster();

    let (printed, errors, code) = cluster.on("run", &Path::new(ROOT).join("fixtures/canary"), &["--until", "4"]);
    assert_eq!(code, Some(0), "{printed}\n{errors}");
    assert!(printed.contains("Istio 1."), "the version that was found is reported:\n{printed}");
    assert!(printed.contains("found in istio-system"), "{printed}");
    assert!(printed.contains("ok 4/4 testers' canary"), "{printed}");
    assert_eq!(rest_of_the_cluster(), before, "something outside of the namespace was touched");
    let namespace = format!("canary-{}", run_id(&printed));
    cluster.gone(&namespace);
}

fn a_gateway_of_the_namespace_is_entered_where_it_is_allowed() {
    let (cluster, scenario) = (shared(), Path::new(ROOT).join("fixtures/ingress-gateway-api"));
    let (printed, errors, code) = cluster.on("run", &scenario, &[]);
    assert_eq!(code, Some(2), "{printed}\n{errors}");
    assert!(errors.contains("gateway.yaml:7:1: Gateway/hello opens a gateway to clients outside"), "{errors}");

    let (printed, errors, code) = cluster.on("run", &scenario, &["--allow-reach", "--until", "2"]);
    assert_eq!(code, Some(0), "{printed}\n{errors}");
    assert!(printed.contains("ok 2/2 canary outside"), "{printed}");
    cluster.gone(&format!("ingress-gateway-api-{}", run_id(&printed)));
}

fn pods_of_a_gateway_that_are_not_there_are_told() {
    let (cluster, scenario) = (shared(), Path::new(ROOT).join("fixtures/ingress"));
    let (printed, errors, code) = cluster.on("run", &scenario, &["--allow-reach"]);
    assert_eq!(code, Some(2), "{printed}\n{errors}");
    assert!(
        errors.contains("no ready pod has the labels that gateway/hello selects: istio=ingressgateway"),
        "{errors}"
    );
    cluster.gone(&format!("ingress-{}", run_id(&printed)));
}

/// A pod of v2, which serves nothing, is replaced while the sample is taken: nobody knows any more what it served.
fn a_counter_that_is_lost_passes_no_claim() {
    let cluster = shared();
    let scenario = Path::new(ROOT).join("fixtures/mirror");
    let namespace = "lost-counter";
    // 688 requests at 60 a second take 11 s
    let more = ["--qps", "60", "--until", "1", "--namespace", namespace];
    let (printed, errors, code) = std::thread::scope(|scope| {
        let walked = scope.spawn(|| cluster.on("run", &scenario, &more));
        let deadline = Instant::now() + Duration::from_secs(120);
        let pods = || {
            let columns = "custom-columns=NAME:.metadata.name,READY:.status.conditions[?(@.type=='Ready')].status";
            let arguments =
                ["-n", namespace, "get", "pods", "-l", "app=hello,version=v2", "--no-headers", "-o", columns];
            cluster.kubectl(&arguments)
        };
        let ready = |pods: &Vec<String>| pods.len() == 2 && pods.iter().all(|pod| pod.ends_with("True"));
        let pod = loop {
            let pods = pods();
            if ready(&pods) {
                break pods[0].split(' ').next().unwrap().to_owned();
            }
            assert!(Instant::now() < deadline, "the pods of v2 do not become ready: {pods:?}");
            std::thread::sleep(Duration::from_millis(200));
        };
        // the routes are there within a second or two
        std::thread::sleep(Duration::from_secs(5));
        cluster.kubectl(&["-n", namespace, "delete", "pod", &pod, "--wait=false"]);
        walked.join().unwrap()
    });
    assert_eq!(code, Some(4), "{printed}\n{errors}");
    for part in ["while 688 were sent; a counter was lost: pod hello-server-v2-", " started meanwhile"] {
        assert!(printed.contains(part), "`{part}` is not in {printed}\n{errors}");
    }
    cluster.gone(namespace);
}

/// What is spoilt, the exit code, and what the message holds.
type Row<'a> = (&'a [(&'a str, &'a str, &'a str)], i32, &'a [&'a str]);

#[expect(clippy::too_many_lines, reason = "a table of inputs and what is said of each")]
fn rejected_input_is_told() {
    let cluster = shared();
    let first = "hello-server-v1-first.yaml";
    let rows: [Row; 9] = [
        (
            &[("vs-hello-testers.yaml", "svc-hello", "svc-hello.default.svc.cluster.local")],
            2,
            &[
                "VirtualService/vs-hello applies to `svc-hello.default.svc.cluster.local` for the clients of all namespaces",
            ],
        ),
        (
            &[("svc-hello.yaml", "kind: Service", "kind: Sevice")],
            2,
            &["svc-hello.yaml:1:1: the cluster has no kind `Sevice` in `v1`"],
        ),
        (
            &[(first, "replicas: 2", "replica: 2")],
            2,
            &["hello-server-v1-first.yaml:2:1: Deployment/hello-server-v1 was rejected: ", "spec.replica"],
        ),
        (
            &[("svc-hello.yaml", "port: 8080", "port: 80800")],
            2,
            &["svc-hello.yaml:1:1: Service/svc-hello was rejected: ", "spec.ports[0].port"],
        ),
        (
            &[("svc-hello.yaml", "name: svc-hello", "name: svc-hello\n  namespace: default")],
            2,
            &["svc-hello.yaml:1:1: Service/svc-hello is outside of the namespace `canary-"],
        ),
        (
            &[("httpbin.yaml", "labels: {app: httpbin}", "labels: {app: httpbin, sidecar.istio.io/inject: 'false'}")],
            2,
            &["the client pod httpbin has no sidecar", "hint: the client must be in the mesh"],
        ),
        (
            &[(first, "image: hello-server:v1", "image: hello-server:v0")],
            3,
            &[
                "the rollout of httpbin, hello-server-v1 cannot succeed: ",
                "ImagePullBackOff in container hello-server of ",
            ],
        ),
        (
            &[(first, "imagePullPolicy: IfNotPresent", "imagePullPolicy: IfNotPresent\n          args: [--nonsense]")],
            3,
            &["the rollout of httpbin, hello-server-v1 cannot succeed: ", "CrashLoopBackOff", "exit code 2"],
        ),
        (
            &[(
                "scenario.yaml",
                "apply: [hello-server-v1-first.yaml",
                "delete: [deployment/none]\n    apply: [hello-server-v1-first.yaml",
            )],
            2,
            &["the deletion of deployment/none was rejected: ", "not found"],
        ),
    ];
    let try_out = |(spoil, expected, parts): Row| {
        let folder = tempfile::tempdir().unwrap();
        spoilt(folder.path(), spoil);
        let (printed, errors, code) = cluster.on("run", &folder.path().join("scenario.yaml"), &[]);
        assert_eq!(code, Some(expected), "{spoil:?}\n{printed}\n{errors}");
        for part in parts {
            assert!(errors.contains(part), "`{part}` is missing for {spoil:?}:\n{errors}");
        }
        let namespace = format!("canary-{}", run_id(&printed));
        cluster.gone(&namespace);
    };
    // most of the time is spent waiting; each has a namespace of its own
    std::thread::scope(|scope| rows.iter().for_each(|row| drop(scope.spawn(|| try_out(*row)))));
    // a namespace that is there already is not touched
    let (_, errors, code) = cluster.on("run", &Path::new(ROOT).join("fixtures/canary"), &["--namespace", "default"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("the namespace `default` already exists and was not created by this run"), "{errors}");
    assert_eq!(cluster.kubectl(&["get", "namespace", "default", "-o", "name"]), ["namespace/default"]);
}

fn a_controller_that_is_not_there_is_told() {
    let rows = [
        (
            "rollouts-subset",
            "scenario.yaml:4:26: Argo Rollouts is not installed on this cluster: no Deployment has the label app.kubernetes.io/name=argo-rollouts",
        ),
        (
            "flagger-canary",
            "scenario.yaml:5:20: Flagger is not installed on this cluster: no Deployment has the label app=flagger or app.kubernetes.io/name=flagger",
        ),
        (
            "autoscale",
            "scenario.yaml:4:27: metrics-server is not installed on this cluster: no Deployment has the label k8s-app=metrics-server or app.kubernetes.io/name=metrics-server",
        ),
    ];
    let try_out = |(scenario, expected): (&str, &str)| {
        let path = Path::new(ROOT).join("fixtures").join(scenario);
        let (printed, errors, code) = shared().on("run", &path, &["--no-report"]);
        assert_eq!(code, Some(3), "{printed}{errors}");
        let flat = errors.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(expected), "{errors}");
        assert_eq!(errors.matches("error: ").count(), 1, "{errors}");
    };
    std::thread::scope(|scope| rows.into_iter().for_each(|row| drop(scope.spawn(move || try_out(row)))));
}

//! On an existing cluster the walk stays within its own namespace; and what only a cluster can find wrong is told clearly.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its ground is not as it says")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;

use common::{CLUSTER, ROOT, containers, run_id, said, shiftcheck, spoilt};

/// A cluster that a run has left on purpose, removed at the end of the test.
struct Kept {
    run: String,
    kubeconfig: PathBuf,
}

impl Kept {
    /// Walks the smallest scenario there is and keeps its cluster.
    fn new(folder: &Path) -> Self {
        spoilt(folder, &[]);
        let scenario = folder.join("smallest.yaml");
        let text = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
        let (head, _) = text.split_once("stages:").unwrap();
        std::fs::write(&scenario, format!("{head}stages:\n  - name: nothing\n")).unwrap();
        let output = shiftcheck(&["run", scenario.to_str().unwrap(), "--keep", "always"]).output().unwrap();
        let (printed, errors, code) = said(&output);
        assert_eq!(code, Some(0), "{printed}\n{errors}");
        let (_, rest) = printed.split_once("export KUBECONFIG=").expect("it tells how to look");
        let kubeconfig = PathBuf::from(rest.lines().next().unwrap());
        Self { run: run_id(&printed), kubeconfig }
    }

    fn walk(&self, scenario: &Path, more: &[&str]) -> (String, String, Option<i32>) {
        let kubeconfig = self.kubeconfig.to_str().unwrap();
        let mut arguments =
            vec!["run", scenario.to_str().unwrap(), "--cluster", "kubeconfig", "--kubeconfig", kubeconfig];
        arguments.extend(more);
        said(&shiftcheck(&arguments).output().unwrap())
    }

    /// Every object outside of the namespaces that runs make, as `kubectl` lists them; what changes by itself left out.
    fn rest_of_the_cluster(&self) -> Vec<String> {
        let kinds = "namespaces,deployments,services,configmaps,serviceaccounts,clusterroles,clusterrolebindings,\
                     mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions,\
                     virtualservices,destinationrules";
        let columns = "custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name,GEN:.metadata.generation";
        let lines = self.kubectl(&["get", kinds, "-A", "--no-headers", "-o", columns]);
        lines.into_iter().filter(|line| !line.contains("canary-")).collect()
    }

    fn kubectl(&self, arguments: &[&str]) -> Vec<String> {
        let node = containers(&self.run).remove(0);
        let mut command = vec!["exec", &node, "kubectl", "--kubeconfig", "/etc/rancher/k3s/k3s.yaml"];
        command.extend(arguments);
        let output = Command::new("docker").args(&command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = shiftcheck(&["sweep", "--run", &self.run]).status();
    }
}

#[test]
fn an_existing_cluster_is_walked_on_and_left_as_it_was() {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept::new(folder.path());
    // a sweep leaves alone what was kept on purpose
    said(&shiftcheck(&["sweep"]).output().unwrap());
    assert_eq!(containers(&kept.run).len(), 1);
    let before = kept.rest_of_the_cluster();

    let (printed, errors, code) = kept.walk(&Path::new(ROOT).join("fixtures/canary"), &[]);
    assert_eq!(code, Some(0), "{printed}\n{errors}");
    assert!(printed.contains("Istio 1."), "the version that was found is reported:\n{printed}");
    assert!(printed.contains("found in istio-system"), "{printed}");
    assert!(printed.contains("ok 9/9 clean-up"), "{printed}");
    assert_eq!(kept.rest_of_the_cluster(), before, "something outside of the namespace was touched");
    let namespace = format!("canary-{}", run_id(&printed));
    kept.kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=60s"]);

    rejected_input_is_told(&kept);
    let run = kept.run.clone();
    drop(kept);
    assert_eq!(containers(&run), [""; 0]);
}

/// What is spoilt, the exit code, and what the message holds.
type Row<'a> = (&'a [(&'a str, &'a str, &'a str)], i32, &'a [&'a str]);

fn rejected_input_is_told(kept: &Kept) {
    let first = "hello-server-v1-first.yaml";
    let rows: [Row; 8] = [
        (
            &[("svc-hello.yaml", "kind: Service", "kind: Sevice")],
            2,
            &["svc-hello.yaml:1: the cluster knows no kind `Sevice` in `v1`"],
        ),
        (
            &[(first, "replicas: 2", "replica: 2")],
            2,
            &["hello-server-v1-first.yaml:2: Deployment/hello-server-v1 was rejected: ", "spec.replica"],
        ),
        (
            &[("svc-hello.yaml", "port: 8080", "port: 80800")],
            2,
            &["svc-hello.yaml:1: Service/svc-hello was rejected: ", "spec.ports[0].port"],
        ),
        (
            &[("svc-hello.yaml", "name: svc-hello", "name: svc-hello\n  namespace: default")],
            2,
            &["svc-hello.yaml:1: Service/svc-hello belongs outside of the namespace `canary-"],
        ),
        (
            &[("httpbin.yaml", "labels: {app: httpbin}", "labels: {app: httpbin, sidecar.istio.io/inject: 'false'}")],
            2,
            &["the client pod httpbin has no sidecar", "hint: the client has to be in the mesh"],
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
        let (printed, errors, code) = kept.walk(&folder.path().join("scenario.yaml"), &[]);
        assert_eq!(code, Some(expected), "{spoil:?}\n{printed}\n{errors}");
        for part in parts {
            assert!(errors.contains(part), "`{part}` is missing for {spoil:?}:\n{errors}");
        }
        let namespace = format!("canary-{}", run_id(&printed));
        kept.kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=60s"]);
    };
    // most of the time is spent waiting; each has a namespace of its own
    for some in rows.chunks(4) {
        std::thread::scope(|scope| some.iter().for_each(|row| drop(scope.spawn(|| try_out(*row)))));
    }
    // a namespace that is there already is not touched
    let (_, errors, code) = kept.walk(&Path::new(ROOT).join("fixtures/canary"), &["--namespace", "default"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("the namespace `default` is there already and was not made by this run"), "{errors}");
    assert_eq!(kept.kubectl(&["get", "namespace", "default", "-o", "name"]), ["namespace/default"]);
}

//! Addons of Istio are installed on a throwaway cluster from the manifests of a release, with stand-ins for their images.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use shiftcheck::cluster::{ImageCache, KubeCluster};

use crate::cluster::{Kept, cache, docker};
use crate::common::{ROOT, run_id, said, shiftcheck};
use crate::harness::{block_on, tests};
use crate::own_images::make_images;

tests![addons_are_installed_and_reached(): Paired, an_addon_whose_image_cannot_be_pulled_is_told(): Paired];

const IMAGE: &str = "registry.acme.io/addon:1";

/// The manifest of an addon, whose program is the demo server.
fn manifest(name: &str, port: u16, image: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: istio-system}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: {port}, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: {name}, image: '{image}', imagePullPolicy: Always}}]}}
"
    )
}

/// A release of Istio in a folder, with the `istioctl` of the image cache, and its path.
fn release(folder: &Path, image: &str) -> PathBuf {
    let cache = ImageCache::new(&cache());
    let set = cache.istio(&cache.istio_versions()[0]).unwrap();
    let [bin, addons] = ["bin", "samples/addons"].map(|part| folder.join("release").join(part));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&addons).unwrap();
    symlink(set.istioctl, bin.join("istioctl")).unwrap();
    for (name, port) in [("kiali", 20001), ("prometheus", 9090)] {
        fs::write(addons.join(format!("{name}.yaml")), manifest(name, port, image)).unwrap();
    }
    bin.join("istioctl")
}

/// A scenario with addons and one claim, without servers.
fn scenario(folder: &Path, addons: &str) {
    let canary = Path::new(ROOT).join("fixtures/canary");
    let text = format!(
        "name: addons\nnamespace: canary\naddons: {addons}\nservice: http://svc-hello:8080\n\
         client: {{manifest: {0}/httpbin.yaml, pod: httpbin}}\nversion: {{header: x-version}}\n\
         populations: {{everyone: {{}}}}\nstages:\n  - name: all\n    apply: [{0}/svc-hello-v1.yaml]\n    \
         expect: [{{from: everyone, status: 503}}]\n",
        canary.display()
    );
    fs::write(folder.join("scenario.yaml"), text).unwrap();
}

struct Image;

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rmi", "--force", IMAGE]).output();
    }
}

/// What a Service answers through the API server, and the number of containers of each pod of Istio's namespace with a label.
async fn looked_at(kubeconfig: &Path, name: &str, port: u16) -> (String, Vec<usize>) {
    let (_, client) = KubeCluster::connect(Some(kubeconfig), None).await.unwrap();
    let path = format!("/api/v1/namespaces/istio-system/services/{name}:{port}/proxy/");
    let answer = client.request_text(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client, "istio-system");
    let pods = pods.list(&ListParams::default().labels(&format!("app={name}"))).await.unwrap();
    (answer, pods.items.iter().map(|pod| pod.spec.as_ref().unwrap().containers.len()).collect())
}

fn addons_are_installed_and_reached() {
    let folder = tempfile::tempdir().unwrap();
    let _image = Image;
    make_images(folder.path(), &[IMAGE]);
    scenario(folder.path(), "[kiali, prometheus]");
    let istioctl = release(folder.path(), IMAGE);
    let arguments = ["run", folder.path().to_str().unwrap(), "--istioctl", istioctl.to_str().unwrap()];
    let options = ["--load-image", IMAGE, "--keep", "always", "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&[&arguments[..], &options].concat()).output().unwrap());
    assert!(printed.contains(", run "), "{printed}{errors}");
    let run = run_id(&printed);
    let path = printed.split_once("Kiali: kubectl --kubeconfig ").and_then(|(_, rest)| rest.split_once(" -n "));
    let kubeconfig = path.map(|(path, _)| PathBuf::from(path)).unwrap_or_default();
    // removed where the test fails, too
    let kept = Kept { run, kubeconfig };
    assert_eq!(code, Some(0), "{printed}{errors}");
    let kubectl = format!("kubectl --kubeconfig {} -n istio-system", kept.kubeconfig.display());
    for line in [
        "port-forward service/kiali 20001, then http://127.0.0.1:20001/kiali\n",
        "port-forward service/prometheus 9090, then http://127.0.0.1:9090\n",
    ] {
        assert!(printed.contains(&format!("{kubectl} {line}")), "{printed}");
    }
    let found = block_on(async {
        [looked_at(&kept.kubeconfig, "kiali", 20001).await, looked_at(&kept.kubeconfig, "prometheus", 9090).await]
    });
    for (answer, containers) in found {
        // no sidecar
        assert_eq!(containers, [1]);
        assert!(answer.contains("v1"), "{answer}");
    }
    // on a cluster that is there, they are looked for
    kept.kubectl(&["-n", "istio-system", "delete", "service", "prometheus"]);
    let (printed, errors, code) = kept.run(folder.path());
    assert_eq!(code, Some(0), "{printed}{errors}");
    for line in [format!("{kubectl} port-forward service/kiali 20001, "), "has no Service prometheus\n".to_owned()] {
        assert!(printed.contains(&line), "{line}\n{printed}");
    }
    kept.remove();
}

fn an_addon_whose_image_cannot_be_pulled_is_told() {
    let folder = tempfile::tempdir().unwrap();
    scenario(folder.path(), "[prometheus]");
    let istioctl = release(folder.path(), "registry.invalid/prometheus:1");
    let arguments = ["run", folder.path().to_str().unwrap(), "--istioctl", istioctl.to_str().unwrap(), "--no-report"];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(3), "{printed}{errors}");
    let message = "error: the installation of Prometheus cannot succeed: prometheus: 0 of 1 ready, ImagePullBackOff in container prometheus";
    assert!(errors.starts_with(message), "{errors}");
    assert!(errors.contains("(registry.invalid/prometheus:1)"), "{errors}");
    assert!(errors.contains("`--load-image registry.invalid/prometheus:1`"), "{errors}");
    assert!(docker(&["ps", "-aq", "--filter", &format!("label=shiftcheck.dev/run={}", run_id(&printed))]).is_empty());
}

//! Addons of Istio: what is told where their manifests are missing, and where nothing is installed.

use std::fs;

use crate::common::{said, shiftcheck, spoilt};

const WITH_ADDONS: (&str, &str, &str) =
    ("scenario.yaml", "namespace: canary\n", "namespace: canary\naddons: [prometheus, kiali]\n");

#[test]
fn a_set_without_addons_is_told_before_a_cluster_is_created() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    spoilt(folder.path(), &[WITH_ADDONS]);
    let set = cache.path().join("images/istio-1.31");
    fs::create_dir_all(&set).unwrap();
    fs::write(set.join("istioctl"), "").unwrap();
    let description =
        r#"{"version": "1.31", "hub": "h", "tag": "t", "istioctl": "istioctl", "archives": [], "set": []}"#;
    fs::write(set.join("set.json"), description).unwrap();
    let arguments = ["run", folder.path().to_str().unwrap(), "--cluster", "k3s", "--no-report"];
    let more = ["--cache", cache.path().to_str().unwrap()];
    let (printed, errors, code) = said(&shiftcheck(&[&arguments[..], &more].concat()).output().unwrap());
    assert_eq!(code, Some(3), "{printed}{errors}");
    let expected = format!(
        "scenario.yaml:4:10: there is no manifest of Prometheus for Istio 1.31: {} does not exist",
        set.join("addons/prometheus.yaml").display()
    );
    assert!(errors.contains(&expected), "{errors}");
    assert!(errors.contains("hint: pull a release with `shiftcheck images --pull VERSION`"), "{errors}");
    assert!(errors.contains("`--istioctl RELEASE/bin/istioctl`"), "{errors}");
    assert!(!printed.contains("starting the cluster"), "{printed}");
}

#[test]
fn verify_and_the_embedded_mesh_ignore_addons() {
    let folder = tempfile::tempdir().unwrap();
    spoilt(folder.path(), &[WITH_ADDONS]);
    let path = folder.path().to_str().unwrap();
    for arguments in [["verify", path].as_slice(), &["run", path, "--cluster", "embedded", "--no-report"]] {
        let (printed, errors, code) = said(&shiftcheck(arguments).output().unwrap());
        assert_eq!(code, Some(0), "{printed}{errors}");
        assert!(!printed.contains("Kiali"), "{printed}");
    }
}

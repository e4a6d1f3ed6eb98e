//! The scenarios that come along hold on a real mesh.

use crate::cluster::containers;
use crate::common::{run_id, said, shiftcheck};
use crate::harness::tests;

tests![they_hold_on_a_real_mesh()];

/// Those that stand on parts of a mesh that the canary scenario does not touch, on one cluster.
fn they_hold_on_a_real_mesh() {
    let (printed, errors, code) =
        said(&shiftcheck(&["run", "fixtures/gateway-api", "--keep", "always"]).output().unwrap());
    let kept = run_id(&printed);
    let kubeconfig = printed.split_once("export KUBECONFIG=").map(|(_, rest)| rest.lines().next().unwrap().to_owned());
    let more = kubeconfig.map(|kubeconfig| {
        ["fixtures/blue-green", "fixtures/mirror"].map(|fixture| {
            let arguments = ["run", fixture, "--cluster", "kubeconfig", "--kubeconfig", &kubeconfig];
            said(&shiftcheck(&arguments).output().unwrap())
        })
    });
    let swept = shiftcheck(&["sweep", "--run", &kept]).output().unwrap();
    assert_eq!(code, Some(0), "{printed}{errors}");
    for (printed, errors, code) in more.unwrap() {
        assert_eq!(code, Some(0), "{printed}{errors}");
    }
    assert!(swept.status.success());
    assert_eq!(containers(&kept), [""; 0], "something is left behind");
}

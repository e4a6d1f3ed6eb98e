//! A scenario is drafted from a live namespace.

use std::fs;
use std::path::Path;

use crate::cluster::shared;
use crate::common::{ROOT, run_id, said, shiftcheck};
use crate::harness::tests;

tests![a_live_namespace_becomes_a_scenario_that_holds(), a_namespace_that_is_not_there_is_told()];

/// A run that pauses leaves everything up; what it leaves is a live namespace, from which a scenario is drafted.
fn a_live_namespace_becomes_a_scenario_that_holds() {
    let scenario = Path::new(ROOT).join("fixtures/canary");
    let (printed, errors, code) =
        shared().on("run", &scenario, &["--pause", "testers' canary", "--namespace", "canary"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("ok 4/4 testers' canary") && printed.contains("kept as requested"), "{printed}");
    let kubeconfig = shared().kubeconfig.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let mut command = shiftcheck(&["init", "--namespace", "canary", "--kubeconfig", kubeconfig]);
    let (told, errors, code) = said(&command.arg(&live).output().unwrap());
    let swept = said(&shiftcheck(&["sweep", "--run", &run_id(&printed)]).output().unwrap());
    assert_eq!(swept.2, Some(0), "{}{}", swept.0, swept.1);
    shared().gone("canary");
    assert_eq!(code, Some(0), "{told}{errors}");
    let (given, errors, code) = said(&shiftcheck(&["verify", live.to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(0), "{given}{errors}");
    assert!(given.contains("end-user-testers: v1 50 %, v2 50 %"), "{given}");
    let service = fs::read_to_string(live.join("service-svc-hello.yaml")).unwrap();
    assert!(!service.contains("clusterIP") && !service.contains("uid") && !service.contains("status"), "{service}");
}

fn a_namespace_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = shared().kubeconfig.to_str().unwrap();
    let mut command = shiftcheck(&["init", "--namespace", "nowhere", "--kubeconfig", kubeconfig]);
    let (_, errors, code) = said(&command.arg(folder.path().join("nowhere")).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.starts_with("error: the cluster has no namespace `nowhere`\n"), "{errors}");
}

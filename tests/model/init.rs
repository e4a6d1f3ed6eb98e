//! A first scenario is written from manifests, holds at once, and says what it leaves open.

use std::fs;
use std::path::Path;

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
    fs::write(folder.path().join("kustomization.yaml"), "resources: [svc-hello.yaml]\n").unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["init", folder.path().to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.contains("kustomization.yaml was skipped: this object has no `apiVersion`"), "{printed}");
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

//! Images that no registry has are loaded into a throwaway cluster, and one that cannot be pulled is told at once.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::{containers, docker, shared};
use crate::common::own_images::scenario;
use crate::common::{run_id, said, shiftcheck};
use crate::harness::tests;

tests![own_images_are_loaded_and_credentials_stay_in_the_node(), an_image_that_cannot_be_pulled_is_told_at_once(),];

const IMAGES: [&str; 2] = ["registry.acme.io/checkout:1.4", "registry.acme.io/checkout:1.5"];
/// What the demo server answers, which the images are made of.
const VERSION: &str = "{header: x-version}";
const ONE_CONTAINER: (&str, &str) = ("        - {name: agent, image: 'registry.acme.io/agent:7'}\n", "");
const PASSWORD: &str = "c0rrect-h0rse";
/// `ci:c0rrect-h0rse`.
const AUTH: &str = "Y2k6YzBycmVjdC1oMHJzZQ==";

/// Values that no report shows: of a Secret, of two variables, and of a request header.
const PLANTED: [&str; 4] = ["planted-in-secret", "planted-in-variable", "planted-as-password", "planted-token"];

/// The images of the application in the engine, for as long as a test lasts.
struct OwnImages;

impl OwnImages {
    fn make(folder: &Path) -> Self {
        make_images(folder, &IMAGES);
        Self
    }
}

/// Makes images of the demo server under other names, each of a version of its own.
pub fn make_images(folder: &Path, images: &[&str]) {
    let archive = folder.join("demo.tar");
    let (_, errors, code) = said(&shiftcheck(&["image", archive.to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    let layer = folder.join("layer.tar");
    for entry in tar::Archive::new(fs::File::open(&archive).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with("layer.tar") {
            std::io::copy(&mut entry, &mut fs::File::create(&layer).unwrap()).unwrap();
        }
    }
    for (number, image) in (1..).zip(images) {
        let (version, layer) = (format!("ENV VERSION=v{number}"), layer.to_str().unwrap());
        let program = r#"ENTRYPOINT ["/shiftcheck", "workload", "serve"]"#;
        docker(&["import", "--change", program, "--change", &version, layer, image]);
    }
}

impl Drop for OwnImages {
    fn drop(&mut self) {
        for image in IMAGES {
            let _ = std::process::Command::new("docker").args(["rmi", "--force", image]).output();
        }
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The scenario with the planted values, in which a claim fails.
fn with_secrets() -> tempfile::TempDir {
    let secret =
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{key: {}}}\n---\n", PLANTED[0]);
    let first = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: checkout-v1}";
    let image = "          image: registry.acme.io/checkout:1.5\n";
    let variables = format!(
        "{image}          env: [{{name: FEATURE, value: {}}}, {{name: DB_PASSWORD, value: {}}}]\n",
        PLANTED[1], PLANTED[2]
    );
    let (header, matched) = ("headers: {x-tester: 'yes'}", "headers: {x-tester: {exact: 'yes'}}");
    scenario(
        VERSION,
        &[
            ONE_CONTAINER,
            ("v1: 75%, v2: 25%", "v1: 25%, v2: 75%"),
            (first, &format!("{secret}{first}")),
            (image, &variables),
            (header, &format!("headers: {{x-tester: 'yes', Authorization: Bearer {}}}", PLANTED[3])),
            (matched, &format!("headers: {{authorization: {{exact: Bearer {}}}}}", PLANTED[3])),
        ],
    )
}

fn own_images_are_loaded_and_credentials_stay_in_the_node() {
    // a claim fails on purpose, so that the state of the cluster is collected
    let folder = with_secrets();
    let _images = OwnImages::make(folder.path());
    let archive = folder.path().join("checkout-1.5.tar");
    docker(&["save", "--output", archive.to_str().unwrap(), IMAGES[1]]);
    docker(&["rmi", IMAGES[1]]);
    let config = format!(
        r#"{{"auths": {{"registry.acme.io": {{"auth": "{AUTH}"}}, "other.example.org": {{"auth": "{AUTH}"}}}}}}"#
    );
    fs::write(folder.path().join("config.json"), config).unwrap();
    let reports = folder.path().join("reports");
    let arguments =
        ["run", folder.path().to_str().unwrap(), "--load-image", IMAGES[0], "--load-image", archive.to_str().unwrap()];
    let mut command =
        shiftcheck(&[&arguments[..], &["--keep", "always", "--report", reports.to_str().unwrap()]].concat());
    command.env("DOCKER_CONFIG", folder.path()).env("SHIFTCHECK_LOG", "debug");
    let (printed, errors, code) = said(&command.output().unwrap());
    let run = run_id(&printed);
    let node = containers(&run);
    let kept = node.first().map(|node| docker(&["exec", node, "cat", "/.docker/config.json"]).concat());
    let inspected = node.first().map(|node| docker(&["inspect", node]).concat());
    let swept = said(&shiftcheck(&["sweep", "--run", &run]).output().unwrap());
    assert_eq!(swept.2, Some(0), "{}{}", swept.0, swept.1);
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("testers at /cart: v2 — all 688 from v2"), "{printed}");
    // the credentials of the registry that the manifests name, and no others
    let expected = format!(r#"{{"auths":{{"registry.acme.io":{{"password":"{PASSWORD}","username":"ci"}}}}}}"#);
    assert_eq!(kept, Some(expected));
    let state: Vec<_> = files(&reports);
    assert!(state.iter().any(|path| path.starts_with(reports.join("state"))), "{state:?}");
    let mut texts: Vec<(String, String)> = vec![("the terminal".to_owned(), printed)];
    texts.extend(inspected.map(|text| ("the container's description".to_owned(), text)));
    texts.extend(
        state
            .iter()
            .map(|path| (path.display().to_string(), String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())),
    );
    for (place, text) in &texts {
        let planted: Vec<_> = PLANTED.iter().filter(|planted| text.contains(**planted)).collect();
        assert!(planted.is_empty(), "{planted:?} are in {place}");
    }
    // the log has every object that is sent, and nevertheless no credentials
    texts.push(("the log".to_owned(), errors));
    for (place, text) in &texts {
        assert!(!text.contains(PASSWORD) && !text.contains(AUTH), "credentials are in {place}");
    }
    assert!(fs::read_to_string(reports.join("state/routes.txt")).unwrap().contains("(redacted)"));
}

fn an_image_that_cannot_be_pulled_is_told_at_once() {
    let folder = scenario(VERSION, &[ONE_CONTAINER, ("registry.acme.io", "registry.invalid")]);
    // the cluster is up before the time is taken
    let shared = shared();
    let start = Instant::now();
    let (printed, errors, code) = shared.on("run", folder.path(), &["--namespace", "unpulled"]);
    assert_eq!(code, Some(3), "{printed}{errors}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let (message, hint) = errors.split_once("\n\nhint: ").unwrap();
    assert!(
        message.starts_with("error: the rollout of client, checkout-v1, checkout-v2 cannot succeed: checkout-v"),
        "{errors}"
    );
    assert!(message.contains(": 0 of 2 ready, ImagePullBackOff in container checkout of checkout-v"), "{errors}");
    // once, although several pods lack it
    assert_eq!(message.matches("in container").count(), 1, "{errors}");
    assert!(message.contains("(registry.invalid/checkout:1."), "{errors}");
    let advice = "check the image's name and the registry's credentials; on a throwaway cluster, `--load-image registry.invalid/checkout:1.";
    assert!(hint.starts_with(advice), "{errors}");
    assert!(
        hint.ends_with("loads the image from the Docker engine, and `--load-image FILE.tar` from an archive\n"),
        "{errors}"
    );
    shared.gone("unpulled");
}

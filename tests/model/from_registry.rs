//! Images that a registry gives: complete or not kept, by their digests, and those of controllers with their objects. The engine is replaced,
//! so no Docker is needed.

use std::fs;

use crate::common::said;
use crate::from_nothing::Machine;

/// In a condition, a shell goes on after a failed command: an image that could not be saved was kept as if it were complete.
#[test]
fn an_image_that_cannot_be_saved_is_not_kept() {
    let machine = Machine::new();
    machine.recipe("istio-1.31", "title=istio\ntakes=\"1 s\"\nparts=\"\"\nmake() { :; }\n");
    machine.program("docker", "case $1 in save) echo 'no space left on device' >&2; exit 1 ;; *) exit 0 ;; esac");
    let (_, errors, code) =
        said(&machine.script("images/build", &["--from", "registry", "istio-1.31"], false).output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("no space left on device"), "{errors}");
    assert!(!machine.path("cache/images/istio-1.31").exists());
    assert_eq!(machine.parts(), [""; 0], "what was begun is removed");
    // and where it can be saved, it is
    machine.program("docker", "case $1 in cp) touch \"$3\" ;; esac; exit 0");
    let (_, errors, code) =
        said(&machine.script("images/build", &["--from", "registry", "istio-1.31"], false).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    assert!(machine.path("cache/images/istio-1.31/set.json").is_file());
}

/// An engine that notes what it is asked for, and that knows each image by the digest of `b`s.
const REGISTRY: &str = r#"echo "$*" >>"$LOG"
case "$*" in
    "image inspect --format "*) printf 'other.test/one@sha256:aa\n%s@sha256:bb\n' "${5%:*}" ;;
    "image inspect "*) [ ! -e "$LOG.lost" ] || exit 1 ;;
    save*) touch "$3" ;;
esac"#;

fn pulled(machine: &Machine, arguments: &[&str]) -> serde_json::Value {
    let arguments = [&["--from", "registry"], arguments].concat();
    let (_, errors, code) = said(&machine.script("images/build", &arguments, false).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    let set = machine.path(&format!("cache/images/{}/set.json", arguments.last().unwrap()));
    serde_json::from_str(&fs::read_to_string(set).unwrap()).unwrap()
}

#[test]
fn a_pulled_image_is_pulled_by_its_digest_from_then_on() {
    let machine = Machine::new();
    machine.recipe("node", "title=node\ntakes=\"1 s\"\nparts=\"\"\nmake() { :; }\n");
    machine.program("docker", REGISTRY);
    let (tagged, by_digest) = ("rancher/k3s:v1.34.4-k3s1", "rancher/k3s@sha256:bb");
    let set = pulled(&machine, &["node"]);
    assert_eq!((&set["image"], &set["digests"]), (&"rancher/k3s".into(), &serde_json::json!([by_digest])));
    assert!(machine.log().contains(&format!("pull -q {tagged}")), "{:#?}", machine.log());
    assert!(!machine.path("recipes/digests").exists());
    // the engine has lost it, and the tag may be another image by now
    fs::write(machine.path("log.lost"), "").unwrap();
    fs::write(machine.path("log"), "").unwrap();
    pulled(&machine, &["node"]);
    let log = machine.log();
    assert!(
        log.contains(&format!("pull -q {by_digest}")) && log.contains(&format!("tag {by_digest} {tagged}")),
        "{log:#?}"
    );
    assert!(!log.contains(&format!("pull -q {tagged}")), "{log:#?}");
}

#[test]
fn an_image_is_pulled_by_the_digest_that_is_pinned() {
    let machine = Machine::new();
    machine.recipe("node", "title=node\ntakes=\"1 s\"\nparts=\"\"\nmake() { :; }\n");
    machine.program("docker", REGISTRY);
    pulled(&machine, &["--pin", "node"]);
    let pins = fs::read_to_string(machine.path("recipes/digests")).unwrap();
    assert_eq!(pins, "docker.io/rancher/k3s:v1.34.4-k3s1 sha256:bb\n");

    fs::write(machine.path("recipes/digests"), pins.replace("bb", "cc")).unwrap();
    fs::remove_dir_all(machine.path("cache")).unwrap();
    fs::create_dir(machine.path("cache")).unwrap();
    fs::write(machine.path("log"), "").unwrap();
    let mut command = machine.script("images/build", &["--from", "registry", "node"], false);
    let output = command.env("SHIFTCHECK_REGISTRY", "mirror.test/").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let log = machine.log();
    let pull = "pull -q mirror.test/rancher/k3s@sha256:cc".to_owned();
    let tag = "tag mirror.test/rancher/k3s@sha256:cc mirror.test/rancher/k3s:v1.34.4-k3s1".to_owned();
    assert!(log.contains(&pull) && log.contains(&tag), "{log:#?}");
}

#[test]
fn a_controller_is_the_official_image_with_the_objects_of_its_module() {
    let machine = Machine::new();
    let recipe = |make: &str| {
        let text = format!(
            "title=flagger\ntakes=\"1 s\"\nparts=\"\"\nimage=ghcr.io/fluxcd/flagger:1.36.1\nmake() {{ {make}; }}\n"
        );
        machine.recipe("flagger-1.36", &text);
    };
    machine.program("docker", REGISTRY);
    recipe("false; echo never");
    let (_, errors, code) =
        said(&machine.script("images/build", &["--from", "registry", "flagger-1.36"], false).output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(!machine.path("cache/images/flagger-1.36").exists());
    assert_eq!(machine.parts(), [""; 0], "what was begun is removed");

    recipe("echo \"objects for $official\" >\"$out/objects.yaml\"");
    let set = pulled(&machine, &["flagger-1.36"]);
    let expected = serde_json::json!({
        "source": "registry", "image": "ghcr.io/fluxcd/flagger:1.36.1", "tag": "1.36.1", "archives": ["image.tar"],
        "objects": "objects.yaml", "digests": ["ghcr.io/fluxcd/flagger@sha256:bb"],
    });
    assert_eq!(set, expected);
    let folder = machine.path("cache/images/flagger-1.36");
    assert_eq!(fs::read_to_string(folder.join("objects.yaml")).unwrap(), "objects for ghcr.io/fluxcd/flagger:1.36.1\n");
    assert!(folder.join("image.tar").is_file());
}

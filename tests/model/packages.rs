//! What is built: `cargo test` compiles no package a second time that `cargo build` has compiled, and the build compiles
//! the large packages once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use rstest::rstest;

use crate::common::ROOT;

/// The features with which each package is built, by its name and version; several where it is built several times.
fn features(arguments: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--workspace", "--prefix", "none", "--format", "{p} [{f}]"]);
    // Without `--target`, cargo unites the features of build scripts and procedural macros with those of the program.
    cargo.args(["--target", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)]);
    let output = cargo.args(arguments).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut features: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // an empty line is between two packages of the workspace
    for line in String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()) {
        let (package, rest) = line.split_once(" [").unwrap();
        let listed = rest.split(']').next().unwrap_or_default();
        let package = package.split(" (").next().unwrap_or(package);
        features.entry(package.to_owned()).or_default().insert(listed.to_owned());
    }
    features
}

#[test]
fn the_package_has_what_the_program_includes() {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["package", "--list", "--offline", "--allow-dirty"]).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packed = String::from_utf8(output.stdout).unwrap();
    let packed: BTreeSet<&str> = packed.lines().collect();
    let mut git = Command::new("git");
    let files =
        git.args(["ls-files", "fixtures", "schemas", "harness", "LICENSE-MIT"]).current_dir(ROOT).output().unwrap();
    let files = String::from_utf8(files.stdout).unwrap();
    let own = |file: &&str| !["harness/model/", "harness/workload/"].iter().any(|other| file.starts_with(other));
    let missing: Vec<&str> = files.lines().filter(own).filter(|file| !packed.contains(file)).collect();
    assert!(missing.is_empty() && packed.len() > 100, "not in the package: {missing:?}");
    // tests and scripts need the repository
    assert!(!packed.iter().any(|file| file.starts_with("ci/") || file.starts_with("tests/")), "{packed:?}");
}

#[test]
fn tests_are_built_on_the_packages_of_the_build() {
    let built = features(&["--edges", "normal,build"]);
    let tested = features(&["--edges", "normal,build,dev"]);
    assert!(built.len() > 200 && tested.len() > built.len(), "{} and {} packages", built.len(), tested.len());
    // a dev-dependency that asks for another feature makes another package of it, and of everything above it
    let again: Vec<String> = built
        .iter()
        .filter(|(package, features)| tested.get(*package) != Some(features))
        .map(|(package, features)| format!("{package} has {features:?}, with tests {:?}", tested.get(package)))
        .collect();
    assert!(again.is_empty(), "`cargo test` compiles again what `cargo build` has compiled:\n{}", again.join("\n"));
}

#[rstest]
#[case("regex-automata")]
#[case("tokio")]
#[case("hyper")]
#[case("k8s-openapi")]
fn a_large_package_is_built_once(#[case] name: &str) {
    let built = features(&["--edges", "normal,build"]);
    let variants: Vec<_> = built.iter().filter(|(package, _)| package.starts_with(&format!("{name} v"))).collect();
    assert!(matches!(&variants[..], [(_, features)] if features.len() == 1), "{variants:?}");
}

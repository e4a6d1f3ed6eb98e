//! The pure part of `shiftcheck`: scenarios, a model of Istio's routing, statistics, and checks of scenarios by the model.
//!
//! It needs no cluster and does no I/O, except to read the files of a scenario. The `shiftcheck` package re-exports every module under the
//! same name.

pub mod admission;
pub mod demo;
pub mod events;
pub mod plan;
pub mod routing;
pub mod scenario;
pub mod verdict;
pub mod verify;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rstest::rstest;

    /// The names of the packages that a package of the workspace is built from, itself included.
    fn packages(of: &str) -> Vec<String> {
        let tree = ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
        let mut cargo = Command::new(env!("CARGO"));
        let output = cargo.args(tree).args(["--package", of]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    }

    #[rstest]
    #[case("shiftcheck-model", &["tokio", "hyper", "kube", "k8s-openapi", "testcontainers", "tokio-rustls", "shiftcheck"])]
    #[case("shiftcheck-workload", &["kube", "k8s-openapi", "testcontainers", "hyper-rustls", "shiftcheck"])]
    fn a_package_depends_only_on_what_its_subject_needs(#[case] package: &str, #[case] refused: &[&str]) {
        let packages = packages(package);
        assert!(packages.iter().any(|name| name == package) && packages.iter().any(|name| name == "serde"));
        let of_family = |name: &str, family: &str| name == family || name.starts_with(&format!("{family}-"));
        let others = packages.iter().filter(|name| *name != package);
        // certificates are checked without a TLS connection
        let is_tls = |name: &str| package == "shiftcheck-model" && name == "rustls";
        let wrong = others.filter(|name| is_tls(name) || refused.iter().any(|family| of_family(name, family)));
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{package} depends on {wrong:?}");
    }
}

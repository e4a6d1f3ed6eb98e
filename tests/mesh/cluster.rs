//! What is in the container engine, and clusters that tests share.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{run_id, said, shiftcheck, spoilt};

/// The ids of the containers that a run has made.
pub fn containers(run: &str) -> Vec<String> {
    docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("label=shiftcheck.dev/run={run}")])
}

/// The anonymous volumes of these containers.
pub fn volumes(containers: &[String]) -> Vec<String> {
    let template = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}}\n{{end}}{{end}}";
    containers.iter().flat_map(|id| docker(&["inspect", "--format", template, id])).collect()
}

/// Whether the engine still has a volume.
pub fn has_volume(name: &str) -> bool {
    docker(&["volume", "ls", "-q"]).iter().any(|volume| volume == name)
}

/// The lines that the engine's client prints.
pub fn docker(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().expect("docker is on the PATH");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

/// A cluster that a run has left on purpose, removed at the end of the test.
pub struct Kept {
    pub run: String,
    pub kubeconfig: PathBuf,
}

impl Kept {
    /// Walks the smallest scenario there is and keeps its cluster.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        spoilt(folder.path(), &[]);
        let scenario = folder.path().join("smallest.yaml");
        let text = std::fs::read_to_string(folder.path().join("scenario.yaml")).expect("the file is there");
        let (head, _) = text.split_once("stages:").expect("it has stages");
        std::fs::write(&scenario, format!("{head}stages:\n  - name: nothing\n")).expect("the folder can be written");
        Self::by(&scenario.to_string_lossy()).0
    }

    /// Walks a scenario that has to hold, and keeps its cluster; with what was said.
    pub fn by(scenario: &str) -> (Self, String) {
        let output = shiftcheck(&["run", scenario, "--keep", "always"]).output().expect("it runs");
        let (printed, errors, code) = said(&output);
        assert_eq!(code, Some(0), "{printed}\n{errors}");
        let (_, rest) = printed.split_once("export KUBECONFIG=").expect("it tells how to look");
        let kubeconfig = PathBuf::from(rest.lines().next().unwrap_or_default());
        (Self { run: run_id(&printed), kubeconfig }, printed)
    }

    /// A command on it: `run`, with a scenario.
    pub fn on(&self, command: &str, scenario: &Path, more: &[&str]) -> (String, String, Option<i32>) {
        let (kubeconfig, scenario) = (self.kubeconfig.to_string_lossy(), scenario.to_string_lossy());
        let mut arguments = vec![command, &scenario, "--cluster", "kubeconfig", "--kubeconfig", &kubeconfig];
        arguments.extend(more);
        said(&shiftcheck(&arguments).output().expect("it runs"))
    }

    /// Has it removed.
    pub fn remove(self) {
        let run = self.run.clone();
        drop(self);
        assert_eq!(containers(&run), [""; 0], "something is left behind");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = shiftcheck(&["sweep", "--run", &self.run]).status();
    }
}

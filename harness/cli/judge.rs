use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::advice::Failure;
use super::args::JudgeArgs;
use super::discovery;
use super::execute::{Execution, Place, Task};
use super::exit::ExitCode;
use super::options::own_pod;
use super::process::{When, interrupt, output};
use super::reports::{Printed, Reports};
use crate::scenario::{ControllerKind, Scenario};
use crate::session::Ending;

/// The name of all objects.
const NAME: &str = "shiftcheck-judge";
/// Where the scenario is in the container.
const FOLDER: &str = "/scenario";

/// Judges the stage at which a rollout is now, or prints the manifests with which a rollout has that done.
pub(super) async fn run(args: &JudgeArgs) -> Result<ExitCode, Failure> {
    if args.manifests {
        return print_manifests(args).map(|()| ExitCode::Pass);
    }
    let execution = Execution {
        scenario: args.scenario.as_deref(),
        place: Place::Inside(args),
        task: Task::Judge,
        when: When::AtOnce,
        quiet: false,
        reports: Reports { printed: if args.json { Printed::Json } else { Printed::Nothing }, ..Reports::none() },
        live: None,
        part: &as_client,
        note: &|outcome| match outcome.ending {
            Ending::Passed => "the claims of this stage hold".to_owned(),
            Ending::Undecided => "a claim of this stage could not be decided".to_owned(),
            Ending::Failed | Ending::Cancelled => "a claim of this stage fails".to_owned(),
        },
    };
    Ok(execution.run(interrupt()).await)
}

/// The scenario with the pod of this process as its client.
fn as_client(mut scenario: Scenario) -> Result<Scenario, Failure> {
    scenario.client.pod = own_pod()?.name;
    Ok(scenario)
}

fn print_manifests(args: &JudgeArgs) -> Result<(), Failure> {
    let scenario = discovery::read(args.scenario.as_deref())?;
    let path = scenario.path.display();
    let message = match &scenario.controller {
        None => Some(format!("{path}: no controller moves the traffic of this scenario")),
        Some(own) if own.kind != ControllerKind::ArgoRollouts => {
            Some(format!("{}: {own} has no analysis that runs a Job, which the manifests are for", own.origin))
        }
        Some(_) => None,
    };
    if let Some(message) = message {
        let hint = Some("add `controller: {rollout: NAME}` and what each stage waits for".to_owned());
        return Err(Failure { hint, ..Failure::bad_input(message) });
    }
    let files = Files::of(&scenario)?;
    let objects = manifests(&files, &scenario.namespace, &args.image);
    let mut text = String::new();
    for object in &objects {
        let written = serde_yaml::to_string(object).map_err(|error| Failure::environment(error.to_string()))?;
        text.push_str("---\n");
        text.push_str(&written);
    }
    // a closed pipe is not an error
    let mut out = output().0;
    let _ = text.lines().try_for_each(|line| out.verbatim(line));
    Ok(())
}

/// The files of a scenario, by their paths below the folder that has all of them. The scenario file is the first.
struct Files(Vec<(String, String)>);

impl Files {
    fn of(scenario: &Scenario) -> Result<Self, Failure> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in scenario.files() {
            let absolute = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
            let absolute = normal(&absolute);
            if !paths.contains(&absolute) {
                paths.push(absolute);
            }
        }
        let mut folder = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/")).to_owned();
        while !paths.iter().all(|path| path.starts_with(&folder)) && folder.pop() {}
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            let below = path.strip_prefix(&folder).unwrap_or(path);
            Ok((below.display().to_string(), text))
        };
        paths.iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::bad_input(format!("cannot read {}: {error}", path.display()))
}

/// An absolute path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// The objects with which a rollout is judged: the scenario, an account with the rights that it takes, and a template of an analysis.
fn manifests(Files(files): &Files, namespace: &str, image: &str) -> Vec<Value> {
    // a key of a ConfigMap has no slash
    let key = |path: &str| path.replace('/', "_");
    let data: Map<String, Value> = files.iter().map(|(path, text)| (key(path), json!(text))).collect();
    let items: Vec<Value> = files.iter().map(|(path, _)| json!({"key": key(path), "path": path})).collect();
    let scenario = files.first().map(|(path, _)| format!("{FOLDER}/{path}")).unwrap_or_default();
    let metadata = json!({"name": NAME});
    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let pod = json!({
        "serviceAccountName": NAME,
        "restartPolicy": "Never",
        "containers": [{
            "name": "judge",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/shiftcheck", "judge", scenario, "--json"],
            "volumeMounts": [{"name": "scenario", "mountPath": FOLDER}],
        }],
        "volumes": [{"name": "scenario", "configMap": {"name": NAME, "items": items}}],
    });
    let job = json!({"backoffLimit": 0, "template": {"metadata": {"labels": {"app": NAME}}, "spec": pod}});
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [
                rule("", &["pods", "services", "events"]),
                rule("networking.istio.io", &["destinationrules", "virtualservices"]),
                rule("argoproj.io", &["rollouts"]),
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
        }),
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": metadata,
            "spec": {"metrics": [{"name": NAME, "provider": {"job": {"spec": job}}}]},
        }),
    ]
}

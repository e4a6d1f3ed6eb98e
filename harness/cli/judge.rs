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
use super::single::with_clients;
use super::webhook;
use crate::scenario::{Controlled, ControllerKind, Scenario};
use crate::session::Ending;

/// The name of all objects.
const NAME: &str = "shiftcheck-judge";
/// Where the scenario is in the container.
const FOLDER: &str = "/scenario";

/// The port of the webhook in the manifests.
const PORT: u16 = 8080;

/// Judges the stage at which a rollout is now, once or whenever a webhook asks, or prints the manifests with which a rollout has that done.
pub(super) async fn run(args: &JudgeArgs) -> Result<ExitCode, Failure> {
    if args.manifests {
        return print_manifests(args).map(|()| ExitCode::Pass);
    }
    let Some(port) = args.webhook else { return Ok(execution(args).run(interrupt()).await) };
    let scenario = discovery::read(args.scenario.as_deref())?;
    let controlled = controlled(&scenario)?;
    if controlled.kind != ControllerKind::Flagger {
        let message = format!("{}: {controlled} asks no webhooks", controlled.origin);
        let hint = Some("omit --webhook: an analysis of Argo Rollouts runs this command as a Job".to_owned());
        return Err(Failure { hint, ..Failure::bad_input(message) });
    }
    webhook::serve(port, controlled, async |interrupt| execution(args).run_reported(interrupt).await).await
}

fn execution(args: &JudgeArgs) -> Execution<'_> {
    Execution {
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
    }
}

/// The scenario with the pod of this process as its client.
fn as_client(scenario: Scenario) -> Result<Scenario, Failure> {
    let mut scenario = with_clients(scenario, 1)?;
    scenario.client.pod = own_pod()?.name;
    Ok(scenario)
}

/// The object that a controller drives.
fn controlled(scenario: &Scenario) -> Result<&Controlled, Failure> {
    scenario.controller.as_ref().ok_or_else(|| {
        let path = scenario.path.display();
        let message = format!("{path}: no controller moves the traffic of this scenario");
        let hint = "add `controller: {rollout: NAME}` or `controller: {canary: NAME}`, and what each stage waits for";
        Failure { hint: Some(hint.to_owned()), ..Failure::bad_input(message) }
    })
}

fn print_manifests(args: &JudgeArgs) -> Result<(), Failure> {
    let scenario = discovery::read(args.scenario.as_deref())?;
    let controlled = controlled(&scenario)?;
    let files = Files::of(&scenario)?;
    let objects = manifests(&files, &scenario.namespace, &args.image, controlled.kind);
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

/// The objects with which a rollout is judged: the scenario, an account with the rights that it takes, and what runs the command.
fn manifests(files: &Files, namespace: &str, image: &str, kind: ControllerKind) -> Vec<Value> {
    // a key of a ConfigMap has no slash
    let key = |path: &str| path.replace('/', "_");
    let data: Map<String, Value> = files.0.iter().map(|(path, text)| (key(path), json!(text))).collect();
    let items: Vec<Value> = files.0.iter().map(|(path, _)| json!({"key": key(path), "path": path})).collect();
    let scenario = files.0.first().map(|(path, _)| format!("{FOLDER}/{path}")).unwrap_or_default();
    let metadata = json!({"name": NAME});
    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let (group, resource) = match kind {
        ControllerKind::ArgoRollouts => ("argoproj.io", "rollouts"),
        ControllerKind::Flagger => ("flagger.app", "canaries"),
    };
    let pod = json!({
        "serviceAccountName": NAME,
        "containers": [{
            "name": "judge",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/shiftcheck", "judge", scenario, "--json"],
            "resources": {"requests": {"cpu": "100m"}},
            "volumeMounts": [{"name": "scenario", "mountPath": FOLDER}],
        }],
        "volumes": [{"name": "scenario", "configMap": {"name": NAME, "items": items}}],
    });
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [
                rule("", &["pods", "services"]),
                rule("networking.istio.io", &["destinationrules", "virtualservices"]),
                rule(group, &[resource]),
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
        }),
    ];
    objects.extend(match kind {
        ControllerKind::ArgoRollouts => vec![analysis(pod)],
        ControllerKind::Flagger => answering(pod),
    });
    objects
}

/// A template of an analysis that judges in a Job.
fn analysis(mut pod: Value) -> Value {
    pod["restartPolicy"] = json!("Never");
    let job = json!({"backoffLimit": 0, "template": {"metadata": {"labels": {"app": NAME}}, "spec": pod}});
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": NAME},
        "spec": {"metrics": [{"name": NAME, "provider": {"job": {"spec": job}}}]},
    })
}

/// A Deployment that judges whenever a webhook asks, and its Service.
fn answering(mut pod: Value) -> Vec<Value> {
    let container = &mut pod["containers"][0];
    if let Some(command) = container["command"].as_array_mut() {
        command.extend([json!("--webhook"), json!(PORT.to_string())]);
    }
    container["ports"] = json!([{"containerPort": PORT}]);
    container["readinessProbe"] = json!({"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1});
    let labels = json!({"app": NAME});
    vec![
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT}]},
        }),
    ]
}

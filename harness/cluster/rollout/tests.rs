use assert_matches::assert_matches;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;

use super::*;
use crate::scenario::Growth;

/// Watches whose events a test sends.
struct Watches {
    pods: Writer<Pod>,
    replica_sets: Writer<ReplicaSet>,
    deployments: Writer<Deployment>,
    changed: watch::Sender<u64>,
}

impl Watches {
    fn new() -> (Self, Workloads) {
        let ((pods, pod_writer), (replica_sets, set_writer)) = (store(), store());
        let (deployments, deployment_writer) = store();
        let (sender, changes) = watch::channel(0);
        let watches =
            Self { pods: pod_writer, replica_sets: set_writer, deployments: deployment_writer, changed: sender };
        (watches, Workloads { pods, replica_sets, deployments, changes, _watches: JoinSet::new() })
    }

    fn deployment(&mut self, uid: &str, revision: u32, replicas: u32) {
        let text = format!(
            "metadata: {{name: hello, namespace: default, uid: {uid}, generation: {revision}, annotations: {{{REVISION}: '{revision}'}}}}
spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: hello}}}}, template: {{}}}}
status: {{observedGeneration: {revision}, updatedReplicas: {replicas}, replicas: {replicas}, availableReplicas: {replicas}}}"
        );
        self.deployments.apply_watcher_event(&Event::Apply(serde_yaml::from_str(&text).unwrap()));
        self.changed.send_modify(|change| *change += 1);
    }

    fn no_deployment(&mut self, uid: &str) {
        let text = format!("metadata: {{name: hello, namespace: default, uid: {uid}}}");
        self.deployments.apply_watcher_event(&Event::Delete(serde_yaml::from_str(&text).unwrap()));
        self.changed.send_modify(|change| *change += 1);
    }

    fn replica_set(&mut self, uid: &str, owner: &str, revision: u32) {
        let text = format!(
            "metadata:
  name: hello-{uid}
  uid: {uid}
  annotations: {{{REVISION}: '{revision}'}}
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: hello, uid: {owner}, controller: true}}]
spec: {{selector: {{}}}}"
        );
        self.replica_sets.apply_watcher_event(&Event::Apply(serde_yaml::from_str(&text).unwrap()));
        self.changed.send_modify(|change| *change += 1);
    }

    fn pod(&mut self, name: &str, set: &str, state: &str) {
        let (leaving, ready) = match state {
            "leaving" => (", deletionTimestamp: '2026-01-01T00:00:00Z'", "True"),
            "ready" => ("", "True"),
            _ => ("", "False"),
        };
        let text = format!(
            "metadata:
  {{name: {name}, namespace: default, uid: {name}, labels: {{app: hello, pod-template-hash: {set}}}, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: hello-{set}, uid: {set}, controller: true}}]{leaving}}}
status: {{podIP: 10.0.0.1, phase: Running, conditions: [{{type: Ready, status: '{ready}'}}]}}"
        );
        self.pods.apply_watcher_event(&Event::Apply(pod(&text)));
        self.changed.send_modify(|change| *change += 1);
    }
}

fn applied(uid: &str, generation: i64) -> Vec<Applied> {
    vec![Applied { kind: "Deployment".to_owned(), name: "hello".to_owned(), uid: uid.to_owned(), generation }]
}

/// What the wait still waits for; none if it ends.
fn waits_for(workloads: &Workloads, applied: &[Applied], deleted: &[Deleted]) -> Option<String> {
    match workloads.progress(applied, deleted, &mut HashSet::new()) {
        Progress::Done(()) => None,
        Progress::NotYet(state) => Some(state),
        failed @ Progress::Failed(_) => panic!("{failed:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_does_not_end_while_the_watch_of_pods_lags_behind() {
    let (mut watches, workloads) = Watches::new();
    watches.replica_set("a", "d", 1);
    watches.pod("hello-a-1", "a", "ready");
    // the Deployment is complete with two pods; only one of them is seen
    watches.deployment("d", 1, 2);
    let events = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        watches.pod("hello-a-2", "a", "starting");
        tokio::time::sleep(Duration::from_secs(1)).await;
        watches.pod("hello-a-2", "a", "ready");
    };
    let start = tokio::time::Instant::now();
    let mut states = Vec::new();
    let applied = applied("d", 1);
    let gate = workloads.rolled_out(&applied, &[], Duration::from_secs(9), |state| states.push(state.to_owned()));
    let gate = async { (gate.await, start.elapsed()) };
    let ((passed, took), ()) = tokio::join!(gate, events);
    passed.unwrap();
    assert_eq!(took, Duration::from_secs(2));
    assert_eq!(
        states,
        [
            "hello: rolled out, but 1 of 2 pods of its current ReplicaSet are seen",
            "hello: rolled out, but pod hello-a-2 is not seen as ready yet",
        ]
    );
}

#[test]
fn the_wait_ends_when_new_pods_are_ready_and_old_ones_terminating() {
    let (mut watches, workloads) = Watches::new();
    let applied = applied("d", 2);
    watches.replica_set("a", "d", 1);
    watches.pod("hello-a-1", "a", "ready");
    watches.deployment("d", 2, 1);
    let told = |workloads: &Workloads| waits_for(workloads, &applied, &[]).unwrap_or_default();
    assert_eq!(told(&workloads), "hello: rolled out, but its current ReplicaSet is not seen yet");
    watches.replica_set("b", "d", 2);
    assert_eq!(told(&workloads), "hello: rolled out, but 0 of 1 pods of its current ReplicaSet are seen");
    watches.pod("hello-b-1", "b", "ready");
    assert_eq!(told(&workloads), "hello: rolled out, but 1 pods of other ReplicaSets are seen");
    // pods of another Deployment with the same labels do not count
    watches.replica_set("x", "other", 1);
    watches.pod("other-x-1", "x", "ready");
    watches.pod("hello-a-1", "a", "leaving");
    assert_eq!(waits_for(&workloads, &applied, &[]), None);
    // a pod of a ReplicaSet that is not watched yet may belong to the Deployment
    watches.pod("hello-c-1", "c", "ready");
    assert_eq!(told(&workloads), "hello: rolled out, but 1 pods of other ReplicaSets are seen");
}

#[test]
fn the_wait_ends_when_pods_of_a_deleted_deployment_are_terminating() {
    let (mut watches, workloads) = Watches::new();
    let deleted = [Deleted { kind: "Deployment".to_owned(), name: "hello".to_owned(), uid: "d".to_owned() }];
    watches.deployment("d", 1, 1);
    watches.replica_set("a", "d", 1);
    watches.pod("hello-a-1", "a", "ready");
    assert_eq!(waits_for(&workloads, &[], &deleted).unwrap(), "hello is still seen");
    watches.no_deployment("d");
    let told = "pod hello-a-1 of the deleted hello is not terminating yet";
    assert_eq!(waits_for(&workloads, &[], &deleted).unwrap(), told);
    watches.pod("hello-a-1", "a", "leaving");
    assert_eq!(waits_for(&workloads, &[], &deleted), None);
}

/// How a rollout of a Deployment ends that needs a second generation, and after how many seconds.
async fn ended(workloads: &Workloads) -> (String, u64) {
    let start = tokio::time::Instant::now();
    let waited = workloads.rolled_out(&applied("d", 2), &[], Duration::from_secs(180), |_| {}).await;
    (waited.unwrap_err().to_string(), start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_no_controller_looks_at_ends_the_wait() {
    let (mut watches, workloads) = Watches::new();
    let never = "the rollout of hello cannot succeed: no controller has looked at the Deployment hello for 40 s";
    let slow = "the rollout of hello took longer than 180 s; last state: hello: 0 of 2 ready";
    let mut status = |observed: u32, ready: u32| {
        let text = format!(
            "metadata: {{name: hello, namespace: default, uid: d, generation: 2}}
spec: {{replicas: 2, selector: {{}}, template: {{}}}}
status: {{observedGeneration: {observed}, readyReplicas: {ready}}}"
        );
        watches.deployments.apply_watcher_event(&Event::Apply(serde_yaml::from_str(&text).unwrap()));
    };
    status(1, 0);
    assert_eq!(ended(&workloads).await, (never.to_owned(), 40));
    // once it is looked at, the rollout has its whole time
    status(2, 0);
    assert_eq!(ended(&workloads).await, (slow.to_owned(), 180));
    status(2, 1);
    watches.replica_set("a", "d", 2);
    watches.pod("hello-a-1", "a", "ready");
    watches.pod("hello-a-2", "a", "starting");
    assert_eq!(ended(&workloads).await, (slow.to_owned(), 180));
    // a pod became ready, and nobody has counted it
    watches.pod("hello-a-2", "a", "ready");
    assert_eq!(ended(&workloads).await, (never.to_owned(), 40));
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_someone_else_deletes_ends_the_wait() {
    let (mut watches, workloads) = Watches::new();
    watches.deployment("d", 1, 2);
    let applied = applied("d", 1);
    let gate = workloads.rolled_out(&applied, &[], Duration::from_secs(9), |_| {});
    let events = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        watches.no_deployment("d");
    };
    let (gate, ()) = tokio::join!(gate, events);
    let Err(ClusterError::Wait(WaitError::Failed { source, .. })) = gate else { panic!("it ends with the wait") };
    assert_matches!(source, Failure::Deleted(name) => {
        assert_eq!(name, "hello");
    });
}

fn growth(wanted: i32) -> Growth {
    let origin = "scenario.yaml:1:1".parse().unwrap();
    let within = Duration::from_secs(9);
    Growth { pods: [("hello".to_owned(), wanted)].into(), within, is_followed: false, origin }
}

#[tokio::test(start_paused = true)]
async fn pods_that_something_else_starts_are_waited_for() {
    let (mut watches, workloads) = Watches::new();
    watches.replica_set("a", "d", 1);
    watches.pod("hello-a-1", "a", "ready");
    watches.deployment("d", 1, 1);
    let (two, mut states) = (growth(2), Vec::new());
    let grown = workloads.grown("default", &two, |state| states.push(state.to_owned()));
    let events = async {
        let second = || tokio::time::sleep(Duration::from_secs(1));
        second().await;
        watches.pod("hello-a-2", "a", "starting");
        second().await;
        // ready, and not counted yet
        watches.pod("hello-a-2", "a", "ready");
        second().await;
        watches.deployment("d", 1, 2);
    };
    let (grown, ()) = tokio::join!(grown, events);
    assert_eq!(grown.unwrap(), ["Deployment/hello: 2 pods, 1 before"]);
    assert_eq!(states, ["hello: 1 of 2 ready"]);
    // a pod that leaves does not count
    watches.pod("hello-a-1", "a", "leaving");
    let told = workloads.grown("default", &two, |_| {}).await.unwrap_err().to_string();
    assert_eq!(told, "2 pods of hello took longer than 9 s; last state: hello: 1 of 2 ready");
    let told = workloads.grown("elsewhere", &two, |_| {}).await.unwrap_err().to_string();
    assert_eq!(told, "2 pods of hello took longer than 9 s; last state: hello: not created yet");
}

fn pod(yaml: &str) -> Pod {
    serde_yaml::from_str(yaml).unwrap()
}

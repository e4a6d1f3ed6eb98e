use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::gates::{self, Gates};
use super::rollout::Acted;
use super::status::{Before, ChangeMark, ControllerStatus};
use super::writes::{ObservedWrite, Watched, Writes, changed_fields};
use super::{ControllerError, canary, rollout};
use crate::cluster::wait::{Again, Awaited, Progress, WaitError, until};
use crate::cluster::{ClusterError, PodState, pod_state, pod_troubles};
use crate::scenario::{self, Action, Canary, Controlled, ControllerKind, ControllerWait, Manifest};

const INTERVAL: Duration = Duration::from_millis(50);
/// The timeout for listing the warnings of a controller.
const WARNINGS_LIMIT: Duration = Duration::from_secs(5);
/// The number of warnings in a message.
const WARNINGS: usize = 2;

/// The kinds of the objects by which requests are routed, each with its API group and version.
const RULES: [(&str, &str, &str); 3] = [
    ("", "v1", "Service"),
    ("networking.istio.io", "v1", "DestinationRule"),
    ("networking.istio.io", "v1", "VirtualService"),
];

/// The object with which a controller moves the traffic of a namespace, if there is one, and the rules by which requests are routed there.
/// Clones share the watches.
#[derive(Clone)]
pub struct ControlledObjects {
    client: Client,
    namespace: String,
    writes: Writes,
}

impl ControlledObjects {
    /// Starts to watch the rules of a namespace and the controlled object, if there is one.
    pub fn watch(client: &Client, namespace: &str, object: Option<&Controlled>) -> Self {
        let rules = RULES.map(|(group, version, kind)| Watched {
            kind,
            api: api(client, namespace, group, version, kind),
            config: watcher::Config::default(),
            describe: changed_fields,
        });
        let controlled = object.map(|object| Watched {
            kind: object.group_and_kind().1,
            api: controlled(client, namespace, object),
            config: watcher::Config::default().fields(&format!("metadata.name={}", object.name)),
            describe: match object.kind {
                ControllerKind::ArgoRollouts => {
                    |before, now| changed_state(&rollout::read(before), &rollout::read(now))
                }
                ControllerKind::Flagger => |before, now| changed_state(&canary::read(before), &canary::read(now)),
            },
        });
        let writes = Writes::watch(rules.into_iter().chain(controlled));
        Self { client: client.clone(), namespace: namespace.to_owned(), writes }
    }

    /// What was written to the object and the rules since a time, in the order of the cluster's store.
    pub fn writes_since(&self, time: Instant) -> Vec<ObservedWrite> {
        self.writes.since(time)
    }

    /// A number that every change of the object or the rules increases, as soon as a watch shows it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.writes.changes()
    }

    /// The pods of the namespace.
    ///
    /// # Errors
    /// The API server does not list them.
    pub async fn pods(&self) -> Result<Vec<PodState>, ClusterError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = pods.list(&ListParams::default()).await.map_err(ClusterError::api("listing pods".to_owned()))?;
        Ok(listed.items.iter().map(pod_state).collect())
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        api(&self.client, &self.namespace, group, version, kind)
    }

    fn controlled(&self, object: &Controlled) -> Api<DynamicObject> {
        controlled(&self.client, &self.namespace, object)
    }

    /// The objects by which the requests of the namespace are routed: kind, name and data of each.
    ///
    /// # Errors
    /// The API server does not list them.
    pub async fn rules(&self) -> Result<Vec<(&'static str, String, Value)>, ClusterError> {
        let lists = RULES.map(|(group, version, kind)| async move {
            let listed = self.api(group, version, kind).list(&ListParams::default()).await;
            let listed = listed.map_err(ClusterError::api(format!("listing every {kind}")))?;
            Ok::<_, ClusterError>(listed.items.into_iter().map(move |object| (kind, object.name_any(), object.data)))
        });
        Ok(futures::future::try_join_all(lists).await?.into_iter().flatten().collect())
    }

    /// Starts to answer the webhooks of a Canary that have these names.
    ///
    /// # Errors
    /// The client pod does not run, or the program does not start in it.
    pub async fn gates(
        &self,
        client: &scenario::Client,
        manifest: &Manifest,
        names: &[&str],
    ) -> Result<Gates, ControllerError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        Gates::start(&pods, client, gates::at_rest(manifest, names)).await
    }

    /// Acts on an object as `kubectl argo rollouts` does.
    ///
    /// # Errors
    /// The object is not there, or the API server refuses.
    pub async fn act(&self, object: &Controlled, action: Action) -> Result<ChangeMark, ControllerError> {
        let api = self.controlled(object);
        let doing = || format!("{action} of {object}");
        let found = api.get(&object.name).await.map_err(ClusterError::api(doing()))?;
        let Acted { status, spec } = rollout::patches(&found.data, action);
        let parameters = PatchParams::default();
        let mut made = found;
        if let Some(status) = status {
            let patched = api.patch_status(&object.name, &parameters, &Patch::Merge(json!({"status": status}))).await;
            made = patched.map_err(ClusterError::api(doing()))?;
        }
        if let Some(spec) = spec {
            let patched = api.patch(&object.name, &parameters, &Patch::Merge(json!({"spec": spec}))).await;
            made = patched.map_err(ClusterError::api(doing()))?;
        }
        Ok(ChangeMark { acted: made.metadata.resource_version, before: None })
    }

    /// The state of an object.
    ///
    /// # Errors
    /// The object is not there, or the API server does not answer.
    pub async fn status(&self, object: &Controlled) -> Result<ControllerStatus, ControllerError> {
        let found = self.controlled(object).get(&object.name).await;
        let found = found.map_err(ClusterError::api(format!("reading {object}")))?;
        Ok(read(object.kind, &found))
    }

    /// The state of an object, and the weight of the new version in the live route of a Canary, in percent.
    ///
    /// # Errors
    /// The object is not there, or the API server does not answer.
    pub async fn routed(&self, object: &Controlled) -> Result<(ControllerStatus, Option<u32>), ControllerError> {
        let doing = || format!("reading {object}");
        let found = self.controlled(object).get(&object.name).await.map_err(ClusterError::api(doing()))?;
        let route = match object.kind {
            ControllerKind::ArgoRollouts => None,
            ControllerKind::Flagger => {
                self.route_weight(&found).await.map_err(ClusterError::api(format!("{} and its route", doing())))?
            }
        };
        Ok((read(object.kind, &found), route))
    }

    /// The mark of a change of the workload of an object, taken before the change.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn mark(&self, object: &Controlled) -> Result<ChangeMark, ControllerError> {
        let found = self.controlled(object).get_opt(&object.name).await;
        let found = found.map_err(ClusterError::api(format!("reading {object}")))?;
        let before = found.map(|found| {
            let ControllerStatus { phase, revision, .. } = read(object.kind, &found);
            Before { phase, revision }
        });
        Ok(ChangeMark { acted: None, before })
    }

    /// Waits until the controller has brought an object to a state, after it has seen a change.
    ///
    /// # Errors
    /// The object is degraded or has failed, the wait times out, or the API server refuses; with the controller's own last warnings.
    pub async fn reached(
        &self,
        object: &Controlled,
        wait: &ControllerWait,
        after: &ChangeMark,
        seen: impl FnMut(&str),
    ) -> Result<ControllerStatus, WaitError> {
        let (api, what) = (self.controlled(object), Awaited::Controlled(object.to_string(), wait.to_string()));
        let has_seen = AtomicBool::new(false);
        let again = match object.kind {
            // read after each change, since a watch may lag behind
            ControllerKind::ArgoRollouts => Again::OnChange(self.writes.changes()),
            ControllerKind::Flagger => Again::Every(INTERVAL),
        };
        let waited = until(what, wait.within, again, seen, async || match api.get_opt(&object.name).await {
            Ok(Some(found)) => self.progress(object.kind, &found, wait, after, &has_seen).await,
            Ok(None) => Progress::NotYet("not created yet".to_owned()),
            Err(error) => Progress::after(error),
        });
        let waited = waited.await;
        let Err(mut error) = waited else { return waited };
        let troubles = pod_troubles(&self.client, &self.namespace).await;
        for found in troubles.into_iter().chain(last_warnings(self.warnings(object).await)) {
            error.add(&found);
        }
        Err(error)
    }

    async fn progress(
        &self,
        kind: ControllerKind,
        found: &DynamicObject,
        wait: &ControllerWait,
        after: &ChangeMark,
        has_seen: &AtomicBool,
    ) -> Progress<ControllerStatus> {
        let status = read(kind, found);
        if kind == ControllerKind::ArgoRollouts {
            return rollout::progress(status, wait, after);
        }
        let route = match wait.weight {
            None => None,
            Some(_) => match self.route_weight(found).await {
                Ok(route) => route,
                Err(error) => return Progress::after(error),
            },
        };
        canary::progress(status, route, wait, after, has_seen)
    }

    /// The weight of the new version in the live route of a Canary, in percent; none if no route leads to it.
    async fn route_weight(&self, found: &DynamicObject) -> Result<Option<u32>, kube::Error> {
        let canary = Canary::new(&found.data);
        let [_, _, (group, version, rules)] = RULES;
        let route = self.api(group, version, rules).get_opt(canary.apex()).await?;
        Ok(route.and_then(|route| canary::route_weight(canary, &route.data)))
    }

    /// The warnings that the controller has written about an object, the oldest first; none if they cannot be listed.
    pub async fn warnings(&self, object: &Controlled) -> Vec<Warning> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let (_, kind) = object.group_and_kind();
        let fields = format!("involvedObject.kind={kind},involvedObject.name={},type=Warning", object.name);
        let listed = tokio::time::timeout(WARNINGS_LIMIT, events.list(&ListParams::default().fields(&fields))).await;
        let mut events = listed.ok().and_then(Result::ok).map(|listed| listed.items).unwrap_or_default();
        // times have seconds only
        events.sort_by_key(|event| event.resource_version().and_then(|version| version.parse::<u64>().ok()));
        let warning = |event: Event| {
            let version = event.resource_version().unwrap_or_default();
            event.message.map(|message| Warning { version, message })
        };
        events.into_iter().filter_map(warning).collect()
    }
}

/// A warning of a controller about its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Changes each time that the controller writes the warning again.
    pub version: String,
    /// What the controller says.
    pub message: String,
}

/// The last few warnings, in words.
#[must_use]
pub fn last_warnings(warnings: Vec<Warning>) -> Vec<String> {
    let skipped = warnings.len().saturating_sub(WARNINGS);
    warnings.into_iter().skip(skipped).map(|warning| warning.message).collect()
}

fn api(client: &Client, namespace: &str, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn controlled(client: &Client, namespace: &str, object: &Controlled) -> Api<DynamicObject> {
    let (group, kind) = object.group_and_kind();
    let version = match object.kind {
        ControllerKind::ArgoRollouts => "v1alpha1",
        ControllerKind::Flagger => "v1beta1",
    };
    api(client, namespace, group, version, kind)
}

/// The new state of a controlled object, if it is another one in words.
fn changed_state(before: &ControllerStatus, now: &ControllerStatus) -> Vec<String> {
    let [before, now] = [before, now].map(ToString::to_string);
    if before == now { Vec::new() } else { vec![now] }
}

fn read(kind: ControllerKind, object: &DynamicObject) -> ControllerStatus {
    match kind {
        ControllerKind::ArgoRollouts => rollout::read(object),
        ControllerKind::Flagger => canary::read(object),
    }
}

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A write that a watch has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedWrite {
    /// When it was seen, at the latest.
    pub seen: Instant,
    /// `Kind/name`.
    pub object: String,
    /// What changed, in words.
    pub changes: Vec<String>,
    /// The spec of the object after the write.
    pub spec: Value,
    /// The revision of the cluster's store, by which writes are ordered.
    revision: u64,
}

/// Watches of objects, and the writes that they have shown. Clones share the watches.
#[derive(Clone)]
pub(super) struct Writes {
    log: Log,
    _watches: Arc<JoinSet<()>>,
}

#[derive(Clone)]
struct Log {
    writes: Arc<Mutex<Vec<ObservedWrite>>>,
    changed: watch::Sender<u64>,
}

/// Objects to watch.
pub(super) struct Watched {
    pub kind: &'static str,
    pub api: Api<DynamicObject>,
    pub config: watcher::Config,
    /// What changed from one state of an object to the next, in words; nothing if nobody needs to know.
    pub describe: fn(&DynamicObject, &DynamicObject) -> Vec<String>,
}

impl Writes {
    /// Starts the watches.
    pub fn watch(watched: impl IntoIterator<Item = Watched>) -> Self {
        let log = Log { writes: Arc::default(), changed: watch::Sender::new(0) };
        let mut tasks = JoinSet::new();
        for Watched { kind, api, config, describe } in watched {
            let log = log.clone();
            tasks.spawn(async move {
                let mut known = Known { kind, objects: Vec::new(), describe };
                // a failed watch restarts by itself
                let stream = watcher(api, config).default_backoff();
                let mut stream = stream.inspect_err(|error| tracing::debug!(%error, "a watch failed")).boxed();
                while let Some(event) = stream.next().await {
                    if let Ok(event) = event {
                        log.take(known.next(event));
                    }
                }
            });
        }
        Self { log, _watches: Arc::new(tasks) }
    }

    /// A number that every change of a watched object increases.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.log.changed.subscribe()
    }

    /// The writes since a time, in the order of the cluster's store.
    pub fn since(&self, time: Instant) -> Vec<ObservedWrite> {
        let mut writes = self.log.writes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        writes.retain(|write| write.seen >= time);
        in_order(writes)
    }
}

impl Log {
    fn take(&self, write: Option<ObservedWrite>) {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).extend(write);
        self.changed.send_modify(|revision| *revision += 1);
    }
}

/// Orders writes by revision. One watch may show a write later than another watch shows the next one: it was seen too late then.
fn in_order(mut writes: Vec<ObservedWrite>) -> Vec<ObservedWrite> {
    writes.sort_by_key(|write| (write.revision, write.seen));
    let mut next = None;
    for write in writes.iter_mut().rev() {
        write.seen = next.map_or(write.seen, |next| write.seen.min(next));
        next = Some(write.seen);
    }
    writes
}

/// The objects of a watch as they were seen last.
struct Known {
    kind: &'static str,
    objects: Vec<DynamicObject>,
    describe: fn(&DynamicObject, &DynamicObject) -> Vec<String>,
}

impl Known {
    /// The write that an event of the watch shows. The objects that are there when the watch starts are no writes.
    fn next(&mut self, event: Event<DynamicObject>) -> Option<ObservedWrite> {
        let (now, changes) = match event {
            Event::Init | Event::InitDone => return None,
            Event::InitApply(now) => (now, Vec::new()),
            Event::Apply(now) => (now, vec!["created".to_owned()]),
            Event::Delete(now) => {
                self.objects.retain(|own| own.name_any() != now.name_any());
                return self.write(&now, vec!["deleted".to_owned()]);
            }
        };
        let changes = if let Some(before) = self.objects.iter_mut().find(|own| own.name_any() == now.name_any()) {
            let changes = (self.describe)(before, &now);
            before.clone_from(&now);
            changes
        } else {
            self.objects.push(now.clone());
            changes
        };
        self.write(&now, changes)
    }

    fn write(&self, object: &DynamicObject, changes: Vec<String>) -> Option<ObservedWrite> {
        let revision = object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
        // items of a list do not always have their kind
        let id = format!("{}/{}", self.kind, object.name_any());
        (!changes.is_empty()).then(|| ObservedWrite {
            seen: Instant::now(),
            object: id,
            changes,
            spec: object.data["spec"].clone(),
            revision,
        })
    }
}

/// The changed fields of an object's spec: `http[primary].route[canary].weight: 20 instead of 0`.
pub(super) fn changed_fields(before: &DynamicObject, now: &DynamicObject) -> Vec<String> {
    let mut changes = Vec::new();
    compare("", before.data.get("spec"), now.data.get("spec"), &mut changes);
    changes
}

fn compare(path: &str, before: Option<&Value>, now: Option<&Value>, changes: &mut Vec<String>) {
    if before == now {
        return;
    }
    match (before, now) {
        (Some(Value::Object(before)), Some(Value::Object(now))) => {
            let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, before.get(key), now.get(key), changes);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(now))) => {
            let (before, now) = (named(before), named(now));
            let added = now.iter().filter(|(name, _)| before.iter().all(|(own, _)| own != name));
            for (name, item) in &before {
                let other = now.iter().find(|(own, _)| own == name).map(|(_, item)| *item);
                compare(&format!("{path}[{name}]"), Some(item), other, changes);
            }
            changes.extend(added.map(|(name, _)| format!("{path}[{name}]: added")));
        }
        (Some(_), None) => changes.push(format!("{path}: removed")),
        (None, Some(now)) => changes.push(format!("{path}: {}", shown(now))),
        (Some(before), Some(now)) => changes.push(format!("{path}: {} instead of {}", shown(now), shown(before))),
        (None, None) => {}
    }
}

/// The items of a list, each with its name: that of a route or subset, or of the destination of a route, or else its position.
fn named(items: &[Value]) -> Vec<(String, &Value)> {
    let name = |position: usize, item: &Value| {
        let names = ["/name", "/destination/subset", "/destination/host"];
        let name = names.iter().find_map(|pointer| item.pointer(pointer).and_then(Value::as_str));
        name.map_or_else(|| position.to_string(), ToOwned::to_owned)
    };
    items.iter().enumerate().map(|(position, item)| (name(position, item), item)).collect()
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn rule(spec: &Value) -> DynamicObject {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "hello", "resourceVersion": "7"}, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    fn routes(stable: u32, canary: u32) -> Value {
        json!({"http": [{"name": "primary", "route": [
            {"destination": {"host": "hello", "subset": "stable"}, "weight": stable},
            {"destination": {"host": "hello", "subset": "canary"}, "weight": canary},
        ]}]})
    }

    #[rstest]
    #[case::nothing(routes(100, 0), routes(100, 0), &[])]
    #[case::weights(
        routes(100, 0), routes(80, 20),
        &["http[primary].route[stable].weight: 80 instead of 100", "http[primary].route[canary].weight: 20 instead of 0"]
    )]
    #[case::hash(
        json!({"subsets": [{"name": "canary", "labels": {"app": "hello"}}]}),
        json!({"subsets": [{"name": "canary", "labels": {"app": "hello", "rollouts-pod-template-hash": "5f7"}}]}),
        &["subsets[canary].labels.rollouts-pod-template-hash: 5f7"]
    )]
    #[case::another_hash(
        json!({"selector": {"hash": "5f7"}}), json!({"selector": {"hash": "6c9"}}), &["selector.hash: 6c9 instead of 5f7"]
    )]
    #[case::added(
        json!({"http": [{"name": "primary"}]}), json!({"http": [{"name": "testers"}, {"name": "primary"}]}),
        &["http[testers]: added"]
    )]
    #[case::removed(
        json!({"http": [{"name": "testers"}, {"name": "primary"}]}), json!({"http": [{"name": "primary"}]}),
        &["http[testers]: removed"]
    )]
    fn changed_fields_are_named(#[case] before: Value, #[case] now: Value, #[case] expected: &[&str]) {
        assert_eq!(changed_fields(&rule(&before), &rule(&now)), expected);
    }

    #[test]
    fn what_is_there_when_a_watch_starts_is_no_write() {
        let mut known = Known { kind: "VirtualService", objects: Vec::new(), describe: changed_fields };
        assert_eq!(known.next(Event::InitApply(rule(&routes(100, 0)))), None);
        // the watch was interrupted meanwhile
        let write = known.next(Event::InitApply(rule(&routes(80, 20)))).unwrap();
        assert_eq!((write.object.as_str(), write.changes.len(), write.revision), ("VirtualService/hello", 2, 7));
        assert_eq!(known.next(Event::Delete(rule(&routes(80, 20)))).unwrap().changes, ["deleted"]);
        assert_eq!(known.next(Event::Apply(rule(&routes(100, 0)))).unwrap().changes, ["created"]);
    }

    #[test]
    fn writes_are_in_the_order_of_the_store_whichever_watch_shows_them_first() {
        let start = Instant::now();
        let at = |revision: u64, after: u64| ObservedWrite {
            seen: start + Duration::from_millis(after),
            object: revision.to_string(),
            changes: Vec::new(),
            spec: Value::Null,
            revision,
        };
        let ordered = in_order(vec![at(9, 10), at(8, 15), at(10, 40)]);
        let ordered: Vec<_> = ordered.iter().map(|own| (own.object.as_str(), own.seen - start)).collect();
        let ms = Duration::from_millis;
        assert_eq!(ordered, [("8", ms(10)), ("9", ms(10)), ("10", ms(40))]);
    }
}

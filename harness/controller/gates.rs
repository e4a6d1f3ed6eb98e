use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::json;
use tokio::sync::mpsc;

use super::ControllerError;
use crate::cluster::{ClusterError, Session};
use crate::scenario::{Canary, Client, Gate, Manifest};
use crate::workload::{GATE_PORT, GateState};

/// Webhooks of a Canary that are answered by a program in the client pod. It ends when this is dropped.
pub struct Gates {
    /// The address of the webhooks, to which their names are added.
    base: String,
    /// By name, whether the answer is a success where no stage says otherwise.
    at_rest: BTreeMap<String, bool>,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    commands: mpsc::UnboundedSender<GateState>,
}

/// How a webhook is answered, and how often it was.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    open: bool,
    asked: u64,
}

impl Gates {
    /// Starts to answer the webhooks of these names.
    ///
    /// # Errors
    /// The client pod does not run, or the program does not start in it.
    pub(super) async fn start(
        pods: &Api<Pod>,
        client: &Client,
        at_rest: BTreeMap<String, bool>,
    ) -> Result<Self, ControllerError> {
        let failed = ControllerError::Gates;
        let found = pods.get(&client.pod).await;
        let found = found.map_err(|error| failed(ClusterError::api(format!("reading pod {}", client.pod))(error)))?;
        let address = found.status.and_then(|status| status.pod_ip).unwrap_or_default();
        // an IPv6 address is written in brackets
        let address = if address.contains(':') { format!("[{address}]") } else { address };
        let command = [client.driver.as_str(), "workload", "gates"];
        let mut session = Session::open(pods, &client.pod, &client.container, &command).await.map_err(failed)?;
        session.line().await.map_err(failed)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let known: Arc<Mutex<BTreeMap<String, Known>>> = Arc::default();
        tokio::spawn(relay(session, receiver, Arc::clone(&known)));
        let gates = Self { base: format!("http://{address}:{GATE_PORT}"), at_rest, known, commands };
        gates.reset();
        Ok(gates)
    }

    /// Answers a webhook as a stage says.
    pub fn set(&self, gate: &Gate) {
        self.answer(&gate.name, gate.open);
    }

    /// Answers each webhook as where no stage says otherwise.
    pub fn reset(&self) {
        for (name, open) in &self.at_rest {
            self.answer(name, *open);
        }
    }

    fn answer(&self, name: &str, open: bool) {
        lock(&self.known).entry(name.to_owned()).or_default().open = open;
        // the program may have ended; then the controller does not advance, and the wait for it says so
        let _ = self.commands.send(GateState { gate: name.to_owned(), open });
    }

    /// The Canary with the addresses of its webhooks that are answered here.
    pub fn redirected(&self, manifest: &Manifest) -> Manifest {
        let mut manifest = manifest.clone();
        for analysis in ["/spec/analysis/webhooks", "/spec/canaryAnalysis/webhooks"] {
            let webhooks = manifest.object.data.pointer_mut(analysis).and_then(|own| own.as_array_mut());
            for webhook in webhooks.into_iter().flatten() {
                if let Some(name) = webhook["name"].as_str().filter(|name| self.at_rest.contains_key(*name)) {
                    webhook["url"] = json!(format!("{}/{name}", self.base));
                }
            }
        }
        manifest
    }
}

impl std::fmt::Display for Gates {
    /// `gate promotion is open and was asked 3 times`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (name, Known { open, asked })) in lock(&self.known).iter().enumerate() {
            let (comma, state) = (if number > 0 { ", " } else { "" }, if *open { "open" } else { "closed" });
            let times = if *asked == 1 { "once".to_owned() } else { format!("{asked} times") };
            write!(formatter, "{comma}gate {name} is {state} and was asked {times}")?;
        }
        Ok(())
    }
}

/// By name, how the webhooks of these names are answered where no stage says otherwise: requests for a permission with a failure, checks with
/// a success.
pub(super) fn at_rest(manifest: &Manifest, names: &[&str]) -> BTreeMap<String, bool> {
    let webhooks = Canary::new(&manifest.object.data).webhooks();
    let own = webhooks.filter(|webhook| names.contains(&webhook.name));
    own.map(|webhook| (webhook.name.to_owned(), !webhook.is_request())).collect()
}

/// Passes on the commands, and counts how often each webhook was asked.
async fn relay(
    mut session: Session,
    mut commands: mpsc::UnboundedReceiver<GateState>,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
) {
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some(command) = command else { return };
                let line = serde_json::to_string(&command).unwrap_or_default();
                if session.send(&line).await.is_err() {
                    return;
                }
            }
            line = session.line() => {
                let Ok(line) = line else { return };
                if let Ok(GateState { gate, .. }) = serde_json::from_str(&line) {
                    lock(&known).entry(gate).or_default().asked += 1;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::{Origin, parse_manifests};

    const CANARY: &str = "
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: hello}
spec:
  analysis:
    webhooks:
      - {name: promotion, type: confirm-promotion, url: 'http://a'}
      - {name: back, type: rollback, url: 'http://b'}
      - {name: load, url: 'http://c'}
";

    fn gates(manifest: &Manifest, names: &[&str]) -> (Gates, mpsc::UnboundedReceiver<GateState>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let base = "http://10.0.0.1:18765".to_owned();
        (Gates { base, at_rest: at_rest(manifest, names), known: Arc::default(), commands }, receiver)
    }

    #[test]
    fn webhooks_that_a_stage_answers_get_another_address() {
        let manifest = parse_manifests(Path::new("canary.yaml"), CANARY).unwrap().remove(0);
        let redirected = gates(&manifest, &["promotion", "load"]).0.redirected(&manifest);
        let webhooks = redirected.at("/spec/analysis/webhooks").unwrap().as_array().unwrap().clone();
        let urls: Vec<&str> = webhooks.iter().map(|webhook| webhook["url"].as_str().unwrap()).collect();
        assert_eq!(urls, ["http://10.0.0.1:18765/promotion", "http://b", "http://10.0.0.1:18765/load"]);
    }

    #[tokio::test]
    async fn a_webhook_is_answered_as_a_stage_says_until_the_reset() {
        let manifest = parse_manifests(Path::new("canary.yaml"), CANARY).unwrap().remove(0);
        let (gates, mut commands) = gates(&manifest, &["promotion", "back", "load"]);
        gates.reset();
        gates.set(&Gate { name: "promotion".to_owned(), open: true, origin: Origin::new("scenario.yaml", 1, 1) });
        lock(&gates.known).entry("load".to_owned()).or_default().asked += 1;
        let expected = "gate back is closed and was asked 0 times, gate load is open and was asked once, \
                        gate promotion is open and was asked 0 times";
        assert_eq!(gates.to_string(), expected);
        let mut sent = Vec::new();
        while let Ok(GateState { gate, open }) = commands.try_recv() {
            sent.push((gate, open));
        }
        let sent: Vec<(&str, bool)> = sent.iter().map(|(gate, open)| (gate.as_str(), *open)).collect();
        assert_eq!(sent, [("back", false), ("load", true), ("promotion", false), ("promotion", true)]);
    }
}

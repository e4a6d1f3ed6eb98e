//! Replicas of the client pod, which share its requests: so that the routes of several sidecars are proved, and more requests are sent than
//! one pod can send.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::error::ScenarioError;
use super::kinds::{KindRef, Target};
use super::manifest::Manifest;
use super::model::{Client, OtherClient, Scenario, Sends, Stage, Step};

impl Client {
    /// How many pods may share the requests of the client.
    pub const REPLICAS: RangeInclusive<u16> = 1..=64;

    /// The replicas of the client pod, without the pod itself.
    pub fn replicas(&self) -> impl Iterator<Item = &OtherClient> {
        self.others.iter().filter(|own| own.sends == Sends::Share)
    }

    fn is_replica(&self, name: &str) -> bool {
        self.replicas().any(|own| own.name == name)
    }

    /// The client pod's manifest.
    fn own_manifest(&self) -> Option<&Manifest> {
        self.manifests.iter().find(|own| own.kind() == "Pod" && own.name() == self.pod)
    }

    /// Adds a replica of the client pod.
    fn replicate(&mut self, number: u16) -> Result<(), ScenarioError> {
        let Some(own) = self.own_manifest() else { return Ok(()) };
        let (mut pod, name) = (own.clone(), format!("{}-{number}", self.pod));
        let taken = self.manifests.iter().find(|own| own.kind() == "Pod" && *own.name() == *name);
        if let Some(taken) = taken {
            let message = format!("the name of the replica `{name}` of the client pod is used by {}", taken.origin);
            return Err(ScenarioError::Malformed { origin: own.origin.clone(), message });
        }
        let labels = pod.object.metadata.labels.clone().filter(|labels| !labels.is_empty());
        let spec = pod.object.data.pointer_mut("/spec").and_then(Value::as_object_mut);
        if let (Some(labels), Some(spec)) = (labels, spec) {
            let spread = json!([{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": labels },
            }]);
            spec.entry("topologySpreadConstraints").or_insert(spread);
        }
        pod.object.metadata.name.clone_from(&name);
        let origin = pod.origin.clone();
        self.others.push(OtherClient { name, namespace: None, sidecar: true, sends: Sends::Share, origin });
        self.manifests.push(pod);
        Ok(())
    }
}

impl Scenario {
    /// The scenario with so many client pods, which share the requests of the client's populations. Populations with sessions are the
    /// client pod's alone.
    ///
    /// # Errors
    /// Another pod has the name of a replica.
    pub fn with_clients(mut self, number: u16) -> Result<Self, ScenarioError> {
        let Self { client, stages, .. } = &mut self;
        let is_replica = |step: &Step| match step {
            Step::Delete(target) => client.is_replica(&target.name),
            _ => false,
        };
        for stage in stages.iter_mut() {
            stage.steps.retain(|step| !is_replica(step));
        }
        let names: Vec<String> = client.replicas().map(|own| own.name.clone()).collect();
        client.manifests.retain(|own| own.kind() != "Pod" || !names.iter().any(|name| own.name() == name));
        client.others.retain(|own| own.sends != Sends::Share);
        for number in 2..=number {
            client.replicate(number)?;
        }
        for stage in stages {
            end_replicas(client, stage);
        }
        Ok(self)
    }
}

/// Deletes the replicas where a stage deletes the client pod.
fn end_replicas(client: &Client, stage: &mut Stage) {
    let Some(at) = client.deletion(stage) else { return };
    let Step::Delete(own) = stage.steps[at].clone() else { return };
    let kind = KindRef::Exact { group: String::new(), kind: "Pod".to_owned(), namespace: None };
    let also = client
        .replicas()
        .map(|replica| Step::Delete(Target { kind: kind.clone(), name: replica.name.clone(), ..own.clone() }));
    let also: Vec<Step> = also.collect();
    stage.steps.splice((at + 1)..=at, also);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::scenario::manifest;

    use super::*;

    fn canary(replicas: &str) -> Result<Scenario, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary/scenario.yaml");
        let path = path.canonicalize().unwrap();
        let text = manifest::text(&path).unwrap();
        let text = text.replacen("container: httpbin}", &format!("container: httpbin, replicas: {replicas}}}"), 1);
        Scenario::parse(&path, &text).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }

    fn pods(scenario: &Scenario) -> Vec<&str> {
        scenario.client.manifests.iter().filter(|own| own.kind() == "Pod").map(Manifest::name).collect()
    }

    fn deleted(scenario: &Scenario) -> Vec<String> {
        let steps = scenario.stages.iter().flat_map(|stage| &stage.steps);
        let targets = steps.filter_map(|step| match step {
            Step::Delete(target) if target.name.starts_with("httpbin") => Some(target.name.clone()),
            _ => None,
        });
        targets.collect()
    }

    #[test]
    fn replicas_are_like_the_client_pod_and_end_with_it() {
        let scenario = canary("3").unwrap();
        assert_eq!(pods(&scenario), ["httpbin", "httpbin-2", "httpbin-3"]);
        let pod = |name: &str| scenario.client.manifests.iter().find(|own| own.name() == name).unwrap();
        let (own, replica) = (pod("httpbin"), pod("httpbin-3"));
        assert_eq!(own.object.metadata.labels, replica.object.metadata.labels);
        assert_eq!(own.at("/spec/containers"), replica.at("/spec/containers"));
        assert!(replica.at("/spec/topologySpreadConstraints/0/labelSelector/matchLabels").is_some());
        assert_eq!(deleted(&scenario), ["httpbin", "httpbin-2", "httpbin-3"]);
        // the command line may ask for another number
        let more = scenario.with_clients(4).unwrap();
        assert_eq!(deleted(&more), ["httpbin", "httpbin-2", "httpbin-3", "httpbin-4"]);
        let alone = more.with_clients(1).unwrap();
        assert_eq!((pods(&alone), deleted(&alone)), (vec!["httpbin"], vec!["httpbin".to_owned()]));
        assert_eq!(alone.client.others, []);
    }

    #[test]
    fn a_number_of_replicas_has_bounds() {
        for number in ["0", "65"] {
            let error = canary(number).unwrap_err();
            assert!(error.ends_with(&format!("{number} is not between 1 and 64")), "{error}");
        }
    }
}

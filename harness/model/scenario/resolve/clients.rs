//! The pods that send requests besides the client pod.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::{Resolver, is_dns_label};
use crate::scenario::error::ScenarioError;
use crate::scenario::kinds::{ApiKind, KindRef, Target};
use crate::scenario::manifest::Manifest;
use crate::scenario::model::{Client, OtherClient, Sends, Stage, Step};
use crate::scenario::parse::raw;
use crate::scenario::population::Population;
use crate::scenario::suggest::nearest;

/// The label that makes Istio inject a sidecar, or keeps it from doing so.
pub(super) const INJECT: &str = "sidecar.istio.io/inject";

/// Another pod that sends requests, with the labels that a Service may not select.
pub(super) struct Labelled {
    client: OtherClient,
    labels: BTreeMap<String, Spanned<String>>,
}

impl Resolver<'_> {
    /// The other pods that send requests, in the order of the file. Adds their manifests to those of the client.
    pub fn clients(
        &self,
        raw: impl IntoIterator<Item = (Spanned<String>, raw::OtherClient)>,
        declared: &str,
        client: &mut Client,
    ) -> Result<Vec<Labelled>, ScenarioError> {
        let mut written: Vec<_> = raw.into_iter().collect();
        written.sort_by_key(|(name, _)| (name.referenced.line(), name.referenced.column()));
        let (file, own) = (client.manifests.clone(), client.pod.clone());
        let mut clients = Vec::new();
        for (name, raw) in written {
            let is_taken = |manifest: &Manifest| manifest.kind() == "Pod" && *manifest.name() == *name.value;
            if !is_dns_label(&name.value) {
                let message =
                    format!("`{}` is not the name of a pod: letters, digits and dashes, at most 63", name.value);
                return self.error(name.referenced, message);
            }
            if name.value == client.outside_name() {
                let message = format!("`{}` is the name of the pod outside of the mesh", name.value);
                return self.error(name.referenced, message);
            }
            if let Some(other) = client.manifests.iter().find(|manifest| is_taken(manifest)) {
                let message = format!("the name of the pod `{}` is already used by {}", name.value, other.origin);
                return self.error(name.referenced, message);
            }
            let namespace = raw.namespace.filter(|own| own.value != declared);
            if let Some(namespace) = &namespace {
                self.made_by(&file, "Namespace", namespace)?;
            }
            if let Some(account) = raw.service_account.as_ref().filter(|account| account.value != "default") {
                let there = namespace.as_ref().map(|own| own.value.as_str());
                let is_there = |manifest: &&Manifest| elsewhere(manifest, declared) == there;
                let there: Vec<Manifest> = file.iter().filter(is_there).cloned().collect();
                self.made_by(&there, "ServiceAccount", account)?;
            }
            let mut labels = BTreeMap::new();
            for (key, value) in raw.labels {
                if key.value == INJECT {
                    return self
                        .error(key.referenced, format!("write `sidecar: false` instead of the label `{INJECT}`"));
                }
                labels.insert(key.value, value);
            }
            let other = OtherClient {
                origin: self.origin(name.referenced),
                name: name.value,
                namespace: namespace.map(|own| own.value),
                sidecar: raw.sidecar.unwrap_or(true),
                sends: Sends::ItsPopulations,
            };
            let account = raw.service_account.as_ref().map(|account| account.value.as_str());
            let is_client = |manifest: &&Manifest| manifest.kind() == "Pod" && manifest.name() == own;
            let pod = file.iter().find(is_client);
            client.manifests.extend(pod.map(|pod| like(pod, &other, &labels, account, raw.node_selector.as_ref())));
            client.others.push(other.clone());
            clients.push(Labelled { client: other, labels });
        }
        Ok(clients)
    }

    /// Refuses the name of an object that the client's manifests do not have.
    fn made_by(&self, manifests: &[Manifest], kind: &str, name: &Spanned<String>) -> Result<(), ScenarioError> {
        let of_kind = manifests.iter().filter(|manifest| manifest.kind() == kind);
        let known = of_kind.map(Manifest::name);
        if known.clone().any(|known| known == name.value) {
            return Ok(());
        }
        let meant = nearest(&name.value, known);
        let message = format!(
            "the manifest file of the client has no {kind} `{}`, which has to be there before the first stage{meant}",
            name.value
        );
        self.error(name.referenced, message)
    }

    /// The pod that a population names.
    pub fn sending(&self, pod: Spanned<String>, clients: &[OtherClient]) -> Result<String, ScenarioError> {
        if clients.iter().any(|own| own.name == pod.value) {
            return Ok(pod.value);
        }
        let meant = nearest(&pod.value, clients.iter().map(|own| own.name.as_str()));
        let message = format!("`clients` has no pod `{}`{meant}", pod.value);
        self.error(pod.referenced, message)
    }

    /// Refuses pods that send nothing, and pods that would also receive requests.
    pub fn only_send(
        &self,
        clients: &[Labelled],
        populations: &[Population],
        (client, declared): (&Client, &str),
        stages: &[Stage],
    ) -> Result<(), ScenarioError> {
        let manifests = || client.manifests.iter().chain(stages.iter().flat_map(Stage::applied));
        for Labelled { client: own, labels } in clients {
            if !populations.iter().any(|population| population.from_pod.as_ref() == Some(&own.name)) {
                let message = format!("no population is sent from pod `{}`: give one `from-pod: {0}`", own.name);
                return Err(ScenarioError::Malformed { origin: own.origin.clone(), message });
            }
            let is_beside = |manifest: &&Manifest| elsewhere(manifest, declared) == own.namespace.as_deref();
            for service in manifests().filter(|manifest| manifest.kind() == "Service").filter(is_beside) {
                let selector = service.at("/spec/selector").and_then(Value::as_object);
                let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { continue };
                let label = |(key, value): (&String, &Value)| labels.get(key).filter(|own| *value == *own.value);
                let selected: Option<Vec<&Spanned<String>>> = selector.iter().map(label).collect();
                if let Some([first, ..]) = selected.as_deref() {
                    let message = format!(
                        "the pod `{}` would receive requests: Service {} ({}) selects its labels",
                        own.name,
                        service.name(),
                        service.origin
                    );
                    return self.error(first.referenced, message);
                }
            }
        }
        Ok(())
    }
}

/// The namespace of an object that is not in the scenario's.
fn elsewhere<'a>(manifest: &'a Manifest, declared: &str) -> Option<&'a str> {
    manifest.object.metadata.namespace.as_deref().filter(|own| *own != declared)
}

/// A pod like the client's, with the properties of another client.
fn like(
    pod: &Manifest,
    other: &OtherClient,
    labels: &BTreeMap<String, Spanned<String>>,
    account: Option<&str>,
    node_selector: Option<&BTreeMap<String, String>>,
) -> Manifest {
    let mut pod = pod.clone();
    let metadata = &mut pod.object.metadata;
    metadata.name.clone_from(&other.name);
    metadata.namespace.clone_from(&other.namespace);
    let labels = labels.iter().map(|(key, value)| (key.clone(), value.value.clone()));
    metadata.labels = Some(labels.chain([(INJECT.to_owned(), other.sidecar.to_string())]).collect());
    if let Some(spec) = pod.object.data.pointer_mut("/spec").and_then(Value::as_object_mut) {
        // the client's own account is not in other namespaces
        spec.remove("serviceAccount");
        spec.insert("serviceAccountName".to_owned(), json!(account.unwrap_or("default")));
        if let Some(node_selector) = node_selector {
            spec.insert("nodeSelector".to_owned(), json!(node_selector));
        }
    }
    pod
}

impl Client {
    /// The position of the step by which a stage deletes the client's pod.
    pub(in crate::scenario) fn deletion(&self, stage: &Stage) -> Option<usize> {
        deleted(stage, |target| target.name == self.pod && is_of(target, "Pod"))
    }

    /// Deletes the other pods that send requests where a stage deletes the client's.
    pub(super) fn end_others(&self, stage: &mut Stage) {
        let Some(at) = self.deletion(stage) else { return };
        let Step::Delete(own) = stage.steps[at].clone() else { return };
        let exact = |other: &OtherClient| KindRef::Exact {
            group: String::new(),
            kind: "Pod".to_owned(),
            namespace: other.namespace.clone(),
        };
        // a namespace takes its pods with it
        let is_theirs = |target: &Target| {
            is_of(target, "Namespace") && self.others.iter().any(|other| other.namespace.as_ref() == Some(&target.name))
        };
        let before = deleted(stage, is_theirs).map_or(at + 1, |first| first.min(at + 1));
        let outside = self.outside.iter().map(|name| Target { name: name.clone(), ..own.clone() });
        let others =
            self.others.iter().map(|other| Target { kind: exact(other), name: other.name.clone(), ..own.clone() });
        let also: Vec<Step> = outside.chain(others).map(Step::Delete).collect();
        stage.steps.splice(before..before, also);
    }
}

/// The position of the first step that deletes such an object.
fn deleted(stage: &Stage, of: impl Fn(&Target) -> bool) -> Option<usize> {
    stage.steps.iter().position(|step| matches!(step, Step::Delete(target) if of(target)))
}

fn is_of(target: &Target, name: &str) -> bool {
    match &target.kind {
        KindRef::Exact { kind, .. } => kind == name,
        KindRef::Written(written) => ApiKind::of("", name).is_called(written),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use crate::scenario::manifest;
    use crate::scenario::model::{Scenario, Step};

    /// The scenario with callers of several kinds, with a change, or its error.
    fn callers(from: &str, to: &str) -> Result<Scenario, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/callers/scenario.yaml");
        let path = path.canonicalize().unwrap();
        let text = manifest::text(&path).unwrap();
        assert!(text.contains(from), "the scenario does not hold `{from}`");
        Scenario::parse(&path, &text.replacen(from, to, 1)).map_err(|error| {
            let folder = format!("{}/", path.parent().unwrap().parent().unwrap().display());
            error.to_string().lines().next().unwrap_or_default().replace(&folder, "")
        })
    }

    #[test]
    fn a_pod_is_like_the_clients_with_its_own_labels_namespace_and_account() {
        let scenario = callers("name: callers", "name: other").unwrap();
        let pods = || scenario.client.manifests.iter().filter(|own| own.kind() == "Pod");
        let pod = |name: &str| pods().find(|own| own.name() == name).unwrap();
        let (web, legacy) = (pod("web"), pod("legacy"));
        assert_eq!(web.object.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(web.at("/spec/serviceAccountName"), Some(&"web".into()));
        assert_eq!(web.at("/spec/containers"), pod("httpbin").at("/spec/containers"));
        let labels = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(web.object.metadata.labels, labels(&[("app", "web"), ("sidecar.istio.io/inject", "true")]));
        assert_eq!(legacy.object.metadata.labels, labels(&[("app", "batch"), ("sidecar.istio.io/inject", "false")]));
        assert_eq!(scenario.population("web").unwrap().sender().to_string(), "from pod web");
    }

    #[test]
    fn the_pods_go_with_the_client_and_before_their_namespaces() {
        let scenario =
            callers("      - pod/httpbin\n      - namespace/shop\n", "      - namespace/shop\n      - pod/httpbin\n");
        let deleted = scenario.unwrap().stages[3]
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Delete(target) => Some(format!("{}/{}", target.kind, target.name)),
                _ => None,
            })
            .skip(6)
            .collect::<Vec<_>>();
        let expected = [
            "Pod/batch",
            "Pod/web",
            "Pod/night-batch",
            "Pod/partner",
            "Pod/legacy",
            "namespace/shop",
            "pod/httpbin",
            "namespace/partner",
        ];
        assert_eq!(deleted, expected);
    }

    #[rstest]
    #[case::no_such_pod(
        "{from-pod: partner}",
        "{from-pod: parner}",
        "callers/scenario.yaml:20:23: `clients` has no pod `parner`; did you mean `partner`?"
    )]
    #[case::no_such_namespace(
        "namespace: shop, labels: {app: web}",
        "namespace: shopp, labels: {app: web}",
        "callers/scenario.yaml:8:20: the manifest file of the client has no Namespace `shopp`, which has to be there before the first stage; did you mean `shop`?"
    )]
    #[case::no_such_account(
        "service-account: web",
        "service-account: wep",
        "callers/scenario.yaml:8:63: the manifest file of the client has no ServiceAccount `wep`, which has to be there before the first stage; did you mean `web`?"
    )]
    #[case::account_of_another_namespace(
        "{namespace: partner}",
        "{namespace: partner, service-account: web}",
        "callers/scenario.yaml:10:50: the manifest file of the client has no ServiceAccount `web`, which has to be there before the first stage"
    )]
    #[case::name_of_the_client(
        "  batch: {labels: {app: batch}}\n",
        "  httpbin: {labels: {app: batch}}\n",
        "callers/scenario.yaml:7:3: the name of the pod `httpbin` is already used by callers/clients.yaml:2:1"
    )]
    #[case::name_of_the_pod_outside(
        "  batch: {labels: {app: batch}}\n",
        "  httpbin-outside: {labels: {app: batch}}\n",
        "callers/scenario.yaml:7:3: `httpbin-outside` is the name of the pod outside of the mesh"
    )]
    #[case::not_a_name(
        "  batch: {labels: {app: batch}}\n",
        "  Batch: {labels: {app: batch}}\n",
        "callers/scenario.yaml:7:3: `Batch` is not the name of a pod: letters, digits and dashes, at most 63"
    )]
    #[case::labels_of_a_server(
        "  batch: {labels: {app: batch}}\n",
        "  batch: {labels: {app: hello, track: x}}\n",
        "callers/scenario.yaml:7:25: the pod `batch` would receive requests: Service svc-hello (canary/svc-hello.yaml:1:1) selects its labels"
    )]
    #[case::the_label_of_injection(
        "  batch: {labels: {app: batch}}\n",
        "  batch: {labels: {sidecar.istio.io/inject: 'false'}}\n",
        "callers/scenario.yaml:7:20: write `sidecar: false` instead of the label `sidecar.istio.io/inject`"
    )]
    #[case::no_population(
        "  legacy: {from-pod: legacy}\n",
        "",
        "callers/scenario.yaml:35:16: no population is named `legacy`"
    )]
    #[case::two_senders(
        "{from-pod: batch}",
        "{from-pod: batch, through: gateway/hello, host: hello.example.com}",
        "callers/scenario.yaml:17:21: a population has only one of `from-pod` and `through`"
    )]
    fn what_cannot_send_is_refused(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
        assert_eq!(callers(from, to).unwrap_err(), expected);
    }

    #[test]
    fn a_pod_that_sends_nothing_is_refused() {
        let message = callers("  partner: {namespace: partner}\n", "  partner: {namespace: partner}\n  idle: {}\n");
        let expected = "callers/scenario.yaml:11:3: no population is sent from pod `idle`: give one `from-pod: idle`";
        assert_eq!(message.unwrap_err(), expected);
    }

    #[test]
    fn an_unknown_key_is_told_with_the_one_that_is_meant() {
        let message = callers("{namespace: partner}", "{namespace: partner, sidecars: false}").unwrap_err();
        assert!(message.starts_with("callers/scenario.yaml:10:33: unknown field `sidecars`"), "{message}");
        assert!(message.contains("did you mean `sidecar`?"), "{message}");
    }
}

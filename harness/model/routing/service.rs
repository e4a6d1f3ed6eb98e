use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::hosts::full_name;
use super::injection::{is_injected, namespace_labels};
use super::live::{Kind, Live, Object};
use super::notes::{Notes, Scope};
use super::placement::Placement;
use super::rule::Part;
use crate::demo::{DemoImage, PROPAGATE};
use crate::scenario::Origin;

/// Ports of server-first protocols: without a declared protocol, Istio does not detect HTTP on them.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// The largest number of pods of a Deployment that are modelled: more is a mistake in the manifest.
const MOST_PODS: u64 = 100_000;

/// A Service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub name: String,
    pub namespace: String,
    pub host: String,
    /// None selects no pods.
    pub selector: Option<BTreeMap<String, String>>,
    pub ports: Vec<Port>,
    /// The number of the port, if there is no other, not even one of UDP.
    pub only_port: Option<u16>,
    pub origin: Origin,
}

/// A port of a Service.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub number: u16,
    pub target: Target,
    pub protocol: Protocol,
    /// Whether Envoy speaks HTTP/2 to the endpoints, because the port is declared so.
    pub is_http2: bool,
    /// Whether the port is declared as TLS, so that `tls` routes apply to it, not `tcp` routes.
    pub is_tls: bool,
    /// The position of the target port, or of the port if it names none.
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Number(u16),
    Name(String),
}

/// The protocol that Istio assumes for a port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP, by declaration.
    Http,
    /// Detected from the traffic: HTTP for HTTP requests.
    Detected,
    /// TCP, or a protocol that is forwarded like TCP, with the reason.
    Tcp(String),
}

impl Protocol {
    /// Determines the protocol by `appProtocol`, otherwise by the name up to the first dash, otherwise by the number.
    fn of(number: u16, name: Option<&str>, app_protocol: Option<&str>) -> Self {
        let (declared, how) = match (app_protocol, name) {
            (Some(protocol), _) => (protocol, format!("has the appProtocol `{protocol}`")),
            (None, Some(name)) => (name, format!("is named `{name}`")),
            (None, None) => ("", String::new()),
        };
        match (app_protocol, declared.to_lowercase().as_str()) {
            (Some("kubernetes.io/h2c" | "kubernetes.io/ws"), _) => return Self::Http,
            (Some("kubernetes.io/wss"), _) => return Self::Tcp(how),
            (_, declared) if declared.starts_with("grpc-web") => return Self::Http,
            _ => {}
        }
        match declared.split('-').next().unwrap_or_default().to_lowercase().as_str() {
            "http" | "http2" | "grpc" | "http_proxy" => Self::Http,
            "tcp" | "https" | "tls" | "mongo" | "redis" | "mysql" => Self::Tcp(how),
            _ if SERVER_FIRST.contains(&number) => {
                Self::Tcp(format!("is {number}, on which servers are expected to speak first"))
            }
            _ => Self::Detected,
        }
    }
}

/// Whether an HTTP protocol, by `appProtocol` or the name of a port, is HTTP/2.
fn is_http2(declared: &str) -> bool {
    let declared = declared.to_lowercase();
    declared == "kubernetes.io/h2c" || matches!(declared.split('-').next(), Some("http2" | "grpc"))
}

/// Whether a protocol that is forwarded like TCP, by `appProtocol` or the name of a port, is TLS.
fn is_tls(declared: &str) -> bool {
    let declared = declared.to_lowercase();
    declared == "kubernetes.io/wss" || matches!(declared.split('-').next(), Some("https" | "tls"))
}

impl Service {
    pub fn read(object: &Object, notes: &mut Notes) -> Self {
        let root = Part::root(&object.manifest);
        let spec = root.get("spec");
        notes.scope = Scope::Hosts([full_name(object.manifest.name(), &object.namespace)].into());
        if spec.get("clusterIP").text() == Some("None") {
            spec.get("clusterIP").not_modelled(notes);
        }
        for key in [
            "externalName",
            "publishNotReadyAddresses",
            "sessionAffinity",
            "trafficDistribution",
            "internalTrafficPolicy",
        ] {
            let part = spec.get(key);
            if part.is_there() && part.value != false && !matches!(part.text(), Some("None" | "Cluster")) {
                part.not_modelled(notes);
            }
        }
        let ports = spec.get("ports");
        let numbers: Vec<Option<u16>> = ports.items().map(|part| part.get("port").number()).collect();
        let only_port = if let [only] = numbers[..] { only } else { None };
        let ports = ports.items().filter_map(|part| {
            let number: u16 = part.get("port").number()?;
            let target = part.get("targetPort");
            let target = match (target.number(), target.text()) {
                (Some(number), _) => Target::Number(number),
                (None, Some(name)) => Target::Name(name.to_owned()),
                (None, None) => Target::Number(number),
            };
            let (name, app_protocol) = (part.get("name").text(), part.get("appProtocol").text());
            let protocol = Protocol::of(number, name, app_protocol);
            let is_udp = part.get("protocol").text() == Some("UDP");
            if !is_udp && is_named_after_udp(&part) {
                // connections pass the sidecar, unless another Service has a port with this number
                part.get("name").not_modelled(notes);
                return None;
            }
            let is_http2 = protocol == Protocol::Http && is_http2(app_protocol.or(name).unwrap_or_default());
            let is_tls = matches!(protocol, Protocol::Tcp(_)) && is_tls(app_protocol.or(name).unwrap_or_default());
            let origin = part.get("targetPort").origin();
            (!is_udp).then_some(Port { number, target, protocol, is_http2, is_tls, origin })
        });
        Self {
            name: object.manifest.name().to_owned(),
            namespace: object.namespace.clone(),
            host: full_name(object.manifest.name(), &object.namespace),
            selector: Some(spec.get("selector").labels()).filter(|labels| !labels.is_empty()),
            ports: ports.collect(),
            only_port,
            origin: object.manifest.origin.clone(),
        }
    }

    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The port, if Istio routes its requests.
    pub fn http_port(&self, number: u16) -> Option<&Port> {
        self.port(number).filter(|port| !matches!(port.protocol, Protocol::Tcp(_)))
    }
}

/// Whether Istio takes a port for UDP, so that it ignores the port, because of its `appProtocol` or name.
fn is_named_after_udp(port: &Part<'_>) -> bool {
    let declared = port.get("appProtocol").text().or_else(|| port.get("name").text()).unwrap_or_default();
    declared.split('-').next().is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp"))
}

/// A pod, with the properties that affect routing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// The name.
    pub name: String,
    /// The pod's Deployment; without one, the pod's name.
    pub workload: String,
    /// The namespace.
    pub namespace: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The address.
    pub address: String,
    /// The declared container ports, with their names if they have one.
    pub ports: Vec<(Option<String>, u16)>,
    /// The image of the first container.
    pub image: String,
    /// The environment variables of the same container that have a value.
    pub env: BTreeMap<String, String>,
    /// The version in the pod's responses.
    pub version: String,
    /// Whether a sidecar is injected.
    pub sidecar: bool,
    /// Where it runs.
    pub placement: Placement,
    /// Where the environment keeps a demo server from sending on the headers of requests; none if it sends them on.
    pub loses_headers: Option<Origin>,
    /// The Secret with the certificate that a demo server shows; none if it does not speak TLS.
    pub certificate: Option<String>,
    /// The one port on which the server listens; none if that is not known, as for images other than the demo's.
    pub demo_port: Option<u16>,
}

impl Pod {
    /// The namespace and the workload, `shop/hello`.
    pub fn namespaced_workload(&self) -> String {
        format!("{}/{}", self.namespace, self.workload)
    }

    pub(super) fn port(&self, target: &Target) -> Option<u16> {
        match target {
            Target::Number(number) => Some(*number),
            Target::Name(name) => {
                self.ports.iter().find(|(declared, _)| declared.as_ref() == Some(name)).map(|(_, number)| *number)
            }
        }
    }

    /// Whether it is known what the pod does with TLS that a sidecar begins: a demo server without a certificate refuses it.
    pub(super) const fn is_known_for_tls(&self) -> bool {
        self.demo_port.is_some() && self.certificate.is_none()
    }

    /// Whether the pod listens on a port, as far as that is known. Declarations do not matter: they only give names to ports.
    pub(super) fn listens(&self, port: u16) -> bool {
        self.demo_port.is_none_or(|own| own == port)
    }

    /// Whether the pod declares ports, but not this one, so that it is not known whether it listens.
    pub(super) fn may_not_listen(&self, port: u16) -> bool {
        let declared = self.ports.iter().any(|(_, number)| *number == port);
        self.demo_port.is_none() && !self.ports.is_empty() && !declared
    }
}

/// Rules that predict the version in a pod's responses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// The possible versions.
    pub versions: BTreeSet<String>,
    /// The versions of known images.
    pub images: BTreeMap<String, String>,
}

impl Naming {
    /// The version of a known image; otherwise the first possible version among the image's tag, the labels `version` and
    /// `app.kubernetes.io/version`, and the workload's name; otherwise the tag.
    pub fn version(&self, image: &str, labels: &BTreeMap<String, String>, workload: &str) -> String {
        if let Some(known) = self.images.get(image) {
            return known.clone();
        }
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/')).unwrap_or("latest");
        let label = |key: &str| labels.get(key).map(String::as_str);
        let told = [Some(tag), label("version"), label("app.kubernetes.io/version"), Some(workload)];
        told.into_iter().flatten().find(|told| self.versions.contains(*told)).unwrap_or(tag).to_owned()
    }
}

/// The pods of the applied workloads, all ready, each with a made-up address.
pub fn pods_of(live: &Live, naming: &Naming) -> Vec<Pod> {
    let mut pods = Vec::new();
    for object in Kind::WORKLOADS.into_iter().flat_map(|kind| live.of(kind)) {
        let spec = Part::root(&object.manifest).get("spec");
        let template = spec.get("template");
        let metadata = template.get("metadata");
        let (labels, annotations) = (metadata.get("labels").labels(), metadata.get("annotations").labels());
        let pod = made_from(live, object, labels, &annotations, &template.get("spec"), naming);
        let replicas: u64 = spec.get("replicas").number().unwrap_or(1);
        pods.extend((1..=replicas.min(MOST_PODS)).map(|number| {
            let name = format!("{}-{number}", pod.name);
            Pod { address: format!("{}/{name}", pod.namespace), name, ..pod.clone() }
        }));
    }
    pods.extend(live.of(Kind::Pod).map(|object| pod_of(live, object, naming)));
    pods
}

/// The pod that an applied Pod describes.
pub(super) fn pod_of(live: &Live, object: &Object, naming: &Naming) -> Pod {
    let metadata = &object.manifest.object.metadata;
    let (labels, annotations) = (metadata.labels.clone(), metadata.annotations.clone().unwrap_or_default());
    let spec = Part::root(&object.manifest).get("spec");
    made_from(live, object, labels.unwrap_or_default(), &annotations, &spec, naming)
}

fn made_from(
    live: &Live,
    object: &Object,
    labels: BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    spec: &Part<'_>,
    naming: &Naming,
) -> Pod {
    let name = object.manifest.name().to_owned();
    let containers = spec.get("containers");
    // the container that serves is not always the first
    let has_ports = |container: &Part<'_>| container.get("ports").items().next().is_some();
    let main = containers.items().find(has_ports).or_else(|| containers.items().next());
    let image = main.as_ref().and_then(|main| main.get("image").owned()).unwrap_or_default();
    let variables = main.as_ref().map(|main| main.get("env"));
    let values = variables.iter().flat_map(Part::items);
    let values = values.filter_map(|variable| Some((variable.get("name").owned()?, variable.get("value").owned()?)));
    let env: BTreeMap<String, String> = values.collect();
    let ports = containers.items().flat_map(|container| {
        let ports = container.get("ports");
        let ports =
            ports.items().filter_map(|port| Some((port.get("name").owned(), port.get("containerPort").number()?)));
        ports.collect::<Vec<_>>()
    });
    let is_default = |main: &Part<'_>| !main.get("command").is_there() && !main.get("args").is_there();
    let is_demo = main.as_ref().is_some_and(is_default) && DemoImage::find(&image).is_some();
    let mut variables = variables.iter().flat_map(Part::items);
    let propagation = variables.find(|variable| variable.get("name").text() == Some(PROPAGATE));
    let loses_headers = propagation.filter(|_| is_demo && !DemoImage::propagates(&env)).map(|own| own.origin());
    // the image sets the variable, which the pod can set to another value
    let stated = env.get("VERSION").filter(|_| is_demo).cloned();
    let on_host = spec.get("hostNetwork").value == true;
    Pod {
        address: format!("{}/{name}", object.namespace),
        workload: name.clone(),
        namespace: object.namespace.clone(),
        ports: ports.collect(),
        version: stated.unwrap_or_else(|| naming.version(&image, &labels, &name)),
        sidecar: !on_host && is_injected(&namespace_labels(live, &object.namespace), &labels, annotations),
        certificate: env
            .get(DemoImage::TLS)
            .filter(|_| is_demo)
            .and_then(|folder| mounted(spec, main.as_ref()?, folder)),
        demo_port: is_demo.then_some(DemoImage::PORT),
        placement: Placement::of(
            &labels,
            &spec.get("nodeSelector").labels(),
            spec.get("affinity").get("nodeAffinity").value,
        ),
        loses_headers,
        env,
        labels,
        name,
        image,
    }
}

/// The name of the Secret that a container mounts as a folder.
fn mounted(spec: &Part<'_>, container: &Part<'_>, folder: &str) -> Option<String> {
    let without_slash = |path: &str| path.trim_end_matches('/').to_owned();
    let mounts = container.get("volumeMounts");
    let is_it = |mount: &Part<'_>| mount.get("mountPath").text().map(without_slash) == Some(without_slash(folder));
    let name = mounts.items().find(is_it)?.get("name").owned()?;
    let volumes = spec.get("volumes");
    let volume = volumes.items().find(|volume| volume.get("name").text() == Some(&name))?;
    volume.get("secret").get("secretName").owned()
}

/// Pods by namespace and label.
#[derive(Debug, Default)]
pub(super) struct Pods {
    pods: Vec<Pod>,
    by_label: HashMap<(String, String, String), Vec<usize>>,
}

impl Pods {
    pub fn new(pods: Vec<Pod>) -> Self {
        let mut by_label: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, pod) in pods.iter().enumerate() {
            for (key, value) in &pod.labels {
                by_label.entry((pod.namespace.clone(), key.clone(), value.clone())).or_default().push(index);
            }
        }
        Self { pods, by_label }
    }

    /// A pod of a workload, by its namespace and name, `shop/hello`.
    pub fn of_workload(&self, name: &str) -> Option<&Pod> {
        let (namespace, workload) = name.split_once('/')?;
        self.pods.iter().find(|pod| pod.namespace == namespace && pod.workload == workload)
    }

    /// The workloads of a namespace whose pods carry all of these labels except one, with the key of that label and the pod's value for it.
    pub fn almost(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> BTreeSet<(String, String, Option<String>)> {
        let there = self.pods.iter().filter(|pod| pod.namespace == namespace);
        let almost = there.filter_map(|pod| {
            let mut off = labels.iter().filter(|(key, value)| pod.labels.get(*key) != Some(value));
            let (key, _) = off.next().filter(|_| labels.len() > 1)?;
            let workload = if pod.workload.is_empty() { &pod.name } else { &pod.workload };
            off.next().is_none().then(|| (workload.clone(), key.clone(), pod.labels.get(key).cloned()))
        });
        almost.collect()
    }

    /// The pods of a namespace that carry all of these labels. No labels select no pods.
    pub fn select(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&Pod> {
        let lists = labels.iter().map(|(key, value)| {
            self.by_label.get(&(namespace.to_owned(), key.clone(), value.clone())).map_or(&[][..], Vec::as_slice)
        });
        let shortest = lists.min_by_key(|list| list.len()).unwrap_or_default();
        let pods = shortest.iter().map(|index| &self.pods[*index]);
        pods.filter(|pod| labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::named_http(8080, Some("http"), None, "http")]
    #[case::named_http_something(8080, Some("http-hello"), None, "http")]
    #[case::named_grpc_web(8080, Some("grpc-web-x"), None, "http")]
    #[case::named_in_capitals(8080, Some("HTTP2-x"), None, "http")]
    #[case::named_tcp(8080, Some("tcp"), None, "tcp")]
    #[case::named_tcp_something(8080, Some("tcp-hello"), None, "tcp")]
    #[case::only_the_first_part_counts(8080, Some("hello-tcp"), None, "detected")]
    #[case::not_a_part(8080, Some("tcpish"), None, "detected")]
    #[case::app_protocol_counts_more(8080, Some("tcp-hello"), Some("http"), "http")]
    #[case::app_protocol_tcp(8080, Some("http"), Some("tcp"), "tcp")]
    #[case::h2c(8080, None, Some("kubernetes.io/h2c"), "http")]
    #[case::nothing_said(8080, None, None, "detected")]
    #[case::mysql_speaks_first(3306, None, None, "tcp")]
    #[case::unless_declared(3306, Some("http"), None, "http")]
    #[case::https_is_passed_on(443, Some("https"), None, "tcp")]
    fn a_port_is_taken_for(
        #[case] number: u16,
        #[case] name: Option<&str>,
        #[case] app_protocol: Option<&str>,
        #[case] expected: &str,
    ) {
        let protocol = match Protocol::of(number, name, app_protocol) {
            Protocol::Http => "http",
            Protocol::Detected => "detected",
            Protocol::Tcp(_) => "tcp",
        };
        assert_eq!(protocol, expected);
    }
}

use std::collections::BTreeMap;
use std::fmt::Write as _;

use displaydoc::Display;

use super::condition::Request;
use super::outbound::{Outbound, Routes};
use super::service::{Protocol, Service};
use super::table::{Cluster, Endpoints, RoutingUnit};

/// Why requests do not reach the destination of a rule, with the manifests to blame.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[displaydoc("{message}")]
pub struct Finding {
    /// Whether the route exists and its destination has no endpoints.
    pub lacks_endpoints: bool,
    /// The reason.
    pub message: String,
}

impl Outbound<'_> {
    /// Why requests to a host and port do not reach the destinations of the rules.
    pub fn diagnose(&self, request: &Request) -> Vec<Finding> {
        let Ok(routes) = self.routes(request) else {
            // the response already says that a name is unknown
            let known = self.service(&request.host).is_some();
            return known.then(|| self.unknown(&request.host, request.port)).into_iter().collect();
        };
        let unused = self.unused(request, &routes);
        let wanting = routes.table.clusters.iter().filter_map(|(cluster, endpoints)| match endpoints {
            Endpoints::NoCluster => Some(self.missing(cluster)),
            Endpoints::Ready(addresses) if addresses.is_empty() => self.empty(cluster),
            Endpoints::Ready(_) => None,
        });
        unused.into_iter().chain(wanting).collect()
    }

    /// The first rule for a service whose routes are not for the protocol of the port, unless another rule applies.
    fn unused(&self, request: &Request, routes: &Routes) -> Option<Finding> {
        let service = self.service(&request.host)?;
        if routes.rules.first().is_some_and(|rule| rule.origin != service.origin) {
            return None;
        }
        let rule = self.rules_for(&service.host).next()?;
        let port = service.port(request.port)?;
        let place = || format!("port {} of Service {} ({})", port.number, service.name, service.origin);
        let reason = match (&port.protocol, routes.table.unit) {
            _ if !self.client.sidecar => "the client has no sidecar".to_owned(),
            (Protocol::Tcp(declared), _) => {
                format!("{} {declared}, so that connections are balanced over all pods, not requests by rules", place())
            }
            (_, RoutingUnit::Request) if rule.rules.is_empty() && !rule.connections.is_empty() => {
                format!("it has `tcp` or `tls` routes alone, and {} is HTTP", place())
            }
            _ => return None,
        };
        let message = format!("{} ({}) is not used: {reason}", rule.object.object, rule.object.origin);
        Some(Finding { lacks_endpoints: false, message })
    }

    fn missing(&self, Cluster { host, port, subset }: &Cluster) -> Finding {
        let is_served = self.service(host).is_some_and(|service| service.port(*port).is_some());
        match subset {
            Some(subset) if is_served => {
                let message = format!("no DestinationRule for {host} that the client sees defines the subset {subset}");
                Finding { lacks_endpoints: false, message }
            }
            _ => self.unknown(host, *port),
        }
    }

    /// A host or port that does not exist.
    fn unknown(&self, host: &str, port: u16) -> Finding {
        let message = match self.service(host) {
            Some(service) => {
                let ports: Vec<String> = service.ports.iter().map(|own| own.number.to_string()).collect();
                let word = if ports.len() == 1 { "port" } else { "ports" };
                let ports = if ports.is_empty() { "no".to_owned() } else { ports.join(" and ") };
                format!("Service {} has {word} {ports}, not {port} ({})", service.name, service.origin)
            }
            None => format!("there is no service {host} with a port {port}"),
        };
        Finding { lacks_endpoints: false, message }
    }

    fn empty(&self, cluster: &Cluster) -> Option<Finding> {
        let service = self.service(&cluster.host)?;
        let selector = service.selector.clone().unwrap_or_default();
        let message = match &cluster.subset {
            None => format!("the service has no endpoints: {}", self.no_pods(service, &selector)),
            Some(name) => {
                let subset = self.mesh.subset(service, name, &self.client.namespace)?;
                let excludes = |(key, value)| selector.get(key).is_some_and(|other: &String| other != value);
                if subset.labels.iter().any(excludes) {
                    format!(
                        "subset {name} ({}, {}) has no endpoints: the selector of Service {} ({}, {}) excludes its pods",
                        shown(&subset.labels),
                        subset.origin,
                        service.name,
                        shown(&selector),
                        service.origin,
                    )
                } else {
                    let labels = selector.into_iter().chain(subset.labels.clone()).collect();
                    format!("subset {name} has no endpoints: {}", self.no_pods(service, &labels))
                }
            }
        };
        Some(Finding { lacks_endpoints: true, message })
    }

    /// That no pod carries the labels, with the workloads whose pods carry all of them but one.
    fn no_pods(&self, service: &Service, labels: &BTreeMap<String, String>) -> String {
        let mut message = format!("no ready pod carries {}", shown(labels));
        for (workload, key, value) in self.mesh.pods.almost(&service.namespace, labels) {
            let _ = match value {
                Some(value) => write!(message, "; {workload} carries {key}={value}"),
                None => write!(message, "; {workload} carries no {key}"),
            };
        }
        message
    }
}

fn shown(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::super::{Kind, Live, Mesh, Naming, Request, client_of, pods_of};
    use crate::scenario::{KindRef, Manifest, Origin, Target, parse_manifests, read_manifests};

    const PODS: [&str; 3] = ["httpbin.yaml", "hello-server-v1.yaml", "hello-server-v2.yaml"];

    fn live(files: &[&str]) -> Live {
        let mut live = Live::new("canary", "canary");
        for file in files {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary").join(file);
            for mut manifest in read_manifests(&path).unwrap() {
                manifest.origin.path = file.into();
                live.apply(&manifest);
            }
        }
        live
    }

    fn findings(live: &Live) -> Vec<String> {
        let mesh = Mesh::new(live, pods_of(live, &Naming::default()));
        let outbound = mesh.outbound(client_of(live, "httpbin").unwrap());
        let found = outbound.diagnose(&Request::get("svc-hello", 8080, "/"));
        let root = format!("{}/../../fixtures/canary/", env!("CARGO_MANIFEST_DIR"));
        found.iter().map(|finding| finding.to_string().replace(&root, "")).collect()
    }

    #[rstest]
    #[case::pinned_selector(
        &["svc-hello-v1.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"],
        "subset v2 (version=v2, dr-hello.yaml:10:7) has no endpoints: the selector of Service svc-hello \
         (app=hello,version=v1, svc-hello-v1.yaml:1:1) excludes its pods"
    )]
    #[case::tcp_port(
        &["../canary-tcp-port/svc-hello.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"],
        "VirtualService vs-hello (vs-hello-testers.yaml:1:1) is not used: port 8080 of Service svc-hello \
         (../canary-tcp-port/svc-hello.yaml:1:1) is named `tcp-hello`, so that connections are balanced over all pods, not \
         requests by rules"
    )]
    #[case::undefined_subset(
        &["svc-hello.yaml", "vs-hello-rollback.yaml"],
        "no DestinationRule for svc-hello.canary.svc.cluster.local that the client sees defines the subset v1"
    )]
    fn the_manifest_to_blame_is_named(#[case] files: &[&str], #[case] finding: &str) {
        assert_eq!(findings(&live(&[&PODS[..], files].concat())), [finding]);
    }

    #[test]
    fn a_port_that_the_service_does_not_have_is_named_with_those_that_it_has() {
        let live = live(&[&PODS[..], &["svc-hello.yaml"]].concat());
        let mesh = Mesh::new(&live, pods_of(&live, &Naming::default()));
        let found = mesh.outbound(client_of(&live, "httpbin").unwrap()).diagnose(&Request::get("svc-hello", 80, "/"));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["Service svc-hello has port 8080, not 80 (svc-hello.yaml:1:1)"]);
    }

    #[test]
    fn a_rule_whose_routes_are_for_connections_alone_is_named_on_a_port_of_http() {
        let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
                    spec: {hosts: [svc-hello], tcp: [{route: [{destination: {host: svc-hello, subset: v1}}]}]}";
        let rule = &parse_manifests(Path::new("a.yaml"), rule).unwrap()[0];
        let mut objects = live(&[&PODS[..], &["svc-hello.yaml", "dr-hello.yaml"]].concat());
        objects.apply(rule);
        assert_eq!(
            findings(&objects),
            [
                "VirtualService a (a.yaml:1:1) is not used: it has `tcp` or `tls` routes alone, and port 8080 of Service svc-hello \
              (svc-hello.yaml:1:1) is HTTP"
            ]
        );
        let mut objects = live(&[&PODS[..], &["../canary-tcp-port/svc-hello.yaml", "dr-hello.yaml"]].concat());
        objects.apply(rule);
        assert_eq!(findings(&objects), Vec::<String>::new());
    }

    fn deleted(kind: &str, name: &str) -> Target {
        Target {
            kind: KindRef::Written(kind.to_owned()),
            name: name.to_owned(),
            origin: Origin::new("scenario.yaml", 1, 1),
        }
    }

    #[test]
    fn a_subset_without_pods_is_named() {
        let mut live = live(&["httpbin.yaml", "svc-hello.yaml", "dr-hello.yaml", "vs-hello-rollback.yaml"]);
        assert_eq!(findings(&live), ["subset v1 has no endpoints: no ready pod carries app=hello,version=v1"]);
        live.delete(&deleted("virtualservices", "vs-hello"));
        assert_eq!(findings(&live), ["the service has no endpoints: no ready pod carries app=hello"]);
        live.delete(&deleted("Service", "svc-hello"));
        assert_eq!(findings(&live), Vec::<String>::new());
        assert!(live.get(Kind::Service, "svc-hello").is_none());
    }

    #[test]
    fn the_label_that_differs_is_named() {
        let mut live = live(&[&PODS[..], &["svc-hello.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"]].concat());
        let mut deployment = Manifest::clone(&live.get(Kind::Deployment, "hello-server-v2").unwrap().manifest);
        *deployment.object.data.pointer_mut("/spec/template/metadata/labels/version").unwrap() = "V2".into();
        live.apply(&deployment);
        let finding = "subset v2 has no endpoints: no ready pod carries app=hello,version=v2; hello-server-v1 carries version=v1; \
                       hello-server-v2 carries version=V2";
        assert_eq!(findings(&live), [finding]);
    }

    #[test]
    fn a_client_without_a_sidecar_and_a_service_that_is_not_there_are_named() {
        let files = ["svc-hello.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"];
        let mut objects = live(&[&PODS[..], &files].concat());
        let mut pod = Manifest::clone(&objects.get(Kind::Pod, "httpbin").unwrap().manifest);
        let labels = pod.object.metadata.labels.get_or_insert_default();
        labels.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
        objects.apply(&pod);
        assert_eq!(
            findings(&objects),
            ["VirtualService vs-hello (vs-hello-testers.yaml:1:1) is not used: the client has no sidecar"]
        );

        let mut objects = live(&[&PODS[..], &["svc-hello.yaml"]].concat());
        let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
                    spec: {hosts: [svc-hello], http: [{route: [{destination: {host: svc-next}}]}]}";
        objects.apply(&parse_manifests(Path::new("a.yaml"), rule).unwrap()[0]);
        assert_eq!(findings(&objects), ["there is no service svc-next.canary.svc.cluster.local with a port 8080"]);
    }
}

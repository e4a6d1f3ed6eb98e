//! The pods of an ingress gateway, and the Service in front of them.

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::{MeshError, Sidecar};
use crate::cluster::{ClusterError, PodPort};
use crate::routing::RouteTable;
use crate::scenario::IngressGateway;

/// An ingress gateway on a cluster.
pub struct Ingress {
    /// The address of its Service: `HOST:PORT`.
    pub address: String,
    /// The port on which its pods listen.
    target: u16,
    /// The name that callers say in the TLS handshake; none for HTTP.
    server_name: Option<String>,
    /// Its pods, and those of their namespace.
    pods: (Api<Pod>, Vec<String>),
    /// The Envoy of each of its pods.
    proxies: Vec<Sidecar>,
}

impl Ingress {
    /// Finds the ready pods of a gateway, of one namespace alone if it is known, and their Service.
    ///
    /// # Errors
    /// There are no such pods, no Service has the port, or the API server does not answer.
    pub async fn find(client: &Client, gateway: &IngressGateway, namespace: Option<&str>) -> Result<Self, MeshError> {
        let selector: Vec<String> = gateway.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let selector = selector.join(",");
        let pods = namespace.map_or_else(|| Api::all(client.clone()), |own| Api::namespaced(client.clone(), own));
        let listed = pods.list(&ListParams::default().labels(&selector)).await;
        let pods: Vec<Pod> =
            listed.map_err(ClusterError::api("listing gateway pods"))?.items.into_iter().filter(is_ready).collect();
        let Some(first) = pods.first() else {
            return Err(MeshError::NoGatewayPods { gateway: gateway.to_string(), selector });
        };
        let namespace = first.namespace().unwrap_or_default();
        let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
        let services = services.list(&ListParams::default()).await;
        let services = services.map_err(ClusterError::api("listing the Services of gateway pods"))?.items;
        let (service, port) = services
            .iter()
            .filter(|service| selects(service, first))
            .find_map(|service| Some((service, port_of(service, gateway.port)?)))
            .ok_or_else(|| MeshError::NoGatewayPort { gateway: gateway.to_string(), namespace: namespace.clone() })?;
        let own: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let is_there = |pod: &&Pod| pod.namespace().as_deref() == Some(&namespace);
        let names: Vec<String> = pods.iter().filter(is_there).map(ResourceExt::name_any).collect();
        let proxies = names.iter().map(|name| Sidecar::new(own.clone(), name.clone()));
        Ok(Self {
            address: format!("{}.{namespace}:{}", service.name_any(), gateway.port),
            server_name: gateway.tls.as_ref().map(|tls| tls.server_name.clone()),
            target: target(port, first).unwrap_or(gateway.port),
            proxies: proxies.collect(),
            pods: (own, names),
        })
    }

    /// The ports on which its pods listen.
    pub fn ports(&self) -> Vec<PodPort> {
        let (pods, names) = &self.pods;
        names.iter().map(|pod| PodPort { pods: pods.clone(), pod: pod.clone(), port: self.target }).collect()
    }

    /// How each pod routes requests to a host now.
    ///
    /// # Errors
    /// A pod does not answer, or its configuration cannot be read.
    pub async fn tables(&mut self, host: &str) -> Result<Vec<RouteTable>, MeshError> {
        let mut tables = Vec::new();
        for proxy in &mut self.proxies {
            tables.push(proxy.gateway_table(self.target, host, self.server_name.as_deref()).await?);
        }
        Ok(tables)
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|own| !own.is_empty() && own.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
}

fn port_of(service: &Service, number: u16) -> Option<&ServicePort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports.into_iter().flatten().find(|port| port.port == i32::from(number))
}

/// The port of a pod behind a port of a Service.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.find(|own| own.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::number("{port: 80, targetPort: 8080}", Some(8080))]
    #[case::same("{port: 80}", Some(80))]
    #[case::name("{port: 80, targetPort: http2}", Some(8081))]
    #[case::unknown_name("{port: 80, targetPort: web}", None)]
    fn the_port_of_the_pods_is_that_of_the_service(#[case] port: &str, #[case] expected: Option<u16>) {
        let port: ServicePort = serde_yaml::from_str(port).unwrap();
        let pod = "{spec: {containers: [{name: a, ports: [{name: http2, containerPort: 8081}]}]}}";
        assert_eq!(target(&port, &serde_yaml::from_str(pod).unwrap()), expected);
    }

    #[rstest]
    #[case::all("{a: b}", true)]
    #[case::other("{a: c}", false)]
    #[case::none("{}", false)]
    fn a_service_without_a_selector_selects_nothing(#[case] selector: &str, #[case] expected: bool) {
        let service = serde_yaml::from_str(&format!("{{spec: {{selector: {selector}}}}}")).unwrap();
        assert_eq!(selects(&service, &serde_yaml::from_str("{metadata: {labels: {a: b, c: d}}}").unwrap()), expected);
    }
}

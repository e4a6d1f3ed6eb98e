use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};

use crate::cluster::wait::reason;
use crate::events::{AddonAccess, Event, Events};
use crate::scenario::{Addon, WantedAddon};

/// Tells how to reach the addons that a scenario names, where they are. `kubectl` is the program with the options that select the cluster,
/// `namespace` that of Istio.
pub(super) async fn tell_addons(
    wanted: &[WantedAddon],
    client: &Client,
    kubectl: &str,
    namespace: &str,
    events: &Events,
) {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    for WantedAddon { addon, .. } in wanted {
        let access = match services.get_opt(addon.key()).await {
            Ok(Some(service)) => forward(*addon, &service, kubectl, namespace),
            Ok(None) => AddonAccess::None(format!("the namespace {namespace} has no Service {}", addon.key())),
            Err(error) => AddonAccess::None(reason(&error)),
        };
        events.tell(Event::Addon { addon: *addon, access });
    }
}

/// The port-forward to the Service of an addon.
fn forward(addon: Addon, service: &Service, kubectl: &str, namespace: &str) -> AddonAccess {
    let (name, port) = (addon.key(), addon.port());
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|own| own.port);
    // other installations have other ports
    let other = ports.clone().next().filter(|_| !ports.clone().any(|own| own == i32::from(port)));
    let ports = other.map_or_else(|| port.to_string(), |other| format!("{port}:{other}"));
    AddonAccess::Forward {
        command: format!("{kubectl} -n {namespace} port-forward service/{name} {ports}"),
        address: format!("http://127.0.0.1:{port}{}", addon.path()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::of_the_release(
        Addon::Kiali,
        &[20001, 9090],
        "k -n istio-system port-forward service/kiali 20001",
        "http://127.0.0.1:20001/kiali"
    )]
    #[case::of_a_chart(
        Addon::Prometheus,
        &[80],
        "k -n istio-system port-forward service/prometheus 9090:80",
        "http://127.0.0.1:9090"
    )]
    fn the_port_is_one_of_the_service(
        #[case] addon: Addon,
        #[case] ports: &[u16],
        #[case] command: &str,
        #[case] address: &str,
    ) {
        let ports: Vec<_> = ports.iter().map(|port| json!({"port": port})).collect();
        let service = serde_json::from_value(json!({"spec": {"ports": ports}})).unwrap();
        let expected = AddonAccess::Forward { command: command.to_owned(), address: address.to_owned() };
        assert_eq!(forward(addon, &service, "k", "istio-system"), expected);
    }
}

//! What Envoy's admin interface returns: JSON, and the names that Istio gives to clusters and virtual hosts in it.

use jiff::Timestamp;
use serde_json::Value;

use crate::routing::Cluster;

/// Parts of a sidecar's configuration and state, as Envoy's admin interface returns them. A part that was not read is `Null`.
#[derive(Debug, Clone, Default)]
pub struct ConfigDump {
    /// The route configurations: `/config_dump?resource=dynamic_route_configs`.
    pub routes: Value,
    /// The listeners: `/config_dump?resource=dynamic_listeners`.
    pub listeners: Value,
    /// The clusters: `/config_dump?resource=dynamic_active_clusters`.
    pub clusters: Value,
    /// The clusters' endpoints with their health: `/clusters?format=json`.
    pub endpoints: Value,
    /// The certificates of a gateway, without private keys: `/config_dump?resource=dynamic_active_secrets`.
    pub secrets: Value,
}

impl ConfigDump {
    /// The virtual host of a service port, with the name of its route configuration.
    pub(super) fn virtual_host(&self, host: &str, port: u16) -> Option<VirtualHost<'_>> {
        let domain = domain(host, port);
        let mut hosts = items(&self.routes["configs"])
            .flat_map(|config| items(&config["route_config"]["virtual_hosts"]).map(move |host| (config, host)));
        let is_it = |host: &Value| host["name"] == *domain || items(&host["domains"]).any(|name| *name == *domain);
        hosts.find(|(_, host)| is_it(host)).map(|(config, value)| VirtualHost {
            route_config: config["route_config"]["name"].as_str(),
            updated: config["last_updated"].as_str().and_then(|time| time.parse().ok()),
            value,
        })
    }

    /// The listener for connections to the address and port of a service.
    pub fn listener(&self, address: &str, port: u16) -> Option<&Value> {
        let name = format!("{address}_{port}");
        self.active_listeners().find(|listener| listener["name"] == *name)
    }

    /// The active dynamic listeners.
    pub(super) fn active_listeners(&self) -> impl Iterator<Item = &Value> {
        items(&self.listeners["configs"]).map(|config| &config["active_state"]["listener"])
    }
}

/// A virtual host in the route configurations.
pub(super) struct VirtualHost<'a> {
    /// The name of its route configuration.
    pub route_config: Option<&'a str>,
    /// When the route configuration was changed last, by the clock of the sidecar's machine.
    pub updated: Option<Timestamp>,
    /// The virtual host itself.
    pub value: &'a Value,
}

/// The name of a service port's virtual host.
pub(super) fn domain(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// The cluster with a name such as `outbound|8080|v1|svc-hello.canary.svc.cluster.local`. Since 1.26 some names have a suffix that begins
/// with `;`.
pub(super) fn cluster(name: &str) -> Option<Cluster> {
    let mut parts = name.split('|');
    (parts.next()? == "outbound").then_some(())?;
    let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?.split(';').next()?);
    let subset = (!subset.is_empty()).then(|| subset.to_owned());
    Some(Cluster { host: host.to_owned(), port: port.parse().ok()?, subset })
}

/// The elements of an array; none if the value is not an array.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

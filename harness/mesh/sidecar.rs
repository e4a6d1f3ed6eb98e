use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use serde_json::Value;

use super::configuration::configuration;
use super::counters::counters;
use super::envoy::{ConfigDump, items};
use super::table::{read_gateway, read_table};
use super::upstream::{names, upstreams};
use super::{EnvoyError, MeshError};
use crate::cluster::{Tunnel, TunnelError};
use crate::events::{Configuration, Counters};
use crate::routing::RouteTable;
use crate::scenario::IstioVersion;

/// The port of Envoy's admin interface on the loopback address of the pod.
pub const ADMIN_PORT: u16 = 15000;

const ROUTES: &str = "/config_dump?resource=dynamic_route_configs";
const LISTENERS: &str = "/config_dump?resource=dynamic_listeners";
const SECRETS: &str = "/config_dump?resource=dynamic_active_secrets";
const CLUSTERS: &str = "/config_dump?resource=dynamic_active_clusters";

/// The admin interface of a pod's sidecar.
pub struct Sidecar {
    /// The pods among which its pod is; none for the pod in which this process runs.
    pods: Option<Api<Pod>>,
    pod: String,
    tunnel: Option<Tunnel>,
}

impl Sidecar {
    /// The sidecar of a pod.
    pub const fn new(pods: Api<Pod>, pod: String) -> Self {
        Self { pods: Some(pods), pod, tunnel: None }
    }

    /// The sidecar of the pod in which this process runs.
    pub const fn own(pod: String) -> Self {
        Self { pods: None, pod, tunnel: None }
    }

    /// Reads the current routes of a service port with their healthy endpoints.
    ///
    /// # Errors
    /// The sidecar does not answer, it has no route for the port, or a route is not supported.
    pub async fn table(&mut self, host: &str, port: u16) -> Result<RouteTable, MeshError> {
        let mut dump = ConfigDump { routes: self.ask(ROUTES).await?, ..ConfigDump::default() };
        let mut address = None;
        if dump.virtual_host(host, port).is_none() {
            dump.listeners = self.ask(LISTENERS).await?;
            address = self.address(host).await;
        }
        dump.endpoints = self.ask("/clusters?format=json").await?;
        let table = read_table(&dump, host, port, address.as_deref()).map_err(|source| self.unreadable(source))?;
        self.with_upstreams(table).await
    }

    /// Adds the protocols of a table's clusters: of these alone, since a mesh can have thousands.
    async fn with_upstreams(&mut self, table: RouteTable) -> Result<RouteTable, MeshError> {
        let Some(names) = names(&table) else { return Ok(table) };
        let clusters = self.ask(&format!("{CLUSTERS}&name_regex={names}")).await?;
        Ok(RouteTable { upstreams: upstreams(&clusters, &table), ..table })
    }

    /// Reads the routes of a gateway for requests to a host on a port of its pod, with their healthy endpoints. `server_name` is the name in the
    /// handshake of requests over TLS, which get the certificate too.
    ///
    /// # Errors
    /// The gateway does not answer, it does not have its routes yet, or a route is not supported.
    pub(super) async fn gateway_table(
        &mut self,
        port: u16,
        host: &str,
        server_name: Option<&str>,
    ) -> Result<RouteTable, MeshError> {
        let dump = ConfigDump {
            secrets: if server_name.is_some() { self.ask(SECRETS).await? } else { Value::Null },
            routes: self.ask(ROUTES).await?,
            listeners: self.ask(LISTENERS).await?,
            endpoints: self.ask("/clusters?format=json").await?,
            ..ConfigDump::default()
        };
        let table = read_gateway(&dump, port, host, server_name).map_err(|source| self.unreadable(source))?;
        self.with_upstreams(table).await
    }

    /// The address of a service with this full name; none if the API server does not tell it.
    async fn address(&self, host: &str) -> Option<String> {
        let (name, rest) = host.split_once('.')?;
        let services: Api<Service> = Api::namespaced(self.pods.clone()?.into_client(), rest.split('.').next()?);
        services.get(name).await.ok()?.spec?.cluster_ip
    }

    /// When the routes of a service port were changed last, by the clock of the sidecar's machine: since 1970, in UTC. None if there are none.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn updated(&mut self, host: &str, port: u16) -> Result<Option<Duration>, MeshError> {
        let dump = ConfigDump { routes: self.ask(ROUTES).await?, ..ConfigDump::default() };
        let updated = dump.virtual_host(host, port).and_then(|host| host.updated);
        Ok(updated.and_then(|time| Duration::try_from(time.as_duration()).ok()))
    }

    /// The resources that the sidecar has rejected, each with Envoy's reason.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn rejected(&mut self) -> Result<Vec<String>, MeshError> {
        let mut rejected = Vec::new();
        for resource in [LISTENERS, ROUTES, CLUSTERS] {
            rejected.extend(read_rejected(&self.ask(resource).await?));
        }
        Ok(rejected)
    }

    /// The version of Envoy.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn envoy(&mut self) -> Result<Option<String>, MeshError> {
        let info = self.ask("/server_info").await?;
        // `REVISION/1.38.0/Clean/RELEASE/BoringSSL`
        let version = info["version"].as_str().unwrap_or_default();
        Ok(version.split('/').nth(1).map(ToOwned::to_owned))
    }

    /// The version of Istio that injected the sidecar; none where it does not tell.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn istio(&mut self) -> Result<Option<IstioVersion>, MeshError> {
        let info = self.ask("/server_info").await?;
        let version = info.pointer("/node/metadata/ISTIO_VERSION").and_then(Value::as_str);
        Ok(version.and_then(|version| version.parse().ok()))
    }

    /// The version numbers of the route configurations. They change when another control plane pushes.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn pushed(&mut self) -> Result<BTreeSet<String>, MeshError> {
        let routes = self.ask(ROUTES).await?;
        let versions = items(&routes["configs"]).filter_map(|config| config["version_info"].as_str());
        Ok(versions.map(ToOwned::to_owned).collect())
    }

    /// The counters of requests to services. Envoy has them only if Istio's proxy statistics are configured for the pod.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn counters(&mut self) -> Result<Counters, MeshError> {
        Ok(counters(&self.ask("/stats?format=json&filter=outbound").await?))
    }

    /// The configuration of a service port, without values that differ between clusters or pushes.
    ///
    /// # Errors
    /// The sidecar does not answer.
    pub async fn configuration(&mut self, host: &str, port: u16) -> Result<Configuration, MeshError> {
        let dump = ConfigDump {
            routes: self.ask(ROUTES).await?,
            clusters: self.ask(CLUSTERS).await?,
            listeners: self.ask(LISTENERS).await?,
            ..ConfigDump::default()
        };
        Ok(configuration(&dump, host, port))
    }

    async fn ask(&mut self, path: &str) -> Result<Value, MeshError> {
        // a closed tunnel is opened again once
        let body = match self.get(path).await {
            Err(TunnelError::Broken { .. }) => {
                self.tunnel = None;
                self.get(path).await?
            }
            other => other?,
        };
        serde_json::from_slice(&body).map_err(|error| self.unreadable(error.into()))
    }

    fn unreadable(&self, source: EnvoyError) -> MeshError {
        MeshError::Unreadable { pod: self.pod.clone(), source }
    }

    async fn get(&mut self, path: &str) -> Result<bytes::Bytes, TunnelError> {
        let tunnel = match &mut self.tunnel {
            Some(tunnel) => tunnel,
            none => none.insert(match &self.pods {
                Some(pods) => Tunnel::open(pods, &self.pod, ADMIN_PORT).await?,
                None => Tunnel::within(&self.pod, ADMIN_PORT).await?,
            }),
        };
        tunnel.get(path).await
    }
}

fn read_rejected(dump: &Value) -> Vec<String> {
    let rejected = items(&dump["configs"]).filter_map(|config| {
        let details = config["error_state"]["details"].as_str()?;
        let name = config["name"].as_str().or_else(|| config["route_config"]["name"].as_str());
        let name = name.or_else(|| config["cluster"]["name"].as_str()).unwrap_or("a resource");
        Some(format!("{name}: {details}"))
    });
    rejected.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rejected_resource_is_reported_with_envoys_reason() {
        let dump = json!({"configs": [
            {"name": "10.43.0.7_8080"},
            {"name": "0.0.0.0_9090", "error_state": {"details": "duplicate filter chain", "version_info": "7"}},
        ]});
        assert_eq!(read_rejected(&dump), ["0.0.0.0_9090: duplicate filter chain"]);
    }
}

//! Populations, and the gateways through which some of them come from outside of the mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::HeaderValue;
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::Resolver;
use super::clients::INJECT;
use super::sessions::keyed;
use crate::scenario::certificate::{authorities, certificates};
use crate::scenario::error::ScenarioError;
use crate::scenario::manifest::{self, Manifest};
use crate::scenario::model::{Client, OtherClient, Outside, Stage};
use crate::scenario::origin::Origin;
use crate::scenario::parse::raw;
use crate::scenario::population::{CallerTls, GatewayApi, IngressGateway, Population, Request};
use crate::scenario::suggest::nearest;

/// The methods of requests. `OPTIONS` is not among them, since a `corsPolicy` answers it.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Headers that a gateway sets itself for requests from outside of the mesh, whatever their sender writes.
const SET_BY_GATEWAY: [&str; 3] = ["x-forwarded-", "x-envoy-", "x-request-id"];

/// How a population comes into the mesh, before the manifests of its gateway are looked at.
pub(super) struct Entrance {
    population: String,
    /// The name of the gateway, with its position.
    gateway: Spanned<String>,
    port: Option<Spanned<u16>>,
    host: Spanned<String>,
    /// How callers speak TLS, with the position of the key.
    tls: Option<(Location, Arc<CallerTls>)>,
}

impl Entrance {
    fn port(&self) -> u16 {
        self.port.as_ref().map_or(if self.tls.is_some() { 443 } else { 80 }, |port| port.value)
    }

    /// The position of what names the port.
    fn port_at(&self) -> Location {
        let tls = || self.tls.as_ref().map_or(self.gateway.referenced, |(at, _)| *at);
        self.port.as_ref().map_or_else(tls, |port| port.referenced)
    }
}

/// The kind of a server of a gateway, by its protocol and its TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http,
    /// TLS, which the gateway terminates or passes through.
    Https,
    Other,
}

/// A server of an Istio gateway, or a listener of one of the Gateway API.
struct Server<'a> {
    port: Option<u64>,
    speaks: Speaks,
    hosts: Vec<&'a str>,
}

impl<'a> Server<'a> {
    fn all_of(gateway: &'a Manifest) -> Vec<Self> {
        let (pointer, read): (_, fn(&'a Value) -> Self) = match api(gateway) {
            Some(GatewayApi::Kubernetes) => ("/spec/listeners", Self::of_listener),
            _ => ("/spec/servers", Self::of_server),
        };
        gateway.at(pointer).and_then(Value::as_array).into_iter().flatten().map(read).collect()
    }

    fn of_server(server: &'a Value) -> Self {
        let protocol = server["port"]["protocol"].as_str().unwrap_or_default().to_uppercase();
        let speaks = match (protocol.as_str(), server["tls"]["mode"].as_str()) {
            ("HTTP" | "HTTP2" | "GRPC", _) => Speaks::Http,
            ("HTTPS", Some("SIMPLE")) => Speaks::Https,
            ("HTTPS" | "TLS", None | Some("PASSTHROUGH")) if server["tls"].is_object() => Speaks::Https,
            _ => Speaks::Other,
        };
        let hosts = server["hosts"].as_array().into_iter().flatten();
        let hosts = hosts.filter_map(|host| Some(host.as_str()?.rsplit('/').next().unwrap_or_default()));
        Self { port: server["port"]["number"].as_u64(), speaks, hosts: hosts.collect() }
    }

    fn of_listener(listener: &'a Value) -> Self {
        let speaks = match (listener["protocol"].as_str(), listener["tls"]["mode"].as_str()) {
            (Some("HTTP"), _) => Speaks::Http,
            (Some("HTTPS"), None | Some("Terminate")) => Speaks::Https,
            _ => Speaks::Other,
        };
        let hosts = vec![listener["hostname"].as_str().filter(|host| !host.is_empty()).unwrap_or("*")];
        Self { port: listener["port"].as_u64(), speaks, hosts }
    }
}

/// The API of a manifest that is a `Gateway`.
fn api(manifest: &Manifest) -> Option<GatewayApi> {
    match (manifest.kind(), manifest.group()) {
        ("Gateway", "networking.istio.io") => Some(GatewayApi::Istio),
        ("Gateway", "gateway.networking.k8s.io") => Some(GatewayApi::Kubernetes),
        _ => None,
    }
}

impl Resolver<'_> {
    /// The populations, and how those come into the mesh whose requests are sent outside.
    pub fn populations(
        &self,
        raw: BTreeMap<String, raw::Population>,
        clients: &[OtherClient],
        entrances: &mut Vec<Entrance>,
    ) -> Result<Vec<Population>, ScenarioError> {
        raw.into_iter().map(|(name, population)| self.population(name, population, clients, entrances)).collect()
    }

    /// A population, and how it comes into the mesh if its requests are sent outside.
    fn population(
        &self,
        name: String,
        population: raw::Population,
        clients: &[OtherClient],
        entrances: &mut Vec<Entrance>,
    ) -> Result<Population, ScenarioError> {
        let mut headers = self.headers(population.headers)?;
        if let Some(host) = &population.host {
            self.host(host)?;
            headers.retain(|name, _| !name.eq_ignore_ascii_case("host"));
            headers.insert("host".to_owned(), host.value.clone());
        }
        let method = population.method.map(|method| self.method(method)).transpose()?;
        let variants = population.any_of.into_iter().map(|variant| {
            let mut headers = headers.clone();
            headers.extend(self.headers(variant.headers)?);
            Ok(Request { method: method.clone(), headers })
        });
        let mut variants = variants.collect::<Result<Vec<_>, _>>()?;
        if variants.is_empty() {
            variants.push(Request { method, headers });
        }
        let sessions = match population.sessions {
            Some(sessions) if variants.len() > 1 => {
                let message = "a population has only one of `any-of` and `sessions`";
                return self.error(sessions.referenced, message);
            }
            Some(sessions) => Some(self.sessions(sessions, &variants)?),
            None => None,
        };
        if let (Some(sessions), [request]) = (&sessions, variants.as_slice()) {
            variants = keyed(sessions, request);
        }
        let from_pod = population.from_pod;
        if let (Some(_), Some(pod)) = (&population.through, &from_pod) {
            return self.error(pod.referenced, "a population has only one of `from-pod` and `through`");
        }
        match (population.through, population.port) {
            (Some(through), port) => {
                let Some(host) = population.host else {
                    let message = "requests from outside of the mesh need a `host`, by which the gateway routes them";
                    return self.error(through.referenced, message);
                };
                self.sent_as_written(&variants, through.referenced)?;
                let gateway = self.gateway(&through)?;
                let tls = population.tls.map(|tls| self.tls(tls, &host)).transpose()?;
                entrances.push(Entrance { population: name.clone(), gateway, port, host, tls });
            }
            (None, Some(port)) => {
                return self.error(port.referenced, "`port` is the port of a gateway, and needs `through`");
            }
            (None, None) => {
                if let Some(tls) = population.tls {
                    let message = "`tls` is for callers outside of the mesh, and needs `through`";
                    return self.error(tls.referenced, message);
                }
            }
        }
        Ok(Population {
            name,
            through: None,
            from_pod: from_pod.map(|pod| self.sending(pod, clients)).transpose()?,
            variants,
            sessions,
        })
    }

    /// How callers of a host speak TLS.
    fn tls(&self, tls: Spanned<raw::Tls>, host: &Spanned<String>) -> Result<(Location, Arc<CallerTls>), ScenarioError> {
        let (at, file) = (tls.referenced, tls.value.ca);
        let server_name = host.value.split(':').next().unwrap_or_default().to_lowercase();
        if server_name.parse::<IpAddr>().is_ok() {
            let message = format!("`{}` is an address, which callers do not name in a TLS handshake", host.value);
            return self.error(host.referenced, message);
        }
        let ca_file = self.existing(&file)?;
        let ca = manifest::text(&ca_file)?;
        let wrong = |what: String| self.error(file.referenced, format!("{} {what}", ca_file.display()));
        match certificates(ca.as_bytes()) {
            Ok(found) if found.is_empty() => {
                return wrong("has no certificate in PEM: no line `-----BEGIN CERTIFICATE-----`".to_owned());
            }
            Ok(found) => match authorities(&found) {
                Ok(_) => {}
                Err(error) => return wrong(format!("has a certificate that cannot be read: {error}")),
            },
            Err(error) => return wrong(format!("is not PEM: {error}")),
        }
        Ok((at, Arc::new(CallerTls { server_name, ca_file, ca })))
    }

    fn method(&self, method: Spanned<String>) -> Result<String, ScenarioError> {
        if METHODS.contains(&method.value.as_str()) {
            return Ok(method.value);
        }
        let known = METHODS.join(", ");
        self.error(method.referenced, format!("`{}` is not one of the methods {known}", method.value))
    }

    fn host(&self, host: &Spanned<String>) -> Result<(), ScenarioError> {
        let is_name = |name: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            !name.is_empty() && name.bytes().all(is_plain)
        };
        if is_name(&host.value) && HeaderValue::from_str(&host.value).is_ok() {
            return Ok(());
        }
        self.error(host.referenced, format!("{:?} is not a host such as hello.example.com", host.value))
    }

    /// Refuses headers that a gateway overwrites, and hosts of variants, which differ from the one that is checked.
    fn sent_as_written(&self, variants: &[Request], at: Location) -> Result<(), ScenarioError> {
        let names = variants.iter().flat_map(|variant| variant.headers.keys()).filter(|name| *name != "host");
        for name in names {
            let lower = name.to_lowercase();
            if lower == "host" {
                return self
                    .error(at, "write the host of requests from outside of the mesh as `host`, not as a header");
            }
            if SET_BY_GATEWAY.iter().any(|prefix| lower.starts_with(prefix)) {
                return self.error(at, format!("a gateway sets the header `{name}` itself: callers outside cannot"));
            }
        }
        Ok(())
    }

    /// The name in `gateway/NAME`.
    fn gateway(&self, through: &Spanned<String>) -> Result<Spanned<String>, ScenarioError> {
        match through.value.split_once('/') {
            Some(("gateway", name)) if !name.is_empty() && !name.contains('/') => {
                Ok(Spanned { value: name.to_owned(), ..through.clone() })
            }
            _ => self.error(through.referenced, format!("`{}` is not a gateway such as gateway/hello", through.value)),
        }
    }

    /// Finds the manifests of the gateways, and sets the gateway of each population.
    pub fn enter(
        &self,
        entrances: &[Entrance],
        stages: &[Stage],
        populations: &mut [Population],
    ) -> Result<(), ScenarioError> {
        let gateways = stages.iter().flat_map(Stage::applied).filter(|manifest| api(manifest).is_some());
        let gateways: Vec<&Manifest> = gateways.collect();
        for entrance in entrances {
            let name = &entrance.gateway.value;
            let own: Vec<&Manifest> = gateways.iter().filter(|gateway| gateway.name() == name).copied().collect();
            let Some(first) = own.first() else {
                let meant = nearest(name, gateways.iter().map(|gateway| gateway.name()));
                let message = format!("no manifest of a stage is a Gateway `{name}`{meant}");
                return self.error(entrance.gateway.referenced, message);
            };
            let api = self.api_of(entrance, &own)?;
            self.has_server(entrance, &own)?;
            let selector = match api {
                GatewayApi::Istio => self.selector(entrance, first)?,
                GatewayApi::Kubernetes => {
                    self.is_of_istiod(entrance, &own)?;
                    [(GatewayApi::GATEWAY_NAME.to_owned(), name.clone())].into()
                }
            };
            let (port, origin) = (entrance.port(), self.origin(entrance.gateway.referenced));
            let known = populations.iter().filter_map(|own| own.through.as_ref());
            let tls = entrance.tls.as_ref().map(|(_, tls)| Arc::clone(tls));
            let mut known = known.filter(|own| own.name == *name && own.port == port && own.tls == tls);
            let through = known.next().cloned();
            let through =
                through.unwrap_or_else(|| IngressGateway { name: name.clone(), api, port, selector, tls, origin });
            for population in populations.iter_mut().filter(|own| own.name == entrance.population) {
                population.through = Some(through.clone());
            }
        }
        Ok(())
    }

    /// The API of the manifests of a gateway.
    fn api_of(&self, entrance: &Entrance, gateways: &[&Manifest]) -> Result<GatewayApi, ScenarioError> {
        let apis: BTreeMap<GatewayApi, &Origin> =
            gateways.iter().filter_map(|gateway| Some((api(gateway)?, &gateway.origin))).collect();
        if let (Some(istio), Some(kubernetes)) = (apis.get(&GatewayApi::Istio), apis.get(&GatewayApi::Kubernetes)) {
            let message = format!(
                "two manifests are a gateway/{}: one of Istio ({istio}), and one of the Gateway API ({kubernetes})",
                entrance.gateway.value
            );
            return self.error(entrance.gateway.referenced, message);
        }
        Ok(apis.into_keys().next().unwrap_or(GatewayApi::Istio))
    }

    /// The labels that an Istio gateway selects pods by.
    fn selector(&self, entrance: &Entrance, first: &Manifest) -> Result<BTreeMap<String, String>, ScenarioError> {
        let selector = first.at("/spec/selector").and_then(Value::as_object).into_iter().flatten();
        let selector = selector.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let selector: BTreeMap<String, String> = selector.collect();
        if selector.is_empty() {
            let (name, origin) = (&entrance.gateway.value, &first.origin);
            let message = format!("gateway/{name} ({origin}) has no `selector`, so that its pods are not known");
            return self.error(entrance.gateway.referenced, message);
        }
        Ok(selector)
    }

    /// Refuses gateways of the Gateway API that istiod makes no pods for.
    fn is_of_istiod(&self, entrance: &Entrance, gateways: &[&Manifest]) -> Result<(), ScenarioError> {
        for gateway in gateways {
            let class = gateway.at("/spec/gatewayClassName").and_then(Value::as_str).unwrap_or_default();
            let (name, origin) = (&entrance.gateway.value, &gateway.origin);
            if class != "istio" {
                let message =
                    format!("gateway/{name} ({origin}) has the class `{class}`, and istiod makes pods for `istio`");
                return self.error(entrance.gateway.referenced, message);
            }
            if gateway.at("/spec/addresses").is_some() {
                let message = format!("gateway/{name} ({origin}) has `addresses`, so that istiod makes no pods for it");
                return self.error(entrance.gateway.referenced, message);
            }
        }
        Ok(())
    }

    /// Refuses a port or a host that no server of a gateway has at any stage.
    fn has_server(&self, entrance: &Entrance, gateways: &[&Manifest]) -> Result<(), ScenarioError> {
        let (name, port) = (&entrance.gateway.value, entrance.port());
        let servers: Vec<Server<'_>> = gateways.iter().flat_map(|gateway| Server::all_of(gateway)).collect();
        let ports: Vec<String> = servers.iter().filter_map(|server| Some(server.port?.to_string())).collect();
        let at_port: Vec<&Server<'_>> = servers.iter().filter(|server| server.port == Some(u64::from(port))).collect();
        let place = entrance.port_at();
        if at_port.is_empty() {
            let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
            let message = format!("no server of gateway/{name} has the port {port}; ports of its servers: {ports}");
            return self.error(place, message);
        }
        let sent = if entrance.tls.is_some() { Speaks::Https } else { Speaks::Http };
        let speaks = |what: Speaks| at_port.iter().any(|server| server.speaks == what);
        if !speaks(sent) {
            let what = match sent {
                Speaks::Https if speaks(Speaks::Http) => {
                    "is HTTP, and this population sends HTTPS: leave out its `tls`"
                }
                Speaks::Https => {
                    "is not HTTPS that the gateway terminates, `tls: {mode: SIMPLE, credentialName: …}`, or passes through, `tls: {mode: PASSTHROUGH}`"
                }
                _ if speaks(Speaks::Https) => {
                    "is HTTPS, and this population sends HTTP: give it `tls: {ca: …}`, the file of a certificate authority"
                }
                _ => "is neither HTTP nor HTTPS that the gateway terminates or passes through",
            };
            return self.error(place, format!("the port {port} of gateway/{name} {what}"));
        }
        let hosts = at_port.iter().filter(|server| server.speaks == sent);
        let hosts: Vec<&str> = hosts.flat_map(|server| server.hosts.iter().copied()).collect();
        let called = entrance.host.value.split(':').next().unwrap_or_default().to_lowercase();
        let has = |host: &&str| match host.strip_prefix('*') {
            Some(suffix) => called.ends_with(&suffix.to_lowercase()),
            None => host.eq_ignore_ascii_case(&called),
        };
        if hosts.iter().any(has) {
            return Ok(());
        }
        let meant = nearest(&called, hosts.iter().copied());
        let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
        let message = format!(
            "no server of gateway/{name} at port {port} has the host `{}`; hosts of its servers: {hosts}{meant}",
            entrance.host.value
        );
        self.error(entrance.host.referenced, message)
    }

    /// Adds the pod outside of the mesh to the client's, where requests from there are sent from a pod.
    pub(super) fn add_outside(
        &self,
        written: Option<&Spanned<Outside>>,
        entrances: &[Entrance],
        client: &mut Client,
    ) -> Result<(), ScenarioError> {
        match written {
            Some(outside) if entrances.is_empty() => {
                self.error(outside.referenced, "no population comes `through` a gateway")
            }
            Some(Spanned { value: Outside::Host, .. }) => Ok(()),
            _ => {
                if !entrances.is_empty() {
                    client.add_outside();
                }
                Ok(())
            }
        }
    }
}

impl Client {
    /// The name of the pod outside of the mesh.
    pub(super) fn outside_name(&self) -> String {
        format!("{}-outside", self.pod)
    }

    /// Adds a pod like the client's, without a sidecar and without labels by which a Service or a rule could select it.
    fn add_outside(&mut self) {
        let is_client = |manifest: &&Manifest| manifest.kind() == "Pod" && manifest.name() == self.pod;
        let Some(mut pod) = self.manifests.iter().find(is_client).cloned() else { return };
        let name = self.outside_name();
        pod.object.metadata.name.clone_from(&name);
        pod.object.metadata.labels = Some([(INJECT.to_owned(), "false".to_owned())].into());
        pod.object.metadata.annotations = None;
        self.manifests.push(pod);
        self.outside = Some(name);
    }
}

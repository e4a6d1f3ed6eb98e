//! Gateways in the manifests of a draft, and the callers outside of the mesh who come through them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::routing::Client;
use crate::scenario::{GatewayApi, IngressGateway, Manifest, Population, Request};

/// A port of a gateway that takes HTTP, with its hosts.
struct Port<'a> {
    number: u16,
    hosts: Vec<&'a str>,
}

/// A gateway whose callers a draft can have.
struct Gateway<'a> {
    manifest: &'a Manifest,
    api: GatewayApi,
    selector: BTreeMap<String, String>,
    ports: Vec<Port<'a>>,
}

/// A population for each host by which callers outside reach rules through a gateway. What they cannot express is noted in `open`.
pub(super) fn outside(manifests: &[&Manifest], open: &mut Vec<String>) -> Vec<Population> {
    let gateways: Vec<Gateway<'_>> = manifests.iter().filter_map(|manifest| gateway(manifest, open)).collect();
    let of_manifests = manifests.iter().filter(|manifest| manifest.kind() == "Gateway");
    let named: BTreeSet<&str> = of_manifests.map(|manifest| manifest.name()).collect();
    let mut populations: Vec<Population> = Vec::new();
    for rule in manifests.iter().filter_map(|manifest| Bound::of(manifest)) {
        for gateway in gateways.iter().filter(|own| rule.gateways.contains(own.manifest.name())) {
            for port in &gateway.ports {
                let hosts = rule.hosts.iter().flat_map(|host| port.hosts.iter().filter_map(|own| called(own, host)));
                for host in hosts.collect::<BTreeSet<_>>() {
                    let population = population(gateway, port.number, &host);
                    if !populations.iter().any(|known| known.name == population.name) {
                        populations.push(population);
                    }
                }
            }
        }
        if !rule.is_of_mesh && rule.gateways.is_disjoint(&named) {
            let gateways = rule.gateways.iter().copied().collect::<Vec<_>>().join(", ");
            open.push(format!(
                "{} applies at the gateway {gateways} only, which is not among the manifests: add it to test the rule",
                rule.id
            ));
        }
    }
    populations
}

fn population(gateway: &Gateway<'_>, port: u16, host: &str) -> Population {
    let through = IngressGateway {
        name: gateway.manifest.name().to_owned(),
        api: gateway.api,
        port,
        selector: gateway.selector.clone(),
        tls: None,
        origin: gateway.manifest.origin.clone(),
    };
    let at = if port == 80 { String::new() } else { format!("-{port}") };
    Population {
        name: format!("outside-{}{at}", host.replace('.', "-")),
        through: Some(through),
        from_pod: None,
        variants: vec![Request { method: None, headers: [("host".to_owned(), host.to_owned())].into() }],
        sessions: None,
    }
}

/// A host that callers name where a server and a rule have these; none if they have none in common.
fn called(server: &str, rule: &str) -> Option<String> {
    let server = server.rsplit('/').next().unwrap_or_default();
    let concrete = |host: &str| match host.strip_prefix('*') {
        None => host.to_owned(),
        Some("") => "example.com".to_owned(),
        Some(suffix) => format!("any{suffix}"),
    };
    let covers = |wide: &str, host: &str| wide.strip_prefix('*').map_or(wide == host, |suffix| host.ends_with(suffix));
    if covers(server, rule) {
        Some(concrete(rule))
    } else if covers(rule, server) {
        Some(concrete(server))
    } else {
        None
    }
}

/// Reads a gateway; none if the manifest is no gateway, or one whose pods a throwaway cluster does not have.
fn gateway<'a>(manifest: &'a Manifest, open: &mut Vec<String>) -> Option<Gateway<'a>> {
    let name = manifest.name();
    let (api, list) = match (manifest.kind(), manifest.group()) {
        ("Gateway", "networking.istio.io") => (GatewayApi::Istio, "/spec/servers"),
        ("Gateway", "gateway.networking.k8s.io") => (GatewayApi::Kubernetes, "/spec/listeners"),
        _ => return None,
    };
    let selector: BTreeMap<String, String> = match api {
        GatewayApi::Istio => {
            let written = manifest.at("/spec/selector").and_then(Value::as_object).into_iter().flatten();
            written.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        }
        GatewayApi::Kubernetes => [(GatewayApi::GATEWAY_NAME.to_owned(), name.to_owned())].into(),
    };
    let installed = Client::ingress_gateway().labels;
    let is_other = match api {
        GatewayApi::Istio => {
            selector.is_empty() || selector.iter().any(|(key, value)| installed.get(key) != Some(value))
        }
        GatewayApi::Kubernetes => {
            manifest.at("/spec/gatewayClassName").and_then(Value::as_str) != Some("istio")
                || manifest.at("/spec/addresses").is_some()
        }
    };
    if is_other {
        open.push(format!(
            "the gateway {name}: a throwaway cluster has no pods for it, so no requests come through it"
        ));
        return None;
    }
    let servers = manifest.at(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut ports = Vec::new();
    for server in servers {
        let (number, protocol, hosts) = match api {
            GatewayApi::Istio => {
                (&server["port"]["number"], &server["port"]["protocol"], texts(server.get("hosts"), Value::as_str))
            }
            GatewayApi::Kubernetes => {
                (&server["port"], &server["protocol"], vec![server["hostname"].as_str().unwrap_or("*")])
            }
        };
        let Some(number) = number.as_u64().and_then(|number| u16::try_from(number).ok()) else { continue };
        let protocol = protocol.as_str().unwrap_or_default().to_uppercase();
        if ["HTTP", "HTTP2", "GRPC"].contains(&protocol.as_str()) {
            ports.push(Port { number, hosts });
        } else {
            let more = if protocol == "HTTPS" { ": add a population with `tls: {ca: FILE}`" } else { "" };
            open.push(format!(
                "the port {number} of the gateway {name} takes {protocol}, which the draft does not call{more}"
            ));
        }
    }
    Some(Gateway { manifest, api, selector, ports })
}

/// Rules that apply at gateways.
struct Bound<'a> {
    id: String,
    /// The names of the gateways.
    gateways: BTreeSet<&'a str>,
    hosts: Vec<&'a str>,
    /// Whether the rules apply in the mesh, too.
    is_of_mesh: bool,
}

impl<'a> Bound<'a> {
    fn of(manifest: &'a Manifest) -> Option<Self> {
        let (named, hosts, is_of_mesh) = match (manifest.kind(), manifest.group()) {
            ("VirtualService", "networking.istio.io") => {
                let named = texts(manifest.at("/spec/gateways"), Value::as_str);
                let is_of_mesh = named.contains(&"mesh");
                (named, texts(manifest.at("/spec/hosts"), Value::as_str), is_of_mesh)
            }
            ("HTTPRoute" | "GRPCRoute", _) => {
                // the default kind of a parent is a gateway
                let is_gateway = |parent: &&'a Value| parent["kind"].as_str().unwrap_or("Gateway") == "Gateway";
                let parents = manifest.at("/spec/parentRefs").and_then(Value::as_array)?;
                let named = parents.iter().filter(is_gateway).filter_map(|parent| parent["name"].as_str());
                let hosts = texts(manifest.at("/spec/hostnames"), Value::as_str);
                let hosts = if hosts.is_empty() { vec!["*"] } else { hosts };
                (named.collect(), hosts, parents.iter().any(|parent| !is_gateway(&parent)))
            }
            _ => return None,
        };
        let gateways = named.into_iter().filter(|name| *name != "mesh");
        let gateways: BTreeSet<&str> = gateways.map(|name| name.rsplit('/').next().unwrap_or(name)).collect();
        (!gateways.is_empty()).then(|| Self { id: manifest.id(), gateways, hosts, is_of_mesh })
    }
}

fn texts<'a>(list: Option<&'a Value>, text: impl Fn(&'a Value) -> Option<&'a str>) -> Vec<&'a str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(text).collect()
}

//! `Gateway`s of the Gateway API: istiod makes pods for each, and a gateway with one server of each of its listeners.

use super::gateway::{Gateway, Server, ServerHost, ServerTls, covers};
use super::live::{Kind, Live, Object};
use super::notes::{Notes, Scope};
use super::rule::{Part, RuleRef};
use super::version::RoutingVersion;
use crate::scenario::Origin;

/// The class of the gateways that istiod makes pods for.
const CLASS: &str = "istio";

/// A listener of a `Gateway`.
#[derive(Debug, Clone)]
pub(super) struct GatewayListener {
    /// Namespace and name of the `Gateway`.
    pub parent: (String, String),
    /// The name of the listener.
    pub section: String,
    pub port: u16,
    pub is_https: bool,
    /// The host, as written; none takes every host.
    pub hostname: Option<String>,
    /// Hosts and namespaces of the routes that may be attached.
    pub hosts: Vec<ServerHost>,
    /// The gateway that istiod makes of the listener.
    pub gateway: Gateway,
}

/// Why a reference of a route to a `Gateway` attaches it to no listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detached {
    /// No manifest makes the gateway.
    NoGateway,
    /// No listener has the name.
    NoSection,
    /// No listener has the port.
    NoPort,
    /// No listener has one of the route's hosts.
    NoHost,
    /// The listeners take no routes of this namespace.
    OtherNamespace,
}

/// The hosts of a route; `*` if it names none.
pub(super) fn hostnames_of(spec: &Part<'_>) -> Vec<String> {
    let hostnames = spec.get("hostnames").texts();
    if hostnames.is_empty() { vec!["*".to_owned()] } else { hostnames }
}

/// The listeners that a reference of a route to a `Gateway` attaches it to, of which there is one at least.
pub(super) fn attached<'l>(
    reference: &Part<'_>,
    route: &Object,
    hostnames: &[String],
    listeners: &'l [GatewayListener],
) -> Result<Vec<&'l GatewayListener>, Detached> {
    let namespace = reference.get("namespace").text().unwrap_or(&route.namespace);
    let name = reference.get("name").text().unwrap_or_default();
    let (section, port): (_, Option<u16>) = (reference.get("sectionName"), reference.get("port").number());
    let mut found: Vec<_> = listeners.iter().collect();
    let mut only = |why: Detached, keep: &dyn Fn(&GatewayListener) -> bool| {
        found.retain(|listener| keep(listener));
        if found.is_empty() { Err(why) } else { Ok(()) }
    };
    only(Detached::NoGateway, &|own| own.parent.0 == namespace && own.parent.1 == name)?;
    only(Detached::NoSection, &|own| section.text().is_none_or(|section| section == own.section))?;
    only(Detached::NoPort, &|own| port.is_none_or(|port| port == own.port))?;
    let fits = |(_, own): &ServerHost| hostnames.iter().any(|host| covers(own, host) || covers(host, own));
    only(Detached::NoHost, &|own| own.hosts.iter().any(fits))?;
    let takes = |own: &ServerHost| fits(own) && own.0.as_ref().is_none_or(|only| *only == route.namespace);
    only(Detached::OtherNamespace, &|own| own.hosts.iter().any(takes))?;
    Ok(found)
}

impl GatewayListener {
    /// Whether no other listener of the gateway, with the same port and protocol, takes a host more exactly.
    pub fn has_own(&self, host: &str, listeners: &[Self]) -> bool {
        let own = self.hostname.as_deref().unwrap_or_default();
        if !own.is_empty() && !own.starts_with('*') {
            return true;
        }
        if !own.is_empty() && !covers(own, host) && !covers(host, own) {
            return false;
        }
        let others = listeners
            .iter()
            .filter(|other| other.parent == self.parent && other.port == self.port && other.is_https == self.is_https);
        let mut others = others.filter_map(|other| other.hostname.as_deref()).filter(|other| *other != own);
        !others.any(|other| own.len() <= other.len() && covers(other, host))
    }
}

/// The listeners of all gateways.
pub(super) fn read_all(version: RoutingVersion, live: &Live, notes: &mut Notes) -> Vec<GatewayListener> {
    live.of(Kind::KubernetesGateway).flat_map(|object| read(version, object, notes)).collect()
}

fn read(version: RoutingVersion, object: &Object, notes: &mut Notes) -> Vec<GatewayListener> {
    let root = Part::root(&object.manifest);
    let (spec, name, namespace) = (root.get("spec"), object.manifest.name(), object.namespace.as_str());
    let class = spec.get("gatewayClassName");
    if class.text() != Some(CLASS) {
        // a waypoint takes the requests of a namespace, and other classes are not istiod's
        let is_waypoint = class.text().is_some_and(|class| class.contains("waypoint"));
        notes.scope = if is_waypoint { Scope::Namespace(namespace.to_owned()) } else { Scope::Nothing };
        class.not_modelled(notes);
        return Vec::new();
    }
    notes.scope = Scope::Gateway(None);
    spec.only(&["gatewayClassName", "listeners", "infrastructure"], notes);
    spec.get("infrastructure").only(&["labels", "annotations"], notes);
    let written = spec.get("listeners");
    let read = written.items().filter_map(|part| {
        let port: u16 = part.get("port").number()?;
        notes.scope = Scope::Gateway(Some(port));
        part.only(&["name", "port", "protocol", "hostname", "allowedRoutes", "tls"], notes);
        let section = part.get("name").owned().unwrap_or_default();
        let credential = credential(&part, namespace, notes);
        let hostname = part.get("hostname").owned().filter(|host| !host.is_empty());
        let only = allowed(&part.get("allowedRoutes"), namespace, notes);
        let hosts = vec![(only, hostname.clone().unwrap_or_else(|| "*".to_owned()))];
        let made = if version.is_after_1_22() {
            format!("{name}~istio-autogenerated-k8s-gateway~{section}")
        } else {
            format!("{name}-istio-autogenerated-k8s-gateway-{section}")
        };
        let parent = (namespace.to_owned(), name.to_owned());
        let server = Server {
            port,
            hosts: hosts.clone(),
            redirects: false,
            protocol: part.get("protocol").owned().unwrap_or_default(),
            has_tls: credential.is_some(),
            at: RuleRef { object: format!("Gateway {name}").into(), origin: part.origin() },
            tls: credential.map_or(ServerTls::Plain, |(name, at)| ServerTls::Terminated(name, at)),
        };
        Some(GatewayListener {
            section,
            port,
            is_https: server.is_tls(),
            hostname,
            hosts,
            gateway: Gateway::of_listener(format!("{namespace}/{made}"), object.created, parent.clone(), server),
            parent,
        })
    });
    read.collect()
}

/// The name of the Secret of a listener of HTTPS, with its place; none for HTTP. Other protocols are not modelled.
fn credential(part: &Part<'_>, namespace: &str, notes: &mut Notes) -> Option<(String, Origin)> {
    let (protocol, tls) = (part.get("protocol"), part.get("tls"));
    match protocol.text().unwrap_or_default() {
        "HTTP" => {
            tls.only(&[], notes);
            None
        }
        "HTTPS" => {
            tls.only(&["mode", "certificateRefs"], notes);
            let (mode, references) = (tls.get("mode"), tls.get("certificateRefs"));
            if mode.text().is_some_and(|mode| mode != "Terminate") {
                mode.not_modelled(notes);
            }
            let mut all = references.items();
            let first = all.next();
            if all.next().is_some() {
                references.not_modelled(notes);
            }
            let Some(first) = first else { return Some((String::new(), references.origin())) };
            first.only(&["group", "kind", "name", "namespace"], notes);
            // another namespace needs a grant
            let (kind, other) = (first.get("kind"), first.get("namespace"));
            if kind.text().is_some_and(|kind| kind != "Secret") {
                kind.not_modelled(notes);
            }
            if other.text().is_some_and(|other| other != namespace) {
                other.not_modelled(notes);
            }
            Some((first.get("name").owned().unwrap_or_default(), first.get("name").origin()))
        }
        _ => {
            protocol.not_modelled(notes);
            None
        }
    }
}

/// The only namespace whose routes may be attached; none if those of every namespace may.
fn allowed(part: &Part<'_>, namespace: &str, notes: &mut Notes) -> Option<String> {
    part.only(&["namespaces"], notes);
    let namespaces = part.get("namespaces");
    match namespaces.get("from").text() {
        None | Some("Same") => Some(namespace.to_owned()),
        Some("All") => None,
        Some(_) => {
            let selector = namespaces.get("selector");
            let labels = selector.get("matchLabels").labels();
            match labels.iter().next() {
                Some((key, value))
                    if key == "kubernetes.io/metadata.name"
                        && labels.len() == 1
                        && !selector.get("matchExpressions").is_there() =>
                {
                    Some(value.clone())
                }
                _ => {
                    namespaces.not_modelled(notes);
                    None
                }
            }
        }
    }
}

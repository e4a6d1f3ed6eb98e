//! Istio's `Gateway`s and their servers.

use std::collections::{BTreeMap, BTreeSet};

use crate::routing::client::Client;
use crate::routing::live::Object;
use crate::routing::notes::{Notes, Scope};
use crate::routing::rule::{Part, RuleRef};
use crate::routing::secret::{SecretFault, Secrets};
use crate::routing::unmodelled::{ROOT, contains};
use crate::routing::version::RoutingVersion;
use crate::routing::virtual_service::VirtualService;
use crate::scenario::{GatewayApi, Origin};

/// The labels of the ingress gateway that Istio's own manifests install in `istio-system`.
const INSTALLED: [(&str, &str); 2] = [("app", "istio-ingressgateway"), ("istio", "ingressgateway")];

/// A `Gateway`.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    /// `NAMESPACE/NAME`, by which rules refer to it.
    pub id: String,
    created: u64,
    pods: Selected,
    pub servers: Vec<Server>,
}

/// The pods that a gateway configures.
#[derive(Debug, Clone)]
pub(super) enum Selected {
    /// Those with these labels; no labels select all gateway pods.
    Labels(BTreeMap<String, String>),
    /// Those that istiod makes for a `Gateway` of the Gateway API.
    MadeFor { namespace: String, name: String },
}

/// A host, with the only namespace whose rules may name it.
pub(super) type ServerHost = (Option<String>, String);

/// A server of a `Gateway`.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub port: u16,
    pub hosts: Vec<ServerHost>,
    /// Whether the server redirects all requests to HTTPS.
    pub redirects: bool,
    /// The protocol of the port, as written.
    pub protocol: String,
    /// Whether it has TLS settings: no two servers with some have one host at one port.
    pub has_tls: bool,
    pub tls: ServerTls,
    pub at: RuleRef,
}

/// What a server does with TLS.
#[derive(Debug, Clone)]
pub(super) enum ServerTls {
    /// Nothing: it takes HTTP.
    Plain,
    /// It terminates HTTPS with the certificate of the Secret with this name, which has a place.
    Terminated(String, Origin),
    /// It passes connections through, by the names in their handshakes and the `tls` routes of rules.
    PassedThrough,
}

impl Gateway {
    /// Reads an object. One whose pods are not those of the ingress gateway is not modelled.
    pub fn read(object: &Object, notes: &mut Notes) -> Self {
        let root = Part::root(&object.manifest);
        let (spec, name, namespace) = (root.get("spec"), object.manifest.name(), object.namespace.as_str());
        notes.scope = Scope::Gateway(None);
        spec.only(&["selector", "servers"], notes);
        let selector = spec.get("selector").labels();
        if !contains(&Client::ingress_gateway().labels, &selector) {
            spec.get("selector").not_modelled(notes);
        }
        let servers = spec.get("servers");
        let servers = servers.items().filter_map(|part| {
            let port: u16 = part.get("port").get("number").number()?;
            notes.scope = Scope::Gateway(Some(port));
            part.only(&["port", "hosts", "name", "tls"], notes);
            part.get("port").only(&["number", "name", "protocol", "targetPort"], notes);
            let tls = server_tls(&part, notes);
            let host = |host: &String| match host.split_once('/') {
                Some((".", host)) => (Some(namespace.to_owned()), host.to_owned()),
                Some(("*", host)) => (None, host.to_owned()),
                Some((own, host)) => (Some(own.to_owned()), host.to_owned()),
                None => (None, host.clone()),
            };
            Some(Server {
                port,
                hosts: part.get("hosts").texts().iter().map(host).collect(),
                redirects: matches!(tls, ServerTls::Plain) && part.get("tls").get("httpsRedirect").value == true,
                protocol: part.get("port").get("protocol").owned().unwrap_or_default(),
                has_tls: part.get("tls").is_there(),
                tls,
                at: RuleRef { object: format!("Gateway {name}").into(), origin: part.origin() },
            })
        });
        let id = format!("{namespace}/{name}");
        Self { servers: servers.collect(), id, created: object.created, pods: Selected::Labels(selector) }
    }

    /// What the position among the gateways of a pod depends on: the time of creation, name and namespace.
    pub fn order(&self) -> (u64, &str, &str) {
        let (namespace, name) = self.id.split_once('/').unwrap_or_default();
        (self.created, name, namespace)
    }

    /// Whether a server has a host of rules in a namespace.
    pub fn has_host_of(&self, hosts: &[String], namespace: &str) -> bool {
        self.servers.iter().any(|server| server.has_host_of(hosts, namespace))
    }

    /// Whether rules are bound to the gateway, and one of its servers has one of their hosts.
    pub fn binds(&self, server: &Server, rules: &VirtualService) -> bool {
        rules.gateways.contains(&self.id) && server.has_host_of(&rules.hosts, &rules.namespace)
    }

    /// The ports of all servers.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.servers.iter().map(|server| server.port)
    }

    /// The hosts of all servers.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().flat_map(|server| &server.hosts).map(|(_, host)| host.as_str())
    }

    /// The servers that terminate HTTPS, each with its hosts, the name of its Secret and the place of that name.
    pub fn credentials(&self) -> impl Iterator<Item = (Vec<&str>, &str, &Origin)> {
        self.servers.iter().filter_map(|server| {
            let (name, at) = server.credential()?;
            Some((server.hosts.iter().map(|(_, host)| host.as_str()).collect(), name, at))
        })
    }

    /// Whether the gateway configures a pod.
    pub fn selects(&self, pod: &Client) -> bool {
        match &self.pods {
            Selected::Labels(labels) => contains(&pod.labels, labels),
            Selected::MadeFor { namespace, name } => {
                pod.namespace == *namespace && pod.labels.get(GatewayApi::GATEWAY_NAME) == Some(name)
            }
        }
    }

    /// The namespace of the pods, where their Secrets are.
    pub fn namespace(&self) -> &str {
        match &self.pods {
            Selected::Labels(_) => ROOT,
            Selected::MadeFor { namespace, .. } => namespace,
        }
    }

    /// The namespace, if istiod makes the pods for a `Gateway` with this name.
    pub fn made_in(&self, name: &str) -> Option<&str> {
        match &self.pods {
            Selected::MadeFor { namespace, name: own } if own == name => Some(namespace),
            _ => None,
        }
    }

    /// A gateway with one server, as istiod makes it of a listener.
    pub fn of_listener(id: String, created: u64, parent: (String, String), server: Server) -> Self {
        let (namespace, name) = parent;
        Self { id, created, pods: Selected::MadeFor { namespace, name }, servers: vec![server] }
    }
}

/// Notes what depends on several gateways, rules and Secrets.
pub(super) fn note(
    version: RoutingVersion,
    gateways: &[Gateway],
    rules: &[VirtualService],
    secrets: &Secrets,
    notes: &mut Notes,
) {
    if !version.is_after_1_22() {
        note_capitals(gateways, rules, notes);
        for server in after_tls(gateways) {
            // istiod gives them no routes
            notes.scope = Scope::Gateway(Some(server.port));
            notes.add(server.at.origin.clone(), "server of HTTP after one of TLS at one port".to_owned());
        }
    }
    note_names(gateways, rules, notes);
    note_secrets(gateways, secrets, notes);
}

/// What takes a name at a port; istiod leaves out what takes one that another of its kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Terminated,
    PassedThrough,
}

/// The servers of HTTP that come after one of TLS at their port.
fn after_tls(gateways: &[Gateway]) -> impl Iterator<Item = &Server> {
    let mut of_tls = BTreeSet::new();
    gateways.iter().flat_map(|gateway| &gateway.servers).filter(move |server| {
        if server.is_tls() {
            of_tls.insert(server.port);
        }
        !server.is_tls() && of_tls.contains(&server.port)
    })
}

/// Names what takes a name that something of another kind takes at the same port: Envoy refuses a listener in which two parts have one name.
fn note_names(gateways: &[Gateway], rules: &[VirtualService], notes: &mut Notes) {
    // requests without a handshake have any name
    let plain = after_tls(gateways).map(|server| (Kind::Plain, server.port, "*".to_owned(), &server.at.origin));
    let servers = || gateways.iter().flat_map(|gateway| gateway.servers.iter().map(move |server| (gateway, server)));
    let terminated = servers().filter(|(_, server)| server.credential().is_some());
    let terminated = terminated.flat_map(|(_, server)| {
        server.names().map(move |name| (Kind::Terminated, server.port, name, &server.at.origin))
    });
    let passing = servers().filter(|(_, server)| matches!(server.tls, ServerTls::PassedThrough));
    let passed = passing.flat_map(|(gateway, server)| {
        let rules = rules.iter().filter(|rules| gateway.binds(server, rules));
        rules.flat_map(|rules| &rules.connections).flat_map(move |rule| {
            let names = rule.names_at(&gateway.id, server.port).flatten();
            names.map(move |name| (Kind::PassedThrough, server.port, name.to_lowercase(), &rule.at.origin))
        })
    });
    let mut known = BTreeMap::new();
    for (kind, port, name, at) in terminated.chain(plain).chain(passed) {
        let first = *known.entry((port, name.clone())).or_insert(kind);
        if first != kind {
            notes.scope = Scope::Gateway(Some(port));
            notes.add(at.clone(), format!("name `{name}`, which another server of the port has"));
        }
    }
}

/// Names the servers whose hosts differ from others of their port in capitals alone. Up to 1.22, istiod sends both, and Envoy, which does not
/// tell them apart, refuses all routes of the port.
fn note_capitals(gateways: &[Gateway], rules: &[VirtualService], notes: &mut Notes) {
    let mut known: BTreeMap<(u16, String), &String> = BTreeMap::new();
    for gateway in gateways {
        for server in &gateway.servers {
            let own = rules.iter().filter(|rules| rules.gateways.contains(&gateway.id));
            for host in own.flat_map(|rules| server.common(&rules.hosts, &rules.namespace)) {
                let other = *known.entry((server.port, host.to_lowercase())).or_insert(host);
                if other != host {
                    notes.scope = Scope::Gateway(Some(server.port));
                    notes.add(server.at.origin.clone(), format!("hosts `{other}` and `{host}` of one port"));
                }
            }
        }
    }
}

/// Notes Secrets of gateways that other objects may make.
fn note_secrets(gateways: &[Gateway], secrets: &Secrets, notes: &mut Notes) {
    let servers = gateways.iter().flat_map(|gateway| gateway.servers.iter().map(move |server| (gateway, server)));
    for (gateway, server) in servers.filter(|_| secrets.may_be_made()) {
        let Some((name, at)) = server.credential() else { continue };
        if matches!(secrets.certificate(gateway.namespace(), name), Err(SecretFault::NotThere)) {
            notes.scope = Scope::Gateway(Some(server.port));
            notes.add(at.clone(), format!("Secret {name}, which another object may make"));
        }
    }
}

/// What a server does with TLS. Protocols other than HTTP and TLS are not modelled.
fn server_tls(server: &Part<'_>, notes: &mut Notes) -> ServerTls {
    let (protocol, tls) = (server.get("port").get("protocol"), server.get("tls"));
    let declared = protocol.text().unwrap_or_default().to_uppercase();
    match declared.as_str() {
        "HTTP" | "HTTP2" | "GRPC" => {
            tls.only(&["httpsRedirect"], notes);
            ServerTls::Plain
        }
        "HTTPS" | "TLS" => {
            tls.only(&["httpsRedirect", "mode", "credentialName"], notes);
            let (mode, name) = (tls.get("mode"), tls.get("credentialName"));
            match mode.text() {
                None | Some("PASSTHROUGH") if tls.is_there() => return ServerTls::PassedThrough,
                Some("SIMPLE") if declared == "HTTPS" => {}
                // the bytes behind the handshake go by `tcp` routes
                Some("SIMPLE") => protocol.not_modelled(notes),
                Some(_) => mode.not_modelled(notes),
                None => tls.not_modelled(notes),
            }
            ServerTls::Terminated(name.owned().unwrap_or_default(), name.origin())
        }
        _ => {
            protocol.not_modelled(notes);
            ServerTls::Plain
        }
    }
}

/// Why a server has no effect, by the server that comes before it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unused<'a> {
    /// After a server of HTTP, a port takes no servers of TLS.
    Protocol(&'a Server),
    /// A host has one server with TLS settings at a port.
    Host(&'a str, &'a Server),
}

/// The servers at a port of the gateways that select a pod, each with its gateway, and why it has no effect, if it has none.
pub(super) fn at_port<'a>(
    gateways: &'a [Gateway],
    pod: &Client,
    port: u16,
) -> Vec<(&'a Gateway, &'a Server, Option<Unused<'a>>)> {
    let mut found: Vec<(&Gateway, &Server, Option<Unused<'_>>)> = Vec::new();
    let mut plain: Option<&Server> = None;
    let mut owners: BTreeMap<&ServerHost, &Server> = BTreeMap::new();
    for gateway in gateways.iter().filter(|gateway| gateway.selects(pod)) {
        for server in gateway.servers.iter().filter(|server| server.port == port) {
            let unused = server.unused(plain, &owners);
            plain = plain.or(Some(server).filter(|_| unused.is_none() && !server.is_tls()));
            if unused.is_none() && server.has_tls {
                owners.extend(server.hosts.iter().map(|host| (host, server)));
            }
            found.push((gateway, server, unused));
        }
    }
    found
}

impl Server {
    /// Why the server has no effect, given the first one before it that takes HTTP at its port, and the owners of hosts.
    fn unused<'a>(&self, plain: Option<&'a Self>, owners: &BTreeMap<&'a ServerHost, &'a Self>) -> Option<Unused<'a>> {
        if let Some(plain) = plain.filter(|_| self.is_tls()) {
            return Some(Unused::Protocol(plain));
        }
        let mut owned = self.hosts.iter().filter(|_| self.has_tls).filter_map(|host| owners.get_key_value(host));
        owned.next().map(|(host, owner)| Unused::Host(&host.1, owner))
    }

    /// Whether the server takes TLS, not HTTP.
    pub const fn is_tls(&self) -> bool {
        !matches!(self.tls, ServerTls::Plain)
    }

    /// The name of the Secret of a server that terminates HTTPS, with its place.
    pub fn credential(&self) -> Option<(&str, &Origin)> {
        match &self.tls {
            ServerTls::Terminated(name, at) => Some((name, at)),
            ServerTls::Plain | ServerTls::PassedThrough => None,
        }
    }

    /// `HTTP`, `HTTPS`, or `TLS` that is passed through.
    pub const fn takes(&self) -> &'static str {
        match self.tls {
            ServerTls::Plain => "HTTP",
            ServerTls::Terminated(..) => "HTTPS",
            ServerTls::PassedThrough => "TLS",
        }
    }

    /// The names in handshakes that the server takes, in lower case.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(|(_, host)| host.to_lowercase())
    }

    /// The place of the redirect, if the server redirects.
    pub fn redirect(&self) -> Option<RuleRef> {
        self.redirects.then(|| self.at.clone())
    }

    /// Whether the server has a host of rules in a namespace.
    pub fn has_host_of(&self, hosts: &[String], namespace: &str) -> bool {
        self.common(hosts, namespace).next().is_some()
    }

    /// The hosts of rules that the server has, in lower case.
    pub fn hosts_of(&self, rules: &VirtualService) -> BTreeSet<String> {
        self.common(&rules.hosts, &rules.namespace).map(|host| host.to_lowercase()).collect()
    }

    /// The hosts of rules in a namespace that the server has, as they are written.
    fn common<'a>(&'a self, hosts: &'a [String], namespace: &'a str) -> impl Iterator<Item = &'a String> {
        let own = self.hosts.iter().filter(move |(only, _)| only.as_ref().is_none_or(|only| only == namespace));
        let pairs = own.flat_map(move |(_, own)| hosts.iter().map(move |host| (own, host)));
        pairs.filter_map(|(own, host)| match (covers(host, own), covers(own, host)) {
            (true, _) => Some(own),
            (_, true) => Some(host),
            _ => None,
        })
    }
}

/// Whether a host is a wildcard that covers another host, or the same.
pub(super) fn covers(host: &str, other: &str) -> bool {
    match (host.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(suffix), Some(other)) => other.len() >= suffix.len() && other.ends_with(suffix),
        (Some(suffix), None) => other.ends_with(suffix),
        (None, Some(_)) => false,
        (None, None) => host == other,
    }
}

/// Whether requests with this `Host` header go to a virtual host with this domain. Envoy asks for a character in place of the `*`.
pub(super) fn takes(domain: &str, host: &str) -> bool {
    match domain.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => domain == host,
    }
}

impl Client {
    /// The pods of the ingress gateway that Istio's own manifests install.
    pub fn ingress_gateway() -> Self {
        let labels = INSTALLED.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self::new(ROOT, labels)
    }
}

//! The table of variants, and what the model says of each.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use shiftcheck::routing::{GatewayPods, Live, Outbound, Outcome, Request, TlsHandshake};
use shiftcheck::scenario::{Manifest, parse_manifests};

/// The address that the requests go to unless they name another.
pub const HOST: &str = "svc-hello";
pub const PORT: u16 = 8080;

/// The variants, and the requests that each is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    requests: BTreeMap<String, Written>,
    /// Whether the requests come from outside of the mesh.
    #[serde(default)]
    pub entering: bool,
    /// The `Gateway` of the Gateway API through which they come; none for the ingress gateway.
    #[serde(default)]
    pub through: Option<String>,
    #[serde(rename = "destinations")]
    _destinations: serde_yaml::Value,
    pub variants: Vec<Variant>,
}

/// What differs from the base.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    #[serde(default)]
    objects: String,
    #[serde(default)]
    without: Vec<String>,
    http: Option<serde_yaml::Value>,
    /// The servers of Gateways.
    #[serde(default)]
    gateways: BTreeMap<String, serde_yaml::Value>,
    /// The listeners of Gateways of the Gateway API, by `NAME` or `NAME.NAMESPACE`.
    #[serde(default)]
    listeners: BTreeMap<String, serde_yaml::Value>,
    /// `HTTPRoute`s, by `NAME` or `NAME.NAMESPACE`, to the Services `hello-v1` and `hello-v2`.
    #[serde(default)]
    routes: BTreeMap<String, serde_yaml::Value>,
    /// `VirtualService`s, by `NAME` or `NAME.NAMESPACE`.
    #[serde(default)]
    rules: BTreeMap<String, serde_yaml::Value>,
    /// Secrets with a certificate in the namespace of the gateway's pods.
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    requests: BTreeMap<String, Written>,
    /// The protocol of the requests: `http`, `h2c` or `grpc`.
    #[serde(default = "http")]
    pub protocol: String,
    /// Environment variables of the servers.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Whether the servers have a certificate.
    #[serde(default, rename = "servers-with-tls")]
    servers_with_tls: bool,
    /// Whether whole connections are routed.
    #[serde(default)]
    pub connections: bool,
    /// The version of Istio in which the model does not know what becomes of the requests.
    #[serde(default, rename = "unknown-in")]
    pub unknown_in: Option<String>,
    pub gets: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    headers: BTreeMap<String, String>,
    path: Option<String>,
    host: Option<String>,
    /// The port of the gateway.
    port: Option<u16>,
    /// Whether the request is sent over TLS, to a gateway.
    tls: bool,
}

fn http() -> String {
    "http".to_owned()
}

impl Table {
    pub fn read() -> Self {
        serde_yaml::from_str(include_str!("variants.yaml")).unwrap()
    }

    /// The variants whose requests come through a gateway of the Gateway API.
    pub fn of_kubernetes_gateways() -> Self {
        serde_yaml::from_str(include_str!("kubernetes-gateways.yaml")).unwrap()
    }

    /// The variants whose requests come through a gateway.
    pub fn of_gateways() -> Self {
        serde_yaml::from_str(include_str!("gateways.yaml")).unwrap()
    }
}

impl Variant {
    /// The objects in the order in which they are applied.
    pub fn manifests(&self, namespace: &str, other: &str) -> Vec<Manifest> {
        let rule = self.http.as_ref().map_or_else(String::new, |http| {
            let rules = serde_json::to_string(http).unwrap();
            format!(
                "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-hello}}\n\
                 spec:\n  hosts: [svc-hello]\n  http: {rules}\n"
            )
        });
        let of = |group: &str, kind: &str, name: &str, spec: &serde_json::Value| {
            let (name, namespace) = name.split_once('.').unwrap_or((name, "$NS"));
            let metadata = format!("{{name: {name}, namespace: {namespace}}}");
            format!("\n---\napiVersion: {group}/v1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n")
        };
        let object = |kind: &str, name: &str, spec: &serde_json::Value| of("networking.istio.io", kind, name, spec);
        let listeners = self.listeners.iter().map(|(name, listeners)| {
            let spec = serde_json::json!({"gatewayClassName": "istio", "listeners": listeners});
            of("gateway.networking.k8s.io", "Gateway", name, &spec)
        });
        let routes = self
            .routes
            .iter()
            .map(|(name, spec)| of("gateway.networking.k8s.io", "HTTPRoute", name, &serde_json::json!(spec)));
        let backends = ["v1", "v2"].into_iter().filter(|_| !self.routes.is_empty()).map(|version| {
            format!(
                "\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: hello-{version}, namespace: $NS}}\n\
                 spec: {{selector: {{app: hello, version: {version}}}, ports: [{{name: http, port: 8080}}]}}\n"
            )
        });
        let made: String = listeners.chain(routes).chain(backends).collect();
        let gateways = self.gateways.iter().map(|(name, servers)| {
            object("Gateway", name, &serde_json::json!({"selector": {"istio": "ingressgateway"}, "servers": servers}))
        });
        let rules = self.rules.iter().map(|(name, spec)| object("VirtualService", name, &serde_json::json!(spec)));
        let secret = |name: &String| {
            let written = include_str!("../../fixtures/ingress-tls/secret.yaml");
            let namespace = if self.listeners.is_empty() { "istio-system" } else { "$NS" };
            format!("\n---\n{}", written.replace("hello-certificate", name).replace("istio-system", namespace))
        };
        let at_gateways: String = gateways.chain(rules).chain(self.secrets.iter().map(secret)).collect();
        let own =
            format!("{}{rule}{at_gateways}{made}", self.objects).replace("$NS", namespace).replace("$OTHER", other);
        let own = if own.trim().is_empty() { Vec::new() } else { parsed("variants.yaml", &own) };
        let mut manifests = parsed("base.yaml", &self.base());
        manifests.retain(|manifest| {
            let replaced = own.iter().any(|own| {
                own.id() == manifest.id() && own.object.metadata.namespace == manifest.object.metadata.namespace
            });
            !replaced && !self.without.contains(&manifest.id().to_lowercase())
        });
        manifests.extend(own);
        manifests
    }

    /// What the variant begins with, with the environment and the certificates of its servers.
    fn base(&self) -> String {
        let tls = self.servers_with_tls.then(|| serde_json::json!({"name": "TLS", "value": "/tls"}));
        let env: Vec<_> = tls
            .into_iter()
            .chain(self.env.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})))
            .collect();
        let env = format!("name: hello, env: {}, image", serde_json::json!(env));
        let mut base = include_str!("base.yaml").replace("name: hello, image", &env);
        if self.servers_with_tls {
            let port = "ports: [{name: web, containerPort: 8080}]}";
            let mounted = "ports: [{name: web, containerPort: 8080}], volumeMounts: [{name: c, mountPath: /tls}]}\n      \
                           volumes: [{name: c, secret: {secretName: servers}}]";
            base = base.replace(port, mounted);
            let secret = include_str!("../../fixtures/ingress-passthrough/secret.yaml");
            base = format!("{}\n---\n{base}", secret.replace("hello-certificate", "servers"));
        }
        base
    }

    /// Whether its pods differ from the base's.
    pub fn changes_pods(&self) -> bool {
        !self.env.is_empty() || ["kind: Deployment", "kind: Pod"].iter().any(|kind| self.objects.contains(kind))
    }

    /// Whether requests are sent over TLS.
    pub fn has_requests_over_tls(&self) -> bool {
        self.requests.values().any(|request| request.tls)
    }

    pub fn live(&self, namespace: &str, other: &str) -> Live {
        let mut live = Live::new(namespace, namespace);
        self.manifests(namespace, other).iter().for_each(|manifest| live.apply(manifest));
        live
    }

    pub fn requests(&self, table: &Table, namespace: &str) -> Vec<(String, Request)> {
        let written = table.requests.iter().chain(&self.requests);
        let request = |written: &Written| {
            let host = written.host.as_deref().unwrap_or(HOST).replace("$NS", namespace);
            let path = written.path.as_deref().unwrap_or("/");
            let request = if table.entering {
                let pods = table.through.clone().map_or(GatewayPods::Installed, GatewayPods::MadeFor);
                Request::entering(&host, written.port.unwrap_or(80), path).by_way_of(pods)
            } else {
                Request::get(&host, PORT, path)
            };
            // a client that takes every certificate
            let tls = written.tls.then(|| TlsHandshake { server_name: host.to_lowercase(), ca: None });
            let request = Request { tls, ..request };
            let request = written.headers.iter().fold(request, |request, (name, value)| request.with(name, value));
            if self.protocol == "grpc" { request.by("POST").with("content-type", "application/grpc") } else { request }
        };
        written.map(|(name, written)| (name.clone(), request(written))).collect()
    }
}

fn parsed(name: &str, text: &str) -> Vec<Manifest> {
    parse_manifests(Path::new(name), text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What becomes of a request, in the words of the table.
pub fn shown(outbound: &Outbound<'_>, request: &Request) -> String {
    let Ok(routes) = outbound.routes(request) else {
        return outbound.distribution(request).iter().map(|(outcome, _)| outcome.to_string()).collect();
    };
    let decision = routes.decide(request);
    let mut outcomes: BTreeMap<String, _> = BTreeMap::new();
    for (outcome, chance) in decision.distribution.iter() {
        let elsewhere = matches!(outcome, Outcome::Served { .. }) && decision.path != request.path.as_str();
        let place = if elsewhere { format!(" at {}", decision.path) } else { String::new() };
        let own = outcomes.entry(format!("{outcome}{place}")).or_insert(shiftcheck::routing::Chance::NONE);
        *own = own.or(chance);
    }
    let whole = outcomes.len() == 1;
    let shown = outcomes.iter().map(|(text, chance)| if whole { text.clone() } else { format!("{text} {chance}") });
    shown.collect::<Vec<_>>().join(", ")
}

//! istiod in process, which `ci/oracle` builds: what it would push to the client of a case, read as from a real sidecar.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use shiftcheck::mesh::{ConfigDump, connections_to, read_gateway, read_listener, read_virtual_host};
use shiftcheck::routing::{Client, Cluster, GatewayPods, Kind, Live, Object, Request, RouteTable, addressed};
use shiftcheck::scenario::GatewayApi;

use crate::cluster::cache;

/// Objects, and the pod that sends requests.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub live: Live,
    pub client: Client,
}

impl Case {
    /// The gateway whose pod it is; none if the pod is not one of a gateway.
    pub fn pods(&self) -> Option<GatewayPods> {
        let made = || self.client.labels.get(GatewayApi::GATEWAY_NAME).map(|name| GatewayPods::MadeFor(name.clone()));
        if self.client == Client::ingress_gateway() { Some(GatewayPods::Installed) } else { made() }
    }

    /// Whether the pod is one of a gateway.
    pub fn is_gateway(&self) -> bool {
        self.pods().is_some()
    }
}

/// What istiod makes of a case.
#[derive(Debug)]
pub struct Pushed {
    /// Why objects were refused: `Kind/namespace/name` and the reason.
    pub refused: BTreeMap<String, String>,
    pub error: String,
    addresses: BTreeMap<String, String>,
    dump: ConfigDump,
}

/// The line of a case, as `ci/images/oracle` writes it.
#[derive(Deserialize)]
struct Line {
    name: String,
    #[serde(default)]
    refused: BTreeMap<String, String>,
    #[serde(default)]
    error: String,
    addresses: BTreeMap<String, String>,
    routes: Value,
    listeners: Value,
    endpoints: Value,
    clusters: Value,
}

/// The program for a version of Istio.
pub fn program(version: &str) -> PathBuf {
    cache().join("images").join(format!("oracle-{version}")).join("oracle")
}

/// A running istiod.
pub struct Istiod {
    pub version: String,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

fn command(version: &str) -> Command {
    let mut command = Command::new(program(version));
    // Istio's package for tests warns on the standard output where these are not set
    command.env("TARGET_OUT", "/").env("LOCAL_OUT", "/");
    // a third of the time is spent on collecting garbage otherwise
    command.env("GOGC", "400");
    command
}

/// What istiod would push to the client of a folder of manifests.
pub fn of_folder(version: &str, namespace: &str, folder: &Path) -> Value {
    let output = command(version).arg(namespace).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

impl Istiod {
    pub fn start(version: &str) -> Self {
        let mut child = command(version).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { version: version.to_owned(), child, questions, answers }
    }

    /// What it makes of each case, in their order.
    pub fn ask(&mut self, cases: &[Case]) -> Vec<Pushed> {
        let questions = self.questions.as_mut().unwrap();
        let answers = &mut self.answers;
        // all are read before one is parsed: a line that cannot be read must not leave istiod with nobody who takes its answers
        let lines: Vec<String> = std::thread::scope(|scope| {
            scope.spawn(move || {
                for (number, case) in cases.iter().enumerate() {
                    writeln!(questions, "{}", question(number, case)).unwrap();
                }
                questions.flush().unwrap();
            });
            answers.lines().take(cases.len()).map(Result::unwrap).collect()
        });
        assert_eq!(lines.len(), cases.len(), "istiod has ended early");
        let lines = lines.iter().map(|line| serde_json::from_str::<Line>(line).unwrap());
        let numbered = lines.map(|line| {
            let number = line.name.parse::<usize>().unwrap();
            (number, Pushed::from(line).with(&cases[number]))
        });
        numbered.collect::<BTreeMap<_, _>>().into_values().collect()
    }
}

impl Drop for Istiod {
    fn drop(&mut self) {
        // the end of the questions is the end of the program
        self.questions = None;
        let _ = self.child.wait();
    }
}

/// The name of the Secret of the server with these routes, `https.PORT.NAME-OF-THE-PORT.GATEWAY.NAMESPACE`; none for HTTP.
fn credential(case: &Case, routes: &str) -> Option<String> {
    let ["https", _, port, gateway, namespace] = routes.split('.').collect::<Vec<_>>()[..] else { return None };
    for made in case.live.of(Kind::KubernetesGateway).filter(|made| made.namespace == namespace) {
        for listener in made.manifest.at("/spec/listeners")?.as_array()? {
            let (name, section) = (made.manifest.name(), listener["name"].as_str()?);
            let names = ['~', '-'].map(|sign| format!("{name}{sign}istio-autogenerated-k8s-gateway{sign}{section}"));
            if names.iter().any(|name| name == gateway) {
                return Some(listener["tls"]["certificateRefs"][0]["name"].as_str()?.to_owned());
            }
        }
    }
    let is_it = |own: &&Object| own.manifest.name() == gateway && own.namespace == namespace;
    let gateway = case.live.of(Kind::Gateway).find(is_it)?;
    let mut servers = gateway.manifest.at("/spec/servers")?.as_array()?.iter();
    let server = servers.find(|server| server["port"]["name"] == *port)?;
    Some(server["tls"]["credentialName"].as_str()?.to_owned())
}

fn question(number: usize, case: &Case) -> Value {
    let objects = case.live.all().map(|object| {
        let mut written = serde_json::to_value(&object.manifest.object).unwrap();
        let metadata = written["metadata"].as_object_mut().unwrap();
        if !object.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), object.namespace.clone().into());
        }
        let created = format!("2026-01-01T00:00:{:02}Z", object.created);
        metadata.insert("creationTimestamp".to_owned(), created.into());
        written
    });
    json!({
        "name": number.to_string(), "namespace": case.client.namespace, "labels": case.client.labels,
        "locality": case.client.placement.parts(), "gateway": case.is_gateway(),
        "objects": objects.collect::<Vec<_>>(),
    })
}

impl From<Line> for Pushed {
    fn from(line: Line) -> Self {
        let Line { routes, listeners, endpoints, clusters, .. } = line;
        let dump = ConfigDump { routes, listeners, endpoints, clusters, ..ConfigDump::default() };
        Self { refused: line.refused, error: line.error, addresses: line.addresses, dump }
    }
}

impl Pushed {
    /// With the certificates of a gateway: the program prints no transport sockets, so that they are taken from the servers of the Gateways.
    fn with(mut self, case: &Case) -> Self {
        let own = case.live.of(Kind::Secret).filter(|secret| secret.namespace == case.client.namespace);
        let secrets = own.map(|secret| {
            let certificate =
                json!({"certificate_chain": {"inline_bytes": secret.manifest.object.data["data"]["tls.crt"]}});
            let name = format!("kubernetes://{}", secret.manifest.name());
            json!({"name": name, "secret": {"tls_certificate": certificate}})
        });
        self.dump.secrets = json!({"configs": secrets.collect::<Vec<_>>()});
        let listeners = self.dump.listeners["configs"].as_array_mut().into_iter().flatten();
        let chains =
            listeners.filter_map(|one| one["active_state"]["listener"].get_mut("filter_chains")?.as_array_mut());
        for chain in chains.flatten() {
            let routes = chain.pointer("/filters/0/typed_config/rds/route_config_name").and_then(Value::as_str);
            let Some(secret) = routes.and_then(|routes| credential(case, routes)) else { continue };
            let secrets = json!([{"name": format!("kubernetes://{secret}")}]);
            chain["transport_socket"] =
                json!({"typed_config": {"common_tls_context": {"tls_certificate_sds_secret_configs": secrets}}});
        }
        self
    }

    /// The routes of the sidecar for a request, found as Envoy finds them: by the listener of the address, and by the virtual host of the
    /// authority.
    pub fn table(&self, request: &Request, namespace: &str) -> Result<RouteTable, String> {
        if request.is_entering() {
            let server_name = request.tls.as_ref().map(|tls| tls.server_name.as_str());
            return read_gateway(&self.dump, request.port, &request.authority(), server_name)
                .map_err(|error| error.to_string());
        }
        let called = addressed(&request.host, namespace);
        let address = self.addresses.get(&called).ok_or_else(|| format!("no address of {called}"))?;
        let service = Cluster { host: called, port: request.port, subset: None };
        let listener = self.listener(address, request.port)?;
        let Some(routes) = self.route_config(listener)? else {
            return read_listener(&self.dump, listener, service).map_err(|error| error.to_string());
        };
        let authority = request.authority().to_lowercase();
        let host = authority.split_once(':').map_or(&*authority, |(host, _)| host);
        let virtual_hosts = routes["virtual_hosts"].as_array().into_iter().flatten();
        let found = virtual_hosts.filter_map(|one| Some((precedence(one, host)?, one))).max_by_key(|(rank, _)| *rank);
        match found {
            Some((_, one)) if one["name"] == "allow_any" => Ok(connections_to(&self.dump, service)),
            Some((_, one)) => read_virtual_host(&self.dump, one).map_err(|error| error.to_string()),
            None => Ok(RouteTable::default()),
        }
    }

    /// The listener for connections to an address.
    fn listener(&self, address: &str, port: u16) -> Result<&Value, String> {
        let listeners = || self.dump.listeners["configs"].as_array().into_iter().flatten();
        let named =
            |name: String| listeners().map(|one| &one["active_state"]["listener"]).find(|one| one["name"] == *name);
        let listener = named(format!("{address}_{port}")).or_else(|| named(format!("0.0.0.0_{port}")));
        listener.ok_or_else(|| format!("no listener for {address}:{port}"))
    }

    /// The route configuration of a listener for HTTP requests; none if it forwards connections.
    fn route_config(&self, listener: &Value) -> Result<Option<&Value>, String> {
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        let mut filters = chains.flat_map(|chain| chain["filters"].as_array().into_iter().flatten());
        let Some(name) = filters.find_map(|filter| filter["typed_config"]["rds"]["route_config_name"].as_str()) else {
            return Ok(None);
        };
        let configs = self.dump.routes["configs"].as_array().into_iter().flatten();
        let found = configs.map(|config| &config["route_config"]).find(|config| config["name"] == *name);
        found.map(Some).ok_or_else(|| format!("no routes {name}"))
    }
}

/// How well a virtual host fits a host: exact names before the longest suffix, suffixes before prefixes, and those before `*`.
fn precedence(virtual_host: &Value, host: &str) -> Option<(u8, usize)> {
    let domains = virtual_host["domains"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let fits = domains.filter_map(|domain| {
        let domain = domain.to_lowercase();
        if domain == "*" {
            return Some((0, 0));
        }
        match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(suffix), _) => host.ends_with(suffix).then_some((2, suffix.len())),
            (None, Some(prefix)) => host.starts_with(prefix).then_some((1, prefix.len())),
            (None, None) => (domain == host).then_some((3, 0)),
        }
    });
    fits.max()
}

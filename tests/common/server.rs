//! Servers that answer as a test says: a Kubernetes API server and a container engine, and what hangs in their place.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test panics if its set-up fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What a request is answered with.
pub enum Answer {
    Json(u16, Value),
    /// The connection stays open without an answer.
    Hold,
}

type Handler = dyn Fn(&str, &str, &Value) -> Answer + Send + Sync;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// An HTTP server, until it is dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn tcp(listener: TcpListener, handler: Arc<Handler>) -> Self {
        listener.set_nonblocking(true).unwrap();
        let accept = move || {
            let stream = listener.accept().ok()?.0;
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Some(Box::new(stream) as Box<dyn Stream>)
        };
        Self::serve(accept, handler)
    }

    fn unix(path: &Path, handler: Arc<Handler>) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let accept = move || {
            let stream = listener.accept().ok()?.0;
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Some(Box::new(stream) as Box<dyn Stream>)
        };
        Self::serve(accept, handler)
    }

    fn serve(accept: impl Fn() -> Option<Box<dyn Stream>> + Send + 'static, handler: Arc<Handler>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(stream) = accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let (stopped, seen, handler) = (Arc::clone(&stopped), Arc::clone(&seen), Arc::clone(&handler));
                thread::spawn(move || answer(stream, &stopped, &seen, handler.as_ref()));
            }
        });
        Self { stop, requests, thread: Some(thread) }
    }

    /// Waits for a request that begins so.
    pub fn wait_for(&self, begins: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.requests().iter().any(|request| request.starts_with(begins)) {
            assert!(Instant::now() < deadline, "no `{begins}` among {:#?}", self.requests());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The requests so far, as method and path.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request of a connection, and closes it.
fn answer(stream: Box<dyn Stream>, stop: &AtomicBool, seen: &Mutex<Vec<String>>, handler: &Handler) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    if stream.read_line(&mut first).is_err() {
        return;
    }
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(count) if count > 2 => {}
            _ => break,
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method.is_empty() {
        return;
    }
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    match handler(method, path, &body) {
        Answer::Json(status, value) => {
            let text = value.to_string();
            let head = "Content-Type: application/json\r\nConnection: close";
            let _ = write!(
                stream.get_mut(),
                "HTTP/1.1 {status} X\r\n{head}\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            let _ = stream.get_mut().flush();
        }
        Answer::Hold => {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// A Kubernetes API server with Istio, as far as a run on an existing cluster needs it: no rollout ever completes.
pub struct ApiServer {
    address: std::net::SocketAddr,
    namespaces: Arc<Mutex<BTreeMap<String, Value>>>,
    applied: Arc<Mutex<Vec<(String, Value)>>>,
    server: Option<Server>,
}

impl ApiServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut own = Self { address, namespaces: Arc::default(), applied: Arc::default(), server: None };
        own.server = Some(own.serve(listener));
        own
    }

    /// An API server that accepts connections and never answers.
    pub fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Some(Server::tcp(listener, Arc::new(|_: &str, _: &str, _: &Value| Answer::Hold)));
        Self { address, namespaces: Arc::default(), applied: Arc::default(), server }
    }

    pub fn stop(&mut self) {
        self.server = None;
    }

    pub fn start_again(&mut self) {
        self.server = Some(self.serve(TcpListener::bind(self.address).unwrap()));
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// The names of the namespaces that runs have created.
    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces.lock().unwrap().keys().cloned().collect()
    }

    /// The objects that were applied, with their paths.
    pub fn applied(&self) -> Vec<(String, Value)> {
        self.applied.lock().unwrap().clone()
    }

    /// A kubeconfig for it, in a folder.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters: [{{name: here, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: me, user: {{}}}}]\n\
             contexts: [{{name: here, context: {{cluster: here, user: me}}}}]\n",
            self.address
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn serve(&self, listener: TcpListener) -> Server {
        let (namespaces, applied) = (Arc::clone(&self.namespaces), Arc::clone(&self.applied));
        let handler = move |method: &str, path: &str, body: &Value| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let mut namespaces = namespaces.lock().unwrap();
            let not_found = || {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "not found", "reason": "NotFound", "code": 404});
                Answer::Json(404, status)
            };
            let one = path.strip_prefix("/api/v1/namespaces/").filter(|name| !name.contains('/'));
            match (method, path, one) {
                ("GET", "/version", _) => Answer::Json(200, version()),
                ("GET", "/api", _) => Answer::Json(200, core()),
                ("GET", "/apis", _) => Answer::Json(200, groups()),
                ("GET", "/apis/apps/v1/deployments", _) => Answer::Json(200, istiod()),
                ("POST", "/api/v1/namespaces", _) => {
                    let mut made = body.clone();
                    made["metadata"]["uid"] = "uid-1".into();
                    namespaces.insert(made["metadata"]["name"].as_str().unwrap().to_owned(), made.clone());
                    Answer::Json(201, made)
                }
                ("GET", _, Some(name)) => {
                    namespaces.get(name).map_or_else(not_found, |own| Answer::Json(200, own.clone()))
                }
                ("DELETE", _, Some(name)) => {
                    namespaces.remove(name).map_or_else(not_found, |own| Answer::Json(200, own))
                }
                ("PATCH", ..) => {
                    applied.lock().unwrap().push((path.to_owned(), body.clone()));
                    let mut made = body.clone();
                    made["metadata"]["uid"] = "uid-2".into();
                    made["metadata"]["generation"] = 1.into();
                    Answer::Json(200, made)
                }
                ("GET", path, _) if path.ends_with("/serviceaccounts/default") => {
                    let metadata = json!({"name": "default"});
                    Answer::Json(200, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
                }
                ("GET", ..) if query.contains("watch=") => Answer::Hold,
                ("GET", ..) => {
                    let metadata = json!({"resourceVersion": "1"});
                    Answer::Json(200, json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": []}))
                }
                _ => not_found(),
            }
        };
        Server::tcp(listener, Arc::new(handler))
    }
}

fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": "v1.34.4", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "linux/amd64"})
}

fn istiod() -> Value {
    let containers = json!([{"name": "discovery", "image": "istio/pilot:1.31.0"}]);
    let metadata = json!({"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"}});
    let spec = json!({"selector": {}, "template": {"spec": {"containers": containers}}});
    let item = json!({"metadata": metadata, "spec": spec});
    json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {}, "items": [item]})
}

fn group(name: &str, kinds: &[(&str, &str, &str)]) -> Value {
    let resources: Vec<Value> = kinds
        .iter()
        .map(|(kind, plural, scope)| {
            json!({"resource": plural, "singularResource": kind.to_lowercase(), "scope": scope,
                "responseKind": {"group": name, "version": "v1", "kind": kind},
                "verbs": ["create", "delete", "get", "list", "patch", "watch"]})
        })
        .collect();
    json!({"metadata": {"name": name}, "versions": [{"version": "v1", "resources": resources, "freshness": "Current"}]})
}

fn list(items: &[Value]) -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn core() -> Value {
    let kinds = [
        ("Namespace", "namespaces", "Cluster"),
        ("Pod", "pods", "Namespaced"),
        ("Service", "services", "Namespaced"),
        ("ServiceAccount", "serviceaccounts", "Namespaced"),
    ];
    list(&[group("", &kinds)])
}

fn groups() -> Value {
    list(&[
        group("apps", &[("Deployment", "deployments", "Namespaced")]),
        group("rbac.authorization.k8s.io", &[("ClusterRole", "clusterroles", "Cluster")]),
        group(
            "networking.istio.io",
            &[
                ("VirtualService", "virtualservices", "Namespaced"),
                ("DestinationRule", "destinationrules", "Namespaced"),
            ],
        ),
    ])
}

/// A container engine on a socket, which has no container and no image.
pub struct Engine {
    socket: PathBuf,
    server: Option<Server>,
}

impl Engine {
    pub fn start(folder: &Path) -> Self {
        let mut own = Self { socket: folder.join("docker.sock"), server: None };
        own.start_again();
        own
    }

    /// An engine that accepts connections and never answers.
    pub fn silent(folder: &Path) -> Self {
        let socket = folder.join("docker.sock");
        let server = Server::unix(&socket, Arc::new(|_: &str, _: &str, _: &Value| Answer::Hold));
        Self { socket, server: Some(server) }
    }

    /// The value of `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn stop(&mut self) {
        self.server = None;
        let _ = std::fs::remove_file(&self.socket);
    }

    pub fn start_again(&mut self) {
        let handler = |_: &str, path: &str, _: &Value| {
            if path.contains("/version") {
                Answer::Json(200, json!({"ApiVersion": "1.44", "MinAPIVersion": "1.24"}))
            } else if path.contains("/_ping") {
                Answer::Json(200, json!("OK"))
            } else if path.contains("/containers/json") || path.ends_with("/networks") || path.contains("/networks?") {
                Answer::Json(200, json!([]))
            } else if path.contains("/info") {
                Answer::Json(200, json!({}))
            } else if path.contains("/images/shiftcheck") {
                // this far a run has come when the test ends the engine
                Answer::Hold
            } else {
                Answer::Json(404, json!({"message": "there is no such thing"}))
            }
        };
        self.server = Some(Server::unix(&self.socket, Arc::new(handler)));
    }
}

/// Fills an image cache with what a run reads before it needs the engine: a node, the Gateway API and these versions of Istio.
pub fn cache_with_images(cache: &Path, versions: &[&str]) {
    let set = |name: &str, text: &str| {
        let folder = cache.join("images").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("set.json"), text).unwrap();
        folder
    };
    set("node", r#"{"image": "shiftcheck/k3s", "tag": "none"}"#);
    set("gateway-api", "{}");
    for version in versions {
        let text =
            json!({"version": version, "hub": "h", "tag": "t", "istioctl": "istioctl", "archives": [], "set": []});
        let istioctl = set(&format!("istio-{version}"), &text.to_string()).join("istioctl");
        fs::write(&istioctl, format!("#!/bin/sh\necho client version: {version}\n")).unwrap();
        fs::set_permissions(&istioctl, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::DraftError;
use super::callers::callers;
use super::client::{MANIFEST, POD};
use super::gateways::outside;
use super::refusal::{Refusal, refusal};
use super::sources::{ManifestFile, Sources};
use super::text::{claim, plain, population};
use crate::demo::demo_versions;
use crate::plan::Given;
use crate::routing::{Client, Kind, Live, Mesh, Naming, Object, pods_of};
use crate::scenario::{Manifest, Population, Scheme, Service};

/// The order in which a stage applies kinds. Other kinds come first.
const ORDER: [&str; 7] =
    ["Deployment", "DestinationRule", "VirtualService", "HTTPRoute", "GRPCRoute", "Service", "Pod"];

/// A drafted scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The folder of the scenario.
    pub folder: PathBuf,
    /// The names and the texts of the files. The first is the scenario.
    pub files: Vec<(String, String)>,
    /// What was skipped, in words.
    pub skipped: Vec<String>,
    /// The decisions for the user, in words.
    pub open: Vec<String>,
}

impl Draft {
    /// Writes the files and returns their paths. The manifest of the client is kept if it exists.
    ///
    /// # Errors
    /// The scenario already exists, in which case nothing is written, or a file cannot be written.
    pub fn write(&self) -> Result<Vec<PathBuf>, DraftError> {
        let mut written = Vec::new();
        for (index, (name, text)) in self.files.iter().enumerate() {
            let path = self.folder.join(name);
            if index == 0 && path.exists() {
                return Err(DraftError::Taken(path));
            }
            if path.exists() && text == MANIFEST {
                continue;
            }
            std::fs::write(&path, text).map_err(DraftError::at(&path))?;
            written.push(path);
        }
        Ok(written)
    }
}

/// Drafts a scenario from a folder of manifests, a file of rendered manifests, or, for `-`, rendered manifests from stdin. Manifests and claims
/// that a check of the scenario would refuse are left out, with a note.
///
/// # Errors
/// The source cannot be read, or it makes no scenario.
pub fn draft(source: &Path) -> Result<Draft, DraftError> {
    let mut sources = Sources::read(source)?;
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let draft = compose(&sources, &refused)?;
        match refusal(&draft.files, &sources.files)? {
            None => return Ok(draft),
            Some(Refusal::Manifest { path, message }) => {
                if !sources.skip(&path, &message) {
                    return Err(DraftError::Refused(format!("{}: {message}", path.display())));
                }
            }
            Some(Refusal::Line { line, message }) => {
                // a line is refused once
                if refused.insert(line.clone(), message.clone()).is_some() {
                    return Err(DraftError::Refused(format!("`{line}`: {message}")));
                }
            }
        }
    }
}

/// Drafts a scenario without the lines of it that are refused.
fn compose(sources: &Sources, refused: &BTreeMap<String, String>) -> Result<Draft, DraftError> {
    let mut open = Vec::new();
    let outside = outside(&sources.manifests().collect::<Vec<_>>(), &mut open);
    let name = name_of(&sources.folder);
    let namespace = namespace(sources, &mut open).unwrap_or_else(|| name.clone());
    let mut live = Live::new(&namespace, &namespace);
    sources.manifests().for_each(|manifest| live.apply(manifest));
    let service = service(&live, sources, &mut open)
        .ok_or_else(|| DraftError::NoService { from: sources.from.clone(), skipped: sources.skipped.clone() })?;
    let naming = Naming { versions: versions(&live), images: demo_versions() };
    let mesh = Mesh::new(&live, pods_of(&live, &naming));
    let outbound = mesh.outbound(Client::new(&namespace, BTreeMap::from([("app".to_owned(), POD.to_owned())])));
    let (populations, paths) = callers(&outbound, &service, outside, &mut open);
    let is_demo = workloads(&live).any(|object| {
        let image = object.manifest.at("/spec/template/spec/containers/0/image").and_then(serde_json::Value::as_str);
        image.is_some_and(|image| naming.images.contains_key(image))
    });
    if !is_demo {
        open.push("the version in a response: the header `x-version` is a guess".to_owned());
    }
    open.push("the steps of the rollout: the only stage has the current state; add a stage for each change".to_owned());
    let given = |own: &Population, path: &str| Given::to(own, &service, path, &outbound);
    for own in &populations {
        for note in paths.iter().flat_map(|path| given(own, path).not_modelled) {
            let doubt = format!("the claims: {}: {} is not modelled and can affect them", note.origin, note.field);
            if !open.contains(&doubt) {
                open.push(doubt);
            }
        }
    }
    let mut lines = header(&name, &namespace, &service, is_demo, &open);
    // a population that is refused has no claims
    let populations: Vec<_> = populations.iter().filter(|own| !refused.contains_key(population(own).trim())).collect();
    lines.extend([String::new(), "populations:".to_owned()]);
    lines.extend(populations.iter().map(|own| population(own)));
    lines.extend(["", "stages:", "  - name: current state", "    apply:"].map(str::to_owned));
    lines.extend(ordered(&sources.files).map(|file| format!("      - {}", plain(&file.path.display().to_string()))));
    lines.push("    expect:".to_owned());
    lines.extend(claims(&populations, &service.path, &paths, given, refused));
    lines.extend(NEXT.map(str::to_owned));
    let mut files =
        vec![("scenario.yaml".to_owned(), lines.join("\n") + "\n"), (format!("{POD}.yaml"), MANIFEST.to_owned())];
    if sources.is_rendered {
        files.extend(sources.files.iter().map(|file| (file.path.display().to_string(), file.text.clone())));
    }
    Ok(Draft { folder: sources.folder.clone(), files, skipped: sources.skipped.clone(), open })
}

/// The claims, and as comments those that are refused or cannot be written.
fn claims(
    populations: &[&Population],
    default_path: &str,
    paths: &[String],
    given: impl Fn(&Population, &str) -> Given,
    refused: &BTreeMap<String, String>,
) -> Vec<String> {
    let (mut claims, mut notes) = (Vec::new(), Vec::new());
    for (own, path) in populations.iter().flat_map(|own| paths.iter().map(move |path| (own, path))) {
        let given = given(own, path);
        let written = (path != default_path).then_some(path.as_str());
        match claim(&own.name, written, &given) {
            Ok(claim) => match (given.not_modelled.first(), refused.get(&format!("- {claim}"))) {
                (None, None) => claims.push(format!("      - {claim}")),
                (Some(note), _) => notes.push(format!(
                    "      # - {claim} is undecided: {}: {} is not modelled; a run on a mesh decides it",
                    note.origin, note.field
                )),
                (None, Some(why)) => notes.push(format!("      # - {claim} is not checked: {why}")),
            },
            Err(why) => notes.push(format!("      # {why}")),
        }
    }
    if claims.is_empty() {
        claims.push("      []".to_owned());
    }
    claims.extend(notes);
    claims
}

/// The end of a scenario: an example of a further stage.
const NEXT: [&str; 6] = [
    "",
    "  # - name: the next step",
    "  #   apply: [changed.yaml]",
    "  #   expect:",
    "  #     - {from: everyone, get: {v2: 100%}}",
    "  #     - {during: {errors: 0}}",
];

/// The first lines of a scenario, with the open decisions as comments.
fn header(name: &str, namespace: &str, service: &Service, is_demo: bool, open: &[String]) -> Vec<String> {
    let mut lines = vec![
        "# Drafted from the manifests in this folder. Check it with `shiftcheck verify`, test it with `shiftcheck run`.".to_owned(),
        "# For you to decide:".to_owned(),
    ];
    lines.extend(open.iter().map(|note| format!("# - {}", note.replace('\n', " "))));
    lines.extend([
        format!("name: {}", plain(name)),
        format!("namespace: {}", plain(namespace)),
        format!("service: {}://{}:{}", service.scheme, service.host, service.port),
        format!("client: {{manifest: {POD}.yaml, pod: {POD}}}"),
    ]);
    let version: &[&str] = match (is_demo, service.scheme) {
        (true, Scheme::Http | Scheme::H2c | Scheme::Ws) => &[
            "version: {body: 'Hello server - (?<version>[^ ]+)'}",
            "pod: {header: x-pod}",
            "served: {path: /served, port: 8080}",
        ],
        (true, Scheme::Grpc) => {
            &["version: {header: x-version}", "pod: {header: x-pod}", "served: {path: /served, port: 8080}"]
        }
        (false, Scheme::Http | Scheme::H2c | Scheme::Ws) => &[
            "# or {body: 'a regular expression with (?<version>…)'}, or {json: /a/pointer}",
            "version: {header: x-version}",
        ],
        (false, Scheme::Grpc) => {
            &["# or {field: build.version}, a field of the message", "version: {header: x-version}"]
        }
        (true, Scheme::Tcp) => &["version: {line: 'Hello server - (?<version>[^ ]+)'}"],
        (false, Scheme::Tcp) => &[
            "# in the first line that the server sends; a server that waits for clients to speak cannot be tested",
            "version: {line: '(?<version>[^ ]+)'}",
        ],
    };
    lines.extend(version.iter().map(|line| (*line).to_owned()));
    lines
}

/// The files in the order in which the stage applies them.
fn ordered(files: &[ManifestFile]) -> impl Iterator<Item = &ManifestFile> {
    let rank =
        |manifest: &Manifest| ORDER.iter().position(|kind| *kind == manifest.kind()).map_or(0, |index| index + 1);
    let mut files: Vec<&ManifestFile> = files.iter().collect();
    files.sort_by_key(|file| (file.manifests.iter().map(rank).min(), file.path.clone()));
    files.into_iter()
}

/// The name of the folder as a valid namespace name.
fn name_of(folder: &Path) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = full.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "rollout".to_owned() } else { name.to_owned() }
}

/// The namespace of the objects: the first that they name.
fn namespace(sources: &Sources, open: &mut Vec<String>) -> Option<String> {
    let named = || sources.manifests().filter_map(|manifest| manifest.object.metadata.namespace.as_deref());
    let first = named().next()?;
    let all: BTreeSet<&str> = named().collect();
    if all.len() > 1 {
        let all: Vec<&str> = all.into_iter().collect();
        open.push(format!("the namespace: {first} was chosen of {}", all.join(", ")));
    }
    Some(first.to_owned())
}

/// The service that routing rules name, or else the first service.
fn service(live: &Live, sources: &Sources, open: &mut Vec<String>) -> Option<Service> {
    let own = live.of(Kind::Service).filter(|object| object.namespace == live.namespace());
    let services: Vec<(String, (u16, Scheme))> =
        own.filter_map(|object| Some((object.manifest.name().to_owned(), port(&object.manifest)?))).collect();
    let ruled = sources.manifests().flat_map(|manifest| {
        let hosts = manifest.at("/spec/hosts").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let parent = manifest.at("/spec/parentRefs/0/name").cloned();
        let hosts = if manifest.kind() == "VirtualService" { hosts } else { Vec::new() };
        hosts.into_iter().chain(parent).filter_map(|host| Some(host.as_str()?.split('.').next()?.to_owned()))
    });
    let ruled: Vec<String> = ruled.collect();
    let found = services.iter().find(|(name, _)| ruled.contains(name)).or_else(|| services.first())?;
    let others: Vec<&str> =
        services.iter().filter(|(name, _)| *name != found.0).map(|(name, _)| name.as_str()).collect();
    if !others.is_empty() {
        open.push(format!(
            "the service that clients call: {} was chosen; there are also {}",
            found.0,
            others.join(", ")
        ));
    }
    let (port, scheme) = found.1;
    if scheme == Scheme::Grpc {
        let health = scheme.default_path();
        open.push(format!("the method that clients call: it is {health}, unless the service names one, grpc://{}:{port}/PACKAGE.SERVICE/METHOD", found.0));
    }
    Some(Service { scheme, path: scheme.default_path().to_owned(), ..Service::http(&found.0, port) })
}

/// The first port of a Service that is for HTTP/1.1, otherwise the first for gRPC or HTTP/2, otherwise the first for TCP, otherwise its first port,
/// with the protocol that clients speak to it.
fn port(service: &Manifest) -> Option<(u16, Scheme)> {
    let ports = service.at("/spec/ports")?.as_array()?;
    let known = || ports.iter().filter_map(|port| Some((port, scheme(port)?)));
    let (port, scheme) = known()
        .find(|(_, scheme)| *scheme == Scheme::Http)
        .or_else(|| known().find(|(_, scheme)| *scheme != Scheme::Tcp))
        .or_else(|| known().next())
        .or_else(|| Some((ports.first()?, Scheme::Http)))?;
    Some((u16::try_from(port["port"].as_u64()?).ok()?, scheme))
}

/// The protocol that clients speak to a port, by its `appProtocol` or its name; none if that is another one.
fn scheme(port: &serde_json::Value) -> Option<Scheme> {
    let declared = ["appProtocol", "name"].iter().find_map(|key| port[key].as_str())?.to_lowercase();
    match declared.split('-').next().unwrap_or_default() {
        "kubernetes.io/h2c" | "http2" => Some(Scheme::H2c),
        // browsers speak it over HTTP/1.1
        "grpc" if declared.starts_with("grpc-web") => None,
        "grpc" => Some(Scheme::Grpc),
        "tcp" => Some(Scheme::Tcp),
        other => other.starts_with("http").then_some(Scheme::Http),
    }
}

fn workloads(live: &Live) -> impl Iterator<Item = &Object> {
    Kind::WORKLOADS.into_iter().flat_map(|kind| live.of(kind))
}

/// The versions that the labels of pods name.
fn versions(live: &Live) -> BTreeSet<String> {
    let labels = workloads(live).filter_map(|object| {
        let labels = object.manifest.at("/spec/template/metadata/labels")?;
        let version = labels.get("version").or_else(|| labels.get("app.kubernetes.io/version"))?;
        version.as_str().map(ToOwned::to_owned)
    });
    labels.collect()
}

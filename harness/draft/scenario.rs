use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::client::{MANIFEST, POD};
use crate::demo::demo_versions;
use crate::plan::Given;
use crate::routing::{Client, Kind, Live, Mesh, Naming, Outbound, Polarity, Request, Subject, Test, pods_of};
use crate::scenario::{Manifest, Population, Request as Variant, ScenarioError, Service, read_manifests};

/// The order in which a stage applies kinds. Other kinds come first.
const ORDER: [&str; 6] = ["Deployment", "DestinationRule", "VirtualService", "HTTPRoute", "Service", "Pod"];

/// An error in drafting a scenario.
#[derive(Debug, Error)]
pub enum DraftError {
    /// The folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A manifest is invalid.
    #[error(transparent)]
    Manifest(#[from] ScenarioError),
    /// There is no service to call.
    #[error("{} has no Service with a port", .0.display())]
    NoService(PathBuf),
    /// A file already exists.
    #[error("{} already exists", .0.display())]
    Taken(PathBuf),
}

/// A drafted scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The paths and the texts of the files.
    pub files: Vec<(PathBuf, String)>,
    /// The decisions for the user, in words.
    pub open: Vec<String>,
}

impl Draft {
    /// Writes the files.
    ///
    /// # Errors
    /// A file already exists, in which case nothing is written, or a file cannot be written.
    pub fn write(&self) -> Result<(), DraftError> {
        if let Some((taken, _)) = self.files.iter().find(|(path, _)| path.exists()) {
            return Err(DraftError::Taken(taken.clone()));
        }
        for (path, text) in &self.files {
            std::fs::write(path, text).map_err(|source| DraftError::Folder { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Drafts a scenario from the manifests in a folder.
///
/// # Errors
/// The folder cannot be read, a manifest is invalid, or there is no service.
pub fn draft(folder: &Path) -> Result<Draft, DraftError> {
    let mut open = Vec::new();
    let manifests = manifests(folder, &mut open)?;
    let name = name_of(folder);
    let namespace = manifests
        .iter()
        .find_map(|manifest| manifest.object.metadata.namespace.clone())
        .unwrap_or_else(|| name.clone());
    let mut live = Live::new(&namespace, &namespace);
    for manifest in &manifests {
        live.apply(manifest);
    }
    let service = service(&live, &manifests, &mut open).ok_or_else(|| DraftError::NoService(folder.to_owned()))?;
    let versions: BTreeSet<String> = versions(&live);
    let naming = Naming { versions, images: demo_versions() };
    let mesh = Mesh::new(&live, pods_of(&live, &naming));
    let client = Client {
        namespace: namespace.clone(),
        labels: BTreeMap::from([("app".to_owned(), POD.to_owned())]),
        sidecar: true,
    };
    let outbound = mesh.outbound(client);
    let (populations, paths) = callers(&outbound, &service, &mut open);
    let demo = live.of(Kind::Deployment).any(|object| {
        let image = object.manifest.at("/spec/template/spec/containers/0/image").and_then(serde_json::Value::as_str);
        image.is_some_and(|image| naming.images.contains_key(image))
    });
    if !demo {
        open.push("the version in a response: the header `x-version` is a guess".to_owned());
    }
    open.push("the steps of the rollout: the only stage has the current state; add a stage for each change".to_owned());
    let mut text = header(&name, &namespace, &service, demo, &open);
    list_populations(&mut text, &populations);
    text.push_str("\nstages:\n  - name: current state\n    apply:\n");
    let mut files: Vec<&Manifest> = manifests.iter().collect();
    files.sort_by_key(|manifest| (rank(manifest), manifest.origin.path.clone()));
    let mut listed = BTreeSet::new();
    for manifest in files {
        if listed.insert(&manifest.origin.path) {
            let file = manifest.origin.path.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(text, "      - {}", plain(&file));
        }
    }
    text.push_str("    expect:\n");
    for population in &populations {
        for path in &paths {
            let given = Given::to(population, &service, path, &outbound);
            for note in &given.not_modelled {
                let doubt = format!("the claims: {}: {} is not modelled and can affect them", note.origin, note.field);
                if !open.contains(&doubt) {
                    open.push(doubt);
                }
            }
            let _ = writeln!(text, "      {}", expectation(&population.name, path, &given));
        }
    }
    text.push_str("\n  # - name: the next step\n  #   apply: [changed.yaml]\n  #   expect:\n  #     - {from: everyone, get: {v2: 100%}}\n  #     - {during: {errors: 0}}\n");
    let files = vec![(folder.join("scenario.yaml"), text), (folder.join(format!("{POD}.yaml")), MANIFEST.to_owned())];
    Ok(Draft { files, open })
}

/// Writes the populations.
fn list_populations(text: &mut String, populations: &[Population]) {
    text.push_str("\npopulations:\n");
    for population in populations {
        let headers = &population.variants[0].headers;
        let headers: Vec<String> =
            headers.iter().map(|(name, value)| format!("{}: {}", plain(name), plain(value))).collect();
        let headers =
            if headers.is_empty() { "{}".to_owned() } else { format!("{{headers: {{{}}}}}", headers.join(", ")) };
        let _ = writeln!(text, "  {}: {headers}", plain(&population.name));
    }
}

/// The first lines of a scenario, with the open decisions as comments.
fn header(name: &str, namespace: &str, service: &Service, demo: bool, open: &[String]) -> String {
    let mut text = "# Drafted from the manifests in this folder. Check it with `shiftcheck verify`, test it with `shiftcheck run`.\n".to_owned();
    text.push_str("# For you to decide:\n");
    for note in open {
        let _ = writeln!(text, "# - {note}");
    }
    let _ = write!(
        text,
        "name: {}\nnamespace: {namespace}\nservice: http://{}:{}\nclient: {{manifest: {POD}.yaml, pod: {POD}}}\n",
        plain(name),
        service.host,
        service.port
    );
    if demo {
        text.push_str("version: {body: 'Hello server - (?<version>[^ ]+)'}\npod: {header: x-pod}\nserved: {path: /served, port: 8080}\n");
    } else {
        text.push_str("# or {body: 'a regular expression with (?<version>…)'}, or {json: /a/pointer}\nversion: {header: x-version}\n");
    }
    text
}

/// The objects of all manifests in a folder. Other files are skipped, with a note in `open`.
fn manifests(folder: &Path, open: &mut Vec<String>) -> Result<Vec<Manifest>, DraftError> {
    let failed = |source| DraftError::Folder { path: folder.to_owned(), source };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    paths.sort();
    let mut all: Vec<Manifest> = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file == "scenario.yaml" || file == format!("{POD}.yaml") {
            continue;
        }
        match read_manifests(&path) {
            Ok(manifests) => {
                if let Some((twice, first)) = twice(&manifests, &all) {
                    open.push(format!(
                        "{file} was skipped: {twice} is also in {first}; it may belong to a later stage"
                    ));
                } else {
                    all.extend(manifests);
                }
            }
            // such as a kustomization or Helm values
            Err(ScenarioError::Malformed { message, .. }) if message.starts_with("this ") => {
                open.push(format!("{file} was skipped: {message}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// An object that another file also has.
fn twice(manifests: &[Manifest], others: &[Manifest]) -> Option<(String, String)> {
    manifests.iter().find_map(|manifest| {
        let same = others.iter().find(|other| other.id() == manifest.id() && other.group() == manifest.group())?;
        Some((manifest.id(), same.origin.path.file_name().unwrap_or_default().to_string_lossy().into_owned()))
    })
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

/// The service that routing rules name, or else the first service.
fn service(live: &Live, manifests: &[Manifest], open: &mut Vec<String>) -> Option<Service> {
    let services: Vec<(String, u16)> = live
        .of(Kind::Service)
        .filter_map(|object| {
            let port = object.manifest.at("/spec/ports/0/port").and_then(serde_json::Value::as_u64)?;
            Some((object.manifest.name().to_owned(), u16::try_from(port).ok()?))
        })
        .collect();
    let ruled = manifests.iter().flat_map(|manifest| {
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
    Some(Service { host: found.0.clone(), port: found.1 })
}

fn versions(live: &Live) -> BTreeSet<String> {
    let labels = live.of(Kind::Deployment).filter_map(|object| {
        let labels = object.manifest.at("/spec/template/metadata/labels")?;
        let version = labels.get("version").or_else(|| labels.get("app.kubernetes.io/version"))?;
        version.as_str().map(ToOwned::to_owned)
    });
    labels.collect()
}

/// The populations and the paths of requests: everyone, and a population for each header value in a route.
fn callers(outbound: &Outbound<'_>, service: &Service, open: &mut Vec<String>) -> (Vec<Population>, Vec<String>) {
    let mut populations =
        vec![Population { name: "everyone".to_owned(), variants: vec![Variant { headers: BTreeMap::new() }] }];
    let mut paths = vec!["/".to_owned()];
    let routes = outbound.routes(&Request::get(&service.host, service.port, "/"));
    let routes = routes.map(|routes| routes.table.routes).unwrap_or_default();
    for condition in routes.iter().flat_map(|route| &route.conditions) {
        let value = match &condition.test {
            Test::Exact(text) | Test::ExactInAnyCase(text) | Test::Prefix(text) | Test::PrefixInAnyCase(text) => {
                text.clone()
            }
            Test::PathPrefix(text) => text.clone(),
            Test::Present => "anything".to_owned(),
            Test::Regex(pattern) => {
                let pattern = pattern.as_str();
                open.push(format!("the expression `{pattern}`: add a population that matches it"));
                continue;
            }
        };
        match &condition.subject {
            Subject::Path => {
                if !paths.contains(&value) {
                    paths.push(value);
                }
            }
            Subject::Header(header) if condition.polarity == Polarity::Positive => {
                let mut add = |name: String, value: String| {
                    let headers = BTreeMap::from([(header.clone(), value)]);
                    if !populations.iter().any(|known| known.variants[0].headers == headers) {
                        populations.push(Population { name, variants: vec![Variant { headers }] });
                    }
                };
                add(format!("{header}-{}", word(&value)), value.clone());
                // a value that almost matches tests that the match is exact
                if matches!(condition.test, Test::Exact(_)) {
                    add(format!("{header}-not-{}", word(&value)), format!("{value}2"));
                }
            }
            other => open.push(format!("requests that differ in {other:?}: populations can only differ in headers")),
        }
    }
    (populations, paths)
}

fn word(value: &str) -> String {
    value.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

/// A claim of the expected answers as YAML, or a comment if they cannot be claimed.
fn expectation(from: &str, path: &str, given: &Given) -> String {
    let at = if path == "/" { String::new() } else { format!(", path: {}", plain(path)) };
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for (seen, chance) in &given.seen {
        let Some(version) = &seen.version else {
            return format!("# {from} gets {given} at {path}: is this intended?");
        };
        *shares.entry(version.clone()).or_default() += chance.fraction();
    }
    // the written shares sum to 100 % in spite of rounding
    let mut left = 1_000_000_i64;
    let last = shares.len().saturating_sub(1);
    let mut written = Vec::new();
    let mut smallest = 1.0_f64;
    for (index, (version, share)) in shares.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "a share of a million")]
        let part = if index == last { left } else { (share * 1e6).round() as i64 };
        left -= part;
        smallest = smallest.min(share.min(1.0 - share).max(0.0));
        #[expect(clippy::cast_precision_loss, reason = "a share of a million")]
        let percent = part as f64 / 1e4;
        written.push(format!("{}: {percent}%", plain(version)));
    }
    let fine = if shares.len() > 1 && smallest < 0.1 {
        format!(", error-rates: {{deviation: {}%}}", (smallest * 80.0).max(0.1))
    } else {
        String::new()
    };
    format!("- {{from: {}{at}, get: {{{}}}{fine}}}", plain(from), written.join(", "))
}

/// A text in a YAML flow mapping, quoted unless it is a plain word.
fn plain(text: &str) -> String {
    let word = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    let looks_like_more = text.parse::<f64>().is_ok() || matches!(text, "true" | "false" | "null" | "yes" | "no" | "~");
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '/');
    if begins && text.chars().all(word) && !looks_like_more {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

fn rank(manifest: &Manifest) -> usize {
    ORDER.iter().position(|kind| *kind == manifest.kind()).map_or(0, |index| index + 1)
}

//! The manifests of a draft: from a folder, a kustomization, or rendered text.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::DraftError;
use super::client::POD;
use crate::scenario::{Manifest, ScenarioError, parse_manifests};

/// The file with rendered manifests.
const RENDERED: &str = "shiftcheck-manifests.yaml";
const SCENARIO: &str = "scenario.yaml";
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// The programs that render a kustomization, in the order in which they are tried.
const RENDERERS: [(&str, &str, &str); 2] =
    [("kubectl", "kustomize", "kubectl kustomize"), ("kustomize", "build", "kustomize build")];

/// A file with manifests.
#[derive(Debug, Clone)]
pub(super) struct ManifestFile {
    /// The path, relative to the folder of the draft.
    pub path: PathBuf,
    pub text: String,
    pub manifests: Vec<Manifest>,
}

/// The manifests of a draft.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The folder of the draft.
    pub folder: PathBuf,
    /// The source as the user named it.
    pub from: String,
    pub files: Vec<ManifestFile>,
    /// Whether the only file is rendered, so that the draft has to write it.
    pub is_rendered: bool,
    /// What was skipped, in words.
    pub skipped: Vec<String>,
}

impl Sources {
    /// Reads a folder, a file with rendered manifests, or, for `-`, rendered manifests from stdin.
    pub fn read(source: &Path) -> Result<Self, DraftError> {
        if source == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(DraftError::at("stdin"))?;
            return Ok(Self::rendered(Path::new("."), "stdin", &text));
        }
        if source.is_file() {
            let text = std::fs::read_to_string(source).map_err(DraftError::at(source))?;
            let folder = source.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Ok(Self::rendered(folder, &source.display().to_string(), &text));
        }
        if source.join("Chart.yaml").is_file() {
            return Err(DraftError::Chart(source.to_owned()));
        }
        let mut unrendered = None;
        if let Some(file) = kustomization(source) {
            match render(source)? {
                Some((program, text)) => {
                    return Ok(Self::rendered(
                        source,
                        &format!("{} by `{program}`", source.join(file).display()),
                        &text,
                    ));
                }
                None => {
                    unrendered = Some(format!(
                        "{file} was not rendered: neither kubectl nor kustomize is on the PATH; the files are read as \
                         they are"
                    ));
                }
            }
        }
        let mut sources = Self { folder: source.to_owned(), from: source.display().to_string(), ..Self::default() };
        sources.skipped.extend(unrendered);
        sources.walk(Path::new(""))?;
        Ok(sources)
    }

    /// The documents of a rendered text that hold objects of the rollout.
    fn rendered(folder: &Path, from: &str, text: &str) -> Self {
        let mut sources =
            Self { folder: folder.to_owned(), from: from.to_owned(), is_rendered: true, ..Self::default() };
        let mut kept = format!("# Manifests from {from}, written by `shiftcheck init`.\n");
        let mut seen: Vec<Manifest> = Vec::new();
        for (line, document) in documents(text) {
            let blank = document.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
            let manifests = if blank { Ok(Vec::new()) } else { parse_manifests(Path::new(from), &document) };
            let why = match &manifests {
                Err(error) => Some(format!("the document in line {line} was skipped: {}", reason(error))),
                Ok(manifests) => manifests.iter().find_map(|manifest| {
                    let annotations = manifest.object.metadata.annotations.as_ref();
                    let why = if annotations.is_some_and(|own| own.contains_key("helm.sh/hook")) {
                        "it is a Helm hook".to_owned()
                    } else {
                        twice(std::slice::from_ref(manifest), &seen)?;
                        "an object of this name comes before".to_owned()
                    };
                    Some(format!("{} was skipped: {why}", manifest.id()))
                }),
            };
            match (why, manifests) {
                (Some(why), _) => sources.skipped.push(why),
                (None, Ok(manifests)) if !manifests.is_empty() => {
                    seen.extend(manifests);
                    kept.push_str("---\n");
                    kept.push_str(&document);
                }
                _ => {}
            }
        }
        // each document was read before
        let manifests = parse_manifests(Path::new(RENDERED), &kept).unwrap_or_default();
        if !manifests.is_empty() {
            sources.files.push(ManifestFile { path: RENDERED.into(), text: kept, manifests });
        }
        sources
    }

    /// Reads the files of a folder and its subfolders.
    fn walk(&mut self, below: &Path) -> Result<(), DraftError> {
        // joining nothing would add a slash
        let folder = if below == Path::new("") { self.folder.clone() } else { self.folder.join(below) };
        let entries = std::fs::read_dir(&folder).map_err(DraftError::at(&folder))?;
        let mut entries: Vec<_> = entries.flatten().collect();
        // files before subfolders: an object in a subfolder may be a patch of one here
        entries.sort_by_key(|entry| (entry.path().is_dir(), entry.file_name()));
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = below.join(&name);
            // a link to a folder may lead back
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                match left_out(&entry.path(), &name) {
                    None => self.walk(&path)?,
                    Some("") => {}
                    Some(why) => self.skipped.push(format!("{}/ was skipped: {why}", path.display())),
                }
            } else if [".yaml", ".yml"].iter().any(|end| name.ends_with(end)) && !is_own(&name) {
                self.file(path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf) -> Result<(), DraftError> {
        let full = self.folder.join(&path);
        let text = std::fs::read_to_string(&full).map_err(DraftError::at(full))?;
        match parse_manifests(&path, &text) {
            Ok(manifests) => match twice(&manifests, self.files.iter().flat_map(|file| &file.manifests)) {
                Some((id, first)) => self.skipped.push(format!(
                    "{} was skipped: {id} is also in {first}; it may belong to a later stage",
                    path.display()
                )),
                None => self.files.push(ManifestFile { path, text, manifests }),
            },
            // such as Helm values
            Err(error) => {
                let line = error.origin().map_or(1, |origin| origin.line);
                self.skipped.push(format!("{} was skipped: line {line}: {}", path.display(), reason(&error)));
            }
        }
        Ok(())
    }

    /// All objects.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.files.iter().flat_map(|file| &file.manifests)
    }

    /// Leaves out a file for a reason. Returns false if it is not one of these files.
    pub fn skip(&mut self, path: &Path, why: &str) -> bool {
        let before = self.files.len();
        self.files.retain(|file| file.path != path);
        let skipped = self.files.len() < before;
        if skipped {
            self.skipped.push(format!("{} was skipped: {why}", path.display()));
        }
        skipped
    }
}

/// Why a subfolder is left out; empty if that is not worth mentioning.
fn left_out(folder: &Path, name: &str) -> Option<&'static str> {
    if name.starts_with('.') || name == "shiftcheck-report" || name == "shiftcheck-upgrade" {
        Some("")
    } else if folder.join(SCENARIO).is_file() {
        Some("it has a scenario of its own")
    } else if folder.join("Chart.yaml").is_file() {
        Some("it is a Helm chart; `helm template` renders it, and `shiftcheck init -` reads the result")
    } else if kustomization(folder).is_some() {
        Some("it has a kustomization; `shiftcheck init` with this folder renders it")
    } else {
        None
    }
}

/// Whether `init` writes a file of this name, or the file is a kustomization, which was looked for before.
fn is_own(name: &str) -> bool {
    [SCENARIO, RENDERED].contains(&name) || name == format!("{POD}.yaml") || KUSTOMIZATIONS.contains(&name)
}

fn kustomization(folder: &Path) -> Option<&'static str> {
    KUSTOMIZATIONS.into_iter().find(|name| folder.join(name).is_file())
}

/// Renders a kustomization. Returns the program and its output; none if there is no program that renders it.
fn render(folder: &Path) -> Result<Option<(&'static str, String)>, DraftError> {
    for (program, command, both) in RENDERERS {
        let output = match Command::new(program).arg(command).arg(folder).output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(DraftError::at(program)(source)),
        };
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let message = errors.trim().lines().next().unwrap_or("no message").to_owned();
            return Err(DraftError::Kustomize { program: both, folder: folder.to_owned(), message });
        }
        return Ok(Some((both, String::from_utf8_lossy(&output.stdout).into_owned())));
    }
    Ok(None)
}

/// The documents of a YAML text, each with its first line, from 1.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (line, content) in (1..).zip(text.lines()) {
        if content == "---" || content.starts_with("--- ") {
            documents.push((line + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(content);
            document.push('\n');
        }
    }
    documents
}

/// The first object that others also have, with the file of the other one.
fn twice<'a>(manifests: &[Manifest], others: impl IntoIterator<Item = &'a Manifest>) -> Option<(String, String)> {
    let others: Vec<&Manifest> = others.into_iter().collect();
    let same = |one: &Manifest, other: &Manifest| {
        let namespace = |manifest: &Manifest| manifest.object.metadata.namespace.clone();
        other.id() == one.id() && other.group() == one.group() && namespace(other) == namespace(one)
    };
    manifests.iter().find_map(|manifest| {
        let other = others.iter().find(|other| same(manifest, other))?;
        Some((manifest.id(), other.origin.path.display().to_string()))
    })
}

/// The first line of an error, without the position.
pub(super) fn reason(error: &ScenarioError) -> String {
    match error {
        ScenarioError::Malformed { message, .. } => message.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

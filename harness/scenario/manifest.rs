use std::path::Path;
use std::sync::Arc;

use kube::api::DynamicObject;
use serde::Deserialize;

use super::places::Places;
use super::{Place, ScenarioError};

/// One object of a manifest file.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The object as written.
    pub object: DynamicObject,
    /// Where it was written: the first key of its document.
    pub origin: Place,
    places: Arc<Places>,
}

impl Manifest {
    /// Where the field at a JSON pointer was written, such as `/spec/http/0/route`; where it is not written, what it would lie in.
    #[must_use]
    pub fn place(&self, pointer: &str) -> Place {
        match self.places.of(pointer) {
            Some((line, column)) => Place::new(&self.origin.path, line as u64, column as u64),
            None => self.origin.clone(),
        }
    }

    /// The part of the object at a JSON pointer.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&serde_json::Value> {
        self.object.data.pointer(pointer)
    }

    /// The API group of the object's kind; that of the core is empty.
    #[must_use]
    pub fn group(&self) -> &str {
        let version = self.object.types.as_ref().map_or("", |types| types.api_version.as_str());
        version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The object's kind, such as `Service`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.object.types.as_ref().map_or("", |types| &types.kind)
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// `Kind/name`, as people refer to an object.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }
}

/// Reads the objects of a manifest file: one or more YAML documents; empty ones are passed over.
///
/// # Errors
/// The file cannot be read, is not YAML, or a document has no `apiVersion`, `kind` or `metadata.name`.
pub fn read(path: &Path) -> Result<Vec<Manifest>, ScenarioError> {
    parse(path, &text(path)?)
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String, ScenarioError> {
    std::fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable { path: path.to_owned(), source })
}

/// Reads the objects in a manifest file's text: one or more YAML documents; empty ones are passed over.
///
/// # Errors
/// A document is not YAML, has a key twice, or has no `apiVersion`, `kind` or `metadata.name`.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Manifest>, ScenarioError> {
    let malformed = |line: usize, column: usize, message: String| ScenarioError::Malformed {
        place: Place::new(path, line as u64, column as u64),
        message,
    };
    let mut manifests = Vec::new();
    for (first_line, document) in documents(text) {
        let places = Places::read(&document, first_line - 1).map_err(|twice| {
            let message = format!("the key `{}` is already set in line {}", twice.key, twice.first_line);
            malformed(twice.line, twice.column, message)
        })?;
        let read = |text: &str| serde_yaml::Value::deserialize(serde_yaml::Deserializer::from_str(text));
        let value = read(&document).or_else(|_| {
            // once more for what is to be told: blank lines in front make the parser's line numbers those of the file
            read(&format!("{}{document}", "\n".repeat(first_line - 1)))
        });
        let value = value.map_err(|error| {
            let (line, column) = error.location().map_or((first_line, 1), |at| (at.line(), at.column()));
            malformed(line, column, format!("not YAML: {error}"))
        })?;
        if value.is_null() {
            continue;
        }
        let line = first_line
            + document
                .lines()
                .position(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
                .unwrap_or(0);
        let missing = |key: &str| malformed(line, 1, format!("this object has no `{key}`"));
        for key in ["apiVersion", "kind"] {
            value.get(key).and_then(serde_yaml::Value::as_str).ok_or_else(|| missing(key))?;
        }
        value
            .get("metadata")
            .and_then(|metadata| metadata.get("name"))
            .and_then(serde_yaml::Value::as_str)
            .ok_or_else(|| missing("metadata.name"))?;
        let object = serde_yaml::from_value(value)
            .map_err(|error| malformed(line, 1, format!("not a Kubernetes object: {error}")))?;
        let origin = Place::new(path, line as u64, 1);
        manifests.push(Manifest { object, origin, places: Arc::new(places) });
    }
    if manifests.is_empty() {
        return Err(malformed(1, 1, "this file holds no object".to_owned()));
    }
    Ok(manifests)
}

/// The documents of a file, each with the line that it starts on.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push((index + 2, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
# a comment
---
apiVersion: v1
kind: Service
metadata: {name: one}
---
# nothing
---

apiVersion: v1
kind: Service
metadata: {name: two}
";

    fn message(text: &str) -> String {
        parse(Path::new("a.yaml"), text).unwrap_err().to_string()
    }

    #[test]
    fn each_object_knows_its_line() {
        let manifests = parse(Path::new("a.yaml"), TWO).unwrap();
        let found: Vec<_> = manifests.iter().map(|m| (m.id(), m.origin.to_string())).collect();
        assert_eq!(
            found,
            [("Service/one".to_owned(), "a.yaml:3:1".to_owned()), ("Service/two".to_owned(), "a.yaml:10:1".to_owned())]
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        assert_eq!(message("kind: Service\nmetadata: {name: a}\n"), "a.yaml:1:1: this object has no `apiVersion`");
        assert_eq!(message("---\napiVersion: v1\nkind: Pod\n"), "a.yaml:2:1: this object has no `metadata.name`");
        assert_eq!(message("# only words\n"), "a.yaml:1:1: this file holds no object");
    }

    #[test]
    fn a_syntax_error_keeps_the_line_of_the_file() {
        let text = format!("{TWO}---\napiVersion: v1\nkind: [\n");
        assert!(message(&text).starts_with("a.yaml:16:"), "{}", message(&text));
    }
}

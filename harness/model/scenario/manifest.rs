use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::document::{self, Document};
use super::places::{At, Places};
use super::unstructured::Unstructured;
use super::{Place, ScenarioError};

/// One object of a manifest file.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The object as written.
    pub object: Unstructured,
    /// Where it was written: the first key of its document.
    pub origin: Place,
    places: Arc<Places>,
}

impl Manifest {
    /// Where the field at a JSON pointer was written, such as `/spec/http/0/route`; where it is not written, what it would lie in.
    #[must_use]
    pub fn place(&self, pointer: &str) -> Place {
        match self.places.of(pointer) {
            Some(At { line, column }) => Place::new(&self.origin.path, line, column),
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
        self.object.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The object's kind, such as `Service`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.object.kind
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.object.metadata.name
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

/// Reads the objects in a manifest file's text: one or more YAML documents; empty ones are passed over. Values mean what `kubectl` makes of
/// them: YAML 1.1, so that `yes` is `true` and `010` is 8.
///
/// # Errors
/// A document is not YAML, has a key twice, holds what JSON cannot, or has no `apiVersion`, `kind` or `metadata.name`.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Manifest>, ScenarioError> {
    read_objects(path, text).map_err(|error| error.with_excerpt(path, text))
}

fn read_objects(path: &Path, text: &str) -> Result<Vec<Manifest>, ScenarioError> {
    let malformed = |at: At, message: String| malformed(path, at, message);
    let documents = document::read(text).map_err(|refused| malformed(refused.at, refused.message))?;
    if documents.is_empty() {
        return Err(malformed(At { line: 1, column: 1 }, "this file holds no object".to_owned()));
    }
    documents.into_iter().map(|document| object(path, document)).collect()
}

fn malformed(path: &Path, at: At, message: String) -> ScenarioError {
    ScenarioError::Malformed { place: Place::new(path, at.line, at.column), message }
}

/// The object in a document.
fn object(path: &Path, document: Document) -> Result<Manifest, ScenarioError> {
    let Document { value, start, places } = document;
    for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
        match value.pointer(pointer) {
            None => return Err(malformed(path, start, format!("this object has no `{}`", dotted(pointer)))),
            Some(own) => is_text(own).map_err(|message| {
                malformed(path, places.of(pointer).unwrap_or(start), format!("`{}` {message}", dotted(pointer)))
            })?,
        }
    }
    for map in ["/metadata/labels", "/metadata/annotations"] {
        for (key, own) in value.pointer(map).and_then(Value::as_object).into_iter().flatten() {
            let pointer = format!("{map}/{}", key.replace('~', "~0").replace('/', "~1"));
            is_text(own).map_err(|message| {
                malformed(path, places.of(&pointer).unwrap_or(start), format!("`{}.{key}` {message}", dotted(map)))
            })?;
        }
    }
    let object = serde_json::from_value(value)
        .map_err(|error| malformed(path, start, format!("not a Kubernetes object: {error}")))?;
    Ok(Manifest { object, origin: Place::new(path, start.line, start.column), places: Arc::new(places) })
}

/// `metadata.name` for `/metadata/name`.
fn dotted(pointer: &str) -> String {
    pointer[1..].replace('/', ".")
}

/// Whether a value is a text; if not, what it is to `kubectl`.
fn is_text(value: &Value) -> Result<(), String> {
    match value {
        Value::String(_) => Ok(()),
        Value::Bool(_) | Value::Number(_) => {
            Err(format!("is {value} to kubectl, where a text is expected; write it in quotes"))
        }
        Value::Null => Err("is empty, where a text is expected".to_owned()),
        Value::Array(_) => Err("is a list, where a text is expected".to_owned()),
        Value::Object(_) => Err("is a mapping, where a text is expected".to_owned()),
    }
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
        let message = parse(Path::new("a.yaml"), text).unwrap_err().to_string();
        message.lines().next().unwrap_or_default().to_owned()
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
        assert!(message(&text).starts_with("a.yaml:15:7: not YAML"), "{}", message(&text));
    }
}

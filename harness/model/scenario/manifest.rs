use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::document::{self, Document};
use super::error::ScenarioError;
use super::origin::Origin;
use super::positions::{Part, Position, escaped, field};
use super::unstructured::Unstructured;

/// One object of a manifest file.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The object as written.
    pub object: Unstructured,
    /// The position of the object: the first key of its document.
    pub origin: Origin,
    parts: Arc<Part>,
}

impl Manifest {
    /// The position of the field at a JSON pointer, such as `/spec/http/0/route`; if it is not written, that of the innermost field that would
    /// contain it.
    pub fn origin_of(&self, pointer: &str) -> Origin {
        match self.parts.position_of(pointer) {
            Some(Position { line, column }) => Origin::new(&self.origin.path, line, column),
            None => self.origin.clone(),
        }
    }

    /// The value at a JSON pointer.
    pub fn at(&self, pointer: &str) -> Option<&serde_json::Value> {
        self.object.data.pointer(pointer)
    }

    /// The API group of the object's kind; empty for the core group.
    pub fn group(&self) -> &str {
        self.object.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The version of the API group, such as `v1`.
    pub fn version(&self) -> &str {
        self.object.api_version.rsplit('/').next().unwrap_or_default()
    }

    /// The object's kind, such as `Service`.
    pub fn kind(&self) -> &str {
        &self.object.kind
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.object.metadata.name
    }

    /// The object as `Kind/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }
}

/// Reads the objects of a manifest file: one or more YAML documents; empty documents are skipped.
///
/// # Errors
/// The file cannot be read, is not YAML, or a document has no `apiVersion`, `kind` or `metadata.name`.
pub fn read(path: &Path) -> Result<Vec<Manifest>, ScenarioError> {
    parse(path, &text(path)?)
}

/// Reads the text of a file. A pipe or a device is refused: it may never end.
pub(super) fn text(path: &Path) -> Result<String, ScenarioError> {
    let unreadable = |source| ScenarioError::Unreadable { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("not a regular file")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Parses the text of a manifest file: one or more YAML documents; empty documents are skipped. Values are interpreted as `kubectl` does: YAML
/// 1.1, so that `yes` is `true` and `010` is 8.
///
/// # Errors
/// A document is not YAML, has a duplicate key, contains a value without an equivalent in JSON, or has no `apiVersion`, `kind` or `metadata.name`.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Manifest>, ScenarioError> {
    read_objects(path, text).map_err(|error| error.with_excerpt(path, text))
}

fn read_objects(path: &Path, text: &str) -> Result<Vec<Manifest>, ScenarioError> {
    let documents = document::read(text).map_err(|refused| malformed(path, refused.at, refused.message))?;
    if documents.is_empty() {
        return Err(malformed(path, Position { line: 1, column: 1 }, "this file holds no object".to_owned()));
    }
    documents.into_iter().map(|document| object(path, document)).collect()
}

fn malformed(path: &Path, at: Position, message: String) -> ScenarioError {
    ScenarioError::Malformed { origin: Origin::new(path, at.line, at.column), message }
}

/// Reads the object in a document.
fn object(path: &Path, document: Document) -> Result<Manifest, ScenarioError> {
    let Document { value, start, part } = document;
    let mut texts: Vec<String> = ["/apiVersion", "/kind", "/metadata/name"].map(ToOwned::to_owned).to_vec();
    for map in ["/metadata/labels", "/metadata/annotations"] {
        let entries = value.pointer(map).and_then(Value::as_object).into_iter().flatten();
        texts.extend(entries.map(|(key, _)| format!("{map}/{}", escaped(key))));
    }
    for pointer in texts {
        match value.pointer(&pointer) {
            None => return Err(malformed(path, start, format!("this object has no `{}`", field(&pointer)))),
            Some(text) => is_text(text).map_err(|message| {
                malformed(path, part.position_of(&pointer).unwrap_or(start), format!("`{}` {message}", field(&pointer)))
            })?,
        }
    }
    let object = Unstructured::from_value(value)
        .map_err(|error| malformed(path, start, format!("not a Kubernetes object: {error}")))?;
    Ok(Manifest { object, origin: Origin::new(path, start.line, start.column), parts: Arc::new(part) })
}

/// Checks that a value is a string; otherwise returns how `kubectl` interprets it.
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
    fn each_object_has_an_origin() {
        let manifests = parse(Path::new("a.yaml"), TWO).unwrap();
        let found: Vec<_> = manifests.iter().map(|m| (m.id(), m.origin.to_string())).collect();
        assert_eq!(
            found,
            [("Service/one".to_owned(), "a.yaml:3:1".to_owned()), ("Service/two".to_owned(), "a.yaml:10:1".to_owned())]
        );
    }

    #[test]
    fn missing_fields_are_reported_with_an_origin() {
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

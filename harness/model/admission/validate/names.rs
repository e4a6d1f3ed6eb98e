use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::Reader;

/// A part of a DNS name, at most 63 characters long.
static LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$").ok());
/// The name of a label, or its value.
static WORD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$").ok());

fn fits(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

/// Whether a text is a label in DNS: lower-case letters, digits and `-`, at most 63 characters.
pub(super) fn is_label(text: &str) -> bool {
    fits(&LABEL, text)
}

/// Whether a text is a name in DNS: labels with dots between them, at most 253 characters.
fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| !part.is_empty() && part.len() <= 253 && is_part(part))
}

/// Whether a text is a part of a name of an object, which may be longer than a label.
fn is_part(text: &str) -> bool {
    let inner = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|letter| inner(*letter) || *letter == b'-') && !text.starts_with('-') && !text.ends_with('-')
}

impl Reader<'_> {
    /// Checks the name of the object, its labels, and the names of its annotations.
    pub(super) fn metadata(&mut self) {
        let metadata = &self.manifest.object.metadata;
        let (name, kind) = (metadata.name.as_str(), self.manifest.kind());
        let of_service = || is_label(name) && !name.starts_with(|first: char| first.is_ascii_digit());
        let (valid, wanted) = match (self.manifest.group(), kind) {
            ("", "Service") => {
                (of_service(), "lower-case letters, digits and `-`, after a letter, at most 63 characters")
            }
            ("", "Namespace") => (is_label(name), "lower-case letters, digits and `-`, at most 63 characters"),
            // any part of a path
            ("rbac.authorization.k8s.io", _) => (true, ""),
            _ => (is_domain(name), "lower-case letters, digits, `-` and `.`, at most 253 characters"),
        };
        if !valid {
            self.within("/metadata/name", |reader| {
                reader.refuse(format!("metadata.name is `{name}`; the name of a {kind} has {wanted}"));
            });
        }
        for (key, value) in metadata.labels.iter().flatten() {
            self.label("/metadata/labels", key, Some(value));
        }
        for key in metadata.annotations.iter().flat_map(|annotations| annotations.keys()) {
            self.label("/metadata/annotations", key, None);
        }
    }

    /// Checks labels at a pointer.
    pub(super) fn labels(&mut self, pointer: &str) {
        for (key, value) in self.manifest.at(pointer).and_then(Value::as_object).into_iter().flatten() {
            self.label(pointer, key, value.as_str());
        }
    }

    fn label(&mut self, pointer: &str, key: &str, value: Option<&str>) {
        let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
        let wrong = if prefix.is_some_and(|prefix| !is_domain(prefix)) || !fits(&WORD, name) {
            format!(
                "`{key}` is no name of a label: letters, digits, `-`, `_` and `.`, after a domain and `/` if there is one"
            )
        } else if let Some(value) = value.filter(|value| !value.is_empty() && !fits(&WORD, value)) {
            format!("`{value}` is no value of a label: letters, digits, `-`, `_` and `.`, at most 63 characters")
        } else {
            return;
        };
        self.within(pointer, |reader| reader.within_field(key, |reader| reader.refuse(wrong)));
    }
}

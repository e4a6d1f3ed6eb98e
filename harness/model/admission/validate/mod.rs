mod kubernetes;
mod names;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::defaults::with_defaults;
use super::definition::{Definitions, Kind};
use super::problem::{Problem, Severity};
use super::schema::{Schema, shared, shown};
use crate::scenario::{Manifest, escaped, field, nearest};

/// What the API would refuse of an object, without duplicates and in the order of the file.
pub fn validate(definitions: Definitions, manifest: &Arc<Manifest>) -> Vec<Problem> {
    let filled = with_defaults(manifest);
    let mut reader = Reader { definitions, manifest: &filled, pointer: String::new(), problems: BTreeSet::new() };
    reader.object();
    reader.problems.into_iter().collect()
}

/// An object while it is validated.
struct Reader<'a> {
    definitions: Definitions,
    pub manifest: &'a Manifest,
    /// The JSON pointer of the value that is validated.
    pointer: String,
    problems: BTreeSet<Problem>,
}

impl Reader<'_> {
    /// Adds a problem with the value that is validated.
    pub fn refuse(&mut self, message: String) {
        let origin = self.manifest.origin_of(&self.pointer);
        self.problems.insert(Problem { origin, severity: Severity::Error, message });
    }

    /// Validates what is at a JSON pointer below the current value.
    pub fn within(&mut self, pointer: &str, validate: impl FnOnce(&mut Self)) {
        let length = self.pointer.len();
        self.pointer.push_str(pointer);
        validate(self);
        self.pointer.truncate(length);
    }

    /// Validates the value of a field of the current value.
    pub fn within_field(&mut self, name: &str, validate: impl FnOnce(&mut Self)) {
        let pointer = format!("/{}", escaped(name));
        self.within(&pointer, validate);
    }

    fn object(&mut self) {
        let manifest = self.manifest;
        let Some(kind) = self.definitions.find(manifest.group(), manifest.kind()) else {
            self.unknown_kind();
            return;
        };
        self.metadata();
        let Some(schema) = kind.schema(manifest.version()) else {
            let known = kind.versions().collect::<Vec<_>>().join(", ");
            let found = &manifest.object.api_version;
            let message = format!("{} has no version `{found}`, only {known}", kind.name);
            self.within("/apiVersion", |reader| reader.refuse(message));
            return;
        };
        if let Some(metadata) = shared("apimachinery.pkg.apis.meta.v1.ObjectMeta") {
            let others = &manifest.object.metadata.other;
            self.within("/metadata", |reader| {
                for (name, value) in others {
                    reader.field(name, value, metadata);
                }
            });
        }
        self.fields(&manifest.object.data, schema);
        self.kubernetes();
        if self.problems.is_empty() && schema.has_rules() {
            self.rules(&manifest.object.data, schema);
        }
    }

    /// Refuses a kind that is similar to a known one.
    fn unknown_kind(&mut self) {
        let (group, kind) = (self.manifest.group(), self.manifest.kind());
        let kinds = self.definitions.kinds();
        let of_group = || kinds.iter().filter(|known| known.group == group).map(|known| known.name);
        let api_version = |known: &Kind| {
            let version = known.versions().next().unwrap_or_default();
            if known.group.is_empty() { version.to_owned() } else { format!("{}/{version}", known.group) }
        };
        let elsewhere = kinds.iter().filter(|known| known.name == kind);
        let elsewhere = elsewhere
            .map(|known| (strsim::levenshtein(known.group, group), known))
            .min_by_key(|(distance, _)| *distance);
        let (pointer, message) = match elsewhere {
            // no other group would have such a name
            Some((distance, known)) if of_group().next().is_some() || distance <= 2 => {
                let found = &self.manifest.object.api_version;
                ("/apiVersion", format!("`{found}` has no kind {kind}; did you mean `{}`?", api_version(known)))
            }
            _ => match of_group().find(|known| strsim::levenshtein(known, kind) <= 2) {
                Some(known) => ("/kind", format!("there is no kind `{kind}` in {group}; did you mean `{known}`?")),
                None => return,
            },
        };
        self.within(pointer, |reader| reader.refuse(message));
    }

    fn field(&mut self, name: &str, value: &Value, schema: &Schema) {
        match schema.field(name) {
            Some(property) => self.within_field(name, |reader| reader.value(value, property)),
            None if schema.keeps_unknown() => {}
            None => {
                let hint = nearest(name, schema.properties.keys().map(String::as_str));
                self.within_field(name, |reader| {
                    reader.refuse(format!("unknown field `{}`{hint}", field(&reader.pointer)));
                });
            }
        }
    }

    fn value(&mut self, value: &Value, schema: &Schema) {
        // as if it were not written
        if value.is_null() {
            return;
        }
        let found = |reader: &Self| field(&reader.pointer);
        if let Some(wanted) = schema.wanted(value) {
            let kind = if value.is_string() { "the string " } else { "" };
            let hint = schema.meant(value);
            self.refuse(format!("{} is {kind}{}, not {wanted}{hint}", found(self), shown(value)));
            return;
        }
        if let Some(wrong) = schema.violated(value) {
            self.refuse(format!("{} {wrong}", found(self)));
        }
        if let Some(items) = value.as_array() {
            for (index, item) in items.iter().enumerate() {
                if let Some(schema) = &schema.items {
                    self.within_field(&index.to_string(), |reader| reader.value(item, schema.resolved()));
                }
            }
        }
        if value.is_object() {
            self.fields(value, schema);
        }
        if let Some(wrong) = schema.alternatives(value) {
            self.refuse(format!("{} {wrong}", found(self)));
        }
    }

    fn fields(&mut self, value: &Value, schema: &Schema) {
        for (name, value) in value.as_object().into_iter().flatten() {
            self.field(name, value, schema);
        }
        let is_root = self.pointer.is_empty();
        for name in schema.required.iter().filter(|name| value[name.as_str()].is_null()) {
            // the parser of manifests has read these
            if !(is_root && ["apiVersion", "kind", "metadata"].contains(&name.as_str())) {
                self.within_field(name, |reader| reader.refuse(format!("{} is missing", field(&reader.pointer))));
            }
        }
    }

    /// Evaluates the rules of the definition. The API does so only if everything else is right.
    fn rules(&mut self, value: &Value, schema: &Schema) {
        if value.is_null() || !schema.has_rules() {
            return;
        }
        for message in schema.rules.iter().filter_map(|rule| rule.violated(value)) {
            let found =
                if value.is_object() || value.is_array() { String::new() } else { format!(" is {}", shown(value)) };
            self.refuse(format!("{}{found}: {message}", field(&self.pointer)));
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(property) = schema.field(name) {
                        self.within_field(name, |reader| reader.rules(value, property));
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(schema) = &schema.items {
                        self.within_field(&index.to_string(), |reader| reader.rules(item, schema.resolved()));
                    }
                }
            }
            _ => {}
        }
    }
}

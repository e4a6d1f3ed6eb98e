use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::rule::Rule;
use crate::scenario::nearest;

/// The definitions of Kubernetes' own kinds, and the schemas that they share.
pub(super) const KUBERNETES: &str = include_str!("definitions/kubernetes.json");

/// The schemas that several kinds share, by name.
static SHARED: LazyLock<BTreeMap<&'static str, (&'static str, OnceLock<Schema>)>> = LazyLock::new(|| {
    let entries: BTreeMap<&'static str, &'static RawValue> = serde_json::from_str(KUBERNETES).unwrap_or_default();
    let shared = entries.into_iter().filter(|(name, _)| !name.contains('/'));
    shared.map(|(name, raw)| (name, (raw.get(), OnceLock::new()))).collect()
});

/// A schema that several kinds share.
pub(super) fn shared(name: &str) -> Option<&'static Schema> {
    let (text, parsed) = SHARED.get(name)?;
    Some(parsed.get_or_init(|| serde_json::from_str(text).unwrap_or_default()))
}

/// A structural schema, as far as it decides whether a value is accepted, or what is filled in. Formats other than `int32` are not compared.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Schema {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    r#type: String,
    format: String,
    pub properties: BTreeMap<String, Schema>,
    pub additional_properties: Option<Additional>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    r#enum: Vec<Value>,
    pub default: Option<Value>,
    pattern: Option<String>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    min_properties: Option<usize>,
    max_properties: Option<usize>,
    one_of: Vec<Schema>,
    any_of: Vec<Schema>,
    all_of: Vec<Schema>,
    not: Option<Box<Schema>>,
    pub nullable: bool,
    #[serde(rename = "x-kubernetes-int-or-string")]
    int_or_string: bool,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    pub preserves_unknown: bool,
    #[serde(rename = "x-kubernetes-list-type")]
    list_type: String,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    list_keys: Vec<String>,
    #[serde(rename = "x-kubernetes-validations")]
    pub rules: Vec<Rule>,
    /// Whether the schema or one of its parts has rules, once it is asked for.
    #[serde(skip)]
    ruled: OnceLock<bool>,
}

/// The values of keys that are no properties.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Additional {
    Allowed(bool),
    Schema(Box<Schema>),
}

impl Schema {
    /// The schema itself, or the shared one that it refers to.
    pub fn resolved(&self) -> &Self {
        self.reference.as_deref().and_then(shared).unwrap_or(self)
    }

    /// Whether the schema has rules, for the whole value or a part of it.
    pub fn has_rules(&self) -> bool {
        *self.ruled.get_or_init(|| {
            // Kubernetes' own kinds, whose schemas refer to each other, have none
            let in_each = matches!(&self.additional_properties, Some(Additional::Schema(each)) if each.has_rules());
            let in_items = self.items.as_ref().is_some_and(|items| items.has_rules());
            !self.rules.is_empty() || in_each || in_items || self.properties.values().any(Self::has_rules)
        })
    }

    /// The schema of a field; none if it is unknown.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional_properties) {
            (Some(property), _) => Some(property.resolved()),
            (None, Some(Additional::Schema(each))) => Some(each.resolved()),
            _ => None,
        }
    }

    /// Whether fields that the schema does not name are kept.
    pub fn keeps_unknown(&self) -> bool {
        self.preserves_unknown || matches!(&self.additional_properties, Some(Additional::Allowed(true)))
    }

    /// What a value has to be, if its type is wrong.
    pub fn wanted(&self, value: &Value) -> Option<&'static str> {
        if self.int_or_string {
            return (!value.is_number() && !value.is_string()).then_some("a number or a string");
        }
        let (fits, wanted) = match self.r#type.as_str() {
            "object" => (value.is_object(), "an object"),
            "array" => (value.is_array(), "a list"),
            "string" => (value.is_string(), "a string"),
            "boolean" => (value.is_boolean(), "`true` or `false`"),
            "number" => (value.is_number(), "a number"),
            "integer" => (value.as_f64().is_some_and(|number| number.fract() == 0.0), "an integer"),
            _ => return None,
        };
        (!fits).then_some(wanted)
    }

    /// What a value of a wrong type probably means; empty if that is unknown.
    pub fn meant(&self, value: &Value) -> String {
        let fits = |schema: &Self| schema.resolved().wanted(value).is_none();
        match (self.r#type.as_str(), value) {
            ("string", Value::Bool(_) | Value::Number(_)) => "; write it in quotes".to_owned(),
            ("integer" | "number", Value::String(text)) if text.parse::<f64>().is_ok() => {
                "; write it without quotes".to_owned()
            }
            ("boolean", Value::String(text)) if text.parse::<bool>().is_ok() => "; write it without quotes".to_owned(),
            ("array", _) if self.items.as_deref().is_some_and(fits) => format!("; did you mean `[{}]`?", bare(value)),
            ("object", _) => match self.properties.iter().collect::<Vec<_>>()[..] {
                [(name, only)] if fits(only) => format!("; did you mean `{{{name}: {}}}`?", bare(value)),
                _ => String::new(),
            },
            _ => String::new(),
        }
    }

    /// Which limit a value of the right type violates.
    pub fn violated(&self, value: &Value) -> Option<String> {
        if !self.r#enum.is_empty() && !self.r#enum.contains(value) {
            let allowed: Vec<String> = self.r#enum.iter().map(bare).filter(|allowed| !allowed.is_empty()).collect();
            let hint = nearest(value.as_str().unwrap_or_default(), allowed.iter().map(String::as_str));
            return Some(format!("is {}, not one of {}{hint}", shown(value), allowed.join(", ")));
        }
        self.size(value).or_else(|| self.range(value)).or_else(|| self.text(value)).or_else(|| self.duplicate(value))
    }

    fn size(&self, value: &Value) -> Option<String> {
        let (length, unit, least, most) = match value {
            Value::String(text) => (text.chars().count(), "characters", self.min_length, self.max_length),
            Value::Array(items) => (items.len(), "items", self.min_items, self.max_items),
            Value::Object(fields) => (fields.len(), "entries", self.min_properties, self.max_properties),
            _ => return None,
        };
        match (least, most) {
            (Some(least), _) if length < least => Some(format!("has {length} {unit}; the minimum is {least}")),
            (_, Some(most)) if length > most => Some(format!("has {length} {unit}; the maximum is {most}")),
            _ => None,
        }
    }

    fn range(&self, value: &Value) -> Option<String> {
        let number = value.as_f64()?;
        let (least, most) = match self.format.as_str() {
            "int32" => (f64::from(i32::MIN), f64::from(i32::MAX)),
            _ => (f64::MIN, f64::MAX),
        };
        let (least, most) = (self.minimum.unwrap_or(least), self.maximum.unwrap_or(most));
        match number {
            _ if number < least => Some(format!("is {value}; the minimum is {least}")),
            _ if number > most => Some(format!("is {value}; the maximum is {most}")),
            _ => None,
        }
    }

    fn text(&self, value: &Value) -> Option<String> {
        let (pattern, text) = (self.pattern.as_deref()?, value.as_str()?);
        // every pattern of the definitions can be compiled: see the test
        let matches = Regex::new(pattern).ok().is_none_or(|regex| regex.is_match(text));
        (!matches).then(|| format!("is {}, which does not match {pattern}", shown(value)))
    }

    /// Two items of a set, or of a list with keys, that are the same.
    fn duplicate(&self, value: &Value) -> Option<String> {
        let items = value.as_array()?;
        let keys: Vec<Value> = match self.list_type.as_str() {
            "set" => items.clone(),
            "map" => items.iter().map(|item| self.list_keys.iter().map(|key| item[key].clone()).collect()).collect(),
            _ => return None,
        };
        let twice = keys.iter().enumerate().find(|(index, key)| keys[..*index].contains(key))?;
        let found = match twice.1 {
            Value::Array(values) => {
                let named = self.list_keys.iter().zip(values).filter(|(_, value)| !value.is_null());
                named.map(|(key, value)| format!("{key} {}", shown(value))).collect::<Vec<_>>().join(", ")
            }
            other => shown(other),
        };
        Some(format!("has two items with {found}"))
    }

    /// Which of the alternatives a value violates: what `oneOf`, `anyOf`, `allOf` and `not` say.
    pub fn alternatives(&self, value: &Value) -> Option<String> {
        let matching = self.one_of.iter().filter(|branch| branch.accepts(value)).count();
        if !self.one_of.is_empty() && matching != 1 {
            let names: Vec<&str> = self.one_of.iter().flat_map(Self::named).collect();
            let written: Vec<String> =
                names.iter().filter(|name| !value[**name].is_null()).map(|name| format!("`{name}`")).collect();
            return Some(match written.len() {
                0 | 1 => format!("needs one of {}", names.join(", ")),
                _ => format!("has {}; only one of them is allowed", written.join(" and ")),
            });
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|branch| branch.accepts(value)) {
            let names: Vec<&str> = self.any_of.iter().flat_map(Self::named).collect();
            return Some(format!("needs one of {}", names.join(", ")));
        }
        if self.not.as_deref().is_some_and(|not| not.accepts(value)) {
            return Some("has a value that is not allowed".to_owned());
        }
        self.all_of.iter().find_map(|part| part.violated(value).or_else(|| part.alternatives(value)))
    }

    /// The fields that a branch requires.
    fn named(&self) -> impl Iterator<Item = &str> {
        self.required.iter().map(String::as_str)
    }

    /// Whether a value fits a branch of alternatives.
    fn accepts(&self, value: &Value) -> bool {
        self.wanted(value).is_none()
            && self.violated(value).is_none()
            && self.alternatives(value).is_none()
            && self.required.iter().all(|name| !value[name].is_null())
            && self.properties.iter().all(|(name, property)| value[name].is_null() || property.accepts(&value[name]))
    }
}

/// A value in a message.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => format!("`{other}`"),
    }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails where a pattern is not an expression, or a reference leads nowhere.
    fn check(schema: &Schema) {
        assert!(schema.pattern.as_ref().is_none_or(|pattern| Regex::new(pattern).is_ok()), "{:?}", schema.pattern);
        assert!(schema.reference.as_deref().is_none_or(|name| shared(name).is_some()), "{:?}", schema.reference);
        let each = schema.additional_properties.iter().filter_map(|additional| match additional {
            Additional::Schema(each) => Some(&**each),
            Additional::Allowed(_) => None,
        });
        let branches = [&schema.one_of, &schema.any_of, &schema.all_of].into_iter().flatten();
        let inner = schema.items.iter().chain(&schema.not).map(|inner| &**inner);
        schema.properties.values().chain(each).chain(branches).chain(inner).for_each(check);
    }

    #[test]
    fn shared_schemas_can_be_read() {
        assert!(SHARED.len() > 100, "{}", SHARED.len());
        for (text, _) in SHARED.values() {
            check(&serde_json::from_str(text).unwrap());
        }
    }

    #[test]
    fn schemas_of_kinds_can_be_read() {
        #[derive(Deserialize)]
        struct Definition {
            schema: Schema,
        }
        let files = [
            KUBERNETES,
            include_str!("definitions/gateway-api.json"),
            include_str!("definitions/istio-1.31.json"),
            include_str!("definitions/istio-1.22.json"),
        ];
        for file in files {
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(file).unwrap();
            let kinds = entries.iter().filter(|(name, _)| name.contains('/'));
            for (_, raw) in kinds {
                let definitions: Vec<Definition> = serde_json::from_str(raw.get()).unwrap();
                for definition in &definitions {
                    check(&definition.schema);
                }
            }
        }
    }
}

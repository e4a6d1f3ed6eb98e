use std::sync::Arc;

use serde_json::Value;

use super::definition::Definitions;
use super::schema::{Additional, Schema};
use crate::scenario::Manifest;

/// An object with the fields that the API fills in by its definition. Defaults that Kubernetes computes for its own kinds are left out.
pub fn with_defaults(manifest: &Arc<Manifest>) -> Arc<Manifest> {
    let mut manifest = Arc::clone(manifest);
    let kind = Definitions::Newest.find(manifest.group(), manifest.kind()).filter(|kind| kind.has_defaults());
    if let Some(schema) = kind.and_then(|kind| kind.schema(manifest.version())) {
        fill(&mut Arc::make_mut(&mut manifest).object.data, schema);
    }
    manifest
}

fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                if let Some(default) = &property.default
                    && fields.get(name).is_none_or(|value| value.is_null() && !property.nullable)
                {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill(value, property);
                }
            }
            if let Some(Additional::Schema(each)) = &schema.additional_properties {
                fields.values_mut().for_each(|value| fill(value, each));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for item in items {
                    fill(item, schema);
                }
            }
        }
        _ => {}
    }
}

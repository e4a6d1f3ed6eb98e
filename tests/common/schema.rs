//! JSON schemas: whether a file that was written fits the schema that is published.

use serde_json::Value;

/// A schema.
pub struct Schema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    pub fn of(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("schema.json", schema).expect("the schema has an address of its own");
        let index = compiler.compile("schema.json", &mut schemas).expect("the schema is a schema");
        Self { schemas, index }
    }

    /// Whether a value fits; if not, every reason.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.schemas.validate(value, self.index).map_err(|error| format!("{error:#}"))
    }
}

/// The schema in `schemas/`.
pub fn committed_schema(name: &str) -> Schema {
    let text = std::fs::read_to_string(format!("{}/schemas/{name}.json", super::ROOT)).expect("the schema is there");
    Schema::of(serde_json::from_str(&text).expect("the schema is JSON"))
}

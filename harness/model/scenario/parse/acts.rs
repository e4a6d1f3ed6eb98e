//! What a stage has a controller do.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StrDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use crate::scenario::controller::Action;

/// One thing that a stage has a controller do.
pub enum Act {
    /// An action on the controlled object, or what is wrong with its name.
    Action(Result<Action, String>),
    /// The answer to a webhook of the controlled object: its name, and whether the answer is a success.
    Gate(Spanned<String>, bool),
}

/// `promote`, `{open: promotion}`, or a list of such.
pub struct Acts(pub Vec<Act>);

/// The keys of the answer to a webhook.
const KEYS: [&str; 2] = ["open", "close"];
const FORMS: &str = "an action such as promote, or the answer to a webhook, such as {open: promotion}";

struct ActVisitor;

impl<'de> Visitor<'de> for ActVisitor {
    type Value = Acts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(FORMS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Acts, E> {
        let action = Action::deserialize(StrDeserializer::<de::value::Error>::new(text));
        Ok(Acts(vec![Act::Action(action.map_err(|error| {
            let message = error.to_string();
            let (unknown, known) = message.split_once(", expected one of ").unwrap_or((&message, ""));
            super::with_suggestion(&format!("{unknown}, expected one of {}", known.replace('`', "")))
        }))]))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Acts, A::Error> {
        let mut acts = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "open" => acts.push(Act::Gate(map.next_value()?, true)),
                "close" => acts.push(Act::Gate(map.next_value()?, false)),
                other => return Err(de::Error::unknown_field(other, &KEYS)),
            }
        }
        Ok(Acts(acts))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Acts, A::Error> {
        let mut acts = Vec::new();
        while let Some(Acts(more)) = list.next_element()? {
            acts.extend(more);
        }
        Ok(Acts(acts))
    }
}

impl<'de> Deserialize<'de> for Acts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ActVisitor)
    }
}

impl JsonSchema for Acts {
    fn schema_name() -> Cow<'static, str> {
        "Do".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let action = generator.subschema_for::<Action>();
        let name = json_schema!({"type": "string", "description": "The name of a webhook of the Canary."});
        let gate = json_schema!({
            "description": "The answer to a webhook, until the state of `wait` is reached.",
            "type": "object",
            "properties": {"open": name, "close": name},
            "additionalProperties": false,
            "minProperties": 1,
        });
        let one = [action.to_value(), gate.to_value()];
        json_schema!({
            "description": "An action, the answer to a webhook, or a list of these.",
            "anyOf": [one[0], one[1], {"type": "array", "items": {"anyOf": one}}],
            "examples": ["promote", {"open": "promotion"}],
        })
    }
}

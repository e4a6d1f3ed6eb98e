//! What a stage does apart from objects that it applies and deletes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StrDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use crate::scenario::controller::Action;

/// One thing that a stage does apart from objects that it applies and deletes.
pub enum Act {
    /// An action on the controlled object, or what is wrong with its name.
    Action(Result<Action, String>),
    /// The answer to a webhook of the controlled object: its name, and whether the answer is a success.
    Gate(Spanned<String>, bool),
    /// Replaces the pods of a Deployment.
    Restart(Spanned<String>),
    /// Sets the number of pods of Deployments.
    Scale(HashMap<Spanned<String>, Spanned<Pods>>),
}

/// A number of pods, or what is wrong with it.
pub struct Pods(pub Result<i32, String>);

impl<'de> Deserialize<'de> for Pods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PodsVisitor;

        impl Visitor<'_> for PodsVisitor {
            type Value = Pods;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number of pods, such as 3")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Pods, E> {
                Ok(Pods(match i32::try_from(number) {
                    _ if number < 0 => Err(format!("a Deployment cannot have {number} pods; 0 removes all of them")),
                    Ok(number) => Ok(number),
                    Err(_) => Err(format!("a Deployment cannot have {number} pods, but at most {}", i32::MAX)),
                }))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Pods, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Pods, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Pods, E> {
                Ok(Pods(Err(format!("`{text}` is not a number of pods, such as 3"))))
            }
        }

        deserializer.deserialize_any(PodsVisitor)
    }
}

/// `promote`, `{open: promotion}`, `{scale: {deployment/hello: 3}}`, or a list of such.
pub struct Acts(pub Vec<Act>);

const KEYS: [&str; 4] = ["open", "close", "restart", "scale"];
const FORMS: &str = "an action such as promote, the answer to a webhook such as {open: promotion}, {restart: deployment/hello} or {scale: {deployment/hello: 3}}";

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
                "restart" => acts.push(Act::Restart(map.next_value()?)),
                "scale" => acts.push(Act::Scale(map.next_value()?)),
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
        let deployment = "^[^/]+/.+$";
        let workload = json_schema!({
            "description": "Replaces the pods of a Deployment, or sets the number of pods of Deployments.",
            "type": "object",
            "properties": {
                "restart": {"type": "string", "pattern": deployment},
                "scale": {
                    "type": "object",
                    "patternProperties": {deployment: {"type": "integer", "minimum": 0}},
                    "additionalProperties": false,
                    "minProperties": 1,
                },
            },
            "additionalProperties": false,
            "minProperties": 1,
        });
        let one = [action.to_value(), gate.to_value(), workload.to_value()];
        json_schema!({
            "description": "An action, the answer to a webhook, a change of a Deployment, or a list of these.",
            "anyOf": [one[0], one[1], one[2], {"type": "array", "items": {"anyOf": one}}],
            "examples": ["promote", {"open": "promotion"}, {"scale": {"deployment/hello": 3}}],
        })
    }
}

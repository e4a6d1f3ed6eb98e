use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::scenario::Share;
use crate::scenario::controller::FollowedWeight;

/// The weight of an experiment.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Experiment {
    /// The share of all weights that the pods of the experiment get together.
    experiment: Share,
}

impl<'de> Deserialize<'de> for FollowedWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WeightVisitor;

        impl<'de> Visitor<'de> for WeightVisitor {
            type Value = FollowedWeight;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a share, such as 20%, or {experiment: 10%}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<FollowedWeight, E> {
                text.parse().map(FollowedWeight::Canary).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FollowedWeight, A::Error> {
                let written = Experiment::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FollowedWeight::Experiment(written.experiment))
            }
        }

        deserializer.deserialize_any(WeightVisitor)
    }
}

impl JsonSchema for FollowedWeight {
    fn schema_name() -> Cow<'static, str> {
        "FollowedWeight".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (share, experiment) = (generator.subschema_for::<Share>(), generator.subschema_for::<Experiment>());
        json_schema!({
            "description": "The weight of the new version, or of the pods of an experiment.",
            "anyOf": [share, experiment],
            "examples": ["10%", {"experiment": "10%"}],
        })
    }
}

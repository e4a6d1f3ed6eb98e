//! Paths of versions, with their JSON schema.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::demo::ARROW;
use crate::scenario::Share;

/// The share of each path of versions, by the versions joined with ` > `. A list of versions is the only path.
pub struct Paths(pub BTreeMap<String, Share>);

/// What is expected, for messages.
const EXPECTED: &str = "the version of each service along the way, such as [front-v1, back-v2], or the share of each such path, such as {front-v1 > back-v1: 90%, front-v1 > back-v2: 10%}";

/// The versions joined.
fn joined<'a>(versions: impl Iterator<Item = &'a str>) -> Result<String, String> {
    let versions: Vec<&str> = versions.map(str::trim).collect();
    if versions.len() < 2 || versions.iter().any(|version| version.is_empty()) {
        let written = versions.join(ARROW);
        return Err(format!(
            "`{written}` is not a path, which has the versions of two services at least, such as front-v1 > back-v2"
        ));
    }
    Ok(versions.join(ARROW))
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathsVisitor;

        impl<'de> Visitor<'de> for PathsVisitor {
            type Value = Paths;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(EXPECTED)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Paths, A::Error> {
                let mut versions: Vec<String> = Vec::new();
                while let Some(version) = list.next_element()? {
                    versions.push(version);
                }
                let path = joined(versions.iter().map(String::as_str)).map_err(de::Error::custom)?;
                Ok(Paths(BTreeMap::from([(path, Share::ALL)])))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Paths, A::Error> {
                let mut paths = BTreeMap::new();
                while let Some((path, share)) = map.next_entry::<String, Share>()? {
                    let path = joined(path.split('>')).map_err(de::Error::custom)?;
                    if paths.contains_key(&path) {
                        return Err(de::Error::custom(format!("the path `{path}` occurs twice")));
                    }
                    paths.insert(path, share);
                }
                Ok(Paths(paths))
            }
        }

        deserializer.deserialize_any(PathsVisitor)
    }
}

impl JsonSchema for Paths {
    fn schema_name() -> Cow<'static, str> {
        "Paths".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shares = generator.subschema_for::<BTreeMap<String, Share>>();
        json_schema!({
            "description": "The version of each service along the way, or the share of each such path.",
            "anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 2}, shares],
            "examples": [["front-v1", "back-v2"], {"front-v1 > back-v1": "90%", "front-v1 > back-v2": "10%"}],
        })
    }
}

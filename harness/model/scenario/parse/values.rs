//! Values of a scenario file, with their JSON schemas.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use crate::scenario::expectation::Count;
use crate::scenario::{GRPC_STATUSES, Share, StatusCode, nearest};

/// The error rates of a verdict.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ErrorRates {
    /// The probability that a correct route fails (type I error); by default 1e-6.
    #[schemars(with = "Option<f64>")]
    pub false_alarm: Option<Spanned<f64>>,
    /// The probability that a route whose share is off by the deviation passes (type II error); by default 1e-3.
    #[schemars(with = "Option<f64>")]
    pub miss: Option<Spanned<f64>>,
    /// The smallest deviation of a share that a verdict has to detect; by default 10%.
    #[schemars(with = "Option<Share>")]
    pub deviation: Option<Spanned<Share>>,
    /// The leak that a claim of 100% excludes; by default 1%.
    #[schemars(with = "Option<Share>")]
    pub leak: Option<Spanned<Share>>,
    /// The largest number of requests for a claim; by default 100000.
    #[schemars(with = "Option<u64>")]
    pub max_requests: Option<Spanned<u64>>,
}

/// A duration above zero: `200ms`, `5s`, `1m30s`.
#[derive(Clone, Copy, JsonSchema)]
#[schemars(
    rename = "Duration",
    description = "A duration above zero.",
    extend("examples" = ["200ms", "5s", "1m30s"], "pattern" = r"^\s*([0-9]+(\.[0-9]+)?\s*(h|m|s|ms)\s*)+$"),
)]
pub struct Time(#[schemars(with = "String")] pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Time {
    /// The duration in a text.
    ///
    /// # Errors
    /// The message that the text is no duration above zero.
    pub fn read(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not a duration such as 200ms, 5s or 1m30s");
        // jiff parses ISO 8601 durations as well
        if !text.trim_start().starts_with(|first: char| first.is_ascii_digit()) {
            return Err(invalid());
        }
        let duration: jiff::SignedDuration = text.trim().parse().map_err(|_| invalid())?;
        Duration::try_from(duration).ok().filter(|duration| !duration.is_zero()).map(Self).ok_or_else(invalid)
    }
}

/// A minor version or a release, which is written in quotes: `'1.10'`, `'1.10.1'`.
pub struct QuotedVersion(pub String);

impl<'de> Deserialize<'de> for QuotedVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VersionVisitor;

        impl Visitor<'_> for VersionVisitor {
            type Value = QuotedVersion;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a version in quotes, such as '1.10'")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<QuotedVersion, E> {
                let numbers = text.split('.').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>();
                let is_version = numbers.is_ok_and(|numbers| (2..=3).contains(&numbers.len()));
                // the parser of numbers also takes signs
                let is_version = is_version && !text.contains('+');
                is_version
                    .then(|| QuotedVersion(text.to_owned()))
                    .ok_or_else(|| E::custom(format!("`{text}` is not a version such as '1.10' or '1.10.1'")))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<QuotedVersion, E> {
                Err(E::custom(format!(
                    "without quotes, this version is the number {number}: write it in quotes, such as '1.10'"
                )))
            }
        }

        deserializer.deserialize_any(VersionVisitor)
    }
}

impl JsonSchema for QuotedVersion {
    fn schema_name() -> Cow<'static, str> {
        "ControllerVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+\\.[0-9]+(\\.[0-9]+)?$", "examples": ["1.10"]})
    }
}

impl JsonSchema for Status {
    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shares = generator.subschema_for::<BTreeMap<String, Share>>();
        json_schema!({
            "description": "A status, or the share of each.",
            "anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"enum": GRPC_STATUSES}, shares],
            "examples": [503, {"200": "90%", "503": "10%"}, "OK", {"OK": "90%", "UNAVAILABLE": "10%"}],
        })
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;

        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number of requests, or `some`")
            }

            fn visit_u64<E: de::Error>(self, requests: u64) -> Result<Count, E> {
                Ok(Count::Exactly(requests))
            }

            fn visit_i64<E: de::Error>(self, requests: i64) -> Result<Count, E> {
                u64::try_from(requests)
                    .map(Count::Exactly)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(requests), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                if text == "some" { Ok(Count::Some) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }
        }

        deserializer.deserialize_any(CountVisitor)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of requests; `some` is at least one.",
            "anyOf": [{"type": "integer", "minimum": 0}, {"const": "some"}],
        })
    }
}

/// `{v1: 50%, v2: 50%}`, or `as-declared`: what the live route declares at each time.
pub enum Get {
    /// The share of each version.
    Shares(BTreeMap<String, Share>),
    /// The shares that the live route declares.
    AsDeclared,
}

impl<'de> Deserialize<'de> for Get {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GetVisitor;

        impl<'de> Visitor<'de> for GetVisitor {
            type Value = Get;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the share of each version, such as {v1: 50%, v2: 50%}, or `as-declared`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Get, E> {
                if text == "as-declared" {
                    Ok(Get::AsDeclared)
                } else {
                    let expected = "the share of each version, such as {v1: 50%, v2: 50%}, or `as-declared`";
                    Err(E::custom(format!("`get`: expected {expected}; found `{text}`")))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Get, A::Error> {
                let mut shares = BTreeMap::new();
                while let Some((version, share)) = map.next_entry()? {
                    shares.insert(version, share);
                }
                Ok(Get::Shares(shares))
            }
        }

        deserializer.deserialize_any(GetVisitor)
    }
}

impl JsonSchema for Get {
    fn schema_name() -> Cow<'static, str> {
        "Get".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shares = generator.subschema_for::<BTreeMap<String, Share>>();
        json_schema!({
            "description": "The share of each version, or what the live route declares at each time.",
            "anyOf": [shares, {"const": "as-declared"}],
        })
    }
}

/// `503`, `{200: 90%, 503: 10%}`, `OK` or `{OK: 90%, UNAVAILABLE: 10%}`.
pub struct Status(pub BTreeMap<u16, Share>);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl<'de> Visitor<'de> for StatusVisitor {
    type Value = Status;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a status such as 503 or UNAVAILABLE, or shares such as {200: 90%, 503: 10%}")
    }

    fn visit_u64<E: de::Error>(self, status: u64) -> Result<Status, E> {
        let status = u16::try_from(status).map_err(|_| E::custom(format!("{status} is not an HTTP status")))?;
        Ok(Status(BTreeMap::from([(status, Share::ALL)])))
    }

    fn visit_i64<E: de::Error>(self, status: i64) -> Result<Status, E> {
        let status = u64::try_from(status).map_err(|_| E::custom(format!("{status} is not an HTTP status")))?;
        self.visit_u64(status)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Status, E> {
        Ok(Status(BTreeMap::from([(code(name).map_err(E::custom)?, Share::ALL)])))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Status, A::Error> {
        let mut shares = BTreeMap::new();
        while let Some((status, share)) = map.next_entry::<String, Share>()? {
            shares.insert(code(&status).map_err(de::Error::custom)?, share);
        }
        Ok(Status(shares))
    }
}

/// A status of HTTP by its number, or one of gRPC by its name.
fn code(text: &str) -> Result<u16, String> {
    let named = || {
        let meant = nearest(text, GRPC_STATUSES.into_iter());
        let code = StatusCode::grpc(text).map(|code| code.0);
        code.ok_or_else(|| {
            format!("`{text}` is no status of HTTP, such as 503, and none of gRPC, such as UNAVAILABLE{meant}")
        })
    };
    text.parse().or_else(|_| named())
}

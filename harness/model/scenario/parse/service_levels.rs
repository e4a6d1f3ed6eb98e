//! Expectations about errors and latency.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::values::{ErrorRates, Time};
use crate::scenario::{Factor, Share};

/// The errors and the slow answers of a version against those of another one.
#[derive(JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename_all = "kebab-case",
    extend("anyOf" = [{"required": ["errors"]}, {"required": ["slower-than"]}])
)]
pub struct Compared {
    /// The population.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// The request path; by default `/`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// The version that is judged, and the version that it is compared with: `{v2: v1}`.
    #[schemars(with = "BTreeMap<String, String>", extend("minProperties" = 1, "maxProperties" = 1))]
    pub compare: Spanned<HashMap<Spanned<String>, Spanned<String>>>,
    /// The smallest multiple of the other version's error share to detect.
    pub errors: Option<Factor>,
    /// The smallest multiple of the share of slow answers to detect, for answers slower than this share of the other version's.
    #[schemars(with = "Option<BTreeMap<String, Factor>>")]
    pub slower_than: Option<Spanned<Factors>>,
    /// The error rates of the verdict.
    pub error_rates: Option<ErrorRates>,
}

/// The errors and the latency of the answers to a population.
#[derive(JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename_all = "kebab-case",
    extend("anyOf" = [{"required": ["errors-at-most"]}, {"required": ["latency"]}])
)]
pub struct Limit {
    /// The population.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// The request path; by default `/`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// The largest share of errors.
    #[schemars(with = "Option<Share>")]
    pub errors_at_most: Option<Spanned<Share>>,
    /// By share of the answers, the time within which they are given, such as `{99%: 50ms}`. Needs `qps`.
    #[schemars(with = "Option<BTreeMap<String, Time>>")]
    pub latency: Option<LatencyLimits>,
    /// The smallest excess of a bad share to detect; by default as much as is claimed.
    #[schemars(with = "Option<Share>")]
    pub excess: Option<Spanned<Share>>,
    /// The error rates of the verdict.
    pub error_rates: Option<ErrorRates>,
}

/// The share of slow answers to a population.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slow {
    /// The population.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// The request path; by default `/`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// The share of the answers that take longer than a time, such as `{400ms: 20%}`.
    #[schemars(with = "BTreeMap<String, Share>", extend("minProperties" = 1, "maxProperties" = 1))]
    pub slower_than: Spanned<Vec<(Spanned<String>, Share)>>,
    /// The error rates of the verdict.
    pub error_rates: Option<ErrorRates>,
}

/// Times by share, such as `{99%: 50ms}`.
pub type LatencyLimits = Spanned<HashMap<Spanned<String>, Time>>;

/// Factors, each with the share that it is written at.
pub type Factors = Vec<(Spanned<String>, Factor)>;

/// Factors by share, such as `{95%: 2x}`, or shares by time, such as `{400ms: 20%}`.
pub type SlowerThan = Spanned<HashMap<Spanned<String>, Slowness>>;

/// A value of `slower-than`.
#[derive(Clone, Copy)]
pub enum Slowness {
    /// The factor of a comparison.
    Factor(Factor),
    /// The share of the answers.
    Share(Share),
}

impl<'de> Deserialize<'de> for Slowness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.trim_end().ends_with('%') {
            text.parse().map(Self::Share).map_err(de::Error::custom)
        } else {
            text.parse().map(Self::Factor).map_err(de::Error::custom)
        }
    }
}

/// The value of `errors`: error rates under their former name, or the factor of a comparison.
pub enum Errors {
    /// The error rates of a claim.
    Rates(Box<ErrorRates>),
    /// The factor of a comparison.
    Factor(Factor),
}

impl<'de> Deserialize<'de> for Errors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ErrorsVisitor;

        impl<'de> Visitor<'de> for ErrorsVisitor {
            type Value = Errors;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a factor such as 2x, or error rates such as {miss: 1e-3}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Errors, E> {
                text.parse().map(Errors::Factor).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Errors, A::Error> {
                ErrorRates::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|rates| Errors::Rates(Box::new(rates)))
            }
        }

        deserializer.deserialize_any(ErrorsVisitor)
    }
}

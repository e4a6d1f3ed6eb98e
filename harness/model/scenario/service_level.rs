//! Claims about errors and latency.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::duration::shown;
use super::error_rates::ErrorRates;
use super::origin::Origin;
use super::share::Share;

/// A claim about the errors or the latency of the answers to a population.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceLevel {
    /// The population.
    pub from: String,
    /// The request path.
    pub path: String,
    /// What is claimed.
    pub objective: Objective,
    /// The error rates of the verdict.
    pub errors: ErrorRates,
    /// The position of the claim.
    pub origin: Origin,
}

/// What a claim says about errors or latency.
#[derive(Debug, Clone, PartialEq)]
pub enum Objective {
    /// A version is not worse than another one by some factor.
    Compare(Comparison),
    /// There are no more errors and slow answers than claimed.
    Limit(Limits),
}

/// The largest shares of errors and of slow answers. At least one of them is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The largest share of errors.
    pub errors: Option<Share>,
    /// Shares of the answers, each with the time within which at least this share is given.
    pub latency: Vec<(Share, Duration)>,
    /// The smallest excess of a bad share to detect; none for as much as is claimed.
    pub excess: Option<Share>,
}

/// A version is not worse than another one: its error share, and its share of slow answers, are less than a factor times those of the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The version that is judged.
    pub canary: String,
    /// The version that it is compared with.
    pub baseline: String,
    /// The factor of the error share to detect.
    pub errors: Option<Factor>,
    /// Factors of the share of slow answers to detect: slower than this share of the baseline's answers.
    pub slower_than: Vec<(Share, Factor)>,
}

impl ServiceLevel {
    /// The versions that are compared, if there are any: the canary and the baseline.
    pub const fn versions(&self) -> Option<[&String; 2]> {
        match &self.objective {
            Objective::Compare(Comparison { canary, baseline, .. }) => Some([canary, baseline]),
            Objective::Limit(_) => None,
        }
    }
}

impl fmt::Display for ServiceLevel {
    /// `v2 against v1: errors below 2x, slower than 95 % of v1 below 2x`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.objective {
            Objective::Compare(Comparison { canary, baseline, errors, slower_than }) => {
                let errors = errors.map(|factor| format!("errors below {factor}"));
                let slower = slower_than
                    .iter()
                    .map(|(share, factor)| format!("answers slower than {share} of {baseline}'s below {factor}"));
                let parts: Vec<String> = errors.into_iter().chain(slower).collect();
                write!(formatter, "{canary} against {baseline}: {}", parts.join(", "))
            }
            Objective::Limit(Limits { errors, latency, .. }) => {
                let errors = errors.map(|share| format!("errors at most {share}"));
                let latency = latency.iter().map(|(share, limit)| format!("{share} within {}", shown(*limit)));
                let parts: Vec<String> = errors.into_iter().chain(latency).collect();
                formatter.write_str(&parts.join(", "))
            }
        }
    }
}

/// A relative risk above 1. Written as a number with an `x`: `2x`, `1.5x`.
///
/// ```
/// use shiftcheck_model::scenario::Factor;
///
/// assert_eq!("2x".parse::<Factor>().unwrap().value(), 2.0);
/// assert!("1x".parse::<Factor>().is_err() && "2".parse::<Factor>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Factor(f64);

impl Factor {
    /// The largest factor.
    const LARGEST: f64 = 1000.0;

    /// The factor as a number.
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl std::str::FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix('x').and_then(|number| number.trim().parse::<f64>().ok());
        let number = number.ok_or_else(|| format!("`{text}` is not a factor such as 2x"))?;
        if number > 1.0 && number <= Self::LARGEST {
            Ok(Self(number))
        } else {
            Err(format!("`{text}` is not above 1x and at most {}x", Self::LARGEST))
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}x", self.0)
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Factor {
    fn schema_name() -> Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A factor above 1x.",
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*x\s*$",
            "examples": ["2x", "1.5x"],
        })
    }
}

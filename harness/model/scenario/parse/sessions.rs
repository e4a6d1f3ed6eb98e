//! Claims about the sessions of a population.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::values::ErrorRates;
use crate::scenario::Share;

/// What the sessions of a population get.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OfSessions {
    /// The population, which has sessions.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// The request path; by default `/`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// What holds for the sessions.
    #[schemars(with = "SessionClaims")]
    pub sessions: Spanned<SessionClaims>,
    /// The error rates of the verdict.
    #[schemars(rename = "error-rates")]
    pub error_rates: Option<ErrorRates>,
}

/// What holds for sessions: at least one of `stay` and `get`, or `keep` alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"anyOf": [{"required": ["stay"]}, {"required": ["get"]}]}, {"required": ["keep"]}]))]
pub struct SessionClaims {
    /// The share of the sessions whose requests all get the same pod, or the same version where responses name no pod: `100%`.
    #[schemars(with = "Option<Share>")]
    pub stay: Option<Spanned<Share>>,
    /// The share of the sessions that each version gets; they sum to 100%.
    #[schemars(with = "Option<BTreeMap<String, Share>>")]
    pub get: Option<Spanned<BTreeMap<String, Share>>>,
    /// The version that answers all requests of a session after it has answered one.
    #[schemars(with = "Option<String>")]
    pub keep: Option<Spanned<String>>,
}

/// The sessions of a population.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["header"]}, {"required": ["cookie"]}, {"required": ["query"]}]))]
pub struct Sessions {
    /// The request header with the key of the session.
    #[schemars(with = "Option<String>")]
    pub header: Option<Spanned<String>>,
    /// The cookie with the key of the session, which the server sets.
    #[schemars(with = "Option<String>")]
    pub cookie: Option<Spanned<String>>,
    /// The parameter of the query with the key of the session.
    #[schemars(with = "Option<String>")]
    pub query: Option<Spanned<String>>,
    /// The number of sessions, from 2 to 10,000.
    #[schemars(with = "u64", range(min = 2, max = 10_000))]
    pub count: Spanned<u64>,
}

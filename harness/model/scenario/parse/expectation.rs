//! Expectations, whose keys determine their form.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::forms::{BOTH_KEYS, FORMS, KEYS, misplaced_key};
use super::paths::Paths;
use super::service_levels::{Compared, Errors, Factors, LatencyLimits, Limit, Slow, SlowerThan, Slowness};
use super::sessions::{OfSessions, SessionClaims};
use super::values::{ErrorRates, Get, Status, Time};
use crate::demo::ARROW;
use crate::scenario::Share;
use crate::scenario::expectation::Count;

/// A claim of a stage, in the form that its keys determine.
pub enum Expectation {
    /// The shares of versions and statuses for a population.
    Claim(Box<Claim>),
    /// The share of slow answers.
    Slow(Box<Slow>),
    /// A version against another one.
    Compare(Box<Compared>),
    /// What the sessions of a population get.
    Sessions(Box<OfSessions>),
    /// The largest shares of errors and of slow answers.
    Limit(Box<Limit>),
    /// The numbers of requests that workloads serve.
    Served(ServedBy),
    /// What callers observe while the stage is applied.
    During(Box<Watched>),
    /// The weights in the live route of the controlled object.
    Weights(DeclaredWeights),
    /// What the controller reports.
    Reports(Reports),
    /// No objects are left.
    Left(Left),
}

/// The shares of versions and statuses for a population.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("anyOf" = [
    {"required": ["get"]},
    {"required": ["path-of-versions"]},
    {"required": ["status"]}
]))]
pub struct Claim {
    /// The population.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// The request path; by default `/`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// The share of each version; they sum to 100%. `as-declared` stands for what the live route declares at each time, where the stage has
    /// `follow`.
    #[schemars(with = "Option<Get>")]
    pub get: Option<Spanned<Get>>,
    /// Instead of `get`: the version of each service along the way, such as `[front-v1, back-v2]`, or the share of each such
    /// path, such as `{front-v1 > back-v1: 90%, front-v1 > back-v2: 10%}`.
    #[schemars(rename = "path-of-versions", with = "Option<Paths>")]
    pub path_of_versions: Option<Spanned<Paths>>,
    /// With `as-declared`, the time after a change of the route from which on clients get the new shares; by default 2s.
    #[schemars(with = "Option<Time>")]
    pub lag: Option<Spanned<Time>>,
    /// The status, or the share of each; by default 200.
    #[schemars(with = "Option<Status>")]
    pub status: Option<Spanned<Status>>,
    /// The error rates of the verdict.
    #[schemars(rename = "error-rates")]
    pub error_rates: Option<ErrorRates>,
    /// The former name of `error-rates`.
    #[schemars(extend("deprecated" = true))]
    #[expect(dead_code, reason = "for the schema")]
    pub errors: Option<ErrorRates>,
}

/// The numbers of the sample's requests that the pods of workloads serve.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ServedBy {
    /// By Deployment: a number of requests, or `some`.
    #[schemars(with = "BTreeMap<String, Count>")]
    pub served: HashMap<Spanned<String>, Count>,
}

/// What callers observe while the stage is applied.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Watched {
    /// At least one of `errors`, `gap`, `last-of` and `latency`.
    pub during: During,
}

/// The weights in the live route of the controlled object.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DeclaredWeights {
    /// The weights; they sum to 100%.
    #[schemars(with = "Weights")]
    pub weights: Spanned<Weights>,
}

/// The weights of the two destinations of a controlled object.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// The weight of the new version.
    pub canary: Share,
    /// The weight of the old version.
    pub stable: Share,
}

/// What the controller reports in the status of its object.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reports {
    /// The reported values.
    pub reports: Reported,
}

/// The reported values.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// The weight of the new version.
    pub weight: Share,
}

/// No objects are left.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Left {
    /// `none`: none of the objects that the scenario applied is left.
    #[schemars(with = "NoneLeft")]
    pub objects: Spanned<String>,
}

/// The only value of `objects`.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum NoneLeft {
    /// No objects.
    #[allow(dead_code, reason = "for the schema")]
    None,
}

/// What callers observe while the stage is applied.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("anyOf" = [
    {"required": ["errors"]},
    {"required": ["gap"]},
    {"required": ["last-of"]},
    {"required": ["latency"]}
]))]
pub struct During {
    /// The largest number of failed requests: those with an answer that neither the previous stage nor this stage gives.
    pub errors: Option<u64>,
    /// The error share that a pass has to exclude, with the scenario's `miss`; by default 1%. It determines the smallest number of watched
    /// requests.
    #[schemars(with = "Option<Share>")]
    pub excludes: Option<Spanned<Share>>,
    /// The longest time without a correct answer, such as `200ms`.
    #[schemars(with = "Option<Time>")]
    pub gap: Option<Spanned<Time>>,
    /// By version, the time after the change from which on the version answers no request, such as `5s`.
    #[schemars(with = "Option<BTreeMap<String, Time>>")]
    pub last_of: Option<Spanned<HashMap<Spanned<String>, Spanned<Time>>>>,
    /// By share of the requests, the time within which they get a correct answer, such as `{99%: 200ms}`.
    #[schemars(with = "Option<BTreeMap<String, Time>>")]
    pub latency: Option<LatencyLimits>,
}

/// The keys of an expectation as they are written. [`Keys::form`] determines their form.
#[derive(Default)]
pub struct Keys {
    /// All keys in the order written.
    names: Vec<Spanned<String>>,
    from: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    get: Option<Spanned<Get>>,
    path_of_versions: Option<Spanned<Paths>>,
    lag: Option<Spanned<Time>>,
    status: Option<Spanned<Status>>,
    error_rates: Option<ErrorRates>,
    errors: Option<Errors>,
    compare: Option<Spanned<HashMap<Spanned<String>, Spanned<String>>>>,
    slower_than: Option<SlowerThan>,
    errors_at_most: Option<Spanned<Share>>,
    latency: Option<LatencyLimits>,
    excess: Option<Spanned<Share>>,
    sessions: Option<Spanned<SessionClaims>>,
    served: Option<HashMap<Spanned<String>, Count>>,
    during: Option<During>,
    weights: Option<Spanned<Weights>>,
    reports: Option<Reported>,
    objects: Option<Spanned<String>>,
}

/// Whether a value of `slower-than` is the share of a claim about a time.
const fn is_share(slowness: &Slowness) -> bool {
    matches!(slowness, Slowness::Share(_))
}

/// The factors of a comparison.
fn factors(written: SlowerThan) -> Result<Spanned<Factors>, (Location, String)> {
    let factors = written.value.into_iter().map(|(share, slowness)| match slowness {
        Slowness::Factor(factor) => Ok((share, factor)),
        Slowness::Share(_) => {
            let message = "in a comparison, `slower-than` takes a factor of a share of the answers, such as {95%: 2x}";
            Err((share.referenced, message.to_owned()))
        }
    });
    let value = factors.collect::<Result<_, _>>()?;
    Ok(Spanned { value, referenced: written.referenced, defined: written.defined })
}

impl Keys {
    /// The versions in the claim.
    pub fn versions(&self) -> impl Iterator<Item = &String> {
        let compared = self.compare.iter().flat_map(|compare| &compare.value);
        let compared = compared.flat_map(|(canary, baseline)| [&canary.value, &baseline.value]);
        let claimed = self.get.iter().filter_map(|get| match &get.value {
            Get::Shares(shares) => Some(shares.keys()),
            Get::AsDeclared => None,
        });
        let of_sessions =
            self.sessions.iter().filter_map(|own| own.value.get.as_ref()).flat_map(|get| get.value.keys());
        let kept = self.sessions.iter().filter_map(|own| own.value.keep.as_ref()).map(|keep| &keep.value);
        claimed.flatten().chain(compared).chain(of_sessions).chain(kept)
    }

    /// The versions along the ways of the claim.
    pub fn versions_along(&self) -> impl Iterator<Item = &str> {
        let paths = self.path_of_versions.iter().flat_map(|paths| paths.value.0.keys());
        paths.flat_map(|path| path.split(ARROW))
    }

    /// The location of a key.
    fn place(&self, key: &str, otherwise: Location) -> Location {
        self.names.iter().find(|name| name.value == key).map_or(otherwise, |name| name.referenced)
    }

    /// Refuses keys of an expectation with `from` that belong to another one than `main`.
    fn refuse(&self, keys: &[&str], main: &str) -> Result<(), (Location, String)> {
        let Some(name) = self.names.iter().find(|name| keys.contains(&name.value.as_str())) else { return Ok(()) };
        let message = format!("`{}` does not belong to `{main}`; it belongs to a separate expectation", name.value);
        Err((name.referenced, message))
    }

    /// Limits of errors and latency.
    fn limits(self, at: Location) -> Result<Expectation, (Location, String)> {
        let main = if self.latency.is_some() { "latency" } else { "errors-at-most" };
        self.refuse(&["get", "path-of-versions", "lag", "status", "errors", "slower-than"], main)?;
        let Self { from: Some(from), path, errors_at_most, latency, excess, error_rates, .. } = self else {
            return Err((at, format!("an expectation is {FORMS}")));
        };
        Ok(Expectation::Limit(Box::new(Limit { from, path, errors_at_most, latency, excess, error_rates })))
    }

    /// A comparison of versions.
    fn comparison(self, at: Location) -> Result<Expectation, (Location, String)> {
        let others = ["get", "path-of-versions", "lag", "status", "errors-at-most", "latency", "excess"];
        self.refuse(&others, "compare")?;
        let of_errors = self.place("errors", at);
        let Self { from: Some(from), path, compare: Some(compare), errors, slower_than, error_rates, .. } = self else {
            return Err((at, format!("an expectation is {FORMS}")));
        };
        let errors = match errors {
            Some(Errors::Rates(_)) => {
                let message = "in a comparison, `errors` is a factor such as 2x; error rates are `error-rates`";
                return Err((of_errors, message.to_owned()));
            }
            Some(Errors::Factor(factor)) => Some(factor),
            None => None,
        };
        if errors.is_none() && slower_than.is_none() {
            return Err((at, "`compare` claims nothing: it needs `errors` or `slower-than`".to_owned()));
        }
        let slower_than = slower_than.map(factors).transpose()?;
        Ok(Expectation::Compare(Box::new(Compared { from, path, compare, errors, slower_than, error_rates })))
    }

    /// A share of slow answers.
    fn slow(self, at: Location) -> Result<Expectation, (Location, String)> {
        let others = ["get", "path-of-versions", "lag", "status", "errors", "errors-at-most", "latency", "excess"];
        self.refuse(&others, "slower-than")?;
        let Self { from: Some(from), path, slower_than: Some(slower_than), error_rates, .. } = self else {
            return Err((at, format!("an expectation is {FORMS}")));
        };
        let shares = slower_than.value.into_iter().filter_map(|(time, slowness)| match slowness {
            Slowness::Share(share) => Some((time, share)),
            Slowness::Factor(_) => None,
        });
        let slower_than =
            Spanned { value: shares.collect(), referenced: slower_than.referenced, defined: slower_than.defined };
        Ok(Expectation::Slow(Box::new(Slow { from, path, slower_than, error_rates })))
    }

    /// What sessions get.
    fn of_sessions(self, at: Location) -> Result<Expectation, (Location, String)> {
        let others = [
            "get",
            "path-of-versions",
            "lag",
            "status",
            "errors",
            "slower-than",
            "compare",
            "errors-at-most",
            "latency",
            "excess",
        ];
        self.refuse(&others, "sessions")?;
        let Self { from: Some(from), path, sessions: Some(sessions), error_rates, .. } = self else {
            return Err((at, format!("an expectation is {FORMS}")));
        };
        Ok(Expectation::Sessions(Box::new(OfSessions { from, path, sessions, error_rates })))
    }

    /// The form that the keys determine; `at` is the location of the expectation.
    ///
    /// # Errors
    /// A key belongs to another form or is missing: the location and a message.
    pub fn form(self, at: Location) -> Result<Expectation, (Location, String)> {
        if let Some((index, message)) = misplaced_key(self.names.iter().map(|name| name.value.as_str())) {
            return Err((self.names[index].referenced, message));
        }
        let is_former = self.error_rates.is_some() && matches!(self.errors, Some(Errors::Rates(_)));
        if let Some(former) = self.names.iter().find(|name| name.value == "errors" && is_former) {
            return Err((former.referenced, BOTH_KEYS.to_owned()));
        }
        match self {
            Self { from: Some(_), sessions: Some(_), .. } => self.of_sessions(at),
            Self { from: Some(_), compare: Some(_), .. } => self.comparison(at),
            Self { from: Some(_), errors_at_most: Some(_), .. } | Self { from: Some(_), latency: Some(_), .. } => {
                self.limits(at)
            }
            Self { from: Some(_), excess: Some(excess), .. } => {
                Err((excess.referenced, "`excess` needs `errors-at-most` or `latency`".to_owned()))
            }
            Self { from: Some(_), slower_than: Some(ref slower), .. } if slower.value.values().all(is_share) => self.slow(at),
            Self { from: Some(_), slower_than: Some(_), .. } | Self { errors: Some(Errors::Factor(_)), .. } => {
                let key = if self.slower_than.is_some() { "slower-than" } else { "errors" };
                let message = format!("`{key}` with a factor needs the two versions: `compare: {{v2: v1}}`");
                Err((self.place(key, at), message))
            }
            Self { from: Some(_), get: None, path_of_versions: None, status: None, .. } => Err((
                at,
                "an expectation with `from` needs `get`, `path-of-versions`, `status`, `slower-than`, `compare`, `errors-at-most`, `latency` or `sessions`"
                    .to_owned(),
            )),
            Self { from: Some(_), get: Some(_), path_of_versions: Some(paths), .. } => {
                Err((paths.referenced, "`path-of-versions` stands instead of `get`; remove one of them".to_owned()))
            }
            Self { from: Some(from), path, get, path_of_versions, lag, status, error_rates, errors, .. } => {
                let former = errors.and_then(|errors| match errors {
                    Errors::Rates(rates) => Some(*rates),
                    Errors::Factor(_) => None,
                });
                let error_rates = error_rates.or(former);
                Ok(Expectation::Claim(Box::new(Claim { from, path, get, path_of_versions, lag, status, error_rates, errors: None })))
            }
            Self { served: Some(served), .. } => Ok(Expectation::Served(ServedBy { served })),
            Self { during: Some(during), .. } => Ok(Expectation::During(Box::new(Watched { during }))),
            Self { weights: Some(weights), .. } => Ok(Expectation::Weights(DeclaredWeights { weights })),
            Self { reports: Some(reports), .. } => Ok(Expectation::Reports(Reports { reports })),
            Self { objects: Some(objects), .. } => Ok(Expectation::Left(Left { objects })),
            _ => Err((at, format!("an expectation is {FORMS}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an expectation: {FORMS}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            match name.value.as_str() {
                "from" => keys.from = Some(map.next_value()?),
                "path" => keys.path = Some(map.next_value()?),
                "get" => keys.get = Some(map.next_value()?),
                "path-of-versions" => keys.path_of_versions = Some(map.next_value()?),
                "lag" => keys.lag = Some(map.next_value()?),
                "status" => keys.status = Some(map.next_value()?),
                "error-rates" => keys.error_rates = Some(map.next_value()?),
                "errors" => keys.errors = Some(map.next_value()?),
                "compare" => keys.compare = Some(map.next_value()?),
                "slower-than" => keys.slower_than = Some(map.next_value()?),
                "errors-at-most" => keys.errors_at_most = Some(map.next_value()?),
                "latency" => keys.latency = Some(map.next_value()?),
                "sessions" => keys.sessions = Some(map.next_value()?),
                "excess" => keys.excess = Some(map.next_value()?),
                "served" => keys.served = Some(map.next_value()?),
                "during" => keys.during = Some(map.next_value()?),
                "weights" => keys.weights = Some(map.next_value()?),
                "reports" => keys.reports = Some(map.next_value()?),
                "objects" => keys.objects = Some(map.next_value()?),
                other => return Err(de::Error::unknown_field(other, &KEYS)),
            }
            keys.names.push(name);
        }
        Ok(keys)
    }
}

impl JsonSchema for Expectation {
    fn schema_name() -> Cow<'static, str> {
        "Expectation".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let forms = [
            generator.subschema_for::<Claim>(),
            generator.subschema_for::<Slow>(),
            generator.subschema_for::<Compared>(),
            generator.subschema_for::<Limit>(),
            generator.subschema_for::<OfSessions>(),
            generator.subschema_for::<ServedBy>(),
            generator.subschema_for::<Watched>(),
            generator.subschema_for::<DeclaredWeights>(),
            generator.subschema_for::<Reports>(),
            generator.subschema_for::<Left>(),
        ];
        json_schema!({"description": "A claim of a stage: one of these forms.", "oneOf": forms})
    }
}

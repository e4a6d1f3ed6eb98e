//! The scenario file as it is written, before its names are followed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::Share;
use super::model::{Count, Served};

/// A rollout to be proven: the service, who calls it, and its stages.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The scenario's name.
    pub name: String,
    /// The namespace that its objects live in.
    #[schemars(with = "String")]
    pub namespace: Spanned<String>,
    /// The service that the populations call: `http://HOST:PORT`.
    #[schemars(with = "String", regex(pattern = "^http://"))]
    pub service: Spanned<String>,
    /// The pod from which the traffic comes.
    pub client: Client,
    /// How a response tells its version.
    #[schemars(with = "Version")]
    pub version: Spanned<Version>,
    /// How a response tells its pod.
    pub pod: Option<PodRule>,
    /// Where a server pod tells how many requests it has served.
    #[schemars(with = "Option<Served>")]
    pub served: Option<Counter>,
    /// How the traffic is driven.
    #[serde(default)]
    pub traffic: Traffic,
    /// The errors that verdicts may make, where a claim does not say otherwise.
    #[serde(default)]
    pub errors: Errors,
    /// Who calls, by name.
    pub populations: BTreeMap<String, Population>,
    /// The stages, in order.
    #[schemars(with = "Vec<Stage>", length(min = 1))]
    pub stages: Spanned<Vec<Stage>>,
}

/// The pod from which the traffic comes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The file with its manifest.
    #[schemars(with = "String")]
    pub manifest: Spanned<String>,
    /// Its name.
    #[schemars(with = "String")]
    pub pod: Spanned<String>,
    /// The container that holds the driver; by default the one named as the pod is.
    pub container: Option<String>,
    /// Where the shiftcheck program is in it; by default `/shiftcheck`, as in the client's image that comes along.
    pub driver: Option<String>,
}

/// How a response tells its version: one of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// By the group `version` of a regular expression on the body.
    #[schemars(with = "Option<String>")]
    pub body: Option<Spanned<String>>,
    /// By the value of a response header.
    #[schemars(with = "Option<String>")]
    pub header: Option<Spanned<String>>,
    /// By the value at a JSON pointer in the body, such as `/build/version`.
    #[schemars(with = "Option<String>")]
    pub json: Option<Spanned<String>>,
}

/// How a response tells its pod.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodRule {
    /// By the value of this response header.
    #[schemars(with = "String")]
    pub header: Spanned<String>,
}

/// Where a server pod tells how many requests it has served.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// The path that answers with the number.
    pub path: Spanned<String>,
    /// The port of the pod.
    pub port: u16,
}

/// Request headers by name.
pub type Headers = HashMap<Spanned<String>, Spanned<String>>;

/// A group of callers that share what the routes look at.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Population {
    /// Request headers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: Headers,
    /// Several kinds of requests that take turns.
    #[serde(default)]
    pub any_of: Vec<Variant>,
}

/// One kind of requests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Request headers, beside those of the population.
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: Headers,
}

/// One step of the rollout.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// Manifest files to apply, in this order.
    #[schemars(with = "Option<Vec<String>>")]
    pub apply: Option<Spanned<Vec<Spanned<String>>>>,
    /// Objects (KIND/NAME) or manifest files to delete, in this order.
    #[schemars(with = "Option<Vec<String>>")]
    pub delete: Option<Spanned<Vec<Spanned<String>>>>,
    /// What has to hold then.
    #[serde(default)]
    #[schemars(with = "Vec<Expectation>")]
    pub expect: Vec<Spanned<Keys>>,
}

/// Something that has to hold in a stage, by the form that its keys give.
pub enum Expectation {
    /// Who gets which version in what share.
    Claim(Box<Claim>),
    /// How many requests workloads serve.
    Served(ServedBy),
    /// What the callers see while the stage is applied.
    During(Watched),
    /// That no objects are left.
    Left(Left),
}

/// Who gets which version in what share, with which status.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("anyOf" = [{"required": ["get"]}, {"required": ["status"]}]))]
pub struct Claim {
    /// The population.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// The path that it asks for; by default `/`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// The share of each version; they sum to 100%.
    #[schemars(with = "Option<BTreeMap<String, Share>>")]
    pub get: Option<Spanned<BTreeMap<String, Share>>>,
    /// The status, or the share of each; by default 200.
    #[schemars(with = "Option<Status>")]
    pub status: Option<Spanned<Status>>,
    /// The errors that the verdict may make.
    pub errors: Option<Errors>,
}

/// How many requests of the sample the pods of workloads serve.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ServedBy {
    /// By Deployment: a number of requests, or `some`.
    #[schemars(with = "BTreeMap<String, Count>")]
    pub served: HashMap<Spanned<String>, Count>,
}

/// What the callers see while the stage is applied.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Watched {
    /// At least one of `errors`, `gap` and `last-of`.
    pub during: During,
}

/// That no objects are left.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Left {
    /// `none`: nothing that the scenario applied is left.
    #[schemars(with = "NoneLeft")]
    pub objects: Spanned<String>,
}

/// The only value of `objects`.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum NoneLeft {
    /// Nothing is left.
    #[allow(dead_code, reason = "for the schema")]
    None,
}

/// What the callers see while a stage is applied.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("anyOf" = [{"required": ["errors"]}, {"required": ["gap"]}, {"required": ["last-of"]}]))]
pub struct During {
    /// At most so many requests are answered with what neither the stage before nor this one gives.
    pub errors: Option<u64>,
    /// The share of errors that a pass has to exclude, at the scenario's `miss`: a pass needs at least as many watched requests as that takes;
    /// by default 1%.
    #[schemars(with = "Option<Share>")]
    pub excludes: Option<Spanned<Share>>,
    /// The longest time without a right answer, such as `200ms`.
    #[schemars(with = "Option<Time>")]
    pub gap: Option<Spanned<Time>>,
    /// By version, the time after the change was applied from which it gives no answer any more, such as `5s`.
    #[schemars(with = "Option<BTreeMap<String, Time>>")]
    pub last_of: Option<Spanned<HashMap<Spanned<String>, Spanned<Time>>>>,
}

/// A duration above zero: `200ms`, `5s`, `1m30s`.
#[derive(Clone, Copy)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let invalid = || de::Error::custom(format!("`{text}` is not a duration such as 200ms, 5s or 1m30s"));
        // jiff reads ISO 8601 as well, which nothing else in a scenario uses
        if !text.trim_start().starts_with(|first: char| first.is_ascii_digit()) {
            return Err(invalid());
        }
        let duration: jiff::SignedDuration = text.trim().parse().map_err(|_| invalid())?;
        Duration::try_from(duration).ok().filter(|duration| !duration.is_zero()).map(Self).ok_or_else(invalid)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration above zero.",
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(h|m|s|ms)\s*)+$",
            "examples": ["200ms", "5s", "1m30s"],
        })
    }
}

/// The keys of an expectation as they are written; which form they have is decided by [`Keys::form`].
#[derive(Default)]
pub struct Keys {
    /// In the order written.
    names: Vec<Spanned<String>>,
    from: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    get: Option<Spanned<BTreeMap<String, Share>>>,
    status: Option<Spanned<Status>>,
    errors: Option<Errors>,
    served: Option<HashMap<Spanned<String>, Count>>,
    during: Option<During>,
    objects: Option<Spanned<String>>,
}

/// All keys of all forms of an expectation.
const KEYS: [&str; 8] = ["from", "path", "get", "status", "errors", "served", "during", "objects"];

/// The forms of an expectation, for messages.
pub const FORMS: &str = "{from: …, get: …}, {from: …, status: …}, {served: {WORKLOAD: REQUESTS}}, {during: {errors: NUMBER}} or {objects: none}";

/// The form that a key belongs to, by its own key.
fn form_of(key: &str) -> &str {
    match key {
        "path" | "get" | "status" | "errors" => "from",
        other => other,
    }
}

/// The first of an expectation's keys that belongs to another form than the key that gives the form, by its index; and what is to be said.
pub fn foreign<'k>(names: impl Iterator<Item = &'k str> + Clone) -> Option<(usize, String)> {
    let forms = ["from", "served", "during", "objects"];
    let form = names.clone().find(|name| forms.contains(name))?;
    let is_foreign = |name: &str| KEYS.contains(&name) && form_of(name) != form;
    let (index, key) = names.enumerate().find(|(_, name)| is_foreign(name))?;
    let (own, other) = (keys_of(form), keys_of(form_of(key)));
    Some((index, format!("`{key}` does not belong to {own}; it belongs to an expectation of its own, {other}")))
}

/// A form with all of its keys, for messages.
fn keys_of(form: &str) -> &'static str {
    match form {
        "served" => "{served: {WORKLOAD: REQUESTS}}",
        "during" => "{during: {errors: …, excludes: …, gap: …, last-of: …}}",
        "objects" => "{objects: none}",
        _ => "{from: …, path: …, get: …, status: …, errors: …}",
    }
}

impl Keys {
    /// The shares that are claimed of versions, whatever else is written.
    pub fn versions(&self) -> impl Iterator<Item = &String> {
        self.get.iter().flat_map(|get| get.value.keys())
    }

    /// The form that the keys give; `at` is where the expectation is written.
    ///
    /// # Errors
    /// A key belongs to another form, or one is missing: where, and what is wrong.
    pub fn form(self, at: Location) -> Result<Expectation, (Location, String)> {
        if let Some((index, message)) = foreign(self.names.iter().map(|name| name.value.as_str())) {
            return Err((self.names[index].referenced, message));
        }
        match self {
            Self { from: Some(_), get: None, status: None, .. } => {
                Err((at, "an expectation with `from` needs `get` or `status`".to_owned()))
            }
            Self { from: Some(from), path, get, status, errors, .. } => {
                Ok(Expectation::Claim(Box::new(Claim { from, path, get, status, errors })))
            }
            Self { served: Some(served), .. } => Ok(Expectation::Served(ServedBy { served })),
            Self { during: Some(during), .. } => Ok(Expectation::During(Watched { during })),
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
                "status" => keys.status = Some(map.next_value()?),
                "errors" => keys.errors = Some(map.next_value()?),
                "served" => keys.served = Some(map.next_value()?),
                "during" => keys.during = Some(map.next_value()?),
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
            generator.subschema_for::<ServedBy>(),
            generator.subschema_for::<Watched>(),
            generator.subschema_for::<Left>(),
        ];
        json_schema!({"description": "Something that has to hold in a stage: one of these forms.", "oneOf": forms})
    }
}

/// The errors that a verdict may make.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Errors {
    /// The chance that a right route is refused; by default 1e-6.
    #[schemars(with = "Option<f64>")]
    pub false_alarm: Option<Spanned<f64>>,
    /// The chance that a route that is off by the deviation is accepted; by default 1e-3.
    #[schemars(with = "Option<f64>")]
    pub miss: Option<Spanned<f64>>,
    /// The smallest deviation that is to be seen; by default 10%.
    #[schemars(with = "Option<Share>")]
    pub deviation: Option<Spanned<Share>>,
    /// The leak that a claim without tolerance excludes; by default 1%.
    #[schemars(with = "Option<Share>")]
    pub leak: Option<Spanned<Share>>,
    /// The most requests that a claim may cost; by default 100000.
    #[schemars(with = "Option<u64>")]
    pub max_requests: Option<Spanned<u64>>,
}

/// How the traffic is driven.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Traffic {
    /// The number of connections, from 1 to 256; each has one request in flight.
    #[schemars(with = "Option<u16>")]
    pub connections: Option<Spanned<u16>>,
    /// Requests a second, of all populations together; by default as fast as the answers come.
    #[schemars(with = "Option<f64>")]
    pub qps: Option<Spanned<f64>>,
    /// Whether a connection carries more than one request; by default it does.
    pub keep_alive: Option<bool>,
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A share of traffic, from 0% to 100%.",
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$",
            "examples": ["50%", "12.5%"],
        })
    }
}

impl JsonSchema for Status {
    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shares = generator.subschema_for::<BTreeMap<u16, Share>>();
        json_schema!({
            "description": "A status, or the share of each.",
            "anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, shares],
            "examples": [503, {"200": "90%", "503": "10%"}],
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

/// `503`, or `{200: 90%, 503: 10%}`.
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
        formatter.write_str("a status such as 503, or shares such as {200: 90%, 503: 10%}")
    }

    fn visit_u64<E: de::Error>(self, status: u64) -> Result<Status, E> {
        let status = u16::try_from(status).map_err(|_| E::custom(format!("{status} is not an HTTP status")))?;
        Ok(Status(BTreeMap::from([(status, Share::ALL)])))
    }

    fn visit_i64<E: de::Error>(self, status: i64) -> Result<Status, E> {
        let status = u64::try_from(status).map_err(|_| E::custom(format!("{status} is not an HTTP status")))?;
        self.visit_u64(status)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Status, A::Error> {
        let mut shares = BTreeMap::new();
        while let Some((status, share)) = map.next_entry()? {
            shares.insert(status, share);
        }
        Ok(Status(shares))
    }
}

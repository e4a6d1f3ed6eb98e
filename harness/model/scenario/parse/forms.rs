//! The forms of an expectation, by its keys.

/// The keys of all forms of an expectation.
pub const KEYS: [&str; 19] = [
    "from",
    "path",
    "get",
    "path-of-versions",
    "lag",
    "status",
    "error-rates",
    "errors",
    "compare",
    "slower-than",
    "errors-at-most",
    "latency",
    "excess",
    "sessions",
    "served",
    "during",
    "weights",
    "reports",
    "objects",
];

/// The forms of an expectation, for messages.
pub const FORMS: &str = "{from: …, get: …}, {from: …, path-of-versions: …}, {from: …, status: …}, {from: …, slower-than: {TIME: SHARE}}, {from: …, compare: {VERSION: VERSION}}, {from: …, errors-at-most: SHARE}, {from: …, latency: {SHARE: TIME}}, {from: …, sessions: {stay: 100%}}, {from: …, sessions: {keep: VERSION}}, {served: {WORKLOAD: REQUESTS}}, {during: {errors: NUMBER}}, {weights: {canary: SHARE, stable: SHARE}}, {reports: {weight: SHARE}} or {objects: none}";

/// The message where both keys of the error rates are set.
pub const BOTH_KEYS: &str = "`errors` is the former name of `error-rates`, which is set as well; remove `errors`";

/// The form that a key belongs to, by the key that determines the form.
fn form_of(key: &str) -> &str {
    match key {
        "path" | "get" | "path-of-versions" | "lag" | "status" | "error-rates" | "errors" | "compare"
        | "slower-than" | "errors-at-most" | "latency" | "excess" | "sessions" => "from",
        other => other,
    }
}

/// The index of the first key that does not belong to the expectation's form, with an error message.
pub fn misplaced_key<'k>(names: impl Iterator<Item = &'k str> + Clone) -> Option<(usize, String)> {
    let forms = ["from", "served", "during", "weights", "reports", "objects"];
    let form = names.clone().find(|name| forms.contains(name))?;
    let is_misplaced = |name: &str| KEYS.contains(&name) && form_of(name) != form;
    let (index, key) = names.enumerate().find(|(_, name)| is_misplaced(name))?;
    let (expected, other) = (keys_of(form), keys_of(form_of(key)));
    Some((index, format!("`{key}` does not belong to {expected}; it belongs to a separate expectation, {other}")))
}

/// A form with all of its keys, for messages.
fn keys_of(form: &str) -> &'static str {
    match form {
        "served" => "{served: {WORKLOAD: REQUESTS}}",
        "during" => "{during: {errors: …, excludes: …, gap: …, last-of: …, latency: …}}",
        "weights" => "{weights: {canary: …, stable: …}}",
        "reports" => "{reports: {weight: …}}",
        "objects" => "{objects: none}",
        _ => {
            "{from: …, path: …, get: …, status: …, error-rates: …} or {from: …, path: …, path-of-versions: …} or {from: …, slower-than: …} or {from: …, compare: …, errors: …, slower-than: …} or {from: …, errors-at-most: …, latency: …, excess: …} or {from: …, sessions: {stay: …, get: …}} or {from: …, sessions: {keep: …}}"
        }
    }
}

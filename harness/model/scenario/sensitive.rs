//! Values that no report shows: those of Secrets, of environment variables, and of headers that prove who somebody is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::model::{Scenario, Step};

/// Headers whose values are sensitive in every scenario.
const HEADERS: [&str; 7] =
    ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key", "x-auth-token", "x-csrf-token"];
/// Parts of the names of environment variables whose values are removed from texts. Other values, such as `v1`, are also words of reports;
/// they are removed from objects only.
const NAMES: [&str; 8] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "CREDENTIAL", "PRIVATE"];
/// The shortest text that is removed, in characters. A shorter one would be found in many places where it means something else.
const SHORTEST: usize = 4;
/// The annotation in which `kubectl apply` keeps the object as it was written.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The sensitive values of a scenario, which are removed from texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sensitive(Vec<String>);

impl fmt::Debug for Sensitive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sensitive({} values)", self.0.len())
    }
}

impl Sensitive {
    /// The sensitive values of a scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let mut values = BTreeSet::new();
        for request in scenario.populations.iter().flat_map(|population| &population.variants) {
            let named = |name: &str| scenario.sensitive_headers.iter().any(|own| own.eq_ignore_ascii_case(name));
            let sensitive = request.headers.iter().filter(|(name, _)| is_sensitive(name) || named(name));
            values.extend(sensitive.map(|(_, value)| value.clone()));
        }
        let applied = scenario.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match step {
            Step::Apply(manifest) => Some(&**manifest),
            Step::Delete(_) | Step::Act(_) | Step::Gate(_) | Step::Mesh(_) => None,
        });
        for manifest in scenario.client.manifests.iter().chain(applied) {
            if manifest.kind() == "Secret" {
                secret_values(&manifest.object.data, &mut values);
            }
            variables(&manifest.object.data, &mut |name, value| {
                let name = name.to_uppercase();
                if NAMES.iter().any(|part| name.contains(part)) {
                    values.insert(value.to_owned());
                }
            });
        }
        Self::new(values)
    }

    fn new(values: BTreeSet<String>) -> Self {
        let mut texts = BTreeSet::new();
        for value in values {
            // of a text of several lines, such as a key, a log has each line
            for line in std::iter::once(value.as_str()).chain(value.lines()) {
                let line = line.trim();
                if line.chars().count() < SHORTEST {
                    continue;
                }
                let in_json = Value::from(line).to_string();
                let in_html =
                    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
                let in_markdown = line.replace('|', "\\|");
                texts.extend([line.to_owned(), in_json[1..in_json.len() - 1].to_owned(), in_html, in_markdown]);
            }
        }
        let mut texts: Vec<String> = texts.into_iter().collect();
        // a text may be a part of another
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(texts)
    }

    /// Whether there is no sensitive value.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A text with `(redacted)` in place of sensitive values.
    pub fn hidden_in<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.0.iter().fold(Cow::Borrowed(text), |text, value| {
            if text.contains(value) { text.replace(value, "(redacted)").into() } else { text }
        })
    }

    /// A value with `(redacted)` in place of sensitive values in its texts.
    #[must_use]
    pub fn hidden_in_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.hidden_in(&text).into_owned().into(),
            Value::Array(items) => items.into_iter().map(|item| self.hidden_in_value(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(key, value)| (key, self.hidden_in_value(value))).collect()
            }
            other => other,
        }
    }
}

/// Removes the values of Secrets and of environment variables from objects. Equal values get the same number, so that a change stays visible.
#[derive(Debug, Default)]
pub struct Redactor(BTreeMap<String, usize>);

impl Redactor {
    /// An object without such values.
    #[must_use]
    pub fn redacted(&mut self, mut object: Value) -> Value {
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
        if object["kind"] == "Secret" {
            for field in ["data", "stringData"] {
                let fields = object.get_mut(field).and_then(Value::as_object_mut);
                fields.into_iter().flat_map(|fields| fields.values_mut()).for_each(|value| self.replace(value));
            }
        }
        self.in_variables(&mut object);
        object
    }

    fn replace(&mut self, value: &mut Value) {
        let next = self.0.len() + 1;
        let number = *self.0.entry(value.to_string()).or_insert(next);
        *value = format!("(redacted value {number})").into();
    }

    fn in_variables(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("env", Value::Array(variables)) => {
                            variables
                                .iter_mut()
                                .filter_map(|one| one.get_mut("value"))
                                .for_each(|one| self.replace(one));
                        }
                        (_, value) => self.in_variables(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.in_variables(item)),
            _ => {}
        }
    }
}

fn is_sensitive(header: &str) -> bool {
    HEADERS.iter().any(|known| known.eq_ignore_ascii_case(header))
}

/// The values of a Secret: as written, and decoded.
fn secret_values(object: &Value, values: &mut BTreeSet<String>) {
    let texts = |field: &str| object[field].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str());
    values.extend(texts("stringData").map(str::to_owned));
    values.extend(texts("stringData").map(|text| STANDARD.encode(text)));
    for encoded in texts("data") {
        values.insert(encoded.to_owned());
        let decoded = STANDARD.decode(encoded.replace(char::is_whitespace, "")).ok();
        values.extend(decoded.and_then(|bytes| String::from_utf8(bytes).ok()));
    }
}

/// Calls `seen` with the name and the value of every environment variable.
fn variables(value: &Value, seen: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let ("env", Value::Array(variables)) = (key.as_str(), value) {
                    for variable in variables {
                        if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
                            seen(name, value);
                        }
                    }
                } else {
                    variables(value, seen);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| variables(item, seen)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scenario(more: &str, headers: &str) -> Scenario {
        let folder = tempfile::tempdir().unwrap();
        let canary = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary");
        for entry in std::fs::read_dir(canary).unwrap().flatten() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let file = folder.path().join("scenario.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replacen(
            "populations:\n",
            &format!("{headers}populations:\n  x: {{headers: {{Authorization: Bearer x1y2, x-user: 'anna''s'}}}}\n"),
            1,
        );
        std::fs::write(&file, text).unwrap();
        let client = folder.path().join("httpbin.yaml");
        let text = std::fs::read_to_string(&client).unwrap();
        std::fs::write(&client, format!("{text}\n---\n{more}")).unwrap();
        Scenario::read(&file).unwrap()
    }

    const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: aHVudGVyMg==}\n\
        stringData: {key: \"-----BEGIN-----\\nAAAABBBB\\n\", short: abc, quoted: 'a\"b<c', cell: 'left|right'}\n";

    #[test]
    fn secrets_and_headers_are_removed_from_texts() {
        let sensitive = Sensitive::of(&scenario(SECRET, ""));
        for (text, hidden) in [
            ("password hunter2!", "password (redacted)!"),
            ("aHVudGVyMg==", "(redacted)"),
            ("log: AAAABBBB", "log: (redacted)"),
            (r#"{"value":"a\"b<c"}"#, r#"{"value":"(redacted)"}"#),
            ("<td>a&quot;b&lt;c</td>", "<td>(redacted)</td>"),
            (r"| left\|right |", "| (redacted) |"),
            ("authorization = Bearer x1y2", "authorization = (redacted)"),
            ("abc and anna's", "abc and anna's"),
        ] {
            assert_eq!(sensitive.hidden_in(text), hidden);
        }
        let value = json!({"a": ["hunter2", 1], "b": {"c": "x hunter2"}});
        assert_eq!(sensitive.hidden_in_value(value), json!({"a": ["(redacted)", 1], "b": {"c": "x (redacted)"}}));
        assert!(!format!("{sensitive:?}").contains("hunter2"));
    }

    #[test]
    fn a_scenario_names_more_headers() {
        let sensitive = Sensitive::of(&scenario(SECRET, "redact-headers: [X-User]\n"));
        assert_eq!(sensitive.hidden_in("x-user: anna's"), "x-user: (redacted)");
    }

    #[test]
    fn variables_are_removed_from_objects_and_changes_stay_visible() {
        let object = |version: &str| {
            json!({"kind": "Deployment", "metadata": {"annotations": {LAST_APPLIED: "hunter2", "a": "b"}},
                "spec": {"template": {"spec": {"containers": [{"name": "env", "env": [
                    {"name": "VERSION", "value": version}, {"name": "DB_PASSWORD", "value": "hunter2"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}}}})
        };
        let mut redactor = Redactor::default();
        let [before, after] = ["v1", "v2"].map(|version| redactor.redacted(object(version)));
        let env = |object: &Value| object["spec"]["template"]["spec"]["containers"][0]["env"].clone();
        assert_eq!(env(&before)[0]["value"], "(redacted value 1)");
        assert_eq!(env(&after)[0]["value"], "(redacted value 3)");
        assert_eq!(env(&before)[1], env(&after)[1]);
        assert_eq!(env(&before)[2]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
        assert_eq!(before["metadata"]["annotations"], json!({"a": "b"}));
        let secret = redactor.redacted(json!({"kind": "Secret", "data": {"a": "aHVudGVyMg=="}, "type": "Opaque"}));
        assert_eq!(secret, json!({"kind": "Secret", "data": {"a": "(redacted value 4)"}, "type": "Opaque"}));
    }

    #[test]
    fn variables_that_are_named_as_secrets_are_removed_from_texts() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: a, env: \
            [{name: db_password, value: hunter2}, {name: VERSION, value: version-1}]}]}\n";
        let sensitive = Sensitive::of(&scenario(pod, ""));
        assert_eq!(sensitive.hidden_in("hunter2 at version-1"), "(redacted) at version-1");
    }
}

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use cel::extractors::This;
use cel::objects::Key;
use cel::{Context, Env, ExecutionError, Program, Value as CelValue};
use serde::Deserialize;
use serde_json::Value;

/// A rule of a definition: an expression in CEL about the value, which is `self`.
#[derive(Debug, Deserialize)]
pub(super) struct Rule {
    #[serde(rename = "rule")]
    expression: String,
    #[serde(default)]
    message: String,
    /// What the rule is compiled to, once it is evaluated.
    #[serde(skip)]
    program: OnceLock<Option<Arc<Program>>>,
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    // fails only where a function is there twice; the test of all rules would see it
    let _ = environment.add_extension(cel::extensions::strings);
    Arc::new(environment)
});

/// Compiled rules, since definitions repeat them. None: the rule cannot be compiled, or compares with the former value.
static PROGRAMS: LazyLock<Mutex<HashMap<String, Option<Arc<Program>>>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// What rules are evaluated with. It takes longer to make than a rule to evaluate.
    static CONTEXT: Context<'static, 'static> = context();
}

fn context() -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    let duration = |text: Arc<String>| {
        nanoseconds(&text).ok_or_else(|| ExecutionError::function_error("duration", format!("`{text}` is no duration")))
    };
    let scheme = |This(url): This<Arc<String>>| url.split_once("://").map_or("", |(scheme, _)| scheme).to_owned();
    // durations are compared only, and of URLs only the scheme is read
    let is_address = |text: Arc<String>| text.parse::<IpAddr>().is_ok();
    let added = [
        context.add_function("duration", duration),
        context.add_function("url", |text: Arc<String>| text),
        context.add_function("getScheme", scheme),
        context.add_function("isURL", |text: Arc<String>| text.contains("://")),
        context.add_function("isIP", is_address),
    ];
    debug_assert!(added.iter().all(Result::is_ok), "a function is there twice");
    context
}

impl Rule {
    /// The message of the rule, if the value violates it. A rule that compares with the former value, or that cannot be evaluated, is violated
    /// by no value: the test `every_rule_is_evaluated_but_these` lists all of them.
    pub fn violated(&self, value: &Value) -> Option<&str> {
        let program = self.program.get_or_init(|| self.compiled()).as_deref()?;
        let result = CONTEXT.with(|context| {
            let mut inner = context.new_inner_scope();
            inner.add_variable_from_value("self", converted(value));
            program.execute(&inner)
        });
        match result {
            Ok(CelValue::Bool(true))
            | Err(ExecutionError::UndeclaredReference(_) | ExecutionError::NoSuchOverload(_)) => None,
            // the API refuses an object too if a rule has no value, as where a field is missing
            _ => Some(&self.message),
        }
    }

    fn compiled(&self) -> Option<Arc<Program>> {
        let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(&self.expression) {
            return program.clone();
        }
        let program = ENVIRONMENT.compile(&self.expression).ok();
        let program = program.filter(|program| !program.references().has_variable("oldSelf")).map(Arc::new);
        programs.insert(self.expression.clone(), program.clone());
        program
    }
}

/// A value in CEL. Names of fields that CEL reserves are written between underscores.
fn converted(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => CelValue::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => CelValue::Int(integer),
            None => CelValue::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(converted).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let name = |name: &str| if name == "namespace" { "__namespace__".to_owned() } else { name.to_owned() };
            fields.map(|(key, value)| (Key::from(name(key)), converted(value))).collect::<HashMap<_, _>>().into()
        }
    }
}

/// A duration as Go writes it, such as `1h30m` or `1.5s`, in nanoseconds.
pub(crate) fn nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() || total == 0.0 && text.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit() && next != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "a duration beyond 292 years is as good as the longest one")]
    Some((sign * total) as i64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::super::definition::Definitions;
    use super::super::schema::{Additional, Schema};
    use super::*;

    /// All rules of a schema.
    fn collect<'a>(schema: &'a Schema, rules: &mut BTreeSet<(&'a str, &'a str)>) {
        rules.extend(schema.rules.iter().map(|rule| (rule.expression.as_str(), rule.message.as_str())));
        schema.properties.values().for_each(|property| collect(property, rules));
        schema.items.iter().for_each(|items| collect(items, rules));
        if let Some(Additional::Schema(each)) = &schema.additional_properties {
            collect(each, rules);
        }
    }

    #[test]
    fn every_rule_is_evaluated_but_these() {
        let mut rules = BTreeSet::new();
        for kind in [Definitions::Newest, Definitions::Istio1_22].into_iter().flat_map(Definitions::kinds) {
            kind.definitions().iter().for_each(|definition| collect(&definition.schema, &mut rules));
        }
        assert!(rules.len() > 100, "{}", rules.len());
        // what the rules may call: the standard library, the strings extension, and what is added here
        let known = [
            "duration",
            "url",
            "getScheme",
            "isURL",
            "isIP",
            "size",
            "contains",
            "startsWith",
            "endsWith",
            "matches",
            "split",
            "substring",
            "int",
        ];
        let operator = |name: &str| name.starts_with(|first: char| !first.is_alphabetic()) || name.starts_with('@');
        let unevaluated = rules.into_iter().filter(|(rule, _)| {
            let Ok(program) = ENVIRONMENT.compile(rule) else { return true };
            let references = program.references();
            let called = references.functions();
            references.has_variable("oldSelf") || called.iter().any(|name| !operator(name) && !known.contains(name))
        });
        let unevaluated: Vec<(&str, &str)> = unevaluated.collect();
        let expected = [
            ("self == oldSelf", "Value is immutable"),
            ("size(self) == 0 || format.dns1123Label().validate(self) == null", "Name must be a valid DNS label"),
        ];
        assert_eq!(unevaluated, expected);
    }

    #[rstest]
    #[case("5s", Some(5_000_000_000))]
    #[case("1h30m", Some(5_400_000_000_000))]
    #[case("1.5ms", Some(1_500_000))]
    #[case("-1s", Some(-1_000_000_000))]
    #[case("0", Some(0))]
    #[case("5", None)]
    #[case("", None)]
    #[case("s", None)]
    #[case("5 s", None)]
    #[case("1.5.5s", None)]
    fn durations_are_those_of_go(#[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(nanoseconds(text), expected);
    }
}

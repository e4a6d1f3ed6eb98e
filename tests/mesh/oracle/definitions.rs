//! The definitions by which manifests are validated are those of the Go modules that the images and the oracle are built from. `ci/schemas`
//! runs this test to write them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::common::ROOT;

/// The environment variable that has the files written instead of compared.
const WRITE: &str = "SHIFTCHECK_WRITE_DEFINITIONS";

/// The keys of a schema that decide whether a value is accepted, or what is filled in.
#[rustfmt::skip]
const DECIDING: [&str; 25] = [
    "$ref", "additionalProperties", "allOf", "anyOf", "default", "enum", "format", "items", "maxItems", "maxLength", "maxProperties",
    "maximum", "minItems", "minLength", "minProperties", "minimum", "not", "nullable", "oneOf", "pattern", "properties", "required", "type",
    "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
];
/// Keys of lists and rules.
const OF_LISTS: [&str; 3] = ["x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-validations"];

/// The files of Kubernetes' API with kinds that scenarios apply.
const KUBERNETES: [&str; 9] = [
    "api__v1",
    "apis__apps__v1",
    "apis__autoscaling__v1",
    "apis__autoscaling__v2",
    "apis__batch__v1",
    "apis__discovery.k8s.io__v1",
    "apis__networking.k8s.io__v1",
    "apis__policy__v1",
    "apis__rbac.authorization.k8s.io__v1",
];

pub fn definitions_are_those_of_the_modules() {
    let files = [
        ("istio-1.31", istio("oracle-1.31")),
        ("istio-1.22", istio("oracle-1.22")),
        ("gateway-api", gateway_api()),
        ("kubernetes", kubernetes()),
    ];
    for (name, current) in files {
        let path = format!("{ROOT}/harness/model/admission/definitions/{name}.json");
        let lines: Vec<String> = current.iter().map(|(key, value)| format!("{}: {value}", json!(key))).collect();
        let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, text).unwrap();
        } else {
            assert!(std::fs::read_to_string(&path).unwrap() == text, "{path} is out of date: run ci/schemas");
        }
    }
}

/// The folder of a Go module, in the version that a set of images is built from.
fn module(set: &str, name: &str) -> PathBuf {
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        let output = command.args(arguments).current_dir(format!("{ROOT}/ci/images/{set}")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    go(&["mod", "download", name]);
    PathBuf::from(go(&["list", "-m", "-f", "{{.Dir}}", name]).trim())
}

/// The definitions of the API's module: the oracle of 1.22 is built from a development version, whose own lack the API version `v1` of the release.
fn istio(set: &str) -> BTreeMap<String, Value> {
    custom(&[module(set, "istio.io/api").join("kubernetes/customresourcedefinitions.gen.yaml")])
}

/// The experimental channel, whose kinds and fields include those of the standard one.
fn gateway_api() -> BTreeMap<String, Value> {
    let folder = module("gateway-api", "sigs.k8s.io/gateway-api").join("config/crd/experimental");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    custom(&files.collect::<Vec<_>>())
}

/// The definitions in files of custom resource definitions.
fn custom(files: &[PathBuf]) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            if object["kind"] != "CustomResourceDefinition" {
                continue;
            }
            let spec = &object["spec"];
            let mut versions: Vec<(Vec<&Value>, Value)> = Vec::new();
            for version in spec["versions"].as_array().unwrap() {
                let schema = of_object(stripped(&version["schema"]["openAPIV3Schema"]));
                match versions.iter_mut().find(|(_, own)| *own == schema) {
                    Some((names, _)) => names.push(&version["name"]),
                    None => versions.push((vec![&version["name"]], schema)),
                }
            }
            let name = format!("{}/{}", text_of(&spec["group"]), text_of(&spec["names"]["kind"]));
            let versions = versions.iter().map(|(names, schema)| json!({"versions": names, "schema": schema}));
            found.insert(name, versions.collect());
        }
    }
    assert!(found.len() > 5, "{files:?}");
    found
}

fn kubernetes() -> BTreeMap<String, Value> {
    let folder = module("kube", "k8s.io/kubernetes").join("api/openapi-spec/v3");
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for file in KUBERNETES {
        let text = std::fs::read_to_string(folder.join(format!("{file}_openapi.json"))).unwrap();
        let schemas = serde_json::from_str::<Value>(&text).unwrap()["components"]["schemas"].take();
        let schemas: BTreeMap<String, Value> = serde_json::from_value(schemas).unwrap();
        let (group, version) = match file.split("__").collect::<Vec<_>>()[..] {
            [_, version] => ("", version),
            [_, group, version] => (group, version),
            _ => unreachable!("{file}"),
        };
        let mut needed = BTreeSet::new();
        for schema in schemas.values() {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
            let mut own = kinds.filter(|kind| kind["group"] == group && kind["version"] == version);
            let is_object = schema["properties"]["metadata"].to_string().contains("meta.v1.ObjectMeta");
            let (Some(kind), true) = (own.next(), is_object) else { continue };
            let schema = of_object(stripped(&simplified(schema)));
            referred(&schema, &mut needed);
            let entry = found.entry(format!("{group}/{}", text_of(&kind["kind"]))).or_insert_with(|| json!([]));
            entry.as_array_mut().unwrap().push(json!({"versions": [version], "schema": schema}));
        }
        needed.insert("apimachinery.pkg.apis.meta.v1.ObjectMeta".to_owned());
        while let Some(name) = needed.pop_first() {
            found.entry(name).or_insert_with_key(|name| {
                let schema = stripped(&simplified(&schemas[&format!("io.k8s.{name}")]));
                referred(&schema, &mut needed);
                schema
            });
        }
    }
    found
}

/// The schema of an object without its status, which no manifest sets, and without what is in every object.
fn of_object(mut schema: Value) -> Value {
    let properties = schema["properties"].as_object_mut().unwrap();
    for name in ["apiVersion", "kind", "metadata"] {
        properties.remove(name);
    }
    if properties.contains_key("status") {
        properties.insert("status".to_owned(), json!({"x-kubernetes-preserve-unknown-fields": true}));
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str().unwrap()));
    }
    schema
}

/// A schema of Kubernetes' own kinds in the form of custom resource definitions. Its defaults are those of Go types, not of the API.
fn simplified(schema: &Value) -> Value {
    if let Some(all) = schema["allOf"].as_array() {
        return simplified(&all[0]);
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap().trim_start_matches("io.k8s.");
        return match name.rsplit('.').next().unwrap() {
            "IntOrString" | "Quantity" => json!({"x-kubernetes-int-or-string": true}),
            "Time" | "MicroTime" => json!({"type": "string"}),
            _ => json!({"$ref": name}),
        };
    }
    let mut written = schema.as_object().unwrap().clone();
    written.remove("default");
    for (key, value) in &mut written {
        match key.as_str() {
            "items" | "additionalProperties" => *value = simplified(value),
            "properties" => value.as_object_mut().unwrap().values_mut().for_each(|each| *each = simplified(each)),
            _ => {}
        }
    }
    if schema["type"] == "object" && schema["properties"].is_null() && schema["additionalProperties"].is_null() {
        written.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    written.into()
}

/// Adds the names of the schemas that a schema refers to.
fn referred(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            names.extend(fields.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            fields.values().for_each(|value| referred(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| referred(item, names)),
        _ => {}
    }
}

/// A schema without what does not decide.
fn stripped(schema: &Value) -> Value {
    let Some(written) = schema.as_object() else { return schema.clone() };
    let mut left = Map::new();
    for (key, value) in written {
        let value = match key.as_str() {
            "properties" => {
                value.as_object().unwrap().iter().map(|(name, each)| (name.clone(), stripped(each))).collect()
            }
            "items" | "additionalProperties" | "not" => stripped(value),
            "oneOf" | "anyOf" | "allOf" => value.as_array().unwrap().iter().map(stripped).collect(),
            "x-kubernetes-validations" => {
                let rule = |rule: &Value| json!({"rule": rule["rule"], "message": rule["message"]});
                value.as_array().unwrap().iter().map(rule).collect()
            }
            // other formats are not compared, and lists that merge by position have no keys
            "format" if value != "int32" => continue,
            "x-kubernetes-list-type" if value == "atomic" => continue,
            other if DECIDING.contains(&other) || OF_LISTS.contains(&other) => value.clone(),
            _ => continue,
        };
        left.insert(key.clone(), value);
    }
    if left.contains_key("x-kubernetes-int-or-string") {
        // the same in other words
        left.remove("anyOf");
    }
    left.into()
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

//! The types of the messages of gRPC, from a descriptor set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::Value;

use super::origin::Origin;
use super::suggest::nearest;

/// The types of the messages of services.
#[derive(Debug, Clone)]
pub struct Descriptors {
    pool: DescriptorPool,
    /// The names of all services, also of those whose types are not known.
    services: Vec<String>,
}

/// What a call of a method sends, and where its answer states the version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The encoded request message.
    pub message: Vec<u8>,
    /// The field with the version; none if the scenario reads the version elsewhere.
    pub version: Option<VersionField>,
}

/// What a scenario says about the messages of gRPC.
#[derive(Debug, Clone)]
pub struct Messages {
    /// Where the scenario names the service.
    pub service_origin: Origin,
    /// The file with the descriptor set, if there is one.
    pub descriptors: Option<PathBuf>,
    /// Where the scenario names that file.
    pub(super) descriptors_origin: Option<Origin>,
    /// The request messages by method, as JSON, each with its place. Calls of other methods send an empty message.
    pub sent: BTreeMap<String, (Value, Origin)>,
    /// The calls by method, as far as the descriptor set gives them.
    pub(super) calls: Option<Calls>,
}

/// The calls of a scenario by method, `/PACKAGE.SERVICE/METHOD`.
pub type Calls = BTreeMap<String, Call>;

impl Messages {
    /// What a scenario says that names no messages.
    pub(super) const fn none(service_origin: Origin) -> Self {
        Self { service_origin, descriptors: None, descriptors_origin: None, sent: BTreeMap::new(), calls: None }
    }
}

/// A field of an answer with the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionField {
    /// The number of the field, after those of the messages around it.
    pub numbers: Vec<u32>,
    /// The type of its value.
    pub value: VersionValue,
    /// The version in a message that leaves the field out; none if there is none.
    pub default: Option<String>,
}

/// The type of a field with a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionValue {
    /// A string.
    Text,
    /// An `int32` or `int64`.
    Signed,
    /// A `uint32` or `uint64`.
    Unsigned,
    /// An enum, with the names of its numbers.
    Enum(BTreeMap<i32, String>),
}

impl Descriptors {
    /// The types in a descriptor set, as `protoc --include_imports --descriptor_set_out` writes it.
    ///
    /// # Errors
    /// These bytes are no descriptor set, or files that others import are missing.
    pub fn of_set(set: &[u8]) -> Result<Self, String> {
        let pool = DescriptorPool::decode(set).map_err(|error| error.to_string())?;
        let services: Vec<String> = pool.services().map(|service| service.full_name().to_owned()).collect();
        if services.is_empty() { Err("it has no service".to_owned()) } else { Ok(Self { pool, services }) }
    }

    /// The types in files that a server describes, each an encoded `FileDescriptorProto`, and the names of all of its services.
    ///
    /// # Errors
    /// The files are not valid, or files that others import are missing.
    pub fn of_files(files: &[Vec<u8>], services: Vec<String>) -> Result<Self, String> {
        let files = files.iter().map(|file| FileDescriptorProto::decode(file.as_slice()));
        let files: Vec<_> = files.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(files).map_err(|error| error.to_string())?;
        Ok(Self { pool, services })
    }

    /// The method at a path, `/PACKAGE.SERVICE/METHOD`.
    pub(super) fn method(&self, path: &str) -> Result<MethodDescriptor, String> {
        let (service, name) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let Some(found) = self.pool.get_service_by_name(service) else {
            let meant = nearest(service, self.services.iter().map(String::as_str));
            return Err(format!("there is no service `{service}` of gRPC{meant}"));
        };
        let names: Vec<String> = found.methods().map(|method| method.name().to_owned()).collect();
        let Some(method) = found.methods().find(|method| method.name() == name) else {
            let meant = nearest(name, names.iter().map(String::as_str));
            return Err(format!("the service `{service}` of gRPC has no method `{name}`{meant}"));
        };
        if method.is_client_streaming() || method.is_server_streaming() {
            return Err(format!("`{path}` is a streaming method of gRPC; only unary methods can be called"));
        }
        Ok(method)
    }

    /// A request message of a method, given as JSON, as it is sent.
    pub(super) fn message(method: &MethodDescriptor, written: &Value) -> Result<Vec<u8>, String> {
        let kind = method.input();
        known_fields(&kind, written)?;
        let message = DynamicMessage::deserialize(kind.clone(), written);
        let message = message.map_err(|error| format!("this is no `{}`: {error}", kind.full_name()))?;
        Ok(message.encode_to_vec())
    }

    /// The field of the answers of a method at a path, such as `build.version`.
    pub(super) fn version(method: &MethodDescriptor, path: &str) -> Result<VersionField, String> {
        let (mut message, mut numbers) = (method.output(), Vec::new());
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let field = field(&message, name)?;
            let described = || format!("the field `{name}` of `{}`", message.full_name());
            if field.is_list() || field.is_map() {
                return Err(format!("{} is repeated, and a version is one value", described()));
            }
            numbers.push(field.number());
            message = match (field.kind(), names.peek()) {
                (Kind::Message(inner), Some(_)) => inner,
                (Kind::Message(inner), None) => {
                    let example = inner.fields().next().map(|first| format!(", such as `{path}.{}`", first.name()));
                    let example = example.unwrap_or_default();
                    return Err(format!("{} is a message; name one of its fields{example}", described()));
                }
                (_, Some(next)) => return Err(format!("{} is no message, and has no field `{next}`", described())),
                (kind, None) => {
                    let default = if field.supports_presence() { None } else { zero(&kind) };
                    let Some(value) = value(&kind) else {
                        let known = "a string, int32, int64, uint32, uint64 or an enum";
                        return Err(format!("{} is of type {kind:?}, and a version is {known}", described()));
                    };
                    return Ok(VersionField { numbers, value, default });
                }
            };
        }
        Err(format!("`{path}` names no field"))
    }
}

/// The type of a version; none for values that are no versions.
fn value(kind: &Kind) -> Option<VersionValue> {
    Some(match kind {
        Kind::String => VersionValue::Text,
        Kind::Int32 | Kind::Int64 => VersionValue::Signed,
        Kind::Uint32 | Kind::Uint64 => VersionValue::Unsigned,
        Kind::Enum(named) => {
            VersionValue::Enum(named.values().map(|value| (value.number(), value.name().to_owned())).collect())
        }
        _ => return None,
    })
}

/// The version of a field that is not sent because it has the value zero. An empty text is none.
fn zero(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Enum(named) => named.get_value(0).map(|value| value.name().to_owned()),
        Kind::String => None,
        _ => Some("0".to_owned()),
    }
}

/// The field of a message with a name, as in its `.proto` file or in JSON.
fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let found = message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
    found.ok_or_else(|| {
        let names: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
        let known = match names.as_slice() {
            [] => "; it has no fields".to_owned(),
            names => match nearest(name, names.iter().map(String::as_str)) {
                meant if meant.is_empty() => format!("; its fields: {}", names.join(", ")),
                meant => meant,
            },
        };
        format!("the message `{}` has no field `{name}`{known}", message.full_name())
    })
}

/// Refuses the name of a field that a message does not have.
fn known_fields(message: &MessageDescriptor, written: &Value) -> Result<(), String> {
    // well-known types have forms of their own in JSON
    let Some(written) = written.as_object().filter(|_| message.package_name() != "google.protobuf") else {
        return Ok(());
    };
    for (name, value) in written {
        let field = field(message, name)?;
        if let (Kind::Message(inner), false) = (field.kind(), field.is_map()) {
            let several = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            several.iter().try_for_each(|value| known_fields(&inner, value))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use regex::Regex;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn file(path: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
    }

    fn demo() -> Descriptors {
        Descriptors::of_set(&file("fixtures/grpc-message/hello.binpb")).unwrap()
    }

    #[test]
    fn the_descriptor_set_of_the_example_is_that_of_the_demo_server_and_of_its_proto_file() {
        assert_eq!(file("fixtures/grpc-message/hello.binpb"), file("harness/workload/demo.binpb"));
        let proto = String::from_utf8(file("fixtures/grpc-message/hello.proto")).unwrap();
        let fields = Regex::new(r"(?m)^  (\w+) (\w+) = (\d+);").unwrap();
        let written: BTreeSet<String> =
            fields.captures_iter(&proto).map(|found| format!("{} {} = {}", &found[1], &found[2], &found[3])).collect();
        let demo = demo();
        let messages = demo.pool.all_messages().filter(|message| message.package_name() == "helloworld");
        let own = messages.flat_map(|message| message.fields().collect::<Vec<_>>()).map(|field| {
            let kind = match field.kind() {
                Kind::Message(inner) => inner.name().to_owned(),
                other => format!("{other:?}"),
            };
            format!("{kind} {} = {}", field.name(), field.number())
        });
        assert_eq!(own.collect::<BTreeSet<_>>(), written);
        assert_eq!(written.len(), 5);
    }

    #[rstest]
    #[case("message", vec![1], VersionValue::Text, None)]
    #[case("build.version", vec![2, 1], VersionValue::Text, None)]
    fn a_field_is_found_by_its_path(
        #[case] path: &str,
        #[case] numbers: Vec<u32>,
        #[case] value: VersionValue,
        #[case] default: Option<String>,
    ) {
        let method = demo().method("/helloworld.Greeter/SayHello").unwrap();
        assert_eq!(Descriptors::version(&method, path), Ok(VersionField { numbers, value, default }));
    }

    #[test]
    fn an_enum_has_names_and_a_name_for_a_field_that_is_left_out() {
        let method = demo().method("/grpc.health.v1.Health/Check").unwrap();
        let field = Descriptors::version(&method, "status").unwrap();
        assert_eq!((field.numbers, field.default.as_deref()), (vec![1], Some("UNKNOWN")));
        assert!(matches!(field.value, VersionValue::Enum(names) if names[&2] == "NOT_SERVING"));
    }

    #[test]
    fn a_message_is_encoded_by_its_type() {
        let method = demo().method("/helloworld.Greeter/SayHello").unwrap();
        assert_eq!(Descriptors::message(&method, &json!({"name": "world"})), Ok(b"\x0a\x05world".to_vec()));
        assert_eq!(Descriptors::message(&method, &json!({})), Ok(Vec::new()));
    }

    #[test]
    fn files_without_those_that_they_import_are_refused() {
        let imports =
            FileDescriptorProto { dependency: vec!["other.proto".to_owned()], ..FileDescriptorProto::default() };
        let error = Descriptors::of_files(&[imports.encode_to_vec()], Vec::new()).unwrap_err();
        assert!(error.contains("other.proto"), "{error}");
    }
}

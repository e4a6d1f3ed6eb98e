//! The reflection of servers of gRPC: its messages, and the answers of the demo server.

use super::wire::{WireFields, WireValue, bytes_field, varint_field};

/// The method of reflection in each version, the current one first.
pub(super) const METHODS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// The status of gRPC of methods that do not exist.
const UNIMPLEMENTED: u64 = 12;

// the fields of `ServerReflectionRequest`
pub(super) const FILE_BY_FILENAME: u32 = 3;
pub(super) const FILE_CONTAINING_SYMBOL: u32 = 4;
pub(super) const LIST_SERVICES: u32 = 7;

// the fields of `ServerReflectionResponse`
const VALID_HOST: u32 = 1;
const ORIGINAL_REQUEST: u32 = 2;
pub(super) const FILES: u32 = 4;
pub(super) const SERVICES: u32 = 6;
const ERROR: u32 = 7;

/// Whether a method is that of reflection.
pub(super) fn is_reflection(method: &str) -> bool {
    METHODS.contains(&method)
}

/// The descriptor set of the demo server.
pub(super) const DEMO: &[u8] = include_bytes!("demo.binpb");

/// A text field of a message.
pub(super) fn text(message: &[u8], number: u32) -> Option<&str> {
    match WireFields(message).last(number)? {
        WireValue::Bytes(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// All values of a field with texts, bytes or messages.
pub(super) fn all(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    WireFields(message).filter_map(move |(found, value)| match value {
        WireValue::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    })
}

/// A `FileDescriptorProto`.
#[derive(Debug, Clone, Copy)]
pub(super) struct File<'a>(pub &'a [u8]);

impl<'a> File<'a> {
    pub fn name(self) -> &'a str {
        text(self.0, 1).unwrap_or_default()
    }

    pub fn imports(self) -> impl Iterator<Item = &'a str> {
        all(self.0, 3).filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// The full names of its services, or of its messages.
    fn names(self, number: u32) -> impl Iterator<Item = String> {
        let package = text(self.0, 2).unwrap_or_default();
        all(self.0, number).filter_map(move |own| Some(format!("{package}.{}", text(own, 1)?)))
    }

    fn services(self) -> impl Iterator<Item = String> {
        self.names(6)
    }

    /// Whether it has a service, a method or a message with this full name.
    fn defines(self, symbol: &str) -> bool {
        let of_service = |name: &String| symbol == name || symbol.rsplit_once('.').is_some_and(|(own, _)| own == name);
        self.services().any(|name| of_service(&name)) || self.names(4).any(|name| name == symbol)
    }
}

/// The answer of a server with a descriptor set to a question.
pub(super) fn described(set: &[u8], request: &[u8]) -> Vec<u8> {
    let files = || all(set, 1).map(File);
    let of = |file: Option<File<'_>>, wanted: &str| match file {
        Some(file) => bytes_field(FILES, &bytes_field(1, file.0)),
        None => failed(5, &format!("{wanted} is not known")),
    };
    let answer = if let Some(name) = text(request, FILE_BY_FILENAME) {
        of(files().find(|file| file.name() == name), name)
    } else if let Some(symbol) = text(request, FILE_CONTAINING_SYMBOL) {
        of(files().find(|file| file.defines(symbol)), symbol)
    } else if text(request, LIST_SERVICES).is_some() {
        let services = files().flat_map(File::services);
        let services: Vec<u8> = services.flat_map(|name| bytes_field(1, &bytes_field(1, name.as_bytes()))).collect();
        bytes_field(SERVICES, &services)
    } else {
        failed(UNIMPLEMENTED, "only files and services are described")
    };
    let host = bytes_field(VALID_HOST, text(request, 1).unwrap_or_default().as_bytes());
    [host, bytes_field(ORIGINAL_REQUEST, request), answer].concat()
}

/// The answer to a question that failed.
fn failed(status: u64, message: &str) -> Vec<u8> {
    bytes_field(ERROR, &[varint_field(1, status), bytes_field(2, message.as_bytes())].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_server_describes_its_services() {
        let listed = described(DEMO, &bytes_field(LIST_SERVICES, b""));
        let services: Vec<&str> =
            all(&listed, SERVICES).flat_map(|list| all(list, 1)).filter_map(|own| text(own, 1)).collect();
        assert_eq!(services, ["helloworld.Greeter", "grpc.health.v1.Health"]);
        for (number, wanted, found) in [
            (FILE_CONTAINING_SYMBOL, "helloworld.Greeter", "hello.proto"),
            (FILE_CONTAINING_SYMBOL, "helloworld.Greeter.SayHello", "hello.proto"),
            (FILE_CONTAINING_SYMBOL, "helloworld.HelloReply", "hello.proto"),
            (FILE_BY_FILENAME, "grpc/health/v1/health.proto", "grpc/health/v1/health.proto"),
        ] {
            let answer = described(DEMO, &bytes_field(number, wanted.as_bytes()));
            let files: Vec<&str> =
                all(&answer, FILES).flat_map(|files| all(files, 1)).map(|file| File(file).name()).collect();
            assert_eq!(files, [found], "{wanted}");
        }
    }

    #[test]
    fn what_the_demo_server_does_not_know_is_not_found() {
        let answer = described(DEMO, &bytes_field(FILE_CONTAINING_SYMBOL, b"helloworld.Greter"));
        let error = all(&answer, ERROR).next().unwrap();
        assert_eq!(WireFields(error).last(1), Some(WireValue::Varint(5)));
        assert_eq!(text(error, 2), Some("helloworld.Greter is not known"));
        assert_eq!(all(&answer, FILES).count(), 0);
    }
}

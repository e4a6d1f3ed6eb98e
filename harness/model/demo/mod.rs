//! The images of the demo application. Their answers are known, so that scenarios with these images can be checked without a cluster.

mod chain;

use std::collections::BTreeMap;

pub use chain::{ARROW, NextHop, PROPAGATE, is_propagated};

/// An image of the demo server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoImage {
    /// The name with registry and tag.
    pub name: &'static str,
    /// The version in its responses.
    pub version: &'static str,
    /// Whether the status for `/error` is 503 instead of 200. The status for other paths is 200, but for those below `/work`.
    pub is_faulty: bool,
}

/// The images of the demo server.
pub const DEMO_IMAGES: [DemoImage; 4] = [
    DemoImage { name: "docker.io/library/hello-server:v1", version: "v1", is_faulty: true },
    DemoImage { name: "docker.io/library/hello-server:v2", version: "v2", is_faulty: true },
    DemoImage { name: "docker.io/library/hello-server:v2-fixed", version: "v2", is_faulty: false },
    DemoImage { name: "docker.io/library/hello-server:v3", version: "v3", is_faulty: false },
];

impl DemoImage {
    /// The port on which the demo server listens unless its arguments name another.
    pub const PORT: u16 = 8080;

    /// The demo image with this name, with or without `docker.io/library/`; none for any other image.
    pub fn find(name: &str) -> Option<&'static Self> {
        DEMO_IMAGES.iter().find(|image| image.name == name || image.short_name() == name)
    }

    /// The name without the default registry, as in manifests.
    pub fn short_name(&self) -> &'static str {
        self.name.strip_prefix("docker.io/library/").unwrap_or(self.name)
    }

    /// The HTTP status of the response to a request for a path; none below `/work`, where the environment of a pod may make answers fail.
    pub fn status(&self, path: &str) -> Option<u16> {
        let path = path.split('?').next().unwrap_or_default();
        let works = path == "/work" || path.starts_with("/work/");
        (!works).then_some(if Self::is_error(path) && self.is_faulty { 503 } else { 200 })
    }

    /// The status of gRPC of the response to a call of a method.
    pub fn grpc_status(method: &str) -> u16 {
        let known = ["/grpc.health.v1.Health/Check", "/helloworld.Greeter/SayHello"].contains(&method);
        if known { 0 } else { 12 }
    }

    /// Whether a demo server in an environment speaks HTTP/2 and gRPC, besides HTTP/1.1.
    pub fn speaks_http2(env: &BTreeMap<String, String>) -> bool {
        env.get("HTTP2").is_none_or(|value| value != "false")
    }

    /// Whether a demo server in an environment greets clients of TCP instead of speaking HTTP.
    pub fn greets(env: &BTreeMap<String, String>) -> bool {
        env.get("TCP").is_some_and(|value| value == "true")
    }

    /// The environment variable that names a folder with `tls.crt` and `tls.key`: with it, a demo server answers handshakes of TLS on its port,
    /// besides plain connections.
    pub const TLS: &str = "TLS";

    /// Whether a demo server in an environment describes its services of gRPC by reflection.
    pub fn reflects(env: &BTreeMap<String, String>) -> bool {
        env.get("REFLECTION").is_none_or(|value| value != "false")
    }

    /// Whether faulty demo servers respond with 503 to requests for a path.
    pub fn is_error(path: &str) -> bool {
        path.split('?').next() == Some("/error")
    }
}

/// The versions of all demo images, by each of their names.
pub fn demo_versions() -> BTreeMap<String, String> {
    let names = DEMO_IMAGES.iter().flat_map(|image| [image.name, image.short_name()].map(|name| (name, image.version)));
    names.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("hello-server:v2", "/error", Some(503))]
    #[case("hello-server:v2", "/error?x=1", Some(503))]
    #[case("docker.io/library/hello-server:v2-fixed", "/error", Some(200))]
    #[case("hello-server:v1", "/errors", Some(200))]
    #[case("hello-server:v1", "/workers", Some(200))]
    #[case("hello-server:v1", "/work/1?x=1", None)]
    #[case("nginx:1", "/error", None)]
    fn the_status_of_a_demo_image_is_known(#[case] image: &str, #[case] path: &str, #[case] status: Option<u16>) {
        assert_eq!(DemoImage::find(image).and_then(|image| image.status(path)), status);
    }

    #[test]
    fn versions_are_known_by_both_names() {
        let versions = demo_versions();
        assert_eq!(versions.len(), 2 * DEMO_IMAGES.len());
        assert_eq!(
            (&*versions["hello-server:v2-fixed"], &*versions["docker.io/library/hello-server:v1"]),
            ("v2", "v1")
        );
    }
}

//! Images of a version of Istio are pulled into the cache, from a registry on loopback.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::cluster::docker;
use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![
    a_version_is_pulled_into_the_cache(),
    a_version_in_the_cache_is_not_pulled_again(),
    a_version_whose_release_is_missing_has_no_addons_until_it_is_pulled_again(),
    a_version_that_is_not_complete_leaves_nothing_in_the_cache(),
];

const VERSION: &str = "1.30.9";

/// What a registry answers, by path: the kind of content, and the content.
type Contents = HashMap<String, (&'static str, Vec<u8>)>;

fn digest(content: &[u8]) -> String {
    let digits: Vec<String> = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", digits.concat())
}

/// An image of one layer with one file.
fn add_image(contents: &mut Contents, name: &str, file: &str, text: &str) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, file, text.as_bytes()).unwrap();
    let layer = tar.into_inner().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let part =
        |kind: &str, content: &[u8]| json!({"mediaType": kind, "size": content.len(), "digest": digest(content)});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": part("application/vnd.docker.container.image.v1+json", &config),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    for blob in [config, layer] {
        let path = format!("/v2/istio/{name}/blobs/{}", digest(&blob));
        contents.insert(path, ("application/octet-stream", blob));
    }
    contents.insert(format!("/v2/istio/{name}/manifests/{}", digest(&manifest)), (kind, manifest.clone()));
    contents.insert(format!("/v2/istio/{name}/manifests/{VERSION}"), (kind, manifest));
}

/// The archive of a release with the manifests of its addons, which are their names.
fn add_release(contents: &mut Contents) {
    let folder = tempfile::tempdir().unwrap();
    let addons = folder.path().join(format!("istio-{VERSION}/samples/addons"));
    std::fs::create_dir_all(&addons).unwrap();
    for name in ["kiali", "prometheus", "grafana"] {
        std::fs::write(addons.join(format!("{name}.yaml")), name).unwrap();
    }
    let mut tar = std::process::Command::new("tar");
    let packed = tar.args(["-cz", &format!("istio-{VERSION}")]).current_dir(folder.path()).output().unwrap();
    assert!(packed.status.success(), "{packed:?}");
    let path = format!("/releases/{VERSION}/istio-{VERSION}-linux-amd64.tar.gz");
    contents.insert(path, ("application/gzip", packed.stdout));
}

/// A registry on loopback, for as long as the test lasts.
fn registry(contents: Contents) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let contents = Arc::new(contents);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let contents = Arc::clone(&contents);
            std::thread::spawn(move || {
                let _ = answer(&stream, &contents);
            });
        }
    });
    address
}

fn answer(mut stream: &TcpStream, contents: &Contents) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let found = if path == "/v2/" { Some(&("application/json", Vec::new())) } else { contents.get(path) };
    let (status, kind, content) = match found {
        Some((kind, content)) => ("200 OK", *kind, content.as_slice()),
        None => ("404 Not Found", "application/json", b"{}".as_slice()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: {kind}\r\n\
         Docker-Content-Digest: {}\r\nContent-Length: {}\r\n\r\n",
        digest(content),
        content.len()
    )?;
    if method == "GET" { stream.write_all(content) } else { Ok(()) }
}

/// A registry with releases and an empty cache. The engine's images from the registry are removed at the end of the test.
struct Hub {
    address: SocketAddr,
    cache: TempDir,
}

impl Hub {
    /// A registry with images of a version, or with its release.
    fn with(images: &[&str]) -> Self {
        let mut contents = Contents::new();
        for name in images {
            match *name {
                "pilot" => add_image(&mut contents, name, "usr/local/bin/pilot-discovery", "pilot"),
                RELEASE => add_release(&mut contents),
                "proxyv2" => add_image(&mut contents, name, "usr/local/bin/pilot-agent", "agent"),
                _ => {
                    add_image(
                        &mut contents,
                        name,
                        "usr/local/bin/istioctl",
                        "#!/bin/sh\necho client version: 1.30.9\n",
                    );
                }
            }
        }
        Self { address: registry(contents), cache: tempfile::tempdir().unwrap() }
    }

    fn shiftcheck(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let cache = self.cache.path().to_str().unwrap();
        said(&shiftcheck(&[arguments, &["--cache", cache]].concat()).output().unwrap())
    }

    fn pull(&self) -> (String, String, Option<i32>) {
        self.pull_with(self.address)
    }

    /// Pulls with the releases of a server.
    fn pull_with(&self, releases: SocketAddr) -> (String, String, Option<i32>) {
        let (hub, releases) = (format!("{}/istio", self.address), format!("http://{releases}/releases"));
        self.shiftcheck(&["images", "--pull", VERSION, "--hub", &hub, "--releases", &releases])
    }

    /// The names of the addons in the cache; those of a release have their name as content.
    fn addons(&self) -> Vec<String> {
        let folder = self.cache.path().join(format!("images/istio-{VERSION}/addons"));
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
        let mut names: Vec<String> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let images = docker(&["images", "-q", "--filter", &format!("reference={}/istio/*", self.address)]);
        if !images.is_empty() {
            docker(&[&["rmi", "-f"], images.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
        }
    }
}

const COMPLETE: [&str; 4] = ["pilot", "proxyv2", "istioctl", RELEASE];
/// The archive of the release, among the names of images.
const RELEASE: &str = "release";

/// The images of releases in the engine.
fn imported() -> Vec<String> {
    docker(&["images", "-q", "--filter", "reference=shiftcheck/istio-release"])
}

fn a_version_whose_release_is_missing_has_no_addons_until_it_is_pulled_again() {
    let hub = Hub::with(&COMPLETE[..3]);
    let (printed, errors, code) = hub.pull();
    assert_eq!(code, Some(0), "{errors}");
    let reason = format!(
        "istio-{VERSION} has no addons: cannot pull http://{}/releases/{VERSION}/istio-{VERSION}-linux-amd64.tar.gz: ",
        hub.address
    );
    let line = printed.lines().find(|line| line.starts_with(&reason));
    assert!(line.is_some_and(|line| line.contains("404")), "{printed}");
    assert!(printed.contains("istio-1.30.9 is in the cache"), "{printed}");
    assert_eq!((hub.addons(), imported()), (Vec::new(), Vec::new()));
    let releases = Hub::with(&[RELEASE]);
    let (printed, errors, code) = hub.pull_with(releases.address);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert_eq!((hub.addons().join(" "), imported()), ("kiali prometheus".to_owned(), Vec::new()), "{printed}");
}

fn a_version_that_is_not_complete_leaves_nothing_in_the_cache() {
    let hub = Hub::with(&["pilot", "proxyv2"]);
    let (_, errors, code) = hub.pull();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains(&format!("error: cannot pull {}/istio/istioctl:{VERSION}: ", hub.address)), "{errors}");
    assert!(errors.contains("hint: check the network"), "{errors}");
    assert_eq!(std::fs::read_dir(hub.cache.path().join("images")).unwrap().count(), 0);
}

fn a_version_is_pulled_into_the_cache() {
    let hub = Hub::with(&COMPLETE);
    let (printed, errors, code) = hub.pull();
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.contains("istio-1.30.9 is in the cache"), "{printed}");
    let (printed, _, _) = hub.shiftcheck(&["images", "--check"]);
    assert!(printed.contains("istio-1.30.9 ok\n"), "{printed}");
    let (printed, _, _) = hub.shiftcheck(&["images"]);
    for name in &COMPLETE[..3] {
        let image = format!("{}/istio/{name}", hub.address);
        let digests =
            docker(&["image", "inspect", "--format", "{{join .RepoDigests \"\\n\"}}", &format!("{image}:{VERSION}")]);
        let own = digests.iter().find(|digest| digest.starts_with(&image)).unwrap();
        assert!(own.contains("@sha256:") && printed.contains(own.as_str()), "{own}: {printed}");
    }
    let istioctl = hub.cache.path().join("images/istio-1.30.9/istioctl");
    assert!(std::fs::read_to_string(istioctl).unwrap().starts_with("#!/bin/sh"));
    assert_eq!((hub.addons().join(" "), imported()), ("kiali prometheus".to_owned(), Vec::new()));
}

fn a_version_in_the_cache_is_not_pulled_again() {
    let hub = Hub::with(&COMPLETE);
    hub.pull();
    let (printed, _, code) = hub.pull();
    assert_eq!((code, printed.as_str()), (Some(0), "istio-1.30.9 is already in the cache\n"));
}

//! TLS to a server with a certificate of an own authority.

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use assert_matches::assert_matches;

use super::*;
use crate::protocol::DriveTls;
use crate::{Certificate, CertificateError, DemoServer, serve};

const CA: &str = include_str!("../../../model/routing/outbound/entering/certificates/ca.pem");
const OTHER_CA: &str = include_str!("../../../model/routing/outbound/entering/certificates/other-ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../../model/routing/outbound/entering/certificates/hello.pem");
const OTHER_KEY: &[u8] = include_bytes!("../../../model/routing/outbound/entering/certificates/other-host.key");
const KEY: &[u8] = include_bytes!("../../../model/routing/outbound/entering/certificates/hello.key");

/// A demo server of v1 behind TLS; its address, and the names that clients have said.
async fn server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let (plain, _) = super::server().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let mut config = builder.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(KEY).unwrap()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let names = Arc::clone(&said);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, names) = (acceptor.clone(), Arc::clone(&names));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let connection = stream.get_ref().1;
                let protocol = String::from_utf8_lossy(connection.alpn_protocol().unwrap_or_default()).into_owned();
                lock(&names).push(format!("{} {protocol}", connection.server_name().unwrap_or_default()));
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, plain)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (address, said)
}

fn over_tls(address: SocketAddr, scheme: &str, server_name: &str, ca: &str) -> DrivePlan {
    DrivePlan {
        base: format!("{scheme}://{address}"),
        tls: Some(Box::new(DriveTls { server_name: server_name.to_owned(), ca: ca.to_owned() })),
        connections: 2,
        ..plan(0, vec![flow("/", 20)])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_tls_are_answered_as_without() {
    for (scheme, protocol) in [("http", "http/1.1"), ("h2c", "h2")] {
        let (address, said) = server().await;
        let found = answers(over_tls(address, scheme, "hello.example.com", CA), |_| None).await;
        assert_eq!(found.len(), 20);
        assert!(found.iter().all(|(_, kind)| kind.version.as_deref() == Some("v1")), "{found:?}");
        // one handshake a connection
        let expected = format!("hello.example.com {protocol}");
        assert_eq!(*lock(&said), [expected.as_str(), &expected], "{scheme}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_server_answers_with_and_without_tls_on_one_port() {
    let folder = std::env::temp_dir().join(format!("shiftcheck-certificate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tls.crt"), CERTIFICATE).unwrap();
    assert_matches!(Certificate::read(&folder), Err(CertificateError::File { file, .. }) if file.ends_with("tls.key"));
    std::fs::write(folder.join("tls.key"), OTHER_KEY).unwrap();
    assert_matches!(Certificate::read(&folder), Err(CertificateError::Pair { .. }));
    std::fs::write(folder.join("tls.key"), KEY).unwrap();
    let certificate = Certificate::read(&folder).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    tokio::spawn(serve(port, DemoServer::new("v1", "pod", false).showing(Some(certificate))));
    let plain = DrivePlan { tls: None, ..over_tls(port, "http", "hello.example.com", CA) };
    for plan in [over_tls(port, "http", "hello.example.com", CA), over_tls(port, "h2c", "hello.example.com", CA), plain]
    {
        let found = answers(plan, |_| None).await;
        assert!(found.len() == 20 && found.iter().all(|(_, kind)| kind.version.as_deref() == Some("v1")), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_handshake_is_told_with_its_cause() {
    let (address, said) = server().await;
    let (plain, _) = super::server().await;
    let plain = SocketAddr::from((Ipv4Addr::LOCALHOST, plain));
    for (address, name, ca, cause) in [
        (address, "hello.example.com", OTHER_CA, "invalid peer certificate: UnknownIssuer"),
        (
            address,
            "other.example.com",
            CA,
            "invalid peer certificate: certificate not valid for name \"other.example.com\"",
        ),
        (plain, "hello.example.com", CA, "received corrupt message of type InvalidContentType"),
    ] {
        for (_, kind) in answers(over_tls(address, "http", name, ca), |_| None).await {
            let failure = kind.failure.unwrap();
            assert_eq!(failure.kind, FailureKind::Handshake);
            assert!(failure.message.starts_with(cause), "{}", failure.message);
        }
    }
    assert!(lock(&said).is_empty());
    // where nothing listens, there is no handshake
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().await));
    let found = answers(over_tls(nowhere, "http", "hello.example.com", CA), |_| None).await;
    assert!(found.iter().all(|(_, kind)| kind.failure.as_ref().unwrap().kind == FailureKind::Connect), "{found:?}");
}

#[tokio::test]
async fn a_plan_with_no_authority_that_can_be_read_is_refused() {
    let (_sender, mut commands) = mpsc::channel(1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    for (name, ca, wrong) in [
        ("a b", CA, "`a b` is not the name of a server: invalid dns name"),
        ("a", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "an authority cannot be read: "),
    ] {
        let plan = over_tls(address, "http", name, ca);
        let error = drive(plan, &mut commands, &mut JsonLines::new(io::sink())).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("the plan is not valid: {wrong}")), "{error}");
    }
}

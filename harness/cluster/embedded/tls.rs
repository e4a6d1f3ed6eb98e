//! TLS at the gateways of the embedded mesh.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

use crate::routing::ServerCertificate;

/// The TLS of connections that a proxy accepts.
#[derive(Clone)]
pub(super) enum Termination {
    /// Connections are plain.
    Plain,
    /// Connections are encrypted; none if they are closed without a handshake.
    Tls(Option<TlsAcceptor>),
}

impl fmt::Debug for Termination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls(Some(_)) => "Tls",
            Self::Tls(None) => "Closed",
        })
    }
}

impl Termination {
    /// TLS with a certificate.
    pub fn with(certificate: Option<&ServerCertificate>) -> Self {
        Self::Tls(certificate.and_then(acceptor))
    }
}

/// None if a server cannot show the certificate.
fn acceptor(certificate: &ServerCertificate) -> Option<TlsAcceptor> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?.with_no_client_auth();
    let mut config = builder.with_single_cert(certificate.chain.clone(), certificate.key.clone_key()).ok()?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(TlsAcceptor::from(Arc::new(config)))
}

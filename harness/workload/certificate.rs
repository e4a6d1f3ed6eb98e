//! The certificate of the demo server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a client may take for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The first byte of a handshake; requests of HTTP do not begin with it.
const HANDSHAKE_RECORD: u8 = 22;

/// A certificate cannot be shown.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file has no certificate or private key in PEM, or cannot be read.
    #[error("{file}: {source}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// The private key is not that of the certificate, or of a kind that is not supported.
    #[error("the certificate in {folder} cannot be shown: {source}", folder = folder.display())]
    Pair {
        /// The folder with both.
        folder: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
}

/// A certificate with its private key, with which a server answers handshakes of TLS.
#[derive(Clone)]
pub struct Certificate(TlsAcceptor);

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Certificate")
    }
}

impl Certificate {
    /// Reads `tls.crt` and `tls.key` in a folder, as a Secret of the type `kubernetes.io/tls` is mounted.
    ///
    /// # Errors
    /// A file cannot be read, is not PEM, or the two do not belong together.
    pub fn read(folder: &Path) -> Result<Self, CertificateError> {
        let file = |name: &str| folder.join(name);
        let broken = |name: &str, source| CertificateError::File { file: file(name), source };
        let chain = CertificateDer::pem_file_iter(file("tls.crt")).and_then(Iterator::collect);
        let chain = chain.map_err(|source| broken("tls.crt", source))?;
        let key = PrivateKeyDer::from_pem_file(file("tls.key")).map_err(|source| broken("tls.key", source))?;
        Self::new(chain, key).map_err(|source| CertificateError::Pair { folder: folder.to_owned(), source })
    }

    /// A certificate, followed by those that lead to an authority, with its private key.
    ///
    /// # Errors
    /// The private key is not that of the certificate, or of a kind that is not supported.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The connection after the handshake.
    ///
    /// # Errors
    /// The client does not take the certificate, takes too long, or is gone.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        tokio::time::timeout(HANDSHAKE, self.0.accept(stream)).await?
    }
}

/// Whether a client begins with a handshake of TLS. Waits for its first byte.
pub(super) async fn begins_with_handshake(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0] == HANDSHAKE_RECORD
}

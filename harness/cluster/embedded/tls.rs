//! TLS at the gateways of the embedded mesh.

use crate::routing::ServerCertificate;
use crate::workload::Certificate;

/// What a proxy does with the connections that it accepts.
#[derive(Debug, Clone)]
pub(super) enum Termination {
    /// They are plain.
    Plain,
    /// They are encrypted, and the proxy shows a certificate; none if it closes them without a handshake.
    Tls(Option<Certificate>),
    /// They are encrypted, and each goes to a server that shows its own certificate.
    OfServers,
    /// They are plain, and their clients wait for a server to speak.
    OfConnections,
}

/// The certificate as a server shows it; none if a server cannot show it.
pub(super) fn shown(certificate: &ServerCertificate) -> Option<Certificate> {
    Certificate::new(certificate.chain.clone(), certificate.key.clone_key()).ok()
}

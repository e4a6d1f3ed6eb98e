//! Certificates in PEM.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};

/// The certificates in a text, in order; what else a text has is skipped.
///
/// # Errors
/// A part of the text is not PEM.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).map(|one| one.map_err(|error| error.to_string())).collect()
}

/// The authorities that own certificates.
///
/// # Errors
/// One of them is no X.509 certificate.
pub fn authorities<'a>(certificates: &'a [CertificateDer<'static>]) -> Result<Vec<TrustAnchor<'a>>, String> {
    let read = certificates.iter().map(webpki::anchor_from_trusted_cert);
    read.map(|one| one.map_err(|error| error.to_string())).collect()
}

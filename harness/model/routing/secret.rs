//! Secrets from which gateways take certificates, and whether clients take these.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use displaydoc::Display;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::live::{Kind, Live, Object};
use crate::scenario::{authorities, certificates};

/// The keys of a certificate and its private key in a Secret, in the order in which Istio looks for them.
const KEYS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];

/// Why a gateway has no certificate to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[non_exhaustive]
pub enum SecretFault {
    /// the namespace of the gateway's pods has no Secret with the name in `credentialName`
    NotThere,
    /// the Secret of the gateway has neither `tls.crt` and `tls.key` nor `cert` and `key`
    NoKeys,
    /// the Secret of the gateway has no certificate in PEM that can be read
    NoCertificate,
    /// the Secret of the gateway has no private key in PEM that can be read
    NoPrivateKey,
    /// the private key in the Secret of the gateway is not that of the certificate
    OtherKey,
}

/// Why a client does not take a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[non_exhaustive]
pub enum CertificateFault {
    /// the server's certificate is not for the host
    OtherHost,
    /// the server's certificate has expired
    Expired,
    /// the server's certificate is not valid yet
    NotYetValid,
    /// the server's certificate is not signed by an authority in the `ca` of the population
    UnknownIssuer,
    /// the server's certificate is not one for servers, or is malformed
    Invalid,
}

/// The Secret of a gateway's certificate, and a digest of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateId {
    /// The name of the Secret.
    pub secret: String,
    /// The first 16 hexadecimal digits of the SHA-256 digest of the first certificate.
    pub digest: String,
}

impl CertificateId {
    /// The certificate of a Secret, by the certificates in PEM; none if there is none in them.
    pub fn of(secret: &str, pem: &[u8]) -> Option<Self> {
        Some(Self::new(secret, certificates(pem).ok()?.first()?))
    }

    fn new(secret: &str, certificate: &CertificateDer<'_>) -> Self {
        let digest = digest(&SHA256, certificate);
        let first = digest.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
        Self { secret: secret.to_owned(), digest: format!("{first:016x}") }
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "certificate of Secret {}: SHA-256 {}…", self.secret, self.digest)
    }
}

/// The certificate of a server and its private key.
#[derive(Clone)]
pub struct ServerCertificate {
    /// The Secret, and a digest of the certificate.
    pub id: CertificateId,
    /// The certificate of the server, then those that lead to an authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ServerCertificate({})", self.id)
    }
}

impl ServerCertificate {
    /// Reads the certificate of a Secret.
    fn read(object: &Object) -> Result<Self, SecretFault> {
        let value = |key: &str| {
            let data = &object.manifest.object.data;
            // the API server writes `stringData` over `data`
            let text = data["stringData"][key].as_str().map(|text| text.as_bytes().to_vec());
            let encoded = || data["data"][key].as_str().map(|text| text.replace(char::is_whitespace, ""));
            text.or_else(|| STANDARD.decode(encoded()?).ok()).filter(|bytes| !bytes.is_empty())
        };
        let pairs = KEYS.iter().find_map(|(certificate, key)| Some((value(certificate)?, value(key)?)));
        let (certificate, key) = pairs.ok_or(SecretFault::NoKeys)?;
        let chain = certificates(&certificate).map_err(|_| SecretFault::NoCertificate)?;
        let first = chain.first().ok_or(SecretFault::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| SecretFault::NoPrivateKey)?;
        let public_key = public_key(&key).ok_or(SecretFault::NoPrivateKey)?;
        let own = EndEntityCert::try_from(first).map_err(|_| SecretFault::NoCertificate)?.subject_public_key_info();
        if !own.ends_with(&public_key) {
            return Err(SecretFault::OtherKey);
        }
        Ok(Self { id: CertificateId::new(object.manifest.name(), first), key: Arc::new(key), chain })
    }

    /// Whether the certificate is for a host, whoever has signed it.
    pub fn is_for(&self, host: &str) -> bool {
        let own = self.chain.first().and_then(|first| EndEntityCert::try_from(first).ok());
        let name = ServerName::try_from(host).ok();
        own.zip(name).is_some_and(|(own, name)| own.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// Whether a client that trusts these authorities, in PEM, takes the certificate for a host now.
    ///
    /// # Errors
    /// It does not.
    pub fn taken_by(&self, host: &str, ca: &str) -> Result<(), CertificateFault> {
        let trusted = certificates(ca.as_bytes()).map_err(|_| CertificateFault::UnknownIssuer)?;
        let anchors = authorities(&trusted).map_err(|_| CertificateFault::UnknownIssuer)?;
        let [first, intermediates @ ..] = self.chain.as_slice() else { return Err(CertificateFault::Invalid) };
        let own = EndEntityCert::try_from(first).map_err(|_| CertificateFault::Invalid)?;
        let (all, usage) = (webpki::ALL_VERIFICATION_ALGS, KeyUsage::server_auth());
        match own.verify_for_usage(all, &anchors, intermediates, UnixTime::now(), usage, None, None) {
            Ok(_) if self.is_for(host) => Ok(()),
            Ok(_) => Err(CertificateFault::OtherHost),
            Err(webpki::Error::CertExpired { .. }) => Err(CertificateFault::Expired),
            Err(webpki::Error::CertNotValidYet { .. }) => Err(CertificateFault::NotYetValid),
            Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
                Err(CertificateFault::UnknownIssuer)
            }
            Err(_) => Err(CertificateFault::Invalid),
        }
    }
}

/// The public key of a private key; none if the private key cannot be read, or is of an algorithm that servers do not use.
fn public_key(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    let of = |key: &dyn AsRef<[u8]>| Some(key.as_ref().to_vec());
    match key {
        PrivateKeyDer::Pkcs1(key) => of(RsaKeyPair::from_der(key.secret_pkcs1_der()).ok()?.public_key()),
        PrivateKeyDer::Pkcs8(key) => {
            let der = key.secret_pkcs8_der();
            if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
                return of(pair.public_key());
            }
            if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                return of(pair.public_key());
            }
            let algorithms = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING];
            let random = SystemRandom::new();
            let mut pairs = algorithms.iter().filter_map(|own| EcdsaKeyPair::from_pkcs8(own, der, &random).ok());
            of(pairs.next()?.public_key())
        }
        _ => None,
    }
}

/// The Secrets of a mesh.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// By namespace and name.
    all: BTreeMap<(String, String), Secret>,
    /// Whether objects may make Secrets that no manifest has.
    may_be_made: bool,
}

/// A Secret, whose certificate is read when it is asked for.
#[derive(Debug)]
struct Secret {
    object: Object,
    read: OnceLock<Result<ServerCertificate, SecretFault>>,
}

impl Secrets {
    pub fn read(live: &Live) -> Self {
        let makes = ["Certificate", "ExternalSecret", "SealedSecret"];
        let of = |object: &Object| (object.namespace.clone(), object.manifest.name().to_owned());
        let secret = |object: &Object| Secret { object: object.clone(), read: OnceLock::new() };
        Self {
            all: live.of(Kind::Secret).map(|object| (of(object), secret(object))).collect(),
            may_be_made: live.all().any(|object| makes.contains(&object.manifest.kind())),
        }
    }

    /// The certificate in the Secret with a name in a namespace.
    ///
    /// # Errors
    /// There is no such Secret, or no certificate in it that a server can show.
    pub fn certificate(&self, namespace: &str, name: &str) -> Result<&ServerCertificate, SecretFault> {
        let found = self.all.get(&(namespace.to_owned(), name.to_owned())).ok_or(SecretFault::NotThere)?;
        found.read.get_or_init(|| ServerCertificate::read(&found.object)).as_ref().map_err(|fault| *fault)
    }

    /// Whether a Secret may be there that no manifest has.
    pub const fn may_be_made(&self) -> bool {
        self.may_be_made
    }

    /// The namespaces that have a Secret with a name.
    pub fn namespaces_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.all.keys().filter(move |(_, own)| own == name).map(|(namespace, _)| namespace.as_str())
    }

    /// The names of the Secrets in a namespace.
    pub fn names_in<'s>(&'s self, namespace: &'s str) -> impl Iterator<Item = &'s str> {
        self.all.keys().filter(move |(own, _)| own == namespace).map(|(_, name)| name.as_str())
    }
}

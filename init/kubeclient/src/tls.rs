//! The client's TLS configuration: the cluster's CA, a certificate and its key, from files.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, version};

use crate::error::ConfigureError;

/// The files a client shows and trusts.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Certificates that sign the API server's.
    pub ca: &'a Path,
    /// The client's certificate chain.
    pub certificate: &'a Path,
    /// The client's key.
    pub key: &'a Path,
}

pub(crate) fn connector(identity: Identity<'_>) -> Result<TlsConnector, ConfigureError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(identity.ca)? {
        roots.add(certificate).map_err(|source| ConfigureError::Tls { source })?;
    }
    let key = PrivateKeyDer::from_pem_file(identity.key)
        .map_err(|source| ConfigureError::Pem { path: identity.key.to_owned(), source })?;
    // TLS 1.3 only: both ends are ours, and it saves a round trip.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|source| ConfigureError::Tls { source })?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(identity.certificate)?, key)
        .map_err(|source| ConfigureError::Tls { source })?;
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigureError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| ConfigureError::Pem { path: path.to_owned(), source })
}

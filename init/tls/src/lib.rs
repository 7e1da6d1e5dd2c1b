//! The one place that chooses TLS versions, cryptography and trust for the node's programs.
//!
//! Everything is read from files, for that is where the PKI leaves it. Nothing but the given CA
//! is trusted: no program here talks to the public web.

#![forbid(unsafe_code)]

mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::VerifierBuilderError;
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use server::{client_verifier, server_config, serving_pair};

/// What a client shows to prove who it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its certificate, with those between it and the CA.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
}

/// A client or a server cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or is not PEM.
    #[error("cannot read {} as PEM", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A CA file holds no certificate.
    #[error("{} holds no certificate", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The content cannot be used.
    #[error("the certificates cannot be used for TLS")]
    Unusable(#[source] rustls::Error),
    /// Nothing can be checked against the authorities.
    #[error("the authorities cannot be used to check callers")]
    Verifier(#[source] VerifierBuilderError),
}

/// The configuration of a client that trusts `ca` and, if asked, shows `identity`.
///
/// TLS 1.3 only: all servers it meets can, and it saves a round trip.
pub fn client_config(ca: &Path, identity: Option<Identity<'_>>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Unusable)?
        .with_root_certificates(authorities(ca)?);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let key =
                PrivateKeyDer::from_pem_file(identity.key).map_err(|source| TlsError::Pem {
                    path: identity.key.to_owned(),
                    source,
                })?;
            let chain = certificates_in(identity.certificate, &read(identity.certificate)?)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Unusable)
        }
    }
}

/// The cryptography of the node's programs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in(path, &read(path)?)? {
        roots.add(certificate).map_err(TlsError::Unusable)?;
    }
    Ok(roots)
}

fn certificates_in(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            source,
        })?;
    if list.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(list)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Pem {
        path: path.to_owned(),
        source: pem::Error::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_hold_nothing_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.crt");
        let missing = client_config(&ca, None).unwrap_err();
        assert!(missing.to_string().contains("ca.crt"), "{missing}");
        fs::write(&ca, "no certificate here\n").unwrap();
        assert!(matches!(
            client_config(&ca, None),
            Err(TlsError::NoCertificate { .. })
        ));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, key) = (folder.path().join("a.crt"), folder.path().join("b.key"));
        let one = rcgen::generate_simple_self_signed(["one".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["two".to_owned()]).unwrap();
        fs::write(&ca, one.cert.pem()).unwrap();
        fs::write(&key, two.signing_key.serialize_pem()).unwrap();
        assert!(client_config(&ca, None).is_ok());
        let identity = Identity {
            certificate: &ca,
            key: &key,
        };
        assert!(matches!(
            client_config(&ca, Some(identity)),
            Err(TlsError::Unusable(_))
        ));
    }
}

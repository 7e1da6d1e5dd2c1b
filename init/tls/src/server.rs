//! Servers of the node: TLS 1.3 with one certificate, callers known by theirs.

use std::path::Path;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, version};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::{TlsError, authorities, certificates_in, provider, read};

/// What a server shows: certificates and key from one PEM file, read at one moment.
pub fn serving_pair(path: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let pem = read(path)?;
    let chain = certificates_in(path, &pem)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        source,
    })?;
    CertifiedKey::from_der(chain, key, &provider())
        .map(Arc::new)
        .map_err(TlsError::Unusable)
}

/// Checks certificates of callers against the authorities in a PEM file. A caller must have one.
pub fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(authorities(path)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(TlsError::Verifier)
}

/// The configuration of a server that shows `pair`, lets `clients` judge its callers and speaks
/// `protocols` (ALPN).
///
/// Sessions are never resumed: a resumed one would not show its certificate again, which may be
/// revoked or expired by then, and every kept session costs memory.
pub fn server_config(
    pair: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
    protocols: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Unusable)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pair_is_one_file_with_both_halves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serving.pem");
        let one = rcgen::generate_simple_self_signed(["one".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["two".to_owned()]).unwrap();
        fs::write(&path, one.cert.pem()).unwrap();
        assert!(matches!(serving_pair(&path), Err(TlsError::Pem { .. })));
        let mixed = one.cert.pem() + &two.signing_key.serialize_pem();
        fs::write(&path, mixed).unwrap();
        assert!(matches!(serving_pair(&path), Err(TlsError::Unusable(_))));
        fs::write(&path, one.cert.pem() + &one.signing_key.serialize_pem()).unwrap();
        let pair = serving_pair(&path).unwrap();
        let clients = client_verifier(&path).unwrap();
        let config = server_config(pair, clients, &[b"h2"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
        assert_eq!(config.send_tls13_tickets, 0);
    }

    #[test]
    fn without_an_authority_there_is_no_verifier() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        fs::write(&path, "").unwrap();
        assert!(matches!(
            client_verifier(&path),
            Err(TlsError::NoCertificate { .. })
        ));
    }
}

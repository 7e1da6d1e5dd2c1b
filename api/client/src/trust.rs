//! Trust in a node without an authority: by the fingerprint of one of its certificates.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::Fingerprint;

/// Trusts the certificate with the fingerprint, or one signed by it.
///
/// Names are not compared: a node in maintenance has no name yet. Neither is the date, for it
/// may not know the time yet either: its clock is what both certificates were made by.
#[derive(Debug)]
pub(crate) struct PinnedVerifier {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedVerifier {
    pub(crate) fn new(fingerprint: Fingerprint, provider: &CryptoProvider) -> Self {
        Self {
            fingerprint,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(end_entity) == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        let authority = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.fingerprint)
            .ok_or(NOT_PINNED)?;
        // Whoever knows the authority's certificate can show it: the leaf must be signed by it.
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            beginning(end_entity)?,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a verifier of ours says; rustls itself never does.
pub(crate) const NOT_PINNED: Error =
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

/// When a certificate begins to be valid.
fn beginning(der: &CertificateDer<'_>) -> Result<UnixTime, Error> {
    let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let seconds = u64::try_from(certificate.validity().not_before.timestamp()).map_err(bad)?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// Trusts nothing: notes what the node shows and ends the handshake before anything is sent.
#[derive(Debug)]
pub(crate) struct LookingVerifier {
    schemes: Vec<SignatureScheme>,
    shown: Arc<Mutex<Vec<Fingerprint>>>,
}

impl LookingVerifier {
    pub(crate) fn new(provider: &CryptoProvider, shown: Arc<Mutex<Vec<Fingerprint>>>) -> Self {
        Self {
            schemes: provider
                .signature_verification_algorithms
                .supported_schemes(),
            shown,
        }
    }
}

impl ServerCertVerifier for LookingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = chain
            .map(|certificate| Fingerprint::of(certificate))
            .collect();
        Err(NOT_PINNED)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NOT_PINNED)
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NOT_PINNED)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::credentials::provider;

    /// An authority and a leaf it signed, of a node whose clock stands at 1999.
    fn chain() -> [CertificateDer<'static>; 2] {
        let (begin, end) = (
            rcgen::date_time_ymd(1999, 1, 1),
            rcgen::date_time_ymd(2000, 1, 1),
        );
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (begin, end);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let mut leaf = CertificateParams::new(["keelson".to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (begin, end);
        let issuer = Issuer::from_params(&params, &key);
        let leaf = leaf
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        [authority.der().clone(), leaf.der().clone()]
    }

    fn verify(
        pinned: Fingerprint,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let name = ServerName::try_from("192.0.2.1").unwrap();
        PinnedVerifier::new(pinned, &provider())
            .verify_server_cert(leaf, rest, &name, &[], UnixTime::now())
            .map(drop)
    }

    #[test]
    fn leaf_or_authority_may_be_pinned_whatever_the_clock() {
        let [authority, leaf] = chain();
        let rest = [authority.clone()];
        verify(Fingerprint::of(&leaf), &leaf, &rest).unwrap();
        verify(Fingerprint::of(&authority), &leaf, &rest).unwrap();
    }

    #[test]
    fn showing_the_authority_without_its_signature_is_not_enough() {
        let [authority, _] = chain();
        let [_, stranger] = chain();
        let rest = [authority.clone()];
        assert!(verify(Fingerprint::of(&authority), &stranger, &rest).is_err());
        assert_eq!(
            verify(Fingerprint::of(b"other"), &stranger, &rest),
            Err(NOT_PINNED)
        );
    }
}

//! Which certificates finish a handshake.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, SignatureScheme,
};

use crate::access_file::Mode;
use crate::identity::{Fingerprint, Person, Revoked};
use crate::trust::Authorities;

/// Checks certificates against the authorities, the revocations and the form of an identity.
#[derive(Debug)]
pub(crate) struct Callers {
    /// None on a node that has no authority yet: nobody is asked for a certificate, and nobody
    /// who must have one gets in.
    pub(crate) authorities: Authorities,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) mode: Mode,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Callers {
    fn offer_client_auth(&self) -> bool {
        self.authorities.is_some() || self.client_auth_mandatory()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mode == Mode::Normal
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities
            .as_ref()
            .map_or(&[], |authorities| authorities.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let authorities = self
            .authorities
            .as_ref()
            .ok_or(CertificateError::UnknownIssuer)?;
        let verified = authorities.verify_client_cert(certificate, intermediates, now)?;
        if self.revoked.contains(&Fingerprint::of(certificate)) {
            return Err(CertificateError::Revoked.into());
        }
        match Person::read(certificate) {
            Ok(_) => Ok(verified),
            Err(error) => Err(CertificateError::Other(OtherError(Arc::new(error))).into()),
        }
    }

    /// Never asked: the servers of the node speak TLS 1.3.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
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

//! Who a client certificate says its owner is, and until when.

use keelson_api::access::Role;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;

/// What a client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The person (common name).
    pub person: String,
    /// What the person may do; `None` when the certificate names no role.
    pub role: Option<Role>,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

/// A certificate cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not PEM, or no certificate in it.
    #[error("the certificate is not PEM")]
    Pem(#[source] pem::Error),
    /// Not X.509.
    #[error("the certificate is not X.509")]
    X509(#[source] x509_parser::nom::Err<X509Error>),
}

impl Identity {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none that can be read.
    pub fn of_pem(text: &str) -> Result<Self, IdentityError> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(IdentityError::Pem)?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(IdentityError::X509)?;
        let subject = certificate.subject();
        let person = subject
            .iter_common_name()
            .find_map(|name| name.as_str().ok())
            .unwrap_or_default();
        let role = subject
            .iter_organization()
            .filter_map(|name| name.as_str().ok())
            .find_map(Role::from_organization);
        Ok(Self {
            person: person.to_owned(),
            role,
            not_after: certificate.validity().not_after.to_datetime(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn person_and_role_come_from_the_subject() {
        let mut params = CertificateParams::default();
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CommonName, "Ana");
        subject.push(DnType::OrganizationName, "keelson:operator");
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let identity = Identity::of_pem(&pem).unwrap();
        assert_eq!(identity.person, "Ana");
        assert_eq!(identity.role, Some(Role::Operator));
        assert_eq!(identity.not_after, rcgen::date_time_ymd(2040, 1, 2));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(matches!(Identity::of_pem("x"), Err(IdentityError::Pem(_))));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Identity::of_pem(nonsense),
            Err(IdentityError::X509(_))
        ));
    }
}

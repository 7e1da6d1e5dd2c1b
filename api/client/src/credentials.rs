//! What a connection trusts and what it shows, checked before anything is sent.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use time::OffsetDateTime;

use crate::trust::PinnedVerifier;
use crate::{Context, Fingerprint, Identity, IdentityError};

/// What proves the node to us, and us to the node.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(crate) tls: Arc<ClientConfig>,
    /// Instead of the endpoint's host.
    pub(crate) server_name: Option<ServerName<'static>>,
}

/// A context's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A part of the context is not PEM.
    #[error("the {part} of the context is not PEM")]
    Pem {
        /// Its key in the file.
        part: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// A part of the context holds no certificate.
    #[error("the {part} of the context holds no certificate")]
    NoCertificate {
        /// Its key in the file.
        part: &'static str,
    },
    /// It is over.
    #[error(
        "your certificate ({person}) expired on {}; ask someone with the role admin for a new one (`keelsonctl cert issue`) and take it over with `keelsonctl config add`", .not_after.date()
    )]
    Expired {
        /// Its owner.
        person: String,
        /// When it ended.
        not_after: OffsetDateTime,
    },
    /// The person's certificate cannot be read.
    #[error("the certificate of the context cannot be read")]
    Identity(#[from] IdentityError),
    /// serverName is none.
    #[error("the serverName {name:?} of the context is neither a name nor an address")]
    ServerName {
        /// As in the file.
        name: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// rustls refuses them.
    #[error("the certificates of the context cannot be used for TLS")]
    Unusable(#[source] rustls::Error),
}

impl Credentials {
    /// Those of a context, at this time.
    ///
    /// # Errors
    /// When a part cannot be read, or the person's certificate has expired.
    pub fn of_context(context: &Context, now: OffsetDateTime) -> Result<Self, CredentialsError> {
        let identity = Identity::of_pem(&context.certificate)?;
        if identity.not_after < now {
            return Err(CredentialsError::Expired {
                person: identity.person,
                not_after: identity.not_after,
            });
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates("authority", &context.authority)? {
            roots.add(certificate).map_err(CredentialsError::Unusable)?;
        }
        let chain = certificates("certificate", &context.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(context.key.as_bytes()).map_err(|source| {
            CredentialsError::Pem {
                part: "key",
                source,
            }
        })?;
        let tls = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .and_then(|builder| {
                builder
                    .with_root_certificates(roots)
                    .with_client_auth_cert(chain, key)
            })
            .map_err(CredentialsError::Unusable)?;
        let server_name = match &context.server_name {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|source| {
                CredentialsError::ServerName {
                    name: name.clone(),
                    source,
                }
            })?),
        };
        Ok(Self::new(tls, server_name))
    }

    /// Trusts a node that shows a certificate with this fingerprint, or one signed by it, and
    /// shows nothing: for a node in maintenance.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn pinned(fingerprint: Fingerprint) -> Result<Self, CredentialsError> {
        let provider = provider();
        let verifier = PinnedVerifier::new(fingerprint, &provider);
        verified_by(provider, Arc::new(verifier)).map_err(CredentialsError::Unusable)
    }

    fn new(mut tls: ClientConfig, server_name: Option<ServerName<'static>>) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            tls: Arc::new(tls),
            server_name,
        }
    }
}

/// Trust as the verifier decides, without a certificate of our own.
pub(crate) fn verified_by(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Credentials, rustls::Error> {
    let tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Credentials::new(tls, None))
}

/// The cryptography of all our programs.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(
    part: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| CredentialsError::Pem { part, source })?;
    if list.is_empty() {
        return Err(CredentialsError::NoCertificate { part });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::Duration;

    use super::*;

    fn context(not_after: OffsetDateTime) -> Context {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = not_after;
        let certificate = params.self_signed(&key).unwrap().pem();
        Context {
            endpoints: Vec::new(),
            authority: certificate.clone(),
            certificate,
            key: key.serialize_pem(),
            server_name: None,
        }
    }

    #[test]
    fn an_expired_certificate_is_found_before_anything_is_sent() {
        let now = rcgen::date_time_ymd(2030, 5, 1);
        let valid = context(now + Duration::days(1));
        Credentials::of_context(&valid, now).unwrap();
        let expired = Credentials::of_context(&context(now - Duration::days(1)), now).unwrap_err();
        let text = expired.to_string();
        assert!(
            text.contains("2030-04-30") && text.contains("cert issue"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let now = OffsetDateTime::now_utc();
        let whole = || context(now + Duration::days(1));
        let text = || "x y".to_owned();
        let other_key = KeyPair::generate().unwrap().serialize_pem();
        for (named, context) in [
            (
                "authority",
                Context {
                    authority: text(),
                    ..whole()
                },
            ),
            (
                "key",
                Context {
                    key: text(),
                    ..whole()
                },
            ),
            (
                "serverName",
                Context {
                    server_name: Some(text()),
                    ..whole()
                },
            ),
            (
                "certificates",
                Context {
                    key: other_key,
                    ..whole()
                },
            ),
        ] {
            let error = Credentials::of_context(&context, now).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}

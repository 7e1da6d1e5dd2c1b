//! Certificate authorities.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::issue::{CLOCK_SKEW, IssueError};
use crate::pem;

/// An authority of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// Signs the node API's own certificate and those of the people who call it.
    Api,
    /// Signs everything that speaks with the API server or kubelet.
    Cluster,
    /// Signs etcd and its clients: nobody else's certificate opens the datastore.
    Etcd,
    /// Signs the aggregator's client, whose word on user names extension servers believe.
    FrontProxy,
}

impl Authority {
    /// File stem of everything that belongs to this authority.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api-ca",
            Self::Cluster => "cluster-ca",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }

    /// The file on STATE that holds its certificate and key.
    #[must_use]
    pub fn vault_name(self) -> String {
        format!("{}.pem", self.name())
    }
}

/// How long an authority lives. Rotation is a command of its own, made long before.
const LIFETIME: Duration = Duration::days(3650);

/// An authority's certificate and the key to sign with.
pub struct AuthorityPair {
    certificate_pem: String,
    pair_pem: String,
    pub(crate) certificate_der: Vec<u8>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

impl AuthorityPair {
    /// Makes a new authority.
    pub(crate) fn generate(authority: Authority, now: OffsetDateTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Generate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("keelson {}", authority.name()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + LIFETIME;
        let certificate = params.self_signed(&key).map_err(IssueError::Sign)?;
        Self::load(pem::join(&certificate.pem(), &key.serialize_pem()).as_bytes())
    }

    /// Reads an authority from its file.
    pub(crate) fn load(content: &[u8]) -> Result<Self, IssueError> {
        let pair = pem::Pair::parse(content)?;
        let key = KeyPair::from_pem(&pair.key_pem).map_err(IssueError::Key)?;
        let (not_before, not_after) = pem::check_key_and_read_validity(&pair, &key)?;
        let issuer = Issuer::from_ca_cert_der(&pair.certificate_der.as_slice().into(), key)
            .map_err(IssueError::Certificate)?;
        Ok(Self {
            pair_pem: pem::join(&pair.certificate_pem, &pair.key_pem),
            certificate_pem: pair.certificate_pem,
            certificate_der: pair.certificate_der,
            not_before,
            not_after,
            issuer,
        })
    }

    /// The certificate, for everyone.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Certificate and key, for who signs with it.
    #[must_use]
    pub fn pair_pem(&self) -> &str {
        &self.pair_pem
    }
}

//! Certificates.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// Signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Pair {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    pub pem: String,
}

impl Clone for Pair {
    fn clone(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
            pem: self.pem.clone(),
        }
    }
}

/// What a certificate says; a good one of a person to begin with.
pub struct Wish {
    pub names: Vec<&'static str>,
    pub organizations: Vec<&'static str>,
    pub from: Duration,
    pub until: Duration,
    pub purpose: ExtendedKeyUsagePurpose,
}

impl Wish {
    pub fn person(name: &'static str, organization: &'static str) -> Self {
        Self {
            names: vec![name],
            organizations: vec![organization],
            from: Duration::hours(-1),
            until: Duration::hours(1),
            purpose: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "api");
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub fn person(&self, name: &'static str, organization: &'static str) -> Pair {
        self.issue(&Wish::person(name, organization))
    }

    pub fn serving(&self) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "node");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let address = IpAddr::from([127, 0, 0, 1]);
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        self.sign(params)
    }

    pub fn issue(&self, wish: &Wish) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + wish.from;
        params.not_after = now + wish.until;
        params.extended_key_usages = vec![wish.purpose.clone()];
        // A distinguished name of rcgen holds one value of each kind: further ones are of a
        // custom kind with the same number.
        let fields = [
            (vec![2, 5, 4, 3], &wish.names),
            (vec![2, 5, 4, 10], &wish.organizations),
        ];
        for (number, values) in fields {
            for (index, value) in values.iter().enumerate() {
                let kind = match (index, number.last()) {
                    (0, Some(3)) => DnType::CommonName,
                    (0, _) => DnType::OrganizationName,
                    _ => DnType::CustomDnType(number.clone()),
                };
                params.distinguished_name.push(kind, *value);
            }
        }
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            pem: certificate.pem() + &key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }
}

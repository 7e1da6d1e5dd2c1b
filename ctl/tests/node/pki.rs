//! Authorities and what they sign.

use keelson_api::access::Role;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// Who signs.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// For a server with these names, which ends so far from now.
    pub(crate) fn server(&self, names: &[&str], ends_in: Duration) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, ends_in)
    }

    /// For a person.
    pub(crate) fn person(&self, name: &str, role: Role, ends_in: Duration) -> Pair {
        self.sign(person(name, role), ends_in)
    }

    /// For the key of a request.
    pub(crate) fn answer(&self, request: &str, name: &str, role: Role) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
        request.params = valid(person(name, role), Duration::days(1));
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// The name a person gave in a request.
    pub(crate) fn requested_name(request: &str) -> String {
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        match request.params.distinguished_name.get(&DnType::CommonName) {
            Some(rcgen::DnValue::Utf8String(name)) => name.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn sign(&self, params: CertificateParams, ends_in: Duration) -> Pair {
        let key = KeyPair::generate().unwrap();
        let signed = valid(params, ends_in).signed_by(&key, &self.issuer);
        Pair {
            certificate: signed.unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn person(name: &str, role: Role) -> CertificateParams {
    let mut params = CertificateParams::default();
    let subject = &mut params.distinguished_name;
    subject.push(DnType::CommonName, name);
    subject.push(DnType::OrganizationName, role.organization());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn valid(mut params: CertificateParams, ends_in: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(2);
    params.not_after = now + ends_in;
    params
}

pub(crate) fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

pub(crate) fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

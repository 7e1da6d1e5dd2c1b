//! Certificates and requests for them: who apid thinks a caller is, and what machined takes from
//! a request that somebody wants signed.

use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keelson_fuzz_engine::Target;
use keelson_pki::PersonRequest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds,
        longest: 2048,
    })
}

fn run(der: &[u8]) {
    match keelson_apid::fuzzing::read_certificate(der) {
        Ok((name, _, fingerprint)) => {
            assert!((1..=64).contains(&name.chars().count()), "{name:?}");
            assert!(!name.chars().any(char::is_control), "{name:?}");
            assert_eq!(fingerprint, keelson_pki::fingerprint(der));
        }
        Err(problem) => assert!(!problem.is_empty()),
    }
    // Whatever comes of it: no panic.
    let _ = PersonRequest::parse(&pem("CERTIFICATE REQUEST", der));
    let certificate = pem("CERTIFICATE", der);
    let _ = keelson_pki::summary(certificate.as_bytes());
    let _ = keelson_pki::client_authority(certificate.as_bytes());
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// A person's certificate, an authority's, and a request.
fn seeds() -> Vec<Vec<u8>> {
    match made() {
        Ok(seeds) => seeds,
        Err(error) => panic!("no certificate can be made: {error}"),
    }
}

fn made() -> Result<Vec<Vec<u8>>, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut person = CertificateParams::new(vec!["node-1".to_owned()])?;
    person.distinguished_name = DistinguishedName::new();
    person
        .distinguished_name
        .push(DnType::OrganizationName, "keelson:operator");
    person
        .distinguished_name
        .push(DnType::CommonName, "Ada Lovelace");
    person.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    Ok(vec![
        person.self_signed(&key)?.der().to_vec(),
        authority.self_signed(&key)?.der().to_vec(),
        person.serialize_request(&key)?.der().to_vec(),
    ])
}

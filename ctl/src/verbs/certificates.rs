//! Certificates for people. Keys are made here and never leave this computer but in the file
//! that the person gets.

use std::path::PathBuf;

use keelson_api::v1alpha1::{IssueCertificateRequest, RevokeCertificateRequest};
use keelson_client::{Context, Contexts};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::Run;
use crate::arguments::{IssueArguments, RevokeArguments};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, conclude};
use crate::terminal::note;
use crate::units::millis;

pub(super) async fn issue(run: &Run, issue: &IssueArguments) -> Result<Exit, Failure> {
    let path = match &issue.output {
        Some(path) => path.clone(),
        None => file_for(&issue.person)?,
    };
    if path.exists() {
        return Err(Failure::usage(format!(
            "{} exists already; name another file with --output",
            path.display()
        )));
    }
    let session = run.session()?;
    let Some((name, own)) = &session.context else {
        return Err(Failure::usage("a certificate is issued through a context"));
    };
    let key = new_key()?;
    let request = IssueCertificateRequest {
        certificate_request: request(&key, &issue.person)?,
        person: issue.person.clone(),
        role: issue.role.access().to_string(),
        lifetime_ms: issue.lifetime.map_or(0, millis),
    };
    let (endpoint, node) = session.connect_any().await?;
    let issued = node
        .call(session.timeout, node.certificates().issue(request))
        .await
        .map_err(|error| Failure::node(endpoint, error))?;
    let context = Context {
        authority: issued.authority,
        certificate: issued.certificate,
        key: key.serialize_pem(),
        ..own.clone()
    };
    let contexts = Contexts {
        current: Some(name.clone()),
        contexts: [(name.clone(), context)].into(),
    };
    contexts.save(&path)?;
    note(&format!(
        "{} holds the context {name:?} for {:?} ({}); whoever has it is that person: hand it over safely, then `keelsonctl config add --from FILE`",
        path.display(),
        issue.person,
        issue.role.access()
    ));
    Ok(Exit::Ok)
}

pub(super) async fn revoke(run: &Run, revoke: &RevokeArguments) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let nodes = session.for_change("cert revoke")?;
    let answers = Fleet::new(&session, nodes)
        .ask(async |node| {
            let fingerprint = revoke.certificate.to_string();
            let request = RevokeCertificateRequest { fingerprint };
            node.call(t, node.certificates().revoke(request)).await
        })
        .await;
    for answer in answers.iter().filter(|answer| answer.result.is_ok()) {
        note(&format!(
            "{}: the certificate gets nothing any more",
            answer.node
        ));
    }
    Ok(conclude(&answers, |_| Exit::Ok))
}

/// A key for a person (ECDSA P-256).
pub(super) fn new_key() -> Result<KeyPair, Failure> {
    Ok(KeyPair::generate()?)
}

/// A request for a certificate in the person's name (PKCS #10, PEM).
pub(super) fn request(key: &KeyPair, person: &str) -> Result<String, Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, person);
    Ok(params.serialize_request(key)?.pem()?)
}

/// A file name made from a person's name, when that can be one.
fn file_for(person: &str) -> Result<PathBuf, Failure> {
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if person.is_empty() || person.starts_with('.') || !person.chars().all(safe) {
        return Err(Failure::usage(format!(
            "{person:?} is no file name: name the file with --output"
        )));
    }
    Ok(PathBuf::from(format!("{person}.keelson.yaml")))
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateSigningRequestParams;

    use super::*;

    #[test]
    fn a_request_carries_the_person() {
        let key = new_key().unwrap();
        let pem = request(&key, "Ana").unwrap();
        let parsed = CertificateSigningRequestParams::from_pem(&pem).unwrap();
        let name = parsed.params.distinguished_name;
        assert_eq!(name.iter().count(), 1);
        assert_eq!(name.get(&DnType::CommonName), Some(&"Ana".into()));
    }

    #[test]
    fn no_person_writes_outside_the_folder() {
        assert_eq!(
            file_for("ana@example.org").unwrap(),
            PathBuf::from("ana@example.org.keelson.yaml")
        );
        for person in ["", "../x", "/etc/x", "..", "a b"] {
            assert!(file_for(person).is_err(), "{person}");
        }
    }
}

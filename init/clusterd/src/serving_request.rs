//! The rule for kubelet serving certificates, as a pure function.
//!
//! The controller manager signs what is approved but approves only client certificates. The
//! shape of a good request is Kubernetes' own (`ValidateKubeletServingCSR` in
//! pkg/apis/certificates/helpers.go, 1.37); on top of that every name and address asked for
//! must be one that the Node object already has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

const USER_PREFIX: &str = "system:node:";
const ORGANIZATION: &str = "system:nodes";

/// What a well-formed request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServingRequest {
    node: String,
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

/// What is known about a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

/// What happens to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All it asks for is the node's own.
    Approve,
    /// Not ours to approve; a person may.
    Leave(String),
}

/// Why a request is not a serving request of a kubelet.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    #[error("its user is not a node")]
    User,
    #[error("its usages are not digital signature and server auth")]
    Usages,
    #[error("its content is not a PEM certificate request")]
    Encoding,
    #[error("its signature is wrong")]
    Signature,
    #[error("its subject is not CN=<the user>, O=system:nodes")]
    Subject,
    #[error("it asks for a name that is neither DNS nor IP, or for none")]
    Names,
}

impl ServingRequest {
    /// Takes a CertificateSigningRequest object apart.
    pub(crate) fn parse(object: &Value) -> Result<Self, Malformed> {
        let spec = &object["spec"];
        let user = spec["username"].as_str().ok_or(Malformed::User)?;
        let node = user
            .strip_prefix(USER_PREFIX)
            .filter(|name| !name.is_empty());
        let node = node.ok_or(Malformed::User)?.to_owned();
        check_usages(&spec["usages"])?;
        let pem = STANDARD
            .decode(spec["request"].as_str().unwrap_or_default())
            .map_err(|_| Malformed::Encoding)?;
        let der =
            CertificateSigningRequestDer::from_pem_slice(&pem).map_err(|_| Malformed::Encoding)?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| Malformed::Encoding)?;
        if !rest.is_empty() {
            return Err(Malformed::Encoding);
        }
        request
            .verify_signature()
            .map_err(|_| Malformed::Signature)?;
        check_subject(&request, user)?;
        let (names, addresses) = alternative_names(&request)?;
        Ok(Self {
            node,
            names,
            addresses,
        })
    }

    pub(crate) fn node_name(&self) -> &str {
        &self.node
    }

    /// Compares what is asked for with what the node has.
    pub(crate) fn verdict(&self, node: &Node) -> Verdict {
        if let Some(name) = self.names.difference(&node.names).next() {
            return Verdict::Leave(format!("DNS name \"{name}\" is not the node's"));
        }
        if let Some(address) = self.addresses.difference(&node.addresses).next() {
            return Verdict::Leave(format!("address {address} is not the node's"));
        }
        Verdict::Approve
    }
}

impl Node {
    /// Reads names and addresses of a Node object.
    pub(crate) fn of(object: &Value) -> Self {
        let mut node = Self::default();
        node.names
            .extend(object["metadata"]["name"].as_str().map(str::to_owned));
        for entry in object["status"]["addresses"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let Some(address) = entry["address"].as_str() else {
                continue;
            };
            match address.parse() {
                Ok(ip) => _ = node.addresses.insert(ip),
                Err(_) => _ = node.names.insert(address.to_owned()),
            }
        }
        node
    }
}

fn check_usages(usages: &Value) -> Result<(), Malformed> {
    let usages: Option<BTreeSet<&str>> = usages
        .as_array()
        .map(|all| all.iter().filter_map(Value::as_str).collect());
    let usages = usages.ok_or(Malformed::Usages)?;
    let required = BTreeSet::from(["digital signature", "server auth"]);
    let mut allowed = required.clone();
    // RSA keys may also be used to encipher.
    allowed.insert("key encipherment");
    if required.is_subset(&usages) && usages.is_subset(&allowed) {
        Ok(())
    } else {
        Err(Malformed::Usages)
    }
}

fn check_subject(request: &X509CertificationRequest<'_>, user: &str) -> Result<(), Malformed> {
    let subject = &request.certification_request_info.subject;
    let texts = |values: Vec<Result<&str, _>>| -> Result<Vec<String>, Malformed> {
        values
            .into_iter()
            .map(|value: Result<&str, x509_parser::error::X509Error>| {
                value.map(str::to_owned).map_err(|_| Malformed::Subject)
            })
            .collect()
    };
    let names = texts(
        subject
            .iter_common_name()
            .map(|name| name.as_str())
            .collect(),
    )?;
    let organizations = texts(
        subject
            .iter_organization()
            .map(|name| name.as_str())
            .collect(),
    )?;
    if names == [user] && organizations == [ORGANIZATION] {
        Ok(())
    } else {
        Err(Malformed::Subject)
    }
}

fn alternative_names(
    request: &X509CertificationRequest<'_>,
) -> Result<(BTreeSet<String>, BTreeSet<IpAddr>), Malformed> {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension else {
            continue;
        };
        for name in &alternative.general_names {
            match name {
                GeneralName::DNSName(name) => _ = names.insert((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    _ = addresses.insert(ip(bytes).ok_or(Malformed::Names)?);
                }
                _ => return Err(Malformed::Names),
            }
        }
    }
    if names.is_empty() && addresses.is_empty() {
        return Err(Malformed::Names);
    }
    Ok((names, addresses))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use serde_json::json;

    use super::*;

    struct Request<'a> {
        common_name: &'a str,
        organization: &'a str,
        names: Vec<SanType>,
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn address(text: &str) -> SanType {
        SanType::IpAddress(text.parse().unwrap())
    }

    fn good() -> Request<'static> {
        Request {
            common_name: "system:node:n1",
            organization: "system:nodes",
            names: vec![dns("n1"), address("10.0.2.15")],
        }
    }

    fn object(request: Request<'_>) -> Value {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, request.common_name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, request.organization);
        params.subject_alt_names = request.names;
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({"spec": {
            "username": "system:node:n1",
            "usages": ["digital signature", "server auth"],
            "request": STANDARD.encode(pem),
        }})
    }

    fn node() -> Node {
        Node::of(&json!({
            "metadata": {"name": "n1"},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "10.0.2.15"},
                {"type": "Hostname", "address": "n1"},
            ]},
        }))
    }

    #[test]
    fn a_kubelets_request_for_its_own_names_is_approved() {
        let request = ServingRequest::parse(&object(good())).unwrap();
        assert_eq!(request.node_name(), "n1");
        assert_eq!(request.verdict(&node()), Verdict::Approve);
    }

    #[test]
    fn names_and_addresses_of_others_are_left() {
        for (extra, word) in [
            (dns("kubernetes.default"), "kubernetes.default"),
            (address("10.96.0.1"), "10.96.0.1"),
        ] {
            let mut request = good();
            request.names.push(extra);
            let request = ServingRequest::parse(&object(request)).unwrap();
            let Verdict::Leave(reason) = request.verdict(&node()) else {
                panic!("approved")
            };
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn wrong_subjects_are_malformed() {
        let parse = |request| ServingRequest::parse(&object(request)).unwrap_err();
        assert_eq!(
            parse(Request {
                common_name: "system:node:n2",
                ..good()
            }),
            Malformed::Subject
        );
        assert_eq!(
            parse(Request {
                organization: "system:masters",
                ..good()
            }),
            Malformed::Subject
        );
        assert_eq!(
            parse(Request {
                names: vec![],
                ..good()
            }),
            Malformed::Names
        );
        let uri = SanType::URI("spiffe://x".try_into().unwrap());
        assert_eq!(
            parse(Request {
                names: vec![uri],
                ..good()
            }),
            Malformed::Names
        );
    }

    #[test]
    fn wrong_users_and_usages_are_malformed() {
        let mut request = object(good());
        request["spec"]["username"] = json!("alice");
        assert_eq!(ServingRequest::parse(&request), Err(Malformed::User));
        let mut request = object(good());
        request["spec"]["usages"] = json!(["digital signature", "client auth"]);
        assert_eq!(ServingRequest::parse(&request), Err(Malformed::Usages));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let request = json!({"spec": {
                "username": "system:node:n1",
                "usages": ["digital signature", "server auth"],
                "request": STANDARD.encode(&bytes),
            }});
            prop_assert!(ServingRequest::parse(&request).is_err());
        }
    }
}

//! The list of certificates of a node, as data.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::authority::Authority;
use crate::facts::{Datastore, NodeFacts};

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To dial.
    Client,
    /// To listen.
    Server,
    /// Both: etcd's peers, and etcd itself, which dials its own client port.
    ClientAndServer,
}

/// Where an identity's key lives and which one process reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Custody {
    /// Kept on STATE for people; no process of the node reads it.
    Operator,
    /// Kept on STATE, copied to the secrets folder of this user.
    User(&'static str),
    /// Made for kubelet's first start; from then on kubelet renews it itself with a
    /// certificate request, so the file in its store is the truth and STATE has no copy.
    Kubelet,
}

/// One certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// File stem, on STATE and in the reader's folder.
    pub name: &'static str,
    /// Who signs it.
    pub issuer: Authority,
    /// Common name: the user's name for a client.
    pub common_name: String,
    /// Organizations: the user's groups for a client.
    pub organizations: Vec<String>,
    /// DNS names it serves.
    pub dns_names: BTreeSet<String>,
    /// Addresses it serves.
    pub addresses: BTreeSet<IpAddr>,
    /// What it may be used for.
    pub usage: Usage,
    /// Where its key lives.
    pub custody: Custody,
}

/// Everything a node's PKI consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The authorities to have.
    pub authorities: Vec<Authority>,
    /// The certificates to have.
    pub identities: Vec<Identity>,
}

/// The user that runs the API server.
pub(crate) const KUBE_APISERVER: &str = "kube-apiserver";
/// The user that runs the controller manager, the only reader of the cluster authority's key.
pub(crate) const KUBE_CONTROLLER_MANAGER: &str = "kube-controller-manager";
const KUBE_SCHEDULER: &str = "kube-scheduler";
const KUBE_PROXY: &str = "kube-proxy";
const CLUSTERD: &str = "clusterd";
const ETCD: &str = "etcd";

/// The group with unrestricted rights that needs no RBAC object to exist first.
const MASTERS: &str = "system:masters";

/// Lists the authorities and certificates of a controller that also runs pods.
#[must_use]
pub fn plan(facts: &NodeFacts) -> Plan {
    let mut authorities = vec![Authority::Cluster, Authority::FrontProxy];
    let mut identities = cluster_clients();
    identities.extend(cluster_servers(facts));
    identities.extend(kubelet_pairs(facts));
    identities.push(client(
        "front-proxy-client",
        Authority::FrontProxy,
        "front-proxy-client",
        &[],
        Custody::User(KUBE_APISERVER),
    ));
    if facts.datastore == Datastore::Etcd {
        authorities.push(Authority::Etcd);
        identities.extend(etcd_identities(facts));
    }
    Plan {
        authorities,
        identities,
    }
}

fn cluster_clients() -> Vec<Identity> {
    let cluster_client = |name, common_name, organizations, custody| {
        client(
            name,
            Authority::Cluster,
            common_name,
            organizations,
            custody,
        )
    };
    vec![
        cluster_client("admin", "keelson:admin", &[MASTERS], Custody::Operator),
        // clusterd applies any manifest, RBAC included, before any binding exists.
        cluster_client(
            "client",
            "keelson:clusterd",
            &[MASTERS],
            Custody::User(CLUSTERD),
        ),
        // Its right to kubelets comes from a ClusterRoleBinding to system:kubelet-api-admin.
        cluster_client(
            "kubelet-client",
            "keelson:kube-apiserver",
            &[],
            Custody::User(KUBE_APISERVER),
        ),
        cluster_client(
            "client",
            "system:kube-controller-manager",
            &[],
            Custody::User(KUBE_CONTROLLER_MANAGER),
        ),
        cluster_client(
            "client",
            "system:kube-scheduler",
            &[],
            Custody::User(KUBE_SCHEDULER),
        ),
        cluster_client(
            "client",
            "system:kube-proxy",
            &[],
            Custody::User(KUBE_PROXY),
        ),
    ]
}

fn cluster_servers(facts: &NodeFacts) -> Vec<Identity> {
    let domain = &facts.cluster_domain;
    let api_names = [
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("kubernetes.default.svc.{domain}"),
    ];
    let mut api = server(
        "serving",
        Authority::Cluster,
        "kube-apiserver",
        Custody::User(KUBE_APISERVER),
    );
    api.dns_names.extend(api_names);
    api.dns_names.insert(facts.node_name.clone());
    api.addresses.extend(&facts.node_addresses);
    api.addresses.insert(facts.api_service_address);
    vec![
        api,
        server(
            "serving",
            Authority::Cluster,
            "kube-controller-manager",
            Custody::User(KUBE_CONTROLLER_MANAGER),
        ),
        server(
            "serving",
            Authority::Cluster,
            "kube-scheduler",
            Custody::User(KUBE_SCHEDULER),
        ),
    ]
}

/// kubelet compares these with what it would request itself: same name, same group, and at
/// least every name and address that the Node reports.
fn kubelet_pairs(facts: &NodeFacts) -> [Identity; 2] {
    let user = format!("system:node:{}", facts.node_name);
    let pair = |name, usage| Identity {
        name,
        issuer: Authority::Cluster,
        common_name: user.clone(),
        organizations: vec!["system:nodes".to_owned()],
        dns_names: BTreeSet::new(),
        addresses: BTreeSet::new(),
        usage,
        custody: Custody::Kubelet,
    };
    let mut serving = pair("kubelet-server", Usage::Server);
    serving.dns_names.insert(facts.node_name.clone());
    serving.addresses.extend(&facts.node_addresses);
    [pair("kubelet-client", Usage::Client), serving]
}

fn etcd_identities(facts: &NodeFacts) -> Vec<Identity> {
    let member = |name| {
        let mut member = server(name, Authority::Etcd, "etcd", Custody::User(ETCD));
        member.usage = Usage::ClientAndServer;
        member.dns_names.insert(facts.node_name.clone());
        member.addresses.extend(&facts.node_addresses);
        member
    };
    vec![
        member("serving"),
        member("peer"),
        client(
            "etcd-client",
            Authority::Etcd,
            "kube-apiserver",
            &[],
            Custody::User(KUBE_APISERVER),
        ),
    ]
}

pub(crate) fn client(
    name: &'static str,
    issuer: Authority,
    common_name: &str,
    organizations: &[&'static str],
    custody: Custody,
) -> Identity {
    Identity {
        name,
        issuer,
        common_name: common_name.to_owned(),
        organizations: organizations.iter().map(|&name| name.to_owned()).collect(),
        dns_names: BTreeSet::new(),
        addresses: BTreeSet::new(),
        usage: Usage::Client,
        custody,
    }
}

/// A server reached on the node itself; callers add the names others know it by.
pub(crate) fn server(
    name: &'static str,
    issuer: Authority,
    common_name: &str,
    custody: Custody,
) -> Identity {
    Identity {
        name,
        issuer,
        common_name: common_name.to_owned(),
        organizations: Vec::new(),
        dns_names: BTreeSet::from(["localhost".to_owned()]),
        addresses: BTreeSet::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]),
        usage: Usage::Server,
        custody,
    }
}

impl Identity {
    /// The file that holds certificate and key on STATE; none for kubelet's own store.
    #[must_use]
    pub fn vault_name(&self) -> Option<String> {
        match self.custody {
            Custody::Operator => Some(format!("{}.pem", self.name)),
            Custody::User(user) => Some(format!("{user}-{}.pem", self.name)),
            Custody::Kubelet => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::facts::test_facts;

    #[test]
    fn every_key_has_exactly_one_reader_and_one_place() {
        for datastore in [Datastore::Etcd, Datastore::Sqlite] {
            let mut places = BTreeMap::new();
            for identity in plan(&test_facts(datastore)).identities {
                let place = match &identity.custody {
                    Custody::Kubelet => format!("kubelet/{}", identity.name),
                    _ => identity.vault_name().unwrap(),
                };
                let previous = places.insert(place.clone(), identity.custody.clone());
                assert_eq!(previous, None, "two identities share {place}");
            }
        }
    }

    #[test]
    fn every_identity_is_signed_by_an_authority_of_the_plan() {
        for datastore in [Datastore::Etcd, Datastore::Sqlite] {
            let plan = plan(&test_facts(datastore));
            for identity in &plan.identities {
                assert!(plan.authorities.contains(&identity.issuer), "{identity:?}");
            }
        }
    }

    #[test]
    fn only_people_and_clusterd_are_masters() {
        let masters: Vec<_> = plan(&test_facts(Datastore::Etcd))
            .identities
            .into_iter()
            .filter(|identity| identity.organizations == [MASTERS])
            .map(|identity| identity.common_name)
            .collect();
        assert_eq!(masters, ["keelson:admin", "keelson:clusterd"]);
    }

    #[test]
    fn request_headers_have_an_authority_of_their_own() {
        let plan = plan(&test_facts(Datastore::Etcd));
        for identity in plan.identities {
            let front_proxy = identity.issuer == Authority::FrontProxy;
            assert_eq!(front_proxy, identity.name == "front-proxy-client");
        }
    }

    #[test]
    fn sqlite_needs_no_etcd_certificates() {
        let plan = plan(&test_facts(Datastore::Sqlite));
        assert!(!plan.authorities.contains(&Authority::Etcd));
        assert!(plan.identities.iter().all(|i| i.issuer != Authority::Etcd));
    }

    #[test]
    fn the_api_server_serves_every_name_clients_use() {
        let plan = plan(&test_facts(Datastore::Etcd));
        let api = plan
            .identities
            .iter()
            .find(|identity| identity.common_name == "kube-apiserver" && identity.name == "serving")
            .unwrap();
        for name in [
            "localhost",
            "keelson-0a1b2c",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ] {
            assert!(api.dns_names.contains(name), "{name}");
        }
        for address in ["127.0.0.1", "10.0.2.15", "fd00::15", "10.96.0.1"] {
            assert!(
                api.addresses.contains(&address.parse().unwrap()),
                "{address}"
            );
        }
    }
}

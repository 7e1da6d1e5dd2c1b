//! Brings the PKI up to date and hands every process its part.

pub(crate) mod api;
pub(crate) mod inventory;
pub(crate) mod people;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keelson_api::v1alpha1::Certificate;
use keelson_durable::{Owner, ReplaceError};
use keelson_pki::{
    Authority, Custody, DeliverError, Delivery, DirectoryVault, EstablishError, Established,
    NodeFacts, deliver, establish, kubelet_pair, plan,
};
use keelson_service::{Accounts, AccountsError};
use time::OffsetDateTime;

use crate::facts::Facts;
use crate::paths::Paths;
use crate::render::{self, RenderError};

/// The PKI could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificatesError {
    /// The image's users cannot be read.
    #[error("the users of the image are not known")]
    Accounts(#[from] AccountsError),
    /// A key could not be handed to its reader.
    #[error("cannot hand a key to {user}")]
    Deliver {
        user: &'static str,
        #[source]
        source: DeliverError,
    },
    /// The authorities or certificates could not be made.
    #[error(transparent)]
    Establish(#[from] EstablishError),
    /// A folder cannot be made.
    #[error("cannot make the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// kubelet's first certificates cannot be put into its store.
    #[error("cannot put a certificate into kubelet's store")]
    KubeletStore(#[source] ReplaceError),
    /// STATE has no keys, but DATA a cluster that was made with some.
    #[error(
        "STATE holds no keys, but {} holds the objects of a cluster: with new keys nothing in it \
         could be used, so none are made; put STATE back from a backup, or write the image to the \
         disk again to start a new cluster",
        datastore.display()
    )]
    KeysLost { datastore: PathBuf },
    /// A file for everyone, or from a template, could not be made.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A reader is not a user of the image.
    #[error("the image has no user {0}")]
    UnknownUser(&'static str),
}

/// What was brought up to date.
pub(crate) struct BroughtUp {
    /// For people, with every right in the cluster.
    pub(crate) kubeconfig: String,
    /// Every certificate of the cluster, but for kubelet's own.
    pub(crate) inventory: Vec<Certificate>,
    /// Services that read their pair only when they start, and whose pair is a new one. All
    /// others look at their files at every handshake or within minutes.
    pub(crate) restarts: BTreeSet<&'static str>,
}

/// Makes what is missing or due and hands it out.
pub(crate) fn bring_up(
    paths: &Paths,
    node: &NodeFacts,
    facts: &Facts,
    now: OffsetDateTime,
) -> Result<BroughtUp, CertificatesError> {
    let accounts = Accounts::read(paths.root())?;
    let vault_folder = paths.vault();
    make_folder(&vault_folder)?;
    look_for_a_cluster_without_keys(paths)?;
    let plan = plan(node);
    let established = establish(&mut DirectoryVault::new(vault_folder), &plan, now)?;
    let mut restarts = BTreeSet::new();
    for note in &established.notes {
        tracing::info!("{note}");
        // Its client for the API server is made once.
        if note.name == "clusterd-client.pem" {
            restarts.insert("clusterd");
        }
    }
    for (file, content) in established.public_files() {
        render::publish(&paths.rendered().join(file), &content)?;
    }
    let mut deliveries = established.deliveries();
    deliveries.push(encryption_config(paths, &established)?);
    for delivery in &deliveries {
        hand_over(paths, &accounts, delivery)?;
    }
    if fill_kubelet_store(paths, &plan, &established, now)? {
        // It holds its pairs in memory and has just been given others because those are of no use.
        restarts.insert("kubelet");
    }
    Ok(BroughtUp {
        kubeconfig: kubeconfig(paths, &established, facts)?,
        inventory: inventory::of_cluster(&established),
        restarts,
    })
}

/// Keys come before a datastore, at every first boot and after every power cut in one. The node
/// API's own keys are older than any cluster.
fn look_for_a_cluster_without_keys(paths: &Paths) -> Result<(), CertificatesError> {
    let authority = paths.vault().join(Authority::Cluster.vault_name());
    if authority.exists() {
        return Ok(());
    }
    match paths.datastores().into_iter().find(|file| file.exists()) {
        Some(datastore) => Err(CertificatesError::KeysLost { datastore }),
        None => Ok(()),
    }
}

fn hand_over(
    paths: &Paths,
    accounts: &Accounts,
    delivery: &Delivery,
) -> Result<(), CertificatesError> {
    make_folder(&paths.secrets())?;
    let user = accounts
        .user(delivery.user)
        .ok_or(CertificatesError::UnknownUser(delivery.user))?;
    let owner = Owner {
        uid: user.uid,
        gid: user.gid,
    };
    deliver(&paths.secrets(), delivery, owner).map_err(|source| CertificatesError::Deliver {
        user: delivery.user,
        source,
    })
}

/// It holds the key, so it is a secret and no rendered file.
fn encryption_config(
    paths: &Paths,
    established: &Established,
) -> Result<Delivery, CertificatesError> {
    const FILE: &str = "encryption.yaml";
    let facts = BTreeMap::from([(
        "encryption-key".to_owned(),
        established.encryption_key().to_owned(),
    )]);
    Ok(Delivery {
        user: "kube-apiserver",
        file: FILE.to_owned(),
        content: render::fill(&paths.templates(), FILE, &facts)?,
    })
}

/// A valid pair in the store is used as it is, so no request needs to be approved before the
/// node works. kubelet's current pair may be a link to a dated file; the link is replaced.
fn fill_kubelet_store(
    paths: &Paths,
    plan: &keelson_pki::Plan,
    established: &Established,
    now: OffsetDateTime,
) -> Result<bool, CertificatesError> {
    let mut replaced = false;
    let store = paths.kubelet_store();
    make_folder(&store)?;
    let kubelets = |identity: &&keelson_pki::Identity| identity.custody == Custody::Kubelet;
    for identity in plan.identities.iter().filter(kubelets) {
        let path = store.join(format!("{}-current.pem", identity.name));
        let existing = std::fs::read(&path).ok();
        if let Some((content, why)) = kubelet_pair(existing.as_deref(), identity, established, now)?
        {
            keelson_durable::replace(&path, content.as_bytes(), 0o600)
                .map_err(CertificatesError::KubeletStore)?;
            tracing::info!("made {} because {why}", identity.name);
            replaced = true;
        }
    }
    Ok(replaced)
}

fn kubeconfig(
    paths: &Paths,
    established: &Established,
    facts: &Facts,
) -> Result<String, CertificatesError> {
    let authority = established
        .authorities
        .get(&Authority::Cluster)
        .ok_or(EstablishError::NoAuthority(Authority::Cluster))?;
    let pair = established
        .operator_pair()
        .ok_or(EstablishError::NoAuthority(Authority::Cluster))?;
    let mut facts = facts.clone();
    // Go takes the block it wants out of a file that holds both.
    let pair = STANDARD.encode(pair);
    facts.extend([
        (
            "cluster-ca-base64".to_owned(),
            STANDARD.encode(authority.certificate_pem()),
        ),
        ("admin-certificate-base64".to_owned(), pair.clone()),
        ("admin-key-base64".to_owned(), pair),
    ]);
    Ok(render::fill(
        &paths.templates(),
        "admin.kubeconfig",
        &facts,
    )?)
}

fn make_folder(path: &Path) -> Result<(), CertificatesError> {
    std::fs::create_dir_all(path).map_err(|source| CertificatesError::Folder {
        path: path.to_owned(),
        source,
    })
}

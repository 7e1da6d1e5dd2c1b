//! The list of files made from templates, as data, and the one function that makes them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use keelson_config::RegistryMirror;
use keelson_durable::ReplaceError;
use keelson_service::{ExpandError, expand};

use crate::facts::Facts;

/// One file made from one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendering {
    /// File name in the templates folder.
    pub(crate) template: &'static str,
    /// Where it goes, relative to the folder of rendered files.
    pub(crate) destination: String,
    /// Facts of this file alone.
    pub(crate) own_facts: BTreeMap<&'static str, String>,
}

/// A file could not be made from its template.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    /// The template refers to what is not known.
    #[error("cannot fill the template {template}")]
    Expand {
        template: &'static str,
        #[source]
        source: ExpandError,
    },
    /// The folder cannot be made.
    #[error("cannot make the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What is not wanted any more cannot be removed.
    #[error("cannot remove {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The template cannot be read.
    #[error("cannot read the template {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write a rendered file")]
    Write(#[from] ReplaceError),
}

/// What containerd needs: known as soon as the configuration is.
pub(crate) fn early(mirrors: &[RegistryMirror]) -> Vec<Rendering> {
    let mut renderings = vec![plain("containerd.toml"), plain("cni.conflist")];
    renderings.extend(mirrors.iter().map(|mirror| Rendering {
        template: if mirror.insecure_skip_verify {
            "registry-hosts-skip-verify.toml"
        } else {
            "registry-hosts.toml"
        },
        destination: format!("{MIRRORS}/{}/hosts.toml", mirror.host),
        own_facts: BTreeMap::from([("mirror-endpoint", mirror.endpoint.to_string())]),
    }));
    renderings
}

/// containerd's folder of registries, one folder each.
const MIRRORS: &str = "certs.d";

/// Removes mirrors that are not among these: containerd asks whatever it finds.
pub(crate) fn remove_other_mirrors(
    rendered: &Path,
    wanted: &[Rendering],
) -> Result<(), RenderError> {
    let folder = rendered.join(MIRRORS);
    let Ok(present) = std::fs::read_dir(&folder) else {
        return Ok(());
    };
    for entry in present.filter_map(Result::ok) {
        let path = entry.path();
        let is_wanted =
            |rendering: &Rendering| rendered.join(&rendering.destination).starts_with(&path);
        if !wanted.iter().any(is_wanted) {
            std::fs::remove_dir_all(&path)
                .map_err(|source| RenderError::Remove { path, source })?;
        }
    }
    Ok(())
}

/// What needs the node's address or the PKI.
pub(crate) fn late() -> Vec<Rendering> {
    let mut renderings: Vec<_> = [
        "audit-policy.yaml",
        "authentication.yaml",
        "kube-proxy.yaml",
        "kube-scheduler.yaml",
        "kubelet.yaml",
    ]
    .map(plain)
    .into();
    renderings.extend(
        ["kube-controller-manager", "kube-proxy", "kube-scheduler"]
            .map(|user| kubeconfig(user, format!("/run/keelson/secrets/{user}/client.pem"))),
    );
    renderings.push(kubeconfig(
        "kubelet",
        "/var/lib/kubelet/pki/kubelet-client-current.pem".to_owned(),
    ));
    renderings
}

/// Fills a template.
pub(crate) fn fill(
    templates: &Path,
    template: &'static str,
    facts: &Facts,
) -> Result<String, RenderError> {
    let path = templates.join(template);
    let text =
        std::fs::read_to_string(&path).map_err(|source| RenderError::Read { path, source })?;
    expand(&text, facts).map_err(|source| RenderError::Expand { template, source })
}

/// Makes one file; one that has the content already stays as it is.
pub(crate) fn render(
    templates: &Path,
    rendered: &Path,
    rendering: &Rendering,
    facts: &Facts,
) -> Result<(), RenderError> {
    let mut facts = facts.clone();
    facts.extend(
        rendering
            .own_facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    let content = fill(templates, rendering.template, &facts)?;
    publish(&rendered.join(&rendering.destination), &content)
}

/// Writes a file everyone may read, unless it has this content already.
pub(crate) fn publish(path: &Path, content: &str) -> Result<(), RenderError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| RenderError::Folder {
            path: folder.to_owned(),
            source,
        })?;
    }
    if std::fs::read(path).is_ok_and(|present| present == content.as_bytes()) {
        return Ok(());
    }
    keelson_durable::replace(path, content.as_bytes(), 0o644)?;
    Ok(())
}

fn plain(template: &'static str) -> Rendering {
    Rendering {
        template,
        destination: template.to_owned(),
        own_facts: BTreeMap::new(),
    }
}

fn kubeconfig(component: &str, pair: String) -> Rendering {
    Rendering {
        template: "component.kubeconfig",
        destination: format!("{component}.kubeconfig"),
        own_facts: BTreeMap::from([
            ("component", component.to_owned()),
            ("component-pair", pair),
        ]),
    }
}

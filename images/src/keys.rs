//! The builder's keys: root keys, which say which release keys count, and the release key that
//! signs builds.
//!
//! They live in a folder of their own, outside of the project:
//!
//! | file | what |
//! |---|---|
//! | `root.key`, `root-2.key`… | private root keys (PEM); move them to a safe place and back for a rotation |
//! | `release.key` | the private release key (PEM) |
//! | `certificate` | one certificate of the release key from each root key |
//! | `trust` | public root keys and the lowest epoch that counts: goes into images and loaders |
//!
//! Nodes follow a rotation without being touched: a build signed by the new release key counts for
//! every node that trusts the root. A node trusts what its own image says, so a withdrawn key
//! ([`Keys::rotate`] with `withdraw`) counts no longer once a node runs a build made after that.

mod pem;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use keelson_bootstate::signature::{
    CERTIFICATE_SIZE, KeyCertificate, PublicKey, ReleaseKey, SigningKey, Trust, TrustError,
};
use keelson_durable::ReplaceError;

/// The variable that names the folder of the keys.
pub const KEYS_VARIABLE: &str = "KEELSON_KEYS";

const ROOT: &str = "root.key";
const RELEASE: &str = "release.key";
const CERTIFICATE: &str = "certificate";
const TRUST: &str = "trust";

/// All keys of a builder.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    release: [u8; 32],
    certificates: Vec<KeyCertificate>,
    trust: Trust,
}

/// Why there are no keys to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file does not hold what it should.
    #[error("{path} is not {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// The certificate is for another key: a rotation was interrupted.
    #[error(
        "the certificates in {folder} are not for the release key there: make a new one with `keelson-build keys rotate`"
    )]
    Certificate {
        /// The folder of the keys.
        folder: PathBuf,
    },
    /// There is no folder for them.
    #[error("no place for the release keys: set {KEYS_VARIABLE} or HOME")]
    NoPlace,
    /// Without a root key nothing can be certified.
    #[error(
        "there is no root key in {folder}: bring {ROOT} back from where it is kept, for as long as this takes"
    )]
    NoRoot {
        /// The folder of the keys.
        folder: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("cannot make a key: no random numbers")]
    Random(#[source] getrandom::Error),
    /// A file or folder cannot be read or made.
    #[error("cannot use {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The list of root keys cannot be what was asked for.
    #[error("{path} cannot be changed so")]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TrustError,
    },
    /// A file cannot be written.
    #[error("cannot save a key")]
    Write(#[source] ReplaceError),
}

/// Where the keys are: what [`KEYS_VARIABLE`] says, else `~/.config/keelson/release-keys`.
///
/// # Errors
/// When nothing says where.
pub fn folder() -> Result<PathBuf, KeysError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = set(KEYS_VARIABLE) {
        return Ok(folder.into());
    }
    let home = set("HOME").ok_or(KeysError::NoPlace)?;
    Ok(Path::new(&home).join(".config/keelson/release-keys"))
}

impl Keys {
    /// The keys in `folder`; makes them when it does not exist, and says so.
    ///
    /// # Errors
    /// When they cannot be read or made.
    pub fn ensure(folder: &Path, say: &dyn Fn(&str)) -> Result<Self, KeysError> {
        if !folder.exists() {
            Self::make(folder)?;
            say(&format!(
                "made new keys in {}: keep them, nodes take upgrades from nobody else",
                folder.display()
            ));
        }
        Self::load(folder)
    }

    /// The keys in `folder`.
    ///
    /// # Errors
    /// When they are not there or do not belong together.
    pub fn load(folder: &Path) -> Result<Self, KeysError> {
        let release = read_key(&folder.join(RELEASE))?;
        let path = folder.join(CERTIFICATE);
        let bytes = read(&path)?;
        let certificates: Option<Vec<_>> = bytes
            .chunks(CERTIFICATE_SIZE)
            .map(KeyCertificate::decode)
            .collect();
        let certificates = certificates.ok_or(KeysError::Content {
            path,
            what: "a list of certificates",
        })?;
        let key = SigningKey::from_seed(&release).public();
        if certificates.is_empty() || certificates.iter().any(|one| one.key != key) {
            return Err(KeysError::Certificate {
                folder: folder.into(),
            });
        }
        Ok(Self {
            trust: load_trust(&folder.join(TRUST))?,
            folder: folder.into(),
            release,
            certificates,
        })
    }

    /// Made elsewhere and renamed, so that the folder is there with all keys or not at all.
    fn make(folder: &Path) -> Result<(), KeysError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeysError::Read { path, source }
        };
        let above = folder.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(above).map_err(failed(above))?;
        let new = folder.with_extension("new");
        // What an interrupted attempt left signs nothing.
        if new.exists() {
            fs::remove_dir_all(&new).map_err(failed(&new))?;
        }
        let private = DirBuilder::new().mode(0o700).create(&new);
        private.map_err(failed(&new))?;
        let root = new_key(&new.join(ROOT))?;
        let trust = Trust::new(&[root.public()], 1);
        let trust = trust.map_err(|source| KeysError::Trust {
            path: new.join(TRUST),
            source,
        })?;
        save(&new.join(TRUST), trust.encode().as_bytes(), 0o644)?;
        new_release(&new, &[root], 1)?;
        fs::rename(&new, folder).map_err(failed(folder))?;
        keelson_durable::sync_folder(above).map_err(KeysError::Write)
    }

    /// Makes a release key of the next epoch, certified by every root key that is here. With
    /// `withdraw`, those before it no longer count.
    ///
    /// # Errors
    /// When no root key is here or a file cannot be written.
    pub fn rotate(folder: &Path, withdraw: bool) -> Result<Self, KeysError> {
        let path = folder.join(TRUST);
        let mut trust = load_trust(&path)?;
        let roots = roots(folder)?;
        let last = read(&folder.join(CERTIFICATE))?;
        let last = KeyCertificate::decode(&last).map_or(0, |certificate| certificate.epoch);
        let epoch = last.max(trust.minimum_epoch()).saturating_add(1);
        new_release(folder, &roots, epoch)?;
        if withdraw {
            let all: Vec<PublicKey> = trust.roots().collect();
            trust = new_trust(&path, &all, epoch)?;
            save(&path, trust.encode().as_bytes(), 0o644)?;
        }
        Self::load(folder)
    }

    /// Makes another root key and trusts it too; it certifies the release key there is. Builds
    /// made from now on bring it to the nodes, so that the first one can be given up later.
    ///
    /// # Errors
    /// When there are too many or a file cannot be written.
    pub fn add_root(folder: &Path) -> Result<Self, KeysError> {
        let keys = Self::load(folder)?;
        let free = (2..).map(|number| folder.join(format!("root-{number}.key")));
        let path = free
            .into_iter()
            .find(|path| !path.exists())
            .unwrap_or_else(|| folder.join(ROOT));
        let trust_path = folder.join(TRUST);
        let mut all: Vec<PublicKey> = keys.trust.roots().collect();
        // Seen to fit before anything is written.
        all.push(PublicKey::new([0; 32]));
        new_trust(&trust_path, &all, keys.trust.minimum_epoch())?;
        let root = new_key(&path)?;
        all.pop();
        all.push(root.public());
        let trust = new_trust(&trust_path, &all, keys.trust.minimum_epoch())?;
        let mut certificates = keys.certificates;
        if let Some(first) = certificates.first().copied() {
            certificates.push(root.certify(first.key, first.epoch));
        }
        save_certificates(folder, &certificates)?;
        save(&trust_path, trust.encode().as_bytes(), 0o644)?;
        Self::load(folder)
    }

    /// No longer trusts a root key; its certificate goes with it.
    ///
    /// # Errors
    /// When it is the last one, or no certificate would be left, or a file cannot be written.
    pub fn drop_root(folder: &Path, root: PublicKey) -> Result<Self, KeysError> {
        let keys = Self::load(folder)?;
        let trust_path = folder.join(TRUST);
        let left: Vec<PublicKey> = keys.trust.roots().filter(|one| *one != root).collect();
        let trust = new_trust(&trust_path, &left, keys.trust.minimum_epoch())?;
        let mut certificates = keys.certificates;
        certificates.retain(|one| one.root != root);
        if certificates.is_empty() {
            return Err(KeysError::NoRoot {
                folder: folder.into(),
            });
        }
        save_certificates(folder, &certificates)?;
        save(&trust_path, trust.encode().as_bytes(), 0o644)?;
        Self::load(folder)
    }

    /// The release key, once with each of its certificates.
    pub fn release(&self) -> Vec<ReleaseKey> {
        self.certificates
            .iter()
            .filter_map(|one| ReleaseKey::new(SigningKey::from_seed(&self.release), *one))
            .collect()
    }

    /// The certificates of the release key.
    pub fn certificates(&self) -> &[KeyCertificate] {
        &self.certificates
    }

    /// What images and loaders trust.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The file with it.
    pub fn trust_file(&self) -> PathBuf {
        self.folder.join(TRUST)
    }

    /// The file with the certificates: another one whenever builds are signed otherwise.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// The folder of the keys.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The root keys whose private half is here.
fn roots(folder: &Path) -> Result<Vec<SigningKey>, KeysError> {
    let list = |source| KeysError::Read {
        path: folder.into(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("root") && name.ends_with(".key") {
            paths.push(folder.join(&*name));
        }
    }
    if paths.is_empty() {
        return Err(KeysError::NoRoot {
            folder: folder.into(),
        });
    }
    paths.sort();
    paths
        .iter()
        .map(|path| Ok(SigningKey::from_seed(&read_key(path)?)))
        .collect()
}

/// A cut between the two files leaves what [`Keys::load`] refuses and a second rotation mends.
fn new_release(folder: &Path, roots: &[SigningKey], epoch: u32) -> Result<(), KeysError> {
    let release = new_key(&folder.join(RELEASE))?;
    let certificates: Vec<_> = roots
        .iter()
        .map(|root| root.certify(release.public(), epoch))
        .collect();
    save_certificates(folder, &certificates)
}

fn new_key(path: &Path) -> Result<SigningKey, KeysError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeysError::Random)?;
    save(path, pem::encode(&seed).as_bytes(), 0o600)?;
    Ok(SigningKey::from_seed(&seed))
}

fn read_key(path: &Path) -> Result<[u8; 32], KeysError> {
    let text = read(path)?;
    str::from_utf8(&text)
        .ok()
        .and_then(pem::decode)
        .ok_or(KeysError::Content {
            path: path.into(),
            what: "an Ed25519 private key (PKCS#8, PEM)",
        })
}

fn load_trust(path: &Path) -> Result<Trust, KeysError> {
    Trust::decode(&read(path)?).map_err(|_| KeysError::Content {
        path: path.into(),
        what: "a list of trusted keys",
    })
}

fn new_trust(path: &Path, roots: &[PublicKey], minimum_epoch: u32) -> Result<Trust, KeysError> {
    Trust::new(roots, minimum_epoch).map_err(|source| KeysError::Trust {
        path: path.into(),
        source,
    })
}

fn save_certificates(folder: &Path, certificates: &[KeyCertificate]) -> Result<(), KeysError> {
    let bytes: Vec<u8> = certificates
        .iter()
        .flat_map(KeyCertificate::encode)
        .collect();
    save(&folder.join(CERTIFICATE), &bytes, 0o644)
}

fn read(path: &Path) -> Result<Vec<u8>, KeysError> {
    fs::read(path).map_err(|source| KeysError::Read {
        path: path.into(),
        source,
    })
}

fn save(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeysError> {
    keelson_durable::replace(path, bytes, mode).map_err(KeysError::Write)
}

#[cfg(test)]
mod tests;

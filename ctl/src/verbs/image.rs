//! `image`: what is in an update bundle, and whether it is what somebody we trust has signed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use keelson_bootstate::signature::{Signature, Trust};
use keelson_bundle::{
    BlockKind, BlockReader, Hash, Head, Manifest, Part, PartFacts, UnverifiedHead,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::arguments::{Output, VerifyImage};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, serialize};
use crate::table::fields;
use crate::terminal::print;
use crate::units::size;

pub(super) fn inspect(path: &Path, output: Output) -> Result<Exit, Failure> {
    let (_, head) = open(path)?;
    let manifest = head.claims().map_err(failed(path))?;
    let facts = Facts::of(&manifest, head.signatures());
    show(&facts, output.format)?;
    Ok(Exit::Ok)
}

pub(super) async fn verify(arguments: &VerifyImage) -> Result<Exit, Failure> {
    let path = &arguments.file;
    let trust = load_trust(arguments.trust.as_deref())?;
    let (mut file, head) = open(path)?;
    let signatures: Vec<Signature> = head.signatures().collect();
    let head = head.verify(&trust).map_err(failed(path))?;
    let end = file
        .get_ref()
        .metadata()
        .map_err(Failure::file("read", path))?
        .len();
    if end > head.file_size() {
        return Err(Failure::other(format!(
            "{}: {} bytes follow its last block",
            path.display(),
            end - head.file_size()
        )));
    }
    check_blocks(&head, &mut file, path).await?;
    let mut facts = Facts::of(head.manifest(), signatures.into_iter());
    facts.verified = Some(Signer {
        key: head.signer().key.to_string(),
        epoch: head.signer().epoch,
        root: head.signer().root.to_string(),
    });
    show(&facts, arguments.output.format)?;
    Ok(Exit::Ok)
}

/// What a delta holds is only known on the system that it was made against.
async fn check_blocks(head: &Head, file: &mut BufReader<File>, path: &Path) -> Result<(), Failure> {
    let mut blocks = BlockReader::new(head);
    let (mut boot, mut root) = (Sha256::new(), Sha256::new());
    for number in 0..head.blocks().len() {
        let stored = blocks.read(number, file).map_err(failed(path))?;
        let hash = match stored.block().part() {
            Part::Boot => &mut boot,
            Part::Root => &mut root,
        };
        if !matches!(stored.block().kind(), BlockKind::ZstdWithBase(_)) {
            hash.update(stored.unpack(None).map_err(failed(path))?);
        }
        // Ctrl-C is looked at here.
        tokio::task::yield_now().await;
    }
    if head.manifest().base().is_some() {
        return Ok(());
    }
    let facts = [head.manifest().boot(), head.manifest().root()];
    for (hash, PartFacts { sha256, .. }) in [boot, root].into_iter().zip(facts) {
        let found: [u8; 32] = hash.finalize().into();
        if Hash::from(found) != sha256 {
            return Err(Failure::other(format!(
                "{}: its blocks do not make the system that was signed",
                path.display()
            )));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<(BufReader<File>, UnverifiedHead), Failure> {
    let file = File::open(path).map_err(Failure::file("read", path))?;
    let mut file = BufReader::new(file);
    let head = UnverifiedHead::read(&mut file).map_err(failed(path))?;
    Ok((file, head))
}

fn load_trust(given: Option<&Path>) -> Result<Trust, Failure> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => builders_trust()
            .filter(|path| path.is_file())
            .ok_or_else(|| {
                Failure::usage(
                    "whom to trust? Give --trust FILE: whoever built the bundle has it as \
                 out/keelson.trust, and `keelsonctl cat /usr/share/keelson/trust` gets a node's",
                )
            })?,
    };
    let bytes = std::fs::read(&path).map_err(Failure::file("read", &path))?;
    Trust::decode(&bytes).map_err(failed(&path))
}

/// Where the build program keeps what its images trust.
fn builders_trust() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let keys = set("KEELSON_KEYS").map(PathBuf::from);
    let home = || set("HOME").map(PathBuf::from);
    let keys = keys.or_else(|| Some(home()?.join(".config/keelson/release-keys")))?;
    Some(keys.join("trust"))
}

fn failed<E: std::error::Error>(path: &Path) -> impl FnOnce(E) -> Failure {
    let path = path.to_owned();
    move |error| {
        let reason = keelson_control::chain(&error);
        Failure::other(format!("{}: {reason}", path.display()))
    }
}

/// What people and programs are shown of a bundle.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    name: String,
    version: String,
    architecture: String,
    platform: String,
    minimum_version: String,
    build_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    components: BTreeMap<String, String>,
    created: String,
    boot: PartFacts,
    root: PartFacts,
    block_size: u32,
    signatures: Vec<Signer>,
    /// Who of them counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Signer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Signer {
    key: String,
    epoch: u32,
    root: String,
}

impl Facts {
    fn of(manifest: &Manifest, signatures: impl Iterator<Item = Signature>) -> Self {
        Self {
            name: manifest.name().to_owned(),
            version: manifest.version().to_string(),
            architecture: manifest.architecture().to_string(),
            platform: manifest.platform().to_owned(),
            minimum_version: manifest.minimum_version().to_string(),
            build_id: manifest.build().to_string(),
            base: manifest.base().map(|base| base.to_string()),
            components: manifest.components().clone(),
            created: manifest.created().to_owned(),
            boot: manifest.boot(),
            root: manifest.root(),
            block_size: manifest.block_size(),
            signatures: signatures.map(|one| Signer::of(&one)).collect(),
            verified: None,
        }
    }
}

impl Signer {
    fn of(signature: &Signature) -> Self {
        let certificate = &signature.certificate;
        Self {
            key: certificate.key.to_string(),
            epoch: certificate.epoch,
            root: certificate.root.to_string(),
        }
    }

    fn line(&self) -> String {
        format!(
            "key {} of epoch {}, root {}",
            self.key, self.epoch, self.root
        )
    }
}

fn show(facts: &Facts, format: Format) -> Result<(), Failure> {
    if let Format::Json | Format::Yaml = format {
        return print(&serialize(facts, format)?);
    }
    let part = |part: PartFacts| format!("{}, SHA-256 {}", size(part.size), part.sha256);
    let signed = match (&facts.verified, facts.signatures.as_slice()) {
        (Some(signer), _) => format!("{} (trusted)", signer.line()),
        (None, []) => "by nobody".to_owned(),
        (None, all) => {
            let all: Vec<String> = all.iter().map(Signer::line).collect();
            format!("{} (not checked)", all.join("; "))
        }
    };
    let components: Vec<String> = facts
        .components
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let kind = match &facts.base {
        Some(base) => format!("delta against build {base}"),
        None => "whole system".to_owned(),
    };
    print(&fields(&[
        ("Name", facts.name.clone()),
        ("Version", facts.version.clone()),
        ("Build", facts.build_id.clone()),
        ("Content", kind),
        (
            "For",
            format!("{} ({})", facts.platform, facts.architecture),
        ),
        (
            "Replaces",
            format!("version {} and later", facts.minimum_version),
        ),
        ("Components", components.join(", ")),
        ("Created", facts.created.clone()),
        ("Boot part", part(facts.boot)),
        ("Root part", part(facts.root)),
        ("Signed", signed),
    ]))
}

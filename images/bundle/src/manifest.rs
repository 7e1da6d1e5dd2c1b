//! What a bundle says about itself: the signed manifest, parsed and checked.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keelson_bootstate::layout::MIB;
use keelson_bootstate::{BuildId, HEADER_SIZE};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::hash::{Hash, from_hex};

/// Smallest block: below it the index would weigh more than what it finds again.
pub(crate) const MIN_BLOCK: u32 = 64 * 1024;
/// Largest block: a node holds one in memory.
const MAX_BLOCK: u64 = 16 * MIB;

/// What a bundle is, for which machines, and how large it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) architecture: Architecture,
    pub(crate) platform: String,
    pub(crate) minimum_version: Version,
    pub(crate) build: BuildId,
    pub(crate) base: Option<BuildId>,
    pub(crate) components: BTreeMap<String, String>,
    pub(crate) created: String,
    pub(crate) header: Box<[u8; HEADER_SIZE]>,
    pub(crate) boot: PartFacts,
    pub(crate) root: PartFacts,
    pub(crate) block_size: u32,
    pub(crate) index_hash: Hash,
}

/// Processor family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit Arm.
    Arm64,
    /// 32-bit Arm with hardware floating point.
    Armv7,
}

/// Size and hash of one half of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFacts {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of all of them.
    pub sha256: Hash,
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A field has a value that cannot be.
    #[error("its {field} {reason}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What a value must be.
        reason: &'static str,
    },
    /// Not the JSON it should be.
    #[error("it is not the JSON that this program knows")]
    Json(#[source] serde_json::Error),
}

impl Manifest {
    /// Reads one; the values are in bounds, but only a signature makes them true.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        raw.try_into()
    }

    /// What the system is called: `keelson`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version of the system.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// Processors it is for.
    pub const fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Kind of machine it is for.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// The oldest version that it can replace.
    pub const fn minimum_version(&self) -> &Version {
        &self.minimum_version
    }

    /// Identity of the build.
    pub const fn build(&self) -> BuildId {
        self.build
    }

    /// The build that the blocks of a delta refer to; nothing for a full bundle.
    pub const fn base(&self) -> Option<BuildId> {
        self.base
    }

    /// Versions of the parts that keep something on a node's disk, by their names: a node knows
    /// which may follow each other.
    pub const fn components(&self) -> &BTreeMap<String, String> {
        &self.components
    }

    /// When it was made, in RFC 3339 and UTC.
    pub fn created(&self) -> &str {
        &self.created
    }

    /// The signed header of the slot, ready to be written.
    pub const fn header(&self) -> &[u8; HEADER_SIZE] {
        &self.header
    }

    /// The payload of the slot.
    pub const fn boot(&self) -> PartFacts {
        self.boot
    }

    /// The root file system with its hash tree.
    pub const fn root(&self) -> PartFacts {
        self.root
    }

    /// Plain bytes of every block but the last of each part.
    pub const fn block_size(&self) -> u32 {
        self.block_size
    }

    /// SHA-256 of the index.
    pub const fn index_hash(&self) -> &Hash {
        &self.index_hash
    }
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    name: String,
    version: Version,
    architecture: Architecture,
    platform: String,
    minimum_version: Version,
    build_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    #[serde(default)]
    components: BTreeMap<String, String>,
    created: String,
    header: String,
    boot: PartFacts,
    root: PartFacts,
    block_size: u32,
    index_sha256: Hash,
}

impl TryFrom<Raw> for Manifest {
    type Error = ManifestError;

    fn try_from(raw: Raw) -> Result<Self, ManifestError> {
        let wrong = |field, reason| ManifestError::Field { field, reason };
        let word = |field, text: &str| match is_word(text) {
            true => Ok(()),
            false => Err(wrong(field, "is not 1 to 63 of a-z, 0-9, - and .")),
        };
        word("name", &raw.name)?;
        word("platform", &raw.platform)?;
        for (name, version) in &raw.components {
            word("components", name)?;
            if !is_version(version) {
                return Err(wrong(
                    "components",
                    "have a version that is not 1 to 63 of a-z, A-Z, 0-9 and .+-~_",
                ));
            }
        }
        if raw.version.to_string().len() > 32 {
            return Err(wrong("version", "has more than 32 characters"));
        }
        if !is_utc_second(&raw.created) {
            return Err(wrong(
                "created",
                "is not a time such as 2026-01-31T23:59:59Z",
            ));
        }
        let build = |field, text: &str| {
            build_id(text).ok_or(wrong(field, "is not 32 hexadecimal digits in lower case"))
        };
        let header = STANDARD
            .decode(&raw.header)
            .ok()
            .and_then(|bytes| Box::<[u8; HEADER_SIZE]>::try_from(bytes.into_boxed_slice()).ok())
            .ok_or(wrong(
                "header",
                "is not a slot header of 4096 bytes in base64",
            ))?;
        if !raw.block_size.is_power_of_two()
            || raw.block_size < MIN_BLOCK
            || u64::from(raw.block_size) > MAX_BLOCK
        {
            return Err(wrong(
                "blockSize",
                "is not a power of two from 64 KiB to 16 MiB",
            ));
        }
        Ok(Self {
            build: build("buildId", &raw.build_id)?,
            base: raw.base.map(|base| build("base", &base)).transpose()?,
            name: raw.name,
            components: raw.components,
            version: raw.version,
            architecture: raw.architecture,
            platform: raw.platform,
            minimum_version: raw.minimum_version,
            created: raw.created,
            header,
            boot: raw.boot,
            root: raw.root,
            block_size: raw.block_size,
            index_hash: raw.index_sha256,
        })
    }
}

#[cfg(feature = "writer")]
impl Manifest {
    /// The bytes that are signed.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let raw = Raw {
            name: self.name.clone(),
            version: self.version.clone(),
            architecture: self.architecture,
            platform: self.platform.clone(),
            minimum_version: self.minimum_version.clone(),
            build_id: self.build.to_string(),
            base: self.base.map(|base| base.to_string()),
            components: self.components.clone(),
            created: self.created.clone(),
            header: STANDARD.encode(*self.header),
            boot: self.boot,
            root: self.root,
            block_size: self.block_size,
            index_sha256: self.index_hash,
        };
        let mut bytes = serde_json::to_vec_pretty(&raw)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// A build id is the beginning of a hash.
fn build_id(text: &str) -> Option<BuildId> {
    let id: [u8; 16] = from_hex(text)?;
    let mut hash = [0; 32];
    hash.split_at_mut(16).0.copy_from_slice(&id);
    Some(BuildId::from_payload_hash(&hash))
}

/// What may stand in a path, a line of a log or a table as it is.
fn is_word(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// The same for a version of any project.
fn is_version(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-~_".contains(&byte))
}

fn is_utc_second(text: &str) -> bool {
    let pattern = b"0000-00-00T00:00:00Z";
    text.len() == pattern.len()
        && text
            .bytes()
            .zip(pattern)
            .all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                other => byte == *other,
            })
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armv7 => "armv7",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One with these versions; its parts and header fit nothing.
    pub(crate) fn manifest(version: &str, minimum: &str, base: Option<BuildId>) -> Manifest {
        let facts = |size| PartFacts {
            size,
            sha256: Hash::of(b""),
        };
        Manifest {
            name: "keelson".into(),
            version: version.parse().unwrap(),
            architecture: Architecture::Amd64,
            platform: "amd64".into(),
            minimum_version: minimum.parse().unwrap(),
            build: BuildId::from_payload_hash(&[1; 32]),
            base,
            components: BTreeMap::new(),
            created: "2026-01-01T00:00:00Z".into(),
            header: Box::new([0; HEADER_SIZE]),
            boot: facts(1),
            root: facts(4096),
            block_size: MIN_BLOCK,
            index_hash: Hash::of(b""),
        }
    }

    fn text(base: Option<&str>) -> String {
        let base = base.map_or_else(String::new, |base| format!("\"base\": \"{base}\", "));
        let (hash, header) = ("ab".repeat(32), STANDARD.encode([0; HEADER_SIZE]));
        format!(
            "{{\"name\": \"keelson\", \"version\": \"0.2.0\", \"architecture\": \"amd64\", \"platform\": \"amd64\", \
             \"minimumVersion\": \"0.1.0\", \"buildId\": \"{id}\", {base}\"components\": {{\"etcd\": \"3.7.3\"}}, \"created\": \"2026-01-01T00:00:00Z\", \
             \"header\": \"{header}\", \"boot\": {{\"size\": 5, \"sha256\": \"{hash}\"}}, \
             \"root\": {{\"size\": 4096, \"sha256\": \"{hash}\"}}, \"blockSize\": 65536, \"indexSha256\": \"{hash}\"}}",
            id = "cd".repeat(16),
        )
    }

    #[test]
    fn what_is_read() {
        let read = Manifest::parse(text(Some(&"ef".repeat(16))).as_bytes()).unwrap();
        assert_eq!(read.version(), &Version::new(0, 2, 0));
        assert_eq!(read.build().to_string(), "cd".repeat(16));
        assert_eq!(
            read.base().map(|base| base.to_string()),
            Some("ef".repeat(16))
        );
        assert_eq!(read.boot().size, 5);
        assert_eq!(read.components()["etcd"], "3.7.3");
        assert_eq!(Manifest::parse(text(None).as_bytes()).unwrap().base(), None);
    }

    #[test]
    fn mistakes_are_named() {
        let good = text(None);
        for (from, to, expected) in [
            ("\"keelson\"", "\"Keel son\"", "its name is not"),
            (
                "\"platform\": \"amd64\"",
                "\"platform\": \"\"",
                "its platform is not",
            ),
            ("\"0.2.0\"", "\"0.2\"", "version"),
            (
                "\"0.2.0\"",
                "\"0.2.0-a23456789012345678901234567\"",
                "more than 32",
            ),
            ("T00:00:00Z", "T00:00:00", "its created is not"),
            ("\"cdcd", "\"CDcd", "its buildId is not"),
            (
                "\"buildId\": \"cd",
                "\"base\": \"00\", \"buildId\": \"cd",
                "its base is not",
            ),
            ("==\"", "=\"", "its header is not"),
            ("65536", "65537", "its blockSize is not"),
            ("65536", "32768", "its blockSize is not"),
            ("65536", "33554432", "its blockSize is not"),
            ("\"3.7.3\"", "\"3 7\"", "its components have"),
            ("\"etcd\"", "\"ET\"", "its components is not"),
            ("\"amd64\"", "\"mips\"", "mips"),
            ("\"blockSize\"", "\"blocksize\"", "blocksize"),
        ] {
            let wrong = good.replacen(from, to, 1);
            assert!(wrong != good, "{from}");
            let error = Manifest::parse(wrong.as_bytes()).unwrap_err();
            let text = match error {
                ManifestError::Json(source) => source.to_string(),
                field @ ManifestError::Field { .. } => field.to_string(),
            };
            assert!(text.contains(expected), "{to}: {text}");
        }
    }
}

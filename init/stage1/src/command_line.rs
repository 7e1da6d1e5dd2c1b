//! What the command line says: the image about its root file system, GRUB about this boot.

use std::io;

use keelson_bootstate::{Guid, Slot};
use keelson_control::StartReason;
use thiserror::Error;

/// Bytes of a SHA-256 in hexadecimal.
const HASH_DIGITS: usize = 64;

/// Longest salt of dm-verity, in hexadecimal.
const MAX_SALT_DIGITS: usize = 512;

/// The parts of the command line that concern stage 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// Root hash of the verity tree, lower-case hexadecimal.
    pub(crate) root_hash: String,
    /// Data blocks of 4096 bytes in front of the tree.
    pub(crate) data_blocks: u64,
    /// Salt in hexadecimal, `-` for none.
    pub(crate) salt: String,
    /// Disk to use where no loader names one.
    pub(crate) disk: Option<Guid>,
    /// Slot to use where no EFI loader names one; GRUB says it here.
    pub(crate) slot: Option<Slot>,
    /// What GRUB appends, if that started the kernel.
    pub(crate) grub: Option<Grub>,
}

/// What GRUB says about this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grub {
    /// The partition it read the kernel from.
    pub(crate) partition: Guid,
    /// Why it took this slot.
    pub(crate) why: Option<StartReason>,
    /// The slot that it found empty or damaged.
    pub(crate) skipped: Option<Slot>,
}

/// What is wrong with it.
#[derive(Debug, Error)]
pub(crate) enum CommandLineError {
    #[error("{key}={value:?} is not {expected}")]
    Invalid {
        key: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("{key}= is missing")]
    Missing { key: &'static str },
    #[error("cannot read /proc/cmdline")]
    Read(#[source] io::Error),
}

impl CommandLine {
    /// Reads the words of a command line. The first of several counts: the image's own words come
    /// first, and what a loader appends must not replace its hash.
    pub(crate) fn parse(text: &str) -> Result<Self, CommandLineError> {
        let find = |key: &'static str| {
            text.split_whitespace()
                .filter_map(|word| word.split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value)
        };
        let need = |key| find(key).ok_or(CommandLineError::Missing { key });
        let invalid = |key, value: &str, expected| CommandLineError::Invalid {
            key,
            value: value.chars().take(100).collect(),
            expected,
        };

        let hash = need("roothash")?;
        if hash.len() != HASH_DIGITS || !is_hex(hash) {
            return Err(invalid("roothash", hash, "64 hexadecimal digits"));
        }
        let blocks = need("keelson.verity_blocks")?;
        let data_blocks = match blocks.parse() {
            Ok(blocks @ 1..) => blocks,
            _ => {
                return Err(invalid(
                    "keelson.verity_blocks",
                    blocks,
                    "a number of blocks",
                ));
            }
        };
        let salt = need("keelson.verity_salt")?;
        let whole_bytes = is_hex(salt) && salt.len() % 2 == 0 && salt.len() <= MAX_SALT_DIGITS;
        if salt != "-" && (salt.is_empty() || !whole_bytes) {
            return Err(invalid(
                "keelson.verity_salt",
                salt,
                "hexadecimal bytes or \"-\"",
            ));
        }
        let disk = match find("keelson.disk") {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| invalid("keelson.disk", text, "a disk GUID"))?,
            ),
        };
        let slot = match find("keelson.slot") {
            None => None,
            Some(text) => Some(slot(text).ok_or_else(|| invalid("keelson.slot", text, "a or b"))?),
        };
        let grub = match find("keelson.loader") {
            Some("grub") => {
                let partition = need("keelson.part")?;
                Some(Grub {
                    partition: partition
                        .parse()
                        .map_err(|_| invalid("keelson.part", partition, "a partition GUID"))?,
                    // For people and for the health gate only: no reason to refuse a boot.
                    why: find("keelson.why").and_then(StartReason::from_word),
                    skipped: find("keelson.skipped").and_then(self::slot),
                })
            }
            Some(other) => return Err(invalid("keelson.loader", other, "grub")),
            None => None,
        };
        Ok(Self {
            root_hash: hash.to_ascii_lowercase(),
            data_blocks,
            salt: salt.to_ascii_lowercase(),
            disk,
            slot,
            grub,
        })
    }
}

/// A slot by its letter.
pub(crate) fn slot(letter: &str) -> Option<Slot> {
    Slot::ALL
        .into_iter()
        .find(|slot| letter.eq_ignore_ascii_case(&slot.letter().to_string()))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(hash: &str, rest: &str) -> String {
        format!("console=tty0 quiet roothash={hash} {rest}")
    }

    const REST: &str = "keelson.verity_blocks=1000 keelson.verity_salt=00ff";

    #[test]
    fn the_first_word_counts() {
        let hash = "ab".repeat(32);
        let other = "cd".repeat(32);
        let parsed = CommandLine::parse(&line(&hash, &format!("{REST} roothash={other}"))).unwrap();
        assert_eq!(parsed.root_hash, hash);
        assert_eq!((parsed.data_blocks, parsed.salt.as_str()), (1000, "00ff"));
        assert_eq!((parsed.disk, parsed.slot), (None, None));
    }

    #[test]
    fn what_grub_appends() {
        let hash = "ab".repeat(32);
        let parse = |extra: &str| CommandLine::parse(&line(&hash, &format!("{REST} {extra}")));
        assert_eq!(parse("keelson.part=x").unwrap().grub, None);
        let said = parse(
            "keelson.loader=grub keelson.slot=b \
             keelson.part=0434C9CB-a066-4c4b-a2a9-e6b6c22c490a keelson.why=other keelson.skipped=a",
        )
        .unwrap();
        assert_eq!(said.slot, Some(Slot::B));
        let grub = Grub {
            partition: "0434c9cb-a066-4c4b-a2a9-e6b6c22c490a".parse().unwrap(),
            why: Some(StartReason::Other),
            skipped: Some(Slot::A),
        };
        assert_eq!(said.grub, Some(grub));
        let least = parse(
            "keelson.loader=grub keelson.part=0434C9CB-a066-4c4b-a2a9-e6b6c22c490a keelson.why=x",
        );
        let grub = Grub {
            why: None,
            skipped: None,
            ..grub
        };
        assert_eq!(least.unwrap().grub, Some(grub));
        for (extra, part) in [
            ("keelson.loader=grub", "keelson.part= is missing"),
            ("keelson.loader=grub keelson.part=x", "a partition GUID"),
            ("keelson.loader=lilo", "is not grub"),
        ] {
            let text = parse(extra).unwrap_err().to_string();
            assert!(text.contains(part), "{part:?} not in {text:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let hash = "ab".repeat(32);
        let problem = |text: &str| CommandLine::parse(text).unwrap_err().to_string();
        assert_eq!(problem("quiet"), "roothash= is missing");
        assert!(problem(&line("abcd", REST)).contains("64 hexadecimal digits"));
        for (rest, part) in [
            (
                "keelson.verity_salt=00",
                "keelson.verity_blocks= is missing",
            ),
            (
                "keelson.verity_blocks=0 keelson.verity_salt=00",
                "number of blocks",
            ),
            (
                "keelson.verity_blocks=1 keelson.verity_salt=0",
                "hexadecimal bytes",
            ),
            (
                "keelson.verity_blocks=1 keelson.verity_salt=- keelson.disk=x",
                "a disk GUID",
            ),
            (
                "keelson.verity_blocks=1 keelson.verity_salt=- keelson.slot=c",
                "a or b",
            ),
        ] {
            let text = problem(&line(&hash, rest));
            assert!(text.contains(part), "{part:?} not in {text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = CommandLine::parse(&text);
        }
    }
}

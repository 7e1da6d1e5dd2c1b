//! Permission bits written in octal.

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};

/// Permission bits such as `0750`, at most `7777`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(u32);

impl FileMode {
    /// What a directory gets when nothing is said.
    pub const DIRECTORY_DEFAULT: Self = Self(0o755);

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octal;
        impl Visitor<'_> for Octal {
            type Value = FileMode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("octal permission bits like \"0750\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FileMode, E> {
                match u32::from_str_radix(text, 8) {
                    Ok(bits) if bits <= 0o7777 && text.len() >= 3 => Ok(FileMode(bits)),
                    _ => Err(E::custom(format_args!(
                        "{text:?} is not a file mode: write octal permission bits like \"0750\""
                    ))),
                }
            }
        }
        // As text, so that a leading zero never depends on how YAML reads numbers.
        deserializer
            .deserialize_str(Octal)
            .map_err(D::Error::custom)
    }
}

//! GUIDs as GPT writes them: the first three groups little-endian, the rest in order.

use core::fmt;
use core::str::FromStr;

/// A GUID, kept in the order in which people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(u128);

/// A text that is not a GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseGuidError;

impl Guid {
    /// The GUID of an unused partition entry.
    pub const ZERO: Self = Self(0);

    /// From the digits as text shows them, for constants.
    pub const fn from_u128(digits: u128) -> Self {
        Self(digits)
    }

    /// The digits as text shows them.
    pub const fn to_u128(self) -> u128 {
        self.0
    }

    /// From the 16 bytes of a partition table or a UEFI structure.
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(swap_groups(bytes)))
    }

    /// The 16 bytes of a partition table or a UEFI structure.
    pub const fn to_disk(self) -> [u8; 16] {
        swap_groups(self.0.to_be_bytes())
    }
}

/// Reverses the first three groups (4, 2 and 2 bytes); its own inverse.
const fn swap_groups(b: [u8; 16]) -> [u8; 16] {
    [
        b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13],
        b[14], b[15],
    ]
}

impl fmt::Display for Guid {
    /// Lower case, as Linux shows it; `{:#}` gives upper case, as UEFI does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.to_be_bytes().iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            if f.alternate() {
                write!(f, "{byte:02X}")?;
            } else {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Guid {
    type Err = ParseGuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digits = 0u128;
        if text.len() != 36 {
            return Err(ParseGuidError);
        }
        for (i, c) in text.bytes().enumerate() {
            if matches!(i, 8 | 13 | 18 | 23) {
                if c != b'-' {
                    return Err(ParseGuidError);
                }
            } else {
                let digit = char::from(c).to_digit(16).ok_or(ParseGuidError)?;
                digits = (digits << 4) | u128::from(digit);
            }
        }
        Ok(Self(digits))
    }
}

impl fmt::Display for ParseGuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a GUID (8-4-4-4-12 hexadecimal digits)")
    }
}

impl core::error::Error for ParseGuidError {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn esp_type_as_every_disk_has_it() {
        let esp: Guid = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".parse().unwrap();
        let disk = [
            0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E,
            0xC9, 0x3B,
        ];
        assert_eq!(esp.to_disk(), disk);
        assert_eq!(Guid::from_disk(disk), esp);
        assert_eq!(esp.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(
            std::format!("{esp:#}"),
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
        );
    }

    #[test]
    fn texts_that_are_no_guid() {
        for bad in [
            "",
            "c12a7328",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93g",
            "c12a7328af81f-11d2-ba4b-00a0c93ec93b",
            "ü12a7328-f81f-11d2-ba4b-00a0c93ec93",
        ] {
            assert_eq!(bad.parse::<Guid>(), Err(ParseGuidError), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_and_disk_round_trip(digits: u128) {
            let guid = Guid::from_u128(digits);
            proptest::prop_assert_eq!(guid.to_string().parse(), Ok(guid));
            proptest::prop_assert_eq!(Guid::from_disk(guid.to_disk()), guid);
        }
    }
}

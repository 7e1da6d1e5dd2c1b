//! Sizes for people.

use std::fmt;

/// A number of bytes that prints as `29.1 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = "bytes";
        let mut divisor = 1_u64;
        for (name, bits) in [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)] {
            if self.0 >> bits > 0 {
                (unit, divisor) = (name, 1 << bits);
            }
        }
        let whole = self.0 / divisor;
        // Tenths, cut and not rounded, so that a disk never looks larger than it is.
        match self.0 % divisor * 10 / divisor {
            0 => write!(f, "{whole} {unit}"),
            tenths => write!(f, "{whole}.{tenths} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (512, "512 bytes"),
            (1536, "1.5 KiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}

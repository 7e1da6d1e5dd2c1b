//! The SHA-256 fingerprint of a certificate, as the console of a node in maintenance shows it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 over a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a fingerprint: 64 hexadecimal digits (SHA-256) are needed, as on the node's console"
)]
pub struct InvalidFingerprint(String);

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// Upper case and colons or blanks between the digits are what other programs print.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let invalid = || InvalidFingerprint(text.to_owned());
        let mut digits = Vec::with_capacity(64);
        for c in text.chars().filter(|c| !matches!(c, ':' | ' ')) {
            let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digits.push(digit.ok_or_else(invalid)?);
        }
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .filter_map(|pair| Some(pair.first()? << 4 | pair.last()?))
            .collect();
        match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) if digits.len() == 64 => Ok(Self(bytes)),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_is_read() {
        let fingerprint = Fingerprint::of(b"abc");
        let plain = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint.to_string(), plain);
        let upper = plain.to_uppercase();
        let pairs: Vec<String> = upper
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).into_owned())
            .collect();
        for text in [plain.to_owned(), pairs.join(":"), pairs.join(" "), upper] {
            assert_eq!(text.parse(), Ok(fingerprint), "{text}");
        }
    }

    #[test]
    fn part_of_a_fingerprint_is_none() {
        let plain = Fingerprint::of(b"abc").to_string();
        for text in [
            "",
            "ba78",
            &plain[..62],
            &plain[..63],
            &format!("{plain}00"),
            "xyz",
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}

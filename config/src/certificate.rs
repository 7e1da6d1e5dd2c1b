//! A certificate in the configuration: one PEM block, its form checked. Whether it is one that
//! can be used is for the node to say, which has the means to read it.

use std::fmt;
use std::str::FromStr;

use crate::text::{InvalidValue, text_value};

/// One certificate in PEM form.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificatePem(String);

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// An authority's certificate with an RSA key of 16,384 bits fits.
const MAX_BYTES: usize = 16 * 1024;

impl CertificatePem {
    /// The block, with a newline at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificatePem {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let fail = |reason: &str| InvalidValue::new(text, "a certificate in PEM form", reason);
        if text.contains("PRIVATE KEY") {
            // Not repeated in the message: it would end up in logs.
            return Err(InvalidValue::new(
                "(hidden)",
                "a certificate in PEM form",
                "it holds a private key, which does not belong here; give the certificate alone",
            ));
        }
        if text.len() > MAX_BYTES {
            return Err(fail("it is longer than 16 KiB"));
        }
        let body = text
            .trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END))
            .ok_or_else(|| {
                fail("it must begin with -----BEGIN CERTIFICATE----- and end with -----END CERTIFICATE-----")
            })?;
        let base64: String = body.split_ascii_whitespace().collect();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
        if base64.is_empty() || !base64.len().is_multiple_of(4) || !base64.bytes().all(allowed) {
            return Err(fail(
                "what is between its first and last line is not base64, or more than one certificate",
            ));
        }
        let mut canonical = format!("{BEGIN}\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            // ASCII only, so every index is a boundary. 64 columns: RFC 7468 section 2.
            let (line, after) = rest.split_at(rest.len().min(64));
            canonical.push_str(line);
            canonical.push('\n');
            rest = after;
        }
        canonical.push_str(END);
        canonical.push('\n');
        Ok(Self(canonical))
    }
}

impl fmt::Display for CertificatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(
    CertificatePem,
    "CertificatePem",
    "One certificate in PEM form, without a key.",
    r"^\s*-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_in_any_layout() {
        let body = "MIIB".repeat(40);
        let text = format!("\n{BEGIN}\r\n{body}\n{END}\n\n");
        let certificate: CertificatePem = text.parse().unwrap();
        let again: CertificatePem = certificate.as_str().parse().unwrap();
        assert_eq!(again, certificate);
        assert!(certificate.as_str().lines().all(|line| line.len() <= 64));
        let read: String = certificate.as_str().lines().skip(1).take(3).collect();
        assert_eq!(read, body);
    }

    #[test]
    fn anything_else_is_refused() {
        let block = format!("{BEGIN}\nMIIB\n{END}\n");
        for bad in [
            String::new(),
            "MIIB".to_owned(),
            format!("{block}{block}"),
            format!("{BEGIN}\n{END}\n"),
            format!("{BEGIN}\nMIIB!\n{END}\n"),
            format!("{BEGIN}\nMIIBx\n{END}\n"),
            format!("{BEGIN}\n{}\n{END}\n", "A".repeat(MAX_BYTES)),
        ] {
            assert!(bad.parse::<CertificatePem>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_refused_and_not_repeated() {
        let text = "-----BEGIN PRIVATE KEY-----\nMIIBsecret\n-----END PRIVATE KEY-----\n";
        let error = text.parse::<CertificatePem>().unwrap_err().to_string();
        assert!(error.contains("private key"), "{error}");
        assert!(!error.contains("MIIB"), "{error}");
    }
}

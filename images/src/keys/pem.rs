//! Ed25519 private keys as everybody writes them (RFC 8410): PKCS#8 in PEM. The structure around
//! the 32 secret bytes never differs, so no parser is needed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// OneAsymmetricKey, version 1, algorithm 1.3.101.112, the seed as an octet string in another.
const DER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

pub(super) fn encode(seed: &[u8; 32]) -> String {
    let der = [&DER[..], seed].concat();
    format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der))
}

pub(super) fn decode(text: &str) -> Option<[u8; 32]> {
    let inner = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let joined: String = inner.split_whitespace().collect();
    let der = STANDARD.decode(joined).ok()?;
    der.strip_prefix(&DER)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The private key of RFC 8410, section 10.3.
    const SAMPLE: &str = "-----BEGIN PRIVATE KEY-----\n\
                          MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                          -----END PRIVATE KEY-----\n";

    #[test]
    fn the_sample_of_the_standard_is_read_and_written() {
        let seed = decode(SAMPLE).unwrap();
        assert_eq!(seed[..4], [0xd4, 0xee, 0x72, 0xdb]);
        assert_eq!(encode(&seed), SAMPLE);
        let wrapped = SAMPLE.replace("BCIE", "BCIE\r\n");
        assert_eq!(decode(&wrapped), Some(seed));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in [
            "",
            "x",
            &SAMPLE[..80],
            &SAMPLE.replace("VwBC", "VwBD"),
            &SAMPLE.replace("dVhC", "dVhCAAAA"),
        ] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}

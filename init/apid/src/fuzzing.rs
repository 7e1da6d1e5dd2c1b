//! A door for tests/fuzz to what reads bytes of strangers. Compiled for it alone.

use std::net::SocketAddr;

use http::HeaderMap;
use keelson_api::access::Role;

use crate::framing::Framing;
use crate::headers;
use crate::identity::Person;

/// Name, role and fingerprint in a certificate (DER), or a line for people.
///
/// # Errors
/// When the certificate stands for nobody.
pub fn read_certificate(der: &[u8]) -> Result<(String, Role, String), String> {
    match Person::read(der) {
        Ok(person) => Ok((person.name, person.role, person.fingerprint.to_string())),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the parts of a body, one after the other, hold a message that is too long.
#[must_use]
pub fn is_too_long<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut framing = Framing::new();
    parts.into_iter().any(|part| framing.pass(part).is_err())
}

/// Puts our headers into those of a client.
pub fn introduce(headers: &mut HeaderMap, name: &str, role: Role, peer: SocketAddr) {
    headers::introduce(headers, name, role, peer);
}

//! What machined is told about a caller.

use std::net::SocketAddr;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use keelson_api::access::Role;
use keelson_api::{PEER_HEADER, PERSON_HEADER, ROLE_HEADER};

/// Headers that are ours alone begin with it.
const OURS: &str = "keelson-";

/// Removes what only we may say.
pub(crate) fn drop_ours(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OURS))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Says who calls, whatever the client said.
pub(crate) fn introduce(headers: &mut HeaderMap, name: &str, role: Role, peer: SocketAddr) {
    drop_ours(headers);
    for (header, text) in [
        (PERSON_HEADER, name),
        (ROLE_HEADER, role.as_str()),
        (PEER_HEADER, &peer.to_string()),
    ] {
        headers.insert(HeaderName::from_static(header), value(text));
    }
}

/// `text` as a header carries it: everything but visible ASCII and spaces as `%XX`, UTF-8.
fn value(text: &str) -> HeaderValue {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    // Cannot fail: nothing but visible ASCII and spaces is left.
    HeaderValue::try_from(escaped).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_we_say_who_calls() {
        let mut headers = HeaderMap::new();
        for (name, text) in [
            ("keelson-person", "root"),
            ("keelson-role", "admin"),
            ("keelson-role", "operator"),
            ("keelson-role-bin", "YWRtaW4"),
            ("keelson", "stays"),
            ("te", "trailers"),
        ] {
            headers.append(name, HeaderValue::from_static(text));
        }
        let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
        introduce(&mut headers, "ada", Role::Reader, peer);
        let mut all: Vec<_> = headers
            .iter()
            .map(|(name, text)| (name.as_str(), text.to_str().unwrap()))
            .collect();
        all.sort_unstable();
        assert_eq!(
            all,
            [
                ("keelson", "stays"),
                ("keelson-peer", "192.0.2.1:4711"),
                ("keelson-person", "ada"),
                ("keelson-role", "reader"),
                ("te", "trailers"),
            ]
        );
    }

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        assert_eq!(value("Ada Lovelace"), "Ada Lovelace");
        assert_eq!(value("50%\r\nx: y\0"), "50%25%0D%0Ax: y%00");
        assert_eq!(value("Zoë"), "Zo%C3%AB");
    }
}

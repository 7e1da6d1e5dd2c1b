//! What apid makes of a stranger's call before anybody is asked: headers and lengths of messages.

use std::net::SocketAddr;
use std::process::ExitCode;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use keelson_api::access::Role;
use keelson_api::{MAX_MESSAGE_BYTES, PEER_HEADER, PERSON_HEADER, ROLE_HEADER};
use keelson_apid::fuzzing;
use keelson_fuzz_engine::Target;

fn main() -> ExitCode {
    keelson_fuzz_engine::main(Target {
        run,
        seeds: || {
            vec![
                b"\x00\x02keelson-role: admin\nte: trailers\nAda".to_vec(),
                body(),
            ]
        },
        longest: 2048,
    })
}

fn run(bytes: &[u8]) {
    match keelson_fuzz::choose(bytes, 2) {
        (0, rest) => headers(rest),
        (_, rest) => lengths(rest),
    }
}

/// Lines `name: value`; the last line is the name of the person.
fn headers(bytes: &[u8]) {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let name = String::from_utf8_lossy(lines.pop().unwrap_or_default()).into_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (header, value) = line.split_at(colon);
        let header = HeaderName::from_bytes(header);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default());
        if let (Ok(header), Ok(value)) = (header, value) {
            headers.append(header, value);
        }
    }
    // Values of one header keep their order; headers have none.
    let theirs = |headers: &HeaderMap| {
        let all = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()));
        let mut theirs: Vec<_> = all
            .filter(|(name, _)| !name.starts_with("keelson-"))
            .collect();
        theirs.sort_by(|one, other| one.0.cmp(&other.0));
        theirs
    };
    let before = theirs(&headers);
    let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
    fuzzing::introduce(&mut headers, &name, Role::Reader, peer);
    assert_eq!(theirs(&headers), before);
    assert_eq!(headers.len(), before.len() + 3, "{headers:?}");
    assert_eq!(headers[ROLE_HEADER], "reader");
    assert_eq!(headers[PEER_HEADER], "192.0.2.1:4711");
    let person = headers[PERSON_HEADER].as_bytes();
    assert_eq!(unescape(person), name.as_bytes());
}

/// `%XX` as bytes.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        text = rest;
        let digits = rest.first_chunk::<2>().filter(|_| *first == b'%');
        let escaped = digits.and_then(|two| std::str::from_utf8(two).ok());
        match escaped.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                text = rest.get(2..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    bytes
}

/// A body in parts of one size: the same answer as for the whole, and as counted here.
fn lengths(bytes: &[u8]) {
    let (size, body) = keelson_fuzz::choose(bytes, 64);
    let whole = fuzzing::is_too_long([body]);
    assert_eq!(fuzzing::is_too_long(body.chunks(size + 1)), whole);
    assert_eq!(whole, has_long_message(body));
}

fn has_long_message(mut body: &[u8]) -> bool {
    while let Some((prefix, rest)) = body.split_first_chunk::<5>() {
        let [_, length @ ..] = prefix;
        match usize::try_from(u32::from_be_bytes(*length)) {
            Ok(length) if length <= MAX_MESSAGE_BYTES => {
                body = rest.get(length..).unwrap_or_default();
            }
            _ => return true,
        }
    }
    false
}

/// Two messages, cut into parts of three bytes.
fn body() -> Vec<u8> {
    b"\x01\x02\x00\x00\x00\x00\x04body\x01\x00\x00\x00\x02xy".to_vec()
}

//! Secrets that are known by their own form, wherever they stand.

use base64::Engine;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::REMOVED;

/// Shortest credential after `Bearer`, and shortest part of a JSON web token.
const MIN: usize = 8;

/// Base64 of `-----BEG`, the beginning of every PEM file.
const PEM_BASE64: &str = "LS0tLS1CRUdJ";

pub(super) fn remove(text: &str, removed: &mut usize) -> String {
    let text = urls(text, removed);
    let mut out = String::with_capacity(text.len());
    // The word before, while only spaces have come since.
    let mut before = "";
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let word = rest
            .find(|c: char| !is_word(c))
            .map_or(rest, |end| rest.get(..end).unwrap_or_default());
        if word.is_empty() {
            out.push(first);
            if first != ' ' {
                before = "";
            }
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        match secret_in(word, before) {
            Some(at) => {
                out.push_str(word.get(..at).unwrap_or_default());
                out.push_str(REMOVED);
                *removed += 1;
            }
            None => out.push_str(word),
        }
        before = word;
        rest = rest.get(word.len()..).unwrap_or_default();
    }
    out
}

/// Characters of base64 in both alphabets and of tokens.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_' | '.' | '~')
}

/// Where in a word a secret begins.
fn secret_in(word: &str, before: &str) -> Option<usize> {
    if before.eq_ignore_ascii_case("bearer") && word.len() >= MIN {
        return Some(0);
    }
    if before.eq_ignore_ascii_case("basic") && decoded(word).contains(&b':') {
        return Some(0);
    }
    if is_bootstrap_token(word) {
        return Some(0);
    }
    web_token(word).or_else(|| key_in_base64(word))
}

/// `abcdef.0123456789abcdef`: id and secret of a token with which a machine joins a cluster.
fn is_bootstrap_token(word: &str) -> bool {
    let plain = |part: &str, length| {
        part.len() == length
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    word.trim_end_matches('.')
        .split_once('.')
        .is_some_and(|(id, secret)| plain(id, 6) && plain(secret, 16))
}

/// Three parts in base64 with dots between them; the first is JSON, so it begins with `{"`.
fn web_token(word: &str) -> Option<usize> {
    word.match_indices("eyJ").map(|(at, _)| at).find(|at| {
        let mut parts = word.get(*at..).unwrap_or_default().split('.');
        let long = |part: Option<&str>| part.is_some_and(|part| part.len() >= MIN);
        long(parts.next()) && long(parts.next()) && parts.next().is_some()
    })
}

/// A PEM file with a private key in it, in base64.
fn key_in_base64(word: &str) -> Option<usize> {
    word.match_indices(PEM_BASE64).map(|(at, _)| at).find(|at| {
        let bytes = decoded(word.get(*at..).unwrap_or_default());
        let mark = b"PRIVATE KEY";
        bytes.windows(mark.len()).any(|window| window == mark)
    })
}

/// As much as can be decoded.
fn decoded(word: &str) -> Vec<u8> {
    let end = word
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/'))
        .unwrap_or(word.len());
    // One character alone is less than a byte.
    let end = if end % 4 == 1 { end - 1 } else { end };
    let whole = word.get(..end).unwrap_or_default();
    LENIENT.decode(whole).unwrap_or_default()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Takes user and password out of `scheme://user:password@host`.
fn urls(text: &str, removed: &mut usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#' | '\\'))
            .unwrap_or(after.len());
        let authority = after.get(..end).unwrap_or_default();
        rest = match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                out.push_str(REMOVED);
                *removed += 1;
                after.get(end - host.len() - 1..).unwrap_or_default()
            }
            _ => after,
        };
    }
    out.push_str(rest);
    out
}

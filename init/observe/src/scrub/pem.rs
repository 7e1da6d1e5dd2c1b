//! Private keys in PEM (RFC 7468), whole or cut off.

use super::REMOVED;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// What the labels of all kinds of private keys have in common.
const PRIVATE: &str = "PRIVATE KEY";

/// Longest label, so that dashes far away do not end one.
const LABEL: usize = 64;

/// Longest key that is believed to end where an END is found: an RSA key of 16384 bits has 13 KiB.
const KEY: usize = 64 * 1024;

/// Shortest line of a key's body, but for its last one.
const BODY_LINE: usize = 16;

pub(super) fn remove(text: &str, removed: &mut usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, mark, after)) = next_mark(rest) {
        let before = rest.get(..at).unwrap_or_default();
        out.push_str(before);
        *removed += 1;
        rest = match mark {
            Mark::Begin => behind_key(after),
            // The beginning was cut off: what is left of the body stands before it.
            Mark::End => {
                drop_body(&mut out);
                after
            }
        };
        out.push_str(REMOVED);
    }
    out.push_str(rest);
    out
}

enum Mark {
    Begin,
    End,
}

/// The next line that begins or ends a private key: where it is, and what comes after it.
fn next_mark(text: &str) -> Option<(usize, Mark, &str)> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find(DASHES)?;
        let here = text.get(at..)?;
        for (prefix, mark) in [(BEGIN, Mark::Begin), (END, Mark::End)] {
            if let Some(after) = here.strip_prefix(prefix).and_then(private_label) {
                return Some((at, mark, after));
            }
        }
        // Dashes are one byte each.
        from = at + 1;
    }
}

/// What comes after the label and its dashes, if it is that of a private key.
fn private_label(text: &str) -> Option<&str> {
    let (label, after) = text.split_once(DASHES)?;
    (label.len() <= LABEL && label.contains(PRIVATE) && !label.contains('\n')).then_some(after)
}

/// What comes after a key whose first line has been read.
fn behind_key(text: &str) -> &str {
    if let Some((at, Mark::End, after)) = next_mark(text)
        && at <= KEY
    {
        return after;
    }
    // The end was cut off: all that can be body goes, from the rest of the first line on.
    let mut rest = text.trim_start_matches(|c: char| is_body(c) || c == ' ');
    let mut headers = false;
    while let Some(after) = rest.strip_prefix('\n') {
        let line = after.split('\n').next().unwrap_or_default();
        let end_of_headers = headers && line.trim().is_empty();
        headers = is_header(line);
        let body = is_body_line(line);
        let last = is_last_line(line);
        if !(headers || end_of_headers || body || last) {
            break;
        }
        rest = after.get(line.len()..).unwrap_or_default();
        if last && !body {
            break;
        }
    }
    rest
}

/// Takes lines off the end that may be the body of a key.
fn drop_body(out: &mut String) {
    // The line with END may be indented.
    let mut last = true;
    loop {
        let end = out.trim_end_matches([' ', '\n']).len();
        let start = out
            .get(..end)
            .and_then(|text| text.rfind('\n'))
            .map_or(0, |newline| newline + 1);
        let line = out.get(start..end).unwrap_or_default().trim();
        if !(last && is_last_line(line) || is_body_line(line)) {
            return;
        }
        out.truncate(start);
        last = false;
    }
}

/// Behind whatever a log puts in front of a line.
fn is_body_line(line: &str) -> bool {
    let word = line.trim().rsplit(' ').next().unwrap_or_default();
    word.len() >= BODY_LINE && word.chars().all(is_body)
}

/// The last line of a body may be short.
fn is_last_line(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && line.chars().all(is_body)
}

/// Of an encrypted key (RFC 1421); an empty line follows them.
fn is_header(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("Proc-Type:") || line.starts_with("DEK-Info:")
}

/// Base64, and the backslash of `\n` in JSON.
fn is_body(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\\')
}

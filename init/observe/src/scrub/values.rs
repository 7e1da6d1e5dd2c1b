//! Values of keys that are named like a secret, in YAML, JSON, INI, logs and command lines.

use super::REMOVED;

/// A key names a secret when it ends like this, without its `-`, `_`, `.` and capitals.
const ENDINGS: [&str; 20] = [
    "accesskey",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "encryptionkey",
    "keydata",
    "passphrase",
    "passwd",
    "password",
    "presharedkey",
    "privatekey",
    "psk",
    "secret",
    "secretkey",
    "signingkey",
    "sshkey",
    "token",
    "tokens",
];

/// Or when it is this.
const NAMES: [&str; 3] = ["auth", "pass", "pwd"];

/// Values that say that there is no secret.
const EMPTY: [&str; 7] = ["", "\"\"", "''", "false", "none", "null", "true"];

/// Schemes in front of a credential: the secret is the next word.
const SCHEMES: [&str; 4] = ["basic", "bearer", "digest", "token"];

pub(super) fn remove(text: &str, removed: &mut usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut block: Option<Block> = None;
    for line in text.split_inclusive('\n') {
        let indent = indent_of(line);
        if let Some(open) = block.as_mut().filter(|open| open.holds(line, indent)) {
            if !open.shown {
                out.push_str(line.get(..indent).unwrap_or_default());
                out.push_str(REMOVED);
                out.push('\n');
                *removed += 1;
                open.shown = true;
            }
            continue;
        }
        block = self::line(line, &mut out, removed).map(|kind| Block {
            kind,
            indent,
            shown: false,
        });
    }
    out
}

/// A secret on the lines after its key.
struct Block {
    kind: BlockKind,
    indent: usize,
    shown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    /// After `|` or `>`: everything deeper.
    Literal,
    /// After nothing: text, unless it is a mapping or a list.
    Plain,
}

impl Block {
    fn holds(&self, line: &str, indent: usize) -> bool {
        let content = line.trim();
        match self.kind {
            BlockKind::Literal => content.is_empty() || indent > self.indent,
            BlockKind::Plain => {
                indent > self.indent
                    && !content.is_empty()
                    && !content.contains(": ")
                    && !content.ends_with(':')
                    && !content.starts_with("- ")
            }
        }
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// Copies a line without its secrets; tells whether one begins on the next line.
fn line(line: &str, out: &mut String, removed: &mut usize) -> Option<BlockKind> {
    let (content, newline) = match line.strip_suffix('\n') {
        Some(content) => (content, "\n"),
        None => (line, ""),
    };
    let mut copied = 0;
    let mut block = None;
    for key in keys(content) {
        // Inside what has been taken out.
        if key.start < copied {
            continue;
        }
        let rest = content.get(key.value..).unwrap_or_default();
        match value(&key, rest) {
            Value::At(range) => {
                let (start, end) = (key.value + range.start, key.value + range.end);
                out.push_str(content.get(copied..start).unwrap_or_default());
                out.push_str(REMOVED);
                *removed += 1;
                copied = end;
            }
            Value::Below(kind) => block = Some(kind),
            Value::None => {}
        }
    }
    out.push_str(content.get(copied..).unwrap_or_default());
    out.push_str(newline);
    block
}

/// A key that names a secret.
struct Key {
    start: usize,
    /// Where the value begins, spaces included.
    value: usize,
    kind: KeyKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    /// `key: value` as the whole line.
    Mapping,
    /// `key: value` inside something.
    Colon,
    /// `key=value`
    Equals,
    /// `key=value` of a URL.
    Query,
    /// `--key value`
    Flag,
}

/// All keys of a line that name secrets.
fn keys(line: &str) -> impl Iterator<Item = Key> {
    let bytes = line.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            if !bytes.get(at).copied().is_some_and(is_key) {
                at += 1;
                continue;
            }
            let start = at;
            while bytes.get(at).copied().is_some_and(is_key) {
                at += 1;
            }
            // Keys are ASCII, so both are borders of characters.
            let name = line.get(start..at).unwrap_or_default();
            if let Some(key) = names_secret(name).then(|| key(line, start, at)).flatten() {
                return Some(key);
            }
        }
        None
    })
}

/// What stands around a name makes it a key.
fn key(line: &str, start: usize, end: usize) -> Option<Key> {
    let before = line.get(..start).unwrap_or_default();
    let after = line.get(end..).unwrap_or_default();
    let name = line.get(start..end).unwrap_or_default();
    // The quote that closes a quoted key, inside of JSON in JSON with a backslash.
    let unquoted = after
        .strip_prefix('\\')
        .unwrap_or(after)
        .trim_start_matches(['"', '\'']);
    let separator = unquoted.trim_start_matches(' ');
    let value = line.len() - separator.len() + 1;
    let kind = match separator.chars().next() {
        Some('=') if before.ends_with(['?', '&']) => KeyKind::Query,
        Some('=') => KeyKind::Equals,
        Some(':') if before.trim_matches([' ', '\t', '-']).is_empty() => KeyKind::Mapping,
        Some(':') => KeyKind::Colon,
        _ if name.starts_with("--") && after.starts_with(' ') => {
            return Some(Key {
                start,
                value: end,
                kind: KeyKind::Flag,
            });
        }
        _ => return None,
    };
    Some(Key { start, value, kind })
}

fn names_secret(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    NAMES.contains(&plain.as_str()) || ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

enum Value {
    /// In this part of the rest of the line.
    At(std::ops::Range<usize>),
    /// On the next lines.
    Below(BlockKind),
    /// Nowhere, or none that is secret.
    None,
}

fn value(key: &Key, rest: &str) -> Value {
    let text = rest.trim_start_matches([' ', '\t']);
    let start = rest.len() - text.len();
    if key.kind == KeyKind::Mapping && text.trim_end().is_empty() {
        return Value::Below(BlockKind::Plain);
    }
    if key.kind == KeyKind::Mapping && text.starts_with(['|', '>']) {
        return Value::Below(BlockKind::Literal);
    }
    if let Some(range) = quoted(text) {
        return at(text, start, range);
    }
    // A mapping or a list of YAML or JSON: its own keys are looked at.
    if text.starts_with(['{', '[']) && matches!(key.kind, KeyKind::Colon | KeyKind::Mapping) {
        return Value::None;
    }
    let end = match key.kind {
        KeyKind::Mapping => text.trim_end().len(),
        KeyKind::Flag if text.starts_with('-') => 0,
        KeyKind::Colon => plain_end(text, &['"', '\'', ',', '}', ']']),
        KeyKind::Query => plain_end(text, &['"', '\'', '&', '#']),
        KeyKind::Equals | KeyKind::Flag => plain_end(text, &['"', '\'']),
    };
    at(text, start, 0..end)
}

fn at(text: &str, start: usize, range: std::ops::Range<usize>) -> Value {
    let found = text.get(range.clone()).unwrap_or_default().trim();
    let harmless = found == REMOVED
        || EMPTY
            .iter()
            .any(|empty| found.trim_end_matches(',').eq_ignore_ascii_case(empty));
    if harmless {
        Value::None
    } else {
        Value::At(start + range.start..start + range.end)
    }
}

/// What is between quotes; without a closing one, all that is left.
fn quoted(text: &str) -> Option<std::ops::Range<usize>> {
    for (open, close) in [("\\\"", "\\\""), ("\"", "\""), ("'", "'")] {
        let Some(inside) = text.strip_prefix(open) else {
            continue;
        };
        let mut from = 0;
        let end = loop {
            let Some(found) = inside.get(from..).and_then(|rest| rest.find(close)) else {
                break inside.len();
            };
            let at = from + found;
            let before = inside.get(..at).unwrap_or_default();
            let after = inside.get(at + close.len()..).unwrap_or_default();
            // `\"` within double quotes, `''` within single ones.
            let escaped = close == "\"" && backslashes(before) % 2 == 1;
            let doubled = close == "'" && after.starts_with('\'');
            if escaped || doubled {
                from = at + close.len() + usize::from(doubled);
            } else {
                break at;
            }
        };
        return Some(open.len()..open.len() + end);
    }
    None
}

fn backslashes(text: &str) -> usize {
    text.len() - text.trim_end_matches('\\').len()
}

/// Up to a space or one of these; with the word after it when the first is a scheme.
fn plain_end(text: &str, stops: &[char]) -> usize {
    let word = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        let length = rest.find(|c: char| c.is_whitespace() || stops.contains(&c));
        from + length.unwrap_or(rest.len())
    };
    let end = word(0);
    let first = text.get(..end).unwrap_or_default();
    if SCHEMES
        .iter()
        .any(|scheme| first.eq_ignore_ascii_case(scheme))
    {
        let spaces = text.get(end..).unwrap_or_default();
        return word(text.len() - spaces.trim_start_matches(' ').len());
    }
    end
}

//! Turns the parser's errors into words for the person who wrote the configuration.

use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter as _};

use crate::text::quoted;

/// An error in an operator's words.
pub(crate) struct Explanation {
    pub(crate) key_path: String,
    pub(crate) problem: String,
    pub(crate) advice: String,
}

/// Explains an error that happened at `path` (serde's path to the value being read).
pub(crate) fn explain(error: &Error, path: &str) -> Explanation {
    let path = &known_part(path);
    let say = |problem: String, advice: &str| Explanation {
        key_path: path.to_owned(),
        problem,
        advice: advice.to_owned(),
    };
    match error.without_snippet() {
        Error::SerdeUnknownField {
            field, expected, ..
        } => Explanation {
            key_path: with_key(path, field),
            problem: "this key is unknown".to_owned(),
            advice: advice_for_unknown(field, expected),
        },
        Error::DuplicateMappingKey { key: Some(key), .. } => Explanation {
            key_path: with_key(path, key),
            problem: "this key is given twice".to_owned(),
            advice: "keep one of the two".to_owned(),
        },
        Error::DuplicateMappingKey { key: None, .. } => {
            say("a key is given twice".to_owned(), "keep one of the two")
        }
        Error::SerdeMissingField { field, .. } => Explanation {
            key_path: with_key(path, field),
            problem: "this key is missing".to_owned(),
            advice: "add it".to_owned(),
        },
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => say(
            format!("{} is not one of the allowed values", quoted(variant)),
            &format!("write {}", alternatives(expected)),
        ),
        Error::InvalidBooleanStrict { .. } => {
            say("expected a boolean".to_owned(), "write true or false")
        }
        Error::InvalidScalar { ty, .. } => say(
            format!("expected {}", type_words(ty)),
            "write such a value, or remove the key",
        ),
        Error::Unexpected {
            expected: "mapping start",
            ..
        } => say(
            "expected a mapping".to_owned(),
            "write indented `key: value` lines here",
        ),
        Error::Unexpected {
            expected: "sequence start",
            ..
        } => say(
            "expected a list".to_owned(),
            "begin each entry with `- `, or write [a, b]",
        ),
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        } => say(
            format!("found {unexpected} where {expected} is expected"),
            "",
        ),
        Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => say(
            format!("found {unexpected} where {expected} is expected"),
            "",
        ),
        Error::NullIntoString { .. } => say(
            "the value is missing".to_owned(),
            "give one after the ':', or remove the key to get the default",
        ),
        Error::MergeKeyNotAllowed { .. } => say(
            "merge keys (<<) are not allowed here".to_owned(),
            "write the keys out",
        ),
        Error::MultipleDocuments { .. } => say(
            "the file holds more than one YAML document".to_owned(),
            "keep one document with kind NodeConfig and remove the `---` after it",
        ),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => say(TOO_BIG.to_owned(), RIGHT_FILE),
        Error::Eof { .. } => say(
            "the text ends too early".to_owned(),
            "was the file cut off?",
        ),
        Error::Message { msg, .. } if msg.contains("recursion limit") => {
            say(TOO_BIG.to_owned(), RIGHT_FILE)
        }
        // The standard library's words for an address name neither the value nor a remedy.
        Error::Message { msg, .. } if msg == "invalid IP address syntax" => say(
            "this is not an IP address".to_owned(),
            "write it like 192.0.2.1 or 2001:db8::1, without a prefix length",
        ),
        Error::Message { msg, .. } => say(one_line(msg), ""),
        other => say(
            one_line(&DefaultMessageFormatter.format_message(other)),
            "correct the YAML at this place",
        ),
    }
}

const TOO_BIG: &str = "the document is too large or nested too deeply for a node configuration";
const RIGHT_FILE: &str = "is this the right file?";

/// The path without the '?' that serde writes for a key it had not read yet, and without the '.'
/// that it writes for the whole document.
fn known_part(path: &str) -> String {
    path.split('.')
        .filter(|part| !matches!(*part, "" | "?"))
        .collect::<Vec<_>>()
        .join(".")
}

/// Foreign text on one line: control characters escaped.
fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// `path.key`, unless the path already ends with the key.
fn with_key(path: &str, key: &str) -> String {
    let key = one_line(key);
    if path.is_empty() {
        key
    } else if path == key || path.ends_with(&format!(".{key}")) {
        path.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn advice_for_unknown(field: &str, expected: &[&str]) -> String {
    let nearest = expected
        .iter()
        .map(|candidate| (distance(field, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 4))
        .min();
    match nearest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if expected.is_empty() => "remove it".to_owned(),
        None => format!("remove it; known here: {}", expected.join(", ")),
    }
}

fn alternatives(values: &[&str]) -> String {
    values
        .iter()
        .map(|value| format!("`{value}`"))
        .collect::<Vec<_>>()
        .join(" or ")
}

fn type_words(ty: &str) -> String {
    match ty {
        "bool" | "boolean" => "a boolean".to_owned(),
        "u8" | "u16" | "u32" | "u64" => "a whole number that is not negative".to_owned(),
        other => other.to_owned(),
    }
}

/// Number of single-character edits between two words, upper and lower case alike.
fn distance(a: &str, b: &str) -> usize {
    // Keys are short; foreign text is cut so that the table stays small.
    let a: Vec<char> = a.chars().take(64).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let cost = diagonal + usize::from(ca != cb);
            diagonal = *cell;
            *cell = cost.min(left + 1).min(*cell + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance() {
        for (a, b, wanted) in [
            ("", "", 0),
            ("dhcp", "dhcp4", 1),
            ("podCidr", "podCIDR", 0),
            ("abc", "xyz", 3),
            ("", "ab", 2),
        ] {
            assert_eq!(distance(a, b), wanted, "{a} {b}");
            assert_eq!(distance(b, a), wanted, "{b} {a}");
        }
    }
}

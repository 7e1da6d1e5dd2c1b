//! Puts facts into text: `--node-ip=${node-ip}`.

use std::collections::BTreeMap;

use thiserror::Error;

/// Replaces every `${fact}` by its value; `$${` gives a literal `${`.
///
/// Values are inserted as they are and not expanded again.
pub fn expand(template: &str, facts: &BTreeMap<String, String>) -> Result<String, ExpandError> {
    let mut text = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece? {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Fact(name) => {
                text.push_str(facts.get(name).ok_or_else(|| ExpandError::UnknownFact {
                    name: name.chars().take(80).collect(),
                })?)
            }
        }
    }
    Ok(text)
}

/// Names of the facts that a template refers to, in order, with repetitions.
pub fn fact_names(template: &str) -> Result<Vec<&str>, ExpandError> {
    pieces(template)
        .filter_map(|piece| match piece {
            Ok(Piece::Fact(name)) => Some(Ok(name)),
            Ok(Piece::Literal(_)) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// Why a template cannot be filled.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ExpandError {
    /// `${` without `}`.
    #[error("\"${{\" at byte {offset} has no closing \"}}\" (write \"$${{\" for a literal one)")]
    Unclosed {
        /// Where it stands.
        offset: usize,
    },
    /// No fact of that name is set.
    #[error("unknown fact \"{name}\"")]
    UnknownFact {
        /// The name in the template.
        name: String,
    },
}

enum Piece<'a> {
    Fact(&'a str),
    Literal(&'a str),
}

fn pieces(template: &str) -> impl Iterator<Item = Result<Piece<'_>, ExpandError>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix("$${") {
            let literal = &rest[1..3];
            rest = after;
            return Some(Ok(Piece::Literal(literal)));
        }
        if let Some(after) = rest.strip_prefix("${") {
            let Some((name, after)) = after.split_once('}') else {
                let offset = template.len() - rest.len();
                rest = "";
                return Some(Err(ExpandError::Unclosed { offset }));
            };
            rest = after;
            return Some(Ok(Piece::Fact(name)));
        }
        // Up to the next `$` that begins something, at least one character.
        let end = rest
            .match_indices('$')
            .map(|(at, _)| at)
            .find(|at| rest[*at..].starts_with("${") || rest[*at..].starts_with("$${"))
            .unwrap_or(rest.len());
        let (literal, after) = rest.split_at(end);
        rest = after;
        Some(Ok(Piece::Literal(literal)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> BTreeMap<String, String> {
        BTreeMap::from([
            ("ip".to_owned(), "10.0.2.15".to_owned()),
            ("nested".to_owned(), "${ip}".to_owned()),
        ])
    }

    #[test]
    fn facts_are_put_in_once() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("--ip=${ip},${ip}!", "--ip=10.0.2.15,10.0.2.15!"),
            ("${nested}", "${ip}"),
            ("$${ip}", "${ip}"),
            ("$$${ip}", "$${ip}"),
            ("$ip $ $$", "$ip $ $$"),
            ("é${ip}é", "é10.0.2.15é"),
        ];
        for (template, expected) in cases {
            assert_eq!(expand(template, &facts()).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            expand("a ${nope}", &facts()).unwrap_err().to_string(),
            "unknown fact \"nope\""
        );
        assert_eq!(
            expand("ab${ip", &facts()),
            Err(ExpandError::Unclosed { offset: 2 })
        );
    }

    #[test]
    fn names_are_listed() {
        assert_eq!(fact_names("${a}-$${b}-${c}").unwrap(), ["a", "c"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives_when_it_is_escaped(text: String) {
            let template = text.replace("${", "$${");
            // A `$` in front of an escaped brace shifts the escape; that text has no spelling.
            proptest::prop_assume!(!text.contains("$${"));
            proptest::prop_assert_eq!(expand(&template, &facts()).unwrap(), text);
        }

        #[test]
        fn never_panics(text: String) {
            let _ = expand(&text, &facts());
        }
    }
}

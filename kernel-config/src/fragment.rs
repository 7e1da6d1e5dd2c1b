//! Kernel configuration fragments: reading them, putting them together, comparing them with a finished .config.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use thiserror::Error;

const PREFIX: &str = "CONFIG_";
const NOT_SET: &str = " is not set";

/// What a fragment wants a symbol to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Built in.
    Yes,
    /// Left out.
    No,
    /// A number or quoted text, as written.
    Literal(String),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => formatter.write_str("y"),
            Self::No => formatter.write_str("n"),
            Self::Literal(text) => formatter.write_str(text),
        }
    }
}

/// One line of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The symbol, without `CONFIG_`.
    pub symbol: String,
    /// What it is to be.
    pub value: Value,
    /// Where it was written, counted from 1.
    pub line: usize,
}

/// A named fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The file's name without `.config`.
    pub name: String,
    /// Its lines.
    pub settings: Vec<Setting>,
}

/// What is wrong with a fragment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FragmentError {
    /// Not a setting.
    #[error(
        "fragment {fragment} line {line}: {text:?} is not CONFIG_NAME=y, =n, a number or \"text\" \
         (modules do not exist in this kernel)"
    )]
    Syntax {
        /// The fragment.
        fragment: String,
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The same symbol twice in one fragment.
    #[error("fragment {fragment} line {line}: CONFIG_{symbol} was set above already")]
    Twice {
        /// The fragment.
        fragment: String,
        /// Counted from 1.
        line: usize,
        /// The symbol.
        symbol: String,
    },
}

/// Two fragments that want different things.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "CONFIG_{symbol} is {first_value} in fragment {first} and {second_value} in fragment {second}: \
     fragments may only add to each other"
)]
pub struct Conflict {
    symbol: String,
    first: String,
    first_value: Value,
    second: String,
    second_value: Value,
}

/// A setting that the kernel's own rules did not let survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The fragment that wants it.
    pub fragment: String,
    /// Counted from 1.
    pub line: usize,
    /// The symbol, without `CONFIG_`.
    pub symbol: String,
    /// What the fragment wants.
    pub wanted: Value,
    /// What the finished configuration has.
    pub found: Option<String>,
}

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fragment,
            line,
            symbol,
            wanted,
            found,
        } = self;
        write!(
            formatter,
            "CONFIG_{symbol}={wanted} (fragment {fragment} line {line}) "
        )?;
        match found {
            Some(found) => write!(formatter, "became {found}"),
            None => write!(
                formatter,
                "is gone: no such option, or something it depends on is off"
            ),
        }
    }
}

impl Fragment {
    /// Reads a fragment's text.
    pub fn parse(name: &str, text: &str) -> Result<Self, FragmentError> {
        let mut settings: Vec<Setting> = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let Some((symbol, value)) = setting(text) else {
                return Err(FragmentError::Syntax {
                    fragment: name.to_owned(),
                    line,
                    text: text.to_owned(),
                });
            };
            if settings.iter().any(|setting| setting.symbol == symbol) {
                return Err(FragmentError::Twice {
                    fragment: name.to_owned(),
                    line,
                    symbol: symbol.to_owned(),
                });
            }
            settings.push(Setting {
                symbol: symbol.to_owned(),
                value,
                line,
            });
        }
        Ok(Self {
            name: name.to_owned(),
            settings,
        })
    }
}

fn setting(text: &str) -> Option<(&str, Value)> {
    let (symbol, value) = text.strip_prefix(PREFIX)?.split_once('=')?;
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    // Some symbols (of drivers) have lower-case letters; none of those is used here.
    if symbol.is_empty() || !symbol.bytes().all(allowed) {
        return None;
    }
    let value = match value {
        "y" => Value::Yes,
        "n" => Value::No,
        literal if is_number(literal) || is_text(literal) => Value::Literal(literal.to_owned()),
        _ => return None,
    };
    Some((symbol, value))
}

fn is_number(text: &str) -> bool {
    match text.strip_prefix("0x") {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Quoted, without anything that would need an escape.
fn is_text(text: &str) -> bool {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.contains(['"', '\\']) && !inner.contains(char::is_control))
}

/// The text that the kernel's configuration is made from; an error when two fragments disagree.
pub fn merge(fragments: &[Fragment]) -> Result<String, Box<Conflict>> {
    let mut seen: BTreeMap<&str, (&Value, &str)> = BTreeMap::new();
    for fragment in fragments {
        for setting in &fragment.settings {
            let entry = seen.entry(&setting.symbol);
            let (value, name) = entry.or_insert((&setting.value, &fragment.name));
            if **value != setting.value {
                return Err(Box::new(Conflict {
                    symbol: setting.symbol.clone(),
                    first: (*name).to_owned(),
                    first_value: (*value).clone(),
                    second: fragment.name.clone(),
                    second_value: setting.value.clone(),
                }));
            }
        }
    }
    let mut text = String::new();
    for (symbol, (value, _)) in seen {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{PREFIX}{symbol}={value}");
    }
    Ok(text)
}

/// Every setting that is not what its fragment wants in a finished `.config`.
pub fn lost(fragments: &[Fragment], dot_config: &str) -> Vec<Lost> {
    let found = read_dot_config(dot_config);
    let mut lost = Vec::new();
    for fragment in fragments {
        for setting in &fragment.settings {
            let found = found.get(setting.symbol.as_str()).copied();
            let survived = match &setting.value {
                Value::Yes => found == Some("y"),
                // An option that does not exist on an architecture is as good as one that is off.
                Value::No => matches!(found, None | Some("n")),
                Value::Literal(text) => found == Some(text.as_str()),
            };
            if !survived {
                lost.push(Lost {
                    fragment: fragment.name.clone(),
                    line: setting.line,
                    symbol: setting.symbol.clone(),
                    wanted: setting.value.clone(),
                    found: found.map(str::to_owned),
                });
            }
        }
    }
    lost
}

fn read_dot_config(text: &str) -> HashMap<&str, &str> {
    let line = |line: &'_ str| -> Option<(usize, usize)> {
        // Offsets rather than slices, so that both forms share one place that cuts.
        match line.strip_prefix("# ") {
            Some(rest) if rest.ends_with(NOT_SET) => Some((2, line.len() - NOT_SET.len())),
            Some(_) => None,
            None => line.find('=').map(|at| (0, at)),
        }
    };
    let mut symbols = HashMap::new();
    for text in text.lines() {
        let Some((start, end)) = line(text) else {
            continue;
        };
        if let Some(symbol) = text[start..end].strip_prefix(PREFIX) {
            let value = text.get(end + 1..).filter(|_| start == 0).unwrap_or("n");
            symbols.insert(symbol, value);
        }
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fragment(name: &str, text: &str) -> Fragment {
        Fragment::parse(name, text).unwrap()
    }

    #[test]
    fn lines_are_read_with_their_numbers() {
        let one = fragment(
            "a",
            "# why\nCONFIG_NET=y\n\nCONFIG_HZ=250\nCONFIG_LSM=\"yama,x\"\n",
        );
        let lines: Vec<_> = one
            .settings
            .iter()
            .map(|setting| {
                (
                    setting.line,
                    setting.symbol.as_str(),
                    setting.value.to_string(),
                )
            })
            .collect();
        let wanted = [(2, "NET", "y"), (4, "HZ", "250"), (5, "LSM", "\"yama,x\"")];
        assert_eq!(
            lines,
            wanted.map(|(line, symbol, value)| (line, symbol, value.to_owned()))
        );
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in [
            "NET=y",
            "CONFIG_NET",
            "CONFIG_NET=m",
            "CONFIG_net=y",
            "CONFIG_NET= y",
            "CONFIG_X=\"a\"b\"",
            "CONFIG_X=0x",
            " CONFIG_NET=y",
        ] {
            let result = Fragment::parse("a", text);
            assert!(
                matches!(result, Err(FragmentError::Syntax { line: 1, .. })),
                "{text}"
            );
        }
        let twice = Fragment::parse("a", "CONFIG_A=y\nCONFIG_A=y\n");
        assert!(matches!(twice, Err(FragmentError::Twice { line: 2, .. })));
    }

    #[test]
    fn fragments_may_agree_but_not_disagree() {
        let a = fragment("a", "CONFIG_X=y\n");
        let merged = merge(&[a.clone(), fragment("b", "CONFIG_X=y\nCONFIG_B=n\n")]).unwrap();
        assert_eq!(merged, "CONFIG_B=n\nCONFIG_X=y\n");
        let error = merge(&[a, fragment("c", "CONFIG_X=n\n")]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("fragment a") && text.contains("fragment c"),
            "{text}"
        );
    }

    #[test]
    fn every_lost_line_is_named_with_its_fragment() {
        let one = fragment(
            "one",
            "CONFIG_KEPT=y\nCONFIG_GONE=y\nCONFIG_OFF=y\nCONFIG_FORCED=n\nCONFIG_ABSENT=n\nCONFIG_N=5\n",
        );
        let config = "CONFIG_KEPT=y\n# CONFIG_OFF is not set\nCONFIG_FORCED=y\nCONFIG_N=6\n# x\n";
        let lost: Vec<_> = lost(&[one], config)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lost.len(), 4, "{lost:?}");
        assert!(lost[0].starts_with("CONFIG_GONE=y (fragment one line 2) is gone"));
        assert_eq!(lost[1], "CONFIG_OFF=y (fragment one line 3) became n");
        assert_eq!(lost[2], "CONFIG_FORCED=n (fragment one line 4) became y");
        assert_eq!(lost[3], "CONFIG_N=5 (fragment one line 6) became 6");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "(.|\n){0,200}") {
            let _ = Fragment::parse("a", &text);
            let _ = lost(&[], &text);
        }

        #[test]
        fn a_config_made_of_the_merged_text_loses_nothing(
            settings in proptest::collection::btree_map("[A-Z][A-Z0-9_]{0,8}", 0..4u8, 0..20)
        ) {
            let value = |kind| ["y", "n", "17", "\"text\""][usize::from(kind)];
            let text: String = settings
                .iter()
                .map(|(symbol, kind)| format!("CONFIG_{symbol}={}\n", value(*kind)))
                .collect();
            let fragments = [Fragment::parse("a", &text).unwrap()];
            prop_assert_eq!(lost(&fragments, &merge(&fragments).unwrap()), []);
        }
    }
}

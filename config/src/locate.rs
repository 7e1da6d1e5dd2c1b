//! Finds where a key path stands in the text, for errors found after parsing: the text is read
//! once more and everything but the path is skipped.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned, with_deserializer_from_str_with_options};

use crate::error::Position;

/// One step of a key path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Splits `network.interfaces[0].dhcp4`. No key of the configuration contains '.' or '['.
pub(crate) fn steps(path: &str) -> Vec<Step<'_>> {
    path.split(['.', '['])
        .filter(|part| !part.is_empty())
        .map(
            |part| match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
                Some(index) => Step::Index(index),
                None => Step::Key(part),
            },
        )
        .collect()
}

/// Position of the value at the path, or of the deepest part of the path that exists.
pub(crate) fn locate(text: &str, path: &str, options: Options) -> Option<Position> {
    let steps = steps(path);
    let mut found = None;
    // An error further down in the text does not matter once the path was passed.
    let _ = with_deserializer_from_str_with_options(text, options, |de| {
        Walk {
            steps: &steps,
            found: &mut found,
        }
        .deserialize(de)
    });
    found
}

/// A serde-saphyr location as a position, unless it is unknown.
pub(crate) fn position(location: serde_saphyr::Location) -> Option<Position> {
    let line = usize::try_from(location.line()).ok()?;
    let column = usize::try_from(location.column()).ok()?;
    (line > 0 && column > 0).then_some(Position { line, column })
}

struct Walk<'a> {
    steps: &'a [Step<'a>],
    found: &'a mut Option<Position>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            let value = Spanned::<IgnoredAny>::deserialize(deserializer)?;
            *self.found = position(value.referenced).or(*self.found);
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { steps, found } = self;
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            match steps {
                [Step::Key(wanted), rest @ ..] if key.value == *wanted => {
                    *found = position(key.referenced).or(*found);
                    map.next_value_seed(Walk {
                        steps: rest,
                        found: &mut *found,
                    })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Walk { steps, found } = self;
        let mut index = 0;
        loop {
            let more = match steps {
                [Step::Index(wanted), rest @ ..] if index == *wanted => seq
                    .next_element_seed(Walk {
                        steps: rest,
                        found: &mut *found,
                    })?
                    .is_some(),
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }
}

//! Inputs to begin with, and the words in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::fuzz::FuzzError;
use crate::read;

/// More words than that make each of them too rare.
const MOST_WORDS: usize = 512;

/// Shorter ones are found without help; longer ones are texts, not names.
const WORD_LENGTHS: std::ops::RangeInclusive<usize> = 3..=32;

/// The contents of a file, or of all files below a folder in the order of their names.
pub(crate) fn load(path: &Path) -> Result<Vec<Vec<u8>>, FuzzError> {
    if !path.is_dir() {
        return Ok(vec![read(path)?]);
    }
    let cannot_list = |source| FuzzError::Read {
        path: path.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(cannot_list)? {
        let entry = entry.map_err(cannot_list)?;
        // LibAFL leaves hidden files beside what it found.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    let mut contents = Vec::new();
    for entry in entries {
        contents.extend(load(&entry)?);
    }
    Ok(contents)
}

/// Names that occur in seeds that are texts. A fuzzer puts them elsewhere, where it would never
/// come upon them letter by letter.
pub(crate) fn words(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let texts = seeds
        .iter()
        .filter_map(|seed| std::str::from_utf8(seed).ok());
    let words: BTreeSet<&str> = texts
        .flat_map(|text| text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))))
        .filter(|word| WORD_LENGTHS.contains(&word.len()))
        .collect();
    words
        .into_iter()
        .take(MOST_WORDS)
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_names_in_texts() {
        let seeds = [
            b"kind: NodeConfig\napiVersion: keelson.dev/v1alpha1 # to be".to_vec(),
            vec![0xff, b'n', b'o', b't', b's'],
        ];
        assert_eq!(
            words(&seeds),
            [
                "NodeConfig",
                "apiVersion",
                "keelson.dev",
                "kind",
                "v1alpha1"
            ]
            .map(|word| word.as_bytes().to_vec())
        );
    }
}

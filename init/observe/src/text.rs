//! Text that others chose, made fit for a terminal.

/// What stands for a control character.
const REPLACEMENT: char = '?';

/// What stands for the rest of a text that was cut.
const ELLIPSIS: char = '…';

/// Text without control characters: a process in a pod chooses its own name, and an escape
/// sequence in it would reach the terminal of whoever lists processes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { REPLACEMENT } else { c })
        .collect()
}

/// At most `limit` bytes of a text, cut between characters.
pub(crate) fn clipped(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push(ELLIPSIS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_length_are_tamed() {
        assert_eq!(printable(b"a\x1b[31m\tb\xff"), "a?[31m?b\u{fffd}");
        assert_eq!(clipped("grün".to_owned(), 3), "gr…");
        assert_eq!(clipped("grün".to_owned(), 5), "grün");
    }

    proptest::proptest! {
        #[test]
        fn anything_is_tamed(bytes: Vec<u8>, limit in 0usize..40) {
            let text = printable(&bytes);
            proptest::prop_assert!(!text.chars().any(char::is_control));
            proptest::prop_assert!(clipped(text, limit).len() <= limit + ELLIPSIS.len_utf8());
        }
    }
}

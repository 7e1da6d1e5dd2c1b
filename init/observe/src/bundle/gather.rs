//! Reads the part of a content that is kept, whole lines only: half a secret would not be recognized.

use std::io::{self, Read};

use super::Keep;

/// What is read at a time.
const CHUNK: usize = 16 * 1024;

/// What is in an entry.
pub(super) struct Gathered {
    pub(super) bytes: Vec<u8>,
    /// Notes of ours around them.
    pub(super) before: String,
    pub(super) after: String,
    /// Whether all of the content is there.
    pub(super) complete: bool,
}

/// At most `limit` bytes of a content of which `skipped` bytes have been passed over already.
pub(super) fn gather(mut content: impl Read, keep: Keep, limit: usize, skipped: u64) -> Gathered {
    let mut bytes = Vec::new();
    let mut chunk = [0; CHUNK];
    let mut left_out = skipped;
    let mut failure = None;
    let mut cut_off = false;
    loop {
        let length = match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        bytes.extend(chunk.iter().take(length));
        match keep {
            Keep::Beginning if bytes.len() > limit => {
                cut_off = true;
                break;
            }
            // Moving bytes for every chunk would cost more than this much memory.
            Keep::End if bytes.len() > limit + limit / 4 => {
                left_out += drop_first(&mut bytes, limit);
            }
            Keep::Beginning | Keep::End => {}
        }
    }
    if cut_off {
        bytes.truncate(limit);
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(whole.map_or(0, |newline| newline + 1));
    } else {
        left_out += drop_first(&mut bytes, limit);
    }
    if left_out > 0 {
        let first = bytes.iter().position(|byte| *byte == b'\n');
        let line = first.map_or(bytes.len(), |newline| newline + 1);
        let rest = bytes.len() - line;
        left_out += drop_first(&mut bytes, rest);
    }
    let mut after = String::new();
    if cut_off {
        after = format!("[cut off after {} bytes]\n", bytes.len());
    }
    if let Some(error) = &failure {
        after = format!("\n[reading failed here: {error}]\n");
    }
    Gathered {
        bytes,
        before: match left_out {
            0 => String::new(),
            count => format!("[{count} bytes before this are left out]\n"),
        },
        after,
        complete: failure.is_none() && !cut_off && left_out == 0,
    }
}

/// Leaves the last so many bytes; tells how many went.
fn drop_first(bytes: &mut Vec<u8>, left: usize) -> u64 {
    let gone = bytes.len().saturating_sub(left);
    bytes.drain(..gone);
    u64::try_from(gone).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(part: &Gathered) -> &str {
        std::str::from_utf8(&part.bytes).unwrap()
    }

    #[test]
    fn short_contents_are_whole() {
        for keep in [Keep::Beginning, Keep::End] {
            let part = gather(b"one\ntwo".as_slice(), keep, 7, 0);
            assert_eq!((text(&part), part.complete), ("one\ntwo", true));
            assert_eq!(part.before + &part.after, "");
        }
    }

    #[test]
    fn long_contents_are_cut_between_lines() {
        let content = b"one\ntwo\nthree\n".as_slice();
        let part = gather(content, Keep::Beginning, 6, 0);
        assert_eq!(text(&part), "one\n");
        assert_eq!(part.after, "[cut off after 4 bytes]\n");
        let part = gather(content, Keep::End, 8, 0);
        assert_eq!(text(&part), "three\n");
        assert_eq!(part.before, "[8 bytes before this are left out]\n");
        assert!(!part.complete);
        // A line that is longer than all there is room for could be half a secret.
        for keep in [Keep::Beginning, Keep::End] {
            assert_eq!(text(&gather(content, keep, 2, 0)), "");
        }
    }

    #[test]
    fn what_was_skipped_counts_and_its_line_goes() {
        let part = gather(b"wo\nthree\n".as_slice(), Keep::End, 100, 5);
        assert_eq!(text(&part), "three\n");
        assert_eq!(part.before, "[8 bytes before this are left out]\n");
    }

    #[test]
    fn a_failing_reader_leaves_what_it_gave() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("disk on fire"));
                }
                buffer[..4].copy_from_slice(b"one\n");
                Ok(4)
            }
        }
        let part = gather(Broken(false), Keep::End, 100, 0);
        assert_eq!(text(&part), "one\n");
        assert_eq!(part.after, "\n[reading failed here: disk on fire]\n");
        assert!(!part.complete);
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_the_limit_and_never_part_of_a_line(
            content in "([a-c]{0,9}\n){0,20}",
            limit in 0usize..64,
            end: bool,
        ) {
            let keep = if end { Keep::End } else { Keep::Beginning };
            let part = gather(content.as_bytes(), keep, limit, 0);
            let kept = text(&part);
            proptest::prop_assert!(kept.len() <= limit);
            proptest::prop_assert!(kept.is_empty() || kept.ends_with('\n'));
            let whole = if end { content.ends_with(kept) } else { content.starts_with(kept) };
            proptest::prop_assert!(whole);
            let before = content.len() - kept.len();
            proptest::prop_assert!(!end || before == 0 || content.as_bytes()[before - 1] == b'\n');
        }
    }
}

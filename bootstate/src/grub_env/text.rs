//! The lines of a block, read as GRUB reads them.

use super::{BLOCK_SIZE, MARK, MAX_SEQUENCE};
use crate::slot::Slot;
use crate::words::put;

/// The value of a variable: that of the last line with its name, as GRUB sets one after the other.
/// `None` when the block is none or has no such line.
pub(super) fn variable<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lines = block.get(..BLOCK_SIZE)?.strip_prefix(MARK)?;
    lines
        .split(|c| *c == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .next_back()
}

/// Writes a line; gives where the next one starts.
pub(super) fn put_line(block: &mut [u8], at: usize, name: &str, value: &[u8]) -> usize {
    let mut at = at;
    for part in [name.as_bytes(), b"=", value, b"\n"] {
        put(block, at, part);
        at += part.len();
    }
    at
}

/// A sequence as we write it: decimal, in range, no leading zero (GRUB would take that for octal).
pub(super) fn sequence(text: &[u8]) -> Option<u32> {
    if text.starts_with(b"0") || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u32 = core::str::from_utf8(text).ok()?.parse().ok()?;
    (number <= MAX_SEQUENCE).then_some(number)
}

/// The digits of a number, at the end of the buffer.
pub(super) fn decimal(number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let (mut rest, mut start) = (number, buffer.len());
    for digit in buffer.iter_mut().rev() {
        *digit = u8::try_from(rest % 10).map_or(b'0', |value| b'0' + value);
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or_default()
}

pub(super) fn slot(text: &[u8]) -> Option<Slot> {
    Slot::ALL
        .into_iter()
        .find(|slot| letter(*slot).as_bytes() == text)
}

pub(super) const fn letter(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "a",
        Slot::B => "b",
    }
}

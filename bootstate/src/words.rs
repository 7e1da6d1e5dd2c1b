//! Little-endian words at byte offsets; what lies outside of the buffer reads as nothing.

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(array_at(bytes, offset)?))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(array_at(bytes, offset)?))
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Copies into a fixed buffer; every caller's offsets are constants inside of its buffer.
pub(crate) fn put(buffer: &mut [u8], offset: usize, bytes: &[u8]) {
    for (to, from) in buffer.iter_mut().skip(offset).zip(bytes) {
        *to = *from;
    }
}

//! Lengths of gRPC messages, read as the bytes pass.

use keelson_api::MAX_MESSAGE_BYTES;

/// A message is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has {bytes} bytes; this node takes up to {MAX_MESSAGE_BYTES}")]
pub(crate) struct TooLong {
    /// As its prefix says.
    pub(crate) bytes: u32,
}

/// Where in a message the next byte belongs.
#[derive(Debug)]
pub(crate) enum Framing {
    /// In the prefix: one byte for compression, four of length.
    Prefix { seen: u8, length: u32 },
    /// In the message, this far from its end.
    Message { left: u32 },
}

/// Bytes before each message.
const PREFIX: u8 = 5;

impl Framing {
    pub(crate) const fn new() -> Self {
        Self::Prefix { seen: 0, length: 0 }
    }

    /// Goes on over `data`.
    pub(crate) fn pass(&mut self, mut data: &[u8]) -> Result<(), TooLong> {
        while let [first, rest @ ..] = data {
            match self {
                Self::Prefix { seen, length } => {
                    // The compression flag is shifted out again by the length.
                    *length = (*length << 8) | u32::from(*first);
                    *seen += 1;
                    data = rest;
                    if *seen < PREFIX {
                        continue;
                    }
                    let bytes = *length;
                    if usize::try_from(bytes).is_ok_and(|bytes| bytes <= MAX_MESSAGE_BYTES) {
                        *self = Self::after(bytes);
                    } else {
                        return Err(TooLong { bytes });
                    }
                }
                Self::Message { left } => {
                    let take = usize::try_from(*left).map_or(data.len(), |n| n.min(data.len()));
                    data = data.get(take..).unwrap_or_default();
                    *self = Self::after(left.saturating_sub(u32::try_from(take).unwrap_or(*left)));
                }
            }
        }
        Ok(())
    }

    const fn after(left: u32) -> Self {
        if left == 0 {
            Self::new()
        } else {
            Self::Message { left }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.resize(5 + length, 0xff);
        bytes
    }

    #[test]
    fn lengths_are_found_however_the_bytes_arrive() {
        let stream = [
            message(0),
            message(3),
            message(70_000),
            message(MAX_MESSAGE_BYTES),
        ]
        .concat();
        for size in [1, 2, 4, 5, 7, 16_384, stream.len()] {
            let mut framing = Framing::new();
            for part in stream.chunks(size) {
                assert_eq!(framing.pass(part), Ok(()), "in parts of {size}");
            }
            assert!(matches!(framing, Framing::Prefix { seen: 0, .. }));
        }
    }

    #[test]
    fn the_prefix_alone_gives_a_long_message_away() {
        let long = MAX_MESSAGE_BYTES + 1;
        for size in [1, 5] {
            let mut framing = Framing::new();
            framing.pass(&message(9)).unwrap();
            let prefix: Vec<u8> = message(long).into_iter().take(5).collect();
            let found = prefix
                .chunks(size)
                .map(|part| framing.pass(part))
                .find(Result::is_err);
            let bytes = u32::try_from(long).unwrap();
            assert_eq!(found, Some(Err(TooLong { bytes })));
        }
    }
}

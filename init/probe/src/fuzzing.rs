//! A door for tests/fuzz to what reads answers. Compiled for it alone.

use std::io::{self, Read, Write};

/// Whether an HTTP answer is good; if not, a line for people.
///
/// # Errors
/// When it is not.
pub fn judge_http(answer: &[u8]) -> Result<(), String> {
    crate::http::judge(answer, "fuzzed".to_owned()).map_err(|error| error.to_string())
}

/// Holds the gRPC conversation with a peer that says `answer`, whatever it is told; gives the body
/// of the answer.
///
/// # Errors
/// When the answer is not complete.
pub fn converse_grpc(answer: &[u8]) -> io::Result<Option<Vec<u8>>> {
    crate::grpc::converse(Peer(answer))
}

struct Peer<'a>(&'a [u8]);

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! One call of gRPC's health service over a unix socket: `grpc.health.v1.Health/Check`.
//!
//! A call is a handful of HTTP/2 frames (RFC 9113) whose content never changes, so they are
//! written out here: an HTTP/2 library would bring a runtime along. Of the answer only the
//! message is read; headers are skipped, so no HPACK state is needed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::deadline::{Deadlined, remaining};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER: usize = 9;

/// Largest frame a peer may send unless it was told otherwise (RFC 9113 section 4.2).
const LARGEST_FRAME: usize = 16 * 1024;

/// A good answer is five frames long: settings, their acknowledgement, headers, message, trailers.
const MOST_FRAMES: usize = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The one stream used here.
const STREAM: u32 = 1;

/// `HealthCheckResponse { status: SERVING }`: field 1, variable-length integer, 1.
const SERVING: &[u8] = &[0x08, 1];

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrpcError {
    #[error("cannot connect to {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("no complete answer from {}", path.display())]
    Exchange { path: PathBuf, source: io::Error },
    #[error("{} refuses the health call", path.display())]
    Refused { path: PathBuf },
    #[error("{} says that it does not serve", path.display())]
    NotServing { path: PathBuf },
}

/// Asks once.
pub(crate) fn ask(path: &Path, deadline: Duration) -> Result<(), GrpcError> {
    let end = Instant::now() + deadline;
    let stream = connect(path, end).map_err(|source| GrpcError::Connect {
        path: path.to_owned(),
        source,
    })?;
    let answer = converse(Deadlined { stream, end });
    match answer.map_err(|source| GrpcError::Exchange {
        path: path.to_owned(),
        source,
    })? {
        None => Err(GrpcError::Refused {
            path: path.to_owned(),
        }),
        // One byte "not compressed", four of length, the message.
        Some(body) if body.get(5..) == Some(SERVING) => Ok(()),
        Some(_) => Err(GrpcError::NotServing {
            path: path.to_owned(),
        }),
    }
}

/// A server that does not accept leaves its queue full, and then connecting waits as well.
fn connect(path: &Path, end: Instant) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(remaining(end)))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// The body of the answer; `None` when the server ended the call without one.
pub(crate) fn converse(mut stream: impl Read + Write) -> io::Result<Option<Vec<u8>>> {
    stream.write_all(&request())?;
    stream.flush()?;
    let mut body = Vec::new();
    for _ in 0..MOST_FRAMES {
        let frame = read_frame(&mut stream)?;
        match frame.kind {
            DATA if frame.stream == STREAM => body.extend_from_slice(&frame.payload),
            SETTINGS if frame.flags & ACK == 0 => {
                stream.write_all(&encode(SETTINGS, ACK, 0, &[]))?;
            }
            PING if frame.flags & ACK == 0 => {
                stream.write_all(&encode(PING, ACK, 0, &frame.payload))?;
            }
            RST_STREAM | GOAWAY => return Ok(None),
            _ => {}
        }
        let ended = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        if ended && frame.stream == STREAM {
            return Ok((!body.is_empty()).then_some(body));
        }
    }
    Err(io::Error::other("too many frames"))
}

fn request() -> Vec<u8> {
    let mut headers = vec![
        0x83, // :method POST, entry 3 of the static table (RFC 7541 appendix A)
        0x86, // :scheme http, entry 6
    ];
    // Literals that are not to be indexed, their names from the static table where it has them.
    header(&mut headers, &[0x04], "/grpc.health.v1.Health/Check"); // :path
    header(&mut headers, &[0x01], "localhost"); // :authority
    header(&mut headers, &[0x0f, 31 - 15], "application/grpc"); // content-type
    header(&mut headers, b"\x00\x02te", "trailers");
    // An empty message asks for the server as a whole.
    let message = [0; 5];
    [
        PREFACE.to_vec(),
        encode(SETTINGS, 0, 0, &[]),
        encode(HEADERS, END_HEADERS, STREAM, &headers),
        encode(DATA, END_STREAM, STREAM, &message),
    ]
    .concat()
}

/// `value` is shorter than 127 bytes, so that its length is one byte.
fn header(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    block.extend(u8::try_from(value.len()));
    block.extend_from_slice(value.as_bytes());
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn read_frame(stream: &mut impl Read) -> io::Result<Frame> {
    let mut header = [0; FRAME_HEADER];
    stream.read_exact(&mut header)?;
    let [a, b, c, kind, flags, s0, s1, s2, s3] = header;
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    if length > LARGEST_FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(Frame {
        kind,
        flags,
        // The highest bit is reserved.
        stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        payload,
    })
}

fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    // What is sent here is far shorter than 2^24.
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests;

//! A network that a test plays itself: the other end of a machine's cable.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;

/// Longest frame QEMU sends: a jumbo frame with headers is far shorter.
const LONGEST_FRAME: usize = 70_000;

/// Listens where a machine plugs in, keeps its frames and sends what the test makes of each.
#[derive(Clone, Debug)]
pub struct Lan {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Lan {
    /// `answer` gets every frame of the machine and returns the frame to send back, if any.
    pub fn listen(
        socket: &Path,
        answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> anyhow::Result<Self> {
        // One that an earlier run left.
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        let lan = Self {
            frames: Arc::default(),
        };
        let frames = Arc::clone(&lan.frames);
        thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                // Ends with the machine.
                let _ = relay(stream, &frames, answer);
            }
        });
        Ok(lan)
    }

    /// How many requests to a DHCP server the machine sent.
    pub fn dhcp_requests(&self) -> usize {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().filter(|frame| is_dhcp_request(frame)).count()
    }
}

/// IPv4, UDP, to port 67.
pub fn is_dhcp_request(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x00])
        && frame.get(23) == Some(&17)
        && frame.get(36..38) == Some(&[0, 67])
}

fn relay(
    mut stream: UnixStream,
    frames: &Mutex<Vec<Vec<u8>>>,
    mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> std::io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST_FRAME {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame)?;
        if let Some(reply) = answer(&frame) {
            let length = u32::try_from(reply.len()).unwrap_or(0);
            stream.write_all(&length.to_be_bytes())?;
            stream.write_all(&reply)?;
        }
        frames
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(frame);
    }
}

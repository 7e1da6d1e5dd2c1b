//! Keys of input devices: only the power button matters here.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Getter, ioctl, opcode};

const EV_KEY: u8 = 1;
const KEY_POWER: u16 = 116;
/// Bytes of the key bitmap looked at: enough for KEY_POWER.
const KEY_BYTES: usize = 32;
/// `EVIOCGBIT(EV_KEY, KEY_BYTES)` of `linux/input.h`.
const KEY_BITS: u32 = opcode::read::<[u8; KEY_BYTES]>(b'E', 0x20 + EV_KEY);
/// `struct input_event`: a time of two machine words, type, code, value.
const EVENT_BYTES: usize = 2 * size_of::<libc::c_long>() + 8;

/// An input device that has a power key.
#[derive(Debug)]
pub struct PowerButton {
    device: File,
}

impl PowerButton {
    /// Opens an event device; `None` when it has no power key.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        // SAFETY: EVIOCGBIT writes at most the number of bytes encoded in its request number,
        // which is the size of the output type.
        let keys = unsafe { ioctl(&device, Getter::<KEY_BITS, [u8; KEY_BYTES]>::new())? };
        let has_power = keys[usize::from(KEY_POWER / 8)] & (1 << (KEY_POWER % 8)) != 0;
        Ok(has_power.then_some(Self { device }))
    }

    /// Reads what has arrived; true when the power key went down.
    pub fn pressed(&mut self) -> io::Result<bool> {
        let mut buffer = [0; EVENT_BYTES * 64];
        let mut pressed = false;
        loop {
            match self.device.read(&mut buffer) {
                Ok(0) => return Ok(pressed),
                Ok(length) => {
                    pressed |= buffer[..length]
                        .chunks_exact(EVENT_BYTES)
                        .any(is_power_down);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(pressed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn is_power_down(event: &[u8]) -> bool {
    // Type, code and value follow the time.
    let fields = &event[EVENT_BYTES - 8..];
    fields[..2] == u16::from(EV_KEY).to_ne_bytes()
        && fields[2..4] == KEY_POWER.to_ne_bytes()
        && fields[4..] == 1_i32.to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_power_key_going_down_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; EVENT_BYTES - 8];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        assert!(is_power_down(&event(1, 116, 1)));
        assert!(!is_power_down(&event(1, 116, 0)));
        assert!(!is_power_down(&event(1, 30, 1)));
        assert!(!is_power_down(&event(0, 116, 1)));
    }
}

//! Labels of mounted file systems.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Setter, ioctl, opcode};

/// Length the kernel reserves for a label, its end mark included.
const LABEL_BYTES: usize = 256;
/// `_IOW(0x94, 50, char[256])` of `linux/fs.h`.
const SET_LABEL: u32 = opcode::write::<[u8; LABEL_BYTES]>(0x94, 50);

/// Sets the label of the file system that an open file is on. ext4 takes up to 16 bytes.
pub fn set(file: impl AsFd, label: &str) -> io::Result<()> {
    let mut bytes = [0; LABEL_BYTES];
    let room = bytes
        .get_mut(..label.len())
        .ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(label.as_bytes());
    if bytes[LABEL_BYTES - 1] != 0 || label.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: FS_IOC_SETFSLABEL reads at most 256 bytes, the size of the input type, and they
    // end with a zero byte.
    unsafe { ioctl(file, Setter::<SET_LABEL, [u8; LABEL_BYTES]>::new(bytes))? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_cannot_fit_is_refused_before_the_kernel_sees_it() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(
            set(&file, &"x".repeat(256)).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(SET_LABEL, 0x4100_9432);
    }
}

//! What only ext4 can do.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `EXT4_IOC_RESIZE_FS`, `_IOW('f', 16, __u64)` of `linux/ext4.h`.
const RESIZE: u32 = opcode::write::<u64>(b'f', 16);

/// Lets a mounted file system grow to this many blocks. `file` is any open file or folder on it.
pub fn resize(file: impl AsFd, blocks: u64) -> io::Result<()> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64; file systems other than ext4 do not know it.
    unsafe { ioctl(file, Setter::<RESIZE, u64>::new(blocks))? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_number_is_the_kernels() {
        assert_eq!(RESIZE, 0x4008_6610);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(resize(&file, 1).is_err());
    }
}

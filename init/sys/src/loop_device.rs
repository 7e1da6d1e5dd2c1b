//! Loop devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};

const CONFIGURE: Opcode = 0x4c0a;
const CLEAR: Opcode = 0x4c01;
const GET_FREE: Opcode = 0x4c82;

const FLAG_READ_ONLY: u32 = 1;
const FLAG_DIRECT_IO: u32 = 16;

/// Attempts when another process takes the free device first.
const ATTEMPTS: u32 = 16;

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// How to attach a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Refuse writes.
    pub read_only: bool,
    /// Go around the page cache of the backing file.
    pub direct_io: bool,
}

/// Attaches a file to a free loop device and returns that device.
pub fn attach(backing: &Path, options: Options) -> io::Result<PathBuf> {
    let file = OpenOptions::new()
        .read(true)
        .write(!options.read_only)
        .open(backing)?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a device number.
        let number = unsafe { ioctl(&control, ReturnsNumber::<GET_FREE>)? };
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .open(&path)?;
        match configure(&device, file.as_raw_fd(), backing, options) {
            Err(Errno::BUSY) => {}
            result => return result.map(|()| path).map_err(io::Error::from),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Detaches the file of a loop device.
pub fn detach(device: &Path) -> io::Result<()> {
    let device = File::open(device)?;
    // SAFETY: LOOP_CLR_FD takes no argument.
    unsafe { ioctl(&device, NoArg::<CLEAR>::new())? };
    Ok(())
}

fn configure(
    device: impl AsFd,
    file: RawFd,
    backing: &Path,
    options: Options,
) -> Result<(), Errno> {
    let mut flags = 0;
    if options.read_only {
        flags |= FLAG_READ_ONLY;
    }
    if options.direct_io {
        flags |= FLAG_DIRECT_IO;
    }
    let mut file_name = [0; 64];
    // Only shown to people; the kernel keeps the file by its descriptor.
    for (to, from) in file_name[..63]
        .iter_mut()
        .zip(backing.as_os_str().as_encoded_bytes())
    {
        *to = *from;
    }
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let fd = u32::try_from(file).map_err(|_| Errno::BADF)?;
    let config = LoopConfig {
        fd,
        block_size: 0,
        info,
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one loop_config, whose layout the structures above repeat.
    unsafe { ioctl(device, Setter::<CONFIGURE, LoopConfig>::new(config)) }
}

/// A request whose result is the return value of the call.
struct ReturnsNumber<const OPCODE: Opcode>;

// SAFETY: the request passes no pointer, so nothing is read or written; the output is the
// number that the call returned.
unsafe impl<const OPCODE: Opcode> Ioctl for ReturnsNumber<OPCODE> {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<IoctlOutput> {
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_size() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}

//! dm-verity devices through the device mapper's control node.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

const CONTROL: &str = "/dev/mapper/control";

/// Version of the interface; the kernel accepts any minor one up to its own.
const VERSION: [u32; 3] = [4, 0, 0];
/// `sizeof(struct dm_ioctl)` of `linux/dm-ioctl.h`.
const HEADER_BYTES: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const TARGET_BYTES: usize = 40;
/// Offset and room of the device's name in the header.
const NAME_AT: usize = 48;
const NAME_ROOM: usize = 128;
/// Offset of the device number in the header.
const DEVICE_AT: usize = 40;
const READ_ONLY: u32 = 1;

/// What the control node is asked to do.
#[derive(Clone, Copy, Debug)]
enum Command {
    Create,
    LoadTable,
    Remove,
    /// DM_DEV_SUSPEND with no suspend flag, which makes a loaded table live.
    Resume,
}

/// A verity device to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity<'a> {
    /// Name of the new device.
    pub name: &'a str,
    /// Device that holds data and tree.
    pub device: &'a str,
    /// Data blocks of 4096 bytes. The tree starts one block behind them, after veritysetup's
    /// superblock.
    pub data_blocks: u64,
    /// Root hash in hexadecimal.
    pub root_hash: &'a str,
    /// Salt in hexadecimal, or `-` for none.
    pub salt: &'a str,
}

/// Opens a verity device, read-only; a block that does not match its hash panics the kernel.
pub fn open_verity(verity: &Verity<'_>) -> io::Result<PathBuf> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    run(&control, Command::Create, verity.name, 0, &[])?;
    let table = table_bytes(verity)?;
    let made = run(&control, Command::LoadTable, verity.name, READ_ONLY, &table)
        .and_then(|_| run(&control, Command::Resume, verity.name, 0, &[]));
    match made {
        Ok(device) => Ok(Path::new("/dev").join(format!("dm-{}", minor(device)))),
        Err(error) => {
            // The table's error is the one to report.
            let _ = run(&control, Command::Remove, verity.name, 0, &[]);
            Err(error)
        }
    }
}

/// One target and its parameters, as the ioctl wants them behind its header.
fn table_bytes(verity: &Verity<'_>) -> io::Result<Vec<u8>> {
    let Verity {
        device,
        data_blocks,
        root_hash,
        salt,
        ..
    } = verity;
    let overflow = || io::Error::from(io::ErrorKind::InvalidInput);
    let hash_start = data_blocks.checked_add(1).ok_or_else(overflow)?;
    let sectors = data_blocks.checked_mul(8).ok_or_else(overflow)?;
    let parameters = format!(
        "1 {device} {device} 4096 4096 {data_blocks} {hash_start} sha256 {root_hash} {salt} \
         1 panic_on_corruption"
    );
    let length = (TARGET_BYTES + parameters.len() + 1).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(0_u64.to_ne_bytes());
    bytes.extend(sectors.to_ne_bytes());
    bytes.extend(0_i32.to_ne_bytes());
    bytes.extend(u32::try_from(length).map_err(|_| overflow())?.to_ne_bytes());
    let mut kind = [0; 16];
    kind[..6].copy_from_slice(b"verity");
    bytes.extend(kind);
    bytes.extend(parameters.as_bytes());
    bytes.resize(length, 0);
    Ok(bytes)
}

/// Runs one command; returns the device number from the header.
fn run(
    control: impl AsFd,
    command: Command,
    name: &str,
    flags: u32,
    targets: &[u8],
) -> io::Result<u64> {
    if name.len() >= NAME_ROOM || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let length = HEADER_BYTES + targets.len();
    let total = u32::try_from(length).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    let header_bytes = u32::try_from(HEADER_BYTES).map_err(io::Error::other)?;
    let target_count = u32::from(!targets.is_empty());
    let [major, minor, patch] = VERSION;
    let words = [
        major,
        minor,
        patch,
        total,
        header_bytes,
        target_count,
        0,
        flags,
    ];
    for (field, word) in buffer.chunks_exact_mut(4).zip(words) {
        field.copy_from_slice(&word.to_ne_bytes());
    }
    buffer[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    buffer[HEADER_BYTES..].copy_from_slice(targets);
    // SAFETY: every device mapper request reads and writes inside the buffer whose length is in
    // the header's data_size field, and that is the true length of `buffer`.
    unsafe {
        ioctl(
            control,
            Request {
                command,
                buffer: &mut buffer,
            },
        )?
    };
    let mut device = [0; 8];
    device.copy_from_slice(&buffer[DEVICE_AT..DEVICE_AT + 8]);
    Ok(u64::from_ne_bytes(device))
}

/// Minor number in the kernel's own encoding of 64-bit device numbers.
fn minor(device: u64) -> u64 {
    (device & 0xff) | ((device >> 12) & 0x000f_ff00)
}

struct Request<'a> {
    command: Command,
    buffer: &'a mut [u8],
}

// SAFETY: the number is built from the header's size and a documented command; the pointer is
// to a buffer that lives as long as the request.
unsafe impl Ioctl for Request<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        let number = match self.command {
            Command::Create => 3,
            Command::Remove => 4,
            Command::Resume => 6,
            Command::LoadTable => 9,
        };
        opcode::read_write::<[u8; HEADER_BYTES]>(0xfd, number)
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        self.buffer.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut std::ffi::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_data_tree_and_hash() {
        let verity = Verity {
            name: "root",
            device: "/dev/vda5",
            data_blocks: 1000,
            root_hash: "ab",
            salt: "cd",
        };
        let bytes = table_bytes(&verity).unwrap();
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(bytes[8..16], 8000_u64.to_ne_bytes());
        assert_eq!(&bytes[24..30], b"verity");
        let parameters = std::str::from_utf8(&bytes[TARGET_BYTES..]).unwrap();
        assert_eq!(
            parameters.trim_end_matches('\0'),
            "1 /dev/vda5 /dev/vda5 4096 4096 1000 1001 sha256 ab cd 1 panic_on_corruption"
        );
        let huge = Verity {
            data_blocks: u64::MAX,
            ..verity
        };
        assert!(table_bytes(&huge).is_err());
    }

    #[test]
    fn minors_beyond_255_are_read_right() {
        // major 253, minor 0x123 as huge_encode_dev writes it
        assert_eq!(minor(0x10_fd23), 0x123);
        assert_eq!(minor(0xfd00), 0);
    }
}

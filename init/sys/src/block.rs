//! Block devices: size, state and partitions.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, NoArg, Setter, ioctl, opcode};

/// `_IOR(0x12, 114, size_t)` of `linux/fs.h`.
const GET_SIZE64: u32 = opcode::read::<usize>(0x12, 114);
/// `_IO(0x12, 94)`.
const READ_ONLY_GET: u32 = opcode::none(0x12, 94);
/// `_IO(0x12, 97)`.
const FLUSH_BUFFERS: u32 = opcode::none(0x12, 97);
/// `_IO(0x12, 95)`.
const REREAD_PARTITIONS: u32 = opcode::none(0x12, 95);
/// `_IO(0x12, 105)`.
const PARTITION: u32 = opcode::none(0x12, 105);

const ADD_PARTITION: i32 = 1;
const RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_ioctl_arg` of `linux/blkpg.h`.
#[repr(C)]
struct PartitionRequest {
    op: i32,
    flags: i32,
    datalen: i32,
    data: *mut PartitionRange,
}

/// `struct blkpg_partition`.
#[repr(C)]
struct PartitionRange {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// Size in bytes.
pub fn size(device: impl AsFd) -> io::Result<u64> {
    // SAFETY: BLKGETSIZE64 writes a u64 whatever the size_t in its number says.
    Ok(unsafe { ioctl(device, Getter::<GET_SIZE64, u64>::new())? })
}

/// Logical sector size in bytes.
pub fn sector_size(device: impl AsFd) -> io::Result<u32> {
    Ok(rustix::fs::ioctl_blksszget(device)?)
}

/// Whether it refuses writes.
pub fn read_only(device: impl AsFd) -> io::Result<bool> {
    // SAFETY: BLKROGET writes an int.
    Ok(unsafe { ioctl(device, Getter::<READ_ONLY_GET, i32>::new())? } != 0)
}

/// Writes its buffers out and drops them.
pub fn flush_buffers(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument.
    unsafe { ioctl(device, NoArg::<FLUSH_BUFFERS>::new())? };
    Ok(())
}

/// Makes the kernel read the partition table again; fails while a partition is in use.
pub fn reread_partitions(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument.
    unsafe { ioctl(disk, NoArg::<REREAD_PARTITIONS>::new())? };
    Ok(())
}

/// Tells the kernel of a partition that was added to the table while others are in use.
pub fn add_partition(disk: impl AsFd, number: i32, start: u64, length: u64) -> io::Result<()> {
    change_partition(disk, ADD_PARTITION, number, start, length)
}

/// Tells the kernel of a partition that has grown; it may be mounted.
pub fn resize_partition(disk: impl AsFd, number: i32, start: u64, length: u64) -> io::Result<()> {
    change_partition(disk, RESIZE_PARTITION, number, start, length)
}

fn change_partition(
    disk: impl AsFd,
    op: i32,
    number: i32,
    start: u64,
    length: u64,
) -> io::Result<()> {
    let mut range = PartitionRange {
        start: i64::try_from(start).map_err(io::Error::other)?,
        length: i64::try_from(length).map_err(io::Error::other)?,
        number,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let datalen = i32::try_from(size_of::<PartitionRange>()).map_err(io::Error::other)?;
    let request = PartitionRequest {
        op,
        flags: 0,
        datalen,
        data: &raw mut range,
    };
    // SAFETY: BLKPG reads the request and the range it points to; both live until it returns.
    unsafe { ioctl(disk, Setter::<PARTITION, PartitionRequest>::new(request))? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_the_kernels() {
        assert_eq!(
            GET_SIZE64,
            if size_of::<usize>() == 8 {
                0x8008_1272
            } else {
                0x8004_1272
            }
        );
        assert_eq!(PARTITION, 0x1269);
        assert_eq!(size_of::<PartitionRange>() % 8, 0);
    }

    #[test]
    fn a_file_that_is_no_block_device_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(size(&file).is_err());
        assert!(add_partition(&file, 1, 0, 512).is_err());
    }
}

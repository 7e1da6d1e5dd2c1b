//! The firmware calls: the disk we were loaded from, loader variables, starting an image.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::time::Duration;

use keelson_bootstate::{Guid, Slot};
use keelson_loader::disk::{Disk, DiskError};
use uefi::boot::{self, LoadImageSource, ScopedProtocol};
use uefi::proto::device_path::media::{HardDrive, PartitionSignature};
use uefi::proto::device_path::{DevicePath, DevicePathNode, DevicePathNodeEnum};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::block::BlockIO;
use uefi::runtime::{self, ResetType, VariableAttributes, VariableVendor};
use uefi::{CString16, Handle, Status, cstr16, guid};

/// Longest single transfer; also the size of the aligned buffer that all transfers go through.
const TRANSFER: usize = 1024 * 1024;

/// systemd's boot loader interface: the kernel's stub and our stage 1 read its variables.
const LOADER_VENDOR: VariableVendor = VariableVendor(guid!("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"));

/// The whole disk that holds the partition this program was loaded from.
pub(crate) struct BootDisk {
    block_io: ScopedProtocol<BlockIO>,
    esp: Guid,
    buffer: Vec<u8>,
}

impl BootDisk {
    /// Finds it by device path: the disk is the path of the partition without its last node.
    /// Disks with the same GUIDs (a cloned card) are never mixed up that way.
    pub(crate) fn find() -> Result<Self, String> {
        let image = protocol::open::<LoadedImage>(boot::image_handle())
            .map_err(|s| format!("the firmware does not say where this loader is from ({s})"))?;
        let device = image
            .device()
            .ok_or("this loader was not read from a disk")?;
        let path = protocol::open::<DevicePath>(device)
            .map_err(|s| format!("the boot device has no device path ({s})"))?;

        let mut nodes: Vec<&DevicePathNode> = path.node_iter().collect();
        let Some(DevicePathNodeEnum::MediaHardDrive(partition)) =
            nodes.pop().and_then(|node| node.as_enum().ok())
        else {
            return Err("this loader was not read from a partition of a disk".into());
        };
        let esp = gpt_signature(partition)
            .ok_or("the disk this loader is on has no GUID partition table")?;

        let handles = boot::find_handles::<BlockIO>()
            .map_err(|e| format!("the firmware lists no disks ({})", e.status()))?;
        for handle in handles {
            if is_at(handle, &nodes)
                && let Ok(block_io) = protocol::open::<BlockIO>(handle)
                && !block_io.media().is_logical_partition()
            {
                return Ok(Self {
                    buffer: aligned_room(&block_io),
                    block_io,
                    esp,
                });
            }
        }
        Err("the firmware gives no access to the disk this loader is on".into())
    }
}

impl Disk for BootDisk {
    fn sector_size(&self) -> usize {
        // 512 when the firmware reports nonsense; reads then fail with a status.
        match usize::try_from(self.block_io.media().block_size()) {
            Ok(size) if size.is_power_of_two() && (512..=TRANSFER).contains(&size) => size,
            Ok(_) | Err(_) => 512,
        }
    }

    fn last_sector(&self) -> u64 {
        self.block_io.media().last_block()
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let media = self.block_io.media();
        let (id, align) = (media.media_id(), alignment(&self.block_io));
        let sectors_per_piece = TRANSFER / self.sector_size();
        let sectors = (first..).step_by(sectors_per_piece);
        for (piece, sector) in into.chunks_mut(TRANSFER).zip(sectors) {
            let failed = |status: Status| DiskError::Read {
                sector,
                status: status.0,
            };
            let room = room(&mut self.buffer, align, piece.len())
                .ok_or(failed(Status::BUFFER_TOO_SMALL))?;
            self.block_io
                .read_blocks(id, sector, room)
                .map_err(|e| failed(e.status()))?;
            piece.copy_from_slice(room);
        }
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError> {
        let media = self.block_io.media();
        let (id, align) = (media.media_id(), alignment(&self.block_io));
        let sectors_per_piece = TRANSFER / self.sector_size();
        let sectors = (first..).step_by(sectors_per_piece);
        for (piece, sector) in from.chunks(TRANSFER).zip(sectors) {
            let failed = |status: Status| DiskError::Write {
                sector,
                status: status.0,
            };
            let room = room(&mut self.buffer, align, piece.len())
                .ok_or(failed(Status::BUFFER_TOO_SMALL))?;
            room.copy_from_slice(piece);
            self.block_io
                .write_blocks(id, sector, room)
                .map_err(|e| failed(e.status()))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.block_io.flush_blocks().map_err(|e| DiskError::Flush {
            status: e.status().0,
        })
    }
}

/// The aligned part of the buffer.
fn room(buffer: &mut [u8], align: usize, len: usize) -> Option<&mut [u8]> {
    let start = buffer.as_ptr().align_offset(align);
    buffer.get_mut(start..)?.get_mut(..len)
}

/// Sets the volatile variables that tell Linux which disk and slot it was started from, and why.
pub(crate) fn announce(disk: &BootDisk, slot: Slot, report: &str) -> Result<(), Status> {
    let esp = format!("{:#}", disk.esp);
    let entry = format!("slot-{}", slot.letter());
    let attributes = VariableAttributes::BOOTSERVICE_ACCESS | VariableAttributes::RUNTIME_ACCESS;
    for (name, value) in [
        (cstr16!("LoaderDevicePartUUID"), esp.as_str()),
        (cstr16!("LoaderEntrySelected"), entry.as_str()),
        // Last: should the firmware have no room for it, the boot goes on without.
        (cstr16!("KeelsonLoaderReport"), report),
    ] {
        let value = CString16::try_from(value).map_err(|_| Status::INVALID_PARAMETER)?;
        runtime::set_variable(name, &LOADER_VENDOR, attributes, value.as_bytes())
            .map_err(|e| e.status())?;
    }
    Ok(())
}

/// Starts an EFI program from memory; comes back only with the reason why that failed.
pub(crate) fn start(program: &[u8]) -> String {
    let source = LoadImageSource::FromBuffer {
        buffer: program,
        file_path: None,
    };
    match boot::load_image(boot::image_handle(), source) {
        Err(e) => format!(
            "the firmware does not accept it as a program ({})",
            e.status()
        ),
        Ok(image) => match boot::start_image(image) {
            Err(e) => format!("it came back ({})", e.status()),
            Ok(()) => "it came back without an error".into(),
        },
    }
}

/// Waits, then resets the machine.
pub(crate) fn pause_and_reset(pause: Duration) -> ! {
    boot::stall(pause);
    runtime::reset(ResetType::COLD, Status::ABORTED, None)
}

fn gpt_signature(partition: &HardDrive) -> Option<Guid> {
    match partition.partition_signature() {
        PartitionSignature::Guid(guid) => Some(Guid::from_disk(guid.to_bytes())),
        _ => None,
    }
}

/// Whether a handle's device path consists of exactly these nodes.
fn is_at(handle: Handle, nodes: &[&DevicePathNode]) -> bool {
    protocol::open::<DevicePath>(handle)
        .is_ok_and(|path| path.node_iter().eq(nodes.iter().copied()))
}

fn alignment(block_io: &BlockIO) -> usize {
    // 0 and 1 both mean "any".
    usize::try_from(block_io.media().io_align()).map_or(1, |align| align.max(1).next_power_of_two())
}

fn aligned_room(block_io: &BlockIO) -> Vec<u8> {
    vec![0; TRANSFER + alignment(block_io)]
}

/// The one unsafe call: opening a protocol without taking it away from the firmware's drivers.
#[allow(
    unsafe_code,
    reason = "boot::open_protocol has no safe form that leaves drivers connected"
)]
mod protocol {
    use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
    use uefi::proto::ProtocolPointer;
    use uefi::{Handle, Status};

    /// Opens a protocol in the "get" way. The exclusive way (safe) would disconnect the partition
    /// and file system drivers from the disk we read.
    pub(super) fn open<P: ProtocolPointer + ?Sized>(
        handle: Handle,
    ) -> Result<ScopedProtocol<P>, Status> {
        let agent = boot::image_handle();
        let params = OpenProtocolParams {
            handle,
            agent,
            controller: None,
        };
        // SAFETY: the handle comes from the firmware's own lists. Nothing removes it or its
        // protocol while this program runs: it connects and disconnects no drivers, runs no
        // callbacks, and drops every protocol before it ends or hands the machine to a kernel.
        unsafe { boot::open_protocol::<P>(params, OpenProtocolAttributes::GetProtocol) }
            .map_err(|e| e.status())
    }
}

//! The real machine.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use keelson_control::{Client, Level};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::content::{Content, HEAD};
use crate::host::Host;
use crate::marker::{self, Mark};
use crate::table::Extent;
use crate::tool::{self, CheckMode, ToolError};
use crate::volume::{Found, Volume};

/// Written at a time when a volume is erased.
const OVERWRITE_BLOCK: usize = 256 * 1024;

/// This machine and its PID 1.
#[derive(Debug)]
pub(crate) struct System {
    /// `None` when PID 1 cannot be reached: storage is prepared all the same.
    client: Mutex<Option<Client>>,
}

impl System {
    /// Connects to PID 1.
    pub(crate) fn new() -> Self {
        let client = Client::connect()
            .inspect_err(|error| tracing::warn!("{}", keelson_control::chain(error)))
            .ok();
        Self {
            client: Mutex::new(client),
        }
    }

    /// Stamps a boot phase.
    pub(crate) fn phase(&self, name: &str) {
        self.tell(|client| client.phase(name));
    }

    /// A line on the console about why the node has no storage.
    pub(crate) fn fail(&self, text: &str) {
        tracing::error!("{text}");
        self.tell(|client| client.message(Level::Error, text));
    }

    /// Makes the kernel see a partition as the table has it.
    pub(crate) fn tell_kernel(&self, disk: &File, device: &Path, extent: Extent) -> io::Result<()> {
        let Extent {
            number,
            start,
            length,
        } = extent;
        let number = i32::try_from(number).map_err(io::Error::other)?;
        match known_extent(device)? {
            Some(known) if known == (start, length) => Ok(()),
            Some((known_start, _)) if known_start == start => {
                keelson_sys::block::resize_partition(disk, number, start, length)
            }
            Some(_) => Err(io::Error::other(
                "the kernel has this partition at another place; start the node again",
            )),
            None => keelson_sys::block::add_partition(disk, number, start, length),
        }
    }

    fn tell(&self, call: impl FnOnce(&mut Client) -> Result<(), keelson_control::ClientError>) {
        // A poisoned lock means a panic in another thread, which ends the process anyway.
        let Ok(mut client) = self.client.lock() else {
            return;
        };
        if let Some(open) = client.as_mut()
            && let Err(error) = call(open)
        {
            tracing::warn!("{}", keelson_control::chain(&error));
            *client = None;
        }
    }
}

impl Host for System {
    fn look(&self, device: &Path) -> io::Result<Found> {
        let file = File::open(device)?;
        let bytes = keelson_sys::block::size(&file)?;
        let mut head = vec![0; HEAD];
        file.read_exact_at(&mut head, 0)?;
        let mut tail = vec![0; marker::TAIL_LEN];
        file.read_exact_at(&mut tail, bytes.saturating_sub(marker::TAIL))?;
        Ok(Found {
            content: Content::of(&head),
            mark: Mark::read(&tail),
            bytes,
        })
    }

    fn write_tail(&self, device: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(device)?;
        let size = keelson_sys::block::size(&file)?;
        file.write_all_at(bytes, size.saturating_sub(marker::TAIL))?;
        file.sync_all()
    }

    fn overwrite(&self, device: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(device)?;
        let end = keelson_sys::block::size(&file)?.saturating_sub(marker::TAIL);
        let zeros = vec![0; OVERWRITE_BLOCK];
        let mut offset = 0;
        while offset < end {
            let room = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let part = zeros.get(..room).unwrap_or(&zeros);
            file.write_all_at(part, offset)?;
            offset += u64::try_from(part.len()).unwrap_or(u64::MAX);
        }
        file.sync_all()
    }

    fn make(&self, volume: Volume, device: &Path, blocks: u64) -> Result<(), ToolError> {
        tool::make(volume, device, blocks)
    }

    fn check(&self, volume: Volume, device: &Path, mode: CheckMode) -> Result<bool, ToolError> {
        tool::check(volume, device, mode)
    }

    fn is_mounted(&self, target: &Path) -> bool {
        is_mounted(target)
    }

    fn mount(&self, volume: Volume, device: &Path) -> io::Result<()> {
        let target = volume.target();
        let flags = match volume {
            Volume::State => {
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME
            }
            // Container images hold programs, device nodes and set-user-id files.
            Volume::Data => MountFlags::NOATIME,
        };
        mount(device, target, "ext4", flags, Some(volume.mount_options()))?;
        // Containers see mounts made later (volumes) only through a shared mount.
        if volume == Volume::Data {
            mount_change(target, MountPropagationFlags::SHARED)?;
        }
        Ok(())
    }

    fn grow(&self, volume: Volume, blocks: u64) -> io::Result<()> {
        keelson_sys::ext4::resize(File::open(volume.target())?, blocks)
    }

    fn say(&self, text: &str) {
        tracing::info!("{text}");
        self.tell(|client| client.message(Level::Info, text));
    }

    fn warn(&self, text: &str) {
        tracing::warn!("{text}");
        self.tell(|client| client.message(Level::Warn, text));
    }
}

/// Whether a file system is mounted exactly there.
pub(crate) fn is_mounted(target: &Path) -> bool {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return false;
    };
    table.lines().any(|line| {
        line.split(' ')
            .nth(4)
            .is_some_and(|at| Path::new(at) == target)
    })
}

/// Start and length in bytes of a partition as the kernel has it; `None` if it does not know it.
fn known_extent(device: &Path) -> io::Result<Option<(u64, u64)>> {
    let Some(name) = device.file_name() else {
        return Ok(None);
    };
    let folder = Path::new("/sys/class/block").join(name);
    if !folder.exists() {
        return Ok(None);
    }
    // sysfs counts in 512 bytes whatever the sector size.
    let number = |file: &str| -> io::Result<u64> {
        let text = fs::read_to_string(folder.join(file))?;
        let sectors: u64 = text.trim().parse().map_err(io::Error::other)?;
        Ok(sectors.saturating_mul(512))
    };
    Ok(Some((number("start")?, number("size")?)))
}

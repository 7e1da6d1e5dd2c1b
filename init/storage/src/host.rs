//! What preparing the disk needs from the machine. The tests have a machine that loses power.

use std::io;
use std::path::Path;

use crate::tool::{CheckMode, ToolError};
use crate::volume::{Found, Volume};

/// The machine, for everything but the raw disk.
pub trait Host: Sync {
    /// Looks at a partition.
    fn look(&self, device: &Path) -> io::Result<Found>;
    /// Writes the last bytes of a partition and flushes them.
    fn write_tail(&self, device: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Writes zeros over a partition, all but its last bytes, and flushes them.
    fn overwrite(&self, device: &Path) -> io::Result<()>;
    /// Makes a file system and flushes it.
    fn make(&self, volume: Volume, device: &Path, blocks: u64) -> Result<(), ToolError>;
    /// Checks a file system that is not mounted; returns whether it is good now.
    fn check(&self, volume: Volume, device: &Path, mode: CheckMode) -> Result<bool, ToolError>;
    /// Whether something is mounted there already (a second run in one boot).
    fn is_mounted(&self, target: &Path) -> bool;
    /// Mounts a volume where it belongs.
    fn mount(&self, volume: Volume, device: &Path) -> io::Result<()>;
    /// Lets a mounted file system grow.
    fn grow(&self, volume: Volume, blocks: u64) -> io::Result<()>;
    /// A line for people about something that may take a while.
    fn say(&self, text: &str);
    /// A line for people about something that works, but not as it should.
    fn warn(&self, text: &str);
}

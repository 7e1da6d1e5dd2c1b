//! The partitions of a Keelson disk: kinds, type ids, names, sizes and order.
//!
//! Type ids are our own, so that no other system mounts or formats a slot by itself. The two
//! exceptions must be found by firmware and by other people's tools: the EFI system partition and
//! the BIOS boot partition.

use crate::guid::Guid;
use crate::slot::Slot;

/// One mebibyte; every partition starts and ends at a multiple of it.
///
/// That is a multiple of every sector size and of the erase blocks of common flash, and leaves the
/// table's 34 sectors (or 6 of 4096 bytes) room at the front.
pub const MIB: u64 = 1024 * 1024;

/// Room for a kernel with its initramfs: today's take a fifth of it.
pub(crate) const BOOT_SLOT_MIB: u64 = 64;

/// Four times what a root file system takes today.
pub(crate) const ROOT_SLOT_MIB: u64 = 512;

/// The smallest disk a node runs on; leaves about 700 MiB for DATA.
pub const SMALLEST_DISK: u64 = 2048 * MIB;

/// A partition of a Keelson disk. Order of the variants is the order on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// FAT with the loader only; first, because firmware of boards looks there.
    Esp,
    /// Where GRUB's core image lives (amd64 started by BIOS).
    Bios,
    /// FAT with GRUB's try counter (amd64 started by BIOS).
    GrubEnv,
    /// The boot record, two copies.
    BootState,
    /// The tries of a slot on trial.
    Tries,
    /// Kernel slot A: header and payload.
    BootA,
    /// Kernel slot B.
    BootB,
    /// Root file system of slot A: erofs and its verity tree.
    RootA,
    /// Root file system of slot B.
    RootB,
    /// Identity, configuration and keys of the node.
    State,
    /// /var; made at first boot, takes the rest of the disk.
    Data,
}

impl Partition {
    /// All kinds in disk order.
    pub const ALL: [Self; 11] = [
        Self::Esp,
        Self::Bios,
        Self::GrubEnv,
        Self::BootState,
        Self::Tries,
        Self::BootA,
        Self::BootB,
        Self::RootA,
        Self::RootB,
        Self::State,
        Self::Data,
    ];

    /// The GPT partition type.
    pub const fn type_guid(self) -> Guid {
        Guid::from_u128(match self {
            Self::Esp => 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b,
            Self::Bios => 0x21686148_6449_6e6f_744e_656564454649,
            Self::GrubEnv => 0xb1fb64f5_cf93_4dd0_9906_c79c6280c655,
            Self::BootState => 0x0434c9cb_a066_4c4b_a2a9_e6b6c22c490a,
            Self::Tries => 0x97128e84_4900_4a67_83e9_f4b1a1bcbd63,
            Self::BootA => 0xdf9c65b4_e6b9_4d73_8602_0d70a7e3f4d6,
            Self::BootB => 0xafa03981_e5e6_4eca_a05c_e4008345a057,
            Self::RootA => 0xb624b19b_38e6_4519_a567_3ef2498898f3,
            Self::RootB => 0x2f601e53_a49e_49e5_9e09_0f8a2d55541b,
            Self::State => 0xd7d0c3b6_9e18_4a74_9cdf_c153a861cc14,
            Self::Data => 0x5792b858_7382_4e77_bd43_c06f1265200e,
        })
    }

    /// The GPT partition name, which U-Boot scripts search for and people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Esp => "ESP",
            Self::Bios => "BIOS",
            Self::GrubEnv => "GRUBENV",
            Self::BootState => "BOOTSTATE",
            Self::Tries => "TRIES",
            Self::BootA => "BOOT-A",
            Self::BootB => "BOOT-B",
            Self::RootA => "ROOT-A",
            Self::RootB => "ROOT-B",
            Self::State => "STATE",
            Self::Data => "DATA",
        }
    }

    /// Size in bytes; `None` for DATA, which takes what is left.
    pub const fn size(self) -> Option<u64> {
        let mib = match self {
            // Room for the largest firmware set of a board (Raspberry Pi, some 30 MiB) and enough
            // clusters for FAT32 with 512-byte sectors.
            Self::Esp => 64,
            Self::Bios | Self::GrubEnv | Self::BootState | Self::Tries => 1,
            Self::BootA | Self::BootB => BOOT_SLOT_MIB,
            Self::RootA | Self::RootB => ROOT_SLOT_MIB,
            Self::State => 128,
            Self::Data => return None,
        };
        Some(mib * MIB)
    }

    /// The partition that holds the kernel of a slot.
    pub const fn boot(slot: Slot) -> Self {
        match slot {
            Slot::A => Self::BootA,
            Slot::B => Self::BootB,
        }
    }

    /// The partition that holds the root file system of a slot.
    pub const fn root(slot: Slot) -> Self {
        match slot {
            Slot::A => Self::RootA,
            Slot::B => Self::RootB,
        }
    }

    /// The kind with this type id.
    pub fn from_type_guid(guid: Guid) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_guid() == guid)
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_names_are_unique_and_found_again() {
        for kind in Partition::ALL {
            assert_eq!(Partition::from_type_guid(kind.type_guid()), Some(kind));
            assert_eq!(Partition::from_name(kind.name()), Some(kind));
            assert!(kind.name().len() <= 36, "GPT holds 36 characters");
        }
        assert_eq!(Partition::from_type_guid(Guid::ZERO), None);
    }

    #[test]
    fn order_is_the_order_of_the_variants_and_data_is_last() {
        assert!(Partition::ALL.is_sorted());
        assert_eq!(Partition::ALL.last(), Some(&Partition::Data));
        assert!(
            Partition::ALL
                .iter()
                .all(|k| k.size().is_none() == (*k == Partition::Data))
        );
    }

    #[test]
    fn everything_fits_the_smallest_disk_with_half_a_gib_to_spare() {
        let fixed: u64 = Partition::ALL.iter().filter_map(|kind| kind.size()).sum();
        assert!(
            MIB + fixed + 512 * MIB + MIB <= SMALLEST_DISK,
            "{} MiB fixed",
            fixed / MIB
        );
    }
}

//! Reads the configuration a person put on the firmware partition.

use std::path::Path;

use keelson_control::BootFacts;

use crate::configuration::Firmware;

/// The partition this machine was started from.
pub(crate) struct FirmwarePartition;

impl Firmware for FirmwarePartition {
    fn read(&self, limit: usize) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error>> {
        let boot = BootFacts::read()?;
        let Some(device) = boot.partition("ESP") else {
            return Ok(None);
        };
        Ok(keelson_storage::read_firmware_config(
            Path::new(device),
            limit,
        )?)
    }
}

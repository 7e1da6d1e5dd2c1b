//! BOOTX64.EFI: verifies the payload of a slot on the disk it was loaded from and starts it.
//!
//! The order of slots comes from `keelson_bootstate::decide`. A slot that is blank, damaged or
//! cannot be started is skipped in the same boot; the console says why. When nothing starts, the
//! machine is reset after a pause, so that a passing fault does not need a person.

#![no_main]
#![no_std]

extern crate alloc;

mod firmware;

use core::time::Duration;

use keelson_bootstate::{Decision, Slot, Tries, decide};
use keelson_loader::slot::Verified;
use keelson_loader::table;
use uefi::prelude::{Status, entry};
use uefi::println;

use firmware::BootDisk;

/// Time for a person or a serial log to catch the message before it scrolls away.
const PAUSE_BEFORE_RESET: Duration = Duration::from_secs(10);

/// Longest time from here to a running kernel, which ends this watchdog: reading 64 MiB from the
/// slowest USB stick takes a minute.
const WATCHDOG_SECONDS: usize = 300;

#[entry]
fn main() -> Status {
    // Not every firmware has a watchdog; without one a hang needs a person, as with any loader.
    let _ = uefi::boot::set_watchdog_timer(WATCHDOG_SECONDS, 0x1_0000, None);

    match BootDisk::find() {
        Err(reason) => println!("keelson: {reason}"),
        Ok(mut disk) => match table::read(&mut disk) {
            Err(error) => println!("keelson: {error}"),
            Ok(partitions) => {
                // The boot record is not read yet: a disk without one starts slot A.
                let decision = decide(None, Tries::FRESH);
                for slot in decision.order() {
                    let reason = start(&mut disk, &partitions, slot, &decision);
                    println!("keelson: slot {slot} cannot be started: {reason}");
                }
                println!("keelson: no slot of this disk starts; write the image to it again");
            }
        },
    }
    println!("keelson: reset in {} s", PAUSE_BEFORE_RESET.as_secs());
    firmware::pause_and_reset(PAUSE_BEFORE_RESET)
}

/// Starts a slot; comes back only with the reason why that failed.
fn start(
    disk: &mut BootDisk,
    partitions: &[keelson_bootstate::gpt::Entry],
    slot: Slot,
    decision: &Decision,
) -> alloc::string::String {
    let verified = match Verified::read(disk, partitions, slot) {
        Ok(verified) => verified,
        Err(error) => return alloc::format!("{error}"),
    };
    let (build, size) = (
        verified.header().build_id(),
        verified.payload().len() / 1024,
    );
    let why = match decision {
        Decision::Default { slot: default, .. } if slot == *default => "default",
        Decision::Trial { slot: trial, .. } if slot == *trial => "trial",
        Decision::Default { .. } | Decision::Trial { .. } => "the other one failed",
    };
    println!("keelson: slot {slot} ({why}), build {build}, {size} KiB, SHA-256 good");
    if let Err(error) = firmware::announce(disk, slot) {
        // The kernel then finds the disk by its GUID; better a boot with that than none.
        println!("keelson: the firmware refuses loader variables ({error})");
    }
    firmware::start(verified.payload())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("keelson: {info}");
    firmware::pause_and_reset(PAUSE_BEFORE_RESET)
}

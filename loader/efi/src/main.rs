//! BOOTX64.EFI: verifies the payload of a slot on the disk it was loaded from and starts it.
//!
//! What is decided, verified and counted is in the library (`keelson_loader::boot`). This program
//! reads and writes sectors, tells Linux what it did, and starts what it was given. A slot that the
//! firmware does not start is skipped in the same boot. When nothing starts, the screen says what
//! is wrong with each slot and how to repair it; the machine is reset after a pause, so that a
//! passing fault does not need a person.

#![no_main]
#![no_std]

extern crate alloc;

mod firmware;

use core::time::Duration;

use keelson_bootstate::signature::Trust;
use keelson_loader::boot::{Boot, Chosen};
use uefi::prelude::{Status, entry};
use uefi::println;

use firmware::BootDisk;

/// The keys that count, from the builder. They cannot be changed on a node.
static TRUST: &[u8] = include_bytes!(env!("KEELSON_TRUST"));

/// Time for a person or a serial log to catch the message before it scrolls away.
const PAUSE_BEFORE_RESET: Duration = Duration::from_secs(10);

/// Time for a person to read, or photograph, what to do when nothing starts.
const PAUSE_TO_READ: Duration = Duration::from_secs(60);

/// Longest time from here to a running kernel, which ends this watchdog: reading 64 MiB from the
/// slowest USB stick takes a minute.
const WATCHDOG_SECONDS: usize = 300;

#[entry]
fn main() -> Status {
    // Not every firmware has a watchdog; without one a hang needs a person, as with any loader.
    let _ = uefi::boot::set_watchdog_timer(WATCHDOG_SECONDS, 0x1_0000, None);

    match Trust::decode(TRUST) {
        Err(error) => println!("keelson: the keys in this loader are unusable: {error}"),
        Ok(trust) => match BootDisk::find() {
            Err(reason) => println!("keelson: {reason}"),
            Ok(mut disk) => boot(&mut disk, &trust),
        },
    }
    println!("keelson: reset in {} s", PAUSE_TO_READ.as_secs());
    firmware::pause_and_reset(PAUSE_TO_READ)
}

/// Starts a slot; comes back only when none starts, with the reasons on the screen.
fn boot(disk: &mut BootDisk, trust: &Trust) {
    let mut boot = match Boot::begin(disk, trust) {
        Ok(boot) => boot,
        Err(error) => {
            println!("keelson: {error}");
            return;
        }
    };
    while let Some(chosen) = boot.next(disk) {
        for line in boot.report().lines() {
            println!("keelson: {line}");
        }
        let reason = start(disk, &boot, &chosen);
        println!("keelson: slot {} cannot be started: {reason}", chosen.slot);
        boot.failed(chosen.slot, &reason);
    }
    println!("keelson: NO SLOT OF THIS DISK STARTS");
    for line in boot.report().lines() {
        println!("keelson: {line}");
    }
    println!(
        "keelson: to repair it and keep the node's data, start this machine from another medium"
    );
    println!(
        "keelson: and copy BOOT-A and ROOT-A of a Keelson image to this disk (docs: Recovery);"
    );
    println!("keelson: writing the whole image to the disk makes a new node");
}

/// Starts a slot; comes back only with the reason why that failed.
fn start(disk: &BootDisk, boot: &Boot, chosen: &Chosen) -> alloc::string::String {
    let Chosen {
        slot,
        why,
        verified,
    } = chosen;
    let header = verified.header();
    let (version, build) = (header.version(), header.build_id());
    let size = verified.payload().len() / 1024;
    println!(
        "keelson: slot {slot} ({}), {version}, build {build}, {size} KiB, SHA-256 good, signed",
        why.name()
    );
    if let Err(error) = firmware::announce(disk, *slot, &boot.report().to_variable(*why)) {
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

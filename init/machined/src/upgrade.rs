//! Another version in the other slot, proved or undone.
//!
//! [`engine`] takes requests from the API ([`handle`]) and owns what goes on. A bundle comes in
//! pieces through [`feed`] to a thread ([`install`]) that writes it by the plans of
//! keelson-bootstate ([`steps`]), held back by [`brake`]. [`preflight`] and [`skew`] decide whether
//! it may, [`judge`] what a boot was, [`crate::health_gate`] whether a version stays; all four are
//! pure. [`memory`] is what STATE keeps of it, [`host`] everything else of the node.

mod brake;
pub(crate) mod cluster;
mod disk;
mod drain;
mod engine;
mod feed;
mod handle;
mod host;
mod install;
mod judge;
mod memory;
mod preflight;
mod skew;
mod state_version;
mod steps;
mod system;
#[cfg(test)]
mod testing;

use std::path::Path;
use std::sync::Arc;

use keelson_bootstate::Slot;
use keelson_bootstate::layout::Partition;
use keelson_bootstate::signature::Trust;
use keelson_control::{BootFacts, chain};

use self::disk::Devices;
use self::engine::{Files, Parts};
pub(crate) use self::handle::{Inbox, Options, Refused, Request, Upgrades, channel};
use self::host::ThisNode;
use self::system::System;
use crate::api::events::Hub;
use crate::paths::Paths;

/// Serves upgrades for ever.
pub(crate) async fn run(paths: &Paths, events: Hub, mut inbox: Inbox) {
    match open(paths) {
        Ok(opened) => {
            let Opened {
                facts,
                running,
                system,
                boot_id,
            } = opened;
            let disk = Devices::of_boot(&facts);
            let folder = paths.upgrades();
            engine::run(Parts {
                host: ThisNode::new(paths, &boot_id),
                grub: disk.has(Partition::GrubEnv),
                disk: Arc::new(disk),
                trust: trust(&paths.trust()),
                system,
                boot_id,
                running,
                loader: facts.loader,
                files: Files {
                    memory: folder.join("memory.json"),
                    cordon: folder.join("cordoned"),
                    state: paths.state(),
                },
                events,
                inbox,
            })
            .await;
        }
        Err(reason) => {
            tracing::error!("upgrades: {reason}");
            while let Some(request) = inbox.requests.recv().await {
                request.refuse(&reason);
            }
        }
    }
}

struct Opened {
    facts: BootFacts,
    running: Slot,
    system: System,
    boot_id: String,
}

fn open(paths: &Paths) -> Result<Opened, String> {
    let facts = BootFacts::read_from(&paths.boot_facts()).map_err(|error| chain(&error))?;
    let running = Slot::ALL
        .into_iter()
        .find(|slot| facts.slot == slot.letter().to_string())
        .ok_or_else(|| {
            format!(
                "this boot came from slot {:?}, which does not exist",
                facts.slot
            )
        })?;
    let system = System::read(&paths.build()).map_err(|error| chain(&error))?;
    let boot_id = std::fs::read_to_string(paths.boot_id())
        .map_err(|error| format!("{}: {error}", paths.boot_id().display()))?;
    Ok(Opened {
        facts,
        running,
        system,
        boot_id: boot_id.trim().to_owned(),
    })
}

fn trust(path: &Path) -> Result<Trust, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Trust::decode(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

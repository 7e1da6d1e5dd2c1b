//! Every cut of power in every operation on slots, with every order in which a disk may keep what
//! it was not told to flush.
//!
//! The disk is a row of cells ([`disk`]), sectors with the bytes that the real code writes; what is
//! longer than a sector and only compared by hash is one cell. The loader ([`loader`]) decides with
//! `decide` and verifies slots. The node ([`node`]) runs the steps of `plan`. When power goes, each
//! cell that was written since the last flush holds what it held before, what was written, or
//! garbage, in all combinations: that is every prefix, every order, every torn sector. The search
//! ([`search`]) goes on from every disk that this leaves, again and again, until there is none that
//! it has not seen, and checks at every start of the loader that
//!
//! - it starts a slot, and one that is complete: all of one build;
//! - it is the default, or the slot on trial: a slot marked good stays, one withdrawn is not used;
//! - a trial is started three times at most, and at least once;
//! - should the slot it starts be damaged, it starts the other one if that is complete, and the node
//!   can go on from there; should a part of a whole boot record be damaged, nothing changes;
//! - GRUB's text of the boot record is never ahead of the binary form.
//!
//! That the search sees what is wrong is shown by plans and loaders with mistakes ([`mistakes`]).

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

mod disk;
mod loader;
mod mistakes;
mod node;
mod search;

use disk::World;
use keelson_bootstate::MAX_SEQUENCE;
use loader::Loader;
use mistakes::Mistake;
use search::{Found, Search};

/// A search that ends well, and how much it saw.
fn all_is_well(loader: Loader, first_sequence: u32) {
    let begun = std::time::Instant::now();
    let found = Search::new(World::new(), loader, None).run(first_sequence);
    match found {
        Found::Nothing { disks, cuts, boots } => {
            println!(
                "{loader:?}: {disks} disks after {cuts} cuts, {boots} boots, {:.1} s",
                begun.elapsed().as_secs_f32()
            );
            // Far fewer would mean that the model lost operations.
            assert!(disks > 1000 && cuts > 50_000, "{disks} disks, {cuts} cuts");
        }
        Found::Violation(text) => panic!("{loader:?}: {text}"),
    }
}

#[test]
fn no_cut_of_power_leaves_a_state_that_needs_a_person_under_efi() {
    all_is_well(Loader::Efi, 1);
}

#[test]
fn no_cut_of_power_leaves_a_state_that_needs_a_person_under_grub() {
    all_is_well(Loader::Grub, 1);
}

#[test]
fn nor_when_the_sequence_of_records_starts_anew() {
    all_is_well(Loader::Efi, MAX_SEQUENCE - 2);
    all_is_well(Loader::Grub, MAX_SEQUENCE - 2);
}

#[test]
fn mistakes_are_found() {
    for mistake in Mistake::ALL {
        let loaders = mistake.seen_by();
        for loader in loaders {
            let found = Search::new(World::new(), *loader, Some(mistake)).run(1);
            let Found::Violation(text) = found else {
                panic!("{mistake:?} is not found with {loader:?}");
            };
            println!("{mistake:?} with {loader:?}: {text}");
            assert!(
                text.starts_with(mistake.violation()),
                "{mistake:?} with {loader:?} is found for another reason: {text}"
            );
        }
    }
}

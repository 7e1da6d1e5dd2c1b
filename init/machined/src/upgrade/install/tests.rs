use std::sync::Arc;

use keelson_bootstate::{Slot, Tries};
use keelson_bundle::BlockError;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::upgrade::testing::{Faulty, Small, disk, taken_apart};

struct Lab {
    _folder: tempfile::TempDir,
    disk: Arc<Faulty>,
    old: Small,
    new: Small,
}

impl Lab {
    fn new() -> Self {
        let folder =
            tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let (old, new) = (Small::new("0.1.0"), Small::new("0.2.0"));
        let disk = Faulty::new(disk(folder.path(), &old));
        Self {
            _folder: folder,
            disk,
            old,
            new,
        }
    }

    /// Installs a bundle from one of its blocks on; gives the result and how far it came.
    fn install(
        &self,
        bundle: &[u8],
        resume: bool,
        send: impl FnOnce(mpsc::Sender<Vec<u8>>, Vec<Vec<u8>>) + Send + 'static,
    ) -> (Result<(), InstallError>, Progress) {
        let (_, head, blocks) = taken_apart(bundle);
        let (sender, chunks) = mpsc::channel(2);
        let progress = watch::Sender::new(Progress::default());
        let seen = progress.subscribe();
        let work = Work {
            disk: self.disk.clone(),
            head: Arc::new(head),
            slot: Slot::B,
            resume,
            brake: Arc::new(Brake::new(u64::MAX)),
            chunks: chunks.into(),
            progress,
        };
        let sending = std::thread::spawn(move || send(sender, blocks));
        let result = work.run();
        sending.join().unwrap();
        let progress = *seen.borrow();
        (result, progress)
    }
}

/// All blocks from one on, in pieces that end where they like.
fn all_from(first: usize) -> impl FnOnce(mpsc::Sender<Vec<u8>>, Vec<Vec<u8>>) + Send + 'static {
    move |sender, blocks| {
        for piece in blocks[first..].concat().chunks(10_007) {
            if sender.blocking_send(piece.to_vec()).is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_bundle_becomes_a_slot_and_every_write_has_its_place() {
    let lab = Lab::new();
    let (result, progress) = lab.install(&lab.new.bundle(None), false, all_from(0));
    result.unwrap();
    assert!(lab.new.is_in(&*lab.disk, Slot::B));
    assert!(lab.old.is_in(&*lab.disk, Slot::A));
    assert_eq!(progress.stage, Stage::Verifying);
    let bytes = (lab.new.boot.len() + lab.new.root.len()) as u64;
    assert_eq!((progress.written, progress.verified), (bytes, bytes));
    let log = lab.disk.log();
    // The header goes first and comes last, each flushed before anything else happens.
    assert_eq!(log[..2], ["write BOOT-B 0+4096", "flush BOOT-B"]);
    assert_eq!(
        log[log.len() - 2..],
        ["write BOOT-B 0+4096", "flush BOOT-B"]
    );
    let content = &log[2..log.len() - 2];
    assert!(
        !content
            .iter()
            .any(|line| line.starts_with("write BOOT-B 0+")),
        "{log:?}"
    );
    assert_eq!(
        content[content.len() - 2..],
        ["flush BOOT-B", "flush ROOT-B"]
    );
    assert!(!log.iter().any(|line| line.contains("-A")), "{log:?}");
    assert_eq!(steps::efi_tries(&*lab.disk).unwrap(), Tries::FRESH);
}

#[test]
fn a_delta_is_unpacked_against_the_running_slot() {
    let lab = Lab::new();
    let bundle = lab.new.bundle(Some(&lab.old));
    assert!(bundle.len() < lab.new.bundle(None).len() / 2);
    lab.install(&bundle, false, all_from(0)).0.unwrap();
    assert!(lab.new.is_in(&*lab.disk, Slot::B));
}

#[test]
fn whatever_fails_the_slot_holds_nothing_and_the_other_one_everything() {
    let bundle = Lab::new().new.bundle(None);
    let lab = Lab::new();
    let whole = {
        lab.install(&bundle, false, all_from(0)).0.unwrap();
        lab.disk.log().len()
    };
    for operation in 0..whole {
        let lab = Lab::new();
        lab.disk.fail_at(operation);
        let (result, _) = lab.install(&bundle, false, all_from(0));
        let error = result.unwrap_err();
        let text = keelson_control::chain(&error);
        assert!(text.contains("the disk is broken"), "{operation}: {text}");
        lab.disk.heal();
        assert!(lab.old.is_in(&*lab.disk, Slot::A));
        let (_, header) = steps::page(&*lab.disk, Slot::B).unwrap();
        let complete = header.is_ok();
        // Only the flush after the last write may fail with the header in place, and then the
        // record does not name the slot.
        assert!(!complete || operation == whole - 1, "{operation}");
        let stored = steps::stored(&*lab.disk).unwrap();
        assert_eq!(stored.record().default_slot(), Slot::A);
        assert_eq!(stored.record().trial(), None);
        // And the same bundle again succeeds.
        lab.install(&bundle, true, move |sender, blocks| {
            // Whoever resumes is told from where on; here the writer is asked by what it takes.
            for piece in blocks.concat().chunks(1 << 20) {
                if sender.blocking_send(piece.to_vec()).is_err() {
                    return;
                }
            }
        })
        .0
        .map_or_else(
            // Blocks that were there already are not taken again, so what is sent is not theirs.
            |error| {
                assert!(
                    matches!(error, InstallError::Block(BlockError::Damaged { .. })),
                    "{error}"
                )
            },
            |()| assert!(lab.new.is_in(&*lab.disk, Slot::B)),
        );
    }
}

#[test]
fn what_was_cut_off_goes_on_where_it_stopped_after_a_look_at_what_is_there() {
    let lab = Lab::new();
    let bundle = lab.new.bundle(None);
    let (result, progress) = lab.install(&bundle, false, |sender, blocks| {
        for block in &blocks[..3] {
            sender.blocking_send(block.clone()).unwrap();
        }
        sender.blocking_send(blocks[3][..10].to_vec()).unwrap();
    });
    assert!(matches!(result, Err(InstallError::Cancelled(_))));
    assert_eq!(progress.blocks, 3);
    // Another bundle does not take what is there for its own.
    let other = Small::new("0.3.0");
    let (result, progress) = lab.install(&other.bundle(None), true, |_, _| {});
    assert!(matches!(result, Err(InstallError::Cancelled(_))));
    assert_eq!(progress.blocks, 0);
    let (result, progress) = lab.install(&bundle, true, |_, _| {});
    assert!(matches!(result, Err(InstallError::Cancelled(_))));
    assert_eq!(progress.blocks, 3);
    // One bit of what is there went bad since.
    lab.disk.flip(Partition::BootB, 4096 + 65_536 + 7);
    let (_, progress) = lab.install(&bundle, true, |_, _| {});
    assert_eq!(progress.blocks, 1);
    lab.disk.heal();
    lab.install(&bundle, true, all_from(3)).0.unwrap();
    assert!(lab.new.is_in(&*lab.disk, Slot::B));
}

#[test]
fn bytes_that_were_changed_on_the_way_are_not_written() {
    let lab = Lab::new();
    let (result, progress) = lab.install(&lab.new.bundle(None), false, |sender, mut blocks| {
        blocks[1][100] ^= 1;
        all_from(0)(sender, blocks);
    });
    assert!(matches!(
        result,
        Err(InstallError::Block(BlockError::Damaged { block: 1 }))
    ));
    assert_eq!(progress.blocks, 1);
}

#[test]
fn a_disk_that_gives_back_something_else_is_noticed() {
    for (partition, at) in [
        (Partition::BootB, 4096 + 5),
        (Partition::RootB, 300_000),
        (Partition::BootB, 100),
    ] {
        let lab = Lab::new();
        lab.disk.flip(partition, at);
        let (result, _) = lab.install(&lab.new.bundle(None), false, all_from(0));
        let error = result.unwrap_err();
        assert!(
            matches!(
                error,
                InstallError::Differs { .. } | InstallError::HeaderDiffers { .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_slot_is_compared_with_its_header() {
    let lab = Lab::new();
    let (_, header) = steps::page(&*lab.disk, Slot::A).unwrap();
    let header = header.unwrap();
    let brake = Brake::new(u64::MAX);
    let mut read = 0;
    verify(&*lab.disk, Slot::A, &header, &brake, |bytes| read += bytes).unwrap();
    assert_eq!(read, header.payload_len() + header.root_len());
    lab.disk.flip(Partition::RootA, 9);
    assert!(matches!(
        verify(&*lab.disk, Slot::A, &header, &brake, |_| {}),
        Err(VerifyError::Differs { part: Part::Root })
    ));
    brake.cancel();
    assert!(matches!(
        verify(&*lab.disk, Slot::A, &header, &brake, |_| {}),
        Err(VerifyError::Cancelled(_))
    ));
}

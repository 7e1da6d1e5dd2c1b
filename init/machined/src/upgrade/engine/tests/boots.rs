//! What becomes of a version: proved, given up, never seen again.

use std::time::Duration;

use keelson_api::v1alpha1::{UpgradePhase, UpgradeStatus};
use keelson_bootstate::layout::Partition;
use keelson_bootstate::{HEADER_SIZE, Slot, Tries};
use keelson_config::Upgrade;
use tokio::time::sleep;

use super::lab::{Lab, Runs, in_lab};
use crate::upgrade::disk::Disk;
use crate::upgrade::drain::Drained;
use crate::upgrade::handle::{Options, Refused, Request};
use crate::upgrade::testing::Small;

async fn roll_back(runs: &Runs, force: bool) -> Result<UpgradeStatus, Refused> {
    runs.upgrades
        .ask(|answer| Request::Rollback {
            person: "ada".to_owned(),
            no_drain: true,
            force,
            answer,
        })
        .await
}

/// A node that has just started into a trial of the new version.
async fn on_trial(lab: &Lab) -> Runs {
    let runs = lab.start();
    lab.upgrade(&runs, &lab.new.bundle(None)).await;
    runs.kill().await;
    assert_eq!(lab.boot(), Slot::B);
    lab.start()
}

#[test]
fn a_version_that_is_well_for_a_minute_stays() {
    in_lab(async |lab: &Lab| {
        *lab.world.ill.borrow_mut() = None;
        let runs = on_trial(lab).await;
        *lab.world.ill.borrow_mut() = Some("cluster");
        sleep(Duration::from_secs(30)).await;
        let status = lab.status(&runs).await;
        assert_eq!(status.phase(), UpgradePhase::Trial);
        assert_eq!(status.reason, "cluster: of the test");
        assert_eq!(status.stable_for_ms, 60_000);
        assert_eq!(lab.record().trial(), Some(Slot::B));
        *lab.world.ill.borrow_mut() = None;
        let status = lab.until(&runs, UpgradePhase::None).await;
        assert_eq!(status.last.unwrap().result, "good");
        assert!(lab.world.booted_for() >= Duration::from_secs(90));
        assert_eq!(
            (lab.record().default_slot(), lab.record().trial()),
            (Slot::B, None)
        );
        // And once more, to the version after it, into the slot that is free now.
        let next = Small::new("0.3.0");
        lab.upgrade(&runs, &next.bundle(None)).await;
        assert_eq!(lab.record().trial(), Some(Slot::A));
        assert!(lab.new.is_in(&*lab.disk, Slot::B));
    });
}

#[test]
fn a_version_that_is_not_well_in_time_goes_and_is_refused_from_then_on() {
    in_lab(async |lab: &Lab| {
        let runs = on_trial(lab).await;
        *lab.world.ill.borrow_mut() = Some("cluster");
        let status = lab.until(&runs, UpgradePhase::Rebooting).await;
        let waited = lab.world.booted_for().as_secs();
        assert!((600..610).contains(&waited), "{waited}");
        assert!(
            status.reason.contains("cluster: of the test"),
            "{}",
            status.reason
        );
        assert_eq!(lab.record().trial(), None);
        runs.kill().await;
        assert_eq!(lab.boot(), Slot::A);
        *lab.world.ill.borrow_mut() = None;
        let runs = lab.start();
        let status = lab.status(&runs).await;
        assert_eq!(status.phase(), UpgradePhase::None);
        let last = status.last.unwrap();
        assert_eq!(last.result, "rolled-back");
        assert!(
            last.reason
                .contains("600 s after its start: cluster: of the test"),
            "{}",
            last.reason
        );
        assert_eq!(last.starts.last().unwrap().reached, "api");
        let slots = runs
            .upgrades
            .ask(|answer| Request::Slots { answer })
            .await
            .unwrap();
        assert_eq!(
            (slots[0].state.as_str(), slots[1].state.as_str()),
            ("good", "failed")
        );
        let bundle = lab.new.bundle(None);
        let refused = lab
            .begin(&runs, &bundle, Options::default())
            .await
            .unwrap_err();
        assert!(
            refused.message.contains("--force tries it again"),
            "{refused}"
        );
        let force = Options {
            force: true,
            ..Options::default()
        };
        lab.begin(&runs, &bundle, force).await.unwrap();
        lab.send_until(&runs, &bundle, usize::MAX).await;
        lab.until(&runs, UpgradePhase::Rebooting).await;
        runs.kill().await;
        assert_eq!(lab.boot(), Slot::B);
        let runs = lab.start();
        lab.until(&runs, UpgradePhase::None).await;
        let slots = runs
            .upgrades
            .ask(|answer| Request::Slots { answer })
            .await
            .unwrap();
        assert_eq!(slots[1].state, "good");
    });
}

#[test]
fn a_version_that_never_says_a_word_loses_after_three_starts() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        lab.upgrade(&runs, &lab.new.bundle(None)).await;
        runs.kill().await;
        for _ in 0..3 {
            assert_eq!(lab.boot(), Slot::B);
        }
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        let last = lab.status(&runs).await.last.unwrap();
        assert_eq!(last.result, "rolled-back");
        assert!(
            last.reason.contains("never came as far as machined"),
            "{}",
            last.reason
        );
        assert_eq!(lab.record().trial(), None);
        assert_eq!(lab.boot(), Slot::A);
    });
}

#[test]
fn power_lost_in_every_trial_is_told_with_what_was_reached() {
    in_lab(async |lab: &Lab| {
        let mut runs = on_trial(lab).await;
        *lab.world.ill.borrow_mut() = Some("services");
        for _ in 0..2 {
            sleep(Duration::from_secs(10)).await;
            runs.kill().await;
            assert_eq!(lab.boot(), Slot::B);
            runs = lab.start();
        }
        sleep(Duration::from_secs(10)).await;
        runs.kill().await;
        assert_eq!(lab.used_tries(), Tries::Used(3));
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        let last = lab.status(&runs).await.last.unwrap();
        assert!(
            last.reason
                .contains("as far as \"configured\" (missing: services: of the test)"),
            "{}",
            last.reason
        );
        assert_eq!(last.starts.len(), 3);
    });
}

#[test]
fn a_slot_that_the_loader_finds_damaged_is_told() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        lab.upgrade(&runs, &lab.new.bundle(None)).await;
        runs.kill().await;
        lab.disk
            .write(Partition::BootB, &[0; HEADER_SIZE], 0)
            .unwrap();
        lab.loader_skips("slot B skipped: wrong hash");
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        let last = lab.status(&runs).await.last.unwrap();
        assert_eq!(last.reason, "the loader says: slot B skipped: wrong hash");
    });
}

#[test]
fn a_trial_can_be_ended_and_a_good_version_left_again() {
    in_lab(async |lab: &Lab| {
        let runs = on_trial(lab).await;
        assert!(roll_back(&runs, false).await.is_ok());
        lab.until(&runs, UpgradePhase::Rebooting).await;
        runs.kill().await;
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        let last = lab.status(&runs).await.last.unwrap();
        assert_eq!(last.reason, "ada rolled it back");
        // To a version that failed, only when forced.
        let refused = roll_back(&runs, false).await.unwrap_err();
        assert!(refused.message.contains("failed here"), "{refused}");
        roll_back(&runs, true).await.unwrap();
        lab.until(&runs, UpgradePhase::Rebooting).await;
        runs.kill().await;
        assert_eq!(lab.boot(), Slot::B);
        let runs = lab.start();
        lab.until(&runs, UpgradePhase::None).await;
        assert_eq!(lab.record().default_slot(), Slot::B);
        // And back to the one before, which has to prove itself as well.
        roll_back(&runs, false).await.unwrap();
        lab.until(&runs, UpgradePhase::Rebooting).await;
        assert_eq!(lab.record().trial(), Some(Slot::A));
        assert_eq!(lab.record().default_slot(), Slot::B);
        runs.kill().await;
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        lab.until(&runs, UpgradePhase::None).await;
        assert_eq!(lab.record().default_slot(), Slot::A);
    });
}

#[test]
fn nobody_goes_back_to_what_is_damaged_or_was_never_there() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let refused = roll_back(&runs, true).await.unwrap_err();
        assert!(refused.message.contains("holds nothing"), "{refused}");
        runs.kill().await;
        let runs = on_trial(lab).await;
        lab.until(&runs, UpgradePhase::None).await;
        lab.disk.flip(Partition::RootA, 77);
        roll_back(&runs, false).await.unwrap();
        let status = lab.until(&runs, UpgradePhase::Failed).await;
        assert!(status.reason.contains("root part"), "{}", status.reason);
        assert_eq!(lab.record().trial(), None);
    });
}

#[test]
fn a_restart_of_the_program_before_the_reboot_asks_for_it_again() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        lab.upgrade(&runs, &lab.new.bundle(None)).await;
        runs.kill().await;
        let runs = lab.start();
        lab.until(&runs, UpgradePhase::Rebooting).await;
        while lab.world.reboots.borrow().len() < 2 {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(lab.record().trial(), Some(Slot::B));
    });
}

#[test]
fn a_restart_of_the_program_in_a_trial_goes_on_with_it() {
    in_lab(async |lab: &Lab| {
        let runs = on_trial(lab).await;
        sleep(Duration::from_secs(50)).await;
        runs.kill().await;
        lab.world.restarts.set(1);
        let runs = lab.start();
        sleep(Duration::from_secs(20)).await;
        assert_eq!(lab.status(&runs).await.phase(), UpgradePhase::Trial);
        lab.until(&runs, UpgradePhase::None).await;
        let memory = std::fs::read_to_string(lab.memory_file()).unwrap();
        assert!(memory.contains("\"good\""), "{memory}");
    });
}

#[test]
fn a_disk_that_cannot_be_written_to_keeps_the_version_on_trial_until_it_can() {
    in_lab(async |lab: &Lab| {
        let runs = on_trial(lab).await;
        // The copies of the record are healed first.
        lab.status(&runs).await;
        lab.disk.fail_at(0);
        sleep(Duration::from_secs(61)).await;
        // Only the first write failed.
        lab.until(&runs, UpgradePhase::None).await;
        assert_eq!(lab.record().default_slot(), Slot::B);
        let said = lab.world.said.borrow();
        assert!(
            said.iter()
                .any(|line| line.contains("cannot be made the default")),
            "{said:?}"
        );
    });
}

#[test]
fn pods_move_before_and_come_back_after() {
    in_lab(async |lab: &Lab| {
        *lab.world.drained.borrow_mut() = Drained::TimedOut {
            left: vec!["default/db".to_owned()],
        };
        let runs = lab.start();
        let bundle = lab.new.bundle(None);
        lab.begin(&runs, &bundle, Options::default()).await.unwrap();
        lab.send_until(&runs, &bundle, usize::MAX).await;
        lab.until(&runs, UpgradePhase::Draining).await;
        lab.until(&runs, UpgradePhase::Rebooting).await;
        assert!(lab.world.cordoned.get() && lab.cordon_mark().exists());
        runs.kill().await;
        lab.boot();
        let runs = lab.start();
        sleep(Duration::from_secs(30)).await;
        assert!(lab.world.cordoned.get(), "not before it is good");
        lab.until(&runs, UpgradePhase::None).await;
        while lab.cordon_mark().exists() {
            sleep(Duration::from_secs(1)).await;
        }
        assert!(!lab.world.cordoned.get());
    });
}

#[test]
fn a_power_cut_while_pods_move_leaves_a_node_that_takes_them() {
    in_lab(async |lab: &Lab| {
        *lab.world.drained.borrow_mut() = Drained::Done { gone: 1 };
        let runs = lab.start();
        let bundle = lab.new.bundle(None);
        lab.begin(&runs, &bundle, Options::default()).await.unwrap();
        lab.send_until(&runs, &bundle, usize::MAX).await;
        lab.until(&runs, UpgradePhase::Draining).await;
        std::fs::create_dir_all(lab.cordon_mark().parent().unwrap()).unwrap();
        std::fs::write(lab.cordon_mark(), "").unwrap();
        lab.world.cordoned.set(true);
        runs.kill().await;
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        assert_eq!(lab.status(&runs).await.phase(), UpgradePhase::Staged);
        while lab.cordon_mark().exists() {
            sleep(Duration::from_secs(1)).await;
        }
        assert!(!lab.world.cordoned.get());
    });
}

#[test]
fn a_node_without_a_cluster_is_judged_by_its_own_parts() {
    in_lab(async |lab: &Lab| {
        lab.world.settings.borrow_mut().configured = false;
        let runs = on_trial(lab).await;
        *lab.world.ill.borrow_mut() = Some("cluster");
        lab.until(&runs, UpgradePhase::None).await;
        assert_eq!(lab.record().default_slot(), Slot::B);
    });
}

#[test]
fn deadlines_are_those_of_the_configuration() {
    in_lab(async |lab: &Lab| {
        let yaml = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nupgrade: {healthDeadline: 2m, stableFor: 5s}\n";
        let upgrade: Upgrade = keelson_config::NodeConfig::parse(yaml, "x")
            .unwrap()
            .upgrade;
        lab.world.settings.borrow_mut().upgrade = upgrade;
        let runs = on_trial(lab).await;
        *lab.world.ill.borrow_mut() = Some("api");
        lab.until(&runs, UpgradePhase::Rebooting).await;
        assert!((120..130).contains(&lab.world.booted_for().as_secs()));
    });
}

#[test]
fn a_default_slot_that_cannot_be_started_is_left_for_good_once_the_other_one_is_well() {
    in_lab(async |lab: &Lab| {
        let runs = on_trial(lab).await;
        lab.until(&runs, UpgradePhase::None).await;
        runs.kill().await;
        lab.disk
            .write(Partition::BootB, &[0; HEADER_SIZE], 0)
            .unwrap();
        lab.loader_skips("slot B skipped: wrong hash");
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        let bundle = Small::new("0.3.0").bundle(None);
        let refused = lab
            .begin(&runs, &bundle, Options::default())
            .await
            .unwrap_err();
        assert!(refused.message.contains("not the default one"), "{refused}");
        sleep(Duration::from_secs(70)).await;
        assert_eq!(lab.record().default_slot(), Slot::A);
        lab.upgrade(&runs, &bundle).await;
        assert_eq!(lab.record().trial(), Some(Slot::B));
    });
}

#[test]
fn copies_and_texts_of_the_record_are_healed_at_every_start() {
    in_lab(async |lab: &Lab| {
        for (offset, length) in [(0, 512), (4096, 1024), (65_536, 512), (65_536 + 4096, 1024)] {
            lab.disk
                .write(Partition::BootState, &vec![0xa5; length], offset)
                .unwrap();
            let runs = lab.start();
            lab.status(&runs).await;
            runs.kill().await;
            let stored = crate::upgrade::steps::stored(&*lab.disk).unwrap();
            assert!(stored.is_whole(), "{offset}");
            assert_eq!(stored.record().default_slot(), Slot::A);
        }
        // Both at once: the running slot is all that is known.
        lab.disk
            .write(Partition::BootState, &vec![0; 1024 * 1024], 0)
            .unwrap();
        let runs = lab.start();
        lab.status(&runs).await;
        assert_eq!(lab.record().default_slot(), Slot::A);
        assert_eq!(lab.record().build(Slot::A), Some(lab.old.build()));
        runs.kill().await;
    });
}

#[test]
fn a_memory_that_is_damaged_is_told_and_the_trial_goes_on() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        lab.upgrade(&runs, &lab.new.bundle(None)).await;
        runs.kill().await;
        std::fs::write(lab.memory_file(), "{").unwrap();
        assert_eq!(lab.boot(), Slot::B);
        let runs = lab.start();
        lab.until(&runs, UpgradePhase::None).await;
        assert_eq!(lab.record().default_slot(), Slot::B);
        assert!(
            lab.world.said.borrow()[..]
                .iter()
                .any(|line| line.contains("is lost"))
        );
    });
}

#[test]
fn a_power_cut_at_every_write_of_the_memory_and_the_record_ends_well() {
    in_lab(async |lab: &Lab| {
        // The states that a cut leaves between what is remembered and what is recorded.
        let runs = lab.start();
        lab.upgrade(&runs, &lab.new.bundle(None)).await;
        runs.kill().await;
        // The memory knows of the trial, the record does not.
        lab.put_record(|stored| keelson_bootstate::plan::withdraw(stored).collect());
        assert_eq!(lab.boot(), Slot::A);
        let runs = lab.start();
        assert_eq!(lab.status(&runs).await.phase(), UpgradePhase::Staged);
        runs.upgrades
            .ask(|answer| Request::Activate {
                no_drain: true,
                answer,
            })
            .await
            .unwrap();
        lab.until(&runs, UpgradePhase::Rebooting).await;
        runs.kill().await;
        assert_eq!(lab.boot(), Slot::B);
        // The record calls it good, the memory does not know.
        lab.put_record(|stored| keelson_bootstate::plan::mark_good(stored, Slot::B).collect());
        let runs = lab.start();
        assert_eq!(lab.status(&runs).await.last.unwrap().result, "good");
        runs.kill().await;
    });
}

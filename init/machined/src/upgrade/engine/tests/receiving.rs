//! From the head of a bundle to the slot that is complete.

use keelson_api::v1alpha1::UpgradePhase;
use keelson_bootstate::layout::Partition;
use keelson_bootstate::signature::{ReleaseKey, SigningKey};
use keelson_bootstate::{Slot, Tries};
use tonic::Code;

use super::lab::{Lab, Runs, in_lab};
use crate::upgrade::handle::{Options, Refused, Request};
use crate::upgrade::testing::{Small, taken_apart};

const STAGE: Options = Options {
    stage: true,
    no_drain: false,
    allow_downgrade: false,
    force: false,
};

async fn cancel(runs: &Runs) -> Result<keelson_api::v1alpha1::UpgradeStatus, Refused> {
    runs.upgrades
        .ask(|answer| Request::Cancel {
            person: "ada".to_owned(),
            answer,
        })
        .await
}

#[test]
fn a_staged_bundle_changes_nothing_until_it_is_activated() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let bundle = lab.new.bundle(None);
        let status = lab.begin(&runs, &bundle, STAGE).await.unwrap();
        assert_eq!(status.version, "0.2.0");
        assert_eq!(status.from_version, "0.1.0");
        lab.send_until(&runs, &bundle, usize::MAX).await;
        let status = lab.until(&runs, UpgradePhase::Staged).await;
        assert_eq!(
            (status.slot.as_str(), status.build_id),
            ("b", lab.new.build().to_string())
        );
        assert!(lab.new.is_in(&*lab.disk, Slot::B));
        assert_eq!(lab.record().trial(), None);
        let slots = runs
            .upgrades
            .ask(|answer| Request::Slots { answer })
            .await
            .unwrap();
        let states: Vec<_> = slots
            .iter()
            .map(|slot| (slot.state.as_str(), slot.version.as_str()))
            .collect();
        assert_eq!(states, [("good", "0.1.0"), ("staged", "0.2.0")]);
        assert!(!slots[1].verified.is_empty());
        // It is still there after a restart, and the same bundle again has nothing to do.
        runs.kill().await;
        let runs = lab.start();
        assert_eq!(lab.status(&runs).await.phase(), UpgradePhase::Staged);
        let again = lab.begin(&runs, &bundle, STAGE).await.unwrap();
        assert_eq!(again.phase(), UpgradePhase::Staged);
        runs.upgrades
            .ask(|answer| Request::Activate {
                no_drain: true,
                answer,
            })
            .await
            .unwrap();
        lab.until(&runs, UpgradePhase::Rebooting).await;
        assert_eq!(lab.record().trial(), Some(Slot::B));
        assert_eq!(lab.used_tries(), Tries::FRESH);
        assert_eq!(lab.world.reboots.borrow().len(), 1);
    });
}

#[test]
fn what_is_not_for_this_node_is_refused_with_all_reasons() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let refusal = async |bundle: &[u8], options| {
            lab.begin(&runs, bundle, options).await.unwrap_err().message
        };
        let usual = Options::default();
        let older = Small::new("0.0.9").bundle(None);
        assert!(refusal(&older, usual).await.contains("--allow-downgrade"));
        let far = lab
            .new
            .bundle_with(&[("kubernetes", "1.39.0"), ("etcd", "3.8.0")]);
        let reasons = refusal(
            &far,
            Options {
                force: true,
                ..usual
            },
        )
        .await;
        assert!(
            reasons.contains("kubernetes 1.39.0") && reasons.contains("etcd 3.8.0"),
            "{reasons}"
        );
        let delta = lab.new.bundle(Some(&Small::new("0.1.5")));
        assert!(
            refusal(&delta, usual)
                .await
                .contains("take the full bundle")
        );
        let same = lab.old.bundle(None);
        assert!(refusal(&same, usual).await.contains("runs here already"));
        *lab.world.ill.borrow_mut() = Some("services");
        let ill = lab.new.bundle(None);
        assert!(
            refusal(&ill, usual)
                .await
                .contains("services: of the test (--force")
        );
        *lab.world.ill.borrow_mut() = None;
        // Nothing was touched.
        assert_eq!(lab.status(&runs).await.phase(), UpgradePhase::None);
        assert!(lab.disk.log().is_empty(), "{:?}", lab.disk.log());
    });
}

#[test]
fn what_nobody_we_trust_has_signed_is_refused() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let root = SigningKey::from_seed(&[9; 32]);
        let key = SigningKey::from_seed(&[8; 32]);
        let certificate = root.certify(key.public(), 1);
        let stranger = ReleaseKey::new(key, certificate).unwrap();
        // Signed as a bundle, but its slot is not.
        let (head, _, _) = {
            let bundle = lab.new.bundle(None);
            taken_apart(&bundle)
        };
        for damage in [30, head.len() - 1] {
            let mut changed = head.clone();
            changed[damage] ^= 1;
            let refused = runs
                .upgrades
                .ask(|answer| Request::Begin {
                    head: changed,
                    options: Options::default(),
                    answer,
                })
                .await
                .unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
        }
        let strange = Small::signed_by("0.2.0", &stranger);
        let bundle = strange.bundle(None);
        let length = bundle.len();
        let refused = runs
            .upgrades
            .ask(|answer| Request::Begin {
                head: bundle[..length.min(20_000)].to_vec(),
                options: Options::default(),
                answer,
            })
            .await
            .unwrap_err();
        assert!(refused.message.contains("not trusted here"), "{refused}");
        for junk in [vec![], b"KEELBNDL".to_vec(), vec![7; 5000]] {
            let refused = runs
                .upgrades
                .ask(|answer| Request::Begin {
                    head: junk,
                    options: Options::default(),
                    answer,
                })
                .await
                .unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
        }
    });
}

#[test]
fn a_transfer_goes_on_after_a_restart_of_the_program() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let bundle = lab.new.bundle(None);
        lab.begin(&runs, &bundle, STAGE).await.unwrap();
        lab.send_until(&runs, &bundle, 3).await;
        // The writer has what was sent.
        while lab.status(&runs).await.written_bytes < 70_000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        runs.kill().await;
        // Its thread goes on to the end of what it was given.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let runs = lab.start();
        let status = lab.status(&runs).await;
        assert_eq!(status.phase(), UpgradePhase::Failed);
        assert!(
            status.reason.contains("send the same bundle again"),
            "{}",
            status.reason
        );
        let slots = runs
            .upgrades
            .ask(|answer| Request::Slots { answer })
            .await
            .unwrap();
        assert_eq!(slots[1].state, "incomplete");
        lab.begin(&runs, &bundle, STAGE).await.unwrap();
        let status = lab.send_until(&runs, &bundle, 0).await;
        assert!(status.wants_block >= 2, "{status:?}");
        lab.send_until(&runs, &bundle, usize::MAX).await;
        lab.until(&runs, UpgradePhase::Staged).await;
        assert!(lab.new.is_in(&*lab.disk, Slot::B));
    });
}

#[test]
fn pausing_and_cancelling_do_no_harm_at_any_block() {
    in_lab(async |lab: &Lab| {
        let bundle = lab.new.bundle(None);
        let (_, _, blocks) = taken_apart(&bundle);
        let runs = lab.start();
        for stop in 0..=blocks.len() {
            lab.begin(&runs, &bundle, STAGE).await.unwrap();
            lab.send_until(&runs, &bundle, stop).await;
            let paused = runs
                .upgrades
                .ask(|answer| Request::Pause {
                    person: "ada".to_owned(),
                    answer,
                })
                .await;
            // At the end there may be nothing left to pause.
            if let Ok(status) = paused {
                assert_eq!(status.phase(), UpgradePhase::Paused);
                assert_eq!(status.reason, "ada paused it");
                runs.upgrades
                    .ask(|answer| Request::Resume { answer })
                    .await
                    .unwrap();
            }
            let status = cancel(&runs).await.unwrap();
            assert_eq!(status.phase(), UpgradePhase::None, "{stop}");
            let last = status.last.unwrap();
            assert_eq!(
                (last.result.as_str(), last.reason.as_str()),
                ("cancelled", "ada gave it up")
            );
            let slots = runs
                .upgrades
                .ask(|answer| Request::Slots { answer })
                .await
                .unwrap();
            assert_eq!(slots[1].state, "empty", "{stop}");
            assert!(lab.old.is_in(&*lab.disk, Slot::A));
            assert_eq!(lab.record().default_slot(), Slot::A);
        }
        assert!(cancel(&runs).await.is_err());
        lab.upgrade(&runs, &bundle).await;
        assert!(
            cancel(&runs)
                .await
                .unwrap_err()
                .message
                .contains("reboots already")
        );
    });
}

#[test]
fn one_upgrade_at_a_time() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let bundle = lab.new.bundle(None);
        lab.begin(&runs, &bundle, STAGE).await.unwrap();
        let other = Small::new("0.3.0").bundle(None);
        let refused = lab.begin(&runs, &other, STAGE).await.unwrap_err();
        assert!(refused.message.contains("upgrade cancel"), "{refused}");
        // The same one again goes on, with the options of now.
        lab.begin(&runs, &bundle, Options::default()).await.unwrap();
        lab.send_until(&runs, &bundle, usize::MAX).await;
        lab.until(&runs, UpgradePhase::Rebooting).await;
        let refused = lab.begin(&runs, &other, STAGE).await.unwrap_err();
        assert!(refused.message.contains("about to reboot"), "{refused}");
    });
}

#[test]
fn a_disk_that_fails_is_told_and_the_same_bundle_goes_on() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let bundle = lab.new.bundle(None);
        lab.disk.flip(Partition::RootB, 4097);
        lab.begin(&runs, &bundle, STAGE).await.unwrap();
        lab.send_until(&runs, &bundle, usize::MAX).await;
        let status = lab.until(&runs, UpgradePhase::Failed).await;
        assert!(
            status.reason.contains("root part of slot B"),
            "{}",
            status.reason
        );
        lab.disk.heal();
        lab.begin(&runs, &bundle, STAGE).await.unwrap();
        lab.send_until(&runs, &bundle, usize::MAX).await;
        lab.until(&runs, UpgradePhase::Staged).await;
    });
}

#[test]
fn a_transfer_that_nobody_goes_on_with_ends_by_itself() {
    in_lab(async |lab: &Lab| {
        let runs = lab.start();
        let bundle = lab.new.bundle(None);
        lab.begin(&runs, &bundle, STAGE).await.unwrap();
        lab.send_until(&runs, &bundle, 2).await;
        // The clock of the test stands still while a thread works, and this one only waits.
        tokio::time::advance(std::time::Duration::from_secs(31 * 60)).await;
        let status = lab.until(&runs, UpgradePhase::Failed).await;
        assert!(
            status.reason.contains("nothing was sent for 30 minutes"),
            "{}",
            status.reason
        );
        lab.begin(&runs, &bundle, STAGE).await.unwrap();
        let status = lab.send_until(&runs, &bundle, 0).await;
        assert_eq!(status.wants_block, 2);
    });
}

//! A change that is cut in the middle, at every place there is.

use std::time::Duration;

use super::change::{MINUTE, in_force, new, old, running, until_in_force};
use super::lab::{Lab, in_lab};
use crate::daemon::Mode;

/// What is cut in the middle.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Apply,
    Confirm,
    Revert,
    Try,
}

/// Lets a daemon that carries out `act` get so many answers of PID 1 and no more. Says whether
/// that ended it before all was done.
async fn cut(lab: &Lab, act: Act, answers: usize, last_is_done: bool) -> bool {
    let runs = running(lab, &old()).await;
    if matches!(act, Act::Confirm | Act::Revert) {
        runs.handle
            .apply(new(), Mode::Try(MINUTE), None)
            .await
            .unwrap();
        until_in_force(lab, &new()).await;
    }
    // Time passes when nobody has anything to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    {
        let mut world = lab.world.borrow_mut();
        world.answers_left = Some(answers);
        world.last_is_done = last_is_done;
    }
    match act {
        Act::Apply => drop(runs.handle.apply(new(), Mode::Keep, None).await.unwrap()),
        Act::Confirm => runs.handle.confirm().await.unwrap(),
        Act::Revert => runs.handle.revert().await.unwrap(),
        Act::Try => drop(
            runs.handle
                .apply(new(), Mode::Try(MINUTE), None)
                .await
                .unwrap(),
        ),
    }
    let goal = if act == Act::Revert { old() } else { new() };
    lab.until("cut or done", |lab| {
        let tidy = lab.exists("run/keelson/machined/trial.json") == (act == Act::Try);
        lab.world.borrow().cut || (tidy && in_force(lab, &goal))
    })
    .await;
    let was_cut = lab.world.borrow().cut;
    runs.kill().await;
    was_cut
}

/// Cuts `act` at every request to PID 1, which is carried out or is not.
fn at_every_cut(act: Act, last_is_done: &[bool], check: impl AsyncFn(&Lab)) {
    let mut cuts = 0;
    for answers in 0.. {
        let mut was_cut = false;
        for &last_is_done in last_is_done {
            in_lab(Some(&old()), async |lab| {
                was_cut |= cut(lab, act, answers, last_is_done).await;
                {
                    let mut world = lab.world.borrow_mut();
                    world.answers_left = None;
                    world.cut = false;
                }
                check(lab).await;
            });
        }
        if !was_cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 3, "{act:?} was cut at {cuts} places only");
}

#[test]
fn a_reboot_at_any_moment_leaves_the_old_or_the_new() {
    for act in [Act::Apply, Act::Confirm, Act::Revert, Act::Try] {
        let whole = match act {
            Act::Apply | Act::Confirm => new(),
            Act::Revert | Act::Try => old(),
        };
        // What PID 1 knows does not outlive it.
        at_every_cut(act, &[false], async |lab| {
            lab.reboot();
            lab.start();
            until_in_force(lab, &whole).await;
        });
    }
}

#[test]
fn a_daemon_that_ends_at_any_moment_of_a_change_completes_it_when_it_starts_again() {
    for act in [Act::Apply, Act::Confirm, Act::Revert, Act::Try] {
        let whole = if act == Act::Revert { old() } else { new() };
        at_every_cut(act, &[false, true], async |lab| {
            lab.start();
            until_in_force(lab, &whole).await;
            tokio::time::sleep(2 * MINUTE).await;
            let at_last = if act == Act::Try {
                old()
            } else {
                whole.clone()
            };
            until_in_force(lab, &at_last).await;
            assert!(!lab.exists("run/keelson/machined/trial.json"));
        });
    }
}

#[test]
fn half_a_file_that_a_power_cut_left_is_not_taken_for_a_configuration() {
    in_lab(Some(&old()), async |lab| {
        running(lab, &old()).await.kill().await;
        let half = lab
            .root
            .path()
            .join("system/state/config/.keelson.yaml.new");
        std::fs::write(half, "apiVersion: keelson.dev/v1").unwrap();
        lab.reboot();
        let runs = lab.start();
        until_in_force(lab, &old()).await;
        runs.handle.apply(new(), Mode::Keep, None).await.unwrap();
        until_in_force(lab, &new()).await;
    });
}

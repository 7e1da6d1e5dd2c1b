//! A node followed over its reboot, until its new version has proved itself or is gone.

use std::time::{Duration, Instant};

use keelson_api::v1alpha1::{UpgradeOutcome, UpgradePhase, UpgradeStatus, UpgradeStatusRequest};
use keelson_client::Endpoint;
use tokio::time::{sleep, timeout};

use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::session::Session;
use crate::terminal::note;
use crate::units::span;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// For one look, connection included: a node that reboots does not say that it does not listen.
const LOOK: Duration = Duration::from_secs(8);

/// A node that was not heard of for so long does not come back by itself: a trial that hangs is
/// ended by its watchdog, and three of them by the loader, well within this time.
const SILENCE: Duration = Duration::from_secs(45 * 60);

/// What is hoped for.
#[derive(Debug)]
pub(super) struct Goal {
    build: String,
    result: &'static str,
}

impl Goal {
    /// This build proves itself.
    pub(super) fn good(build: &str) -> Self {
        Self {
            build: build.to_owned(),
            result: "good",
        }
    }

    /// This build goes away.
    pub(super) fn rolled_back(build: &str) -> Self {
        Self {
            build: build.to_owned(),
            result: "rolled-back",
        }
    }

    /// The exit code for an outcome; none when it is one of before.
    fn exit(&self, before: Option<&UpgradeOutcome>, last: &UpgradeOutcome) -> Option<Exit> {
        if last.build_id != self.build || Some(last) == before {
            return None;
        }
        Some(match last.result.as_str() {
            result if result == self.result => Exit::Ok,
            "rolled-back" => Exit::RolledBack,
            _ => Exit::Failed,
        })
    }
}

/// Follows a node until an upgrade that has begun has ended.
pub(super) async fn until(
    session: &Session,
    endpoint: &Endpoint,
    goal: &Goal,
    before: Option<UpgradeOutcome>,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let mut heard = Instant::now();
    let mut said = String::new();
    loop {
        let words = match timeout(LOOK, look(session, endpoint)).await {
            Ok(Ok(status)) => {
                heard = Instant::now();
                let ended = status.last.as_ref().and_then(|last| {
                    let exit = goal.exit(before.as_ref(), last)?;
                    // The version before may still be about to be started.
                    (status.phase() == UpgradePhase::None).then_some((exit, last))
                });
                if let Some((exit, last)) = ended {
                    note(&format!(
                        "{endpoint}: {} (after {})",
                        outcome(last),
                        span(begun.elapsed())
                    ));
                    return Ok(exit);
                }
                if status.phase() == UpgradePhase::Failed {
                    return Err(Failure::other(format!("{endpoint}: {}", in_words(&status))));
                }
                in_words(&status)
            }
            Ok(Err(failure)) if !failure.may_pass() => {
                return Err(Failure::node(endpoint, failure));
            }
            Ok(Err(_)) | Err(_) => "no answer; it reboots, or its network is away".to_owned(),
        };
        if words != said {
            note(&format!("{endpoint}: {words}"));
            said = words;
        }
        if heard.elapsed() > SILENCE {
            note(&format!(
                "keelsonctl: {endpoint}: not heard of for {}; look at its console",
                span(SILENCE)
            ));
            return Ok(Exit::Unreachable);
        }
        sleep(INTERVAL).await;
    }
}

/// Follows what goes on now, if anything does.
pub(super) async fn current(session: &Session, endpoint: &Endpoint) -> Result<Exit, Failure> {
    let status = look(session, endpoint)
        .await
        .map_err(|failure| Failure::node(endpoint, failure))?;
    if matches!(status.phase(), UpgradePhase::None | UpgradePhase::Staged) {
        note(&format!("{endpoint}: {}", in_words(&status)));
        return Ok(Exit::Ok);
    }
    until(
        session,
        endpoint,
        &Goal::good(&status.build_id),
        status.last,
    )
    .await
}

async fn look(session: &Session, endpoint: &Endpoint) -> Result<UpgradeStatus, NodeFailure> {
    let node = session.connect(endpoint).await?;
    let request = UpgradeStatusRequest {};
    Ok(node.call(LOOK, node.upgrades().status(request)).await?)
}

/// How it stands, on one line. The same words as long as nothing happens.
pub(super) fn in_words(status: &UpgradeStatus) -> String {
    let to = format!("version {} in slot {}", status.version, status.slot);
    match status.phase() {
        UpgradePhase::None | UpgradePhase::Unspecified => match &status.last {
            Some(last) => outcome(last),
            None => format!("version {} runs, there was no upgrade", status.from_version),
        },
        UpgradePhase::Checking => format!("{to}: what is there already is compared"),
        UpgradePhase::Receiving => format!("{to} is being received"),
        UpgradePhase::Paused => format!("{to}: {}", status.reason),
        UpgradePhase::Verifying => format!("{to} is being verified"),
        UpgradePhase::Staged => format!("{to} is complete, and not started yet"),
        UpgradePhase::Draining => "pods move to other nodes".to_owned(),
        UpgradePhase::Rebooting => match status.version.as_str() {
            "" => format!("reboots: {}", status.reason),
            _ => format!("reboots into {to}"),
        },
        UpgradePhase::Trial if status.reason.is_empty() => {
            format!("{to} is on trial: all is well")
        }
        UpgradePhase::Trial => format!("{to} is on trial, missing: {}", status.reason),
        UpgradePhase::Failed => format!("{to} cannot go on: {}", status.reason),
    }
}

fn outcome(last: &UpgradeOutcome) -> String {
    let version = &last.version;
    match last.result.as_str() {
        "good" => format!("version {version} has proved itself and stays"),
        "rolled-back" => format!("the node went back from version {version}: {}", last.reason),
        "cancelled" => format!("version {version} was given up: {}", last.reason),
        other => format!("version {version}: {other}: {}", last.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(build: &str, result: &str, time: &str) -> UpgradeOutcome {
        UpgradeOutcome {
            result: result.to_owned(),
            build_id: build.to_owned(),
            time: time.to_owned(),
            ..UpgradeOutcome::default()
        }
    }

    #[test]
    fn only_an_outcome_of_this_upgrade_ends_it() {
        let goal = Goal::good("ab");
        let before = last("ab", "rolled-back", "yesterday");
        assert_eq!(goal.exit(Some(&before), &before), None);
        assert_eq!(goal.exit(None, &last("cd", "good", "now")), None);
        for (result, exit) in [
            ("good", Exit::Ok),
            ("rolled-back", Exit::RolledBack),
            ("cancelled", Exit::Failed),
        ] {
            assert_eq!(
                goal.exit(Some(&before), &last("ab", result, "now")),
                Some(exit)
            );
        }
        let back = Goal::rolled_back("ab");
        assert_eq!(
            back.exit(None, &last("ab", "rolled-back", "now")),
            Some(Exit::Ok)
        );
        assert_eq!(
            back.exit(None, &last("ab", "good", "now")),
            Some(Exit::Failed)
        );
    }
}

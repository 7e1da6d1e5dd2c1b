//! Another version: sent to the node, followed over its reboot, undone.

mod fetch;
mod follow;
mod progress;
mod source;
mod transfer;

use std::time::{Duration, Instant};

use keelson_api::v1alpha1::{
    ActivateUpgradeRequest, CancelUpgradeRequest, PauseUpgradeRequest, ResumeUpgradeRequest,
    RollbackRequest, UpgradeOptions, UpgradePhase, UpgradeStatus, UpgradeStatusRequest,
    VerifySlotRequest,
};
use keelson_client::{CallError, Endpoint, Node};

use self::follow::Goal;
use self::progress::Progress;
use self::source::Source;
use self::transfer::Transfer;
use super::{Run, look};
use crate::arguments::{Rollback, Upgrade, UpgradeStatusArguments, UpgradeVerb};
use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::fleet::{Fleet, conclude};
use crate::output::render;
use crate::session::Session;
use crate::terminal::{note, print};
use crate::units::size;

/// The node looks at its health and ends threads before it answers.
const PATIENT: Duration = Duration::from_secs(75);

pub(super) async fn upgrade(run: &Run, upgrade: &Upgrade) -> Result<Exit, Failure> {
    match (&upgrade.verb, &upgrade.image) {
        (None, Some(image)) => install(run, upgrade, image).await,
        (None, None) => Err(Failure::usage(
            "which version? Give --image FILE or --image URL, or one of status, activate, pause, \
             resume, cancel and verify",
        )),
        (Some(verb), _) => act(run, verb).await,
    }
}

async fn install(run: &Run, upgrade: &Upgrade, image: &str) -> Result<Exit, Failure> {
    let session = run.session()?;
    let endpoint = session.one("upgrade")?;
    let mut source = Source::open(image).await?;
    let head = source.head().await?;
    note(&format!(
        "{endpoint}: version {} for {} (build {}{})",
        head.version,
        head.platform,
        head.build,
        if head.is_delta { ", a delta" } else { "" }
    ));
    let options = UpgradeOptions {
        stage: upgrade.stage,
        no_drain: upgrade.no_drain,
        allow_downgrade: upgrade.allow_downgrade,
        force: upgrade.force,
    };
    let mut transfer = Transfer {
        session: &session,
        endpoint,
        head: &head,
        options,
        progress: Progress::new(run.terminal.questions),
    };
    let before = transfer.outcome_before().await?;
    let exit = transfer.send(&mut source).await?;
    match (exit, upgrade.watch) {
        (Exit::Ok, true) => {
            follow::until(&session, endpoint, &Goal::good(&head.build), before).await
        }
        (exit, _) => Ok(exit),
    }
}

async fn act(run: &Run, verb: &UpgradeVerb) -> Result<Exit, Failure> {
    match verb {
        UpgradeVerb::Activate { no_drain, watch } => {
            let request = ActivateUpgradeRequest {
                no_drain: *no_drain,
            };
            leave(run, "upgrade activate", *watch, async |node| {
                node.call(PATIENT, node.upgrades().activate(request)).await
            })
            .await
        }
        UpgradeVerb::Cancel => {
            order(run, "upgrade cancel", "given up", async |node| {
                let request = CancelUpgradeRequest {};
                node.call(PATIENT, node.upgrades().cancel(request)).await
            })
            .await
        }
        UpgradeVerb::Pause => {
            order(run, "upgrade pause", "paused", async |node| {
                let request = PauseUpgradeRequest {};
                node.call(PATIENT, node.upgrades().pause(request)).await
            })
            .await
        }
        UpgradeVerb::Resume => {
            order(run, "upgrade resume", "goes on", async |node| {
                let request = ResumeUpgradeRequest {};
                node.call(PATIENT, node.upgrades().resume(request)).await
            })
            .await
        }
        UpgradeVerb::Status(arguments) => status(run, arguments).await,
        UpgradeVerb::Verify { slot } => verify(run, slot).await,
    }
}

pub(super) async fn rollback(run: &Run, rollback: &Rollback) -> Result<Exit, Failure> {
    let request = RollbackRequest {
        no_drain: rollback.no_drain,
        force: rollback.force,
    };
    leave(run, "rollback", rollback.watch, async |node| {
        node.call(PATIENT, node.upgrades().rollback(request)).await
    })
    .await
}

/// Tells nodes something.
async fn order(
    run: &Run,
    what: &str,
    done: &str,
    ask: impl AsyncFn(&Node) -> Result<UpgradeStatus, CallError>,
) -> Result<Exit, Failure> {
    let session = run.session()?;
    let nodes = session.for_change(what)?;
    let answers = Fleet::new(&session, nodes).ask(ask).await;
    for answer in answers.iter().filter(|answer| answer.result.is_ok()) {
        note(&format!("{}: the upgrade is {done}", answer.node));
    }
    Ok(conclude(&answers, |_| Exit::Ok))
}

/// Tells a node to leave its slot, and follows it if asked.
async fn leave(
    run: &Run,
    what: &str,
    watch: bool,
    ask: impl AsyncFn(&Node) -> Result<UpgradeStatus, CallError>,
) -> Result<Exit, Failure> {
    let session = run.session()?;
    let endpoint = session.one(what)?;
    let failed = |error: NodeFailure| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let before = asked(&node).await.map_err(|error| failed(error.into()))?;
    let status = ask(&node).await.map_err(|error| failed(error.into()))?;
    note(&format!("{endpoint}: {}", follow::in_words(&status)));
    if !watch {
        return Ok(Exit::Ok);
    }
    // Ending a trial leads to the slot before, everything else to a trial of another one.
    let goal = if before.phase() == UpgradePhase::Trial {
        Goal::rolled_back(&before.build_id)
    } else {
        Goal::good(&status.build_id)
    };
    follow::until(&session, endpoint, &goal, before.last).await
}

async fn asked(node: &Node) -> Result<UpgradeStatus, CallError> {
    node.call(PATIENT, node.upgrades().status(UpgradeStatusRequest {}))
        .await
}

async fn status(run: &Run, arguments: &UpgradeStatusArguments) -> Result<Exit, Failure> {
    let session = run.session()?;
    if arguments.watch {
        let endpoint = session.one("upgrade status --watch")?;
        return follow::current(&session, endpoint).await;
    }
    let t = session.timeout;
    let answers = Fleet::new(&session, session.all())
        .ask(async |node| {
            let request = UpgradeStatusRequest {};
            node.call(t, node.upgrades().status(request)).await
        })
        .await;
    print(&render(&answers, look::layout(run, arguments.output))?)?;
    Ok(conclude(&answers, |_| Exit::Ok))
}

async fn verify(run: &Run, slot: &str) -> Result<Exit, Failure> {
    let session = run.session()?;
    let endpoint = session.one("upgrade verify")?;
    verify_on(
        &session,
        endpoint,
        slot,
        Progress::new(run.terminal.questions),
    )
    .await
}

async fn verify_on(
    session: &Session,
    endpoint: &Endpoint,
    slot: &str,
    mut progress: Progress,
) -> Result<Exit, Failure> {
    let failed = |error: NodeFailure| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let request = VerifySlotRequest {
        slot: slot.to_owned(),
    };
    let mut answers = node
        .answers(session.timeout, node.upgrades().verify(request))
        .await
        .map_err(|error| failed(error.into()))?;
    let begun = Instant::now();
    while let Some(answer) = answers
        .next(Some(PATIENT))
        .await
        .map_err(|error| failed(error.into()))?
    {
        progress.bytes("verifying", answer.bytes_done, answer.bytes_total);
        if answer.finished {
            progress.end();
            let words = format!(
                "{endpoint}: slot {slot}: {} ({} in {} s)",
                answer.reason,
                size(answer.bytes_total),
                begun.elapsed().as_secs()
            );
            return if answer.good {
                note(&words);
                Ok(Exit::Ok)
            } else {
                Err(Failure::other(words))
            };
        }
    }
    Err(Failure::other(format!(
        "{endpoint}: the node ended the verification of slot {slot} without a result"
    )))
}

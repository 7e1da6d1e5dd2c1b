//! A configuration on trial: waiting for its end, keeping it, ending it.

use std::time::{Duration, Instant};

use keelson_api::v1alpha1::{
    ConfirmConfigurationRequest, DiffConfigurationRequest, RevertConfigurationRequest,
    StatusRequest,
};
use keelson_client::{CallError, Endpoint, Node};
use tokio::time::timeout;

use super::Run;
use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::fleet::{Fleet, conclude};
use crate::prompt;
use crate::session::Session;
use crate::terminal::note;
use crate::units::span;

pub(super) async fn confirm(run: &Run) -> Result<Exit, Failure> {
    let session = run.session()?;
    let nodes = session.for_change("config confirm")?;
    let answers = Fleet::new(&session, nodes)
        .ask(async |node| keep(node, session.timeout).await)
        .await;
    for answer in answers.iter().filter(|answer| answer.result.is_ok()) {
        note(&format!("{}: the configuration stays", answer.node));
    }
    Ok(conclude(&answers, |()| Exit::Ok))
}

pub(super) async fn revert(run: &Run) -> Result<Exit, Failure> {
    let session = run.session()?;
    let nodes = session.for_change("config revert")?;
    let answers = Fleet::new(&session, nodes)
        .ask(async |node| go_back(node, session.timeout).await)
        .await;
    for answer in answers.iter().filter(|answer| answer.result.is_ok()) {
        note(&format!(
            "{}: the configuration before it holds again",
            answer.node
        ));
    }
    Ok(conclude(&answers, |()| Exit::Ok))
}

/// How often the node is asked whether the trial is over.
const INTERVAL: Duration = Duration::from_secs(2);
/// For one look: the network may just be what the trial breaks.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// Time for going back, after which the node should answer again.
const GRACE: Duration = Duration::from_secs(60);

/// Waits until the trial is over, and says how it ended. Somebody at the terminal can decide.
pub(super) async fn follow(
    run: &Run,
    session: &Session,
    endpoint: &Endpoint,
    yaml: &str,
    try_for: Duration,
) -> Result<Exit, Failure> {
    note(&format!(
        "{endpoint}: on trial for {}; `keelsonctl config confirm` keeps it, `keelsonctl config revert` ends it now{}",
        span(try_for),
        if run.terminal.questions {
            " (here: y or n and Enter)"
        } else {
            ""
        }
    ));
    let end = Instant::now() + try_for + GRACE;
    let mut questions = run.terminal.questions;
    // One reader for the whole time: a second one would take lines from it.
    let mut answer = Box::pin(prompt::line());
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            line = &mut answer, if questions => match line?.as_deref() {
                Some("y" | "yes") => return decide(session, endpoint, true).await,
                Some("n" | "no") => return decide(session, endpoint, false).await,
                Some(_) => answer = Box::pin(prompt::line()),
                None => questions = false,
            },
        }
        match timeout(LOOK_DEADLINE, look(session, endpoint, yaml)).await {
            Ok(Ok(Standing::Kept)) => {
                note(&format!("{endpoint}: confirmed, the configuration stays"));
                return Ok(Exit::Ok);
            }
            Ok(Ok(Standing::WentBack)) => {
                return Err(Failure::other(format!(
                    "{endpoint}: nobody confirmed, or it was reverted: the configuration before it holds again"
                )));
            }
            // While the trial runs the node may be out of reach; that is what it is for.
            Ok(Ok(Standing::OnTrial) | Err(_)) | Err(_) => {}
        }
        if Instant::now() > end {
            return Err(Failure::other(format!(
                "{endpoint}: no word of the trial's end; it should have ended {} ago, look with `keelsonctl status`",
                span(GRACE)
            )));
        }
    }
}

async fn decide(session: &Session, endpoint: &Endpoint, kept: bool) -> Result<Exit, Failure> {
    let failed = |error: NodeFailure| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let (decision, said) = if kept {
        (
            keep(&node, session.timeout).await,
            "the configuration stays",
        )
    } else {
        let said = "the configuration before it holds again";
        (go_back(&node, session.timeout).await, said)
    };
    decision.map_err(|error| failed(error.into()))?;
    note(&format!("{endpoint}: {said}"));
    Ok(Exit::Ok)
}

async fn keep(node: &Node, deadline: Duration) -> Result<(), CallError> {
    let request = ConfirmConfigurationRequest {};
    node.call(deadline, node.configuration().confirm(request))
        .await
        .map(drop)
}

async fn go_back(node: &Node, deadline: Duration) -> Result<(), CallError> {
    let request = RevertConfigurationRequest {};
    node.call(deadline, node.configuration().revert(request))
        .await
        .map(drop)
}

/// How a trial stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    OnTrial,
    Kept,
    WentBack,
}

async fn look(session: &Session, endpoint: &Endpoint, yaml: &str) -> Result<Standing, NodeFailure> {
    let node = session.connect(endpoint).await?;
    let status = node
        .call(session.timeout, node.system().status(StatusRequest {}))
        .await?;
    if !status.trial_until.is_empty() {
        return Ok(Standing::OnTrial);
    }
    let yaml = yaml.to_owned();
    let diff = node
        .call(
            session.timeout,
            node.configuration().diff(DiffConfigurationRequest { yaml }),
        )
        .await?;
    Ok(if diff.changes.is_empty() {
        Standing::Kept
    } else {
        Standing::WentBack
    })
}

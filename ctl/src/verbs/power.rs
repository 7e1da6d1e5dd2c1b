//! Reboot, shutdown and reset.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use keelson_api::v1alpha1::{
    HealthRequest, RebootRequest, ResetRequest, ShutdownRequest, StatusRequest,
};
use keelson_client::Endpoint;
use tokio::time::timeout;

use super::Run;
use crate::arguments::{Reboot, Reset, ResetPartition};
use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::fleet::{Fleet, conclude};
use crate::prompt;
use crate::session::Session;
use crate::terminal::note;
use crate::units::{millis, span};

pub(super) async fn reboot(run: &Run, reboot: &Reboot) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let nodes = session.for_change("reboot")?;
    let asked = Instant::now();
    let answers = Fleet::new(&session, nodes)
        .ask(async |node| {
            let reason = reboot.reason.clone();
            node.call(t, node.system().reboot(RebootRequest { reason }))
                .await
        })
        .await;
    let went: Vec<&Endpoint> = answers
        .iter()
        .filter(|answer| answer.result.is_ok())
        .map(|answer| &answer.node)
        .collect();
    for node in &went {
        note(&format!("{node}: reboots"));
    }
    let exit = conclude(&answers, |_| Exit::Ok);
    let Some(limit) = reboot.wait else {
        return Ok(exit);
    };
    let waits = went.iter().map(|node| wait(&session, node, asked, limit));
    let mut exits = join_all(waits).await;
    exits.extend((exit != Exit::Ok).then_some(exit));
    Ok(Exit::of_all(&exits))
}

pub(super) async fn shutdown(run: &Run, reason: &str) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let nodes = session.for_change("shutdown")?;
    let answers = Fleet::new(&session, nodes)
        .ask(async |node| {
            let reason = reason.to_owned();
            node.call(t, node.system().shutdown(ShutdownRequest { reason }))
                .await
        })
        .await;
    for answer in answers.iter().filter(|answer| answer.result.is_ok()) {
        note(&format!("{}: switches off", answer.node));
    }
    Ok(conclude(&answers, |_| Exit::Ok))
}

pub(super) async fn reset(run: &Run, reset: Reset) -> Result<Exit, Failure> {
    let session = run.session()?;
    let endpoint = session.one("reset")?;
    let partitions = partition_names(&reset.partitions);
    let what = partitions.join(" and ");
    let node_name = agreed_name(run, &session, endpoint, &reset, &what).await?;
    let request = ResetRequest {
        node_name,
        partitions,
        power_off: reset.power_off,
    };
    let failed = |error: NodeFailure| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    node.call(session.timeout, node.system().reset(request))
        .await
        .map_err(|error| failed(error.into()))?;
    note(&format!("{endpoint}: {what} will be erased"));
    Ok(Exit::Ok)
}

/// As the API names them, each once.
fn partition_names(partitions: &[ResetPartition]) -> Vec<String> {
    [
        (ResetPartition::State, "STATE"),
        (ResetPartition::Data, "DATA"),
    ]
    .iter()
    .filter(|(partition, _)| partitions.contains(partition))
    .map(|(_, name)| (*name).to_owned())
    .collect()
}

/// The node's name, from somebody who knows what is about to happen.
async fn agreed_name(
    run: &Run,
    session: &Session,
    endpoint: &Endpoint,
    reset: &Reset,
    what: &str,
) -> Result<String, Failure> {
    match &reset.name {
        Some(name) if reset.yes => Ok(name.clone()),
        _ if !run.terminal.questions => Err(Failure::usage(
            "reset asks, and nobody can answer here: give the node's --name and --yes",
        )),
        Some(name) => {
            let question = format!("Erase {what} of {name} ({endpoint})?");
            if prompt::confirmed(&question).await? {
                Ok(name.clone())
            } else {
                Err(Failure::other("not confirmed; nothing was erased"))
            }
        }
        None => {
            let failed = |error: NodeFailure| Failure::node(endpoint, error);
            let node = session.connect(endpoint).await.map_err(failed)?;
            let status = node
                .call(session.timeout, node.system().status(StatusRequest {}))
                .await
                .map_err(|error| failed(error.into()))?;
            let question = format!(
                "This erases {what} of {}. Type the node's name to go on: ",
                status.node_name
            );
            match prompt::ask(&question).await? {
                Some(typed) if typed == status.node_name => Ok(typed),
                _ => Err(Failure::other("not the node's name; nothing was erased")),
            }
        }
    }
}

/// How far a node has come on its way through a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    GoingDown,
    Away,
    Starting(String),
    Back,
}

/// Between two looks at a node that reboots.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// For one look; a node that is away often does not even refuse.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// Waits until a node is back and healthy, and says what it sees.
async fn wait(session: &Session, endpoint: &Endpoint, asked: Instant, limit: Duration) -> Exit {
    let mut before = Stage::GoingDown;
    while asked.elapsed() < limit {
        let stage = match timeout(LOOK_DEADLINE, look(session, endpoint, asked)).await {
            Ok(Ok(stage)) => stage,
            Ok(Err(_)) | Err(_) => Stage::Away,
        };
        if stage != before {
            let after = span(Duration::from_secs(asked.elapsed().as_secs()));
            let words = match &stage {
                Stage::GoingDown => "still going down".to_owned(),
                Stage::Away => "away".to_owned(),
                Stage::Starting(missing) => format!("starting; {missing}"),
                Stage::Back => "back and healthy".to_owned(),
            };
            note(&format!("{endpoint}: {words} (after {after})"));
        }
        if stage == Stage::Back {
            return Exit::Ok;
        }
        before = stage;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    note(&format!(
        "keelsonctl: {endpoint}: not back and healthy after {}; look at its console",
        span(limit)
    ));
    Exit::Unreachable
}

async fn look(
    session: &Session,
    endpoint: &Endpoint,
    asked: Instant,
) -> Result<Stage, NodeFailure> {
    let node = session.connect(endpoint).await?;
    let status = node
        .call(LOOK_DEADLINE, node.system().status(StatusRequest {}))
        .await?;
    if !is_new_boot(status.uptime_ms, asked.elapsed()) {
        return Ok(Stage::GoingDown);
    }
    let health = node
        .call(LOOK_DEADLINE, node.system().health(HealthRequest {}))
        .await?;
    if health.healthy {
        return Ok(Stage::Back);
    }
    let missing: Vec<String> = health
        .checks
        .into_iter()
        .filter(|check| !check.passed)
        .map(|check| check.name)
        .collect();
    Ok(Stage::Starting(format!("not yet: {}", missing.join(", "))))
}

/// The old boot is older than our request, a new one younger.
fn is_new_boot(uptime_ms: u64, since_asked: Duration) -> bool {
    uptime_ms < millis(since_asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_boot_is_younger_than_the_request() {
        let since_asked = Duration::from_secs(20);
        assert!(is_new_boot(12_000, since_asked));
        assert!(!is_new_boot(21_000, since_asked));
    }

    #[test]
    fn partitions_are_named_once_and_as_the_api_wants() {
        use ResetPartition::{Data, State};
        assert_eq!(partition_names(&[Data, State, Data]), ["STATE", "DATA"]);
        assert_eq!(partition_names(&[Data]), ["DATA"]);
    }
}

//! Starting, stopping and restarting services.

use keelson_api::v1alpha1::{RestartServiceRequest, StartServiceRequest, StopServiceRequest};
use keelson_client::{CallError, Node};

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, conclude};
use crate::terminal::note;

pub(super) async fn start(run: &Run, services: &[String]) -> Result<Exit, Failure> {
    let timeout = run.common.timeout;
    each(run, services, "start", "started", async |node, name| {
        let request = StartServiceRequest { name };
        node.call(timeout, node.services().start(request))
            .await
            .map(drop)
    })
    .await
}

pub(super) async fn stop(run: &Run, services: &[String]) -> Result<Exit, Failure> {
    let timeout = run.common.timeout;
    each(run, services, "stop", "stopped", async |node, name| {
        let request = StopServiceRequest { name };
        node.call(timeout, node.services().stop(request))
            .await
            .map(drop)
    })
    .await
}

pub(super) async fn restart(run: &Run, services: &[String]) -> Result<Exit, Failure> {
    let timeout = run.common.timeout;
    each(run, services, "restart", "restarted", async |node, name| {
        let request = RestartServiceRequest { name };
        node.call(timeout, node.services().restart(request))
            .await
            .map(drop)
    })
    .await
}

/// One service after the other, in the order given; the first that fails ends it.
async fn each(
    run: &Run,
    services: &[String],
    verb: &str,
    done: &str,
    act: impl AsyncFn(&Node, String) -> Result<(), CallError>,
) -> Result<Exit, Failure> {
    let session = run.session()?;
    let mut fleet = Fleet::new(&session, session.for_change(verb)?);
    for service in services {
        let answers = fleet
            .ask(async |node| act(node, service.clone()).await)
            .await;
        for answer in answers.iter().filter(|answer| answer.result.is_ok()) {
            note(&format!("{}: {service} {done}", answer.node));
        }
        match conclude(&answers, |()| Exit::Ok) {
            Exit::Ok => {}
            exit => return Ok(exit),
        }
    }
    Ok(Exit::Ok)
}

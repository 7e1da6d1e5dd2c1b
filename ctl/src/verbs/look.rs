//! Verbs that only look: each asks all nodes at the same time and shows what they answer.

use keelson_api::v1alpha1::{
    AddressesRequest, BootReportRequest, CgroupsRequest, DescribeServiceRequest, DisksRequest,
    EventsRequest, HealthRequest, ListCertificatesRequest, ListFilesRequest, ListServicesRequest,
    ListSlotsRequest, MemoryRequest, MountsRequest, ProcessesRequest, RoutesRequest,
    SocketsRequest, StatusRequest, VersionRequest,
};
use keelson_client::{CallError, Node};
use time::OffsetDateTime;

use super::{Run, configuration, watch};
use crate::arguments::{Get, Output, Resource};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, conclude};
use crate::output::{Layout, Show, render};
use crate::session::Session;
use crate::terminal::print;
use crate::views::EventList;

pub(super) async fn version(run: &Run, output: Output) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    once(run, &session, output, async |node| {
        node.call(t, node.system().version(VersionRequest {})).await
    })
    .await
}

pub(super) async fn status(run: &Run, output: Output) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    once(run, &session, output, async |node| {
        node.call(t, node.system().status(StatusRequest {})).await
    })
    .await
}

pub(super) async fn boot_report(run: &Run, output: Output) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    once(run, &session, output, async |node| {
        node.call(t, node.system().boot_report(BootReportRequest {}))
            .await
    })
    .await
}

pub(super) async fn health(run: &Run, output: Output) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let answers = Fleet::new(&session, session.all())
        .look(async |node| node.call(t, node.system().health(HealthRequest {})).await)
        .await;
    print(&render(&answers, layout(run, output))?)?;
    Ok(conclude(&answers, |health| {
        if health.healthy {
            Exit::Ok
        } else {
            Exit::Unhealthy
        }
    }))
}

pub(super) async fn service(run: &Run, name: &str, output: Output) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    once(run, &session, output, async |node| {
        let name = name.to_owned();
        let request = DescribeServiceRequest { name };
        node.call(t, node.services().describe(request)).await
    })
    .await
}

pub(super) async fn folder(run: &Run, path: &str, output: Output) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    once(run, &session, output, async |node| {
        let path = path.to_owned();
        node.call(t, node.files().list(ListFilesRequest { path }))
            .await
    })
    .await
}

pub(super) async fn certificates(run: &Run, output: Output) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    once(run, &session, output, async |node| {
        let request = ListCertificatesRequest {};
        node.call(t, node.certificates().list(request)).await
    })
    .await
}

/// `get`: one question for each resource.
pub(super) async fn get(run: &Run, get: &Get) -> Result<Exit, Failure> {
    if get.listening && get.resource != Resource::Sockets {
        return Err(Failure::usage("--listening is for sockets"));
    }
    macro_rules! ask {
        ($client:ident.$method:ident($request:expr)) => {{
            let session = run.session()?;
            let t = session.timeout;
            let ask = async |node: &Node| node.call(t, node.$client().$method($request)).await;
            list(run, &session, get, ask).await
        }};
    }
    match get.resource {
        Resource::Addresses => ask!(resources.addresses(AddressesRequest {})),
        Resource::Certificates => ask!(certificates.list(ListCertificatesRequest {})),
        Resource::Cgroups => ask!(resources.cgroups(CgroupsRequest {})),
        Resource::Config if get.watch => Err(Failure::usage("the configuration is not watched")),
        Resource::Config => configuration::show(run, false, get.output.format).await,
        Resource::Disks => ask!(resources.disks(DisksRequest {})),
        Resource::Events => {
            let session = run.session()?;
            let t = session.timeout;
            list(run, &session, get, async |node| events(node, t).await).await
        }
        Resource::Memory => ask!(resources.memory(MemoryRequest {})),
        Resource::Mounts => ask!(resources.mounts(MountsRequest {})),
        Resource::Processes => ask!(resources.processes(ProcessesRequest {})),
        Resource::Routes => ask!(resources.routes(RoutesRequest {})),
        Resource::Services => ask!(services.list(ListServicesRequest {})),
        Resource::Slots => ask!(upgrades.slots(ListSlotsRequest {})),
        Resource::Sockets => ask!(resources.sockets(SocketsRequest {
            listening: get.listening
        })),
    }
}

/// All events that the node keeps.
async fn events(node: &Node, deadline: std::time::Duration) -> Result<EventList, CallError> {
    let mut answers = node
        .answers(deadline, node.system().events(EventsRequest::default()))
        .await?;
    let mut events = Vec::new();
    while let Some(event) = answers.next(Some(deadline)).await? {
        events.push(event);
    }
    Ok(EventList { events })
}

async fn list<T: Show>(
    run: &Run,
    session: &Session,
    get: &Get,
    ask: impl AsyncFn(&Node) -> Result<T, CallError>,
) -> Result<Exit, Failure> {
    if get.watch {
        watch::repeat(run, session, get, ask).await
    } else {
        once(run, session, get.output, ask).await
    }
}

async fn once<T: Show>(
    run: &Run,
    session: &Session,
    output: Output,
    ask: impl AsyncFn(&Node) -> Result<T, CallError>,
) -> Result<Exit, Failure> {
    let answers = Fleet::new(session, session.all()).look(ask).await;
    print(&render(&answers, layout(run, output))?)?;
    Ok(conclude(&answers, |_| Exit::Ok))
}

pub(super) fn layout(run: &Run, output: Output) -> Layout {
    Layout {
        format: output.format,
        colour: run.terminal.colour,
        now: OffsetDateTime::now_utc(),
    }
}

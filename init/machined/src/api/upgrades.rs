//! Upgrades: asked for, looked at, sent.

use keelson_api::v1alpha1::upgrades_server::Upgrades as UpgradesService;
use keelson_api::v1alpha1::{
    ActivateUpgradeRequest, BeginUpgradeRequest, CancelUpgradeRequest, ListSlotsRequest,
    ListSlotsResponse, PauseUpgradeRequest, ResumeUpgradeRequest, RollbackRequest,
    SendUpgradeRequest, UpgradeStatus, UpgradeStatusRequest, VerifySlotRequest, VerifySlotResponse,
};
use keelson_bootstate::Slot;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::caller::Caller;
use crate::upgrade::{Options, Request as Order, Upgrades};

/// Answers of a verification that wait for a client that reads slowly; the reading waits too.
const QUEUE: usize = 4;

/// Serves the calls on upgrades.
#[derive(Clone, Debug)]
pub(crate) struct UpgradesApi {
    pub(crate) upgrades: Upgrades,
    pub(crate) audit: Audit,
}

#[tonic::async_trait]
impl UpgradesService for UpgradesApi {
    type VerifyStream = ReceiverStream<Result<VerifySlotResponse, Status>>;

    async fn activate(
        &self,
        request: Request<ActivateUpgradeRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let caller = Caller::of(&request)?;
        let no_drain = request.into_inner().no_drain;
        let work = self.ask(|answer| Order::Activate { no_drain, answer });
        self.audited(&caller, "activate the staged upgrade", work)
            .await
    }

    async fn begin(
        &self,
        request: Request<BeginUpgradeRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let caller = Caller::of(&request)?;
        let BeginUpgradeRequest { head, options } = request.into_inner();
        let options = options.unwrap_or_default();
        let options = Options {
            stage: options.stage,
            no_drain: options.no_drain,
            allow_downgrade: options.allow_downgrade,
            force: options.force,
        };
        let what = format!("begin an upgrade ({})", in_words(options));
        let work = self.ask(|answer| Order::Begin {
            head,
            options,
            answer,
        });
        self.audited(&caller, &what, work).await
    }

    async fn cancel(
        &self,
        request: Request<CancelUpgradeRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let caller = Caller::of(&request)?;
        let person = caller.person.clone();
        let work = self.ask(|answer| Order::Cancel { person, answer });
        self.audited(&caller, "cancel the upgrade", work).await
    }

    async fn pause(
        &self,
        request: Request<PauseUpgradeRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let caller = Caller::of(&request)?;
        let person = caller.person.clone();
        let work = self.ask(|answer| Order::Pause { person, answer });
        self.audited(&caller, "pause the upgrade", work).await
    }

    async fn resume(
        &self,
        request: Request<ResumeUpgradeRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let caller = Caller::of(&request)?;
        let work = self.ask(|answer| Order::Resume { answer });
        self.audited(&caller, "resume the upgrade", work).await
    }

    async fn rollback(
        &self,
        request: Request<RollbackRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let caller = Caller::of(&request)?;
        let RollbackRequest { no_drain, force } = request.into_inner();
        let person = caller.person.clone();
        let work = self.ask(|answer| Order::Rollback {
            person,
            no_drain,
            force,
            answer,
        });
        self.audited(&caller, "roll back to the other slot", work)
            .await
    }

    /// Not audited piece by piece: Begin is.
    async fn send(
        &self,
        request: Request<SendUpgradeRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let SendUpgradeRequest {
            upgrade,
            block,
            offset,
            data,
        } = request.into_inner();
        let status = self.upgrades.send(&upgrade, block, offset, data).await?;
        Ok(Response::new(status))
    }

    async fn slots(
        &self,
        _: Request<ListSlotsRequest>,
    ) -> Result<Response<ListSlotsResponse>, Status> {
        let slots = self.upgrades.ask(|answer| Order::Slots { answer }).await?;
        Ok(Response::new(ListSlotsResponse { slots }))
    }

    async fn status(
        &self,
        _: Request<UpgradeStatusRequest>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let status = self.ask(|answer| Order::Status { answer }).await?;
        Ok(Response::new(status))
    }

    async fn verify(
        &self,
        request: Request<VerifySlotRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let name = request.into_inner().slot;
        let slot = Slot::ALL
            .into_iter()
            .find(|slot| name.eq_ignore_ascii_case(&slot.letter().to_string()))
            .ok_or_else(|| Status::invalid_argument("a slot is called a or b"))?;
        let (news, receiver) = mpsc::channel(QUEUE);
        self.upgrades
            .ask(|answer| Order::Verify { slot, news, answer })
            .await?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl UpgradesApi {
    async fn ask(
        &self,
        order: impl FnOnce(
            tokio::sync::oneshot::Sender<Result<UpgradeStatus, crate::upgrade::Refused>>,
        ) -> Order,
    ) -> Result<UpgradeStatus, Status> {
        Ok(self.upgrades.ask(order).await?)
    }

    async fn audited(
        &self,
        caller: &Caller,
        what: &str,
        work: impl Future<Output = Result<UpgradeStatus, Status>>,
    ) -> Result<Response<UpgradeStatus>, Status> {
        let status = self.audit.record(caller, what, work).await?;
        Ok(Response::new(status))
    }
}

fn in_words(options: Options) -> String {
    let words: Vec<&str> = [
        ("stage", options.stage),
        ("no drain", options.no_drain),
        ("downgrade allowed", options.allow_downgrade),
        ("forced", options.force),
    ]
    .into_iter()
    .filter_map(|(word, set)| set.then_some(word))
    .collect();
    match words.is_empty() {
        true => "usual".to_owned(),
        false => words.join(", "),
    }
}

//! The node as a whole: version, status, health, events, and its end.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use keelson_api::v1alpha1::system_server::System;
use keelson_api::v1alpha1::{
    BootReportRequest, BootReportResponse, Event, EventsRequest, HealthRequest, HealthResponse,
    KubeconfigRequest, KubeconfigResponse, Mount, Phase, RebootRequest, RebootResponse,
    ResetRequest, ResetResponse, ShutdownRequest, ShutdownResponse, StatusRequest, StatusResponse,
    SupportBundleRequest, VersionRequest, VersionResponse,
};
use keelson_control::{
    BootFacts, BootReport, ServiceState, ServiceStatus, ShutdownKind, Status as Pid1Status,
};
use keelson_storage::Volume;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::blocking::{blocking, internal};
use super::caller::Caller;
use super::certificates::CertificatesApi;
use super::configuration::ConfigurationApi;
use super::services::refused;
use super::{Node, build, health, support, timestamp};

/// Longest reason a person may give.
const MAX_REASON: usize = 200;

/// Serves the calls on the node as a whole.
#[derive(Clone, Debug)]
pub(crate) struct SystemApi {
    pub(crate) node: Arc<Node>,
    pub(crate) audit: Audit,
    pub(crate) certificates: CertificatesApi,
    pub(crate) configuration: ConfigurationApi,
}

#[tonic::async_trait]
impl System for SystemApi {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;
    type SupportBundleStream = support::Chunks;

    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        build::version(&self.node.machine()).map(Response::new)
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.node_status().await.map(Response::new)
    }

    async fn boot_report(
        &self,
        _: Request<BootReportRequest>,
    ) -> Result<Response<BootReportResponse>, Status> {
        let status = self.node.pid1_status().await?;
        let report = self.node.paths.boot_report();
        Ok(Response::new(phases(&status, &report)))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        self.judge().await.map(Response::new)
    }

    async fn events(
        &self,
        request: Request<EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let request = request.into_inner();
        let since = timestamp::since(&request.since)?;
        let receiver = self.node.events.stream(since, request);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn reboot(
        &self,
        request: Request<RebootRequest>,
    ) -> Result<Response<RebootResponse>, Status> {
        let caller = Caller::of(&request)?;
        let reason = request.into_inner().reason;
        self.end(&caller, ShutdownKind::Reboot, "reboot", &reason)
            .await?;
        Ok(Response::new(RebootResponse {}))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        let caller = Caller::of(&request)?;
        let reason = request.into_inner().reason;
        self.end(&caller, ShutdownKind::PowerOff, "shutdown", &reason)
            .await?;
        Ok(Response::new(ShutdownResponse {}))
    }

    async fn reset(
        &self,
        request: Request<ResetRequest>,
    ) -> Result<Response<ResetResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let what = format!("reset {}", request.partitions.join(" and "));
        let work = self.erase(&caller, &what, &request);
        self.audit.record(&caller, what.clone(), work).await?;
        Ok(Response::new(ResetResponse {}))
    }

    async fn kubeconfig(
        &self,
        request: Request<KubeconfigRequest>,
    ) -> Result<Response<KubeconfigResponse>, Status> {
        let caller = Caller::of(&request)?;
        let kubeconfig = self.node.kubeconfig.borrow().clone();
        let work = async {
            kubeconfig.ok_or_else(|| {
                Status::failed_precondition(
                    "the node has no cluster yet: see `keelsonctl status` for what it waits for",
                )
            })
        };
        let kubeconfig = self
            .audit
            .record(&caller, "read the kubeconfig", work)
            .await?;
        Ok(Response::new(KubeconfigResponse { kubeconfig }))
    }

    async fn support_bundle(
        &self,
        _: Request<SupportBundleRequest>,
    ) -> Result<Response<Self::SupportBundleStream>, Status> {
        support::bundle(self).await
    }
}

impl SystemApi {
    pub(super) async fn node_status(&self) -> Result<StatusResponse, Status> {
        let pid1 = self.node.pid1_status().await?;
        let root = self.node.machine();
        let version = build::version(&root)?.version;
        let memory = keelson_observe::memory(&root).map_err(|error| internal(&error))?;
        let addresses = pid1.facts.get("node-ip").cloned().unwrap_or_default();
        let part_of_node = |service: &&ServiceStatus| service.state != ServiceState::Disabled;
        let services: Vec<_> = pid1.services.iter().filter(part_of_node).collect();
        let not_ready: Vec<String> = services
            .iter()
            .filter(|service| !health::is_well(service.state))
            .map(|service| service.name.clone())
            .collect();
        let total = u32::try_from(services.len()).unwrap_or(u32::MAX);
        let missing = u32::try_from(not_ready.len()).unwrap_or(u32::MAX);
        Ok(StatusResponse {
            node_name: self.node_name(),
            machine_id: read_line(&self.node.paths.etc("machine-id")),
            version,
            stage: stage(&pid1, self.node.events.is_going_down()).to_owned(),
            uptime_ms: pid1.uptime_ms,
            time: timestamp::now(),
            addresses: addresses
                .split(',')
                .filter(|address| !address.is_empty())
                .map(str::to_owned)
                .collect(),
            slot: BootFacts::read_from(&self.node.paths.boot_facts())
                .map(|facts| facts.slot)
                .unwrap_or_default(),
            services_ready: total.saturating_sub(missing),
            services_total: total,
            services_not_ready: not_ready,
            conditions: pid1.conditions,
            memory_total_bytes: memory.total_bytes,
            memory_available_bytes: memory.available_bytes,
            load1: keelson_observe::load1(&root).unwrap_or_default(),
            trial_until: self.configuration.trial_until(),
        })
    }

    pub(super) async fn judge(&self) -> Result<HealthResponse, Status> {
        let pid1 = self.node.pid1_status().await?;
        let root = self.node.machine();
        let memory = keelson_observe::memory(&root).map_err(|error| internal(&error))?;
        let mounts = blocking(move || keelson_observe::mounts(&root)).await?;
        let certificates = self.certificates.known().await?;
        Ok(health::judge(&health::Evidence {
            pid1: &pid1,
            mounts: &mounts,
            memory: &memory,
            certificates: &certificates,
            now: time::OffsetDateTime::now_utc(),
        }))
    }

    fn node_name(&self) -> String {
        read_line(&self.node.paths.etc("hostname"))
    }

    async fn end(
        &self,
        caller: &Caller,
        kind: ShutdownKind,
        verb: &str,
        reason: &str,
    ) -> Result<(), Status> {
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let what = if reason.is_empty() {
            verb.to_owned()
        } else {
            format!("{verb}: {reason}")
        };
        let work = self.go_down(caller, kind, &what);
        self.audit.record(caller, what.clone(), work).await
    }

    async fn go_down(&self, caller: &Caller, kind: ShutdownKind, what: &str) -> Result<(), Status> {
        let mut control = self.node.control().await?;
        // The result may come too late for the disk.
        self.audit.write(caller, what, "begins");
        let said = format!(
            "{} asked for it through the node API ({what})",
            caller.person
        );
        control.shutdown(kind, &said).await.map_err(refused)
    }

    async fn erase(
        &self,
        caller: &Caller,
        what: &str,
        request: &ResetRequest,
    ) -> Result<(), Status> {
        let name = self.node_name();
        if request.node_name != name {
            return Err(Status::failed_precondition(format!(
                "this node is called {name:?}, not {:?}: nothing was erased",
                request.node_name
            )));
        }
        let root = self.node.machine();
        let mounts = blocking(move || keelson_observe::mounts(&root)).await?;
        let devices = request
            .partitions
            .iter()
            .map(|partition| erasable(&mounts, partition))
            .collect::<Result<Vec<_>, _>>()?;
        if devices.is_empty() {
            return Err(Status::invalid_argument(
                "name what to erase: STATE, DATA or both",
            ));
        }
        for device in devices {
            blocking(move || keelson_storage::request_erasure(&device)).await?;
        }
        let kind = if request.power_off {
            ShutdownKind::PowerOff
        } else {
            ShutdownKind::Reboot
        };
        self.go_down(caller, kind, what).await
    }
}

/// The device of a volume, by where it is mounted: the partition may be younger than the boot
/// facts.
fn erasable(mounts: &[Mount], partition: &str) -> Result<PathBuf, Status> {
    let volume = [Volume::State, Volume::Data]
        .into_iter()
        .find(|volume| volume.name() == partition)
        .ok_or_else(|| {
            Status::invalid_argument(format!(
                "{partition:?} cannot be erased: STATE, DATA or both can"
            ))
        })?;
    mounts
        .iter()
        .find(|mount| Path::new(&mount.target) == volume.target())
        .map(|mount| PathBuf::from(&mount.source))
        .ok_or_else(|| {
            Status::failed_precondition(format!("{partition} is not mounted, so it is not erased"))
        })
}

/// PID 1 leaves the report once the node is Ready; before that there are only phases.
fn phases(status: &Pid1Status, report: &Path) -> BootReportResponse {
    let ready_ms = std::fs::read(report)
        .ok()
        .and_then(|text| serde_json::from_slice::<BootReport>(&text).ok())
        .map_or(0, |report| report.ready_ms);
    let mut phases: Vec<Phase> = status
        .phases
        .iter()
        .map(|phase| Phase {
            name: phase.name.clone(),
            at_ms: phase.at_ms,
        })
        .collect();
    phases.sort_by_key(|phase| phase.at_ms);
    BootReportResponse { ready_ms, phases }
}

fn stage(pid1: &Pid1Status, going_down: bool) -> &'static str {
    let holds = |name: &str| pid1.conditions.iter().any(|condition| condition == name);
    if going_down {
        "stopping"
    } else if holds("maintenance") {
        "maintenance"
    } else if holds("node-ready") {
        "running"
    } else {
        "starting"
    }
}

fn read_line(path: &Path) -> String {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> Mount {
        Mount {
            source: source.to_owned(),
            target: target.to_owned(),
            ..Mount::default()
        }
    }

    #[test]
    fn only_volumes_that_are_mounted_can_be_erased() {
        let mounts = [mount("/dev/dm-0", "/"), mount("/dev/vda11", "/var")];
        assert_eq!(erasable(&mounts, "DATA").unwrap(), Path::new("/dev/vda11"));
        assert!(erasable(&mounts, "STATE").is_err());
        for other in ["ROOT-A", "/", "", "data"] {
            assert!(erasable(&mounts, other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_stage_is_the_last_thing_that_holds() {
        let with = |conditions: &[&str]| Pid1Status {
            conditions: conditions.iter().map(|name| (*name).to_owned()).collect(),
            ..Pid1Status::default()
        };
        assert_eq!(stage(&with(&["storage"]), false), "starting");
        assert_eq!(stage(&with(&["maintenance"]), false), "maintenance");
        assert_eq!(stage(&with(&["config", "node-ready"]), false), "running");
        assert_eq!(stage(&with(&["node-ready"]), true), "stopping");
    }
}

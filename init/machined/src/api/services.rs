//! Services: PID 1 is asked, and told.

use std::sync::Arc;

use keelson_api::v1alpha1::services_server::Services;
use keelson_api::v1alpha1::{
    CgroupUsage, DescribeServiceRequest, DescribeServiceResponse, ListServicesRequest,
    ListServicesResponse, RestartServiceRequest, RestartServiceResponse, ServiceExit,
    ServiceState as ApiState, ServiceSummary, StartServiceRequest, StartServiceResponse,
    StopServiceRequest, StopServiceResponse,
};
use keelson_control::{
    AsyncClient, ClientError, ExitRecord, ServiceDetail, ServiceState, ServiceStatus, chain,
};
use keelson_observe::Root;
use tonic::{Request, Response, Status};

use super::Node;
use super::audit::Audit;
use super::caller::Caller;
use super::{log_files, timestamp, unknown_service};

/// Log lines shown with a service.
const SHOWN_LINES: usize = 10;

/// Serves the calls on services.
#[derive(Clone, Debug)]
pub(crate) struct ServicesApi {
    pub(crate) node: Arc<Node>,
    pub(crate) audit: Audit,
}

#[tonic::async_trait]
impl Services for ServicesApi {
    async fn list(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let status = self.node.pid1_status().await?;
        let root = self.node.machine();
        let services = status
            .services
            .iter()
            .map(|service| summary(&root, service))
            .collect();
        Ok(Response::new(ListServicesResponse { services }))
    }

    async fn describe(
        &self,
        request: Request<DescribeServiceRequest>,
    ) -> Result<Response<DescribeServiceResponse>, Status> {
        let name = request.into_inner().name;
        let detail = self
            .control(&name)
            .await?
            .describe(&name)
            .await
            .map_err(refused)?;
        let log_tail = log_files::last_lines(&self.node.logs(), &name, SHOWN_LINES);
        Ok(Response::new(description(
            &self.node.machine(),
            detail,
            log_tail,
        )))
    }

    async fn start(
        &self,
        request: Request<StartServiceRequest>,
    ) -> Result<Response<StartServiceResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        let what = format!("start service {name}");
        let work = async {
            self.control(&name)
                .await?
                .start(&name)
                .await
                .map_err(refused)
        };
        self.audit.record(&caller, what, work).await?;
        Ok(Response::new(StartServiceResponse {}))
    }

    async fn stop(
        &self,
        request: Request<StopServiceRequest>,
    ) -> Result<Response<StopServiceResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        let what = format!("stop service {name}");
        let work = async {
            self.control(&name)
                .await?
                .stop(&name)
                .await
                .map_err(refused)
        };
        self.audit.record(&caller, what, work).await?;
        Ok(Response::new(StopServiceResponse {}))
    }

    async fn restart(
        &self,
        request: Request<RestartServiceRequest>,
    ) -> Result<Response<RestartServiceResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        let what = format!("restart service {name}");
        let work = async {
            self.control(&name)
                .await?
                .restart(&name)
                .await
                .map_err(refused)
        };
        self.audit.record(&caller, what, work).await?;
        Ok(Response::new(RestartServiceResponse {}))
    }
}

impl ServicesApi {
    /// PID 1, for a service that exists.
    async fn control(&self, name: &str) -> Result<AsyncClient, Status> {
        let known = self.node.service_names().await?;
        if known.iter().any(|service| service == name) {
            self.node.control().await
        } else {
            Err(unknown_service(name, &known))
        }
    }
}

/// PID 1's answer as the API's.
pub(crate) fn refused(error: ClientError) -> Status {
    match error {
        ClientError::Refused { reason } => Status::failed_precondition(reason),
        error => Status::unavailable(chain(&error)),
    }
}

/// A state of PID 1 as the API's.
pub(crate) fn state(state: ServiceState) -> ApiState {
    match state {
        ServiceState::Backoff => ApiState::Backoff,
        ServiceState::CrashLoop => ApiState::CrashLoop,
        ServiceState::Disabled => ApiState::Disabled,
        ServiceState::Exited => ApiState::Exited,
        ServiceState::Ready => ApiState::Ready,
        ServiceState::Starting => ApiState::Starting,
        ServiceState::Stopped => ApiState::Stopped,
        ServiceState::Stopping => ApiState::Stopping,
        ServiceState::Waiting => ApiState::Waiting,
    }
}

/// What the cgroup of a service uses; `None` when it has none.
pub(crate) fn usage(root: &Root, service: &str) -> Option<CgroupUsage> {
    keelson_observe::cgroup_usage(root, &format!("keelson/{service}"))
}

pub(crate) fn summary(root: &Root, service: &ServiceStatus) -> ServiceSummary {
    ServiceSummary {
        name: service.name.clone(),
        state: state(service.state).into(),
        since: timestamp::at_uptime(service.since_ms),
        pid: service.pid.unwrap_or_default(),
        restarts: service.restarts,
        waiting_for: service.waiting_for.clone(),
        last_exit: service.last_exit.clone().unwrap_or_default(),
        memory_bytes: usage(root, &service.name).map_or(0, |usage| usage.memory_bytes),
    }
}

fn description(
    root: &Root,
    detail: ServiceDetail,
    log_tail: Vec<String>,
) -> DescribeServiceResponse {
    let limits = detail.limits;
    DescribeServiceResponse {
        usage: usage(root, &detail.status.name),
        summary: Some(summary(root, &detail.status)),
        description: detail.description,
        command: detail.command,
        user: detail.user,
        group: detail.group,
        needs_services: detail.needs_services,
        needs_conditions: detail.needs_conditions,
        only: detail.only.into_iter().collect(),
        readiness: detail.readiness,
        liveness: detail.liveness.unwrap_or_default(),
        restart_policy: detail.restart_policy,
        oom_score_adj: detail.oom_score_adj.into(),
        memory_low_bytes: limits.memory_low.unwrap_or_default(),
        memory_high_bytes: limits.memory_high.unwrap_or_default(),
        memory_max_bytes: limits.memory_max.unwrap_or_default(),
        cpu_weight: limits.cpu_weight.unwrap_or_default().into(),
        pids_max: limits.pids_max.unwrap_or_default(),
        exits: detail.exits.into_iter().map(exit).collect(),
        log_tail,
    }
}

fn exit(record: ExitRecord) -> ServiceExit {
    ServiceExit {
        time: timestamp::at_uptime(record.at_ms),
        how: record.how,
        reason: record.reason.unwrap_or_default(),
        ran_ms: record.ran_ms,
        last_lines: record.last_lines,
    }
}

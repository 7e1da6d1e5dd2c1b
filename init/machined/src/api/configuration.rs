//! The configuration: shown, checked, compared, put into use.

use std::time::Duration;

use keelson_api::v1alpha1::configuration_server::Configuration;
use keelson_api::v1alpha1::{
    ApplyConfigurationRequest, ApplyConfigurationResponse, ConfirmConfigurationRequest,
    ConfirmConfigurationResponse, DiffConfigurationRequest, DiffConfigurationResponse,
    GetConfigurationRequest, GetConfigurationResponse, RevertConfigurationRequest,
    RevertConfigurationResponse, SchemaRequest, SchemaResponse, ValidateConfigurationRequest,
    ValidateConfigurationResponse,
};
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::caller::Caller;
use crate::daemon::{Handle, Mode, Shown};

/// Generated from the types; a test of keelson-config compares.
const SCHEMA: &str = include_str!("../../../../docs/reference/node-config.schema.json");

/// Serves the calls on the configuration.
#[derive(Clone, Debug)]
pub(crate) struct ConfigurationApi {
    pub(crate) handle: Handle,
    pub(crate) audit: Audit,
}

impl ConfigurationApi {
    /// The configuration in use, secrets hidden.
    pub(crate) async fn shown(&self, defaults: bool) -> Result<Shown, Status> {
        Ok(self.handle.configuration(defaults).await?)
    }

    /// When a trial ends; empty without one.
    pub(crate) fn trial_until(&self) -> String {
        let summary = self.handle.summary();
        summary.borrow().trial_until.clone().unwrap_or_default()
    }
}

#[tonic::async_trait]
impl Configuration for ConfigurationApi {
    async fn get(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Result<Response<GetConfigurationResponse>, Status> {
        let Shown { yaml, revision } = self.shown(request.into_inner().defaults).await?;
        Ok(Response::new(GetConfigurationResponse { yaml, revision }))
    }

    async fn schema(&self, _: Request<SchemaRequest>) -> Result<Response<SchemaResponse>, Status> {
        Ok(Response::new(SchemaResponse {
            json: SCHEMA.to_owned(),
        }))
    }

    async fn validate(
        &self,
        request: Request<ValidateConfigurationRequest>,
    ) -> Result<Response<ValidateConfigurationResponse>, Status> {
        let problem = self.handle.validate(request.into_inner().yaml).await?;
        Ok(Response::new(ValidateConfigurationResponse {
            valid: problem.is_none(),
            problem: problem.unwrap_or_default(),
        }))
    }

    async fn diff(
        &self,
        request: Request<DiffConfigurationRequest>,
    ) -> Result<Response<DiffConfigurationResponse>, Status> {
        let plan = self.handle.diff(request.into_inner().yaml).await?;
        Ok(Response::new(DiffConfigurationResponse {
            changes: plan.changes,
            reboot: plan.reboot,
            restarts: plan.restarts,
        }))
    }

    async fn apply(
        &self,
        request: Request<ApplyConfigurationRequest>,
    ) -> Result<Response<ApplyConfigurationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (mode, what) = match (request.dry_run, request.try_ms) {
            (true, _) => (Mode::DryRun, String::new()),
            (false, 0) => (Mode::Keep, "apply configuration".to_owned()),
            (false, ms) => (
                Mode::Try(Duration::from_millis(ms)),
                format!("try configuration for {} s", ms / 1000),
            ),
        };
        let expected = Some(request.expected_revision).filter(|revision| !revision.is_empty());
        let work = async { Ok(self.handle.apply(request.yaml, mode, expected).await?) };
        let applied = if mode == Mode::DryRun {
            work.await?
        } else {
            self.audit.record(&caller, what, work).await?
        };
        Ok(Response::new(ApplyConfigurationResponse {
            changes: applied.plan.changes,
            reboot: applied.plan.reboot,
            restarts: applied.plan.restarts,
            trial_until: applied.trial_until.unwrap_or_default(),
        }))
    }

    async fn confirm(
        &self,
        request: Request<ConfirmConfigurationRequest>,
    ) -> Result<Response<ConfirmConfigurationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let work = async { Ok(self.handle.confirm().await?) };
        self.audit
            .record(&caller, "confirm configuration", work)
            .await?;
        Ok(Response::new(ConfirmConfigurationResponse {}))
    }

    async fn revert(
        &self,
        request: Request<RevertConfigurationRequest>,
    ) -> Result<Response<RevertConfigurationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let work = async { Ok(self.handle.revert().await?) };
        self.audit
            .record(&caller, "revert configuration", work)
            .await?;
        Ok(Response::new(RevertConfigurationResponse {}))
    }
}

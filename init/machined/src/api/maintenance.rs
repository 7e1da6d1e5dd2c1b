//! The one call for a caller without a certificate: the first configuration of a node.

use keelson_api::v1alpha1::maintenance_server::Maintenance;
use keelson_api::v1alpha1::{MaintenanceApplyRequest, MaintenanceApplyResponse};
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::caller::Caller;
use crate::daemon::Handle;

/// Serves it.
#[derive(Clone, Debug)]
pub(crate) struct MaintenanceApi {
    pub(crate) handle: Handle,
    pub(crate) audit: Audit,
}

#[tonic::async_trait]
impl Maintenance for MaintenanceApi {
    async fn apply(
        &self,
        request: Request<MaintenanceApplyRequest>,
    ) -> Result<Response<MaintenanceApplyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let MaintenanceApplyRequest {
            yaml,
            code,
            certificate_request,
        } = request.into_inner();
        let work = async { Ok(self.handle.feed(&code, yaml, &certificate_request).await?) };
        let admission = self
            .audit
            .record(&caller, "apply the first configuration", work)
            .await?;
        Ok(Response::new(MaintenanceApplyResponse {
            certificate: admission.certificate,
            authority: admission.authority,
        }))
    }
}

//! Certificates: shown, signed for people, revoked.

use std::time::Duration;

use keelson_api::v1alpha1::certificates_server::Certificates;
use keelson_api::v1alpha1::{
    Certificate, IssueCertificateRequest, IssueCertificateResponse, ListCertificatesRequest,
    ListCertificatesResponse, RevokeCertificateRequest, RevokeCertificateResponse,
};
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::caller::Caller;
use crate::daemon::Handle;

/// Serves the calls on certificates.
#[derive(Clone, Debug)]
pub(crate) struct CertificatesApi {
    pub(crate) handle: Handle,
    pub(crate) audit: Audit,
}

impl CertificatesApi {
    /// Every certificate the node knows.
    pub(crate) async fn known(&self) -> Result<Vec<Certificate>, Status> {
        Ok(self.handle.certificates().await?)
    }
}

#[tonic::async_trait]
impl Certificates for CertificatesApi {
    async fn list(
        &self,
        _: Request<ListCertificatesRequest>,
    ) -> Result<Response<ListCertificatesResponse>, Status> {
        let certificates = self.known().await?;
        Ok(Response::new(ListCertificatesResponse { certificates }))
    }

    async fn issue(
        &self,
        request: Request<IssueCertificateRequest>,
    ) -> Result<Response<IssueCertificateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let what = format!(
            "issue a certificate for {:?} with the role {:?}",
            request.person, request.role
        );
        let lifetime =
            (request.lifetime_ms > 0).then(|| Duration::from_millis(request.lifetime_ms));
        let work = async {
            Ok(self
                .handle
                .issue(
                    &request.certificate_request,
                    &request.person,
                    &request.role,
                    lifetime,
                )
                .await?)
        };
        let admission = self.audit.record(&caller, what, work).await?;
        Ok(Response::new(IssueCertificateResponse {
            certificate: admission.certificate,
            authority: admission.authority,
        }))
    }

    async fn revoke(
        &self,
        request: Request<RevokeCertificateRequest>,
    ) -> Result<Response<RevokeCertificateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let fingerprint = request.into_inner().fingerprint;
        let what = format!("revoke the certificate {fingerprint}");
        let work = async { Ok(self.handle.revoke(&fingerprint).await?) };
        self.audit.record(&caller, what, work).await?;
        Ok(Response::new(RevokeCertificateResponse {}))
    }
}

//! Configuration and certificates of the node of the tests.

use std::hash::{DefaultHasher, Hash, Hasher};

use keelson_api::access::Role;
use keelson_api::v1alpha1::certificates_server::Certificates;
use keelson_api::v1alpha1::configuration_server::Configuration;
use keelson_api::v1alpha1::maintenance_server::Maintenance;
#[allow(clippy::wildcard_imports, reason = "nearly all messages of the API")]
use keelson_api::v1alpha1::*;
use tonic::{Request, Status, async_trait};

use super::{Answer, CODE, TIME, answer};
use crate::fake::State;
use crate::pki::Authority;

#[async_trait]
impl Configuration for State {
    async fn get(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Answer<GetConfigurationResponse> {
        let mut yaml = self.configuration.lock().unwrap().0.clone();
        if request.into_inner().defaults {
            yaml.push_str("registries: []\n");
        }
        let revision = self.revision();
        answer(GetConfigurationResponse { yaml, revision })
    }

    async fn schema(&self, _: Request<SchemaRequest>) -> Answer<SchemaResponse> {
        answer(SchemaResponse {
            json: "{\"type\":\"object\"}\n".to_owned(),
        })
    }

    async fn validate(
        &self,
        request: Request<ValidateConfigurationRequest>,
    ) -> Answer<ValidateConfigurationResponse> {
        let parsed = keelson_config::NodeConfig::parse(request.into_inner().yaml, "configuration");
        answer(ValidateConfigurationResponse {
            valid: parsed.is_ok(),
            problem: parsed.map_or_else(|error| error.report(), |_| String::new()),
        })
    }

    async fn diff(
        &self,
        request: Request<DiffConfigurationRequest>,
    ) -> Answer<DiffConfigurationResponse> {
        let changes = self.changes(&request.into_inner().yaml);
        answer(DiffConfigurationResponse {
            reboot: !changes.is_empty(),
            changes,
            restarts: Vec::new(),
        })
    }

    async fn apply(
        &self,
        request: Request<ApplyConfigurationRequest>,
    ) -> Answer<ApplyConfigurationResponse> {
        let request = request.into_inner();
        let expected = request.expected_revision;
        if !expected.is_empty() && expected != self.revision() {
            return Err(Status::failed_precondition("it was changed since"));
        }
        let changes = self.changes(&request.yaml);
        let mut response = ApplyConfigurationResponse {
            changes,
            ..Default::default()
        };
        if request.dry_run {
            return answer(response);
        }
        let mut configuration = self.configuration.lock().unwrap();
        let before = std::mem::replace(&mut configuration.0, request.yaml);
        if request.try_ms > 0 {
            configuration.1 = Some(before);
            response.trial_until = TIME.to_owned();
        }
        self.did(format!("apply for {} ms", request.try_ms));
        answer(response)
    }

    async fn confirm(
        &self,
        _: Request<ConfirmConfigurationRequest>,
    ) -> Answer<ConfirmConfigurationResponse> {
        let before = self.configuration.lock().unwrap().1.take();
        match before {
            Some(_) => answer(ConfirmConfigurationResponse {}),
            None => Err(Status::failed_precondition("no configuration is on trial")),
        }
    }

    async fn revert(
        &self,
        _: Request<RevertConfigurationRequest>,
    ) -> Answer<RevertConfigurationResponse> {
        let mut configuration = self.configuration.lock().unwrap();
        match configuration.1.take() {
            Some(before) => {
                configuration.0 = before;
                answer(RevertConfigurationResponse {})
            }
            None => Err(Status::failed_precondition("no configuration is on trial")),
        }
    }
}

impl State {
    fn revision(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.configuration.lock().unwrap().0.hash(&mut hasher);
        format!("{:064x}", hasher.finish())
    }

    fn changes(&self, yaml: &str) -> Vec<Change> {
        if self.configuration.lock().unwrap().0 == yaml {
            return Vec::new();
        }
        vec![Change {
            path: "hostname".to_owned(),
            before: "node-1".to_owned(),
            after: "node-2".to_owned(),
            effect: "reboot".to_owned(),
        }]
    }
}

#[async_trait]
impl Certificates for State {
    async fn list(&self, _: Request<ListCertificatesRequest>) -> Answer<ListCertificatesResponse> {
        let certificate = Certificate {
            name: "apid/serving".to_owned(),
            not_after: "2020-01-01T00:00:00Z".to_owned(),
            ..Default::default()
        };
        answer(ListCertificatesResponse {
            certificates: vec![certificate],
        })
    }

    async fn issue(
        &self,
        request: Request<IssueCertificateRequest>,
    ) -> Answer<IssueCertificateResponse> {
        let request = request.into_inner();
        self.did(format!(
            "issue {} {} {}",
            request.person, request.role, request.lifetime_ms
        ));
        let role: Role = request
            .role
            .parse()
            .map_err(|_| Status::invalid_argument("no role"))?;
        answer(IssueCertificateResponse {
            certificate: self
                .authority
                .answer(&request.certificate_request, &request.person, role),
            authority: self.authority.pem.clone(),
        })
    }

    async fn revoke(
        &self,
        request: Request<RevokeCertificateRequest>,
    ) -> Answer<RevokeCertificateResponse> {
        self.did(format!("revoke {}", request.into_inner().fingerprint));
        answer(RevokeCertificateResponse {})
    }
}

#[async_trait]
impl Maintenance for State {
    async fn apply(
        &self,
        request: Request<MaintenanceApplyRequest>,
    ) -> Answer<MaintenanceApplyResponse> {
        let request = request.into_inner();
        if request.code != CODE {
            return Err(Status::permission_denied("the code is wrong"));
        }
        let person = Authority::requested_name(&request.certificate_request);
        self.did(format!("first configuration by {person}"));
        let requested = &request.certificate_request;
        answer(MaintenanceApplyResponse {
            certificate: self.authority.answer(requested, &person, Role::Admin),
            authority: self.authority.pem.clone(),
        })
    }
}

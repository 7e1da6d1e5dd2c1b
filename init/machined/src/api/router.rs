//! Picks the gRPC service a request is for.

use std::convert::Infallible;

use hyper::body::Incoming;
use keelson_api::METRICS_PATH;
use keelson_api::v1alpha1::certificates_server::{self, CertificatesServer};
use keelson_api::v1alpha1::configuration_server::{self, ConfigurationServer};
use keelson_api::v1alpha1::files_server::{self, FilesServer};
use keelson_api::v1alpha1::logs_server::{self, LogsServer};
use keelson_api::v1alpha1::maintenance_server::{self, MaintenanceServer};
use keelson_api::v1alpha1::resources_server::{self, ResourcesServer};
use keelson_api::v1alpha1::services_server::{self, ServicesServer};
use keelson_api::v1alpha1::system_server::{self, SystemServer};
use keelson_api::v1alpha1::upgrades_server::{self, UpgradesServer};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic_health::pb::health_server::{self, HealthServer};

use super::certificates::CertificatesApi;
use super::configuration::ConfigurationApi;
use super::files::FilesApi;
use super::logs::LogsApi;
use super::maintenance::MaintenanceApi;
use super::metrics::Metrics;
use super::resources::ResourcesApi;
use super::server::{Answer, Route};
use super::services::ServicesApi;
use super::system::SystemApi;
use super::upgrades::UpgradesApi;

/// All services.
#[derive(Clone)]
pub(crate) struct Router {
    pub(crate) certificates: CertificatesServer<CertificatesApi>,
    pub(crate) configuration: ConfigurationServer<ConfigurationApi>,
    pub(crate) files: FilesServer<FilesApi>,
    pub(crate) health: HealthServer<tonic_health::server::HealthService>,
    pub(crate) logs: LogsServer<LogsApi>,
    pub(crate) maintenance: MaintenanceServer<MaintenanceApi>,
    pub(crate) metrics: Metrics,
    pub(crate) resources: ResourcesServer<ResourcesApi>,
    pub(crate) services: ServicesServer<ServicesApi>,
    pub(crate) system: SystemServer<SystemApi>,
    pub(crate) upgrades: UpgradesServer<UpgradesApi>,
}

impl Route for Router {
    fn route(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() == METRICS_PATH {
            return self.metrics.answer(request.method());
        }
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            certificates_server::SERVICE_NAME => call(self.certificates.clone(), request),
            configuration_server::SERVICE_NAME => call(self.configuration.clone(), request),
            files_server::SERVICE_NAME => call(self.files.clone(), request),
            health_server::SERVICE_NAME => call(self.health.clone(), request),
            logs_server::SERVICE_NAME => call(self.logs.clone(), request),
            maintenance_server::SERVICE_NAME => call(self.maintenance.clone(), request),
            resources_server::SERVICE_NAME => call(self.resources.clone(), request),
            services_server::SERVICE_NAME => call(self.services.clone(), request),
            system_server::SERVICE_NAME => call(self.system.clone(), request),
            upgrades_server::SERVICE_NAME => call(self.upgrades.clone(), request),
            _ => Box::pin(async {
                Ok(Status::unimplemented("this node has no such call").into_http())
            }),
        }
    }
}

fn call<S>(mut service: S, request: Request<Incoming>) -> Answer
where
    S: Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        >,
{
    // Generated services are always ready.
    service.call(request)
}

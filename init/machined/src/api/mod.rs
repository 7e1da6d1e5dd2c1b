//! The node API: every call of `keelson-api`, served to apid over a unix socket.
//!
//! One file per gRPC service; [`server`] accepts, [`router`] picks the service, [`caller`] says
//! who calls, [`audit`] writes down what was changed. What is read from the kernel comes from
//! `keelson-observe`, what PID 1 knows from its control socket, all at the time of the call.

pub(crate) mod audit;
mod blocking;
mod build;
pub(crate) mod caller;
pub(crate) mod certificates;
pub(crate) mod configuration;
pub(crate) mod events;
mod files;
mod health;
mod kernel_log;
pub(crate) mod log_files;
mod logs;
pub(crate) mod maintenance;
mod metrics;
mod resources;
mod router;
pub(crate) mod server;
pub(crate) mod services;
mod support;
mod system;
pub(crate) mod timestamp;
mod upgrades;

use std::path::PathBuf;
use std::sync::Arc;

use keelson_api::v1alpha1::certificates_server::CertificatesServer;
use keelson_api::v1alpha1::configuration_server::ConfigurationServer;
use keelson_api::v1alpha1::files_server::FilesServer;
use keelson_api::v1alpha1::logs_server::LogsServer;
use keelson_api::v1alpha1::maintenance_server::MaintenanceServer;
use keelson_api::v1alpha1::resources_server::ResourcesServer;
use keelson_api::v1alpha1::services_server::ServicesServer;
use keelson_api::v1alpha1::system_server::SystemServer;
use keelson_api::v1alpha1::upgrades_server::UpgradesServer;

use keelson_control::{AsyncClient, chain};
use keelson_observe::Root;
use keelson_service::User;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tonic::Status;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use self::router::Router;
use self::server::ListenError;
use crate::daemon::Handle;
use crate::paths::Paths;
use crate::upgrade::Upgrades;

/// The API, ready to be served.
pub(crate) struct Api {
    listener: UnixListener,
    apid: Option<User>,
    router: Router,
}

impl Api {
    /// Opens the socket.
    pub(crate) fn listen(
        paths: &Paths,
        handle: Handle,
        upgrades: Upgrades,
        events: events::Hub,
        kubeconfig: watch::Receiver<Option<String>>,
    ) -> Result<Self, ListenError> {
        let apid = server::apid_account(paths.root());
        let listener = server::listen(&paths.api_socket(), apid)?;
        let audit = audit::Audit::new(&paths.logs(), events.clone());
        let node = Arc::new(Node {
            paths: paths.clone(),
            events,
            kubeconfig,
        });
        let certificates = certificates::CertificatesApi {
            handle: handle.clone(),
            audit: audit.clone(),
        };
        let configuration = configuration::ConfigurationApi {
            handle: handle.clone(),
            audit: audit.clone(),
        };
        // machined serves as long as it runs: the reporter's only service stays as it begins.
        let health = HealthService::from_health_reporter(HealthReporter::new());
        let router = Router {
            certificates: CertificatesServer::new(certificates.clone()),
            configuration: ConfigurationServer::new(configuration.clone()),
            files: FilesServer::new(files::FilesApi { node: node.clone() }),
            health: HealthServer::new(health),
            logs: LogsServer::new(logs::LogsApi { node: node.clone() }),
            maintenance: MaintenanceServer::new(maintenance::MaintenanceApi {
                handle,
                audit: audit.clone(),
            }),
            metrics: metrics::Metrics {
                node: node.clone(),
                certificates: certificates.clone(),
            },
            resources: ResourcesServer::new(resources::ResourcesApi { node: node.clone() }),
            services: ServicesServer::new(services::ServicesApi {
                node: node.clone(),
                audit: audit.clone(),
            }),
            system: SystemServer::new(system::SystemApi {
                node,
                audit: audit.clone(),
                certificates,
                configuration,
            }),
            upgrades: UpgradesServer::new(upgrades::UpgradesApi { upgrades, audit })
                .max_decoding_message_size(keelson_api::MAX_MESSAGE_BYTES),
        };
        Ok(Self {
            listener,
            apid,
            router,
        })
    }

    /// Serves it for ever.
    pub(crate) async fn serve(self) {
        server::serve(self.listener, self.apid, self.router).await;
    }
}

/// What the services of the API share.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) paths: Paths,
    pub(crate) events: events::Hub,
    pub(crate) kubeconfig: watch::Receiver<Option<String>>,
}

impl Node {
    /// The machine, for reading from its kernel.
    fn machine(&self) -> Root {
        Root::at(self.paths.root())
    }

    /// Where PID 1 writes the logs.
    fn logs(&self) -> PathBuf {
        self.paths.logs()
    }

    async fn control(&self) -> Result<AsyncClient, Status> {
        AsyncClient::connect_to(&self.paths.control_socket())
            .await
            .map_err(|error| Status::unavailable(chain(&error)))
    }

    async fn pid1_status(&self) -> Result<keelson_control::Status, Status> {
        self.control()
            .await?
            .status()
            .await
            .map_err(services::refused)
    }

    async fn service_names(&self) -> Result<Vec<String>, Status> {
        let status = self.pid1_status().await?;
        Ok(status
            .services
            .into_iter()
            .map(|service| service.name)
            .collect())
    }
}

fn unknown_service(name: &str, known: &[String]) -> Status {
    let short: String = name.chars().take(64).collect();
    Status::not_found(format!(
        "there is no service {short:?}; services: {}",
        known.join(", ")
    ))
}

//! The node in numbers, for Prometheus: `GET /metrics`.

use std::convert::Infallible;
use std::sync::Arc;

use keelson_api::v1alpha1::Phase;
use keelson_observe::metrics::{Snapshot, collect, render};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::CONTENT_TYPE;
use tonic::codegen::http::{HeaderValue, Method, Response, StatusCode};

use super::blocking::{blocking, internal};
use super::certificates::CertificatesApi;
use super::server::Answer;
use super::{Node, build, services};

/// The text format of Prometheus.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// Answers requests for the numbers.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) node: Arc<Node>,
    pub(crate) certificates: CertificatesApi,
}

impl Metrics {
    /// Answers one request.
    pub(super) fn answer(&self, method: &Method) -> Answer {
        let allowed = *method == Method::GET;
        let metrics = self.clone();
        Box::pin(async move {
            let (status, text) = if allowed {
                match metrics.text().await {
                    Ok(text) => (StatusCode::OK, text),
                    Err(status) => (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        format!("{}\n", status.message()),
                    ),
                }
            } else {
                (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned())
            };
            Ok::<_, Infallible>(response(status, text))
        })
    }

    async fn text(&self) -> Result<String, Status> {
        let pid1 = self.node.pid1_status().await?;
        let root = self.node.machine();
        let links = keelson_observe::links()
            .await
            .map_err(|error| internal(&error))?;
        let certificates = self.certificates.known().await?;
        blocking(move || {
            let version = build::version(&root).unwrap_or_default();
            let snapshot = Snapshot {
                version: version.version,
                build_id: version.build_id,
                uptime_ms: pid1.uptime_ms,
                services: pid1
                    .services
                    .iter()
                    .map(|service| services::summary(&root, service))
                    .collect(),
                cgroups: pid1
                    .services
                    .iter()
                    .filter_map(|service| {
                        let usage = services::usage(&root, &service.name)?;
                        Some((service.name.clone(), usage))
                    })
                    .collect(),
                pressure: keelson_observe::pressure(&root),
                memory: keelson_observe::memory(&root).ok(),
                disks: keelson_observe::disk_activity(&root).unwrap_or_default(),
                mounts: keelson_observe::mounts(&root).unwrap_or_default(),
                links,
                certificates,
                phases: pid1
                    .phases
                    .into_iter()
                    .map(|phase| Phase {
                        name: phase.name,
                        at_ms: phase.at_ms,
                    })
                    .collect(),
            };
            render(&collect(&snapshot))
        })
        .await
    }
}

fn response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, FORMAT);
    response
}

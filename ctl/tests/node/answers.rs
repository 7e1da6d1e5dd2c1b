//! What the node of the tests answers.

mod configuration;
mod machine;
pub(crate) mod upgrades;

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::stream::{Stream, StreamExt, iter, pending};
use keelson_api::v1alpha1::logs_server::Logs;
use keelson_api::v1alpha1::services_server::Services;
use keelson_api::v1alpha1::system_server::System;
#[allow(clippy::wildcard_imports, reason = "nearly all messages of the API")]
use keelson_api::v1alpha1::*;
use time::format_description::well_known::Rfc3339;
use tonic::{Request, Response, Status, async_trait};

use crate::fake::State;

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// These messages, and then nothing until the client goes, or the end.
fn answers<T: Send + 'static>(messages: Vec<T>, stays: bool) -> Answer<Answers<T>> {
    let messages = iter(messages.into_iter().map(Ok));
    answer(if stays {
        Box::pin(messages.chain(pending()))
    } else {
        Box::pin(messages)
    })
}

/// Whether a time is not before another one, which may be empty.
fn is_since(time: &str, since: &str) -> bool {
    let parse = |text| time::OffsetDateTime::parse(text, &Rfc3339);
    since.is_empty() || parse(time).unwrap() >= parse(since).unwrap()
}

/// The one-time code of every fake in maintenance.
pub(crate) const CODE: &str = "ABCD-1234";

/// A time of the last year, for what does not matter.
const TIME: &str = "2026-01-31T12:00:00.000Z";

#[async_trait]
impl System for State {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(VersionResponse {
            version: "0.1.0".to_owned(),
            build_id: "0123456789abcdef".repeat(4),
            architecture: "amd64".to_owned(),
            kernel: "6.18.1-keelson".to_owned(),
            components: vec![Component {
                name: "kubernetes".to_owned(),
                version: "1.37.1".to_owned(),
            }],
        })
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let on_trial = self.configuration.lock().unwrap().1.is_some();
        answer(StatusResponse {
            node_name: self.name.clone(),
            stage: "running".to_owned(),
            uptime_ms: u64::try_from(self.booted.lock().unwrap().elapsed().as_millis()).unwrap(),
            slot: "a".to_owned(),
            services_ready: 2,
            services_total: 3,
            services_not_ready: vec!["kube-proxy".to_owned()],
            memory_total_bytes: 1 << 30,
            memory_available_bytes: 1 << 29,
            trial_until: if on_trial {
                TIME.to_owned()
            } else {
                String::new()
            },
            ..Default::default()
        })
    }

    async fn boot_report(&self, _: Request<BootReportRequest>) -> Answer<BootReportResponse> {
        answer(BootReportResponse {
            ready_ms: 21_500,
            phases: vec![Phase {
                name: "stage 1".to_owned(),
                at_ms: 812,
            }],
        })
    }

    async fn health(&self, _: Request<HealthRequest>) -> Answer<HealthResponse> {
        let check = |name: &str, passed, reason: &str| Check {
            name: name.to_owned(),
            passed,
            reason: reason.to_owned(),
        };
        answer(HealthResponse {
            healthy: self.healthy,
            checks: vec![
                check("services", true, "all of them run"),
                check("datastore", self.healthy, "looked at its socket"),
            ],
        })
    }

    type EventsStream = Answers<Event>;

    async fn events(&self, request: Request<EventsRequest>) -> Answer<Answers<Event>> {
        let request = request.into_inner();
        self.did(format!("events {:?} {}", request.kinds, request.tail));
        let event = Event {
            sequence: 1,
            time: TIME.to_owned(),
            kind: "service".to_owned(),
            subject: "kubelet".to_owned(),
            message: "ready".to_owned(),
            ..Default::default()
        };
        let later = self.later_events.lock().unwrap();
        let all = [&[event][..], &later].concat();
        let since = all
            .into_iter()
            .filter(|e| is_since(&e.time, &request.since));
        answers(since.collect(), request.follow)
    }

    async fn reboot(&self, request: Request<RebootRequest>) -> Answer<RebootResponse> {
        self.did(format!("reboot {}", request.into_inner().reason));
        *self.booted.lock().unwrap() = Instant::now();
        answer(RebootResponse {})
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        self.did(format!("shutdown {}", request.into_inner().reason));
        answer(ShutdownResponse {})
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Answer<ResetResponse> {
        let request = request.into_inner();
        if request.node_name != self.name {
            return Err(Status::invalid_argument("this node has another name"));
        }
        self.did(format!("reset {}", request.partitions.join(",")));
        answer(ResetResponse {})
    }

    async fn kubeconfig(&self, _: Request<KubeconfigRequest>) -> Answer<KubeconfigResponse> {
        answer(KubeconfigResponse {
            kubeconfig: "apiVersion: v1\nkind: Config\n".to_owned(),
        })
    }

    type SupportBundleStream = Answers<SupportBundleResponse>;

    async fn support_bundle(
        &self,
        _: Request<SupportBundleRequest>,
    ) -> Answer<Answers<SupportBundleResponse>> {
        self.did("support".to_owned());
        let chunk = |byte| SupportBundleResponse {
            chunk: vec![byte; 100_000],
        };
        // A node with this name never ends its bundle.
        answers(vec![chunk(1), chunk(2)], self.name == "endless")
    }
}

#[async_trait]
impl Services for State {
    async fn list(&self, _: Request<ListServicesRequest>) -> Answer<ListServicesResponse> {
        let service = |name: &str, state: ServiceState| ServiceSummary {
            name: name.to_owned(),
            state: state.into(),
            since: TIME.to_owned(),
            pid: 512,
            memory_bytes: 3 << 20,
            ..Default::default()
        };
        answer(ListServicesResponse {
            services: vec![
                service("containerd", ServiceState::Ready),
                service("kubelet", ServiceState::CrashLoop),
            ],
        })
    }

    async fn describe(
        &self,
        request: Request<DescribeServiceRequest>,
    ) -> Answer<DescribeServiceResponse> {
        let name = request.into_inner().name;
        if name != "kubelet" {
            return Err(Status::not_found(format!("there is no service {name:?}")));
        }
        answer(DescribeServiceResponse {
            summary: Some(ServiceSummary {
                name,
                state: ServiceState::Ready.into(),
                restarts: 1,
                ..Default::default()
            }),
            exits: vec![ServiceExit {
                time: TIME.to_owned(),
                how: "signal 9 (SIGKILL)".to_owned(),
                reason: "3 liveness checks in a row failed".to_owned(),
                ran_ms: 192_000,
                last_lines: vec!["cannot go on".to_owned()],
            }],
            ..Default::default()
        })
    }

    async fn start(&self, request: Request<StartServiceRequest>) -> Answer<StartServiceResponse> {
        self.did(format!("start {}", request.into_inner().name));
        answer(StartServiceResponse {})
    }

    async fn stop(&self, request: Request<StopServiceRequest>) -> Answer<StopServiceResponse> {
        let name = request.into_inner().name;
        if name == "slow" {
            // Longer than any test waits.
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        self.did(format!("stop {name}"));
        answer(StopServiceResponse {})
    }

    async fn restart(
        &self,
        request: Request<RestartServiceRequest>,
    ) -> Answer<RestartServiceResponse> {
        let name = request.into_inner().name;
        if name == "none" {
            return Err(Status::not_found("there is no service \"none\""));
        }
        self.did(format!("restart {name}"));
        answer(RestartServiceResponse {})
    }
}

#[async_trait]
impl Logs for State {
    type ReadStream = Answers<LogLine>;

    async fn read(&self, request: Request<ReadLogsRequest>) -> Answer<Answers<LogLine>> {
        let request = request.into_inner();
        self.did(format!(
            "logs tail {} since {}",
            request.tail, request.since
        ));
        let line = |service: &String| LogLine {
            service: service.clone(),
            time: TIME.to_owned(),
            level: "error".to_owned(),
            text: "a line\u{1b}[2J".to_owned(),
        };
        let later = self.later_lines.lock().unwrap().clone();
        let later = later
            .into_iter()
            .filter(|l| request.services.contains(&l.service));
        let all = request.services.iter().map(line).chain(later);
        let since = all.filter(|line| is_since(&line.time, &request.since));
        // This one ends its stream, as a node does that goes down in order.
        let stays = request.follow && request.services != ["ending"];
        answers(since.collect(), stays)
    }

    type KernelStream = Answers<LogLine>;

    async fn kernel(&self, request: Request<KernelLogRequest>) -> Answer<Answers<LogLine>> {
        let line = LogLine {
            service: "kernel".to_owned(),
            // Computed anew for each call, by the clock of that moment.
            time: format!("2026-01-31T12:00:00.{:03}Z", self.cuts()),
            level: "info".to_owned(),
            text: "Linux version 6.18".to_owned(),
        };
        let later = self.later_lines.lock().unwrap().clone();
        let later = later.into_iter().filter(|line| line.service == "kernel");
        let all = [line].into_iter().chain(later);
        answers(all.collect(), request.into_inner().follow)
    }
}

//! A node of the test's own: TLS and HTTP/2 as a node has them, answers from `answers`.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_api::METRICS_PATH;
use keelson_api::access::{Role, decide};
use keelson_api::v1alpha1::certificates_server::{self, CertificatesServer};
use keelson_api::v1alpha1::configuration_server::{self, ConfigurationServer};
use keelson_api::v1alpha1::files_server::{self, FilesServer};
use keelson_api::v1alpha1::logs_server::{self, LogsServer};
use keelson_api::v1alpha1::maintenance_server::{self, MaintenanceServer};
use keelson_api::v1alpha1::resources_server::{self, ResourcesServer};
use keelson_api::v1alpha1::services_server::{self, ServicesServer};
use keelson_api::v1alpha1::system_server::{self, SystemServer};
use keelson_api::v1alpha1::upgrades_server::{self, UpgradesServer};
use keelson_api::v1alpha1::{Event, LogLine};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::answers::upgrades::FakeUpgrade;
use crate::pki::{Authority, Pair, certificate, key};

/// What the node is and what was asked of it; answers look at it.
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) authority: Arc<Authority>,
    /// Role of whoever calls.
    role: Role,
    pub(crate) healthy: bool,
    pub(crate) booted: Mutex<Instant>,
    /// Configuration in use, and the one before it while the first is on trial.
    pub(crate) configuration: Mutex<(String, Option<String>)>,
    /// What came after the lines and events that every node has.
    pub(crate) later_lines: Mutex<Vec<LogLine>>,
    pub(crate) later_events: Mutex<Vec<Event>>,
    pub(crate) upgrade: Mutex<FakeUpgrade>,
    connections: Mutex<usize>,
    calls: Mutex<Vec<String>>,
    is_down: AtomicBool,
    /// Calls that break their connection instead of being answered.
    broken_calls: AtomicUsize,
    /// How often all connections were cut.
    cuts: watch::Sender<u32>,
}

impl State {
    /// How often all connections were cut.
    pub(crate) fn cuts(&self) -> u32 {
        *self.cuts.borrow()
    }

    /// All connections break.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Notes that something was done.
    pub(crate) fn did(&self, what: String) {
        self.calls.lock().unwrap().push(what);
    }
}

/// A running node; it ends with this value.
pub(crate) struct FakeNode {
    pub(crate) endpoint: String,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a node differs from the usual one.
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) serving: Pair,
    /// Shown with the serving certificate.
    pub(crate) shown_authority: Option<String>,
    pub(crate) role: Role,
    pub(crate) healthy: bool,
}

impl Setup {
    pub(crate) fn new(authority: &Authority) -> Self {
        Self {
            name: "node-1",
            serving: authority.server(&["127.0.0.1"], time::Duration::days(1)),
            shown_authority: None,
            role: Role::Admin,
            healthy: true,
        }
    }
}

/// The configuration a fake begins with.
pub(crate) const CONFIGURATION: &str =
    "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\nhostname: node-1\n";

impl FakeNode {
    pub(crate) fn start(authority: &Arc<Authority>) -> Self {
        Self::with(authority, Setup::new(authority))
    }

    pub(crate) fn with(authority: &Arc<Authority>, setup: Setup) -> Self {
        let state = Arc::new(State {
            name: setup.name.to_owned(),
            authority: Arc::clone(authority),
            role: setup.role,
            healthy: setup.healthy,
            booted: Mutex::new(Instant::now() - UPTIME),
            configuration: Mutex::new((CONFIGURATION.to_owned(), None)),
            later_lines: Mutex::default(),
            later_events: Mutex::default(),
            upgrade: Mutex::default(),
            connections: Mutex::new(0),
            calls: Mutex::default(),
            is_down: AtomicBool::new(false),
            broken_calls: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
        });
        let tls = TlsAcceptor::from(Arc::new(tls(authority, setup)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, tls, served) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            endpoint,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What was done to it.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.calls.lock().unwrap().clone()
    }

    /// TCP connections so far.
    pub(crate) fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }

    /// The bundle it takes, and what becomes of it.
    pub(crate) fn upgrade(&self) -> MutexGuard<'_, FakeUpgrade> {
        self.state.upgrade.lock().unwrap()
    }

    pub(crate) fn configuration(&self) -> String {
        self.state.configuration.lock().unwrap().0.clone()
    }

    /// Nobody reaches it until it is up again. Its port stays taken: another test could get it.
    pub(crate) fn goes_down(&self) {
        self.state.is_down.store(true, Ordering::SeqCst);
        self.state.cut();
    }

    pub(crate) fn comes_up(&self) {
        self.state.is_down.store(false, Ordering::SeqCst);
    }

    /// So many calls break their connection instead of being answered.
    pub(crate) fn breaks(&self, calls: usize) {
        self.state.broken_calls.store(calls, Ordering::SeqCst);
    }

    /// A service or the kernel writes a line.
    pub(crate) fn logs(&self, service: &str, time: &str, text: &str) {
        self.state.later_lines.lock().unwrap().push(LogLine {
            service: service.to_owned(),
            time: time.to_owned(),
            level: "info".to_owned(),
            text: text.to_owned(),
        });
    }

    /// Something happens to a service.
    pub(crate) fn happens(&self, time: &str, subject: &str) {
        self.state.later_events.lock().unwrap().push(Event {
            // machined has just started.
            sequence: 1,
            time: time.to_owned(),
            kind: "service".to_owned(),
            subject: subject.to_owned(),
            ..Default::default()
        });
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the fake node panicked"
            );
        }
    }
}

/// How long a fake claims to be up.
const UPTIME: Duration = Duration::from_secs(192);

fn tls(authority: &Authority, setup: Setup) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&authority.pem)).unwrap();
    let people = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let people = match setup.role {
        Role::Maintenance => people.allow_unauthenticated(),
        _ => people,
    };
    let mut chain = vec![certificate(&setup.serving.certificate)];
    chain.extend(setup.shown_authority.iter().map(|pem| certificate(pem)));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_client_cert_verifier(people.build().unwrap())
        .with_single_cert(chain, key(&setup.serving.key))
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if state.is_down.load(Ordering::SeqCst) {
            continue;
        }
        *state.connections.lock().unwrap() += 1;
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&state)));
    }
}

/// Broken connections are the business of the client.
async fn serve(stream: TcpStream, tls: TlsAcceptor, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, std::convert::Infallible>(route(request, state).await) }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        _ = cuts.changed() => {}
    }
}

async fn route(request: Request<Incoming>, state: Arc<State>) -> Response<Body> {
    let broken = |left: usize| left.checked_sub(1);
    if (state.broken_calls)
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, broken)
        .is_ok()
    {
        state.cut();
        return pending().await;
    }
    if let Err(refusal) = decide(request.uri().path(), state.role) {
        return Status::permission_denied(refusal.to_string()).into_http();
    }
    if request.uri().path() == METRICS_PATH {
        // No gRPC call: text, as Prometheus gets it.
        let text = http_body_util::Full::new("keelson_restarts_total 1\n".into());
        return Response::new(Body::new(text));
    }
    macro_rules! services {
        ($($module:ident $server:ident),*) => {
            match request.uri().path().split('/').nth(1) {
                $(Some($module::SERVICE_NAME) => $server::from_arc(state).call(request).await,)*
                _ => return Status::unimplemented("").into_http(),
            }
        };
    }
    let answer = services!(
        certificates_server CertificatesServer,
        configuration_server ConfigurationServer,
        files_server FilesServer,
        logs_server LogsServer,
        maintenance_server MaintenanceServer,
        resources_server ResourcesServer,
        services_server ServicesServer,
        system_server SystemServer,
        upgrades_server UpgradesServer
    );
    answer.unwrap_or_else(|never| match never {})
}

//! Callers: good ones by hyper, which shows every header, and bad ones.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::{Code, Status};

use super::authority::Pair;
use super::machined::Frames;
use super::node::Node;

/// How a caller comes.
#[derive(Clone)]
pub struct Way {
    pub to: SocketAddr,
    pub from: [u8; 4],
    pub trust: CertificateDer<'static>,
    /// What the kernel takes before we do; its own choice if there is none.
    pub receive_buffer: Option<u32>,
    pub pair: Option<Pair>,
}

impl Way {
    pub fn to(node: &Node, pair: Option<&Pair>) -> Self {
        Self {
            to: node.address,
            from: [127, 0, 0, 1],
            trust: node.authority.certificate(),
            receive_buffer: None,
            pair: pair.cloned(),
        }
    }

    pub fn from(mut self, address: [u8; 4]) -> Self {
        self.from = address;
        self
    }

    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = self.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        socket.bind(SocketAddr::from((self.from, 0)))?;
        socket.connect(self.to).await
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trust.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(keelson_tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(vec![pair.certificate.clone()], pair.key.clone_key())
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// TLS as far as this side sees it: the server may still say no.
    pub async fn tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::from(self.to.ip());
        let connector = TlsConnector::from(self.config());
        connector.connect(name, self.tcp().await?).await
    }

    pub async fn connect(&self) -> io::Result<Client> {
        self.connect_with(2 << 20).await
    }

    /// A connection with an endless answer of which nothing is read, not even by the kernel in
    /// the end. It lives as long as what is returned.
    pub async fn stalled(&self, method: &str) -> io::Result<Stalled> {
        let (reader, writer) = tokio::io::split(self.tls().await?);
        let closed = Arc::new(AtomicBool::new(false));
        let valve = Valve {
            reader,
            closed: Arc::clone(&closed),
        };
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size((1 << 31) - 1)
            .initial_connection_window_size((1 << 31) - 1)
            .handshake::<_, Either>(TokioIo::new(tokio::io::join(valve, writer)))
            .await
            .map_err(io::Error::other)?;
        let task = tokio::spawn(connection);
        let response = sender.send_request(request(method, b"").map(Either::Full));
        let response = response.await.map_err(io::Error::other)?;
        closed.store(true, Ordering::Relaxed);
        Ok(Stalled {
            _sender: sender,
            _response: response,
            _task: Task(task),
        })
    }

    /// With a window for each response, and one for all together that never is in its way. The
    /// latter also is what bounds small frames that wait to be read.
    pub async fn connect_with(&self, window: u32) -> io::Result<Client> {
        let stream = self.tls().await?;
        let server = stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size((1 << 31) - 1)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let task = tokio::spawn(connection);
        Ok(Client {
            sender,
            server,
            task: Arc::new(Task(task)),
        })
    }
}

/// A connection that reads nothing any more.
pub struct Stalled {
    _sender: SendRequest<Either>,
    _response: Response<Incoming>,
    _task: Task,
}

/// Reads until it is closed; then it sleeps for ever.
struct Valve<R> {
    reader: R,
    closed: Arc<AtomicBool>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Valve<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.closed.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

struct Task(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection of a good caller.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Either>,
    pub server: CertificateDer<'static>,
    task: Arc<Task>,
}

/// All that came back from a call.
#[derive(Debug)]
pub struct Answer {
    pub code: Code,
    pub text: String,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub messages: Vec<Bytes>,
}

impl Client {
    /// One message there, everything back.
    pub async fn call(&self, method: &str, message: &[u8]) -> Result<Answer, hyper::Error> {
        self.send(request(method, message)).await
    }

    pub async fn code(&self, method: &str) -> Result<Code, hyper::Error> {
        Ok(self.call(method, b"").await?.code)
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let response = self.begin(request.map(Either::Full)).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = if parts.headers.contains_key("grpc-status") {
            &parts.headers
        } else {
            &trailers
        };
        let status = Status::from_header_map(status).unwrap_or(Status::unknown("no status"));
        Ok(Answer {
            code: status.code(),
            text: status.message().to_owned(),
            headers: parts.headers,
            trailers,
            messages: messages(body.to_bytes()),
        })
    }

    /// The response as it begins.
    pub async fn open(&self, method: &str) -> Result<Response<Incoming>, hyper::Error> {
        self.begin(request(method, b"").map(Either::Full)).await
    }

    /// The response to a request whose body comes through a channel.
    pub async fn feed(
        &self,
        method: &str,
        body: Frames,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.begin(request(method, b"").map(|_| Either::Frames(body)))
            .await
    }

    async fn begin(&self, request: Request<Either>) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.clone().send_request(request).await
    }

    pub fn is_closed(&self) -> bool {
        self.task.0.is_finished()
    }
}

/// For tonic's generated clients.
impl tower_service::Service<Request<tonic::body::Body>> for Client {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("https://node{path}").parse().unwrap();
        let client = self.clone();
        Box::pin(async move { client.begin(request.map(Either::Tonic)).await })
    }
}

pub fn request(method: &str, message: &[u8]) -> Request<Full<Bytes>> {
    Request::post(format!("https://node{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(message)))
        .unwrap()
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&[0][..]);
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// The next message of a stream; `None` at its end.
pub async fn next_message(body: &mut Incoming) -> Option<Bytes> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data()
            && !data.is_empty()
        {
            return Some(data);
        }
    }
    None
}

/// The status that ends a stream, whatever comes before.
pub async fn last_status(body: Incoming) -> Result<Code, hyper::Error> {
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Status::from_header_map(&trailers).map_or(Code::Unknown, |status| status.code()))
}

fn messages(mut bytes: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        bytes.advance(1);
        let length = usize::try_from(bytes.get_u32()).unwrap();
        messages.push(bytes.split_to(length));
    }
    messages
}

/// Request bodies of all our callers.
pub enum Either {
    Frames(Frames),
    Full(Full<Bytes>),
    Tonic(tonic::body::Body),
}

impl Body for Either {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let never = |error: Infallible| match error {};
        match self.get_mut() {
            Self::Frames(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(never))),
            Self::Full(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(never))),
            Self::Tonic(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Frames(body) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
            Self::Tonic(body) => body.is_end_stream(),
        }
    }
}

//! One GET request and the first line of its answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::deadline::{Deadlined, remaining};
use crate::target::Target;

/// The answer's beginning: status line, headers and, of a bad answer, the reason.
const MOST_BYTES: u64 = 8 * 1024;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("cannot find the host {host}")]
    Resolve { host: String, source: io::Error },
    #[error("cannot connect to {authority}")]
    Connect {
        authority: String,
        source: io::Error,
    },
    #[error("TLS with {authority} failed")]
    Tls {
        authority: String,
        source: rustls::Error,
    },
    #[error("no complete answer from {authority}")]
    Exchange {
        authority: String,
        source: io::Error,
    },
    #[error("{authority} does not speak HTTP")]
    NotHttp { authority: String },
    #[error("{authority} answers {code}{}{reason}", if .reason.is_empty() { "" } else { ": " })]
    Bad {
        authority: String,
        code: u16,
        reason: String,
    },
}

/// Asks once. `Ok` means a status from 200 to 299.
pub(crate) fn ask(
    target: &Target,
    tls: Option<&Arc<ClientConfig>>,
    deadline: Duration,
) -> Result<(), ProbeError> {
    let authority = target.authority();
    let stream = connect(target, Instant::now() + deadline)?;
    let exchange = |source| ProbeError::Exchange {
        authority: authority.clone(),
        source,
    };
    let answer = match tls {
        None => converse(stream, target),
        Some(config) => {
            let name =
                ServerName::try_from(target.host.clone()).map_err(|_| ProbeError::Resolve {
                    host: target.host.clone(),
                    source: io::ErrorKind::InvalidInput.into(),
                })?;
            let connection = ClientConnection::new(Arc::clone(config), name).map_err(|source| {
                ProbeError::Tls {
                    authority: authority.clone(),
                    source,
                }
            })?;
            converse(StreamOwned::new(connection, stream), target)
        }
    };
    judge(&answer.map_err(exchange)?, authority)
}

fn connect(target: &Target, end: Instant) -> Result<Deadlined<TcpStream>, ProbeError> {
    let host = || target.host.clone();
    let addresses = target.addresses().map_err(|source| ProbeError::Resolve {
        host: host(),
        source,
    })?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&address, remaining(end)) {
            Ok(stream) => return Ok(Deadlined { stream, end }),
            Err(error) => last = error,
        }
    }
    Err(ProbeError::Connect {
        authority: target.authority(),
        source: last,
    })
}

fn converse(mut stream: impl Read + Write, target: &Target) -> io::Result<Vec<u8>> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: keelson-probe\r\nConnection: close\r\n\r\n",
        target.path,
        target.authority()
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(MOST_BYTES).read_to_end(&mut answer) {
        // Servers that close without TLS's goodbye have said all they had to say.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof || answer.is_empty() => {
            Err(error)
        }
        _ => Ok(answer),
    }
}

pub(crate) fn judge(answer: &[u8], authority: String) -> Result<(), ProbeError> {
    match status(answer) {
        Some(200..=299) => Ok(()),
        Some(code) => Err(ProbeError::Bad {
            authority,
            code,
            reason: reason(answer),
        }),
        None => Err(ProbeError::NotHttp { authority }),
    }
}

/// The number in `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5)?;
    (rest[1] == b' ' && digits.iter().all(u8::is_ascii_digit))
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}

/// The first line of the body that says something, printable.
fn reason(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let body = text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body)
        .unwrap_or_default();
    let line = body
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use proptest::prelude::*;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// Answers one connection with `answer` and returns what was asked.
    fn serve(answer: &'static [u8]) -> (Target, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target::parse(&format!("http://127.0.0.1:{port}/healthz")).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 1024];
            let length = stream.read(&mut question).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8(question[..length].to_vec()).unwrap()
        });
        (target, server)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_good_answer_is_good() {
        let (target, server) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        ask(&target, None, SECOND).unwrap();
        let question = server.join().unwrap();
        assert!(
            question.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"),
            "{question}"
        );
    }

    #[test]
    fn a_bad_answer_is_told() {
        let (target, _) = serve(b"HTTP/1.1 500 Internal Server Error\r\n\r\n[-]etcd failed\nmore");
        let error = ask(&target, None, SECOND).unwrap_err().to_string();
        assert!(error.ends_with("answers 500: [-]etcd failed"), "{error}");
        let (target, _) = serve(b"SSH-2.0-x\r\n");
        assert!(matches!(
            ask(&target, None, SECOND),
            Err(ProbeError::NotHttp { .. })
        ));
    }

    #[test]
    fn a_silent_server_ends_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        let start = Instant::now();
        let error = ask(&target, None, Duration::from_millis(300)).unwrap_err();
        assert!(
            matches!(error, ProbeError::Exchange { ref source, .. } if source.kind() == io::ErrorKind::TimedOut),
            "{error:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(listener);
        assert!(matches!(
            ask(&target, None, SECOND),
            Err(ProbeError::Connect { .. })
        ));
    }

    #[test]
    fn tls_trusts_the_given_ca_only() {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        for (trusted, good) in [(&own, true), (&other, false)] {
            let ca = folder.path().join("ca.crt");
            std::fs::write(&ca, trusted.cert.pem()).unwrap();
            let client = Arc::new(keelson_tls::client_config(&ca, None).unwrap());
            let server = ServerConfig::builder_with_provider(keelson_tls::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![own.cert.der().clone()],
                    rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der())
                        .unwrap(),
                )
                .unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let thread = thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let mut stream =
                    StreamOwned::new(ServerConnection::new(Arc::new(server)).unwrap(), stream);
                let mut question = [0; 1024];
                if stream.read(&mut question).is_ok() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok");
                }
            });
            let target = Target::parse(&format!("https://127.0.0.1:{port}/readyz")).unwrap();
            let result = ask(&target, Some(&client), SECOND);
            assert_eq!(result.is_ok(), good, "{result:?}");
            thread.join().unwrap();
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_judged(answer: Vec<u8>) {
            let _ = judge(&answer, String::new());
            let mut with_prefix = b"HTTP/1.".to_vec();
            with_prefix.extend(answer);
            let _ = judge(&with_prefix, String::new());
        }
    }
}

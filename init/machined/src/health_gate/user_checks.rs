//! Asks what the configuration names: an HTTP server for a good status, a TCP port for a
//! connection.

use std::io;
use std::time::Duration;

use keelson_config::{CheckKind, CheckUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one answer, name service included. What takes longer is not well.
const DEADLINE: Duration = Duration::from_secs(5);

/// `HTTP/1.1 200`.
const STATUS: usize = 12;

/// What is wrong; nothing when it answers.
pub(crate) async fn ask(check: &CheckUrl) -> Result<(), String> {
    let asked = async {
        let mut stream = TcpStream::connect(check.host_and_port()).await?;
        match check.kind() {
            CheckKind::Tcp => Ok(None),
            CheckKind::Http => status(&mut stream, check).await.map(Some),
        }
    };
    match timeout(DEADLINE, asked).await {
        Ok(Ok(None | Some(200..=299))) => Ok(()),
        Ok(Ok(Some(status))) => Err(format!("{check} answers {status}")),
        Ok(Err(error)) => Err(format!("{check}: {error}")),
        Err(_) => Err(format!(
            "{check} does not answer in {} s",
            DEADLINE.as_secs()
        )),
    }
}

async fn status(stream: &mut TcpStream, check: &CheckUrl) -> io::Result<u16> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: keelson\r\nConnection: close\r\n\r\n",
        check.path(),
        check.authority()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; STATUS];
    stream.read_exact(&mut line).await?;
    std::str::from_utf8(&line)
        .ok()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.get(9..)?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives this answer to everyone.
    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                assert!(
                    request.is_empty() || request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127")
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    async fn asked(url: String) -> Result<(), String> {
        ask(&url.parse().unwrap()).await
    }

    #[tokio::test]
    async fn a_good_status_and_an_open_port_are_enough() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("HTTP/1.0 204 No Content\r\n\r\n", None),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
                Some("answers 503"),
            ),
            ("HTTP/1.1 301 Moved\r\n\r\n", Some("answers 301")),
            ("SSH-2.0-OpenSSH_9\r\n", Some("not HTTP")),
            ("", Some("early eof")),
        ] {
            let address = server(answer).await;
            let result = asked(format!("http://{address}/healthz")).await;
            match expected {
                None => assert_eq!(result, Ok(()), "{answer}"),
                Some(part) => assert!(result.unwrap_err().contains(part), "{answer}"),
            }
        }
        let address = server("").await;
        assert_eq!(asked(format!("tcp://{address}")).await, Ok(()));
    }

    #[tokio::test]
    async fn what_does_not_listen_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = asked(format!("tcp://{address}")).await.unwrap_err();
        assert!(error.starts_with(&format!("tcp://{address}: ")), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = asked(format!("http://{address}/")).await.unwrap_err();
        assert!(error.contains("does not answer in 5 s"), "{error}");
    }
}

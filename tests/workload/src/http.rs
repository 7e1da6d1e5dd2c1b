//! Just enough HTTP/1.1 to be a web server and to ask one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

/// For one connection; the other end is in the same machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Answers for ever.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("serving on port {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = answer(&stream) {
                println!("lost a client: {error}");
            }
        });
    }
    Ok(())
}

fn answer(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    // The headers end with an empty line; nothing in them matters here.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    println!("{request}");
    let (status, body) = page(path);
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn page(path: &str) -> (&'static str, String) {
    match path {
        "/" => ("200 OK", "hello from keelson-workload\n".to_owned()),
        "/hostname" => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            ("200 OK", name)
        }
        _ => match path.strip_prefix("/echo/") {
            Some(text) => ("200 OK", format!("{text}\n")),
            None => ("404 Not Found", String::new()),
        },
    }
}

/// The body of an answer with status 200.
pub(crate) fn fetch(url: &str) -> io::Result<Vec<u8>> {
    let (host, path) = split(url).ok_or_else(|| io::Error::other("not an http:// URL"))?;
    let with_port = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut last = io::Error::other("the name has no address");
    for address in with_port.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => return ask(&stream, host, path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(mut stream: &TcpStream, host: &str, path: &str) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = answer
        .split(|byte| *byte == b' ')
        .nth(1)
        .unwrap_or_default();
    if status != b"200" {
        let status = String::from_utf8_lossy(status);
        return Err(io::Error::other(format!("the answer has status {status}")));
    }
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(answer.split_off(end + 4))
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    match rest.find('/') {
        Some(slash) => Some((&rest[..slash], &rest[slash..])),
        None => Some((rest, "/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        assert_eq!(
            split("http://web.default:8080/a/b"),
            Some(("web.default:8080", "/a/b"))
        );
        assert_eq!(split("http://web"), Some(("web", "/")));
        assert_eq!(split("https://web/"), None);
    }

    #[test]
    fn a_page_travels() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            for _ in 0..2 {
                answer(&listener.accept().unwrap().0).unwrap();
            }
        });
        let body = fetch(&format!("http://localhost:{port}/echo/one")).unwrap();
        assert_eq!(body, b"one\n");
        assert!(fetch(&format!("http://localhost:{port}/nothing")).is_err());
        server.join().unwrap();
    }
}

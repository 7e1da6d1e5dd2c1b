//! A registry for one image, on a unix socket: the part of the OCI distribution protocol that
//! containerd uses to pull.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

/// How long a client that was refused may go on talking.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Serves until the process ends.
#[derive(Debug)]
pub(crate) struct Registry {
    requests: Arc<Mutex<Vec<String>>>,
}

/// What the archive holds.
#[derive(Debug)]
struct Content {
    blobs: BTreeMap<String, Vec<u8>>,
    manifest: String,
    media_type: String,
}

impl Registry {
    /// Serves the image of an OCI archive.
    pub(crate) fn serve(archive: &Path, socket: &Path) -> anyhow::Result<Self> {
        let content = Content::read(archive)
            .with_context(|| format!("cannot read the archive {}", archive.display()))?;
        // A socket that an earlier suite left.
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that goes away is its own affair: it asks again.
                let _ = content.answer(&stream, &log);
            }
        });
        Ok(Self { requests })
    }

    /// Request lines so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Content {
    fn read(archive: &Path) -> anyhow::Result<Self> {
        let mut blobs = BTreeMap::new();
        let mut index = None;
        for entry in tar::Archive::new(File::open(archive)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if path == "index.json" {
                index = Some(serde_json::from_slice::<Value>(&bytes)?);
            } else if let Some(hash) = path.strip_prefix("blobs/sha256/") {
                blobs.insert(format!("sha256:{hash}"), bytes);
            }
        }
        let index = index.context("no index.json")?;
        let first = &index["manifests"][0];
        let text = |key: &str| {
            first[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("no {key} in index"))
        };
        Ok(Self {
            blobs,
            manifest: text("digest")?,
            media_type: text("mediaType")?,
        })
    }

    fn answer(&self, stream: &UnixStream, log: &Mutex<Vec<String>>) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        // A client that tries TLS first learns from an answer in HTTP that this is none.
        if !reader
            .fill_buf()?
            .first()
            .is_some_and(u8::is_ascii_uppercase)
        {
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
            // Closed with something unread, the connection would take the answer with it.
            stream.shutdown(Shutdown::Write)?;
            stream.set_read_timeout(Some(LAST_WORDS))?;
            return io::copy(&mut stream, &mut io::sink()).map(drop);
        }
        let mut lines = reader.lines();
        let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request.clone());
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = target.split('?').next().unwrap_or(target);
        let mut stream = stream;
        match self.find(path) {
            Some((kind, digest, bytes)) => {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    bytes.len()
                )?;
                if method == "GET" {
                    stream.write_all(bytes)?;
                }
                Ok(())
            }
            None => write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
        }
    }

    /// Media type, digest and bytes of what a path names. Whatever the repository and the tag are
    /// called, there is one image.
    fn find(&self, path: &str) -> Option<(&str, &str, &[u8])> {
        if path == "/v2/" {
            return Some(("application/json", "", b"{}"));
        }
        let mut parts = path.rsplit('/');
        let (name, kind) = (parts.next()?, parts.next()?);
        let wanted = if name.starts_with("sha256:") {
            name
        } else {
            &self.manifest
        };
        let (digest, bytes) = self.blobs.get_key_value(wanted)?;
        let media_type = match kind {
            "manifests" if *digest == self.manifest => self.media_type.as_str(),
            "blobs" => "application/octet-stream",
            _ => return None,
        };
        Some((media_type, digest, bytes))
    }
}

#[cfg(test)]
mod tests {
    use keelson_images::oci::{Entry, Image, Platform};

    use super::*;

    fn ask(socket: &Path, request: &str) -> String {
        let mut stream = UnixStream::connect(socket).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn an_image_can_be_pulled() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        let socket = folder.path().join("s");
        let image = Image::new("test.keelson.dev/thing:1", Platform::amd64());
        let written = image
            .write(vec![Entry::bytes("/a", 0o644, "content")], &archive)
            .unwrap();
        let registry = Registry::serve(&archive, &socket).unwrap();
        let head = ask(&socket, "HEAD /v2/thing/manifests/1?ns=test.keelson.dev");
        assert!(
            head.contains(&format!("sha256:{}", written.manifest)),
            "{head}"
        );
        let manifest = ask(
            &socket,
            &format!("GET /v2/thing/manifests/sha256:{}", written.manifest),
        );
        let body = manifest.split("\r\n\r\n").nth(1).unwrap();
        let manifest: Value = serde_json::from_str(body).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert!(ask(&socket, &format!("GET /v2/thing/blobs/{layer}")).contains("content"));
        assert!(ask(&socket, "GET /v2/thing/blobs/sha256:00").starts_with("HTTP/1.1 404"));
        assert_eq!(registry.requests().len(), 4);
        assert!(ask(&socket, "\x16\x03\x01").starts_with("HTTP/1.1 400"));
    }
}

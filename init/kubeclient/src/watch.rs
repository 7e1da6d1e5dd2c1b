//! A stream of changes: one GET that stays open, one JSON object a line.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::connection::connect;
use crate::error::RequestError;
use crate::request::{Client, collect, refusal, request};

/// The server ends a watch after this time, so that a dead one is noticed.
const SERVER_TIMEOUT: Duration = Duration::from_secs(290);
/// Bookmarks come about once a minute; silence for longer than the server's own limit means
/// that the connection is dead.
const SILENCE: Duration = Duration::from_secs(320);
/// The first byte of the answer: the server's caches may still be filling.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// One event holds one object, and no object in etcd is larger than 1.5 MiB.
const LONGEST_LINE: usize = 4 * 1024 * 1024;

/// One change.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The object as it is now, or a Status for `ERROR`.
    pub object: Value,
}

/// An open watch.
#[derive(Debug)]
pub struct Watch {
    what: String,
    body: Incoming,
    lines: LineBuffer,
}

impl Client {
    /// Starts watching the collection at `path` from the version that a list gave.
    pub async fn watch(
        &self,
        path: &str,
        field_selector: Option<&str>,
        resource_version: &str,
    ) -> Result<Watch, RequestError> {
        let seconds = SERVER_TIMEOUT.as_secs();
        let mut path = format!(
            "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={resource_version}"
        );
        if let Some(selector) = field_selector {
            path.push_str("&fieldSelector=");
            path.push_str(selector);
        }
        let what = format!("GET {path}");
        let request = request(&self.server, Method::GET, &path, None)?;
        let mut sender = connect(&self.server, &self.tls).await?;
        let response = timeout(ANSWER_DEADLINE, sender.send_request(request))
            .await
            .map_err(|_| RequestError::Deadline {
                what: what.clone(),
                deadline: ANSWER_DEADLINE,
            })?
            .map_err(|source| RequestError::Http {
                what: what.clone(),
                source,
            })?;
        let status = response.status();
        let body = response.into_body();
        if !status.is_success() {
            return Err(refusal(&what, status, &collect(&what, body).await?));
        }
        Ok(Watch {
            what,
            body,
            lines: LineBuffer::default(),
        })
    }
}

impl Watch {
    /// The next change; `None` when the server ended the watch: list and watch again.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, RequestError> {
        loop {
            if let Some(line) = self.lines.line() {
                return serde_json::from_slice(&line).map(Some).map_err(|source| {
                    RequestError::Decode {
                        what: self.what.clone(),
                        source,
                    }
                });
            }
            let frame =
                timeout(SILENCE, self.body.frame())
                    .await
                    .map_err(|_| RequestError::Deadline {
                        what: self.what.clone(),
                        deadline: SILENCE,
                    })?;
            match frame {
                None => return Ok(None),
                Some(Err(source)) => {
                    return Err(RequestError::Http {
                        what: self.what.clone(),
                        source,
                    });
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if !self.lines.push(&data) {
                        let what = self.what.clone();
                        return Err(RequestError::TooLarge {
                            what,
                            limit: LONGEST_LINE,
                        });
                    }
                }
            }
        }
    }
}

/// Cuts a byte stream into lines.
#[derive(Debug, Default)]
pub struct LineBuffer {
    complete: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
}

impl LineBuffer {
    /// Takes more bytes; `false` when a line grows beyond what an event can be.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            let line = std::mem::take(&mut self.partial);
            if !line.is_empty() {
                self.complete.push_back(line);
            }
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        self.partial.len() <= LONGEST_LINE
    }

    /// The oldest whole line.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        self.complete.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let mut lines = LineBuffer::default();
        let piece = vec![b'x'; LONGEST_LINE / 2];
        assert!(lines.push(&piece));
        assert!(lines.push(&piece));
        assert!(!lines.push(b"x"));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            text in proptest::collection::vec(proptest::sample::select(b"ab\n".to_vec()), 0..80),
            size in 1_usize..9,
        ) {
            let mut whole = LineBuffer::default();
            whole.push(&text);
            let mut pieces = LineBuffer::default();
            for piece in text.chunks(size) {
                pieces.push(piece);
            }
            let all = |mut lines: LineBuffer| std::iter::from_fn(move || lines.line()).collect::<Vec<_>>();
            prop_assert_eq!(all(whole), all(pieces));
        }
    }
}

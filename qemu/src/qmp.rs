//! Client of QEMU's control socket (QMP): one JSON object per line, replies matched by id.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

/// QEMU answers from its main loop, which a busy host can hold up for seconds, not for minutes.
pub const QMP_DEADLINE: Duration = Duration::from_secs(60);

/// Why a command had no result.
#[derive(Debug, Error)]
pub enum QmpError {
    /// QEMU closed the connection; it has ended, as a rule.
    #[error("QEMU closed its control socket before it answered `{command}`")]
    Closed {
        /// What was asked.
        command: String,
    },
    /// Nobody listens, or not QEMU.
    #[error("cannot connect to QEMU's control socket {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// QEMU says no.
    #[error("QEMU refused `{command}`: {reason}")]
    Refused {
        /// What was asked.
        command: String,
        /// QEMU's words.
        reason: String,
    },
    /// The command could not be sent.
    #[error("cannot send `{command}` to QEMU")]
    Send {
        /// What was asked.
        command: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("QEMU did not answer `{command}` within {} s", deadline.as_secs())]
    Timeout {
        /// What was asked.
        command: String,
        /// How long it had.
        deadline: Duration,
    },
}

/// Something QEMU reports by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QmpEvent {
    /// `SHUTDOWN`, `RESET`, `WATCHDOG`, …
    #[serde(rename = "event")]
    pub name: String,
    /// What belongs to it.
    #[serde(default)]
    pub data: Value,
}

/// One connection.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    replies: Receiver<Reply>,
    next_id: u64,
}

#[derive(Debug, Deserialize)]
struct Reply {
    id: u64,
    #[serde(default, rename = "return")]
    result: Option<Value>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    /// Connects and takes QEMU out of its negotiation mode. `on_event` runs on a thread of this
    /// connection for every event.
    pub fn connect(
        path: &Path,
        on_event: impl FnMut(QmpEvent) + Send + 'static,
    ) -> Result<Self, QmpError> {
        let connect = |source| QmpError::Connect {
            path: path.to_owned(),
            source,
        };
        let stream = UnixStream::connect(path).map_err(connect)?;
        stream
            .set_write_timeout(Some(QMP_DEADLINE))
            .map_err(connect)?;
        let reader = stream.try_clone().map_err(connect)?;
        let (sender, replies) = mpsc::channel();
        thread::spawn(move || read(reader, &sender, on_event));
        let mut qmp = Self {
            stream,
            replies,
            next_id: 0,
        };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs `command` and returns its result.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        self.next_id += 1;
        let id = self.next_id;
        let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        self.stream
            .write_all(line.as_bytes())
            .map_err(|source| QmpError::Send {
                command: command.to_owned(),
                source,
            })?;
        let end = Instant::now() + QMP_DEADLINE;
        loop {
            match self
                .replies
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                // The late answer to a command whose deadline passed.
                Ok(reply) if reply.id != id => {}
                Ok(Reply {
                    error: Some(refusal),
                    ..
                }) => {
                    return Err(QmpError::Refused {
                        command: command.to_owned(),
                        reason: refusal.desc,
                    });
                }
                Ok(reply) => return Ok(reply.result.unwrap_or(Value::Null)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(QmpError::Closed {
                        command: command.to_owned(),
                    });
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(QmpError::Timeout {
                        command: command.to_owned(),
                        deadline: QMP_DEADLINE,
                    });
                }
            }
        }
    }

    /// Runs a command of QEMU's human monitor and returns what it prints.
    pub fn human(&mut self, line: &str) -> Result<String, QmpError> {
        let printed = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }

    /// The other end, for its credentials.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

fn read(stream: UnixStream, replies: &Sender<Reply>, mut on_event: impl FnMut(QmpEvent)) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        // The greeting is neither event nor reply and says nothing we need.
        if let Ok(event) = serde_json::from_str(&line) {
            on_event(event);
        } else if let Ok(reply) = serde_json::from_str(&line)
            && replies.send(reply).is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A QEMU that answers every command by what `answer` makes of it.
    fn fake(answer: impl Fn(&Value) -> String + Send + 'static) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n")
                .unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines.map_while(Result::ok) {
                let request: Value = serde_json::from_str(&line).unwrap();
                stream.write_all(answer(&request).as_bytes()).unwrap();
            }
        });
        (folder, path)
    }

    #[test]
    fn replies_events_and_refusals() {
        let (_folder, path) = fake(|request| {
            let id = &request["id"];
            match request["execute"].as_str().unwrap() {
                "query-status" => format!(
                    "{{\"event\":\"RESET\",\"data\":{{\"guest\":true}}}}\n\
                     {{\"return\":{{\"status\":\"running\"}},\"id\":{id}}}\n"
                ),
                "stop" => format!(
                    "{{\"error\":{{\"class\":\"GenericError\",\"desc\":\"no\"}},\"id\":{id}}}\n"
                ),
                _ => format!("{{\"return\":{{}},\"id\":{id}}}\n"),
            }
        });
        let (sender, events) = mpsc::channel();
        let mut qmp = Qmp::connect(&path, move |event| sender.send(event).unwrap()).unwrap();
        let status = qmp.execute("query-status", &json!({})).unwrap();
        assert_eq!(status["status"], "running");
        assert_eq!(events.recv().unwrap().name, "RESET");
        let error = qmp.execute("stop", &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused `stop`: no");
    }

    #[test]
    fn an_end_in_the_middle_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || drop(listener.accept()));
        let error = Qmp::connect(&path, |_| ()).unwrap_err();
        assert!(
            matches!(error, QmpError::Closed { .. } | QmpError::Send { .. }),
            "{error}"
        );
        assert!(matches!(
            Qmp::connect(&folder.path().join("none"), |_| ()),
            Err(QmpError::Connect { .. })
        ));
    }
}

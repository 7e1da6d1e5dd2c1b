//! A PID 1 that answers netd and remembers what it was told.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use keelson_control::{Reply, Request, Status, decode, encode};

/// What it knows, shared with the thread that answers.
#[derive(Clone)]
pub(super) struct FakePid1 {
    status: Arc<Mutex<Status>>,
    messages: Arc<Mutex<Vec<String>>>,
}

impl FakePid1 {
    pub(super) fn listen(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let fake = Self {
            status: Arc::default(),
            messages: Arc::default(),
        };
        let theirs = fake.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut line = String::new();
                let mut reader = BufReader::new(&stream);
                while reader.read_line(&mut line).unwrap() > 0 {
                    let reply = theirs.answer(decode(line.as_bytes()).unwrap());
                    (&stream).write_all(&encode(&reply).unwrap()).unwrap();
                    line.clear();
                }
            }
        });
        fake
    }

    pub(super) fn status(&self) -> Status {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn holds(&self, condition: &str) -> bool {
        self.status()
            .conditions
            .iter()
            .any(|name| name == condition)
    }

    pub(super) fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }

    fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Set {
                facts,
                raise,
                clear,
            } => {
                assert!(clear.is_empty());
                let mut status = self.status.lock().unwrap();
                status.facts.extend(facts);
                status.conditions.extend(raise);
                Reply::Ok
            }
            Request::Message { text, .. } => {
                self.messages.lock().unwrap().push(text);
                Reply::Ok
            }
            other => panic!("netd has no business asking {other:?}"),
        }
    }
}

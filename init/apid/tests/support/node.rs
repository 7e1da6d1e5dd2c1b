//! apid with its files, in a thread of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;

use keelson_apid::{Paths, listen, serve};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::authority::{Authority, Pair};
use super::machined::FakeMachined;

/// A node without a machined.
pub struct Node {
    pub address: SocketAddr,
    pub authority: Authority,
    pub files: Files,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The files of a node.
pub struct Files {
    folder: TempDir,
}

impl Files {
    pub fn new(authority: &Authority, mode: &str) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.set_access(mode, &[]);
        files.replace("api-ca.crt", &authority.pem());
        files.replace("serving.pem", &authority.serving().pem);
        files
    }

    pub fn paths(&self) -> Paths {
        Paths {
            access: self.path("access.json"),
            authorities: self.path("api-ca.crt"),
            pair: self.path("serving.pem"),
            machined: self.path("api.sock"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn set_access(&self, mode: &str, revoked: &[&Pair]) {
        let revoked: Vec<String> = revoked
            .iter()
            .map(|pair| {
                use sha2::{Digest, Sha256};
                let digest = Sha256::digest(&pair.certificate);
                digest.iter().map(|byte| format!("{byte:02x}")).collect()
            })
            .collect();
        let text = serde_json::json!({"mode": mode, "revoked": revoked}).to_string();
        self.replace("access.json", &text);
    }

    /// Replaces a file as machined does.
    pub fn replace(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.path(name)).unwrap();
    }
}

impl Node {
    pub fn start() -> Self {
        Self::start_in("normal")
    }

    pub fn start_in(mode: &str) -> Self {
        let authority = Authority::new();
        let files = Files::new(&authority, mode);
        Self::start_with(authority, files)
    }

    pub fn start_with(authority: Authority, files: Files) -> Self {
        let paths = files.paths();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                serve(&paths, listener, stopped).await.unwrap();
            });
        });
        Self {
            address: is_ready.recv().unwrap(),
            authority,
            files,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn machined(&self) -> FakeMachined {
        FakeMachined::start(&self.files.path("api.sock"))
    }

    /// Tells it to end, as SIGTERM does.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until it has ended.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Not joined: clients that are dropped later would hold it up for its whole grace.
        self.stop();
    }
}

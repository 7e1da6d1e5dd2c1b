//! What comes as bytes: files of the node, the support bundle, kubeconfig.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keelson_api::v1alpha1::{KubeconfigRequest, ReadFileRequest, SupportBundleRequest};
use keelson_client::Endpoint;
use time::OffsetDateTime;

use super::Run;
use crate::arguments::Kubeconfig;
use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::fleet;
use crate::terminal::{note, print, print_bytes, printable};
use crate::units::{rfc3339, size};

pub(super) async fn cat(run: &Run, path: &str) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let endpoint = session.one("cat")?;
    let failed = |error: NodeFailure| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let request = ReadFileRequest {
        path: path.to_owned(),
    };
    let mut chunks = node
        .answers(t, node.files().read(request))
        .await
        .map_err(|error| failed(error.into()))?;
    let mut rest = Vec::new();
    while let Some(chunk) = chunks
        .next(Some(t))
        .await
        .map_err(|error| failed(error.into()))?
    {
        if !run.terminal.output {
            print_bytes(&chunk.chunk)?;
            continue;
        }
        // Whole lines, so that no character is cut in two.
        rest.extend_from_slice(&chunk.chunk);
        if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = rest.drain(..=end).collect();
            print(&printable(&String::from_utf8_lossy(&lines)))?;
        }
    }
    print(&printable(&String::from_utf8_lossy(&rest)))?;
    Ok(Exit::Ok)
}

pub(super) async fn metrics(run: &Run) -> Result<Exit, Failure> {
    let session = run.session()?;
    let endpoint = session.one("metrics")?;
    let t = session.timeout;
    let text = fleet::look(&session, endpoint, async |node| node.metrics(t).await).await?;
    print(&printable(&text))?;
    Ok(Exit::Ok)
}

pub(super) async fn kubeconfig(run: &Run, kubeconfig: &Kubeconfig) -> Result<Exit, Failure> {
    if let Some(path) = &kubeconfig.output
        && path.exists()
        && !kubeconfig.force
    {
        return Err(Failure::usage(format!(
            "{} exists already; --force replaces it",
            path.display()
        )));
    }
    let session = run.session()?;
    let t = session.timeout;
    let answer = fleet::look_any(&session, async |node| {
        let request = KubeconfigRequest {};
        node.call(t, node.system().kubeconfig(request)).await
    })
    .await?;
    match &kubeconfig.output {
        None => print(&answer.kubeconfig)?,
        Some(path) => {
            keelson_durable::replace(path, answer.kubeconfig.as_bytes(), SECRET)?;
            note(&format!(
                "{} is written; use it with KUBECONFIG",
                path.display()
            ));
        }
    }
    Ok(Exit::Ok)
}

/// Whoever has a kubeconfig has the cluster.
const SECRET: u32 = 0o600;

pub(super) async fn support(run: &Run, output: Option<PathBuf>) -> Result<Exit, Failure> {
    let session = run.session()?;
    let t = session.timeout;
    let endpoint = session.one("support")?;
    let path = output.unwrap_or_else(|| bundle_name(endpoint, OffsetDateTime::now_utc()));
    let failed = |error: NodeFailure| Failure::node(endpoint, error);
    let node = session.connect(endpoint).await.map_err(failed)?;
    let mut chunks = node
        .answers(t, node.system().support_bundle(SupportBundleRequest {}))
        .await
        .map_err(|error| failed(error.into()))?;
    // Beside its place, so that a half bundle never has the name of a whole one.
    let mut file = tempfile::NamedTempFile::new_in(folder_of(&path))
        .map_err(Failure::file("make a file beside", &path))?;
    let mut progress = Progress::new(run.terminal.questions);
    while let Some(chunk) = chunks
        .next(Some(t))
        .await
        .map_err(|error| failed(error.into()))?
    {
        file.write_all(&chunk.chunk)
            .map_err(Failure::file("write", &path))?;
        progress.add(chunk.chunk.len());
    }
    progress.end();
    file.as_file()
        .sync_all()
        .map_err(Failure::file("write", &path))?;
    file.persist(&path)
        .map_err(|error| Failure::file("write", &path)(error.error))?;
    note(&format!(
        "{} holds {} about {endpoint}; secrets are left out, names and addresses are not",
        path.display(),
        size(progress.bytes)
    ));
    Ok(Exit::Ok)
}

fn bundle_name(endpoint: &Endpoint, now: OffsetDateTime) -> PathBuf {
    let time = rfc3339(now.replace_nanosecond(0).unwrap_or(now)).replace(['-', ':'], "");
    let node = endpoint.to_string().replace([':', '[', ']'], "-");
    PathBuf::from(format!("support-{node}-{time}.tar.zst"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// How much has come, on one line of a terminal.
struct Progress {
    live: bool,
    bytes: u64,
    shown: Instant,
}

/// Often enough to see that it goes on.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

impl Progress {
    fn new(live: bool) -> Self {
        Self {
            live,
            bytes: 0,
            shown: Instant::now(),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.live && self.shown.elapsed() >= PROGRESS_INTERVAL {
            self.shown = Instant::now();
            let _ = write!(std::io::stderr(), "\r{} fetched\x1b[K", size(self.bytes));
        }
    }

    fn end(&self) {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_after_node_and_time() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        assert_eq!(
            bundle_name(&"[2001:db8::1]:5".parse().unwrap(), now),
            PathBuf::from("support--2001-db8--1--5-20010909T014640Z.tar.zst")
        );
    }
}

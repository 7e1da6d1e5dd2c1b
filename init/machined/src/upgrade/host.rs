//! What upgrades need of the node they run on.

use std::path::PathBuf;
use std::time::Duration;

use keelson_config::{CheckUrl, Datastore, NodeConfig, Upgrade};
use keelson_control::{AsyncClient, Level, ShutdownKind, chain};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::cluster::ApiServer;
use super::drain::{self, Cluster, Drained};
use crate::console;
use crate::health_gate::Sight;
use crate::health_gate::evidence::Evidence;
use crate::paths::Paths;

/// The node; tests have one of their own.
pub(crate) trait Host {
    /// The wall clock, which may jump.
    fn now(&self) -> OffsetDateTime;

    /// Since the kernel started.
    fn since_boot(&self) -> Duration;

    /// What the configuration says, or its defaults.
    fn settings(&self) -> Settings;

    /// Tells the person at the console; the log has it too.
    fn say(&self, level: Level, text: &str) -> impl Future<Output = ()>;

    /// Looks at what a version is judged by.
    fn look(&self, cluster: bool, checks: &[CheckUrl]) -> impl Future<Output = Sight>;

    /// Moves pods away. `cordoned` is called before the node is made unschedulable.
    fn drain(&self, timeout: Duration, cordoned: impl FnMut()) -> impl Future<Output = Drained>;

    /// Makes the node schedulable again.
    fn uncordon(&self) -> impl Future<Output = Result<(), String>>;

    /// Ends everything in order and starts again.
    fn reboot(&self, reason: &str) -> impl Future<Output = Result<(), String>>;
}

/// What upgrades need to know of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) upgrade: Upgrade,
    pub(crate) datastore: Datastore,
    /// Whether the node has a configuration, and so a cluster.
    pub(crate) configured: bool,
}

/// The node this program runs on.
#[derive(Debug)]
pub(crate) struct ThisNode {
    paths: Paths,
    evidence: Mutex<Evidence>,
}

impl ThisNode {
    pub(crate) fn new(paths: &Paths, boot_id: &str) -> Self {
        Self {
            paths: paths.clone(),
            evidence: Mutex::new(Evidence::new(paths, boot_id)),
        }
    }

    async fn control(&self) -> Result<AsyncClient, String> {
        AsyncClient::connect_to(&self.paths.control_socket())
            .await
            .map_err(|error| chain(&error))
    }

    async fn server(&self) -> Result<(ApiServer, String), String> {
        let status = self.control().await?.status().await;
        let name = status
            .map_err(|error| chain(&error))?
            .facts
            .get("node-name")
            .cloned()
            .unwrap_or_default();
        let server = ApiServer::new(&self.paths, &name).map_err(|error| chain(&error))?;
        Ok((server, name))
    }

    fn configuration(&self) -> Option<NodeConfig> {
        let path: PathBuf = self.paths.node_config();
        let text = std::fs::read(&path).ok()?;
        NodeConfig::parse(text, "node-config.yaml").ok()
    }
}

impl Host for ThisNode {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn since_boot(&self) -> Duration {
        keelson_sys::boot_clock::since_boot()
    }

    fn settings(&self) -> Settings {
        let config = self.configuration();
        Settings {
            upgrade: config
                .as_ref()
                .map(|config| config.upgrade.clone())
                .unwrap_or_default(),
            datastore: config
                .map(|config| config.cluster.datastore)
                .unwrap_or_default(),
            configured: self.paths.stored_config().exists(),
        }
    }

    async fn say(&self, level: Level, text: &str) {
        match self.control().await {
            Ok(mut control) => console::say(&mut control, level, text).await,
            Err(error) => tracing::warn!("{text} (not on the console: {error})"),
        }
    }

    async fn look(&self, cluster: bool, checks: &[CheckUrl]) -> Sight {
        self.evidence.lock().await.look(cluster, checks).await
    }

    async fn drain(&self, timeout: Duration, cordoned: impl FnMut()) -> Drained {
        match self.server().await {
            Ok((server, name)) => drain::drain(&server, &name, timeout, cordoned).await,
            Err(reason) => Drained::NoAnswer { reason },
        }
    }

    async fn uncordon(&self) -> Result<(), String> {
        let (server, _) = self.server().await?;
        server
            .set_schedulable(true)
            .await
            .map_err(|error| chain(&error))
    }

    async fn reboot(&self, reason: &str) -> Result<(), String> {
        self.control()
            .await?
            .shutdown(ShutdownKind::Reboot, reason)
            .await
            .map_err(|error| chain(&error))
    }
}

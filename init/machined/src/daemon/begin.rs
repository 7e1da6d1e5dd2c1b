//! Which configuration the node lives by: at the start, and when a better one turns up.

use keelson_config::{Hostname, NodeConfig};
use keelson_control::{AsyncClient, Level, chain};
use tokio::time::Instant;

use super::{Daemon, DaemonError, Document, MAINTENANCE_INTERVAL, Machine, Running, Stage};
use crate::configuration::trial::{Course, Ending, Trial, course};
use crate::configuration::{self, check};
use crate::console::say;
use crate::source::{Choice, choose};

impl<M: Machine> Daemon<'_, M> {
    /// Finds out where an earlier daemon of this boot, if there was one, had come to.
    pub(super) async fn begin(&mut self, control: &mut AsyncClient) -> Result<(), DaemonError> {
        let status = control.status().await?;
        self.facts = status.facts;
        // This boot has settled already; a file put on the firmware partition since is for the
        // next one.
        let candidates = if status.conditions.iter().any(|name| name == "config") {
            configuration::stored(&self.parts.paths)?
        } else {
            configuration::gather(&self.parts.paths, self.parts.firmware)?
        };
        self.adopt(control, choose(candidates)).await?;
        // The name this boot has begun with.
        if status.conditions.iter().any(|name| name == "config")
            && let Stage::Running(running) = &mut self.stage
            && let Some(Ok(name)) = self.facts.get("node-name").map(|name| name.parse())
        {
            running.host_name = name;
        }
        self.resume_trial(control).await;
        Ok(())
    }

    /// A node in maintenance reads the firmware partition again.
    pub(super) async fn look_for_configuration(
        &mut self,
        control: &mut AsyncClient,
    ) -> Result<(), DaemonError> {
        let found = configuration::gather(&self.parts.paths, self.parts.firmware)?;
        self.adopt(control, choose(found)).await
    }

    /// The node has a configuration: from here on it never goes back to maintenance.
    pub(super) fn settle_on(&mut self, document: Document) {
        let host_name = document
            .config
            .hostname
            .clone()
            .unwrap_or_else(|| Hostname::for_machine(&self.id));
        self.stage = Stage::Running(Box::new(Running {
            holding: document,
            trial: None,
            trial_ended: false,
            host_name,
        }));
        self.parts.inbox.gate.close();
    }

    /// A configuration with its defaults.
    pub(super) fn document(&self, text: String, config: NodeConfig) -> Document {
        Document {
            text,
            config: config.effective(&self.id),
        }
    }

    async fn adopt(
        &mut self,
        control: &mut AsyncClient,
        choice: Choice,
    ) -> Result<(), DaemonError> {
        let (config, text) = match choice {
            Choice::Maintenance(error) => {
                self.stage = Stage::Maintenance {
                    problem: error.map(|error| error.report()),
                    look_again: Instant::now() + MAINTENANCE_INTERVAL,
                };
                return Ok(());
            }
            Choice::Stored {
                config,
                refused,
                content,
            } => {
                if let Some(error) = refused {
                    let text = format!(
                        "configuration: the one in use stays, this one is refused: {}",
                        error.report()
                    );
                    say(control, Level::Error, &text).await;
                }
                (config, content)
            }
            Choice::Import { config, found } => {
                configuration::import(&self.parts.paths, &found)?;
                let text = "configuration: keelson.yaml from the firmware partition is in use";
                say(control, Level::Info, text).await;
                (config, found.content)
            }
        };
        // What was parsed is text.
        let text = String::from_utf8_lossy(&text).into_owned();
        let document = self.document(text, config);
        self.settle_on(document);
        Ok(())
    }

    /// A trial that an earlier daemon of this boot began goes on; no other boot can have left one.
    async fn resume_trial(&mut self, control: &mut AsyncClient) {
        let Stage::Running(running) = &mut self.stage else {
            return;
        };
        let path = self.parts.paths.trial();
        let found = match Trial::read(&path) {
            Ok(found) => found,
            Err(error) => {
                let text = format!(
                    "configuration: the one on STATE holds; what was on trial is lost: {}",
                    chain(&error)
                );
                say(control, Level::Error, &text).await;
                running.trial_ended = true;
                return;
            }
        };
        let now = self.parts.machine.since_boot();
        match course(found, Some(running.holding.text.as_bytes()), now) {
            Course::Absent => {}
            Course::Ends(Ending::Confirmed) => running.trial_ended = true,
            Course::Ends(Ending::Over) => {
                running.trial_ended = true;
                self.tell_trial_is_over(control).await;
            }
            Course::GoesOn(trial) => match check::read(trial.yaml.as_bytes(), "on trial") {
                Ok(config) => {
                    let document = Document {
                        text: trial.yaml.clone(),
                        config: config.effective(&self.id),
                    };
                    running.trial = Some((trial, document));
                }
                // It was read when the trial began, so only another image can see this.
                Err(error) => {
                    running.trial_ended = true;
                    say(control, Level::Error, &error.report()).await;
                }
            },
        }
    }
}

//! What the daemon does when it is asked.

use std::time::Duration;

use keelson_api::access::Role;
use keelson_api::v1alpha1::Certificate;
use keelson_config::NodeConfig;
use keelson_control::{AsyncClient, Level, chain};
use keelson_pki::{PersonName, PersonRequest};

use super::handle::{Admission, Applied, Mode, Plan, Request, RequestError, Shown};
use super::{Daemon, Document, HEAD_START, Machine, Stage};
use crate::certificates::inventory;
use crate::certificates::people::{People, Revocation};
use crate::configuration::change::{self, Present};
use crate::configuration::{self, check};
use crate::console::say;

/// What messages call a configuration that came through the API.
const SENT_NAME: &str = "keelson.yaml";

impl<M: Machine> Daemon<'_, M> {
    /// Answers; says whether there is something to be put in force. A caller who has gone does
    /// not matter.
    pub(super) async fn answer(&mut self, control: &mut AsyncClient, request: Request) -> bool {
        match request {
            Request::Apply {
                yaml,
                mode,
                expected,
                answer,
            } => {
                let result = self
                    .refuse_if_changed(expected.as_deref())
                    .and_then(|()| self.apply(&yaml, mode));
                let applied = result.is_ok() && mode != Mode::DryRun;
                let _ = answer.send(result);
                if applied {
                    let what = match mode {
                        Mode::Try(_) => "configuration: another one is on trial",
                        Mode::DryRun | Mode::Keep => "configuration: another one is in use",
                    };
                    self.announce(control, what).await;
                }
                applied
            }
            Request::Certificates { answer } => {
                let _ = answer.send(self.certificates());
                false
            }
            Request::Configuration { defaults, answer } => {
                let _ = answer.send(self.shown(defaults));
                false
            }
            Request::Confirm { answer } => {
                let result = self.confirm();
                let confirmed = result.is_ok();
                let _ = answer.send(result);
                if confirmed {
                    let what = "configuration: the one on trial was confirmed";
                    self.announce(control, what).await;
                }
                confirmed
            }
            Request::Diff { yaml, answer } => {
                let _ = answer.send(self.read(&yaml).and_then(|wanted| self.plan(&wanted)));
                false
            }
            Request::Feed {
                yaml,
                person,
                request,
                answer,
            } => {
                let result = self.feed(yaml, &person, &request);
                let fed = result.is_ok();
                let _ = answer.send(result);
                if fed {
                    let what = format!("configuration: {person} has given one, the node goes on");
                    self.announce(control, &what).await;
                }
                fed
            }
            Request::Issue {
                person,
                role,
                lifetime,
                request,
                answer,
            } => {
                let _ = answer.send(self.issue(&person, role, lifetime, &request));
                false
            }
            Request::Revert { answer } => {
                let result = self.revert();
                let reverted = result.is_ok();
                let _ = answer.send(result);
                if reverted {
                    let what = "configuration: the trial was ended, the one before it holds again";
                    self.announce(control, what).await;
                }
                reverted
            }
            Request::Revoke {
                fingerprint,
                answer,
            } => {
                let _ = answer.send(self.revoke(&fingerprint));
                false
            }
            Request::Validate { yaml, answer } => {
                let problem = match self.read(&yaml) {
                    Ok(wanted) => self.refusal(&wanted.config),
                    Err(error) => Some(error.to_string()),
                };
                let _ = answer.send(Ok(problem));
                false
            }
        }
    }

    /// Says what was done; then gives the answer its head start.
    async fn announce(&mut self, control: &mut AsyncClient, what: &str) {
        self.parts.events.publish("configuration", "node", what, []);
        say(control, Level::Info, what).await;
        tokio::time::sleep(HEAD_START).await;
    }

    fn apply(&mut self, yaml: &str, mode: Mode) -> Result<Applied, RequestError> {
        let wanted = self.read(yaml)?;
        let plan = self.plan(&wanted)?;
        if let Some(refusal) = self.refusal(&wanted.config) {
            return Err(RequestError::NotNow(refusal));
        }
        if mode != Mode::DryRun {
            self.refuse_during_trial()?;
        }
        match mode {
            Mode::DryRun => {}
            Mode::Keep => {
                configuration::keep(&self.parts.paths, yaml.as_bytes()).map_err(failed)?;
                match &mut self.stage {
                    Stage::Running(running) => running.holding = wanted,
                    Stage::Maintenance { .. } => self.settle_on(wanted),
                }
            }
            Mode::Try(lasts) => self.begin_trial(wanted, lasts, &plan)?,
        }
        Ok(Applied {
            plan,
            trial_until: self.trial_until().filter(|_| mode != Mode::DryRun),
        })
    }

    fn feed(
        &mut self,
        yaml: String,
        person: &PersonName,
        request: &PersonRequest,
    ) -> Result<Admission, RequestError> {
        if let Stage::Running(_) = self.stage {
            return Err(RequestError::NotNow(
                "this node has a configuration already; use `keelsonctl apply` with a certificate"
                    .to_owned(),
            ));
        }
        let wanted = self.read(&yaml)?;
        let admission = self.issue(person, Role::Admin, None, request)?;
        configuration::keep(&self.parts.paths, yaml.as_bytes()).map_err(failed)?;
        self.settle_on(wanted);
        Ok(admission)
    }

    fn issue(
        &mut self,
        person: &PersonName,
        role: Role,
        lifetime: Option<Duration>,
        request: &PersonRequest,
    ) -> Result<Admission, RequestError> {
        let api = self.api.as_ref().ok_or_else(|| {
            RequestError::NotNow("the node has not made its authority yet; try again".to_owned())
        })?;
        let now = self.parts.machine.now();
        // One that is too long for the type ends with the authority, as all that are too long.
        let lifetime =
            lifetime.map(|life| life.try_into().unwrap_or(time::Duration::days(365 * 100)));
        let issued = request
            .issue(person, &role.organization(), lifetime, &api.authority, now)
            .map_err(failed)?;
        let path = self.parts.paths.people();
        let mut people = People::read(&path).map_err(failed)?;
        people
            .add(person, role.as_str(), &issued, now)
            .map_err(failed)?;
        // Before it is handed out: what is not in the list cannot be revoked.
        people.write(&path).map_err(failed)?;
        Ok(Admission {
            certificate: issued.pem,
            authority: api.authority.certificate_pem().to_owned(),
        })
    }

    fn revoke(&mut self, fingerprint: &str) -> Result<(), RequestError> {
        let Stage::Running(running) = &self.stage else {
            return self.revoke_among(fingerprint, false);
        };
        let others = !running.in_use().config.api.client_authorities.is_empty();
        self.revoke_among(fingerprint, others)
    }

    fn revoke_among(&self, fingerprint: &str, others_sign: bool) -> Result<(), RequestError> {
        let paths = &self.parts.paths;
        let mut people = People::read(&paths.people()).map_err(failed)?;
        // The pair of the machine's runner is in no list, for it is made anew when it is gone.
        let own = self
            .api_inventory
            .iter()
            .any(|known| known.kind == "person" && known.fingerprint == fingerprint);
        match people.revoke(fingerprint, others_sign || own).map_err(failed)? {
            Revocation::Already => Ok(()),
            Revocation::Revoked => {
                people.write(&paths.people()).map_err(failed)?;
                let maintenance = matches!(self.stage, Stage::Maintenance { .. });
                crate::certificates::api::publish_access(paths, maintenance).map_err(failed)
            }
            Revocation::Unknown => Err(RequestError::NotFound(
                "this node has signed no certificate with this fingerprint; see `keelsonctl cert list`"
                    .to_owned(),
            )),
        }
    }

    fn certificates(&self) -> Result<Vec<Certificate>, RequestError> {
        let people = People::read(&self.parts.paths.people()).map_err(failed)?;
        let mut list = self.api_inventory.clone();
        list.extend(self.cluster_inventory.iter().cloned());
        list.extend(inventory::of_kubelet(&self.parts.paths.kubelet_store()));
        let revoked = people.revoked();
        for certificate in &mut list {
            certificate.revoked = revoked.contains(&certificate.fingerprint.as_str());
        }
        let known: Vec<_> = list.iter().map(|c| c.fingerprint.clone()).collect();
        let issuer = list
            .iter()
            .find(|certificate| certificate.name == "api-ca")
            .map_or_else(String::new, |authority| authority.subject.clone());
        list.extend(
            inventory::of_people(&people, &issuer)
                .into_iter()
                .filter(|person| !known.contains(&person.fingerprint)),
        );
        list.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        Ok(list)
    }

    /// Who changes a configuration must have seen it: what somebody else did meanwhile is not
    /// undone by accident.
    fn refuse_if_changed(&self, expected: Option<&str>) -> Result<(), RequestError> {
        let Some(expected) = expected else {
            return Ok(());
        };
        let revision = match &self.stage {
            Stage::Running(running) => running.in_use().revision(),
            Stage::Maintenance { .. } => "none, for the node was reset".to_owned(),
        };
        if revision == expected {
            return Ok(());
        }
        Err(RequestError::NotNow(format!(
            "the configuration was changed since you read it (its revision is {revision}); nothing was \
             done. Look at the present one with `keelsonctl config show`, and make your change there"
        )))
    }

    fn shown(&self, defaults: bool) -> Result<Shown, RequestError> {
        let Stage::Running(running) = &self.stage else {
            return Err(RequestError::NotNow(
                "this node has no usable configuration yet".to_owned(),
            ));
        };
        let document = running.in_use();
        let yaml = if defaults {
            let config = self.programs.with_default_limits(document.config.clone());
            config.to_yaml()
        } else {
            check::without_secrets(&document.text, &document.config)
        };
        Ok(Shown {
            yaml: yaml.map_err(failed)?,
            revision: document.revision(),
        })
    }

    /// Reads a configuration that was sent.
    fn read(&self, yaml: &str) -> Result<Document, RequestError> {
        let config = check::read(yaml.as_bytes(), SENT_NAME)
            .map_err(|error| RequestError::Invalid(error.report()))?;
        Ok(self.document(yaml.to_owned(), config))
    }

    fn plan(&self, wanted: &Document) -> Result<Plan, RequestError> {
        let (in_use, in_force) = match &self.stage {
            Stage::Running(running) => (running.in_use().config.clone(), running.in_force()),
            Stage::Maintenance { .. } => {
                // Nothing runs that a change could disturb.
                let default = NodeConfig::default_for(&self.id);
                let in_force = NodeConfig {
                    hostname: wanted.config.hostname.clone(),
                    ..default.clone()
                };
                (default, in_force)
            }
        };
        let present = Present {
            in_use: &in_use,
            in_force: &in_force,
            facts: &self.facts,
            programs: &self.programs,
            id: &self.id,
        };
        change::plan(present, &wanted.config).map_err(failed)
    }

    /// Why a configuration cannot be used on this node, though nothing is wrong with it.
    fn refusal(&self, wanted: &NodeConfig) -> Option<String> {
        match &self.stage {
            Stage::Running(running) => change::refusal(&running.in_use().config, wanted),
            Stage::Maintenance { .. } => None,
        }
    }
}

pub(super) fn failed(error: impl std::error::Error) -> RequestError {
    RequestError::Failed(chain(&error))
}

//! A configuration on trial: begun, kept, ended.

use std::time::Duration;

use keelson_control::{AsyncClient, Level};

use super::answer::failed;
use super::handle::{Plan, RequestError};
use super::{Daemon, DaemonError, Document, Machine, Stage};
use crate::api::timestamp;
use crate::configuration::trial::{LONGEST, SHORTEST, Trial, TrialError};
use crate::configuration::{self, change};
use crate::console::say;

impl<M: Machine> Daemon<'_, M> {
    /// The one on trial ends when its time is over.
    pub(super) async fn end_trial_in_time(&mut self, control: &mut AsyncClient) {
        let now = self.parts.machine.since_boot();
        if let Stage::Running(running) = &mut self.stage
            && let Some((trial, _)) = &running.trial
            && trial.left(now).is_zero()
        {
            running.trial = None;
            running.trial_ended = true;
            self.tell_trial_is_over(control).await;
        }
    }

    pub(super) async fn tell_trial_is_over(&mut self, control: &mut AsyncClient) {
        let what = "configuration: the one on trial was not confirmed in time, the one before it holds \
                    again";
        self.parts
            .events
            .publish("configuration", "trial", what, []);
        say(control, Level::Warn, what).await;
    }

    /// Once what holds is in force again, the trial's file has done its work.
    pub(super) fn forget_trial(&mut self) -> Result<(), DaemonError> {
        if let Stage::Running(running) = &mut self.stage
            && running.trial_ended
        {
            keelson_durable::remove(&self.parts.paths.trial()).map_err(TrialError::from)?;
            running.trial_ended = false;
        }
        Ok(())
    }

    pub(super) fn begin_trial(
        &mut self,
        wanted: Document,
        lasts: Duration,
        plan: &Plan,
    ) -> Result<(), RequestError> {
        let Stage::Running(running) = &mut self.stage else {
            return Err(RequestError::NotNow(
                "this node has no configuration to go back to; apply without --try".to_owned(),
            ));
        };
        if !(SHORTEST..=LONGEST).contains(&lasts) {
            return Err(RequestError::Invalid(format!(
                "a trial takes from {} s to {} h",
                SHORTEST.as_secs(),
                LONGEST.as_secs() / 3600
            )));
        }
        if plan.reboot {
            let keys = change::waiting_for_reboot(&running.in_force(), &wanted.config).join(", ");
            return Err(RequestError::NotNow(format!(
                "{keys} is in force only after a reboot, and a reboot ends a trial; apply without --try"
            )));
        }
        let trial = Trial::new(wanted.text.clone(), lasts, self.parts.machine.since_boot());
        trial.write(&self.parts.paths.trial()).map_err(failed)?;
        running.trial = Some((trial, wanted));
        running.trial_ended = false;
        Ok(())
    }

    pub(super) fn confirm(&mut self) -> Result<(), RequestError> {
        let Stage::Running(running) = &mut self.stage else {
            return Err(no_trial());
        };
        let Some((_, tried)) = &running.trial else {
            return Err(no_trial());
        };
        configuration::keep(&self.parts.paths, tried.text.as_bytes()).map_err(failed)?;
        running.holding = tried.clone();
        running.trial = None;
        running.trial_ended = true;
        Ok(())
    }

    pub(super) fn revert(&mut self) -> Result<(), RequestError> {
        match &mut self.stage {
            Stage::Running(running) if running.trial.is_some() => {
                running.trial = None;
                running.trial_ended = true;
                Ok(())
            }
            _ => Err(no_trial()),
        }
    }

    pub(super) fn refuse_during_trial(&self) -> Result<(), RequestError> {
        match self.trial_until() {
            None => Ok(()),
            Some(until) => Err(RequestError::NotNow(format!(
                "a configuration is on trial until {until}; keep it with `keelsonctl config confirm` or \
                 end the trial with `keelsonctl config revert` first"
            ))),
        }
    }

    /// When a trial ends, by the wall clock as it is now.
    pub(super) fn trial_until(&self) -> Option<String> {
        let Stage::Running(running) = &self.stage else {
            return None;
        };
        let (trial, _) = running.trial.as_ref()?;
        let left = trial.left(self.parts.machine.since_boot());
        Some(timestamp::text(self.parts.machine.now() + left))
    }
}

fn no_trial() -> RequestError {
    RequestError::NotNow("no configuration is on trial; it may have ended already".to_owned())
}

//! What people ask for: start, stop, restart.

use std::time::Duration;

use keelson_service::{Kind, Name};
use thiserror::Error;

use super::Supervisor;
use crate::CONFIG_CONDITION;
use crate::action::Reason;
use crate::service::{State, Then};

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderError {
    /// Its `only` facts differ.
    #[error("{service} is disabled on this node: it runs only where {wanted}, and here {found}")]
    Disabled {
        /// Service.
        service: String,
        /// Facts it needs.
        wanted: String,
        /// What they are.
        found: String,
    },
    /// A oneshot that ended well.
    #[error("{service} has done its work and ended; restart it to do the work again")]
    Done {
        /// Service.
        service: String,
    },
    /// The node could no longer be reached.
    #[error(
        "{service} cannot be stopped, because {because}: without it the node API ends; restart it instead"
    )]
    Essential {
        /// Service.
        service: String,
        /// Who needs it.
        because: String,
    },
    /// Too late.
    #[error("the machine is shutting down")]
    ShuttingDown,
    /// No service of that name exists.
    #[error("there is no service {service:?}")]
    Unknown {
        /// The name that was given.
        service: String,
    },
}

/// Start without waiting.
const AT_ONCE: Then = Then::Restart {
    delay: Duration::ZERO,
};

impl Supervisor {
    /// Starts a service that was stopped, or that waits to be tried again.
    pub fn start(&mut self, name: &str, now: Duration) -> Result<(), OrderError> {
        let name = self.orderable(name)?;
        self.refuse_disabled(&name)?;
        let Some(service) = self.services.get_mut(&name) else {
            return Ok(());
        };
        match &mut service.state {
            State::Exited { success: true } if service.definition.kind == Kind::Oneshot => {
                return Err(OrderError::Done {
                    service: name.to_string(),
                });
            }
            State::Backoff { .. } | State::Disabled | State::Exited { .. } | State::Stopped => {
                service.failures = 0;
                self.settle(&name, AT_ONCE, now);
            }
            State::Draining { then, .. } | State::Stopping { then, .. } => *then = AT_ONCE,
            State::Clearing { .. }
            | State::Ready { .. }
            | State::Starting { .. }
            | State::Waiting => {}
        }
        Ok(())
    }

    /// Stops a service until it is started again. Those that need it and run are left alone.
    pub fn stop(&mut self, name: &str, now: Duration) -> Result<(), OrderError> {
        let name = self.orderable(name)?;
        self.refuse_essential(&name)?;
        self.refuse_disabled(&name)?;
        let Some(service) = self.services.get_mut(&name) else {
            return Ok(());
        };
        match &mut service.state {
            State::Exited { success: true } if service.definition.kind == Kind::Oneshot => {
                return Err(OrderError::Done {
                    service: name.to_string(),
                });
            }
            State::Ready { .. } | State::Starting { .. } => {
                self.tell_to_end(&name, Reason::StopRequested, Then::Stop, now);
            }
            State::Backoff { .. } | State::Disabled | State::Exited { .. } | State::Waiting => {
                self.settle(&name, Then::Stop, now);
            }
            State::Draining { then, .. } | State::Stopping { then, .. } => *then = Then::Stop,
            State::Clearing { .. } | State::Stopped => {}
        }
        Ok(())
    }

    /// Stops a service and starts it again.
    pub fn restart(&mut self, name: &str, now: Duration) -> Result<(), OrderError> {
        let name = self.orderable(name)?;
        self.refuse_disabled(&name)?;
        let Some(service) = self.services.get_mut(&name) else {
            return Ok(());
        };
        match &mut service.state {
            State::Ready { .. } | State::Starting { .. } => {
                self.tell_to_end(&name, Reason::RestartRequested, AT_ONCE, now)
            }
            State::Backoff { .. } | State::Disabled | State::Exited { .. } | State::Stopped => {
                self.settle(&name, AT_ONCE, now)
            }
            State::Draining { then, .. } | State::Stopping { then, .. } => *then = AT_ONCE,
            State::Clearing { .. } | State::Waiting => {}
        }
        Ok(())
    }

    fn orderable(&self, name: &str) -> Result<Name, OrderError> {
        let Some((name, _)) = self.services.get_key_value(name) else {
            return Err(OrderError::Unknown {
                service: name.chars().take(80).collect(),
            });
        };
        if self.shutdown.is_some() {
            return Err(OrderError::ShuttingDown);
        }
        Ok(name.clone())
    }

    /// By the facts and not by the state: one that is stopped on request does not become disabled
    /// when they change.
    fn refuse_disabled(&self, name: &Name) -> Result<(), OrderError> {
        let Some(service) = self.services.get(name) else {
            return Ok(());
        };
        let decided =
            matches!(service.state, State::Disabled) || self.conditions.contains(CONFIG_CONDITION);
        let differs = service
            .definition
            .only
            .iter()
            .find(|(fact, value)| decided && self.facts.get(fact.as_str()) != Some(value));
        match differs {
            None => Ok(()),
            Some((fact, value)) => Err(OrderError::Disabled {
                service: name.to_string(),
                wanted: format!("{fact} is {value:?}"),
                found: match self.facts.get(fact.as_str()) {
                    Some(value) => format!("it is {value:?}"),
                    None => "it is not set".to_owned(),
                },
            }),
        }
    }

    fn refuse_essential(&self, name: &Name) -> Result<(), OrderError> {
        let essential = |name: &Name| {
            self.services
                .get(name)
                .is_some_and(|service| service.definition.essential)
        };
        let because = if essential(name) {
            "the node is managed through it".to_owned()
        } else if let Some(dependent) = self
            .dependents
            .get(name)
            .into_iter()
            .flatten()
            .find(|dependent| essential(dependent))
        {
            format!("{dependent} needs it")
        } else {
            return Ok(());
        };
        Err(OrderError::Essential {
            service: name.to_string(),
            because,
        })
    }
}

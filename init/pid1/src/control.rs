//! Answers requests on the control socket.

use std::collections::BTreeMap;
use std::error::Error;

use keelson_control::{Event, Reply, Request, ServiceState, Status, chain, decode, encode};
use keelson_supervisor::OrderError;
use keelson_sys::boot_clock::since_boot;

use crate::authorize::{Peer, authorize};
use crate::boot_report::millis;
use crate::node::{Node, Owner};

impl Node {
    /// Answers one line of a client.
    pub(crate) fn answer(&mut self, token: u64, line: &[u8]) {
        let mut subscribes = false;
        let reply = match decode::<Request>(line) {
            Err(error) => Reply::Error(format!("cannot understand the request: {error}")),
            Ok(request) => match self.permit(token, &request) {
                Ok(()) => {
                    subscribes = request == Request::Subscribe;
                    self.serve(request)
                }
                Err(reason) => Reply::Error(reason),
            },
        };
        if !self.clients.reply(token, &reply) {
            self.close_client(token);
        } else if subscribes {
            self.replay(token);
            self.clients.subscribe(token);
            self.adjust_interest(token);
        }
    }

    fn permit(&self, token: u64, request: &Request) -> Result<(), String> {
        let Some(id) = self.clients.peer(token) else {
            return Err("the connection is closed".to_owned());
        };
        let owner = id.pid.and_then(|pid| self.owners.get(&pid));
        let peer = match (id.uid, owner) {
            (0, _) => Peer::Root,
            (_, Some(Owner::Main(name))) => self.service_peer(name.as_str()),
            (_, Some(Owner::Probe(_)) | None) => Peer::Other,
        };
        authorize(peer, request)
    }

    fn service_peer(&self, name: &str) -> Peer<'_> {
        let Some(definition) = self.supervisor.definition(name) else {
            return Peer::Other;
        };
        let state = self.supervisor.status(name).map(|status| status.state);
        Peer::Service {
            definition,
            ending: state == Some(ServiceState::Stopping),
        }
    }

    fn serve(&mut self, request: Request) -> Reply {
        match request {
            Request::Set {
                facts,
                raise,
                clear,
            } => {
                self.supervisor.set(facts, &raise, &clear, since_boot());
            }
            Request::Phase { name } => self.stamp(name),
            Request::Status => return Reply::Status(Box::new(self.status())),
            // The events follow the reply.
            Request::Subscribe => {}
            Request::Shutdown { kind, reason } => self.shut_down(kind, &reason),
            Request::Describe { service } => {
                return match self.describe(&service) {
                    Some(detail) => Reply::Service(Box::new(detail)),
                    None => unknown(&service),
                };
            }
            Request::Limit { services } => return reply(self.limit(services)),
            Request::Restart { service, clear } => {
                return reply(self.restart(&service, &clear));
            }
            Request::Start { service } => {
                return reply(self.supervisor.start(&service, since_boot()));
            }
            Request::Stop { service } => {
                return reply(self.supervisor.stop(&service, since_boot()));
            }
            Request::Message { level, text } => self.say(level, &text),
            Request::Show { text } => self.console.show(&text),
        }
        Reply::Ok
    }

    /// The run that ends may raise nothing any more, and the next one has not begun: whatever is
    /// raised after this was raised by the next one.
    fn restart(&mut self, service: &str, clear: &[String]) -> Result<(), OrderError> {
        self.supervisor.restart(service, since_boot())?;
        self.supervisor
            .set(BTreeMap::new(), &[], clear, since_boot());
        Ok(())
    }

    fn status(&self) -> Status {
        let services = self
            .supervisor
            .names()
            .filter_map(|name| {
                let mut status = self.supervisor.status(name.as_str())?;
                if status.last_exit.is_some() {
                    status.last_lines = self.logs.last_lines(name.as_str());
                }
                Some(status)
            })
            .collect();
        Status {
            uptime_ms: millis(since_boot()),
            facts: self.supervisor.facts().clone(),
            conditions: self.supervisor.conditions().iter().cloned().collect(),
            phases: self.phases.clone(),
            services,
        }
    }

    /// Tells a new subscriber what already holds.
    fn replay(&mut self, token: u64) {
        let phases = self.phases.iter().cloned().map(Event::Phase);
        let conditions = self
            .supervisor
            .conditions()
            .iter()
            .map(|name| Event::Condition {
                name: name.clone(),
                raised: true,
            });
        let services = self
            .supervisor
            .names()
            .filter_map(|name| self.supervisor.status(name.as_str()))
            .map(Event::Service);
        let report = self.report.clone().map(Event::BootReport);
        let events: Vec<Event> = phases
            .chain(conditions)
            .chain(services)
            .chain(report)
            .collect();
        for event in events {
            let sent = encode(&event).is_ok_and(|line| self.clients.send(token, &line));
            if !sent {
                self.close_client(token);
                return;
            }
        }
    }
}

fn reply<E: Error>(result: Result<(), E>) -> Reply {
    match result {
        Ok(()) => Reply::Ok,
        Err(error) => Reply::Error(chain(&error)),
    }
}

fn unknown(service: &str) -> Reply {
    let error = OrderError::Unknown {
        service: service.chars().take(80).collect(),
    };
    Reply::Error(error.to_string())
}

//! Scenarios, and a simulated node under random events.

mod checking;
mod ending;
mod orders;
mod simulation;
mod starting;

use std::time::Duration;

use keelson_control::ServiceState;
use keelson_service::{Name, ServiceDefinition};

use crate::{Action, Exit, Reason, RunId, Supervisor};

pub(crate) fn definition(name: &str, extra: &str) -> ServiceDefinition {
    let text = format!("name: {name}\ndescription: test\ncommand: [/bin/{name}]\n{extra}\n");
    keelson_service::parse(&format!("{name}.yaml"), &text).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn supervisor(definitions: &[(&str, &str)]) -> Supervisor {
    Supervisor::new(
        definitions
            .iter()
            .map(|(name, extra)| definition(name, extra))
            .collect(),
        1,
    )
}

fn actions(supervisor: &mut Supervisor) -> Vec<Action> {
    std::iter::from_fn(|| supervisor.next_action()).collect()
}

/// Runs of the services that are to be started, in order.
fn started(supervisor: &mut Supervisor) -> Vec<(String, RunId)> {
    actions(supervisor)
        .into_iter()
        .filter_map(|action| match action {
            Action::Start { service, run } => Some((service.to_string(), run)),
            _ => None,
        })
        .collect()
}

/// Starts the only service that is to be started now.
fn start_one(supervisor: &mut Supervisor, now: Duration) -> RunId {
    let started = started(supervisor);
    let [(service, run)] = &started[..] else {
        panic!("{started:?}")
    };
    supervisor.spawned(&name(service), *run, 100, now);
    *run
}

fn state(supervisor: &Supervisor, name: &str) -> ServiceState {
    supervisor.status(name).unwrap().state
}

fn raise(supervisor: &mut Supervisor, condition: &str, facts: &[(&str, &str)], now: Duration) {
    let facts = facts
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    supervisor.set(facts, &[condition.to_owned()], &[], now);
}

/// Why the runs of a service ended, taken from the actions.
fn reasons(actions: &[Action], name: &str) -> Vec<Option<Reason>> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Ended { service, end } if service.as_str() == name => Some(end.reason.clone()),
            _ => None,
        })
        .collect()
}

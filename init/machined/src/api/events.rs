//! What happened on the node: a bounded history, and a stream of what comes.
//!
//! [`Hub::watch_pid1`] turns PID 1's events into those of the API; configuration, audit and
//! health publish theirs here as well.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keelson_api::v1alpha1::{Event, EventsRequest};
use keelson_control::{AsyncClient, ClientError, Event as Pid1Event, ServiceState, chain};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use super::timestamp;

/// Events kept. A boot makes about a hundred; each is some 200 bytes.
const KEPT: usize = 512;

/// How many a slow watcher may be behind before it is told that it lost some.
const BEHIND: usize = 256;

/// Events ready for a client that reads slowly.
const QUEUE: usize = 64;

/// Pause before PID 1 is asked again. It ends a subscription only when this program was too slow.
const RETRY: Duration = Duration::from_secs(1);

/// Everybody's handle on the events.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    inner: Arc<Mutex<Inner>>,
    live: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<Event>,
    last: u64,
    going_down: bool,
    /// What PID 1 said last of each service, so that its replay after a reconnection adds nothing.
    told: HashMap<String, (ServiceState, u64)>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            live: broadcast::channel(BEHIND).0,
        }
    }
}

impl Hub {
    /// Adds an event.
    pub(crate) fn publish(
        &self,
        kind: &str,
        subject: &str,
        message: &str,
        details: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        let mut inner = self.inner();
        inner.last += 1;
        let event = Event {
            sequence: inner.last,
            time: timestamp::now(),
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            message: message.to_owned(),
            details: details
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        };
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(event.clone());
        // Nobody watches: nothing to do.
        let _ = self.live.send(event);
    }

    /// What is kept and what comes after it, without a gap.
    pub(crate) fn watch(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let inner = self.inner();
        (inner.kept.iter().cloned().collect(), self.live.subscribe())
    }

    /// Sends what is kept and, if asked, what comes.
    pub(crate) fn stream(
        &self,
        since: String,
        request: EventsRequest,
    ) -> mpsc::Receiver<Result<Event, Status>> {
        let kinds = request.kinds;
        let wanted = move |event: &Event| kinds.is_empty() || kinds.contains(&event.kind);
        let (mut kept, live) = self.watch();
        kept.retain(|event| event.time >= since && wanted(event));
        let tail = usize::try_from(request.tail).unwrap_or(usize::MAX);
        if tail > 0 && kept.len() > tail {
            kept.drain(..kept.len() - tail);
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            for event in kept {
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if request.follow {
                follow(live, &sender, wanted).await;
            }
        });
        receiver
    }

    /// Whether the machine is on its way down.
    pub(crate) fn is_going_down(&self) -> bool {
        self.inner().going_down
    }

    /// Passes on PID 1's events, for ever.
    pub(crate) async fn watch_pid1(self, control_socket: PathBuf) {
        loop {
            if let Err(error) = self.watch_pid1_once(&control_socket).await {
                tracing::warn!("events: {}", chain(&error));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn watch_pid1_once(&self, control_socket: &std::path::Path) -> Result<(), ClientError> {
        let mut events = AsyncClient::connect_to(control_socket)
            .await?
            .subscribe()
            .await?;
        while let Some(event) = events.next().await {
            self.translate(event?);
        }
        Ok(())
    }

    fn translate(&self, event: Pid1Event) {
        match event {
            Pid1Event::BootReport(report) => {
                let key = "boot-report".to_owned();
                if self.is_news(key, ServiceState::Ready, report.ready_ms) {
                    let message = format!("node ready {} ms after kernel start", report.ready_ms);
                    self.publish("boot", "node-ready", &message, []);
                }
            }
            Pid1Event::Condition { name, raised } => {
                let state = if raised {
                    ServiceState::Ready
                } else {
                    ServiceState::Waiting
                };
                if self.is_news(format!("condition {name}"), state, 0) {
                    let verb = if raised { "holds" } else { "holds no longer" };
                    let message = format!("condition {name} {verb}");
                    let details = [("raised", raised.to_string())];
                    self.publish("condition", &name, &message, details);
                }
            }
            Pid1Event::MemoryShort {
                available_bytes,
                ended,
                used_bytes,
            } => {
                let message = format!("memory was short: pod {ended} was ended");
                let details = [
                    ("availableBytes", available_bytes.to_string()),
                    ("usedBytes", used_bytes.to_string()),
                ];
                self.publish("health", "memory", &message, details);
            }
            Pid1Event::Phase(phase) => {
                if self.is_news(format!("phase {}", phase.name), ServiceState::Ready, 0) {
                    let message = format!("{} after {} ms", phase.name, phase.at_ms);
                    self.publish("boot", &phase.name, &message, []);
                }
            }
            Pid1Event::Service(status) => {
                if !self.is_news(status.name.clone(), status.state, status.since_ms) {
                    return;
                }
                let word = keelson_api::state_word(super::services::state(status.state));
                let mut message = format!("{} is {word}", status.name);
                let again = status.state == ServiceState::Starting && status.restarts > 0;
                let mut details = vec![
                    ("state", word.to_owned()),
                    ("restarts", status.restarts.to_string()),
                ];
                if let Some(exit) = status.last_exit {
                    if again {
                        message = format!("{} starts again: it ended with {exit}", status.name);
                    } else if ended(status.state) {
                        message.push_str(": ");
                        message.push_str(&exit);
                    }
                    details.push(("lastExit", exit));
                }
                if ended(status.state) && !status.last_lines.is_empty() {
                    details.push(("lastLines", status.last_lines.join("\n")));
                }
                self.publish("service", &status.name, &message, details);
            }
            Pid1Event::Shutdown { kind, reason } => {
                self.inner().going_down = true;
                let message = format!("the machine goes down: {reason}");
                self.publish(
                    "node",
                    "shutdown",
                    &message,
                    [("kind", format!("{kind:?}"))],
                );
            }
        }
    }

    fn is_news(&self, key: String, state: ServiceState, since: u64) -> bool {
        self.inner().told.insert(key, (state, since)) != Some((state, since))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(
    mut live: broadcast::Receiver<Event>,
    sender: &mpsc::Sender<Result<Event, Status>>,
    wanted: impl Fn(&Event) -> bool,
) {
    loop {
        let next = tokio::select! {
            () = sender.closed() => return,
            next = live.recv() => next,
        };
        let item = match next {
            Ok(event) if wanted(&event) => Ok(event),
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(lost)) => Err(Status::data_loss(format!(
                "{lost} events came faster than they were read; watch again"
            ))),
        };
        let last = item.is_err();
        if sender.send(item).await.is_err() || last {
            return;
        }
    }
}

/// Whether the way the last process ended is what this state is about.
fn ended(state: ServiceState) -> bool {
    matches!(
        state,
        ServiceState::Backoff | ServiceState::CrashLoop | ServiceState::Exited
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_bounded_and_goes_on_live_without_a_gap() {
        let hub = Hub::default();
        for number in 0..KEPT + 3 {
            hub.publish("node", "x", &number.to_string(), []);
        }
        let (kept, mut live) = hub.watch();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].message, "3");
        hub.publish("node", "x", "next", []);
        let next = live.try_recv().unwrap();
        assert_eq!(next.sequence, kept.last().unwrap().sequence + 1);
    }

    #[test]
    fn a_replay_of_pid1_adds_nothing() {
        let hub = Hub::default();
        for raised in [true, true, false, true] {
            hub.translate(Pid1Event::Condition {
                name: "network".to_owned(),
                raised,
            });
        }
        let messages: Vec<_> = hub
            .watch()
            .0
            .into_iter()
            .map(|event| event.message)
            .collect();
        assert_eq!(
            messages,
            [
                "condition network holds",
                "condition network holds no longer",
                "condition network holds"
            ]
        );
    }
}

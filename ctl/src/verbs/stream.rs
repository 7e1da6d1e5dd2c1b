//! Logs, kernel log and events: line by line, as they come.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use keelson_api::v1alpha1::{Event, EventsRequest, KernelLogRequest, LogLine, ReadLogsRequest};
use keelson_client::{Answers, CallError, Endpoint, Node};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::Run;
use super::place::{Entry, Place};
use crate::arguments::{Dmesg, Events, Logs};
use crate::exit::Exit;
use crate::failure::{Failure, NodeFailure};
use crate::fleet::report;
use crate::output::{Format, serialize};
use crate::reconnect::{Next, Patience, tell_back};
use crate::session::Session;
use crate::table::Tone;
use crate::terminal::{print, printable};

pub(super) async fn logs(run: &Run, logs: Logs) -> Result<Exit, Failure> {
    let session = run.session()?;
    let deadline = session.timeout;
    let now = OffsetDateTime::now_utc();
    let request = ReadLogsRequest {
        follow: logs.follow,
        since: logs.since.map_or_else(String::new, |since| since.time(now)),
        tail: logs.tail.unwrap_or(0),
        services: logs.services,
    };
    let printer = Printer {
        run,
        session: &session,
        format: logs.output.format,
        follow: logs.follow.then_some(logs.reconnect.reconnect),
        blur: Duration::ZERO,
    };
    let several = request.services.len() > 1;
    printer
        .all(
            async |node, place| {
                let mut request = request.clone();
                if !place.is_start() {
                    request.tail = 0;
                }
                let services = request.services.iter().map(String::as_str);
                request.since = place.since(services).unwrap_or(request.since);
                node.answers(deadline, node.logs().read(request)).await
            },
            |line, colour| log_line(line, several, colour),
        )
        .await
}

pub(super) async fn dmesg(run: &Run, dmesg: &Dmesg) -> Result<Exit, Failure> {
    let session = run.session()?;
    let deadline = session.timeout;
    let request = KernelLogRequest {
        follow: dmesg.follow,
        tail: dmesg.tail.unwrap_or(0),
    };
    let printer = Printer {
        run,
        session: &session,
        format: dmesg.output.format,
        follow: dmesg.follow.then_some(dmesg.reconnect.reconnect),
        blur: KERNEL_BLUR,
    };
    printer
        .all(
            async |node, place| {
                let mut request = request;
                if !place.is_start() {
                    request.tail = 0;
                }
                node.answers(deadline, node.logs().kernel(request)).await
            },
            |line, colour| log_line(line, false, colour),
        )
        .await
}

pub(super) async fn events(run: &Run, events: Events) -> Result<Exit, Failure> {
    let session = run.session()?;
    let deadline = session.timeout;
    let now = OffsetDateTime::now_utc();
    let request = EventsRequest {
        follow: events.watch,
        since: events
            .since
            .map_or_else(String::new, |since| since.time(now)),
        tail: events.tail.unwrap_or(0),
        kinds: events.kinds,
    };
    let printer = Printer {
        run,
        session: &session,
        format: events.output.format,
        follow: events.watch.then_some(events.reconnect.reconnect),
        blur: Duration::ZERO,
    };
    printer
        .all(
            async |node, place| {
                let mut request = request.clone();
                if !place.is_start() {
                    request.tail = 0;
                }
                request.since = place.since([""].into_iter()).unwrap_or(request.since);
                node.answers(deadline, node.system().events(request)).await
            },
            |event, _| event_line(event),
        )
        .await
}

/// The node computes the times of the kernel's lines whenever it is asked, by its clock at that
/// moment, which time servers correct.
const KERNEL_BLUR: Duration = Duration::from_secs(2);

/// A stream that was lost works again with the first new entry, or when it is open for so long:
/// a node that goes down may take the question once more.
const STEADY: Duration = Duration::from_secs(5);

/// Prints what several nodes stream.
struct Printer<'a> {
    run: &'a Run,
    session: &'a Session,
    format: Format,
    /// Goes on with what comes, and for so long after the connection was lost.
    follow: Option<Duration>,
    /// By how much the time of an entry may differ between two readings.
    blur: Duration,
}

impl Printer<'_> {
    async fn all<T: Entry + Serialize>(
        &self,
        open: impl AsyncFn(&Node, &Place) -> Result<Answers<T>, CallError>,
        line: impl Fn(&T, bool) -> String,
    ) -> Result<Exit, Failure> {
        let nodes = self.session.all();
        let (open, line) = (&open, &line);
        let streams = nodes.iter().map(|node| async move {
            match self.one(node, open, line).await {
                Ok(()) => Ok(Exit::Ok),
                Err(Ended::Node(failure)) => {
                    report(node, &failure);
                    Ok(failure.exit())
                }
                Err(Ended::Here(failure)) => Err(failure),
            }
        });
        Ok(Exit::of_all(&try_join_all(streams).await?))
    }

    /// One node to the end; who follows goes on after a lost connection.
    async fn one<T: Entry + Serialize>(
        &self,
        node: &Endpoint,
        open: &impl AsyncFn(&Node, &Place) -> Result<Answers<T>, CallError>,
        line: &impl Fn(&T, bool) -> String,
    ) -> Result<(), Ended> {
        let mut place = Place::new(self.blur);
        let mut patience = Patience::new(self.follow.unwrap_or_default());
        loop {
            let mut reading = Reading {
                node,
                place: &mut place,
                patience: &mut patience,
            };
            let failure = match self.read(&mut reading, open, line).await {
                Ok(()) if self.follow.is_none() => return Ok(()),
                Ok(()) => {
                    let why = "the node ended the stream".to_owned();
                    CallError::Lost { why }.into()
                }
                Err(Ended::Node(failure)) => failure,
                Err(here) => return Err(here),
            };
            let Next::Retry { after, news } = patience.fails(&failure, Instant::now()) else {
                return Err(failure.into());
            };
            if news {
                patience.tell_lost(node, &failure);
            }
            place.lost();
            tokio::time::sleep(after).await;
        }
    }

    /// Until the connection is lost or the stream ends.
    async fn read<T: Entry + Serialize>(
        &self,
        reading: &mut Reading<'_>,
        open: &impl AsyncFn(&Node, &Place) -> Result<Answers<T>, CallError>,
        line: &impl Fn(&T, bool) -> String,
    ) -> Result<(), Ended> {
        let node = reading.node;
        let connection = self.session.connect(node).await?;
        let mut answers = open(&connection, reading.place)
            .await
            .map_err(NodeFailure::from)?;
        let opened = Instant::now();
        reading.patience.begins();
        // Who follows waits as long as the connection lives.
        let silence = self.follow.is_none().then_some(self.session.timeout);
        loop {
            let message = if reading.patience.is_lost() {
                let rest = STEADY.saturating_sub(opened.elapsed());
                let Ok(message) = timeout(rest, answers.next(silence)).await else {
                    reading.works();
                    continue;
                };
                message
            } else {
                answers.next(silence).await
            };
            let Some(message) = message.map_err(NodeFailure::from)? else {
                return Ok(());
            };
            if reading.place.is_new(&message) {
                reading.works();
                print(&self.shown(node, &message, line)?)?;
            }
        }
    }

    fn shown<T: Serialize>(
        &self,
        node: &Endpoint,
        message: &T,
        line: &impl Fn(&T, bool) -> String,
    ) -> Result<String, Failure> {
        let several = self.session.all().len() > 1;
        let of_node = OfNode {
            node: several.then(|| node.to_string()),
            message,
        };
        Ok(match self.format {
            // One line each, so that other programs can follow.
            Format::Json => serde_json::to_string(&of_node)? + "\n",
            Format::Yaml => serialize(&of_node, Format::Yaml)? + "---\n",
            Format::Table | Format::Wide => {
                let text = line(message, self.run.terminal.colour);
                match several {
                    true => format!("{node}   {text}\n"),
                    false => text + "\n",
                }
            }
        })
    }
}

/// What is known while a node's stream is read.
struct Reading<'a> {
    node: &'a Endpoint,
    place: &'a mut Place,
    patience: &'a mut Patience,
}

impl Reading<'_> {
    fn works(&mut self) {
        if let Some(away) = self.patience.works(Instant::now()) {
            tell_back(self.node, away);
        }
    }
}

/// Why a stream ended early.
enum Ended {
    Here(Failure),
    Node(NodeFailure),
}

impl From<NodeFailure> for Ended {
    fn from(failure: NodeFailure) -> Self {
        Self::Node(failure)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

#[derive(Serialize)]
struct OfNode<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(flatten)]
    message: &'a T,
}

fn log_line(line: &LogLine, several: bool, colour: bool) -> String {
    let tone = match line.level.as_str() {
        "error" => Tone::Bad,
        "warn" => Tone::Warning,
        _ => Tone::Plain,
    };
    let service = if several {
        format!("{} ", line.service)
    } else {
        String::new()
    };
    let level = tone.paint(&format!("{:<5}", printable(&line.level)), colour);
    let (time, text) = (printable(&line.time), one_line(&line.text));
    format!("{time} {level} {}{text}", printable(&service))
}

fn event_line(event: &Event) -> String {
    let text = format!(
        "{} {:<13} {}: {}",
        event.time, event.kind, event.subject, event.message
    );
    one_line(&text)
}

/// A line stays a line.
fn one_line(text: &str) -> String {
    printable(text.trim_end()).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_one_line_without_commands_to_the_terminal() {
        let line = LogLine {
            service: "kubelet".to_owned(),
            time: "2026-01-31T12:00:00.000Z".to_owned(),
            level: "warn".to_owned(),
            text: "a\nb\u{1b}[2J\n".to_owned(),
        };
        assert_eq!(
            log_line(&line, true, false),
            "2026-01-31T12:00:00.000Z warn  kubelet a b\\u{1b}[2J"
        );
        let coloured = log_line(&line, false, true);
        assert!(coloured.contains("\x1b[33mwarn \x1b[0m a b"), "{coloured}");
    }
}

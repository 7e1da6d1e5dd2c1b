//! Messages on the socket and their encoding.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::MAX_FRAME;

/// What a client asks of PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Sets facts, then raises and clears conditions, as one step.
    Set {
        /// Facts to set; an existing one is replaced.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: BTreeMap<String, String>,
        /// Conditions that hold from now on.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        raise: Vec<String>,
        /// Conditions that hold no longer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        clear: Vec<String>,
    },
    /// Stamps a boot phase with the present time; a phase is stamped once.
    Phase {
        /// Name in the boot report.
        name: String,
    },
    /// Asks for everything PID 1 knows.
    Status,
    /// Turns the connection into a stream of events.
    Subscribe,
    /// Ends everything in order; a second request shortens every deadline.
    Shutdown {
        /// What happens at the end.
        kind: ShutdownKind,
        /// Who or what wants it, for the console.
        reason: String,
    },
    /// Asks for everything about one service.
    Describe {
        /// Its name.
        service: String,
    },
    /// Starts a service that was stopped.
    Start {
        /// Its name.
        service: String,
    },
    /// Stops a service until it is started again.
    Stop {
        /// Its name.
        service: String,
    },
    /// Stops a service and starts it again.
    Restart {
        /// Its name.
        service: String,
        /// Conditions that hold no longer, in the same step: what it said before counts for
        /// nothing, and the run that ends cannot say it again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        clear: Vec<String>,
    },
    /// Replaces the limits that the configuration sets; what it does not name has those of its
    /// definition.
    Limit {
        /// By service.
        services: BTreeMap<String, ResourceLimits>,
    },
    /// Prints a line for people on the console and in the kernel's log.
    Message {
        /// How urgent it is.
        level: Level,
        /// One line.
        text: String,
    },
    /// Prints a line on the console and nowhere else: it is for who stands before the machine,
    /// and not for who reads logs.
    Show {
        /// One line.
        text: String,
    },
}

/// What the machine does once everything has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownKind {
    /// Stop the processor, keep the power.
    Halt,
    /// Switch off.
    PowerOff,
    /// Start again through the firmware.
    Reboot,
}

/// How urgent a line is. `error`: something does not work and a person must act; `warn`: it
/// works, but not as asked; `info`: a milestone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A person must act.
    Error,
    /// Works, but not as asked.
    Warn,
    /// Milestone.
    Info,
}

/// PID 1's answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// Refused or failed, with the reason.
    Error(String),
    /// Done.
    Ok,
    /// The answer to [`Request::Describe`].
    Service(Box<ServiceDetail>),
    /// The answer to [`Request::Status`].
    Status(Box<Status>),
}

/// Everything PID 1 knows, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// Facts set so far.
    pub facts: BTreeMap<String, String>,
    /// Conditions that hold.
    pub conditions: Vec<String>,
    /// Phases in the order they were reached.
    pub phases: Vec<Phase>,
    /// All services by name.
    pub services: Vec<ServiceStatus>,
}

/// One boot phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What was reached.
    pub name: String,
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
}

/// One service as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: ServiceState,
    /// When it entered that state, in milliseconds since the kernel started.
    pub since_ms: u64,
    /// Main process, while one lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When it is tried again, in milliseconds since the kernel started, while it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_ms: Option<u64>,
    /// Starts after the first one.
    pub restarts: u32,
    /// Services and conditions it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// How the last process ended: `exit code 1`, `signal 9`, `cannot execute: …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Last log lines before that end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// One service, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceDetail {
    /// What [`Status`] has of it.
    pub status: ServiceStatus,
    /// What it does, for people.
    pub description: String,
    /// Program and arguments as last started, or as they stand in the definition.
    pub command: Vec<String>,
    /// User it runs as.
    pub user: String,
    /// Group it runs as.
    pub group: String,
    /// Services that must be ready before it starts.
    pub needs_services: Vec<String>,
    /// Conditions that must hold before it starts.
    pub needs_conditions: Vec<String>,
    /// Facts that must have these values.
    pub only: BTreeMap<String, String>,
    /// When it counts as ready, in words.
    pub readiness: String,
    /// What is checked while it runs, in words.
    pub liveness: Option<String>,
    /// When it is started again, in words.
    pub restart_policy: String,
    /// Order of death when memory runs out: higher dies first.
    pub oom_score_adj: i16,
    /// Limits in force.
    pub limits: ResourceLimits,
    /// Ends of its main processes, the newest last; PID 1 keeps the last few.
    pub exits: Vec<ExitRecord>,
}

/// Limits of a cgroup; what is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourceLimits {
    /// Bytes kept from reclaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<u64>,
    /// Bytes above which it is slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// Bytes above which it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// Share of the processor, 1 to 10000, 100 being normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u16>,
    /// Most processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u32>,
}

/// The end of one main process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitRecord {
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// How long it had run.
    pub ran_ms: u64,
    /// `exit code 1`, `signal 9`, …
    pub how: String,
    /// Why it was ended, when that was not its own doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Last log lines before the end.
    pub last_lines: Vec<String>,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Ended; starts again after a delay.
    Backoff,
    /// Ended several times in a row without staying up; still tried again, at the longest delay.
    CrashLoop,
    /// Not part of this node (its `only` facts differ).
    Disabled,
    /// A oneshot that did its work, or a service that is not to be restarted.
    Exited,
    /// Runs, and nothing says that it does not work.
    Ready,
    /// Runs, not ready yet.
    Starting,
    /// Was stopped on request and stays down until it is started.
    Stopped,
    /// Was told to end.
    Stopping,
    /// Waits for services or conditions.
    Waiting,
}

/// What subscribers are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The node became Ready; sent once.
    BootReport(BootReport),
    /// A condition changed.
    Condition {
        /// Its name.
        name: String,
        /// Whether it holds now.
        raised: bool,
    },
    /// Memory was so short that a pod was ended for the others.
    MemoryShort {
        /// What was left.
        available_bytes: u64,
        /// Cgroup of the pod, below the root.
        ended: String,
        /// What it used.
        used_bytes: u64,
    },
    /// A phase was reached.
    Phase(Phase),
    /// A service changed state.
    Service(ServiceStatus),
    /// The machine is going down.
    Shutdown {
        /// How it ends.
        kind: ShutdownKind,
        /// Who wanted it.
        reason: String,
    },
}

/// How long each part of the boot took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootReport {
    /// Milliseconds from kernel start to the condition `node-ready`.
    pub ready_ms: u64,
    /// All phases in the order they were reached.
    pub phases: Vec<Phase>,
}

/// Encodes a message as one line, newline included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    if line.len() >= MAX_FRAME {
        return Err(serde::ser::Error::custom(format_args!(
            "message of {} bytes is longer than the {MAX_FRAME} a frame may have",
            line.len()
        )));
    }
    line.push(b'\n');
    Ok(line)
}

/// Decodes one line; the newline may be there or not.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_documented_form() {
        let set = Request::Set {
            facts: BTreeMap::from([("node-ip".to_owned(), "10.0.2.15".to_owned())]),
            raise: vec!["network".to_owned()],
            clear: vec![],
        };
        assert_eq!(
            String::from_utf8(encode(&set).unwrap()).unwrap(),
            "{\"set\":{\"facts\":{\"node-ip\":\"10.0.2.15\"},\"raise\":[\"network\"]}}\n"
        );
        assert_eq!(encode(&Request::Status).unwrap(), b"\"status\"\n");
        assert_eq!(
            decode::<Request>(b"{\"shutdown\":{\"kind\":\"power-off\",\"reason\":\"test\"}}\n")
                .unwrap(),
            Request::Shutdown {
                kind: ShutdownKind::PowerOff,
                reason: "test".to_owned()
            }
        );
    }

    #[test]
    fn unknown_fields_and_requests_are_refused() {
        assert!(decode::<Request>(b"{\"phase\":{\"name\":\"x\",\"extra\":1}}").is_err());
        assert!(decode::<Request>(b"{\"format-disk\":{}}").is_err());
    }

    #[test]
    fn a_frame_is_bounded() {
        let request = Request::Phase {
            name: "x".repeat(MAX_FRAME),
        };
        assert!(encode(&request).is_err());
    }

    proptest::proptest! {
        #[test]
        fn decode_never_panics(line: Vec<u8>) {
            let _ = decode::<Request>(&line);
        }

        #[test]
        fn messages_survive_the_wire(text: String) {
            let request = Request::Message { level: Level::Warn, text };
            let line = encode(&request).unwrap();
            // A newline inside the text is escaped, so the line is one line.
            proptest::prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            proptest::prop_assert_eq!(decode::<Request>(&line).unwrap(), request);
        }
    }
}

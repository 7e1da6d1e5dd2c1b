//! Services: the list, and one with all that is known about it.

use std::time::Duration;

use keelson_api::state_word;
use keelson_api::v1alpha1::{
    CgroupUsage, DescribeServiceResponse, ListServicesResponse, ServiceExit, ServiceState,
    ServiceSummary,
};

use crate::output::{Body, Detail, Show};
use crate::table::{Cell, Table, Tone, fields};
use crate::terminal::printable;
use crate::units::{age, limit, size, span};

impl Show for ListServicesResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["NAME", "STATE", "FOR", "RESTARTS", "MEMORY", "WAITING FOR"]);
        table.more(detail.wide, ["PID", "LAST EXIT", "SINCE"]);
        for service in &self.services {
            table.row([
                service.name.as_str().into(),
                state(service.state),
                age(&service.since, detail.now).into(),
                service.restarts.to_string().into(),
                known_size(service.memory_bytes),
                service.waiting_for.join(", ").into(),
                number(service.pid),
                service.last_exit.as_str().into(),
                service.since.as_str().into(),
            ]);
        }
        Body::Table(table)
    }
}

fn state(number: i32) -> Cell {
    let state = ServiceState::try_from(number).unwrap_or(ServiceState::Unspecified);
    let tone = match state {
        ServiceState::Ready => Tone::Good,
        ServiceState::Backoff | ServiceState::CrashLoop => Tone::Bad,
        ServiceState::Starting | ServiceState::Stopping | ServiceState::Waiting => Tone::Warning,
        ServiceState::Unspecified
        | ServiceState::Disabled
        | ServiceState::Exited
        | ServiceState::Stopped => Tone::Plain,
    };
    Cell::toned(state_word(state), tone)
}

/// A size, or nothing when it is not known.
fn known_size(bytes: u64) -> Cell {
    if bytes == 0 {
        Cell::default()
    } else {
        size(bytes).into()
    }
}

fn number(number: u32) -> Cell {
    if number == 0 {
        Cell::default()
    } else {
        number.to_string().into()
    }
}

impl Show for DescribeServiceResponse {
    fn show(&self, detail: Detail) -> Body {
        let summary = self.summary.clone().unwrap_or_default();
        let only: Vec<String> = self
            .only
            .iter()
            .map(|(fact, value)| format!("{fact}={value}"))
            .collect();
        let needs: Vec<&str> = self
            .needs_services
            .iter()
            .chain(&self.needs_conditions)
            .map(String::as_str)
            .collect();
        let mut text = fields(&[
            ("service", summary.name.clone()),
            ("description", self.description.clone()),
            ("state", standing(&summary, detail)),
            ("restarts", summary.restarts.to_string()),
            ("waiting for", summary.waiting_for.join(", ")),
            ("last exit", summary.last_exit.clone()),
            ("command", self.command.join(" ")),
            ("user", user(&self.user, &self.group)),
            ("needs", needs.join(", ")),
            ("only when", sorted(only)),
            ("readiness", self.readiness.clone()),
            ("liveness", self.liveness.clone()),
            ("restart", self.restart_policy.clone()),
            ("oom score", self.oom_score_adj.to_string()),
            ("memory limits", memory_limits(self)),
            ("cpu weight", self.cpu_weight.to_string()),
            ("most processes", limit_count(self.pids_max)),
        ]);
        if let Some(usage) = &self.usage {
            text.push_str(&usage_lines(usage));
        }
        if !self.exits.is_empty() {
            text.push_str("\nhow it ended before, the newest last:\n");
            for exit in &self.exits {
                text.push_str(&exit_lines(exit));
            }
        }
        if !self.log_tail.is_empty() {
            text.push_str("\nlast log lines:\n");
            text.extend(self.log_tail.iter().map(|line| indented(line)));
        }
        Body::Text(text)
    }
}

fn memory_limits(service: &DescribeServiceResponse) -> String {
    format!(
        "protected {}, slowed above {}, ended above {}",
        limit(service.memory_low_bytes),
        limit(service.memory_high_bytes),
        limit(service.memory_max_bytes)
    )
}

fn standing(summary: &ServiceSummary, detail: Detail) -> String {
    let state = ServiceState::try_from(summary.state).unwrap_or(ServiceState::Unspecified);
    let mut text = state_word(state).to_owned();
    if !summary.since.is_empty() {
        let age = age(&summary.since, detail.now);
        text.push_str(&format!(" for {age} (since {})", summary.since));
    }
    if summary.pid != 0 {
        text.push_str(&format!(", pid {}", summary.pid));
    }
    text
}

fn user(user: &str, group: &str) -> String {
    if group.is_empty() {
        user.to_owned()
    } else {
        format!("{user}:{group}")
    }
}

fn sorted(mut words: Vec<String>) -> String {
    words.sort();
    words.join(", ")
}

fn limit_count(count: u32) -> String {
    if count == 0 {
        String::new()
    } else {
        count.to_string()
    }
}

fn usage_lines(usage: &CgroupUsage) -> String {
    let events = format!(
        "{} slowed, {} at the limit, {} processes lost",
        usage.memory_high_events, usage.memory_max_events, usage.oom_kills
    );
    let pressure = format!(
        "memory {:.1} %, processor {:.1} %, disk {:.1} % of the last 10 s",
        usage.memory_pressure, usage.cpu_pressure, usage.io_pressure
    );
    let memory = format!(
        "{} (at most {})",
        size(usage.memory_bytes),
        size(usage.memory_peak_bytes)
    );
    fields(&[
        ("memory", memory),
        ("memory events", events),
        ("processor", span(Duration::from_micros(usage.cpu_us))),
        ("processes", usage.processes.to_string()),
        ("waited for", pressure),
    ])
}

fn exit_lines(exit: &ServiceExit) -> String {
    let ran = span(Duration::from_millis(exit.ran_ms));
    let mut text = format!("  {}   {} after {ran}", exit.time, exit.how);
    if !exit.reason.is_empty() {
        text.push_str(&format!(": {}", exit.reason));
    }
    let mut lines = printable(&text) + "\n";
    lines.extend(exit.last_lines.iter().map(|line| indented(line)));
    lines
}

fn indented(line: &str) -> String {
    format!("    {}\n", printable(line.trim_end()))
}

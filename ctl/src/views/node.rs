//! The node as a whole: version, status, boot, health, events.

use std::time::Duration;

use keelson_api::v1alpha1::{
    BootReportResponse, Event, HealthResponse, StatusResponse, VersionResponse,
};

use super::EventList;
use crate::output::{Body, Detail, Show};
use crate::table::{Cell, Table, Tone, fields};
use crate::units::{age, size, span, until};

impl Show for VersionResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["VERSION", "BUILD", "ARCHITECTURE", "KERNEL"]);
        table.more(detail.wide, ["COMPONENTS"]);
        let components: Vec<String> = self
            .components
            .iter()
            .map(|component| format!("{} {}", component.name, component.version))
            .collect();
        let build = if detail.wide {
            self.build_id.clone()
        } else {
            self.build_id.chars().take(SHORT_DIGEST).collect()
        };
        table.row([
            self.version.as_str().into(),
            build.into(),
            self.architecture.as_str().into(),
            self.kernel.as_str().into(),
            components.join(", ").into(),
        ]);
        Body::Table(table)
    }
}

/// Enough of a digest to tell builds apart.
const SHORT_DIGEST: usize = 12;

impl Show for StatusResponse {
    fn show(&self, detail: Detail) -> Body {
        if detail.several {
            Body::Table(status_row(self, detail))
        } else {
            Body::Text(status_lines(self, detail))
        }
    }
}

fn status_row(status: &StatusResponse, detail: Detail) -> Table {
    let mut table = Table::new(["NAME", "STAGE", "VERSION", "UP", "SERVICES", "FREE MEMORY"]);
    table.more(detail.wide, ["LOAD", "SLOT", "ADDRESSES", "NOT READY"]);
    table.row([
        status.node_name.as_str().into(),
        status.stage.as_str().into(),
        status.version.as_str().into(),
        span(Duration::from_millis(status.uptime_ms)).into(),
        services(status),
        memory(status).into(),
        format!("{:.2}", status.load1).into(),
        status.slot.as_str().into(),
        status.addresses.join(", ").into(),
        status.services_not_ready.join(", ").into(),
    ]);
    table
}

fn services(status: &StatusResponse) -> Cell {
    let text = format!("{}/{}", status.services_ready, status.services_total);
    let tone = if status.services_not_ready.is_empty() {
        Tone::Good
    } else {
        Tone::Warning
    };
    Cell::toned(text, tone)
}

fn memory(status: &StatusResponse) -> String {
    format!(
        "{} of {}",
        size(status.memory_available_bytes),
        size(status.memory_total_bytes)
    )
}

fn status_lines(status: &StatusResponse, detail: Detail) -> String {
    let mut services = format!(
        "{} of {} ready",
        status.services_ready, status.services_total
    );
    if !status.services_not_ready.is_empty() {
        services.push_str("; not ready: ");
        services.push_str(&status.services_not_ready.join(", "));
    }
    let trial = if status.trial_until.is_empty() {
        String::new()
    } else {
        format!(
            "the configuration goes back in {} unless confirmed (keelsonctl config confirm)",
            until(&status.trial_until, detail.now)
        )
    };
    let wide = |value: &str| {
        if detail.wide {
            value.to_owned()
        } else {
            String::new()
        }
    };
    let slot = if status.slot.is_empty() {
        String::new()
    } else {
        format!(" in slot {}", status.slot)
    };
    fields(&[
        ("node", status.node_name.clone()),
        ("stage", status.stage.clone()),
        ("version", format!("{}{slot}", status.version)),
        ("up", span(Duration::from_millis(status.uptime_ms))),
        ("time", wide(&status.time)),
        ("addresses", status.addresses.join(", ")),
        ("services", services),
        ("free memory", memory(status)),
        ("load", format!("{:.2}", status.load1)),
        ("machine id", wide(&status.machine_id)),
        ("conditions", wide(&status.conditions.join(", "))),
        ("on trial", trial),
    ])
}

impl Show for BootReportResponse {
    fn show(&self, _detail: Detail) -> Body {
        let mut table = Table::new(["SINCE KERNEL START", "STEP", "PHASE"]);
        let mut before = 0;
        for phase in &self.phases {
            let step = phase.at_ms.saturating_sub(before);
            before = phase.at_ms;
            table.row([
                seconds(phase.at_ms),
                seconds(step),
                phase.name.as_str().into(),
            ]);
        }
        let total = match self.ready_ms {
            0 => Cell::toned("not Ready yet", Tone::Warning),
            ms => seconds(ms),
        };
        table.row([total, Cell::default(), "node Ready".into()]);
        Body::Table(table)
    }
}

/// Boots are compared: always the same unit.
fn seconds(ms: u64) -> Cell {
    format!("{}.{:03} s", ms / 1000, ms % 1000).into()
}

impl Show for HealthResponse {
    fn show(&self, _detail: Detail) -> Body {
        let mut table = Table::new(["CHECK", "RESULT", "REASON"]);
        for check in &self.checks {
            let result = if check.passed {
                Cell::toned("passed", Tone::Good)
            } else {
                Cell::toned("FAILED", Tone::Bad)
            };
            table.row([
                check.name.as_str().into(),
                result,
                check.reason.as_str().into(),
            ]);
        }
        Body::Table(table)
    }
}

impl Show for EventList {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["AGO", "KIND", "SUBJECT", "MESSAGE"]);
        table.more(detail.wide, ["TIME", "DETAILS"]);
        for event in &self.events {
            table.row([
                age(&event.time, detail.now).into(),
                event.kind.as_str().into(),
                event.subject.as_str().into(),
                event.message.as_str().into(),
                event.time.as_str().into(),
                details(event).into(),
            ]);
        }
        Body::Table(table)
    }
}

fn details(event: &Event) -> String {
    let mut details: Vec<String> = event
        .details
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    details.sort();
    details.join(" ")
}

#[cfg(test)]
mod tests {
    use keelson_api::v1alpha1::Phase;
    use time::OffsetDateTime;

    use super::*;

    const DETAIL: Detail = Detail {
        wide: false,
        several: false,
        now: OffsetDateTime::UNIX_EPOCH,
    };

    #[test]
    fn a_trial_is_never_hidden() {
        let status = StatusResponse {
            trial_until: "1970-01-01T00:02:00Z".to_owned(),
            ..Default::default()
        };
        let Body::Text(text) = status.show(DETAIL) else {
            panic!("one node is shown in lines")
        };
        assert!(text.contains("goes back in 2m "), "{text}");
    }

    #[test]
    fn a_boot_shows_time_and_step() {
        let phase = |name: &str, at_ms| Phase {
            name: name.to_owned(),
            at_ms,
        };
        let report = BootReportResponse {
            ready_ms: 0,
            phases: vec![phase("a", 1500), phase("b", 12_001)],
        };
        let Body::Table(table) = report.show(DETAIL) else {
            panic!("phases are rows")
        };
        let text = table.render(false);
        assert!(text.contains("12.001 s             10.501 s   b"), "{text}");
        assert!(text.contains("not Ready yet"), "{text}");
    }
}

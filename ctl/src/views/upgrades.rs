//! Slots, and how an upgrade stands.

use keelson_api::v1alpha1::{ListSlotsResponse, UpgradeOutcome, UpgradeStatus};

use crate::output::{Body, Detail, Show};
use crate::table::{Cell, Table, Tone, fields};
use crate::units::{age, size, span, until};

impl Show for ListSlotsResponse {
    fn show(&self, detail: Detail) -> Body {
        let mut table = Table::new(["SLOT", "STATE", "VERSION", "RUNS", "NEXT BOOT", "REASON"]);
        table.more(
            detail.wide,
            ["BUILD", "BOOT", "ROOT", "SIGNED BY", "VERIFIED", "TRIES"],
        );
        let on_trial = self.slots.iter().any(|slot| slot.trial && !slot.running);
        for slot in &self.slots {
            let tone = match slot.state.as_str() {
                "good" => Tone::Good,
                "failed" | "untrusted" => Tone::Bad,
                "incomplete" | "trial" => Tone::Warning,
                _ => Tone::Plain,
            };
            let next = match (slot.trial, slot.default) {
                (true, _) if !slot.running => "trial",
                (false, true) if !on_trial => "yes",
                _ => "",
            };
            table.row([
                slot.name.as_str().into(),
                Cell::toned(&slot.state, tone),
                slot.version.as_str().into(),
                if slot.running { "yes" } else { "" }.into(),
                next.into(),
                slot.reason.as_str().into(),
                slot.build_id.as_str().into(),
                size(slot.boot_bytes).into(),
                size(slot.root_bytes).into(),
                slot.signed_by.join(", ").into(),
                slot.verified.as_str().into(),
                slot.tries_used.to_string().into(),
            ]);
        }
        Body::Table(table)
    }
}

impl Show for UpgradeStatus {
    fn show(&self, detail: Detail) -> Body {
        let mut lines = vec![("Phase", keelson_api::phase_word(self.phase()).to_owned())];
        if !self.version.is_empty() {
            lines.push(("Version", format!("{} in slot {}", self.version, self.slot)));
            lines.push(("From", self.from_version.clone()));
        } else {
            lines.push(("Running", self.from_version.clone()));
        }
        let percent = self
            .bytes_done
            .saturating_mul(100)
            .checked_div(self.bytes_total);
        if let Some(percent) = percent {
            let received = format!(
                "{} of {} ({percent} %)",
                size(self.bytes_done),
                size(self.bytes_total)
            );
            lines.push(("Received", received));
            lines.push(("Written", size(self.written_bytes)));
        }
        if self.verified_bytes > 0 {
            lines.push(("Verified", size(self.verified_bytes)));
        }
        if !self.reason.is_empty() {
            lines.push(("Reason", self.reason.clone()));
        }
        if self.stable_for_ms > 0 {
            let well = span(std::time::Duration::from_millis(self.stable_ms));
            let needed = span(std::time::Duration::from_millis(self.stable_for_ms));
            lines.push(("Well for", format!("{well} of {needed}")));
        }
        if !self.trial_deadline.is_empty() {
            lines.push(("Time left", until(&self.trial_deadline, detail.now)));
        }
        let mut text = fields(&lines);
        for check in &self.checks {
            let word = if check.passed { "ok  " } else { "FAIL" };
            text.push_str(&format!("  {word} {}: {}\n", check.name, check.reason));
        }
        if let Some(last) = &self.last {
            text.push_str(&shown(last, detail));
        }
        Body::Text(crate::terminal::printable(&text))
    }
}

fn shown(last: &UpgradeOutcome, detail: Detail) -> String {
    let when = match detail.wide {
        true => last.time.clone(),
        false => format!("{} ago", age(&last.time, detail.now)),
    };
    let mut text = fields(&[(
        "Last",
        format!(
            "{} to version {}, {when}: {}",
            last.result, last.version, last.reason
        ),
    )]);
    for start in &last.starts {
        let missing = match start.missing.as_str() {
            "" => String::new(),
            missing => format!(", missing {missing}"),
        };
        text.push_str(&format!(
            "  start {}: reached {}{missing}\n",
            start.time, start.reached
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use keelson_api::v1alpha1::Slot;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn the_slot_that_comes_next_is_seen() {
        let slot = |name: &str, running, default, trial| Slot {
            name: name.to_owned(),
            running,
            default,
            trial,
            state: "good".to_owned(),
            ..Slot::default()
        };
        let shown = |slots: Vec<Slot>| {
            let detail = Detail {
                wide: false,
                several: false,
                now: OffsetDateTime::UNIX_EPOCH,
            };
            match (ListSlotsResponse { slots }).show(detail) {
                Body::Table(table) => table.render(false),
                Body::Text(text) => text,
            }
        };
        let everyday = shown(vec![
            slot("a", true, true, false),
            slot("b", false, false, false),
        ]);
        let words = |text: &str, line: usize| {
            let line = text.lines().nth(line).unwrap();
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&everyday, 1), ["a", "good", "-", "yes", "yes", "-"]);
        let armed = shown(vec![
            slot("a", true, true, false),
            slot("b", false, false, true),
        ]);
        assert_eq!(words(&armed, 1), ["a", "good", "-", "yes", "-", "-"]);
        assert_eq!(words(&armed, 2), ["b", "good", "-", "-", "trial", "-"]);
    }
}

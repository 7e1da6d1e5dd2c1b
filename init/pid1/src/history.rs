//! How the last runs of each service ended, in bounded memory.

use std::collections::{BTreeMap, VecDeque};

use keelson_control::ExitRecord;
use keelson_service::Name;
use keelson_supervisor::End;

use crate::boot_report::millis;
use crate::node::Node;

/// Ends kept of each service. With the lines of each (`logs::SHOWN_BYTES`) twenty services that
/// all keep ending take less than 300 KiB.
const KEPT: usize = 10;

/// Ends by service, the newest last.
#[derive(Debug, Default)]
pub(crate) struct History(BTreeMap<Name, VecDeque<ExitRecord>>);

impl History {
    fn add(&mut self, service: &Name, record: ExitRecord) {
        if !self.0.contains_key(service) {
            self.0.insert(service.clone(), VecDeque::new());
        }
        if let Some(records) = self.0.get_mut(service) {
            if records.len() >= KEPT {
                records.pop_front();
            }
            records.push_back(record);
        }
    }

    /// Ends of a service, the newest last.
    pub(crate) fn of(&self, service: &str) -> Vec<ExitRecord> {
        self.0.get(service).into_iter().flatten().cloned().collect()
    }
}

impl Node {
    /// Keeps the end of a run with what the service said last.
    pub(crate) fn keep_end(&mut self, name: &Name, end: &End) {
        let record = ExitRecord {
            at_ms: millis(end.at),
            ran_ms: millis(end.ran),
            how: end.exit.to_string(),
            reason: end.reason.as_ref().map(ToString::to_string),
            last_lines: self.logs.last_lines(name.as_str()),
        };
        self.history.add(name, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let name: Name = "etcd".parse().unwrap();
        let mut history = History::default();
        for at_ms in 0..15 {
            let record = ExitRecord {
                at_ms,
                ran_ms: 1,
                how: "signal 9".to_owned(),
                reason: None,
                last_lines: Vec::new(),
            };
            history.add(&name, record);
        }
        let kept: Vec<u64> = history.of("etcd").iter().map(|end| end.at_ms).collect();
        assert_eq!(kept, (5..15).collect::<Vec<_>>());
        assert_eq!(history.of("kine"), []);
    }
}

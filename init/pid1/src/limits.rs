//! Limits of the services' cgroups: those of the definitions, with what the configuration changes.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use keelson_control::ResourceLimits;
use keelson_service::{Name, Resources};
use thiserror::Error;

use crate::cgroup;
use crate::node::Node;

/// Why limits are not taken. None of them is, then.
#[derive(Debug, Error)]
pub(crate) enum LimitError {
    #[error("{service}: cpuWeight is {weight}; it must be between 1 and 10000")]
    CpuWeight { service: String, weight: u16 },
    #[error("limits for {names}: there are no such services")]
    Unknown { names: String },
    #[error("cannot start the thread that writes them")]
    Thread(#[source] io::Error),
}

impl Node {
    /// Replaces all limits that do not come from definitions, in living cgroups at once.
    pub(crate) fn limit(
        &mut self,
        limits: BTreeMap<String, ResourceLimits>,
    ) -> Result<(), LimitError> {
        let unknown: Vec<&str> = limits
            .keys()
            .map(String::as_str)
            .filter(|name| self.supervisor.definition(name).is_none())
            .collect();
        if !unknown.is_empty() {
            return Err(LimitError::Unknown {
                names: unknown.join(", "),
            });
        }
        for (service, limits) in &limits {
            if let Some(weight) = limits.cpu_weight.filter(|w| !(1..=10_000).contains(w)) {
                return Err(LimitError::CpuWeight {
                    service: service.clone(),
                    weight,
                });
            }
        }
        let before = std::mem::replace(&mut self.limits, limits);
        let changed: Vec<(PathBuf, Resources)> = self
            .supervisor
            .names()
            .map(|name| name.as_str())
            .filter(|name| before.get(*name) != self.limits.get(*name))
            .filter_map(|name| {
                let leaf = self.tree.as_ref()?.leaf(name);
                Some((leaf, self.resources(name)))
            })
            .collect();
        self.protect_services();
        let previous = self.limit_writer.take();
        self.limit_writer = Some(write_behind(previous, changed).map_err(LimitError::Thread)?);
        Ok(())
    }

    /// Protects from reclaim, as a whole, what the services that run keep for themselves.
    pub(crate) fn protect_services(&self) {
        if let Some(tree) = &self.tree {
            let kept = |name: &Name| self.resources(name.as_str()).memory_low.unwrap_or(0);
            tree.protect(self.mains.keys().map(kept).sum());
        }
    }

    /// The limits in force for a service.
    pub(crate) fn resources(&self, service: &str) -> Resources {
        let definition = self.supervisor.definition(service);
        let own = definition.map(|d| d.resources.clone()).unwrap_or_default();
        match self.limits.get(service) {
            None => own,
            Some(limits) => overlay(&own, limits),
        }
    }
}

/// What the configuration says wins, limit by limit.
fn overlay(own: &Resources, limits: &ResourceLimits) -> Resources {
    Resources {
        memory_low: limits.memory_low.or(own.memory_low),
        memory_high: limits.memory_high.or(own.memory_high),
        memory_max: limits.memory_max.or(own.memory_max),
        cpu_weight: limits.cpu_weight.or(own.cpu_weight),
        pids_max: limits.pids_max.or(own.pids_max),
    }
}

/// Writes limits in a thread of its own, after the one before has ended: where a limit is below
/// what is used, the kernel reclaims in the writer's time, and that can be long.
fn write_behind(
    previous: Option<JoinHandle<()>>,
    groups: Vec<(PathBuf, Resources)>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("limits".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            if let Some(previous) = previous {
                // It panics no more than this one; either way it has ended.
                let _ = previous.join();
            }
            for (group, resources) in groups {
                cgroup::set_limits(&group, &resources);
            }
        })
}

/// Limits as they go over the wire.
pub(crate) fn to_wire(resources: &Resources) -> ResourceLimits {
    ResourceLimits {
        memory_low: resources.memory_low,
        memory_high: resources.memory_high,
        memory_max: resources.memory_max,
        cpu_weight: resources.cpu_weight,
        pids_max: resources.pids_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_changes_what_it_names_and_no_more() {
        let own = Resources {
            memory_high: Some(7),
            pids_max: Some(9),
            ..Resources::default()
        };
        let limits = ResourceLimits {
            memory_high: Some(8),
            cpu_weight: Some(50),
            ..ResourceLimits::default()
        };
        let expected = Resources {
            memory_high: Some(8),
            cpu_weight: Some(50),
            pids_max: Some(9),
            ..Resources::default()
        };
        assert_eq!(overlay(&own, &limits), expected);
    }
}

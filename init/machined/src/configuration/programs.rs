//! The image's services, as far as the configuration concerns them: their command lines, and the
//! limits that come with the image.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use keelson_config::{CpuWeight, NodeConfig, ServiceLimits, Size};
use keelson_control::ResourceLimits;
use keelson_service::{ParseError, ServiceDefinition, expand, fact_names};

use crate::facts::Facts;

/// The image's services.
#[derive(Clone, Debug)]
pub(crate) struct Programs(Vec<ServiceDefinition>);

/// The definitions cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramsError {
    /// The folder or a file.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The content of a file.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

impl Programs {
    /// Reads the definitions.
    pub(crate) fn read(folder: &Path) -> Result<Self, ProgramsError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ProgramsError::Read { path, source }
        };
        let mut definitions = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.ends_with(".yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            definitions.push(keelson_service::parse(&name, &text)?);
        }
        definitions.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        Ok(Self(definitions))
    }

    /// Services whose command line would be another one, by name.
    pub(crate) fn affected(&self, before: &Facts, after: &Facts) -> Vec<String> {
        self.parts_of_this_node(after)
            .filter(|service| command(service, before) != command(service, after))
            .map(|service| service.name.to_string())
            .collect()
    }

    /// Services whose command line depends on facts, with what it is now.
    pub(crate) fn commands(&self, facts: &Facts) -> Vec<(String, Vec<String>)> {
        self.parts_of_this_node(facts)
            .filter(|service| depends_on_facts(service))
            .filter_map(|service| Some((service.name.to_string(), command(service, facts)?)))
            .collect()
    }

    /// The configuration with the image's limits where it gives none.
    pub(crate) fn with_default_limits(&self, mut config: NodeConfig) -> NodeConfig {
        for service in &self.0 {
            let resources = &service.resources;
            let weight = resources
                .cpu_weight
                .and_then(|weight| CpuWeight::try_from(u32::from(weight)).ok());
            let (high, max) = (resources.memory_high, resources.memory_max);
            let Ok(name) = service.name.as_str().parse() else {
                continue;
            };
            if high.is_none() && max.is_none() && weight.is_none() {
                continue;
            }
            let limits = config.services.entry(name).or_default();
            limits.memory_high = limits.memory_high.or(high.map(Size::from_bytes));
            limits.memory_max = limits.memory_max.or(max.map(Size::from_bytes));
            limits.cpu_weight = limits.cpu_weight.or(weight);
        }
        config
    }

    fn parts_of_this_node(&self, facts: &Facts) -> impl Iterator<Item = &ServiceDefinition> {
        self.0.iter().filter(|service| {
            let mut only = service.only.iter();
            only.all(|(fact, value)| facts.get(fact.as_str()) == Some(value))
        })
    }
}

/// What PID 1 is told of the limits that the configuration gives.
pub(crate) fn limits(config: &NodeConfig) -> BTreeMap<String, ResourceLimits> {
    let wire = |limits: &ServiceLimits| ResourceLimits {
        memory_high: limits.memory_high.map(Size::bytes),
        memory_max: limits.memory_max.map(Size::bytes),
        cpu_weight: limits.cpu_weight.map(CpuWeight::value),
        ..ResourceLimits::default()
    };
    config
        .services
        .iter()
        .map(|(name, limits)| (name.to_string(), wire(limits)))
        .collect()
}

fn command(service: &ServiceDefinition, facts: &Facts) -> Option<Vec<String>> {
    let expanded = |text: &String| expand(text, facts).ok();
    // PID 1 never computes the program itself from facts.
    let (program, arguments) = service.command.split_first()?;
    let mut command = vec![program.clone()];
    for argument in arguments {
        command.push(expanded(argument)?);
    }
    Some(command)
}

fn depends_on_facts(service: &ServiceDefinition) -> bool {
    let refers = |text: &String| fact_names(text).is_ok_and(|names| !names.is_empty());
    service.command.iter().any(refers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> Programs {
        let definition = |name: &str, rest: &str| {
            let text = format!("name: {name}\ndescription: d\n{rest}");
            keelson_service::parse(&format!("{name}.yaml"), &text).unwrap()
        };
        Programs(vec![
            definition(
                "etcd",
                "command: [/bin/etcd, \"--name=${node-name}\"]\nonly: {datastore: etcd}\n\
                 resources: {cpuWeight: 50, memoryMax: 1073741824}\n",
            ),
            definition(
                "kine",
                "command: [/bin/kine, \"${node-name}\"]\nonly: {datastore: sqlite}\n",
            ),
            definition(
                "kubelet",
                "command: [/bin/kubelet, \"--node-ip=${node-ip}\", --x]\n",
            ),
            definition("netd", "command: [/bin/netd]\n"),
        ])
    }

    fn facts(name: &str, address: &str) -> Facts {
        [
            ("datastore", "etcd"),
            ("node-name", name),
            ("node-ip", address),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn only_services_of_this_node_that_use_a_changed_fact_are_affected() {
        let programs = programs();
        let before = facts("a", "192.0.2.1");
        let affected = |after: &Facts| programs.affected(&before, after).join(" ");
        assert_eq!(affected(&before), "");
        assert_eq!(affected(&facts("a", "192.0.2.2")), "kubelet");
        assert_eq!(affected(&facts("b", "192.0.2.2")), "etcd kubelet");
        let commands = programs.commands(&before);
        let names: Vec<_> = commands.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["etcd", "kubelet"]);
        assert_eq!(
            commands[1].1,
            ["/bin/kubelet", "--node-ip=192.0.2.1", "--x"]
        );
    }

    #[test]
    fn limits_of_the_image_show_where_the_configuration_gives_none() {
        let text = "apiVersion: keelson.dev/v1alpha1\nkind: NodeConfig\n\
                    services: {etcd: {cpuWeight: 200}, netd: {memoryHigh: 8Mi}}\n";
        let config = NodeConfig::parse(text, "x").unwrap();
        let shown = programs().with_default_limits(config.clone());
        let yaml = shown.to_yaml().unwrap();
        assert!(
            yaml.contains("cpuWeight: 200") && yaml.contains("memoryMax: 1Gi"),
            "{yaml}"
        );
        let sent = limits(&config);
        assert_eq!(sent["etcd"].cpu_weight, Some(200));
        assert_eq!(sent["etcd"].memory_max, None);
        assert_eq!(sent["netd"].memory_high, Some(8 << 20));
    }
}

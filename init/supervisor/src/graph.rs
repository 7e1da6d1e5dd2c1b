//! Who needs whom.

use std::collections::{BTreeMap, BTreeSet};

use keelson_service::{Name, ServiceDefinition};

use crate::CONFIG_CONDITION;

/// Finds definitions that can never start: unknown needs and circles. Each problem is one line.
pub fn problems<'a>(
    definitions: impl IntoIterator<Item = &'a ServiceDefinition> + Clone,
) -> Vec<String> {
    let names: BTreeSet<&Name> = definitions.clone().into_iter().map(|d| &d.name).collect();
    let provided: BTreeSet<&Name> = definitions
        .clone()
        .into_iter()
        .flat_map(|d| &d.provides)
        .collect();
    let mut problems = Vec::new();
    for definition in definitions.clone() {
        let name = &definition.name;
        for need in definition
            .needs
            .services
            .iter()
            .filter(|need| !names.contains(need))
        {
            problems.push(format!(
                "service {name} needs service {need}, which does not exist"
            ));
        }
        for need in definition
            .needs
            .conditions
            .iter()
            .filter(|need| !provided.contains(need))
        {
            problems.push(format!(
                "service {name} needs condition {need}, which nobody provides"
            ));
        }
        if !definition.only.is_empty() && !provided.iter().any(|c| c.as_str() == CONFIG_CONDITION) {
            problems.push(format!(
                "service {name} has `only`, but nobody provides {CONFIG_CONDITION}"
            ));
        }
    }
    let needs = direct_needs(definitions);
    for name in needs.keys() {
        if reachable(&needs, name).contains(name) {
            problems.push(format!("service {name} needs itself through others"));
        }
    }
    problems
}

/// For each service all others that need it, directly or through others, by service or by a
/// condition it provides.
pub(crate) fn dependents<'a>(
    definitions: impl IntoIterator<Item = &'a ServiceDefinition> + Clone,
) -> BTreeMap<Name, BTreeSet<Name>> {
    let needs = direct_needs(definitions);
    let mut dependents: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for name in needs.keys() {
        for need in reachable(&needs, name) {
            dependents.entry(need).or_default().insert(name.clone());
        }
    }
    dependents
}

fn direct_needs<'a>(
    definitions: impl IntoIterator<Item = &'a ServiceDefinition> + Clone,
) -> BTreeMap<Name, BTreeSet<Name>> {
    let mut providers: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
    for definition in definitions.clone() {
        for condition in &definition.provides {
            providers
                .entry(condition)
                .or_default()
                .push(&definition.name);
        }
    }
    definitions
        .into_iter()
        .map(|definition| {
            let by_condition = definition
                .needs
                .conditions
                .iter()
                .filter_map(|name| providers.get(name))
                .flatten();
            let needs = definition
                .needs
                .services
                .iter()
                .chain(by_condition.copied());
            (definition.name.clone(), needs.cloned().collect())
        })
        .collect()
}

fn reachable(needs: &BTreeMap<Name, BTreeSet<Name>>, from: &Name) -> BTreeSet<Name> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&Name> = needs.get(from).into_iter().flatten().collect();
    while let Some(name) = next.pop() {
        if seen.insert(name.clone()) {
            next.extend(needs.get(name).into_iter().flatten());
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::definition;

    #[test]
    fn impossible_needs_are_named() {
        let definitions = [
            definition("a", "needs: {services: [b]}"),
            definition("b", "needs: {conditions: [c]}"),
            definition(
                "p",
                "provides: [c]\nneeds: {services: [a, nobody], conditions: [nothing]}",
            ),
        ];
        let problems = problems(&definitions);
        assert_eq!(
            problems,
            [
                "service p needs service nobody, which does not exist",
                "service p needs condition nothing, which nobody provides",
                "service a needs itself through others",
                "service b needs itself through others",
                "service p needs itself through others",
            ]
        );
    }

    #[test]
    fn dependents_reach_through_others() {
        let definitions = [
            definition("containerd", ""),
            definition("images", "kind: oneshot\nneeds: {services: [containerd]}"),
            definition("kubelet", "needs: {services: [images]}"),
        ];
        let dependents = dependents(&definitions);
        let of_containerd: Vec<&str> = dependents["containerd"]
            .iter()
            .map(|name| name.as_str())
            .collect();
        assert_eq!(of_containerd, ["images", "kubelet"]);
    }
}

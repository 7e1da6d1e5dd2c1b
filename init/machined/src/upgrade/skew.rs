//! Which versions may follow each other, because one reads what the other has stored: data.
//!
//! Both ways count for every step. A version on trial writes to the datastore, and when it fails
//! the old one has to start on that.

use std::collections::BTreeMap;

use keelson_config::Datastore;
use semver::Version;

/// What a component allows.
struct Rule {
    /// As build.json and the manifest of a bundle name it.
    component: &'static str,
    /// Only where the cluster's objects are in it.
    datastore: Option<Datastore>,
    /// Minor versions between two that may follow each other; the major one stays.
    minors: u64,
    why: &'static str,
}

const RULES: [Rule; 4] = [
    Rule {
        component: "kubernetes",
        datastore: None,
        // Deprecation policy, rule 4b: what a release stores, the one before it can read. kubelet
        // and API server of one node change together.
        minors: 1,
        why: "Kubernetes reads what the minor version beside it has stored, and no other",
    },
    Rule {
        component: "etcd",
        datastore: Some(Datastore::Etcd),
        // From 3.6 on etcd notes its version in its files, and one that is older does not start on
        // them (kubernetes/kubernetes issue 108389).
        minors: 0,
        why: "etcd of an older minor version does not start on the files of a newer one, so there \
              would be no way back",
    },
    Rule {
        component: "kine",
        datastore: Some(Datastore::Sqlite),
        // It only adds tables and indexes that are missing; SQLite's own format is stable.
        minors: 1,
        why: "kine is only known to read what the minor version beside it has stored",
    },
    Rule {
        component: "containerd",
        datastore: None,
        minors: 1,
        why: "containerd keeps images and running pods of the minor version beside it, and no other",
    },
];

/// What speaks against going from one set of components to another and back.
pub(crate) fn objections(
    running: &BTreeMap<String, String>,
    offered: &BTreeMap<String, String>,
    datastore: Datastore,
) -> Vec<String> {
    RULES
        .iter()
        .filter(|rule| rule.datastore.is_none_or(|only| only == datastore))
        .filter_map(|rule| objection(rule, running, offered))
        .collect()
}

fn objection(
    rule: &Rule,
    running: &BTreeMap<String, String>,
    offered: &BTreeMap<String, String>,
) -> Option<String> {
    let name = rule.component;
    let version = |of: &BTreeMap<String, String>| -> Option<Version> {
        let text = of.get(name)?;
        text.trim_start_matches('v').parse().ok()
    };
    let (Some(from), Some(to)) = (version(running), version(offered)) else {
        let which = match version(running) {
            None => "what runs",
            Some(_) => "it",
        };
        return Some(format!(
            "{which} does not say which version of {name} it has, so nobody can tell whether \
             there is a way back"
        ));
    };
    let far = from.major != to.major || from.minor.abs_diff(to.minor) > rule.minors;
    far.then(|| {
        format!(
            "it has {name} {to}, here runs {from}: {}; go through a version in between",
            rule.why
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(kubernetes: &str, etcd: &str, kine: &str) -> BTreeMap<String, String> {
        [
            ("kubernetes", kubernetes),
            ("etcd", etcd),
            ("kine", kine),
            ("containerd", "2.4.2"),
        ]
        .into_iter()
        .filter(|(_, version)| !version.is_empty())
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect()
    }

    #[test]
    fn table() {
        let running = versions("1.37.1", "3.7.3", "0.16.4");
        let count = |offered, datastore| objections(&running, &offered, datastore).len();
        for (kubernetes, etcd, kine, with_etcd, with_kine) in [
            ("1.37.9", "3.7.0", "0.16.0", 0, 0),
            ("v1.38.0", "3.7.9", "0.17.0", 0, 0),
            ("1.36.0", "3.7.3", "0.15.9", 0, 0),
            ("1.39.0", "3.7.3", "0.16.4", 1, 1),
            ("1.35.9", "3.7.3", "0.16.4", 1, 1),
            ("1.37.1", "3.8.0", "0.16.4", 1, 0),
            ("1.37.1", "3.6.9", "0.18.0", 1, 1),
            ("2.37.1", "3.7.3", "0.16.4", 1, 1),
            ("", "3.7.3", "0.16.4", 1, 1),
            ("nonsense", "", "", 2, 2),
        ] {
            let offered = versions(kubernetes, etcd, kine);
            let case = format!("{kubernetes} {etcd} {kine}");
            assert_eq!(count(offered.clone(), Datastore::Etcd), with_etcd, "{case}");
            assert_eq!(count(offered, Datastore::Sqlite), with_kine, "{case}");
        }
    }

    #[test]
    fn an_objection_says_why_and_what_to_do() {
        let found = objections(
            &versions("1.37.1", "3.7.3", ""),
            &versions("1.39.0", "3.7.3", ""),
            Datastore::Etcd,
        );
        assert_eq!(
            found,
            [
                "it has kubernetes 1.39.0, here runs 1.37.1: Kubernetes reads what the minor version \
              beside it has stored, and no other; go through a version in between"
            ]
        );
    }
}

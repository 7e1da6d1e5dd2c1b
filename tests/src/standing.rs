//! How services stand, as `keelsonctl` shows it.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::Value;

use crate::Keelsonctl;

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `ready`, `crash-loop`, ...
    pub state: String,
    /// Main process; 0 without one.
    pub pid: u64,
    /// Starts after the first one.
    pub restarts: u64,
}

impl Keelsonctl {
    /// All services by name.
    pub fn services(&self) -> anyhow::Result<BTreeMap<String, Standing>> {
        let answer = self.json(&["get", "services"])?;
        let services = answer["services"].as_array().context("no services")?;
        services
            .iter()
            .map(|service| {
                let word = |key: &str| service[key].as_str().map(str::to_owned).context("no word");
                let number = |key: &str| service[key].as_u64().context("no number");
                let standing = Standing {
                    state: word("state")?,
                    pid: number("pid")?,
                    restarts: number("restarts")?,
                };
                anyhow::Ok((word("name")?, standing))
            })
            .collect::<Result<_, _>>()
            .with_context(|| format!("services look different: {answer}"))
    }

    /// What the control group of a service uses, and its limits.
    pub fn cgroup(&self, service: &str) -> anyhow::Result<Value> {
        let answer = self.json(&["get", "cgroups"])?;
        let path = format!("/keelson/{service}");
        entry(&answer["cgroups"], "path", &path).cloned()
    }
}

/// The entry of a list in an answer that has this value.
pub fn entry<'a>(list: &'a Value, key: &str, value: &str) -> anyhow::Result<&'a Value> {
    list.as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry[key] == value)
        .with_context(|| format!("no entry whose {key} is {value} in {list}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_found_or_its_absence_told() {
        let list = json!([{ "name": "a", "n": 1 }, { "name": "b", "n": 2 }]);
        assert_eq!(entry(&list, "name", "b").unwrap()["n"], 2);
        let error = entry(&list, "name", "c").unwrap_err().to_string();
        assert!(error.contains("name is c"), "{error}");
        assert!(entry(&json!(null), "name", "a").is_err());
    }
}
